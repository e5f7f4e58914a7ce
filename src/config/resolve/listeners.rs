//! `[[listeners]]`: addresses, names, trusted proxies, certificates.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::text::{self, Refusal};
use super::{Resolution, all};
use crate::config::certificates::{self, CertificatePart};
use crate::config::file::{CertificateTable, FileConfig, ListenerTable, ListenerTlsTable};
use crate::config::report::{Located, Location};
use crate::config::{CertificateConfig, ListenerConfig, ListenerTlsConfig};

pub(super) fn resolve(file: &FileConfig, resolution: &mut Resolution<'_, '_>) -> Option<Vec<ListenerConfig>> {
    let listeners = file.listeners.as_ref()?;
    if listeners.value.is_empty() {
        let remedy = "add a `[[listeners]]` with `name` and `address`";
        resolution.report.value_problem(&listeners.at, "there is no listener", remedy);
    }
    let mut addresses = HashMap::new();
    if let Some(ops) = file.ops.as_ref().and_then(|ops| ops.value.address.as_ref())
        && let Ok(address) = text::socket_address(&ops.value)
    {
        addresses.insert(address, ops.at.clone());
    }
    if let Some(admin) = file.admin.as_ref().and_then(|admin| admin.value.address.as_ref()) {
        note_address(Some(admin), &mut addresses, resolution);
    }
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
    let address = resolution.text(listener.address.as_ref(), text::socket_address);
    let trusted_proxies = resolution.networks(listener.trusted_proxies.as_ref());
    let proxy_protocol = proxy_protocol(listener, resolution);
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
    })
}

/// Who has to speak the PROXY protocol, if anybody; `None` with the problems noted.
fn proxy_protocol(
    listener: &ListenerTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Option<Vec<IpNet>>> {
    let is_required = resolution.text(listener.proxy_protocol.as_ref(), |text| match text {
        "off" => Ok(false),
        "required" => Ok(true),
        _ => Err(Refusal {
            reason: format!("{} is not how a listener takes the PROXY protocol", text::quoted(text)),
            remedy: "write `required`, or `off`".to_owned(),
        }),
    });
    let networks = resolution.networks(listener.proxy_protocol_from.as_ref());
    let (is_required, networks) = (is_required?, networks?);
    match (is_required, networks.is_empty()) {
        (true, false) => Some(Some(networks)),
        (false, true) => Some(None),
        (true, true) => {
            let reason = "nobody may speak the PROXY protocol, so nobody could connect";
            let remedy = "give your load balancers' networks in `proxy_protocol_from`";
            resolution.report.value_problem(&listener.proxy_protocol.as_ref()?.at, reason, remedy);
            None
        }
        (false, false) => {
            let reason = "these networks have no effect while `proxy_protocol` is off";
            let remedy = "add `proxy_protocol = \"required\"`, or leave this out";
            resolution.report.value_problem(&listener.proxy_protocol_from.as_ref()?.at, reason, remedy);
            None
        }
    }
}

/// Notes an address that is taken, or that was taken before.
fn note_address(
    address: Option<&Located<String>>,
    addresses: &mut HashMap<SocketAddr, Location>,
    resolution: &mut Resolution<'_, '_>,
) {
    let Some(Located { value, at }) = address else { return };
    let Ok(address) = text::socket_address(value) else { return };
    // With port 0 the system finds a different port for each.
    if address.port() == 0 {
        return;
    }
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
    Some(ListenerTlsConfig {
        certificates: certificates?,
        require_tls13: table.require_tls13.as_ref()?.value,
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
            CertificatePart::Key => key_path,
        };
        resolution.report.value_problem(&path?.at, error.to_string(), error.remedy());
    }
    Some(certificate)
}

impl Resolution<'_, '_> {
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
