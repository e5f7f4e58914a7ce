//! Row 8: `Connection` lists what is not to go on. What it lists goes first, and Postern's own lines come afterwards.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, forwarded, http1, http2, refused};

pub(super) const ROW: Row = Row {
    number: 8,
    attack: "Connection: x-postern-user-id, authorization",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_08() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let get = |lines: &str, outcome: Outcome| {
        http1(format!("GET /items HTTP/1.1\r\n<usual>\r\n{lines}\r\n\r\n"), outcome)
    };
    let listed = [
        "x-postern-user-id, authorization",
        "X-POSTERN-USER-ID,AUTHORIZATION",
        "x-postern-user-id, x-postern-user-kind, x-postern-organization-id, x-postern-project, x-postern-token-prefix",
        "x-postern-request-id",
        "x_postern_user_id, x.postern.user.id",
        "host",
        "x-forwarded-for, x-forwarded-proto, x-forwarded-host, forwarded",
        "traceparent",
        "keep-alive, x-postern-user-id, close-not",
        ",, ,x-postern-user-id,",
        "connection",
        "transfer-encoding, content-length, te, upgrade, expect",
        "\u{e9}, (, x-postern-user-id",
    ]
    .map(|list| {
        let forged = "X-Postern-User-Id: forged\r\nX-Postern-Project: forged\r\nX_Postern_User_Id: forged";
        get(&format!("Connection: {list}\r\n{forged}"), forwarded("/items"))
    });
    let others = [
        get(
            "Connection: x-mine\r\nX-Mine: 1\r\nX-Other: 2",
            forwarded("/items").without(&["x-mine"]).with("x-other", &["2"]),
        ),
        get("X-Mine: 1\r\nx-mine: 2\r\nConnection: X-Mine", forwarded("/items").without(&["x-mine"])),
        get(
            "Connection: x-a\r\nConnection: x-b\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3",
            forwarded("/items").without(&["x-a", "x-b"]).with("x-c", &["3"]),
        ),
        get(
            "Connection: cookie\r\nCookie: a=1\r\nX-A: 1",
            forwarded("/items").without(&["cookie"]).with("x-a", &["1"]),
        ),
        get("Connection: close, x-a\r\nX-A: 1", forwarded("/items").without(&["x-a"])),
        // Where a body ends is not for a list to hide.
        http1(
            "POST /items HTTP/1.1\r\n<usual>\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello",
            forwarded("/items").with("content-length", &["5"]).with_body("hello"),
        ),
        http1(
            "POST /items HTTP/1.1\r\n<usual>\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            forwarded("/items").with("transfer-encoding", &["chunked"]).with_body("hello"),
        ),
        // A route that passes the client's token on passes it whatever is listed.
        http1(
            "GET /items HTTP/1.1\r\nHost: passing.test\r\n<auth>Connection: authorization\r\n\r\n",
            forwarded("/items").at("passing.test").with("authorization", &["Bearer <token>"]),
        ),
        // On an open route nobody is identified, and a list does not change that.
        http1(
            "GET /items HTTP/1.1\r\nHost: open.test\r\n<auth>Connection: x-postern-user-id\r\nX-Postern-User-Id: forged\r\n\r\n",
            forwarded("/items").at("open.test").for_anybody(),
        ),
        // What a route was chosen by must be what the service sees.
        http1(
            "GET /items HTTP/1.1\r\nHost: version.test\r\n<auth>X-Version: 1\r\nConnection: x-version\r\n\r\n",
            Outcome::Answered(400),
        ),
        http1(
            "GET /items HTTP/1.1\r\nHost: version.test\r\n<auth>X-Version: 1\r\nX_Version: 2\r\n\r\n",
            Outcome::Answered(400),
        ),
        http1(
            "GET /items HTTP/1.1\r\nHost: version.test\r\n<auth>X-Version: 1\r\n\r\n",
            forwarded("/items").at("version.test").with("x-version", &["1"]),
        ),
    ];
    let over_http2 = ["x-postern-user-id", "authorization", "close", "x-postern-user-id, authorization"]
        .map(|list| http2(&[("connection", list), ("x-postern-user-id", "forged")], refused(400)));
    let spelled_otherwise = http2(
        &[(":authority", "version.test"), ("x-version", "1"), ("x.version", "2")],
        Outcome::Answered(400),
    );
    [listed.to_vec(), others.to_vec(), over_http2.to_vec(), vec![spelled_otherwise]].concat()
}
