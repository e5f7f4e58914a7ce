//! `[[upstreams]]`: endpoints, TLS, the credential they see.

mod health;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use data_encoding::BASE64;
use http::HeaderValue;
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};

use super::identity_token::{self, Issued};
use super::listeners::certificate as certificate_of;
use super::text::{self, Refusal};
use super::{Resolution, all};
use crate::config::certificates;
use crate::config::file::{CredentialTable, FileConfig, UpstreamTable, UpstreamTlsTable};
use crate::config::report::{Located, Location};
use crate::config::secret::SecretReference;
use crate::config::{
    Balance, EndpointAddress, EndpointConfig, UpstreamConfig, UpstreamCredential, UpstreamProtocol,
    UpstreamTlsConfig,
};

pub(super) fn resolve(
    file: &FileConfig,
    issued: &Option<Option<Issued>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<UpstreamConfig>> {
    let upstreams = file.upstreams.as_ref()?;
    if upstreams.value.is_empty() {
        let remedy = "add an `[[upstreams]]` with `name` and `endpoints`";
        resolution.report.value_problem(&upstreams.at, "there is no upstream", remedy);
    }
    let mut names = HashMap::new();
    let resolved = upstreams.value.iter().map(|upstream| {
        resolution.unique_name("upstream", upstream.value.name.as_ref(), &mut names);
        one(&upstream.value, issued, resolution)
    });
    all(resolved.collect())
}

fn one(
    upstream: &UpstreamTable,
    issued: &Option<Option<Issued>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<UpstreamConfig> {
    let name = resolution.text(upstream.name.as_ref(), text::name);
    let endpoints = upstream.endpoints.as_ref().map(|endpoints| self::endpoints(endpoints, resolution));
    let resolvers = upstream.resolvers.as_ref().and_then(|list| resolvers(list, resolution));
    let tls = upstream.tls.as_ref().map(|table| tls(table, resolution));
    if let (Some(table), Some(Some(endpoints))) = (&upstream.tls, &endpoints) {
        need_a_name(table, endpoints, resolution);
    }
    let protocol = resolution.text(upstream.protocol.as_ref(), protocol);
    let balance = resolution.text(upstream.balance.as_ref(), balance);
    let health = upstream.health.as_ref().map(|table| health::health(table, protocol, resolution));
    let ejection = upstream.ejection.as_ref().map(|table| health::ejection(&table.value, resolution));
    let retries = upstream.retries.as_ref().map(|table| health::retries(&table.value));
    let credential = upstream.credential.as_ref().map(|table| credential(table, resolution));
    let wanted = upstream.identity_token.as_ref();
    let identity_token = wanted.map(|table| identity_token::of_upstream(table, issued, resolution));
    Some(UpstreamConfig {
        name: name?,
        endpoints: endpoints??,
        resolvers: resolvers?,
        protocol: protocol?,
        balance: balance?,
        health: match health {
            Some(health) => Some(health?),
            None => None,
        },
        ejection: match ejection {
            Some(ejection) => Some(ejection?),
            None => None,
        },
        retries: match retries {
            Some(retries) => Some(retries?),
            None => None,
        },
        limits: health::limits(&upstream.limits.as_ref()?.value),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        credential: match credential {
            Some(credential) => credential?,
            None => UpstreamCredential::None,
        },
        connect_timeout: upstream.connect_seconds.as_ref()?.value.duration(),
        response_header_timeout: upstream.response_header_seconds.as_ref()?.value.duration(),
        idle_timeout: upstream.idle_seconds.as_ref()?.value.duration(),
        idle_connections: upstream.idle_connections.as_ref()?.value.count(),
        identity_token: match identity_token {
            Some(identity_token) => Some(identity_token?),
            None => None,
        },
    })
}

fn resolvers(
    list: &Located<Vec<Located<String>>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<SocketAddr>> {
    let resolved = list.value.iter().map(|server| {
        let address = resolution.text(Some(server), text::socket_address)?;
        if address.port() == 0 {
            let remedy = "write the port that it answers at, usually 53";
            resolution.report.value_problem(&server.at, "no server answers at port 0", remedy);
        }
        Some(address)
    });
    all(resolved.collect())
}

fn protocol(text: &str) -> Result<UpstreamProtocol, Refusal> {
    match text {
        "http1" => Ok(UpstreamProtocol::Http1),
        "http2" => Ok(UpstreamProtocol::Http2),
        _ => Err(Refusal {
            reason: format!("there is no protocol {}", text::quoted(text)),
            remedy: "write `http1` or `http2`".to_owned(),
        }),
    }
}

fn balance(text: &str) -> Result<Balance, Refusal> {
    match text {
        "round_robin" => Ok(Balance::RoundRobin),
        "least_requests" => Ok(Balance::LeastRequests),
        _ => Err(Refusal {
            reason: format!("there is no way to balance called {}", text::quoted(text)),
            remedy: "write `round_robin` or `least_requests`".to_owned(),
        }),
    }
}

fn endpoints(
    list: &Located<Vec<Located<String>>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<EndpointConfig>> {
    if list.value.is_empty() {
        // Elements of a wrong type have been noted and left out.
        if resolution.report.is_noted(&list.at) {
            return None;
        }
        let remedy = "list at least one: `endpoints = [\"localhost:9200\"]`";
        resolution.report.value_problem(&list.at, "the upstream has no endpoint", remedy);
        return None;
    }
    let mut seen: HashMap<String, Location> = HashMap::new();
    let resolved = list.value.iter().map(|endpoint| {
        let address = resolution.text(Some(endpoint), text::endpoint)?;
        if let Some(first) = seen.insert(spelling(&address), endpoint.at.clone()) {
            let place = resolution.place(&first);
            let reason =
                format!("the endpoint {} is listed twice, first{place}", text::quoted(&endpoint.value));
            resolution.report.value_problem(&endpoint.at, reason, "list each endpoint once");
        }
        Some(EndpointConfig { address, label: endpoint.value.clone() })
    });
    all(resolved.collect())
}

/// The same for what is the same.
fn spelling(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Host { host, port } => format!("{}:{port}", host.to_ascii_lowercase()),
        EndpointAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn tls(
    Located { value: table, at }: &Located<UpstreamTlsTable>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<UpstreamTlsConfig> {
    let server_name = table.server_name.as_ref().map(|name| resolution.text(Some(name), server_name));
    let ca_file = match &table.ca_file {
        Some(ca) => Some(authorities(ca, resolution)?),
        None => {
            if let Err(error) = certificates::load_system_authorities() {
                resolution.report.place_problem(at, error.to_string(), error.remedy());
            }
            None
        }
    };
    let client_certificate = match (&table.certificate_file, &table.key_file) {
        (None, None) => None,
        (certificate, key) => {
            let certificate = needed(certificate.as_ref(), "certificate_file", at, resolution);
            let key = needed(key.as_ref(), "key_file", at, resolution);
            Some(certificate_of(certificate, key, resolution)?)
        }
    };
    Some(UpstreamTlsConfig {
        ca_file,
        client_certificate,
        server_name: match server_name {
            Some(name) => Some(name?),
            None => None,
        },
    })
}

/// A path is no name that a certificate could carry.
fn need_a_name(
    table: &Located<UpstreamTlsTable>,
    endpoints: &[EndpointConfig],
    resolution: &mut Resolution<'_, '_>,
) {
    let unix = endpoints.iter().find(|endpoint| matches!(endpoint.address, EndpointAddress::Unix(_)));
    if let Some(unix) = unix
        && table.value.server_name.is_none()
        && !resolution.report.is_noted(&table.at.child("server_name", None))
    {
        let reason =
            format!("the certificate of {} cannot be checked without a name", text::quoted(&unix.label));
        let at = table.at.child("server_name", table.at.span.clone());
        resolution.report.place_problem(&at, reason, "add `server_name = …`, the name in its certificate");
    }
}

/// The path of a file of authorities, which has been read.
fn authorities(ca: &Located<String>, resolution: &mut Resolution<'_, '_>) -> Option<PathBuf> {
    let ca_file = resolution.referenced_file(ca)?;
    if let Err(error) = certificates::load_authorities(&ca_file) {
        let remedy = match error {
            certificates::CertificateError::Unreadable { .. } => error.remedy(),
            _ => "give a PEM file with the certificates of the authorities that sign the upstream's",
        };
        resolution.report.value_problem(&ca.at, error.to_string(), remedy);
    }
    Some(ca_file)
}

fn server_name(text: &str) -> Result<String, Refusal> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Refusal {
            reason: format!("{} is no name a certificate can carry", text::quoted(text)),
            remedy: "write a host name or IP address, without a port: `search.internal`".to_owned(),
        }),
    }
}

fn credential(
    table: &Located<CredentialTable>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<UpstreamCredential> {
    let CredentialTable { kind, username, password, token } = &table.value;
    let kind = kind.as_ref()?;
    let mut unwanted = |key: Option<&Location>| {
        let Some(at) = key else { return };
        let reason = format!("`{}` has no meaning with `kind = \"{}\"`", at.name(), kind.value);
        resolution.report.place_problem(at, reason, "remove it, or correct `kind`");
    };
    match kind.value.as_str() {
        "none" => {
            unwanted(username.as_ref().map(|username| &username.at));
            unwanted(password.as_ref().map(|password| &password.at));
            unwanted(token.as_ref().map(|token| &token.at));
            Some(UpstreamCredential::None)
        }
        "basic" => {
            unwanted(token.as_ref().map(|token| &token.at));
            let username = needed(username.as_ref(), "username", &table.at, resolution);
            let password = needed(password.as_ref(), "password", &table.at, resolution);
            basic(username, password, resolution)
        }
        "bearer" => {
            unwanted(username.as_ref().map(|username| &username.at));
            unwanted(password.as_ref().map(|password| &password.at));
            let token = needed(token.as_ref(), "token", &table.at, resolution);
            bearer(token?, resolution)
        }
        _ => {
            // Somebody may have put the credential itself here.
            resolution.report.mask(&kind.at);
            let remedy = "write `kind = \"basic\"`, `kind = \"bearer\"` or `kind = \"none\"`";
            resolution.report.value_problem(&kind.at, "there is no such kind of credential", remedy);
            // What is wrong with the secrets is told too.
            for secret in [password, token].into_iter().flatten() {
                secret.resolve(resolution);
            }
            None
        }
    }
}

fn needed<'t, T>(
    value: Option<&'t Located<T>>,
    key: &str,
    at: &Location,
    resolution: &mut Resolution<'_, '_>,
) -> Option<&'t Located<T>> {
    // A value with a problem of its own is not missing.
    let noted = resolution.report.is_noted(&at.child(key, None));
    if value.is_none() && !noted {
        let reason = format!("`{}` needs `{key}`", at.name());
        resolution.report.place_problem(&at.child(key, at.span.clone()), reason, format!("add `{key} = …`"));
    }
    value
}

/// `Basic …`, as RFC 7617 has it: the user name has no colon, neither part a control character.
fn basic(
    username: Option<&Located<String>>,
    password: Option<&Located<SecretReference>>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<UpstreamCredential> {
    let username = username.and_then(|username| {
        let wrong = username.value.contains(':') || username.value.chars().any(char::is_control);
        if wrong || username.value.is_empty() {
            let remedy = "write it without colons and control characters";
            resolution.report.value_problem(
                &username.at,
                "this is no user name for basic authentication",
                remedy,
            );
            return None;
        }
        Some(&username.value)
    });
    let secret = password?.resolve(resolution)?;
    if secret.expose_secret().chars().any(char::is_control) {
        let remedy = "take line breaks and control characters out of it";
        resolution.report.value_problem(&password?.at, "the password has control characters", remedy);
        return None;
    }
    let pair = SecretString::from(format!("{}:{}", username?, secret.expose_secret()));
    Some(fixed("Basic", &BASE64.encode(pair.expose_secret().as_bytes())))
}

fn bearer(
    token: &Located<SecretReference>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<UpstreamCredential> {
    let secret = token.resolve(resolution)?;
    if !secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        let remedy = "use visible ASCII characters only, without spaces and without `Bearer` in front";
        resolution.report.value_problem(&token.at, "the token cannot stand in a header", remedy);
        return None;
    }
    Some(fixed("Bearer", secret.expose_secret()))
}

fn fixed(scheme: &str, credentials: &str) -> UpstreamCredential {
    let value = HeaderValue::from_str(&format!("{scheme} {credentials}"));
    let mut value = value.expect("visible ASCII and one space make a header value");
    value.set_sensitive(true);
    UpstreamCredential::Fixed(value)
}
