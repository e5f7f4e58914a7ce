//! Certificates that are wrong when they are taken up anew: the last good one is shown, and the report, the metric and the log say what is
//! wrong with which file. What is wrong with a file at the start is in `tests/config_certificates.rs`.

use std::fs;
use std::sync::Arc;

use postern::app::control_socket;
use rustls::version::TLS13;

use super::says;
use super::support::certificates::{Authority, Certificate};
use super::support::{Client, Sidecar, Upstream, until};

const SUCCESSFUL: &str = "postern_config_last_reload_successful";

/// Puts a file in place in one step.
fn put(sidecar: &Sidecar, name: &str, content: &str) {
    let new = sidecar.folder().join(format!("{name}.new"));
    fs::write(&new, content).unwrap();
    fs::rename(new, sidecar.folder().join(name)).unwrap();
}

fn reload(sidecar: &Sidecar) -> serde_json::Value {
    control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap()
}

#[test]
fn a_bad_certificate_leaves_the_last_good_one_and_is_said() {
    let authority = Authority::new();
    let [first, second] = [(); 2].map(|()| authority.certificate(&["service.test"]));
    let expired = authority.certificate_until(&["service.test"], 2021);
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("[listeners.tls]\n[[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"")
        .file("a.crt", &first.pem)
        .file("a.key", &first.key_pem)
        .start();
    let client = authority.client(&[&TLS13], &[]);
    let shows = |certificate: &Certificate| {
        let (config, name) =
            (Arc::clone(&client), rustls_pki_types::ServerName::try_from("service.test").unwrap());
        let mut session = rustls::ClientConnection::new(config, name).unwrap();
        let mut socket = std::net::TcpStream::connect(sidecar.address()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session.peer_certificates().unwrap()[0] == certificate.der
    };
    let mut kept = Client::connect_tls(sidecar.address(), "service.test", Arc::clone(&client)).unwrap();
    assert!(shows(&first));

    let half = &second.pem[..second.pem.len() / 2];
    let half_key = &second.key_pem[..second.key_pem.len() / 2];
    let cases = [
        ("expired", expired.pem.as_str(), expired.key_pem.as_str(), "expired at 2021-01-01"),
        (
            "of another key",
            second.pem.as_str(),
            first.key_pem.as_str(),
            "does not belong to the first certificate",
        ),
        ("half of a certificate", half, first.key_pem.as_str(), "a.crt"),
        ("half of a key", second.pem.as_str(), half_key, "a.key"),
        ("empty", "", "", "no certificate in"),
    ];
    // In an order in which no two of them fit each other on the way.
    for (what, certificate, key, says_why) in cases {
        put(&sidecar, "a.crt", certificate);
        put(&sidecar, "a.key", key);
        let report = reload(&sidecar);
        assert_eq!(report["applied"], false, "{what}");
        let error = report["error"].as_str().unwrap();
        assert!(error.contains(says_why), "{what}: {error}");
        assert!(sidecar.metric(SUCCESSFUL) < 0.5, "{what}");
        assert!(shows(&first), "{what}");
        assert_eq!(kept.request(sidecar.get()).status, 200, "{what}");
    }
    // Nobody may read it: here, a folder in its place, for the superuser may read all.
    fs::remove_file(sidecar.folder().join("a.key")).unwrap();
    fs::create_dir(sidecar.folder().join("a.key")).unwrap();
    let report = reload(&sidecar);
    assert!(report["error"].as_str().unwrap().contains("cannot read the private key file"), "{report}");
    assert!(shows(&first));
    says(&sidecar, "configuration not reloaded; the last good one stays in force");

    // Mended, it is taken up without anybody asking.
    fs::remove_dir(sidecar.folder().join("a.key")).unwrap();
    put(&sidecar, "a.key", &second.key_pem);
    put(&sidecar, "a.crt", &second.pem);
    until("the new certificate to be shown", || shows(&second));
    until("the metric to say so", || sidecar.metric(SUCCESSFUL) > 0.5);
    assert_eq!(kept.request(sidecar.get()).status, 200, "connections stay");
}
