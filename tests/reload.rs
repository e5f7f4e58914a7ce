//! Reloading: by changing the file, by SIGHUP, through the control socket; what changes, what waits for a restart, and
//! that a bad file changes nothing. That no request is lost meanwhile is shown in `upgrade/promises.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;

use postern::app::control_socket;
use rustls::version::TLS13;
use support::certificates::Authority;
use support::{Client, Sidecar, Upstream, until};

/// Another route, that is declared open.
const NEW_ROUTE: &str = "\n[[routes]]\nname = \"new\"\nhosts = [\"new.test\"]\nupstream = \"service\"\nauthentication = \"off\"\n";

fn config(sidecar: &Sidecar) -> String {
    fs::read_to_string(sidecar.config_file()).unwrap()
}

/// Replaces a file in one step, as editors and Kubernetes do.
fn write(sidecar: &Sidecar, name: &str, content: &str) {
    let new = sidecar.folder().join(format!("{name}.new"));
    fs::write(&new, content).unwrap();
    fs::rename(new, sidecar.folder().join(name)).unwrap();
}

fn write_config(sidecar: &Sidecar, content: &str) {
    write(sidecar, "postern.toml", content);
}

fn status_of_new_route(sidecar: &Sidecar) -> u16 {
    sidecar.request("GET / HTTP/1.1\r\nHost: new.test\r\n\r\n").status
}

/// Asks through the control socket, and returns the report.
fn reload(sidecar: &Sidecar) -> serde_json::Value {
    control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap()
}

#[test]
fn a_changed_file_is_taken_up() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(status_of_new_route(&sidecar), 401);
    let old = config(&sidecar);
    write_config(&sidecar, &(old.clone() + NEW_ROUTE));
    until("the new route to be served", || status_of_new_route(&sidecar) == 200);
    write_config(&sidecar, &old);
    until("the new route to be gone", || status_of_new_route(&sidecar) == 401);
    // Written in place, too.
    fs::write(sidecar.config_file(), old + NEW_ROUTE).unwrap();
    until("the new route to be served again", || status_of_new_route(&sidecar) == 200);
}

#[test]
fn sighup_reloads() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let applied = "postern_config_reloads_total{outcome=\"applied\"}";
    let before = sidecar.metric(applied);
    sidecar.signal("HUP");
    until("the reload to be counted", || sidecar.metric(applied) > before);
    assert!(sidecar.is_running());
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn the_control_socket_reports_what_came_of_it() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let old = config(&sidecar);
    write_config(&sidecar, &(old.clone() + NEW_ROUTE));
    let report = reload(&sidecar);
    assert_eq!((&report["applied"], &report["error"]), (&true.into(), &serde_json::Value::Null), "{report}");
    assert_eq!(status_of_new_route(&sidecar), 200, "in force once reported");

    write_config(&sidecar, &old.replace("upstream = \"service\"", "upstream = \"nowhere\""));
    let report = reload(&sidecar);
    assert_eq!(report["applied"], false);
    assert!(report["error"].as_str().unwrap().contains("nowhere"), "{report}");
    assert_eq!(status_of_new_route(&sidecar), 200, "the last good configuration stays");
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    until("the metric to say so", || sidecar.metric("postern_config_last_reload_successful") < 0.5);

    write_config(&sidecar, &old);
    assert_eq!(reload(&sidecar)["applied"], true);
    assert_eq!(status_of_new_route(&sidecar), 401);
    assert!(sidecar.metric("postern_config_last_reload_successful") > 0.5);
}

#[test]
fn what_waits_for_a_restart_is_said_by_name() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let changed =
        config(&sidecar).replace("workers = 2", "workers = 3").replacen("127.0.0.1:0", "127.0.0.1:1", 1)
            + NEW_ROUTE;
    write_config(&sidecar, &changed);
    let report = reload(&sidecar);
    assert_eq!(report["applied"], true, "{report}");
    let keys = report["needs_restart"].to_string();
    assert!(keys.contains("workers") && keys.contains("address"), "{report}");
    assert_eq!(status_of_new_route(&sidecar), 200, "the rest is in force, on the old address");
}

