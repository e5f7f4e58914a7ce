//! TLS settings: certificates chosen by SNI for listeners, authorities for upstreams. Protocols are offered by ALPN.
//!
//! Loading and checking certificates is [`crate::config::certificates`]'s; nothing here touches sockets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection, VerifierBuilderError};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;

use super::client_certificate::{self, CertificateLines};
use crate::config::certificates::{self, CertificateError};
use crate::config::{ListenerTlsConfig, UpstreamProtocol, UpstreamTlsConfig};

/// What can be wrong with TLS settings that passed the configuration's checks a moment ago.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, key or authority.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A combination that rustls refuses.
    #[error("rustls refuses the settings: {0}")]
    Settings(#[from] rustls::Error),
    /// Authorities or revocation lists of clients' certificates.
    #[error("clients' certificates cannot be checked: {0}")]
    ClientCertificates(#[from] VerifierBuilderError),
    /// `server_name` is neither a DNS name nor an address.
    #[error("`{name}` is neither a DNS name nor an IP address; correct upstreams.tls.server_name")]
    ServerName {
        /// As configured.
        name: String,
    },
}

/// Chooses a certificate by the name the client asked for; the first one for names that none has.
#[derive(Debug)]
struct CertificatesByName {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// Keyed by what follows the `*.`: a wildcard stands for one label.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

/// A listener's TLS.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// What handshakes are made by.
    pub config: Arc<ServerConfig>,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    /// What upstreams are told about the certificate that a client has shown; nothing where none is asked for.
    ///
    /// # Errors
    /// If it does not count any more. The connection must end then.
    pub fn client_certificate(&self, session: &ServerConnection) -> Result<CertificateLines, rustls::Error> {
        match &self.client_verifier {
            None => Ok(CertificateLines::default()),
            Some(verifier) => client_certificate::shown(&**verifier, session),
        }
    }
}

/// A listener's TLS, with session tickets and HTTP/2 before HTTP/1.1.
pub fn server(settings: &ListenerTlsConfig) -> Result<ServerTls, TlsError> {
    let mut certificates =
        CertificatesByName { exact: HashMap::new(), wildcard: HashMap::new(), default: None };
    for certificate in &settings.certificates {
        certificates.add(certificates::load(certificate)?);
    }
    let versions: &[&rustls::SupportedProtocolVersion] = if settings.require_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let client_verifier =
        settings.client_certificates.as_ref().map(client_certificate::verifier).transpose()?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)?;
    let builder = match &client_verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut server = builder.with_cert_resolver(Arc::new(certificates));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.ticketer = aws_lc_rs::Ticketer::new()?;
    // One ticket is enough to resume; each further one is work in every handshake.
    server.send_tls13_tickets = 1;
    Ok(ServerTls { config: Arc::new(server), client_verifier })
}

/// TLS towards an upstream, for one protocol, trusting the configured authorities alone, or the system's where none are.
pub fn client(
    settings: &UpstreamTlsConfig,
    protocol: UpstreamProtocol,
) -> Result<Arc<ClientConfig>, TlsError> {
    let authorities = match &settings.ca_file {
        Some(ca_file) => certificates::load_authorities(ca_file)?,
        None => certificates::load_system_authorities()?,
    };
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities);
    let mut client = match &settings.client_certificate {
        Some(own) => {
            let own = certificates::load(own)?.certified_key;
            client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        None => client.with_no_client_auth(),
    };
    client.alpn_protocols = match protocol {
        UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
        UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(client))
}

/// The name an upstream's certificate must carry, if it is not the endpoint's host.
pub fn server_name(settings: &UpstreamTlsConfig) -> Result<Option<ServerName<'static>>, TlsError> {
    let parse = |name: &String| {
        ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName { name: name.clone() })
    };
    settings.server_name.as_ref().map(parse).transpose()
}

impl CertificatesByName {
    fn add(&mut self, certificate: certificates::LoadedCertificate) {
        let key = certificate.certified_key;
        for name in certificate.dns_names {
            let (table, name) = match name.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcard, suffix),
                None => (&mut self.exact, name.as_str()),
            };
            table.entry(name.into()).or_insert_with(|| Arc::clone(&key));
        }
        self.default.get_or_insert(key);
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.exact
            .get(name.as_str())
            .or_else(|| self.wildcard.get(name.split_once('.')?.1))
            .or(self.default.as_ref())
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().map_or(self.default.as_ref(), |name| self.find(name)).cloned()
    }
}
