//! Statements of identity as upstreams get and check them, with the verifier of docs/identity-token.md.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what is skipped is said")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use data_encoding::BASE64URL_NOPAD;
use postern::app::control_socket;
use serde_json::{Value, json};
use support::{Sidecar, Upstream};

const HEADER: &str = "x-postern-identity-token";
const ISSUED: &str = "[identity_token]\nissuer = \"https://gate.example.com\"\n";
const WANTED: &str = "[upstreams.identity_token]\naudience = \"https://search.example.com\"\n";

/// The statement that the upstream gets with a permitted GET with these header lines.
#[track_caller]
fn stated(sidecar: &Sidecar, upstream: &Upstream, lines: &str) -> String {
    let before = upstream.requests().len();
    let response = sidecar.request(sidecar.head("GET /items", lines));
    assert_eq!(response.status, 200, "{}", response.text());
    let request = upstream.requests().remove(before);
    let ours = request.names().into_iter().filter(|name| name.replace(['_', '.'], "-") == HEADER);
    assert_eq!(ours.count(), 1, "{request}");
    request.values(HEADER)[0].to_owned()
}

fn claims(statement: &str) -> Value {
    let part = statement.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

fn reload(sidecar: &Sidecar, change: impl FnOnce(String) -> String) {
    let file = sidecar.config_file();
    std::fs::write(&file, change(std::fs::read_to_string(&file).unwrap())).unwrap();
    let report = control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap();
    assert_eq!(serde_json::to_value(report).unwrap()["applied"], true);
}

#[test]
fn the_upstream_is_told_who_asks_whatever_the_client_says() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).upstream(WANTED).more(ISSUED).one_worker().start();
    let forged =
        "X-Postern-Identity-Token: a\r\nx_postern_identity_token: b\r\nX.Postern.Identity.Token: c\r\n";
    let statement = stated(&sidecar, &upstream, forged);
    let claims = claims(&statement);
    let expected = json!({
        "iss": "https://gate.example.com", "aud": "https://search.example.com",
        "sub": sidecar.permitted.user_id, "user_kind": "application", "token_prefix": sidecar.permitted.prefix,
        "organization": "org1a2b3c4d5e6", "project": "demo",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(claims[name], *value, "{name} of {claims}");
    }
    assert!(claims["permissions"].as_array().unwrap().contains(&"service:data:write".into()), "{claims}");
    assert_eq!(stated(&sidecar, &upstream, ""), statement, "shown again");
    let before = upstream.requests().len();
    sidecar.request(format!("GET / HTTP/1.1\r\nHost: open.test\r\n{forged}\r\n"));
    let open = upstream.requests().remove(before);
    assert!(
        !open.to_string().to_lowercase().contains("identity"),
        "nobody is stated on an open route: {open}"
    );
}

#[test]
fn a_reload_turns_it_on_and_off_and_keeps_the_keys() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).upstream(WANTED).more(ISSUED).one_worker().start();
    let first = stated(&sidecar, &upstream, "");
    reload(&sidecar, |text| text.replace(WANTED, &format!("{WANTED}request_id = true\n")));
    let (second, third) = (stated(&sidecar, &upstream, ""), stated(&sidecar, &upstream, ""));
    assert_ne!(claims(&second)["request_id"], claims(&third)["request_id"]);
    assert_eq!(second.split('.').next(), first.split('.').next(), "the same key");
    reload(&sidecar, |text| text.replace(&format!("{WANTED}request_id = true\n"), "").replace(ISSUED, ""));
    let before = upstream.requests().len();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!(upstream.requests()[before].values(HEADER), [""; 0]);
    assert_eq!(sidecar.ops("/.well-known/jwks.json").status, 404);
}

/// The documentation's verifier, in a file.
struct Verifier {
    python: PathBuf,
    folder: tempfile::TempDir,
    keys: String,
}

impl Verifier {
    /// `None` where Python's packages are not installed and need not be.
    #[track_caller]
    fn of(sidecar: &Sidecar) -> Option<Self> {
        let python = support::peers::python_program("python3")?;
        let text = include_str!("../docs/identity-token.md");
        let (_, code) = text.split_once("```python\n").expect("the page has a verifier");
        let (code, _) = code.split_once("```").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("verifier.py"), code).unwrap();
        let keys = format!("http://{}/.well-known/jwks.json", sidecar.ops_address());
        Some(Self { python, folder, keys })
    }

    fn run(&self, statement: &str) -> Output {
        let program = "import json, sys, verifier\n\
                       print(json.dumps(verifier.identity({'X-Postern-Identity-Token': sys.argv[1]})))";
        Command::new(&self.python)
            .args(["-c", program, statement])
            .current_dir(self.folder.path())
            .env("POSTERN_KEYS", &self.keys)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn accepts(&self, statement: &str) -> Value {
        let output = self.run(statement);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    fn refuses(&self, statement: &str, error: &str) {
        let output = self.run(statement);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(error), "{error} was expected: {told}");
    }
}

#[test]
fn the_documented_verifier_accepts_it_and_nothing_else() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).upstream(WANTED).more(ISSUED).one_worker().start();
    let Some(verifier) = Verifier::of(&sidecar) else { return };
    let statement = stated(&sidecar, &upstream, "");
    assert_eq!(verifier.accepts(&statement), claims(&statement));

    let [head, body, signature] = statement.split('.').collect::<Vec<_>>()[..] else { panic!("{statement}") };
    let mut other = claims(&statement);
    other["sub"] = "somebody else".into();
    let other = BASE64URL_NOPAD.encode(other.to_string().as_bytes());
    verifier.refuses(&format!("{head}.{other}.{signature}"), "InvalidSignatureError");
    let none = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    verifier.refuses(&format!("{none}.{body}."), "Error");

    // Another process has other keys, and so has this one after a restart.
    let stranger = Sidecar::in_front_of(&upstream).upstream(WANTED).more(ISSUED).start();
    verifier.refuses(&stated(&stranger, &upstream, ""), "PyJWKClientError");
    // A statement for another service.
    reload(&sidecar, |text| text.replace("https://search.", "https://metrics."));
    verifier.refuses(&stated(&sidecar, &upstream, ""), "InvalidAudienceError");
}
