//! Row 15: bodies that nobody has read when the answer is given. They are drained up to a measure, or the connection ends: what is
//! left of them is never a request.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, data, forwarded, head, http1, stream};
use crate::place::Place;
use crate::support::sidecar::HOST;

pub(super) const ROW: Row = Row {
    number: 15,
    attack: "an unread body behind an early answer",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_15() {
    try_row(&ROW);
}

/// A whole request, in a body, to a host that asks for no token.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: open.test\r\n\r\n";

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Answered before the body is looked at: for who holds no token, and for who holds one.
    for (request, outcome) in [
        ("POST /admin", Outcome::Denied(403)),
        ("GET /admin", Outcome::Denied(403)),
        ("DELETE /admin/x", Outcome::Denied(403)),
        ("HEAD /admin", Outcome::Denied(403)),
        ("TRACE /items", Outcome::Answered(405)),
        ("POST /items//", Outcome::Refused(400)),
    ] {
        cases.extend(both(request, &[], HIDDEN, outcome.clone()));
        let padded = format!("{HIDDEN}{}", " ".repeat(20_000));
        cases.extend(both(request, &[], &padded, outcome.clone()));
        let (method, target) = request.split_once(' ').unwrap();
        // More than is drained.
        let long = format!("{HIDDEN}{}", "x".repeat(200_000));
        cases.push(with_length(method, target, &long, outcome.clone()));
        cases.push(in_chunks(method, target, HIDDEN, outcome));
    }
    cases.extend(both("POST /items", &[("Expect", "200-ok")], HIDDEN, Outcome::Answered(417)));
    cases.extend(both("POST /items", &[("host", "unknown.test")], HIDDEN, Outcome::Denied(404)));
    cases.push(with_length("OPTIONS", "*", HIDDEN, Outcome::Answered(204)));
    // A body that the service reads is one, with whatever method: what looks like a request in it is none.
    let inner = "GET /inner HTTP/1.1\r\nHost: service.test\r\n\r\n";
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        cases.extend(both(&format!("{method} /items"), &[], inner, forwarded("/items").with_body(inner)));
        cases.push(in_chunks(method, "/items", inner, forwarded("/items").with_body(inner)));
    }
    // Whatever is pipelined is answered in its order.
    let statuses = [200, 404, 503, 200, 400, 426, 200, 500];
    let pipelined: String =
        statuses.map(|status| format!("GET /answer/{status} HTTP/1.1\r\n<usual>\r\n\r\n")).concat();
    let [first, rest @ ..] = statuses.map(|status| forwarded(&format!("/answer/{status}")).answering(status));
    cases.push(rest.into_iter().fold(http1(pipelined, first), Case::and));
    // Data behind what was answered is the stream's own affair.
    cases.push(stream(
        vec![head(&[(":method", "POST"), (":path", "/admin")]), data(HIDDEN), data(HIDDEN), data("")],
        Outcome::Denied(403),
    ));
    cases
}

fn with_length(method: &str, target: &str, body: &str, outcome: Outcome) -> Case {
    let length = body.len();
    http1(format!("{method} {target} HTTP/1.1\r\n<usual>\r\nContent-Length: {length}\r\n\r\n{body}"), outcome)
}

fn in_chunks(method: &str, target: &str, body: &str, outcome: Outcome) -> Case {
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head = format!("{method} {target} HTTP/1.1\r\n<usual>\r\nTransfer-Encoding: chunked\r\n\r\n");
    http1(head + &chunks, outcome)
}

/// A length without a body: the connection ends with the client, without a request out of nothing.
#[test]
fn a_length_without_a_body() {
    let place = Place::start();
    let token = &place.sidecar.permitted.token;
    for (authorization, path, status) in
        [(String::new(), "/items", 401), (format!("Authorization: Bearer {token}\r\n"), "/admin", 403)]
    {
        let mut client = place.sidecar.connect();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{authorization}Content-Length: 1000\r\n\r\n"
        ));
        assert_eq!(client.response().status, status);
        client.finish_sending();
        client.assert_closed();
    }
    place.upstream.assert_untouched();
}

/// Not all at once: what comes of the body after the answer is no request either.
#[test]
fn a_body_that_comes_behind_its_answer() {
    let place = Place::start();
    let hidden = place.sidecar.head("GET /smuggled", "");
    for size in [hidden.len(), 200_000] {
        let mut client = place.sidecar.connect();
        client.send(format!("POST /items HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n"));
        assert_eq!(client.response().status, 401);
        let mut body = hidden.clone().into_bytes();
        body.resize(size, b' ');
        // The sidecar may have closed by now.
        let _closed = client.try_send(&body);
        if client.try_send(place.sidecar.head("GET /honest", "")).is_ok()
            && let Ok(next) = client.try_response()
        {
            assert!(next.text().starts_with("GET /honest\n"), "{}", next.text());
        }
    }
    let seen = place.upstream.requests();
    assert!(seen.iter().all(|request| request.target == "/honest"), "{seen:?}");
}
