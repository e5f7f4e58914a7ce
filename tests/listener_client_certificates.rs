//! Client certificates: who has to show one, what is refused, what upstreams are told, and that a resumed session is
//! looked at like any other.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use sha2::{Digest, Sha256};
use support::certificates::{Authority, Certificate};
use support::sidecar::{HOST, SidecarBuilder};
use support::{Client, Http2Client, Response, Sidecar, Upstream, peers, until};

/// The authority of servers and the one of clients.
struct Authorities {
    servers: Authority,
    clients: Authority,
}

impl Authorities {
    fn new() -> Self {
        Self { servers: Authority::new(), clients: Authority::new() }
    }

    /// A sidecar that asks for certificates; further lines of `[listeners.tls.client_certificates]`.
    fn sidecar(&self, upstream: &Upstream, lines: &str) -> SidecarBuilder {
        let certificate = self.servers.certificate(&[HOST]);
        let tables = format!(
            "[listeners.tls]\ncertificates = [{{ certificate_file = \"a.crt\", key_file = \"a.key\" }}]\n\
             [listeners.tls.client_certificates]\nca_file = \"clients.pem\"\n{lines}"
        );
        Sidecar::in_front_of(upstream)
            .listener(&tables)
            .file("a.crt", &certificate.pem)
            .file("a.key", &certificate.key_pem)
            .file("clients.pem", &self.clients.pem())
            .file("servers.pem", &self.servers.pem())
    }

    fn client(&self, certificate: Option<&Certificate>) -> Arc<ClientConfig> {
        self.servers.client_with(certificate, &[&TLS13], &["http/1.1"])
    }
}

/// A response, if the sidecar serves this client at all: over TLS 1.3 a client learns only then whether it does.
fn ask(sidecar: &Sidecar, config: Arc<ClientConfig>) -> Option<Response> {
    ask_with(sidecar, config, "")
}

fn ask_with(sidecar: &Sidecar, config: Arc<ClientConfig>, lines: &str) -> Option<Response> {
    let mut client = Client::connect_tls(sidecar.address(), HOST, config).ok()?;
    client.try_send(sidecar.head("GET /", lines)).ok()?;
    client.try_response().ok()
}

/// What the upstream was told about a client's certificate.
fn told(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let text = response.text();
    let lines = text.lines().filter(|line| line.to_ascii_lowercase().contains("certificate"));
    lines.map(str::to_owned).collect()
}

fn expected(subject: &str, certificate: &Certificate) -> Vec<String> {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&certificate.der));
    vec![
        format!("x-postern-client-certificate-subject: {subject}"),
        format!("x-postern-client-certificate-sha256: {digest}"),
    ]
}

const FORGED: &str = "X-Postern-Client-Certificate-Subject: CN=root\r\nx_postern_client_certificate_subject: CN=root\r\n\
    X.Postern.Client-Certificate-SHA256: 00\r\n";

#[test]
fn a_required_certificate() {
    let (authorities, upstream) = (Authorities::new(), Upstream::echo());
    let sidecar = authorities.sidecar(&upstream, "").start();
    let reader = authorities.clients.client_certificate("reader, main", 1);
    for version in [&TLS12, &TLS13] {
        let config = authorities.servers.client_with(Some(&reader), &[version], &["http/1.1"]);
        let response = ask_with(&sidecar, config, FORGED).unwrap();
        assert_eq!(told(&response), expected("CN=reader\\, main,O=Example", &reader));
    }
    let mut client = Http2Client::connect_tls(
        sidecar.address(),
        HOST,
        authorities.servers.client_with(Some(&reader), &[&TLS13], &["h2"]),
    );
    for _ in 0..2 {
        let response = client.request(support::http2::get(&sidecar, "/"));
        assert_eq!(told(&response), expected("CN=reader\\, main,O=Example", &reader));
    }
    let another_authority = Authority::new().client_certificate("reader, main", 1);
    let of_a_server = authorities.clients.certificate(&[HOST]);
    let expired = authorities.clients.short_lived_client_certificate("late", Duration::ZERO);
    until("it to expire", || ask(&sidecar, authorities.client(Some(&expired))).is_none());
    let served = upstream.requests().len();
    let refused = [None, Some(&another_authority), Some(&expired)];
    for certificate in refused {
        assert_eq!(ask(&sidecar, authorities.client(certificate)), None);
        let old = authorities.servers.client_with(certificate, &[&TLS12], &["http/1.1"]);
        assert_eq!(ask(&sidecar, old), None);
    }
    // Without a word about what it may be used for, it may be used for this.
    assert!(ask(&sidecar, authorities.client(Some(&of_a_server))).is_some());
    assert_eq!(upstream.requests().len(), served + 1);
    let failed = "postern_tls_handshakes_total{listener=\"main\",outcome=\"failed\"}";
    until("each to be counted", || sidecar.metric(failed) > 5.5);
}

