//! Row 12: more than one credential, of which never the first or the last is taken silently.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, exactly, forwarded, http1, http2, stream};

pub(super) const ROW: Row = Row {
    number: 12,
    attack: "two Authorization headers, a comma list, header and query token together",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_12() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let repeated: &[&[&str]] = &[
        &["Bearer <token>", "Bearer <token>"],
        &["Bearer <token>", "Bearer a-token-that-nobody-has"],
        &["Bearer a-token-that-nobody-has", "Bearer <token>"],
        &["Bearer <token>", "Basic dXNlcjpwYXNz"],
        &["Basic dXNlcjpwYXNz", "Bearer <token>"],
        &["Bearer <token>", ""],
        &["", "Bearer <token>"],
        &["Bearer <token>", "Bearer <token>", "Bearer <token>"],
        // Lists, and what is none.
        &["Bearer <token>, Bearer <token>"],
        &["Bearer <token>,Bearer a-token-that-nobody-has"],
        &["Bearer a-token-that-nobody-has, Bearer <token>"],
        &["Basic dXNlcjpwYXNz, Bearer <token>"],
        &["Bearer <token>,"],
        &[",Bearer <token>"],
        &["Bearer ,<token>"],
        &["Bearer <token> <token>"],
        &["Bearer <token> x"],
        &["Bearer Bearer <token>"],
        &["Bearer\t<token>"],
        &["Bearer=<token>"],
        &["Bearer token=\"<token>\""],
        &["Bearer \"<token>\""],
        &["Basic <token>"],
        &["<token>"],
        &["Bearer"],
        &[""],
    ];
    for values in repeated {
        let fields: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        cases.extend(both("POST /items", &fields, "hello", Outcome::Denied(401)));
    }
    // Names are compared in any case, and lines in between do not part them.
    for lines in [
        "AUTHORIZATION: Bearer <token>\r\nauthorization: Bearer <token>\r\n",
        "Authorization: Bearer <token>\r\nX-A: 1\r\nauthorization: Bearer a-token-that-nobody-has\r\n",
    ] {
        let bytes = format!("GET /items HTTP/1.1\r\nHost: service.test\r\n{lines}\r\n");
        cases.push(http1(bytes, Outcome::Denied(401)));
    }
    let outside_ascii = [
        &b"GET /items HTTP/1.1\r\nHost: service.test\r\nAuthorization: Bearer "[..],
        &[0xff; 40],
        b"\r\n\r\n",
    ];
    cases.push(http1(outside_ascii.concat(), Outcome::Denied(401)));
    // No other header is one.
    for name in ["Proxy-Authorization", "X-Authorization", "X-Api-Key", "Authorization-", "Cookie"] {
        let bytes = format!("GET /items HTTP/1.1\r\nHost: service.test\r\n{name}: Bearer <token>\r\n\r\n");
        cases.push(http1(bytes, Outcome::Unauthenticated));
    }

    // Where a route takes tokens in the query as well.
    for (target, is_denied) in [
        ("/items?access_token=<token>", true),
        ("/items?access_token=a-token-that-nobody-has", true),
        ("/items?access_token=", true),
        ("/items?a=1&access_token=<token>&b=2", true),
        ("/items?%61ccess_token=<token>", true),
        ("/items?Access_Token=1", false),
        ("/items?access_token_=1", false),
    ] {
        let outcome = if is_denied { Outcome::Denied(401) } else { forwarded(target).at("query.test") };
        cases.extend(both(&format!("GET {target}"), &[("host", "query.test")], "", outcome));
    }
    for (target, seen) in [
        ("/items?access_token=<token>&access_token=<token>", None),
        ("/items?access_token=<token>&access_token=", None),
        ("/items?access_token=<token>&access%5ftoken=<token>", None),
        ("/items?access_token=<token>", Some("/items")),
        ("/items?a=1&access_token=<token>&b=2", Some("/items?a=1&b=2")),
    ] {
        let outcome = seen.map_or(Outcome::Denied(401), |seen| forwarded(seen).at("query.test"));
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: query.test\r\n\r\n");
        cases.push(http1(bytes, outcome.clone()));
        let head = exactly(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "query.test"),
            (":path", target),
        ]);
        cases.push(stream(vec![head], outcome));
    }
    // Where it does not, what is in a query is no credential.
    cases.push(http1(
        "GET /items?access_token=<token> HTTP/1.1\r\nHost: service.test\r\n\r\n",
        Outcome::Unauthenticated,
    ));

    // One credential in any case of its scheme.
    for scheme in ["Bearer", "bearer", "BEARER", "aivenv1", "Bearer "] {
        let value = format!("{scheme} <token>");
        cases.extend(both("GET /items", &[("Authorization", value.as_str())], "", forwarded("/items")));
    }
    cases.push(http2(&[], forwarded("/items")));
    cases
}
