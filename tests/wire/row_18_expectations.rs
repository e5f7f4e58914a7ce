//! Row 18: clients that hold their bodies back until they are told to send them, and expectations that nobody can meet.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, forwarded, http1};
use crate::place::Place;

pub(super) const ROW: Row = Row {
    number: 18,
    attack: "Expect: 100-continue with a bad token; an unknown expectation",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_18() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "200-ok",
        "100-continue, 200-ok",
        "200-ok, 100-continue",
        "100-continue, 100-continue",
        "100-continued",
        "100",
        "100-continue;q=1",
        "",
    ] {
        cases.extend(both("POST /items", &[("Expect", value)], "hello", Outcome::Answered(417)));
        cases.extend(both("GET /items", &[("Expect", value)], "", Outcome::Answered(417)));
    }
    for (first, second) in [("100-continue", "200-ok"), ("200-ok", "100-continue")] {
        let fields = [("Expect", first), ("Expect", second)];
        cases.extend(both("POST /items", &fields, "hello", Outcome::Answered(417)));
    }
    // A body that comes at once has not been held back; the service has nothing to expect either.
    for value in ["100-continue", "100-Continue"] {
        let seen = forwarded("/items").with_body("hello");
        cases.extend(both("POST /items", &[("Expect", value)], "hello", seen));
        cases.extend(both("GET /items", &[("Expect", value)], "", forwarded("/items")));
    }
    let version_1_0 =
        "POST /items HTTP/1.0\r\n<usual>\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    cases.push(http1(version_1_0, forwarded("/items").with_body("hello")));
    cases
}

#[test]
fn who_is_refused_is_not_told_to_go_on() {
    let place = Place::start();
    let sidecar = &place.sidecar;
    for lines in [
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
        "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
    ] {
        for (head, status, code) in [
            (sidecar.head_with("a-token-of-somebody-else", "POST /items", lines), 401, "invalid_token"),
            (
                format!("POST /items HTTP/1.1\r\nHost: service.test\r\n{lines}\r\n"),
                401,
                "missing_credentials",
            ),
            (sidecar.head("POST /admin", lines), 403, "permission_denied"),
        ] {
            let mut client = sidecar.connect();
            client.send(head);
            // The first that comes is the answer: no 100 before it.
            let answer = client.response();
            answer.assert_error(status, code);
            // What a client would send now, a body or a request, nobody could tell apart.
            assert_eq!(answer.values("connection"), ["close"]);
            client.assert_closed();
        }
    }
    place.upstream.assert_untouched();
}

#[test]
fn who_is_let_in_is_told_to_go_on() {
    let place = Place::start();
    let mut client = place.sidecar.connect();
    client.send(place.sidecar.head("POST /items", "Content-Length: 5\r\nExpect: 100-continue\r\n"));
    assert_eq!(client.response().status, 100);
    client.send("hello");
    assert_eq!(client.response().status, 200);
    assert_eq!(place.upstream.only_request().body, b"hello");
    assert_eq!(place.upstream.only_request().header("expect"), None);
}
