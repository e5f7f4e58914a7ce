//! Certificates, keys and authorities that a configuration refers to: what is wrong with each is said at its key.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::Path;

use postern::config::{CertificateConfig, Config, certificates};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

struct Files(tempfile::TempDir);

impl Files {
    /// A certificate and its key, valid from and until the given years.
    fn valid(not_before: i32, not_after: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params =
            CertificateParams::new(vec!["API.example.com".to_owned(), "*.example.org".to_owned()]).unwrap();
        params.not_before = date_time_ymd(not_before, 1, 1);
        params.not_after = date_time_ymd(not_after, 1, 1);
        let key = KeyPair::generate().unwrap();
        let this = Self(folder);
        this.write("api.crt", &params.self_signed(&key).unwrap().pem());
        this.write("api.key", &key.serialize_pem());
        this
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    fn config(&self) -> CertificateConfig {
        let path = |name: &str| self.0.path().join(name);
        CertificateConfig { certificate_file: path("api.crt"), key_file: path("api.key") }
    }

    /// The problems of a configuration with these files, as `key: reason`.
    fn problems(&self) -> Vec<String> {
        let quickstart = include_str!("../config/quickstart.toml");
        let tls = "[listeners.tls]\n[[listeners.tls.certificates]]\ncertificate_file = \"api.crt\"\nkey_file = \"api.key\"\n";
        let ca = "[upstreams.tls]\nca_file = \"api.crt\"\n";
        let text = quickstart.replace("[organization]", &format!("{tls}[organization]"));
        let text = text.replace("[[routes]]", &format!("{ca}[[routes]]"));
        let error = Config::parse(&text, &self.0.path().join("postern.toml")).unwrap_err();
        let folder = format!("{}/", self.0.path().display());
        let problems = error.problems.iter();
        problems.map(|problem| format!("{}: {}", problem.key, problem.reason.replace(&folder, ""))).collect()
    }
}

const CERTIFICATE: &str = "listeners[0].tls.certificates[0].certificate_file";
const KEY: &str = "listeners[0].tls.certificates[0].key_file";
const AUTHORITIES: &str = "upstreams[0].tls.ca_file";

#[track_caller]
fn check(files: &Files, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(key, reason)| format!("{key}: {reason}")).collect();
    assert_eq!(files.problems(), expected);
    let canary = std::fs::read_to_string(files.0.path().join("api.key")).unwrap_or_default();
    let shown = files.problems().join("\n");
    for line in canary.lines().filter(|line| line.len() > 20) {
        assert!(!shown.contains(line), "a key is shown");
    }
}

#[test]
fn a_good_pair_is_loaded_with_its_names_and_end() {
    let files = Files::valid(2020, 2090);
    let loaded = certificates::load(&files.config()).unwrap();
    assert_eq!(loaded.dns_names, ["api.example.com", "*.example.org"]);
    assert_eq!(loaded.not_after, 3_786_912_000);
    assert_eq!(loaded.certified_key.cert.len(), 1);
}

