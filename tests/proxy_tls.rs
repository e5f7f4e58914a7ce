//! TLS towards clients: certificates by name, protocol by ALPN, versions, addresses.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

mod support;

use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use support::certificates::{Authority, Certificate};
use support::{Client, Http2Client, Sidecar, SidecarBuilder, Upstream};

const TABLES: &str = "[listeners.tls]\nMORE\n\
    [[listeners.tls.certificates]]\ncertificate_file = \"one.crt\"\nkey_file = \"one.key\"\n\
    [[listeners.tls.certificates]]\ncertificate_file = \"two.crt\"\nkey_file = \"two.key\"\n";

struct Names {
    authority: Authority,
    one: Certificate,
    two: Certificate,
}

impl Names {
    fn new() -> Self {
        let authority = Authority::new();
        let one = authority.certificate(&["service.test", "*.wild.test", "127.0.0.1", "::1"]);
        let two = authority.certificate(&["open.test"]);
        Self { authority, one, two }
    }

    fn sidecar(&self, upstream: &Upstream, more: &str) -> SidecarBuilder {
        Sidecar::in_front_of(upstream)
            .listener(&TABLES.replace("MORE", more))
            .file("one.crt", &self.one.pem)
            .file("one.key", &self.one.key_pem)
            .file("two.crt", &self.two.pem)
            .file("two.key", &self.two.key_pem)
    }
}

/// The leaf that the sidecar shows to who asks for a name, verified or not.
fn shown(names: &Names, sidecar: &Sidecar, name: &str) -> Result<Vec<u8>, String> {
    let config = names.authority.client(&[&TLS13], &[]);
    let server_name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut session = rustls::ClientConnection::new(config, server_name).unwrap();
    let mut socket = std::net::TcpStream::connect(sidecar.address()).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|error| error.to_string())?;
    }
    Ok(session.peer_certificates().unwrap()[0].to_vec())
}

#[test]
fn certificates_by_name() {
    let names = Names::new();
    let upstream = Upstream::echo();
    let sidecar = names.sidecar(&upstream, "").start();
    assert_eq!(shown(&names, &sidecar, "service.test").unwrap(), names.one.der.to_vec());
    assert_eq!(shown(&names, &sidecar, "open.test").unwrap(), names.two.der.to_vec());
    assert_eq!(shown(&names, &sidecar, "any.wild.test").unwrap(), names.one.der.to_vec());
    assert_eq!(shown(&names, &sidecar, "127.0.0.1").unwrap(), names.one.der.to_vec());
    let unknown = shown(&names, &sidecar, "unknown.test").unwrap_err();
    assert!(unknown.contains("not valid for name"), "the first certificate is the default: {unknown}");
}

#[test]
fn both_versions_and_both_protocols() {
    let names = Names::new();
    let upstream = Upstream::echo();
    let sidecar = names.sidecar(&upstream, "").start();
    for version in [&TLS12, &TLS13] {
        for alpn in [&[][..], &["http/1.1"], &["http/1.1", "h2"]] {
            if alpn.contains(&"h2") {
                continue;
            }
            let config = names.authority.client(&[version], alpn);
            let mut client = Client::connect_tls(sidecar.address(), "service.test", config).unwrap();
            for _ in 0..2 {
                let response = client.request(sidecar.get());
                assert_eq!(response.status, 200, "{version:?} {alpn:?}");
            }
        }
        for alpn in [&["h2"][..], &["http/1.1", "h2"]] {
            let config = names.authority.client(&[version], alpn);
            let mut client = Http2Client::connect_tls(sidecar.address(), "service.test", config);
            assert_eq!(
                client.request(support::http2::get(&sidecar, "/")).status,
                200,
                "{version:?} {alpn:?}"
            );
        }
    }
    let request = &upstream.requests()[0];
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    assert_eq!(request.values("forwarded"), ["for=127.0.0.1;host=service.test;proto=https"]);
    let series = "postern_tls_handshakes_total{listener=\"main\",outcome=\"ok\"}";
    assert!((sidecar.metric(series) - 8.0).abs() < 0.5);
}

