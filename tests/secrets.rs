//! Canaries: tokens, passwords, codes and keys go through everything that Postern does, with every log on that there is; afterwards they are
//! looked for in all that it wrote, answered, served, stored and sent on.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use parking_lot::Mutex;
use people::{CHEAP, OTHER_PASSWORD, PASSWORD, Person, app, made, seconds};
use rustls::version::TLS13;
use serde_json::json;
use support::certificates::Authority;
use support::http2::{self, Http2Client};
use support::management::ORGANIZATION;
use support::sidecar::HOST;
use support::{Client, Sidecar, Upstream, until};

const OFFER: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const CLIENT_SECRET: &str = "canary-client-secret-4c1d9e";
const FILE_SECRET: &str = "canary-file-secret-81f7a2";

/// What must be nowhere, each with what it is.
struct Canaries(Vec<(&'static str, String)>);

/// All that was written, answered, served, stored and sent on, each with where.
#[derive(Default)]
struct Traces(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn token(&mut self, what: &'static str, token: &str) {
        // The prefix is public; what follows it is not.
        self.add(what, &token[17..]);
    }

    /// A secret, as it is and in the encodings in which it goes over a wire or might be printed.
    fn add(&mut self, what: &'static str, secret: &str) {
        self.0.push((what, secret.to_owned()));
        self.0.push((what, HEXLOWER.encode(secret.as_bytes())));
        // What stands before it shifts its base64; the middles of the three shifts are always the same.
        for skipped in 0..3 {
            let middle = &secret.as_bytes()[skipped..];
            let whole = middle.len() / 3 * 3;
            self.0.push((what, BASE64.encode(&middle[..whole])));
            self.0.push((what, BASE64URL_NOPAD.encode(&middle[..whole])));
        }
    }

    #[track_caller]
    fn assert_in_none_of(&self, traces: &Traces) {
        for (place, bytes) in &traces.0 {
            assert!(!bytes.is_empty(), "{place} is empty: nothing was looked at");
            for (what, secret) in &self.0 {
                if let Some(position) = support::upstream::find(bytes, secret.as_bytes()) {
                    let around = &bytes[position.saturating_sub(60)..position];
                    panic!("{what} is in {place}, after {:?}", String::from_utf8_lossy(around));
                }
            }
        }
    }
}

impl Traces {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }
}

#[test]
fn no_secret_is_in_anything_that_is_written_answered_stored_or_sent_on() {
    let mut canaries = Canaries(Vec::new());
    let mut traces = Traces::default();
    let upstream = Upstream::echo();
    let collector = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let authority = Authority::new();
    let certificate = authority.certificate(&[HOST]);
    let sidecar = Sidecar::in_front_of(&upstream)
        .more_listeners(
            "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
             [[listeners.tls.certificates]]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n",
        )
        .file("tls.crt", &certificate.pem)
        .file("tls.key", &certificate.key_pem)
        .admin(&format!(
            "{CHEAP}\n[[admin.third_parties]]\nkind = \"google\"\nclient_id = \"someone\"\nclient_secret = {{ file = \"client.secret\" }}\n"
        ))
        .file("client.secret", FILE_SECRET)
        .route("credentials = [\"bearer\", \"basic\", \"websocket_protocol\", \"query\"]")
        .more(&format!(
            "[tracing]\nendpoint = \"http://{}/v1/traces\"\nsampled_per_million = 1000000\n",
            collector.address()
        ))
        .log_level("trace")
        .start();
    canaries.add("the client secret of a file", FILE_SECRET);
    for line in certificate.key_pem.lines().filter(|line| line.len() > 40) {
        canaries.0.push(("the key of a certificate", line.to_owned()));
    }

    let answers = Mutex::new(Vec::new());
    data_plane(&sidecar, &authority, &mut canaries, &answers);
    management(&sidecar, &mut canaries, &answers);
    commands(&sidecar, &mut traces);

    for page in ["/metrics", "/readyz", "/healthz", "/.well-known/jwks.json", "/nowhere"] {
        let response = sidecar.ops(page);
        traces.add(format!("the operators' {page}"), format!("{:?}{}", response.headers, response.text()));
    }
    until("spans to arrive", || !collector.requests().is_empty());
    assert_eq!(limit_on_core_dumps(&sidecar), "0");
    sidecar.stop();
    traces.add("answers", answers.into_inner().join("\n"));
    traces.add("the collector of traces", collector.received());
    traces.add("the service", upstream.received());
    traces.add("the program's log", sidecar.output());
    for file in ["access.log", "store.db"] {
        traces.add(file, fs::read(sidecar.folder().join(file)).unwrap());
    }
    canaries.assert_in_none_of(&traces);
}

/// Good, wrong and mistyped tokens in all places, over all protocols, in requests that are permitted, refused and broken.
fn data_plane(
    sidecar: &Sidecar,
    authority: &Authority,
    canaries: &mut Canaries,
    answers: &Mutex<Vec<String>>,
) {
    let permitted = sidecar.permitted.token.clone();
    let ungranted = sidecar.directory.token(&sidecar.directory.application_user()).token;
    let revoked = sidecar.directory.permitted();
    sidecar.directory.revoke(&revoked.prefix);
    sidecar.wait_for(&sidecar.directory.permitted());
    let mistyped = format!("{}x", &permitted[..54]);
    let unknown = "canary-token-that-nobody-knows-1234567890".to_owned();
    let config = authority.client(&[&TLS13], &[]);
    let config_http2 = authority.client(&[&TLS13], &["h2"]);
    for token in [&permitted, &ungranted, &revoked.token, &mistyped, &unknown] {
        canaries.token("a token", token);
        let basic = format!("Authorization: Basic {}\r\n", BASE64.encode(format!("me:{token}").as_bytes()));
        let protocol = BASE64URL_NOPAD.encode(token.as_bytes());
        let protocol = format!(
            "{OFFER}Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{protocol}, chat\r\n"
        );
        let without =
            |request: &str, lines: &str| format!("{request} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
        for request in [
            sidecar.head_with(token, "GET /", ""),
            sidecar.head_with(token, "GET /nowhere", "").replace(HOST, "unknown.test"),
            sidecar.head_with(token, "TRACE /", ""),
            sidecar.head_with(token, "GET //a", ""),
            sidecar.head_with(token, "GET /", "X-A : b\r\n"),
            sidecar.head_with(token, "GET /", &format!("Authorization: Bearer {token}\r\n")),
            sidecar.head_with(token, "GET /", &format!("Authorization: {token}\r\n")),
            sidecar.head_with(token, &format!("GET /?access_token={token}"), ""),
            without("GET /", &basic),
            without("GET /", &protocol),
            without(&format!("GET /?access_token={token}"), ""),
            without("GET /", &format!("Proxy-Authorization: Bearer {token}\r\n")),
            without("GET /", &format!("Authorization: Bearer\t{token} {token}\r\n")),
        ] {
            let mut clients = vec![sidecar.connect()];
            clients.push(Client::connect_tls(sidecar.listeners[1], HOST, Arc::clone(&config)).unwrap());
            for mut client in clients {
                let response = client.request(&request);
                answers.lock().push(format!("{:?}{}", response.headers, response.text()));
            }
        }
        let mut client = Http2Client::connect_tls(sidecar.listeners[1], HOST, Arc::clone(&config_http2));
        for path in ["/", "/nowhere"] {
            let response = client.request(http2::request_with(token, "GET", path, http2::empty()));
            answers.lock().push(format!("{:?}{}", response.headers, response.text()));
        }
    }
}

/// Passwords, one-time codes, sessions, invitations, clients' secrets. Answers that hand a secret to whom it belongs are not kept.
fn management(sidecar: &Sidecar, canaries: &mut Canaries, answers: &Mutex<Vec<String>>) {
    let stranger = Person::stranger(sidecar);
    let keep = |answer: people::Answer| {
        answers.lock().push(format!("{}{}", answer.head, answer.body));
        answer
    };
    made(sidecar, "jane@example.com", &["--super-admin"]);
    for password in [PASSWORD, OTHER_PASSWORD, "canary-guess-9d3b1c77"] {
        canaries.add("a password", password);
    }
    keep(stranger.log_in("jane@example.com", "canary-guess-9d3b1c77", None));
    keep(stranger.log_in("canary-guess-9d3b1c77", "canary-guess-9d3b1c77", None));
    let jane = stranger.logged_in("jane@example.com", PASSWORD);
    let token =
        jane.post("/v1/access_token", &json!({ "description": "shell", "max_age_seconds": 3600 })).ok();
    canaries.token("a personal token", token.text("full_token"));
    keep(jane.get("/v1/access_token"));
    let organization = |path: &str| format!("/v1/organization/{ORGANIZATION}/{path}");
    let provider = json!({
        "authentication_method_name": "Example's own", "authentication_method_type": "oidc",
        "oidc_issuer": "https://127.0.0.1:1", "oidc_client_id": "someone", "oidc_client_secret": CLIENT_SECRET,
    });
    canaries.add("a client's secret", CLIENT_SECRET);
    keep(jane.post(&format!("/v1/account/{ORGANIZATION}/authentication"), &provider));
    let user = jane.post(&organization("application-users"), &json!({ "name": "billing" })).ok();
    let tokens = organization(&format!("application-users/{}/access-tokens", user.text("user_id")));
    let token = jane.post(&tokens, &json!({ "description": "billing" })).ok();
    canaries.token("an application token", token.text("full_token"));
    for path in [
        tokens.as_str(),
        &organization("events"),
        &organization("config/authentication"),
        "/v1/me",
        "/v1/openapi.json",
    ] {
        keep(jane.get(path));
    }
    keep(jane.put("/v1/me/password", &json!({ "password": PASSWORD, "new_password": "short" })));
    // Whatever was made with the password alone has ended after this.
    let begun = jane.put("/v1/me/2fa", &json!({ "method": "totp", "password": PASSWORD })).ok();
    let uri = begun.text("uri").to_owned();
    let secret = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    canaries.add("the secret of one-time codes", &secret);
    let code = app(&uri, "jane@example.com").password_at(seconds());
    keep(jane.put("/v1/me/2fa/otp", &json!({ "otp": code, "password": PASSWORD, "uri": uri })));
}

/// What the command line prints of all this.
fn commands(sidecar: &Sidecar, traces: &mut Traces) {
    for command in ["token list", "events", "check", "policy show", "application-user list"] {
        let output = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(command.split(' '))
            .args(["--json", "--config"])
            .arg(sidecar.config_file())
            .output()
            .unwrap();
        traces.add(format!("postern {command}"), [output.stdout, output.stderr].concat());
    }
}

/// The soft limit that the running process has.
fn limit_on_core_dumps(sidecar: &Sidecar) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", sidecar.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}
