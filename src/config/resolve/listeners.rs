//! `[[listeners]]`: names, certificates, and that no two have one address.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::text::{self, Refusal};
use super::{Resolution, all, peers};
use crate::config::certificates::{self, CertificateError, CertificatePart};
use crate::config::file::{
    CertificateTable, ClientCertificatesTable, FileConfig, ListenerTable, ListenerTlsTable,
};
use crate::config::report::{Located, Location};
use crate::config::{
    CertificateConfig, ClientCertificateRequirement, ClientCertificatesConfig, ListenerConfig,
    ListenerTlsConfig,
};

pub(super) fn resolve(file: &FileConfig, resolution: &mut Resolution<'_, '_>) -> Option<Vec<ListenerConfig>> {
    let listeners = file.listeners.as_ref()?;
    if listeners.value.is_empty() {
        let remedy = "add a `[[listeners]]` with `name` and `address`";
        resolution.report.value_problem(&listeners.at, "there is no listener", remedy);
    }
    let mut addresses = HashMap::new();
    let ops = file.ops.as_ref().and_then(|ops| ops.value.address.as_ref());
    let admin = file.admin.as_ref().and_then(|admin| admin.value.address.as_ref());
    note_address(ops, &mut addresses, resolution);
    note_address(admin, &mut addresses, resolution);
    let mut names = HashMap::new();
    let resolved = listeners.value.iter().map(|listener| {
        resolution.unique_name("listener", listener.value.name.as_ref(), &mut names);
        note_address(listener.value.address.as_ref(), &mut addresses, resolution);
        one(&listener.value, resolution)
    });
    all(resolved.collect())
}

fn one(listener: &ListenerTable, resolution: &mut Resolution<'_, '_>) -> Option<ListenerConfig> {
    let name = resolution.text(listener.name.as_ref(), text::name);
    let address = peers::address(listener, resolution);
    let trusted_proxies = peers::trusted_proxies(listener, resolution);
    let proxy_protocol = peers::proxy_protocol(listener, resolution);
    let tls = listener.tls.as_ref().map(|table| tls(&table.value, resolution));
    Some(ListenerConfig {
        name: name?,
        address: address?,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        trusted_proxies: trusted_proxies?,
        proxy_protocol: proxy_protocol?,
        connections: listener.connections.as_ref().map(|it| it.value.count()),
        header_read_timeout: listener.header_read_seconds.as_ref().map(|it| it.value.duration()),
        idle_timeout: listener.idle_seconds.as_ref().map(|it| it.value.duration()),
    })
}

/// Notes an address that is taken, or that was taken before.
fn note_address(
    address: Option<&Located<String>>,
    addresses: &mut HashMap<String, Location>,
    resolution: &mut Resolution<'_, '_>,
) {
    let Some(Located { value, at }) = address else { return };
    let Some(address) = peers::taken(value, &resolution.folder) else { return };
    match addresses.get(&address) {
        Some(first) => {
            let place = resolution.place(first);
            let reason = format!("the address `{address}` is already taken by `{}`{place}", first.key);
            resolution.report.value_problem(at, reason, "give each its own port or address");
        }
        None => {
            addresses.insert(address, at.clone());
        }
    }
}

fn tls(table: &ListenerTlsTable, resolution: &mut Resolution<'_, '_>) -> Option<ListenerTlsConfig> {
    let certificates = table.certificates.as_ref()?;
    if certificates.value.is_empty() {
        let remedy = "add a `[[listeners.tls.certificates]]` with `certificate_file` and `key_file`";
        resolution.report.value_problem(&certificates.at, "TLS needs a certificate", remedy);
    }
    let certificates = certificates.value.iter().map(|table| {
        let CertificateTable { certificate_file, key_file } = &table.value;
        certificate(certificate_file.as_ref(), key_file.as_ref(), resolution)
    });
    let certificates = all(certificates.collect());
    let client_certificates =
        table.client_certificates.as_ref().map(|table| client_certificates(&table.value, resolution));
    Some(ListenerTlsConfig {
        certificates: certificates?,
        require_tls13: table.require_tls13.as_ref()?.value,
        client_certificates: match client_certificates {
            Some(client_certificates) => Some(client_certificates?),
            None => None,
        },
    })
}