#[test]
fn tls_1_2_can_be_refused() {
    let names = Names::new();
    let upstream = Upstream::echo();
    let sidecar = names.sidecar(&upstream, "require_tls13 = true").start();
    let old = names.authority.client(&[&TLS12], &[]);
    assert!(Client::connect_tls(sidecar.address(), "service.test", old).is_err());
    let new = names.authority.client(&[&TLS13], &[]);
    let mut client = Client::connect_tls(sidecar.address(), "service.test", new).unwrap();
    assert_eq!(client.request(sidecar.get()).status, 200);
}

#[test]
fn after_alpn_no_byte_is_sniffed() {
    let names = Names::new();
    let upstream = Upstream::echo();
    let sidecar = names.sidecar(&upstream, "").start();
    let config = names.authority.client(&[&TLS13], &["http/1.1"]);
    let mut client = Client::connect_tls(sidecar.address(), "service.test", config).unwrap();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let response = client.response();
    assert!(matches!(response.status, 400 | 505), "HTTP/2's preface is no HTTP/1.1: {}", response.text());
    let config = names.authority.client(&[&TLS13], &["h2"]);
    let mut client = Client::connect_tls(sidecar.address(), "service.test", config).unwrap();
    client.send(sidecar.get());
    assert!(!client.read_to_end().starts_with(b"HTTP/1.1 200"), "HTTP/1.1 is not spoken where h2 was chosen");
    upstream.assert_untouched();
}

#[test]
fn plain_http_on_a_tls_listener() {
    let names = Names::new();
    let upstream = Upstream::echo();
    let sidecar = names.sidecar(&upstream, "").start();
    let mut client = sidecar.connect();
    let _closed = client.try_send(sidecar.get());
    assert!(!client.read_to_end().starts_with(b"HTTP/"));
    upstream.assert_untouched();
    let series = "postern_tls_handshakes_total{listener=\"main\",outcome=\"failed\"}";
    support::until("the metric to count it", || sidecar.metric(series) > 0.5);
}

#[test]
fn ipv6_and_several_listeners() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: there is no IPv6 here");
        return;
    }
    let names = Names::new();
    let upstream = Upstream::echo();
    let second =
        "[[listeners]]\nname = \"six\"\naddress = \"[::1]:0\"\n".to_owned() + &TABLES.replace("MORE", "");
    let third = "[[listeners]]\nname = \"plain\"\naddress = \"[::1]:0\"\n";
    let sidecar = names.sidecar(&upstream, "").more_listeners(&format!("{second}\n{third}")).start();
    let config = names.authority.client(&[&TLS13], &[]);
    let mut client = Client::connect_tls(sidecar.listeners[1], "service.test", Arc::clone(&config)).unwrap();
    assert_eq!(client.request(sidecar.get()).status, 200);
    let mut client = Client::connect(sidecar.listeners[2]);
    assert_eq!(client.request(sidecar.get()).status, 200);
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.values("x-forwarded-for") == ["::1"]), "{requests:?}");
    assert!(
        requests.iter().any(|request| {
            request.values("forwarded") == ["for=\"[::1]\";host=service.test;proto=https"]
        })
    );
}

#[test]
fn sessions_are_resumed_on_whichever_worker() {
    let names = Names::new();
    let upstream = Upstream::echo();
    let sidecar = names.sidecar(&upstream, "").start();
    for version in [&TLS12, &TLS13] {
        let config = names.authority.client(&[version], &["http/1.1"]);
        assert_eq!(sidecar.request_over_tls(&config), (Some(HandshakeKind::Full), true), "{version:?}");
        // The kernel spreads them over two workers: that one of these has served all is one chance in two thousand millions.
        for _ in 0..32 {
            let resumed = sidecar.request_over_tls(&config);
            assert_eq!(resumed, (Some(HandshakeKind::Resumed), true), "{version:?}");
        }
    }
    // A ticket of another process, or of nobody, is no ticket: the handshake is a full one.
    let other = names.sidecar(&upstream, "").start();
    let config = names.authority.client(&[&TLS13], &["http/1.1"]);
    assert_eq!(sidecar.request_over_tls(&config), (Some(HandshakeKind::Full), true));
    assert_eq!(other.request_over_tls(&config), (Some(HandshakeKind::Full), true));
}
