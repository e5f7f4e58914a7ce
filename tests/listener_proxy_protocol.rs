//! Listeners that require the PROXY protocol: whose address counts where, who is closed, and the same with a real
//! HAProxy and curl in front. What a header is, is tested beside its parser.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use rustls::version::TLS13;
use support::certificates::Authority;
use support::peers;
use support::sidecar::{HOST, SidecarBuilder};
use support::{Client, Http2Client, Response, Sidecar, Upstream, eventually, until};

const REQUIRED: &str = "proxy_protocol = \"required\"\nproxy_protocol_from = [\"127.0.0.1/32\"]";

/// Version 2, with this command, family and rest.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend_from_slice(rest);
    header
}

fn version_2_from(source: Ipv4Addr) -> Vec<u8> {
    let extension = [0x04, 0, 2, 0, 0];
    version_2(1, 0x11, &[&source.octets()[..], &[192, 0, 2, 1, 0x30, 0x39, 0x01, 0xbb], &extension].concat())
}

fn failures(sidecar: &Sidecar, reason: &str) -> f64 {
    sidecar.metric(&format!("postern_proxy_protocol_failures_total{{listener=\"main\",reason=\"{reason}\"}}"))
}

#[track_caller]
fn ask(sidecar: &Sidecar, header: impl AsRef<[u8]>) -> Response {
    let mut client = sidecar.connect();
    client.send(header);
    client.request(sidecar.get())
}

/// What the upstream was told about the client's address.
#[track_caller]
fn told(response: &Response) -> (String, String) {
    assert_eq!(response.status, 200, "{}", response.text());
    let line = |name: &str| {
        let text = response.text();
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    (line("x-forwarded-for"), line("forwarded"))
}

#[test]
fn the_address_in_the_header_is_the_clients() {
    let upstream = Upstream::echo();
    // One worker, so that the log's lines are in order.
    let sidecar = Sidecar::in_front_of(&upstream).listener(REQUIRED).one_worker().start();
    let host = format!("host={HOST};proto=http");
    let check = |header: &[u8], x_forwarded_for: &str, node: &str| {
        let told = told(&ask(&sidecar, header));
        assert_eq!(told, (x_forwarded_for.to_owned(), format!("for={node};{host}")));
    };
    check(b"PROXY TCP4 203.0.113.9 192.0.2.1 12345 443\r\n", "203.0.113.9", "203.0.113.9");
    check(b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n", "2001:db8::7", "\"[2001:db8::7]\"");
    check(&version_2_from(Ipv4Addr::new(203, 0, 113, 10)), "203.0.113.10", "203.0.113.10");
    // The proxy itself, and a client that it does not know.
    check(&version_2(0, 0x00, b""), "127.0.0.1", "127.0.0.1");
    check(b"PROXY UNKNOWN\r\n", "unknown", "unknown");
    check(&version_2(1, 0x00, b""), "unknown", "unknown");
    check(&version_2(1, 0x31, &[0; 216]), "unknown", "unknown");
    let logged: Vec<_> = sidecar.access_log(7).iter().map(|line| line["client_address"].clone()).collect();
    let null = serde_json::Value::Null;
    let known = ["203.0.113.9", "2001:db8::7", "203.0.113.10", "127.0.0.1"].map(serde_json::Value::from);
    assert_eq!(logged, [&known[..], &[null.clone(), null.clone(), null]].concat());
}

#[test]
fn the_header_and_the_request_may_come_together_or_in_pieces() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).listener(REQUIRED).start();
    for header in
        [b"PROXY TCP4 203.0.113.9 192.0.2.1 1 1\r\n".to_vec(), version_2_from(Ipv4Addr::new(203, 0, 113, 9))]
    {
        let whole = [&header[..], sidecar.get().as_bytes()].concat();
        let mut client = sidecar.connect();
        assert_eq!(told(&client.request(&whole)).0, "203.0.113.9");
        // Once a connection, not once a request.
        assert_eq!(told(&client.request(sidecar.get())).0, "203.0.113.9");
        let mut client = sidecar.connect();
        for byte in &whole {
            client.send([*byte]);
        }
        assert_eq!(told(&client.response()).0, "203.0.113.9");
    }
}

