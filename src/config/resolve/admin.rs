//! `[admin]`: where the management API is, and what it asks of those who log in.

use super::{Resolution, all};
use super::{sign_in, text};
use crate::config::file::{AdminCertificateTable, AdminTable, AdminTlsTable};
use crate::config::{AdminConfig, ListenerTlsConfig};

pub(super) fn resolve(table: &AdminTable, resolution: &mut Resolution<'_, '_>) -> Option<AdminConfig> {
    let address = resolution.text(table.address.as_ref(), text::socket_address);
    let trusted_proxies = resolution.networks(table.trusted_proxies.as_ref());
    let tls = table.tls.as_ref().map(|table| tls(&table.value, resolution));
    let public_url = table.public_url.as_ref().map(|url| resolution.text(Some(url), sign_in::public_url));
    let third_parties = sign_in::third_parties(table.third_parties.as_ref(), resolution);
    let outgoing = table.http.as_ref().map(|table| sign_in::http(&table.value, resolution));
    let resolver_addresses = table.resolver.as_ref().map(|table| sign_in::resolver(&table.value, resolution));
    Some(AdminConfig {
        address: address?,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        trusted_proxies: trusted_proxies?,
        public_url: match public_url {
            Some(url) => Some(url?),
            None => None,
        },
        third_parties: third_parties?,
        outgoing: outgoing??,
        resolver_addresses: resolver_addresses??,
    })
}

fn tls(table: &AdminTlsTable, resolution: &mut Resolution<'_, '_>) -> Option<ListenerTlsConfig> {
    let certificates = table.certificates.as_ref()?;
    if certificates.value.is_empty() {
        let remedy = "add an `[[admin.tls.certificates]]` with `certificate_file` and `key_file`";
        resolution.report.value_problem(&certificates.at, "TLS needs a certificate", remedy);
    }
    let certificates = certificates.value.iter().map(|table| {
        let AdminCertificateTable { certificate_file, key_file } = &table.value;
        super::listeners::certificate(certificate_file.as_ref(), key_file.as_ref(), resolution)
    });
    let certificates = all(certificates.collect());
    Some(ListenerTlsConfig {
        certificates: certificates?,
        require_tls13: table.require_tls13.as_ref()?.value,
    })
}
