//! Certificates and private keys from PEM files, checked: the same code for `check`, for `run` and for a reload.
//!
//! Choosing a certificate for a connection is the listener's business.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::CertificateConfig;
use super::input;

/// A certificate chain with its key, ready to be served.
#[derive(Clone, Debug)]
pub struct LoadedCertificate {
    /// Chain and key, known to belong together.
    pub certified_key: Arc<CertifiedKey>,
    /// DNS names the leaf is for, lower case, wildcards (`*.example.com`) included.
    pub dns_names: Vec<String>,
    /// The last moment the leaf is valid, in seconds since the Unix epoch.
    pub not_after: i64,
}

/// Why a certificate cannot be served. Never contains any of a key's bytes.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read the {part} file `{path}`: {}", input::why(.cause))]
    Unreadable {
        /// Which of the two files.
        part: CertificatePart,
        /// Its path.
        path: PathBuf,
        /// What the system said; already part of the message.
        cause: io::Error,
    },
    /// A file is not PEM, or has nothing of the kind in it.
    #[error("no {part} in `{path}`")]
    Missing {
        /// What is missing.
        part: CertificatePart,
        /// The file's path.
        path: PathBuf,
    },
    /// A file begins as PEM and then breaks off or has characters that do not belong there.
    #[error("the {part} file `{path}` is broken PEM")]
    BrokenPem {
        /// Which of the two files.
        part: CertificatePart,
        /// Its path.
        path: PathBuf,
    },
    /// The PEM is fine, what it holds is no X.509 certificate.
    #[error("certificate {number} in `{path}` cannot be understood")]
    BrokenCertificate {
        /// The file's path.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        number: usize,
    },
    /// The system has no authorities.
    #[error("the system has no authorities that certificates could be checked with: {reason}")]
    NoSystemAuthorities {
        /// What was found instead.
        reason: String,
    },
    /// The PEM is fine, what it holds is no revocation list.
    #[error("revocation list {number} in `{path}` cannot be understood")]
    BrokenRevocationList {
        /// The file's path.
        path: PathBuf,
        /// Which list of the file, from 1.
        number: usize,
    },
    /// The private key is encrypted.
    #[error("the key in `{path}` is encrypted")]
    EncryptedKey {
        /// The key file's path.
        path: PathBuf,
    },
    /// The private key is broken or of a type that TLS here does not use.
    #[error("the key in `{path}` is broken or of no supported type")]
    UnusableKey {
        /// The key file's path.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("the key in `{key_file}` does not belong to the first certificate in `{certificate_file}`")]
    Mismatch {
        /// The key file's path.
        key_file: PathBuf,
        /// The certificate file's path.
        certificate_file: PathBuf,
    },
    /// The leaf is not valid any more.
    #[error("the certificate in `{path}` expired at {not_after}")]
    Expired {
        /// The certificate file's path.
        path: PathBuf,
        /// The last moment it was valid.
        not_after: Timestamp,
    },
    /// The leaf is not valid yet.
    #[error("the certificate in `{path}` is not valid before {not_before}")]
    NotYetValid {
        /// The certificate file's path.
        path: PathBuf,
        /// The first moment it will be valid.
        not_before: Timestamp,
    },
}

/// Which of a certificate's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    /// The chain.
    Certificate,
    /// The private key.
    Key,
    /// A list of certificates that count no more, in a file of its own.
    RevocationList,
}

impl std::fmt::Display for CertificatePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
            Self::RevocationList => "revocation list",
        })
    }
}

/// Loads a chain and its key, and checks that they are valid now and belong together.
///
/// # Errors
/// The first thing wrong with the certificate, or else with the key, or else with the two together.
pub fn load(config: &CertificateConfig) -> Result<LoadedCertificate, CertificateError> {
    let chain = load_chain(&config.certificate_file)?;
    let key = load_key(&config.key_file)?;
    pair(config, chain, key)
}