#[test]
fn address_rules_and_usage_take_the_address_in_the_header() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener(REQUIRED)
        .organization("[organization.authentication]\nallowed_ip_ranges = [\"203.0.113.0/24\", \"::/0\"]")
        .start();
    assert_eq!(ask(&sidecar, "PROXY TCP4 203.0.113.9 127.0.0.1 1 1\r\n").status, 200);
    let refused = |header: &[u8]| {
        ask(&sidecar, header).assert_error(403, "ip_not_allowed_by_organization");
    };
    refused(b"PROXY TCP4 198.51.100.1 203.0.113.9 1 1\r\n");
    // The proxy's own address is not its clients'.
    refused(&version_2(0, 0x00, b""));
    // Nobody knows: no range holds that, not the widest either.
    refused(b"PROXY UNKNOWN\r\n");
    refused(b"PROXY TCP6 :: :: 1 1\r\n");
    refused(&version_2(1, 0x00, b""));
    let stored = || sidecar.directory.stored(&sidecar.permitted.prefix).usage;
    let used = eventually("the use to be in the store", stored);
    assert_eq!(used.last_ip, Some("203.0.113.9".parse().unwrap()));
}

#[test]
fn forwarding_headers_of_the_client_are_not_the_proxys() {
    let upstream = Upstream::echo();
    let lines = format!("{REQUIRED}\ntrusted_proxies = [\"127.0.0.1/32\", \"203.0.113.0/24\", \"::/0\"]");
    let sidecar = Sidecar::in_front_of(&upstream).listener(&lines).start();
    let check = |header: &str, forwarded_for: &str, expect: &str| {
        let mut client = sidecar.connect();
        client.send(header);
        let request = sidecar.head("GET /", &format!("X-Forwarded-For: {forwarded_for}\r\n"));
        assert_eq!(told(&client.request(request)).0, expect, "{header}");
    };
    // Whom the header names is compared, not who brought it.
    check("PROXY TCP4 198.51.100.1 127.0.0.1 1 1\r\n", "192.0.2.66", "198.51.100.1");
    check("PROXY TCP4 203.0.113.9 127.0.0.1 1 1\r\n", "192.0.2.66", "192.0.2.66, 203.0.113.9");
    check("PROXY UNKNOWN\r\n", "192.0.2.66", "unknown");
}

#[test]
fn what_has_no_header_is_closed_without_a_word() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).listener(REQUIRED).start();
    let attempts = [
        sidecar.get().into_bytes(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 1 65536\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 1 1\n".to_vec(),
        [b"PROXY ".to_vec(), vec![b'x'; 200]].concat(),
        version_2(1, 0x11, &[1, 2, 3]),
        version_2(2, 0x11, &[0; 12]),
        version_2(0, 0, &vec![0; 20_000]),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    for attempt in &attempts {
        let mut client = sidecar.connect();
        let _closed_already = client.try_send([&attempt[..], sidecar.get().as_bytes()].concat());
        client.assert_closed();
    }
    // A second one is no beginning of HTTP.
    let mut client = sidecar.connect();
    client.send("PROXY TCP4 203.0.113.9 192.0.2.1 1 1\r\nPROXY TCP4 127.0.0.1 192.0.2.1 1 1\r\n");
    assert_eq!(client.response().status, 400);
    upstream.assert_untouched();
    until("each to be counted", || failures(&sidecar, "malformed") >= attempts.len() as f64 - 0.5);
    let mut client = sidecar.connect();
    client.send("PROXY TCP4 203.0.113.9 ");
    client.finish_sending();
    client.assert_closed();
    until("the end to be counted", || failures(&sidecar, "aborted") > 0.5);
    assert_eq!(ask(&sidecar, "PROXY TCP4 203.0.113.9 192.0.2.1 1 1\r\n").status, 200);
}

#[test]
fn who_may_not_speak_it_is_closed_unread() {
    let upstream = Upstream::echo();
    let lines = REQUIRED.replace("127.0.0.1/32", "127.0.0.2/32");
    let sidecar = Sidecar::in_front_of(&upstream).listener(&lines).start();
    let mut client = sidecar.connect();
    let _closed_already = client.try_send("PROXY TCP4 203.0.113.9 192.0.2.1 1 1\r\n");
    let _closed_already = client.try_send(sidecar.get());
    client.assert_closed();
    upstream.assert_untouched();
    until("it to be counted", || failures(&sidecar, "untrusted") > 0.5);
}

#[test]
fn a_header_that_does_not_come_on() {
    let upstream = Upstream::echo();
    let sidecar =
        Sidecar::in_front_of(&upstream).listener(REQUIRED).timeouts("header_read_seconds = 1").start();
    let mut silent = sidecar.connect();
    let mut slow = sidecar.connect();
    slow.send("PROXY TCP4 203.0.113.9 192");
    silent.assert_closed();
    slow.assert_closed();
    until("both to be counted", || failures(&sidecar, "timeout") > 1.5);
}

#[test]
fn a_drain_waits_for_no_header() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).listener(REQUIRED).start();
    let mut waiting = sidecar.connect();
    waiting.send("PROXY TCP4 203.0.113.9 ");
    until("it to be accepted", || sidecar.metric("postern_connections{listener=\"main\"}") > 0.5);
    sidecar.stop();
    waiting.assert_closed();
}