#[test]
fn a_pinned_policy_comes_and_goes() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    let old = config(&sidecar);
    let pinned = old.replace(
        "name = \"Example\"",
        "name = \"Example\"\n[organization.authentication]\nallowed_ip_ranges = [\"192.0.2.0/24\"]",
    );
    write_config(&sidecar, &pinned);
    assert_eq!(reload(&sidecar)["applied"], true);
    sidecar.request(sidecar.get()).assert_error(403, "ip_not_allowed_by_organization");
    write_config(&sidecar, &old);
    assert_eq!(reload(&sidecar)["applied"], true);
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn a_project_of_another_organization_is_refused() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let old = config(&sidecar);
    let other = old.replace("[organization]\nid = \"", "[organization]\nid = \"not-");
    assert_ne!(old, other);
    // Taken up, the policy pinned here would bind nobody: the project's own organization decides.
    write_config(&sidecar, &other.replace("[[upstreams]]", "[organization.authentication]\n[[upstreams]]"));
    let report = reload(&sidecar);
    assert_eq!(report["applied"], false);
    let error = report["error"].to_string();
    assert!(error.contains("demo") && error.contains("belongs to organization"), "{error}");
    assert_eq!(sidecar.request(sidecar.get()).status, 200, "the last good one is in force");
}

#[test]
fn with_the_store_gone_all_but_the_directory_can_be_reloaded() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let old = config(&sidecar);
    fs::rename(sidecar.folder().join("store.db"), sidecar.folder().join("store.db.away")).unwrap();
    write_config(&sidecar, &(old.clone() + NEW_ROUTE));
    assert_eq!(reload(&sidecar)["applied"], true);
    assert_eq!(status_of_new_route(&sidecar), 200);
    write_config(&sidecar, &old.replace("project = \"demo\"", "project = \"another\""));
    let report = reload(&sidecar);
    assert_eq!(report["applied"], false, "a new project cannot be entered");
    assert!(report["error"].to_string().contains("store.db"), "{report}");
}

#[test]
fn a_reload_that_waits_for_the_store_holds_nothing_up() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let store = rusqlite::Connection::open(sidecar.folder().join("store.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    let another = config(&sidecar).replace("project = \"demo\"", "project = \"another\"");
    write_config(&sidecar, &another);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reload(&sidecar));
        for _ in 0..5 {
            assert_eq!(sidecar.ops("/readyz").status, 200);
            assert_eq!(sidecar.request(sidecar.get()).status, 200);
        }
        assert!(!waiting.is_finished(), "health was asked for while the reload waited");
        store.execute_batch("ROLLBACK").unwrap();
        assert_eq!(waiting.join().unwrap()["applied"], true);
    });
}

#[test]
fn limits_change() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let long = sidecar.head(&format!("GET /{}", "a".repeat(2000)), "");
    assert_eq!(sidecar.request(&long).status, 200);
    let changed = config(&sidecar).replace("[limits]", "[limits]\nuri_bytes = 1024");
    write_config(&sidecar, &changed);
    assert_eq!(reload(&sidecar)["applied"], true);
    assert_eq!(sidecar.request(&long).status, 414);
}

#[test]
fn certificates_change_without_touching_the_configuration() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let (first, second) =
        (authority.certificate(&["service.test"]), authority.certificate(&["service.test"]));
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("[listeners.tls]\n[[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"")
        .file("a.crt", &first.pem)
        .file("a.key", &first.key_pem)
        .start();
    let shown = || {
        let config = authority.client(&[&TLS13], &[]);
        let name = rustls_pki_types::ServerName::try_from("service.test").unwrap();
        let mut session = rustls::ClientConnection::new(config, name).unwrap();
        let mut socket = std::net::TcpStream::connect(sidecar.address()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session.peer_certificates().unwrap()[0].to_vec()
    };
    assert_eq!(shown(), first.der.to_vec());
    let mut kept =
        Client::connect_tls(sidecar.address(), "service.test", authority.client(&[&TLS13], &[])).unwrap();
    assert_eq!(kept.request(sidecar.get()).status, 200);
    write(&sidecar, "a.key", &second.key_pem);
    write(&sidecar, "a.crt", &second.pem);
    until("the new certificate to be shown", || shown() == second.der.to_vec());
    assert_eq!(kept.request(sidecar.get()).status, 200, "connections stay");

    write(&sidecar, "a.crt", "not a certificate");
    let report = reload(&sidecar);
    assert_eq!(report["applied"], false, "{report}");
    assert_eq!(shown(), second.der.to_vec(), "the last good certificate stays");
}
