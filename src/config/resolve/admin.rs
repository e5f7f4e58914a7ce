//! `[admin]`: where the management API is, and what it asks of those who log in.

use std::time::Duration;

use super::settings::value;
use super::{Resolution, all};
use super::{sign_in, text};
use crate::config::file::{AdminCertificateTable, AdminTable, AdminTlsTable, LoginTable};
use crate::config::{AdminConfig, ListenerTlsConfig, LoginConfig, TrustedPeers};

pub(super) fn resolve(table: &AdminTable, resolution: &mut Resolution<'_, '_>) -> Option<AdminConfig> {
    let address = resolution.text(table.address.as_ref(), text::socket_address);
    let trusted_proxies = resolution.networks(table.trusted_proxies.as_ref());
    let tls = table.tls.as_ref().map(|table| tls(&table.value, resolution));
    let public_url = table.public_url.as_ref().map(|url| resolution.text(Some(url), sign_in::public_url));
    let third_parties = sign_in::third_parties(table.third_parties.as_ref(), resolution);
    let outgoing = table.http.as_ref().map(|table| sign_in::http(&table.value, resolution));
    let resolver_addresses = table.resolver.as_ref().map(|table| sign_in::resolver(&table.value, resolution));
    let login = table.login.as_ref().and_then(|table| login(&table.value, resolution));
    Some(AdminConfig {
        address: address?,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        trusted_proxies: TrustedPeers { networks: trusted_proxies?, over_unix_socket: false },
        public_url: match public_url {
            Some(url) => Some(url?),
            None => None,
        },
        third_parties: third_parties?,
        outgoing: outgoing??,
        resolver_addresses: resolver_addresses??,
        login: login?,
    })
}

fn login(table: &LoginTable, resolution: &mut Resolution<'_, '_>) -> Option<LoginConfig> {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let session_idle_seconds = seconds(value(&table.session_idle_seconds)?.duration());
    let session_absolute_seconds = seconds(value(&table.session_absolute_seconds)?.duration());
    if session_idle_seconds > session_absolute_seconds {
        let reason = format!(
            "a session that ends after {session_absolute_seconds} seconds in any case cannot stay unused for \
             {session_idle_seconds}"
        );
        let remedy = "lower `session_idle_seconds` or raise `session_absolute_seconds`";
        resolution.report.value_problem(&table.session_idle_seconds.as_ref()?.at, reason, remedy);
    }
    let argon2_memory_kib = number(value(&table.argon2_memory_kib)?.count());
    let argon2_parallelism = number(value(&table.argon2_parallelism)?.count());
    Some(LoginConfig {
        argon2_memory_kib,
        argon2_iterations: number(value(&table.argon2_iterations)?.count()),
        argon2_parallelism,
        concurrent_hashes: value(&table.concurrent_hashes)?.count(),
        session_idle_seconds,
        session_absolute_seconds,
        free_attempts: number(value(&table.free_attempts)?.count()),
        longest_delay: value(&table.longest_delay_seconds)?.duration(),
        source_attempts: number(value(&table.source_attempts)?.count()),
        source_refill: value(&table.source_refill_seconds)?.duration(),
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
        client_certificates: None,
    })
}