fn client_certificates(
    table: &ClientCertificatesTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<ClientCertificatesConfig> {
    let requirement = resolution.text(table.mode.as_ref(), |text| match text {
        "required" => Ok(ClientCertificateRequirement::Required),
        "optional" => Ok(ClientCertificateRequirement::Optional),
        _ => Err(Refusal {
            reason: format!("{} does not say who has to show a certificate", text::quoted(text)),
            remedy: "write `required`, or `optional`".to_owned(),
        }),
    });
    let ca_file = resolution
        .checked_file(table.ca_file.as_ref(), |file| certificates::load_authorities(file).map(|_| ()));
    let crl_file = table.crl_file.as_ref().map(|path| {
        resolution.checked_file(Some(path), |file| certificates::load_revocation_lists(file).map(|_| ()))
    });
    Some(ClientCertificatesConfig {
        ca_file: ca_file?,
        crl_file: match crl_file {
            Some(file) => Some(file?),
            None => None,
        },
        requirement: requirement?,
    })
}

/// One certificate with its key, both checked; `None` with the problems noted if a path is none.
pub(super) fn certificate(
    certificate_path: Option<&Located<String>>,
    key_path: Option<&Located<String>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<CertificateConfig> {
    let certificate_file = certificate_path.map(|path| resolution.referenced_file(path));
    let key_file = key_path.map(|path| resolution.referenced_file(path));
    let certificate = CertificateConfig { certificate_file: certificate_file??, key_file: key_file?? };
    for error in certificates::check(&certificate) {
        let path = match error.part() {
            CertificatePart::Certificate => certificate_path,
            CertificatePart::Key | CertificatePart::RevocationList => key_path,
        };
        resolution.report.value_problem(&path?.at, error.to_string(), error.remedy());
    }
    Some(certificate)
}

impl Resolution<'_, '_> {
    /// The path of a file that has been looked into, or `None` with the problem noted.
    fn checked_file(
        &mut self,
        path: Option<&Located<String>>,
        check: impl FnOnce(&Path) -> Result<(), CertificateError>,
    ) -> Option<PathBuf> {
        let file = self.referenced_file(path?)?;
        match check(&file) {
            Ok(()) => Some(file),
            Err(error) => {
                self.report.value_problem(&path?.at, error.to_string(), error.remedy());
                None
            }
        }
    }

    /// What a text means, or `None` with the problem noted.
    pub(super) fn text<T>(
        &mut self,
        text: Option<&Located<String>>,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let Located { value, at } = text?;
        parse(value).map_err(|Refusal { reason, remedy }| self.report.value_problem(at, reason, remedy)).ok()
    }

    /// Networks, or `None` with the problems noted.
    pub(super) fn networks(&mut self, list: Option<&Located<Vec<Located<String>>>>) -> Option<Vec<IpNet>> {
        all(list?.value.iter().map(|network| self.text(Some(network), text::network)).collect())
    }

    /// Notes that a name has been given before, and where.
    pub(super) fn unique_name(
        &mut self,
        what: &str,
        name: Option<&Located<String>>,
        names: &mut HashMap<String, Location>,
    ) {
        let Some(Located { value, at }) = name else { return };
        match names.get(value) {
            Some(first) => {
                let place = self.place(first);
                let reason = format!("there is another {what} named {}{place}", text::quoted(value));
                self.report.value_problem(at, reason, "give each its own name");
            }
            None => {
                names.insert(value.clone(), at.clone());
            }
        }
    }

    /// ` on line 12`, for a reason; empty for what is not written in the file.
    pub(super) fn place(&self, at: &Location) -> String {
        self.report.line(at).map(|line| format!(" on line {line}")).unwrap_or_default()
    }
}
