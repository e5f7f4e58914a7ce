//! The management API under attack by somebody with a stolen token, a found password, or nothing but connections.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use people::{Answer, PASSWORD, Person, made, with_api};
use serde_json::json;
use support::Upstream;

/// A request whose head has been sent and whose body is held back.
struct Held {
    stream: TcpStream,
    body: String,
}

impl Held {
    fn begin(person: &Person, method: &str, path: &str, body: &serde_json::Value) -> Self {
        let request = person.request(method, path, Some(body), "close");
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut stream = person.connect();
        stream.write_all(format!("{head}\r\n\r\n{{").as_bytes()).unwrap();
        // Long enough for the head to have been looked at.
        std::thread::sleep(Duration::from_millis(300));
        Self { stream, body: body[1..].to_owned() }
    }

    fn finish(mut self) -> Answer {
        self.stream.write_all(self.body.as_bytes()).unwrap();
        let mut whole = String::new();
        self.stream.read_to_string(&mut whole).unwrap();
        Answer::parse(&whole)
    }
}

#[test]
fn what_a_token_had_begun_before_it_was_revoked_makes_no_new_one() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    for revoke in ["/v1/me/logout", "/v1/me/expire_tokens"] {
        let jane = anybody.logged_in("jane@example.com", PASSWORD);
        let stolen = jane.post("/v1/access_token", &json!({})).ok();
        let thief = anybody.with(stolen.text("full_token"));
        let minting = Held::begin(&thief, "POST", "/v1/access_token", &json!({ "description": "mine" }));
        let by_session = Held::begin(&jane, "POST", "/v1/access_token", &json!({ "description": "mine" }));
        let extending = Held::begin(
            &thief,
            "PUT",
            &format!("/v1/access_token/{}", stolen.text("token_prefix")),
            &json!({ "max_age_seconds": 315_360_000 }),
        );
        jane.delete(&format!("/v1/access_token/{}", stolen.text("token_prefix"))).ok();
        jane.post(revoke, &json!({})).ok();
        minting.finish().refused(401, "token_revoked");
        by_session.finish().refused(401, "token_revoked");
        extending.finish().refused(401, "token_revoked");
        let jane = anybody.logged_in("jane@example.com", PASSWORD);
        let left = jane.get("/v1/access_token").ok().body["tokens"].clone();
        assert!(!left.to_string().contains("mine"), "{left}");
    }
}