#[test]
fn certificates_outside_their_time_are_refused() {
    check(
        &Files::valid(2020, 2021),
        &[(CERTIFICATE, "the certificate in `api.crt` expired at 2021-01-01T00:00:00Z")],
    );
    check(
        &Files::valid(2089, 2090),
        &[(CERTIFICATE, "the certificate in `api.crt` is not valid before 2089-01-01T00:00:00Z")],
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let files = Files::valid(2020, 2090);
    files.write("api.key", &KeyPair::generate().unwrap().serialize_pem());
    check(&files, &[(KEY, "the key in `api.key` does not belong to the first certificate in `api.crt`")]);
}

#[test]
fn broken_and_missing_files_are_told_apart() {
    let files = Files::valid(2020, 2090);
    files.write("api.key", "nothing");
    check(&files, &[(KEY, "no private key in `api.key`")]);
    files.write("api.key", "-----BEGIN PRIVATE KEY-----\ncanary-1f9a7c!\n-----END PRIVATE KEY-----\n");
    check(&files, &[(KEY, "the private key file `api.key` is broken PEM")]);
    files.write("api.key", "-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n");
    check(&files, &[(KEY, "the key in `api.key` is broken or of no supported type")]);
    files.write(
        "api.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nYWJj\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    check(&files, &[(KEY, "the key in `api.key` is encrypted")]);
    files.write("api.crt", "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n");
    check(
        &files,
        &[
            (CERTIFICATE, "certificate 1 in `api.crt` cannot be understood"),
            (KEY, "the key in `api.key` is encrypted"),
            (AUTHORITIES, "certificate 1 in `api.crt` cannot be understood"),
        ],
    );
    std::fs::remove_file(files.0.path().join("api.key")).unwrap();
    files.write("api.crt", "");
    check(
        &files,
        &[
            (CERTIFICATE, "no certificate in `api.crt`"),
            (KEY, "cannot read the private key file `api.key`: there is no such file"),
            (AUTHORITIES, "no certificate in `api.crt`"),
        ],
    );
}

#[test]
fn an_unreadable_key_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::valid(2020, 2090);
    let key = files.config().key_file;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&key).is_ok() {
        // The superuser reads everything: a folder in its place cannot be read by anybody.
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir(&key).unwrap();
        check(&files, &[(KEY, "cannot read the private key file `api.key`: it is not a regular file")]);
    } else {
        check(&files, &[(KEY, "cannot read the private key file `api.key`: permission denied")]);
    }
}

#[test]
fn authorities_are_at_least_one() {
    let files = Files::valid(2020, 2090);
    let authorities = certificates::load_authorities(&files.config().certificate_file).unwrap();
    assert_eq!(authorities.len(), 1);
    assert!(certificates::load_authorities(Path::new("/nonexistent")).is_err());
}

#[test]
fn what_clients_certificates_are_checked_with_is_looked_into() {
    let files = Files::valid(2020, 2100);
    files.write("empty.pem", "");
    files.write("torn.pem", "-----BEGIN X509 CRL-----\nAAAA\n");
    files.write("other.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    let problems = |lines: &str| {
        let tls = "[listeners.tls]\n[[listeners.tls.certificates]]\ncertificate_file = \"api.crt\"\nkey_file = \"api.key\"\n";
        let tables = format!("{tls}[listeners.tls.client_certificates]\n{lines}\n[organization]");
        let text = include_str!("../config/quickstart.toml").replace("[organization]", &tables);
        let Err(error) = Config::parse(&text, &files.0.path().join("postern.toml")) else {
            return String::new();
        };
        let [problem] = &error.problems[..] else { panic!("not one problem:\n{error}") };
        let key = problem.key.strip_prefix("listeners[0].tls.client_certificates").unwrap();
        format!("{key}: {}", problem.reason.replace(&format!("{}/", files.0.path().display()), ""))
    };
    assert_eq!(problems("ca_file = \"api.crt\""), "");
    assert_eq!(problems("ca_file = \"empty.pem\""), ".ca_file: no certificate in `empty.pem`");
    assert_eq!(
        problems("ca_file = \"api.crt\"\nmode = \"always\""),
        ".mode: `always` does not say who has to show a certificate"
    );
    let list = |name: &str| problems(&format!("ca_file = \"api.crt\"\ncrl_file = \"{name}\""));
    assert_eq!(list("empty.pem"), ".crl_file: no revocation list in `empty.pem`");
    assert_eq!(list("api.crt"), ".crl_file: no revocation list in `api.crt`");
    assert_eq!(list("torn.pem"), ".crl_file: the revocation list file `torn.pem` is broken PEM");
    assert_eq!(list("other.pem"), ".crl_file: revocation list 1 in `other.pem` cannot be understood");
    assert!(list("none.pem").starts_with(".crl_file: cannot read the revocation list file `none.pem`"));
}
