//! Unix socket listeners: who may connect, what a client without an address may do, files that are left behind, and a
//! real HAProxy and curl in front.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use support::sidecar::{HOST, SidecarBuilder};
use support::{Client, Sidecar, Upstream, peers, until};

/// A sidecar with a Unix socket as its second listener, and further lines of that.
fn with_socket(upstream: &Upstream, lines: &str) -> SidecarBuilder {
    let table = format!("[[listeners]]\nname = \"socket\"\naddress = \"unix:proxy.sock\"\n{lines}");
    Sidecar::in_front_of(upstream).more_listeners(&table)
}

fn socket(sidecar: &Sidecar) -> PathBuf {
    sidecar.folder().join("proxy.sock")
}

fn connect(sidecar: &Sidecar) -> UnixStream {
    let stream = UnixStream::connect(socket(sidecar)).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream
}

/// The whole answer to one permitted request.
fn ask(sidecar: &Sidecar, before: &[u8], lines: &str) -> String {
    let mut stream = connect(sidecar);
    stream.write_all(before).unwrap();
    let request = sidecar.head("GET /", &format!("Connection: close\r\n{lines}"));
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn assert_served(answer: &str, x_forwarded_for: &str, node: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("\nx-forwarded-for: {x_forwarded_for}\n")), "{answer}");
    assert!(answer.contains(&format!("for={node};host={HOST};proto=http\n")), "{answer}");
}

#[test]
fn a_client_without_an_address() {
    let upstream = Upstream::echo();
    let sidecar = with_socket(&upstream, "").start();
    assert_served(&ask(&sidecar, b"", "X-Forwarded-For: 203.0.113.9\r\n"), "unknown", "unknown");
    assert_eq!(sidecar.access_log(1)[0]["client_address"], serde_json::Value::Null);
    let stored = || sidecar.directory.stored(&sidecar.permitted.prefix).usage;
    let usage = support::eventually("the use to be in the store", stored);
    assert_eq!(usage.last_ip, None);
    let series = "postern_connections{listener=\"socket\"}";
    let open = connect(&sidecar);
    until("the connection to be counted", || sidecar.metric(series) > 0.5);
    drop(open);
    until("its end to be counted", || sidecar.metric(series) < 0.5);
    // The other listener is as ever.
    assert!(sidecar.request(sidecar.get()).text().contains("x-forwarded-for: 127.0.0.1"));
}

#[test]
fn where_there_are_address_rules_somebody_has_to_say_the_address() {
    let upstream = Upstream::echo();
    let rules = "[organization.authentication]\nallowed_ip_ranges = [\"203.0.113.0/24\", \"::/0\"]";
    let start = |lines: &str| with_socket(&upstream, lines).organization(rules).start();
    let denied = |answer: &str| {
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("ip_not_allowed_by_organization"), "{answer}");
    };
    let forwarded = "X-Forwarded-For: 203.0.113.9\r\n";

    let nobody = start("");
    denied(&ask(&nobody, b"", ""));
    denied(&ask(&nobody, b"", forwarded));

    let by_header = start("trusted_proxies = [\"unix\"]");
    denied(&ask(&by_header, b"", ""));
    denied(&ask(&by_header, b"", "X-Forwarded-For: 198.51.100.1\r\n"));
    assert_served(&ask(&by_header, b"", forwarded), "203.0.113.9, unknown", "unknown");

    let by_protocol = start("proxy_protocol = \"required\"\nproxy_protocol_from = [\"unix\"]");
    denied(&ask(&by_protocol, b"PROXY UNKNOWN\r\n", forwarded));
    denied(&ask(&by_protocol, b"PROXY TCP4 198.51.100.1 127.0.0.1 1 1\r\n", forwarded));
    assert_served(
        &ask(&by_protocol, b"PROXY TCP4 203.0.113.7 127.0.0.1 1 1\r\n", ""),
        "203.0.113.7",
        "203.0.113.7",
    );
}