#[test]
fn an_optional_certificate_has_to_be_good_if_it_is_shown() {
    let (authorities, upstream) = (Authorities::new(), Upstream::echo());
    let sidecar = authorities.sidecar(&upstream, "mode = \"optional\"").start();
    let response = ask_with(&sidecar, authorities.client(None), FORGED).unwrap();
    assert_eq!(told(&response), Vec::<String>::new());
    let reader = authorities.clients.client_certificate("reader", 1);
    let response = ask_with(&sidecar, authorities.client(Some(&reader)), FORGED).unwrap();
    assert_eq!(told(&response), expected("CN=reader,O=Example", &reader));
    let stranger = Authority::new().client_certificate("reader", 1);
    assert_eq!(ask(&sidecar, authorities.client(Some(&stranger))), None);
    // A certificate is no token.
    let mut client = Client::connect_tls(sidecar.address(), HOST, authorities.client(Some(&reader))).unwrap();
    let response = client.request(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    response.assert_error(401, "missing_credentials");
}

#[test]
fn without_the_table_no_header_of_a_client_passes_for_one() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(told(&sidecar.request(sidecar.head("GET /", FORGED))), Vec::<String>::new());
}

#[test]
fn revoked_certificates_and_lists_that_say_nothing() {
    let (authorities, upstream) = (Authorities::new(), Upstream::echo());
    let (good, revoked) =
        (authorities.clients.client_certificate("good", 1), authorities.clients.client_certificate("bad", 2));
    let start = |list: String| {
        authorities
            .sidecar(&upstream, "crl_file = \"clients-crl.pem\"")
            .file("clients-crl.pem", &list)
            .start()
    };
    let sidecar = start(authorities.clients.revocation_list(&[2], 2100));
    let (good, revoked) = (authorities.client(Some(&good)), authorities.client(Some(&revoked)));
    assert_eq!(ask(&sidecar, Arc::clone(&good)).unwrap().status, 200);
    assert_eq!(ask(&sidecar, Arc::clone(&revoked)), None);
    // A new list is in force without a restart, for sessions from before too.
    fs::write(sidecar.folder().join("clients-crl.pem"), authorities.clients.revocation_list(&[1, 2], 2100))
        .unwrap();
    until("the new list to be in force", || ask(&sidecar, Arc::clone(&good)).is_none());
    // A broken one is not, and leaves the last good one in force.
    fs::write(sidecar.folder().join("clients-crl.pem"), "nonsense").unwrap();
    until("the broken list to be refused", || sidecar.output().contains("no revocation list in"));
    assert_eq!(ask(&sidecar, Arc::clone(&good)), None);

    let out_of_date = start(authorities.clients.revocation_list(&[], 2021));
    assert_eq!(ask(&out_of_date, Arc::clone(&good)), None);
    let of_another = start(Authority::new().revocation_list(&[], 2100));
    assert_eq!(ask(&of_another, good), None);
}

#[test]
fn a_session_that_is_resumed_is_checked_again() {
    let (authorities, upstream) = (Authorities::new(), Upstream::echo());
    let sidecar = authorities.sidecar(&upstream, "").start();
    for version in [&TLS12, &TLS13] {
        let lifetime = Duration::from_secs(6);
        let certificate = authorities.clients.short_lived_client_certificate("brief", lifetime);
        let until_then = SystemTime::now() + lifetime + Duration::from_secs(1);
        let config = authorities.servers.client_with(Some(&certificate), &[version], &["http/1.1"]);
        assert_eq!(sidecar.request_over_tls(&config), (Some(HandshakeKind::Full), true), "{version:?}");
        // While the certificate counts, so does the session, and upstreams are told the same.
        assert_eq!(sidecar.request_over_tls(&config), (Some(HandshakeKind::Resumed), true), "{version:?}");
        let requests = upstream.requests();
        let [.., first, second] = &requests[..] else { panic!("two requests") };
        let name = "x-postern-client-certificate-subject";
        assert_eq!(first.values(name), ["CN=brief,O=Example"]);
        assert_eq!(second.values(name), ["CN=brief,O=Example"]);
        until("the certificate to expire", || SystemTime::now() > until_then);
        let (kind, served) = sidecar.request_over_tls(&config);
        assert_eq!((kind, served), (Some(HandshakeKind::Resumed), false), "{version:?}");
    }
}

#[test]
fn curl_shows_its_certificate() {
    let Some(curl) = peers::program("curl") else { return };
    let (authorities, upstream) = (Authorities::new(), Upstream::echo());
    let reader = authorities.clients.client_certificate("reader", 1);
    let sidecar = authorities
        .sidecar(&upstream, "")
        .file("reader.crt", &reader.pem)
        .file("reader.key", &reader.key_pem)
        .start();
    let command = |with_certificate: bool| {
        let mut command = Command::new(&curl);
        command.current_dir(sidecar.folder()).args(["-sS", "--fail-with-body", "--cacert", "servers.pem"]);
        if with_certificate {
            command.args(["--cert", "reader.crt", "--key", "reader.key"]);
        }
        command
            .args(["--connect-to", &format!("{HOST}:443:{}", sidecar.address())])
            .args(["-H", &format!("Authorization: Bearer {}", sidecar.permitted.token)])
            .arg(format!("https://{HOST}/"));
        command
    };
    let text = peers::run(&mut command(true));
    assert!(text.contains("x-postern-client-certificate-subject: CN=reader,O=Example\n"), "{text}");
    assert!(!command(false).output().unwrap().status.success());
}
