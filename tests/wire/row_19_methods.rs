//! Row 19: methods that are the proxy's own.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, exactly, forwarded, http1, http2, refused, stream};
use crate::place::Place;

pub(super) const ROW: Row = Row {
    number: 19,
    attack: "CONNECT, TRACE, OPTIONS *",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_19() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(both("TRACE /items", &[], "", Outcome::Answered(405)));
    cases.extend(both("TRACE /items", &[("Max-Forwards", "0")], "hello", Outcome::Answered(405)));
    cases.extend(both("TRACE /items", &[("host", "open.test")], "", Outcome::Answered(405)));
    for target in ["service.test:443", "open.test:80", "127.0.0.1:22", "[::1]:80"] {
        cases.push(http1(
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n<auth>\r\n"),
            Outcome::Answered(405),
        ));
        // No tunnel: what follows is a request of its own.
        cases.push(
            http1(
                format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n<auth>\r\nGET /smuggled HTTP/1.1\r\nHost: service.test\r\n\r\n"),
                Outcome::Answered(405),
            )
            .and(Outcome::Unauthenticated),
        );
        let head = [(":method", "CONNECT"), (":authority", target), ("authorization", "<auth>")];
        cases.push(stream(vec![exactly(&head)], Outcome::Answered(405)));
        cases.push(stream(
            vec![exactly(&head), crate::case::data("GET /smuggled HTTP/1.1\r\n\r\n")],
            Outcome::Answered(405),
        ));
    }
    for target in
        ["/", "*", "service.test", "http://service.test:80/", "service.test:", "user@service.test:80", ":80"]
    {
        cases.push(http1(format!("CONNECT {target} HTTP/1.1\r\n<usual>\r\n\r\n"), refused(400)));
    }
    // Nobody has to say who they are to ask what the proxy takes, and the service is not asked.
    cases.push(http1("OPTIONS * HTTP/1.1\r\n<usual>\r\n\r\n", Outcome::Answered(204)));
    cases.push(http1("OPTIONS * HTTP/1.1\r\nHost: open.test\r\n\r\n", Outcome::Answered(204)));
    cases.push(http2(&[(":method", "OPTIONS"), (":path", "*")], Outcome::Answered(204)));
    for method in ["GET", "POST", "DELETE"] {
        cases.push(http1(format!("{method} * HTTP/1.1\r\n<usual>\r\n\r\n"), refused(400)));
        cases.push(http2(&[(":method", method), (":path", "*")], refused(400)));
    }
    cases.extend(both("OPTIONS /items", &[], "", forwarded("/items")));
    cases
}

#[test]
fn what_is_not_served_says_what_is() {
    let place = Place::start();
    for request in [
        place.sidecar.head("TRACE /items", ""),
        "CONNECT service.test:443 HTTP/1.1\r\nHost: service.test:443\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: service.test\r\n\r\n".to_owned(),
    ] {
        let response = place.sidecar.request(&request);
        let allowed = response.header("allow").unwrap_or_else(|| panic!("{request:?}: {response:?}"));
        assert!(!allowed.contains("CONNECT") && !allowed.contains("TRACE"), "{request:?}: {allowed}");
        // TRACE would repeat what the request carries.
        assert!(!response.text().contains(&place.sidecar.permitted.token), "{response:?}");
    }
    place.upstream.assert_untouched();
}
