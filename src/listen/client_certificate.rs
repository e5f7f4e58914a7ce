//! Clients' certificates: who has to show one, whether it still counts, and what upstreams are told about it.
//!
//! What must not live here: servers' certificates ([`super::tls`]), and files ([`crate::config::certificates`]).

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::{CertificateError, Error, HandshakeKind};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::tls::TlsError;
use crate::config::certificates;
use crate::config::{ClientCertificateRequirement, ClientCertificatesConfig};
use crate::headers::write_field;

/// The longest subject that is passed on. A longer one is left out: a part of a name is another name.
const SUBJECT_BYTES: usize = 4096;

/// The header lines by which upstreams are told about a client's certificate; empty without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateLines(Box<[u8]>);

impl CertificateLines {
    /// The lines, each with its end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `x-postern-client-certificate-subject`, unless it is empty or overlong, and `-sha256`.
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let (_, parsed) = parse_x509_certificate(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut lines = Vec::with_capacity(256);
        let subject = distinguished_name(parsed.subject());
        if (1..=SUBJECT_BYTES).contains(&subject.len()) {
            write_field(&mut lines, b"x-postern-client-certificate-subject", subject.as_bytes());
        }
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(certificate));
        write_field(&mut lines, b"x-postern-client-certificate-sha256", digest.as_bytes());
        Ok(Self(lines.into()))
    }
}

/// What checks clients' certificates.
pub(super) fn verifier(settings: &ClientCertificatesConfig) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let authorities = Arc::new(certificates::load_authorities(&settings.ca_file)?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(authorities, provider);
    if let Some(file) = &settings.crl_file {
        // A list that is out of date says nothing about who was revoked since.
        builder =
            builder.with_crls(certificates::load_revocation_lists(file)?).enforce_revocation_expiration();
    }
    if settings.requirement == ClientCertificateRequirement::Optional {
        builder = builder.allow_unauthenticated();
    }
    Ok(builder.build()?)
}

/// What upstreams are told about the certificate of a handshake that has ended well.
///
/// # Errors
/// A session that was resumed brings its certificate of then, which nobody has looked at again: it may have expired.
pub(super) fn shown(
    verifier: &dyn ClientCertVerifier,
    session: &ServerConnection,
) -> Result<CertificateLines, Error> {
    let Some([certificate, intermediates @ ..]) = session.peer_certificates() else {
        let is_missing = verifier.client_auth_mandatory();
        return if is_missing {
            Err(Error::NoCertificatesPresented)
        } else {
            Ok(CertificateLines::default())
        };
    };
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        verifier.verify_client_cert(certificate, intermediates, UnixTime::now())?;
    }
    CertificateLines::of(certificate)
}

/// A name as RFC 4514 writes it, the most particular part first; visible ASCII and single spaces only.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name.iter_rdn().collect();
    parts.reverse();
    let part = |attributes: Vec<String>| attributes.join("+");
    let parts = parts.into_iter().map(|relative| part(relative.iter().map(attribute).collect()));
    parts.collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    // The names that every reader of RFC 4514 knows.
    let short = match oid.as_str() {
        "2.5.4.3" => Some("CN"),
        "2.5.4.6" => Some("C"),
        "2.5.4.7" => Some("L"),
        "2.5.4.8" => Some("ST"),
        "2.5.4.9" => Some("STREET"),
        "2.5.4.10" => Some("O"),
        "2.5.4.11" => Some("OU"),
        "0.9.2342.19200300.100.1.25" => Some("DC"),
        "0.9.2342.19200300.100.1.1" => Some("UID"),
        _ => None,
    };
    match (short, attribute.as_str()) {
        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
        (None, Ok(text)) => format!("{oid}={}", escaped(text)),
        // Other kinds of strings, by their bytes: what they spell is a guess.
        (short, Err(_)) => {
            let bytes = data_encoding::HEXLOWER.encode(attribute.as_slice());
            format!("{}=#{bytes}", short.unwrap_or(&oid))
        }
    }
}

/// RFC 4514, section 2.4; beyond it, whatever is no visible ASCII is written as its bytes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (position, byte) in text.bytes().enumerate() {
        let is_edge = position == 0 || position == last;
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => escaped.extend(['\\', byte.into()]),
            b'#' if position == 0 => escaped.push_str("\\#"),
            b' ' if is_edge => escaped.push_str("\\ "),
            b' '..=b'~' => escaped.push(byte.into()),
            _ => {
                let written = write!(escaped, "\\{byte:02x}");
                debug_assert!(written.is_ok(), "writing to a String cannot fail");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