#[test]
fn all_workers_serve_it() {
    let upstream = Upstream::echo();
    let sidecar = with_socket(&upstream, "").start();
    // Connections that stay: a worker that is waited for does not keep the next one waiting.
    let held: Vec<_> = (0..64).map(|_| connect(&sidecar)).collect();
    for mut stream in held {
        stream.write_all(sidecar.head("GET /", "Connection: close\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn the_file_has_its_mode_and_goes_with_the_process() {
    let upstream = Upstream::echo();
    for (lines, mode) in [("", 0o600), ("mode = \"0660\"", 0o660)] {
        let sidecar = with_socket(&upstream, lines).start();
        let metadata = fs::metadata(socket(&sidecar)).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        sidecar.stop();
        assert!(!socket(&sidecar).exists());
    }
}

#[test]
fn what_has_connected_before_a_drain_is_served() {
    let upstream = Upstream::echo();
    let sidecar = with_socket(&upstream, "").start();
    let mut begun = connect(&sidecar);
    let request = sidecar.get();
    let (first, rest) = request.split_at(20);
    begun.write_all(first.as_bytes()).unwrap();
    until("it to be accepted", || sidecar.metric("postern_connections{listener=\"socket\"}") > 0.5);
    sidecar.signal("TERM");
    until("the socket to be closed", || UnixStream::connect(socket(&sidecar)).is_err());
    begun.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    sidecar.assert_finished();
}

#[test]
fn a_second_process_is_refused_and_harms_nothing() {
    let upstream = Upstream::echo();
    let sidecar = with_socket(&upstream, "").start();
    let second = sidecar.folder().join("second.toml");
    let text = fs::read_to_string(sidecar.config_file()).unwrap();
    let text =
        text.replace("store.db", "second.db").replace("[store]\n", "[store]\ncreate_if_missing = true\n");
    fs::write(&second, text).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("run").arg("--config").arg(&second).output().unwrap()
    };
    let output = run();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(told.contains("another path, or stop what listens there"), "{told}");
    assert!(ask(&sidecar, b"", "").starts_with("HTTP/1.1 200 "));
    // A crash leaves the file, and no one else's way in it.
    sidecar.signal("KILL");
    let _killed = sidecar.wait();
    assert!(socket(&sidecar).exists());
    fs::remove_file(socket(&sidecar)).unwrap();
    fs::write(socket(&sidecar), "precious").unwrap();
    let told = String::from_utf8_lossy(&run().stderr).into_owned();
    assert!(told.contains("or move the file away"), "{told}");
    assert_eq!(fs::read_to_string(socket(&sidecar)).unwrap(), "precious");
}

#[test]
fn curl_over_the_socket() {
    let Some(curl) = peers::program("curl") else { return };
    let upstream = Upstream::echo();
    let sidecar = with_socket(&upstream, "").start();
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let text = peers::run(
            Command::new(&curl)
                .args(["-sS", "--fail-with-body", protocol, "--unix-socket"])
                .arg(socket(&sidecar))
                .args(["-H", &format!("Authorization: Bearer {}", sidecar.permitted.token)])
                .arg(format!("http://{HOST}/")),
        );
        assert!(text.contains("x-forwarded-for: unknown\n"), "{protocol}: {text}");
    }
}

#[test]
fn haproxy_over_the_socket() {
    let upstream = Upstream::echo();
    let lines = "proxy_protocol = \"required\"\nproxy_protocol_from = [\"unix\"]";
    let sidecar = with_socket(&upstream, lines).start();
    let server = format!("unix@{}", socket(&sidecar).display());
    let ways = ["send-proxy", "send-proxy-v2"];
    let Some((_process, _folder, addresses)) = peers::haproxy(&server, &ways) else { return };
    for (address, way) in addresses.iter().zip(ways) {
        let response = Client::connect(*address).request(sidecar.get());
        assert!(response.text().contains("x-forwarded-for: 127.0.0.1\n"), "{way}: {}", response.text());
    }
}
