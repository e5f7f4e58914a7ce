//! What a connection to an upstream is made of: Unix sockets, certificates that it asks for, authorities of the system.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use support::certificates::Authority;
use support::peers::{self, Process};
use support::{Peer, Sidecar, Upstream, eventually, until};

fn answering(peer: &mut Peer) {
    while peer.read_request().is_some() {
        peer.respond(200, &[], b"over TLS");
    }
}

#[test]
fn an_nginx_behind_a_unix_socket() {
    let Some(program) = peers::program("nginx") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let configuration = format!(
        "daemon off; master_process off; pid {path}/nginx.pid; events {{ worker_connections 64; }}
         http {{
           access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
           fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
           server {{
             listen unix:{path}/nginx.sock;
             location / {{ return 200 \"$host $connection_requests\"; }}
             location = /healthy {{ return 204; }}
           }}
         }}"
    );
    fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let child = Command::new(program)
        .arg("-p")
        .arg(folder.path())
        .args(["-c", "nginx.conf", "-e", "error.log"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let nginx = Process(child);
    until("nginx to listen", || folder.path().join("nginx.sock").exists());
    let sidecar = Sidecar::with_endpoint(format!("unix:{path}/nginx.sock"))
        .one_worker()
        .upstream(
            "[upstreams.health]\nkind = \"http\"\npath = \"/healthy\"\ninterval_seconds = 1\ntimeout_seconds = 1\n\
             healthy_threshold = 1\nunhealthy_threshold = 1",
        )
        .start();
    let mut client = sidecar.connect();
    for request in 1..=3 {
        assert_eq!(client.request(sidecar.get()).text(), format!("service.test {request}"), "one connection");
    }
    let state = |state: &str| {
        format!(
            "postern_upstream_addresses{{upstream=\"service\",endpoint=\"unix:{path}/nginx.sock\",state=\"{state}\"}}"
        )
    };
    assert!(sidecar.metric(&state("healthy")) > 0.5);
    drop(nginx);
    until("it to be unhealthy", || sidecar.metric(&state("unhealthy")) > 0.5);
    sidecar.request(sidecar.get()).assert_error(503, "upstream_unhealthy");
}

#[test]
fn a_unix_socket_that_nobody_listens_at_and_one_that_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.sock");
    let sidecar = Sidecar::with_endpoint(format!("unix:{}", path.display())).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    for _ in 0..2 {
        // As services do when they start.
        let _removed = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let service = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        assert_eq!(sidecar.request(sidecar.get()).text(), "hi");
        assert!(service.join().unwrap().to_lowercase().contains("host: service.test"));
    }
}

#[test]
fn a_service_that_asks_for_a_certificate_is_shown_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let service = authority.certificate(&["127.0.0.1"]).server_for(&clients);
    let upstream = Upstream::start_tls(service, answering);
    let with = |certificate: Option<support::certificates::Certificate>| {
        let sidecar = Sidecar::in_front_of(&upstream).file("ca.pem", &authority.pem());
        match certificate {
            None => sidecar.upstream("[upstreams.tls]\nca_file = \"ca.pem\""),
            Some(certificate) => sidecar
                .file("own.pem", &certificate.pem)
                .file("own-key.pem", &certificate.key_pem)
                .upstream("[upstreams.tls]\nca_file = \"ca.pem\"\ncertificate_file = \"own.pem\"\nkey_file = \"own-key.pem\""),
        }
        .start()
    };
    let known = with(Some(clients.certificate(&["postern"])));
    let mut client = known.connect();
    for _ in 0..3 {
        assert_eq!(client.request(known.get()).text(), "over TLS");
    }
    let arrived = upstream.requests().len();
    for sidecar in [with(None), with(Some(Authority::new().certificate(&["postern"])))] {
        assert_eq!(sidecar.request(sidecar.get()).status, 502);
    }
    assert_eq!(upstream.requests().len(), arrived, "nobody else gets in");
}

#[test]
fn a_certificate_that_was_renewed_is_shown_from_then_on() {
    let (authority, before, after) = (Authority::new(), Authority::new(), Authority::new());
    let service = authority.certificate(&["127.0.0.1"]).server_for(&after);
    let upstream = Upstream::start_tls(service, answering);
    let (old, new) = (before.certificate(&["postern"]), after.certificate(&["postern"]));
    let sidecar = Sidecar::in_front_of(&upstream)
        .file("ca.pem", &authority.pem())
        .file("own.pem", &old.pem)
        .file("own-key.pem", &old.key_pem)
        .upstream("[upstreams.tls]\nca_file = \"ca.pem\"\ncertificate_file = \"own.pem\"\nkey_file = \"own-key.pem\"")
        .start();
    assert_eq!(sidecar.request(sidecar.get()).status, 502);
    // Until both are there they do not belong together, and the old ones stay in use.
    fs::write(sidecar.folder().join("own.pem"), &new.pem).unwrap();
    fs::write(sidecar.folder().join("own-key.pem"), &new.key_pem).unwrap();
    until("the new one to be shown", || sidecar.request(sidecar.get()).status == 200);
}

#[test]
fn without_a_file_the_systems_authorities_are_believed_and_no_others() {
    let (system, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("system.pem");
    fs::write(&authorities, system.pem()).unwrap();
    let behind = |authority: &Authority| {
        Upstream::start_tls(authority.certificate(&["127.0.0.1"]).server(), answering)
    };
    let in_front_of = |upstream: &Upstream| {
        Sidecar::in_front_of(upstream)
            .upstream("tls = {}")
            .variable("SSL_CERT_FILE", &authorities.display().to_string())
            .start()
    };
    let (known, unknown) = (behind(&system), behind(&stranger));
    let sidecar = in_front_of(&known);
    assert_eq!(sidecar.request(sidecar.get()).text(), "over TLS");
    let sidecar = in_front_of(&unknown);
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    unknown.assert_untouched();
    let said = eventually("the reason in the log", || {
        let output = sidecar.output();
        output.contains("an upstream fails").then_some(output)
    });
    assert!(said.contains("invalid peer certificate"), "{said}");
}