/// The same, with every problem rather than the first.
pub(crate) fn check(config: &CertificateConfig) -> Vec<CertificateError> {
    match (load_chain(&config.certificate_file), load_key(&config.key_file)) {
        (Ok(chain), Ok(key)) => pair(config, chain, key).err().into_iter().collect(),
        (chain, key) => chain.err().into_iter().chain(key.err()).collect(),
    }
}

/// The authorities that the system believes, from where its OpenSSL looks for them; `SSL_CERT_FILE` and `SSL_CERT_DIR` say
/// otherwise.
///
/// # Errors
/// There are none.
pub fn load_system_authorities() -> Result<RootCertStore, CertificateError> {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    // The system's collection may have some that are broken, or of a kind that is not used any more.
    authorities.add_parsable_certificates(found.certs);
    if authorities.is_empty() {
        let reason = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(CertificateError::NoSystemAuthorities { reason });
    }
    Ok(authorities)
}

/// The authorities in a PEM file.
///
/// # Errors
/// The file cannot be read, or has no certificate, or one that cannot be an authority.
pub fn load_authorities(path: &Path) -> Result<RootCertStore, CertificateError> {
    let mut authorities = RootCertStore::empty();
    for (index, certificate) in read_certificates(path)?.into_iter().enumerate() {
        authorities
            .add(certificate)
            .map_err(|_| CertificateError::BrokenCertificate { path: path.to_owned(), number: index + 1 })?;
    }
    Ok(authorities)
}

/// The revocation lists in a PEM file, of which there is at least one.
///
/// # Errors
/// The file cannot be read, or has no list, or something else that calls itself one.
pub fn load_revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, CertificateError> {
    let part = CertificatePart::RevocationList;
    let pem = read(part, path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    let lists = lists.map_err(|_| CertificateError::BrokenPem { part, path: path.to_owned() })?;
    for (index, list) in lists.iter().enumerate() {
        parse_x509_crl(list).map_err(|_| CertificateError::BrokenRevocationList {
            path: path.to_owned(),
            number: index + 1,
        })?;
    }
    if lists.is_empty() { Err(missing(part, path)) } else { Ok(lists) }
}

impl CertificateError {
    /// Which file to look at.
    pub const fn part(&self) -> CertificatePart {
        match self {
            Self::Unreadable { part, .. } | Self::Missing { part, .. } | Self::BrokenPem { part, .. } => {
                *part
            }
            Self::NoSystemAuthorities { .. }
            | Self::BrokenCertificate { .. }
            | Self::Expired { .. }
            | Self::NotYetValid { .. } => CertificatePart::Certificate,
            Self::EncryptedKey { .. } | Self::UnusableKey { .. } | Self::Mismatch { .. } => {
                CertificatePart::Key
            }
            Self::BrokenRevocationList { .. } => CertificatePart::RevocationList,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable { cause, .. } => input::what_to_do(cause),
            Self::Missing { part: CertificatePart::Certificate, .. }
            | Self::BrokenPem { part: CertificatePart::Certificate, .. }
            | Self::BrokenCertificate { .. } => {
                "give a PEM file with `-----BEGIN CERTIFICATE-----` blocks, the server's own first"
            }
            Self::Missing { part: CertificatePart::Key, .. }
            | Self::BrokenPem { part: CertificatePart::Key, .. } => {
                "give a PEM file with one `-----BEGIN PRIVATE KEY-----` block"
            }
            Self::NoSystemAuthorities { .. } => {
                "install the system's authorities (Debian: ca-certificates), or name a `ca_file`"
            }
            Self::Missing { part: CertificatePart::RevocationList, .. }
            | Self::BrokenPem { part: CertificatePart::RevocationList, .. }
            | Self::BrokenRevocationList { .. } => {
                "give a PEM file with an `-----BEGIN X509 CRL-----` block for each authority"
            }
            Self::EncryptedKey { .. } => {
                "decrypt it with `openssl pkey -in KEY -out NEW_KEY`; protect the file by its permissions"
            }
            Self::UnusableKey { .. } => {
                "use a key that is RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"
            }
            Self::Mismatch { .. } => {
                "give the key that the certificate was made for; the server's own certificate is first in its file"
            }
            Self::Expired { .. } => "renew the certificate",
            Self::NotYetValid { .. } => "wait, use another certificate, or set the system's clock right",
        }
    }
}

/// A chain that has been read and whose leaf is valid now.
struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    dns_names: Vec<String>,
    not_after: i64,
}

