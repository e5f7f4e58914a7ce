//! Figures that are promised: requests over reloads of configuration and certificates.

use std::fs;
use std::sync::atomic::Ordering;

use postern::app::control_socket;
use rustls::version::TLS13;

use crate::is_long;
use crate::load::{self, Kind, Load, Target};
use crate::support::certificates::Authority;
use crate::support::sidecar::HOST;
use crate::support::{Client, Sidecar};

const NEW_ROUTE: &str = "\n[[routes]]\nname = \"new\"\nhosts = [\"new.test\"]\nupstream = \"service\"\nauthentication = \"off\"\n";

fn write(sidecar: &Sidecar, name: &str, text: &str) {
    let new = sidecar.folder().join(format!("{name}.new"));
    fs::write(&new, text).unwrap();
    fs::rename(new, sidecar.folder().join(name)).unwrap();
}

#[test]
fn no_request_is_lost_over_twenty_reloads_of_configuration_and_certificates() {
    // In the long form a thousand requests a second, twenty thousand in all.
    let (per_second, at_least) = if is_long() { (56, 20_000) } else { (12, 1_000) };
    let upstream = load::upstream();
    let authority = Authority::new();
    let certificates = [authority.certificate(&[HOST]), authority.certificate(&[HOST])];
    let sidecar = Sidecar::in_front_of(&upstream)
        .more_listeners(
            "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
             [[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"\n",
        )
        .file("a.crt", &certificates[0].pem)
        .file("a.key", &certificates[0].key_pem)
        .start();
    let target = Target::of(&sidecar, Some(authority.client(&[&TLS13], &[])));
    let kinds = [
        (Kind::Kept, 4),
        (Kind::KeptTls, 2),
        (Kind::New, 4),
        (Kind::NewTls, 2),
        (Kind::Http2, 3),
        (Kind::WebSocket, 2),
        (Kind::Stream, 2),
        (Kind::Readiness, 1),
    ];
    let load = Load::start(&target, &kinds, per_second);
    let old = fs::read_to_string(sidecar.config_file()).unwrap();
    for round in 0..20 {
        load.wait_for(at_least / 20);
        let certificate = &certificates[(round + 1) % 2];
        write(&sidecar, "a.key", &certificate.key_pem);
        write(&sidecar, "a.crt", &certificate.pem);
        let text = match round % 2 {
            0 => old.clone() + NEW_ROUTE,
            _ => old.replace("[timeouts]", "[timeouts]\nidle_seconds = 70"),
        };
        write(&sidecar, "postern.toml", &text);
        // A key and its certificate are two files: amid their change the last good pair stays in force.
        let report = control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap();
        assert_eq!(report["applied"], true, "{report}");
        let mut client =
            Client::connect_tls(sidecar.listeners[1], HOST, authority.client(&[&TLS13], &[])).unwrap();
        assert_eq!(client.request(sidecar.get()).status, 200);
        let of_new_route = sidecar.request("GET / HTTP/1.1\r\nHost: new.test\r\n\r\n").status;
        assert_eq!(of_new_route, if round % 2 == 0 { 200 } else { 401 }, "it is in force");
    }
    let tally = load.stop();
    assert!(tally.answered.load(Ordering::SeqCst) >= at_least);
    assert_eq!(tally.told.load(Ordering::SeqCst), 0, "no connection has to end for a reload");
    sidecar.stop();
}