/// A sidecar over TLS, and the authority of its certificate.
fn over_tls(upstream: &Upstream) -> (SidecarBuilder, Authority) {
    let authority = Authority::new();
    let certificate = authority.certificate(&[HOST]);
    let lines = format!(
        "{REQUIRED}\n[listeners.tls]\ncertificates = [{{ certificate_file = \"a.crt\", key_file = \"a.key\" }}]"
    );
    let builder = Sidecar::in_front_of(upstream)
        .listener(&lines)
        .file("a.crt", &certificate.pem)
        .file("a.key", &certificate.key_pem);
    (builder, authority)
}

#[test]
fn tls_and_http_2_come_behind_the_header() {
    let upstream = Upstream::echo();
    let (builder, authority) = over_tls(&upstream);
    let sidecar = builder.start();
    let mut client = sidecar.connect();
    client.send("PROXY TCP4 203.0.113.9 192.0.2.1 1 1\r\n");
    let mut client = client.over_tls(HOST, authority.client(&[&TLS13], &["http/1.1"])).unwrap();
    assert_eq!(told(&client.request(sidecar.get())).0, "203.0.113.9");
    // A header within TLS is none.
    let mut client = sidecar.connect();
    let _closed_already = client.try_send(b"\x16\x03\x01");
    client.assert_closed();

    let plain = Sidecar::in_front_of(&upstream).listener(REQUIRED).start();
    let mut socket = TcpStream::connect(plain.address()).unwrap();
    socket.write_all(&version_2_from(Ipv4Addr::new(203, 0, 113, 9))).unwrap();
    let mut client = Http2Client::over(socket);
    assert_eq!(told(&client.request(support::http2::get(&plain, "/"))).0, "203.0.113.9");
}

#[test]
fn a_reload_changes_who_may_speak_it() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).listener(REQUIRED).start();
    assert_eq!(ask(&sidecar, "PROXY TCP4 203.0.113.9 192.0.2.1 1 1\r\n").status, 200);
    let text = fs::read_to_string(sidecar.config_file()).unwrap();
    assert!(text.contains(REQUIRED));
    fs::write(sidecar.config_file(), text.replace(REQUIRED, "")).unwrap();
    until("the listener to go on without", || {
        let mut client = sidecar.connect();
        let _closed_before = client.try_send(sidecar.get());
        client.try_response().is_ok_and(|response| response.status == 200)
    });
}

/// A connection from another address of this machine.
fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

#[test]
fn haproxy_speaks_it_in_all_versions() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener(REQUIRED)
        .organization("[organization.authentication]\nallowed_ip_ranges = [\"127.0.0.5/32\"]")
        .start();
    let ways = [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2 check inter 100ms",
    ];
    let Some((_process, _folder, addresses)) = peers::haproxy(&sidecar.address().to_string(), &ways) else {
        return;
    };
    for (address, way) in addresses.iter().zip(ways) {
        let mut client = Client::on(connect_from("127.0.0.5", *address));
        assert_eq!(told(&client.request(sidecar.get())).0, "127.0.0.5", "{way}");
        let mut stranger = Client::on(connect_from("127.0.0.6", *address));
        stranger.request(sidecar.get()).assert_error(403, "ip_not_allowed_by_organization");
        let mut client = Http2Client::over(connect_from("127.0.0.5", *address));
        let response = client.request(support::http2::get(&sidecar, "/"));
        assert_eq!(told(&response).0, "127.0.0.5", "{way}");
    }
    assert!(failures(&sidecar, "malformed") < 0.5);
}

#[test]
fn curl_speaks_it_before_tls() {
    let Some(curl) = peers::program("curl") else { return };
    let upstream = Upstream::echo();
    let (builder, authority) = over_tls(&upstream);
    let sidecar = builder.file("ca.pem", &authority.pem()).start();
    for protocol in ["--http1.1", "--http2"] {
        let text = peers::run(
            Command::new(&curl)
                .args(["-sS", "--fail-with-body", "--haproxy-protocol", protocol])
                .arg("--cacert")
                .arg(sidecar.folder().join("ca.pem"))
                .args(["--connect-to", &format!("{HOST}:443:{}", sidecar.address())])
                .args(["-H", &format!("Authorization: Bearer {}", sidecar.permitted.token)])
                .arg(format!("https://{HOST}/")),
        );
        assert!(text.contains("x-forwarded-for: 127.0.0.1\n"), "{protocol}: {text}");
    }
}