fn load_chain(path: &Path) -> Result<Chain, CertificateError> {
    let certificates = read_certificates(path)?;
    let broken = |number| CertificateError::BrokenCertificate { path: path.to_owned(), number };
    for (index, certificate) in certificates.iter().enumerate() {
        parse_x509_certificate(certificate).map_err(|_| broken(index + 1))?;
    }
    let leaf = certificates.first().ok_or_else(|| missing(CertificatePart::Certificate, path))?;
    let (_, leaf) = parse_x509_certificate(leaf).map_err(|_| broken(1))?;
    let not_before = leaf.validity().not_before.timestamp();
    let not_after = leaf.validity().not_after.timestamp();
    let now = Timestamp::now().as_second();
    if now > not_after {
        return Err(CertificateError::Expired { path: path.to_owned(), not_after: timestamp(not_after) });
    }
    if now < not_before {
        return Err(CertificateError::NotYetValid {
            path: path.to_owned(),
            not_before: timestamp(not_before),
        });
    }
    let names = leaf.subject_alternative_name().map_err(|_| broken(1))?;
    let dns_names = names.into_iter().flat_map(|extension| &extension.value.general_names);
    let dns_names = dns_names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let dns_names = dns_names.collect();
    Ok(Chain { certificates, dns_names, not_after })
}

/// At least one certificate.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let part = CertificatePart::Certificate;
    let pem = read(part, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates =
        certificates.map_err(|_| CertificateError::BrokenPem { part, path: path.to_owned() })?;
    if certificates.is_empty() { Err(missing(part, path)) } else { Ok(certificates) }
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    use rustls_pki_types::pem::Error as PemError;
    let part = CertificatePart::Key;
    let pem = read(part, path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        PemError::NoItemsFound if is_encrypted(&pem) => {
            CertificateError::EncryptedKey { path: path.to_owned() }
        }
        PemError::NoItemsFound => missing(part, path),
        _ if is_encrypted(&pem) => CertificateError::EncryptedKey { path: path.to_owned() },
        // The library's words can quote the line it stumbled over.
        _ => CertificateError::BrokenPem { part, path: path.to_owned() },
    })
}

fn pair(
    config: &CertificateConfig,
    chain: Chain,
    key: PrivateKeyDer<'static>,
) -> Result<LoadedCertificate, CertificateError> {
    let unusable = |_| CertificateError::UnusableKey { path: config.key_file.clone() };
    let key = any_supported_type(&key).map_err(unusable)?;
    let certified_key = CertifiedKey::new(chain.certificates, key);
    match certified_key.keys_match() {
        // A key type whose public half the library cannot derive is none that it signs with.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(LoadedCertificate {
            certified_key: Arc::new(certified_key),
            dns_names: chain.dns_names,
            not_after: chain.not_after,
        }),
        Err(_) => Err(CertificateError::Mismatch {
            key_file: config.key_file.clone(),
            certificate_file: config.certificate_file.clone(),
        }),
    }
}

fn read(part: CertificatePart, path: &Path) -> Result<Vec<u8>, CertificateError> {
    input::read(path).map_err(|cause| CertificateError::Unreadable { part, path: path.to_owned(), cause })
}

fn missing(part: CertificatePart, path: &Path) -> CertificateError {
    CertificateError::Missing { part, path: path.to_owned() }
}

/// Both ways PEM says so: PKCS #8, and the older header.
fn is_encrypted(pem: &[u8]) -> bool {
    ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|sign| memchr::memmem::find(pem, sign.as_bytes()).is_some())
}

/// A moment for people; X.509 allows some that lie beyond the calendar.
fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
