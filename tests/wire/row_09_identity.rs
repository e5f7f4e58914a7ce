//! Row 9: headers that say who asks, in any spelling that a service might take for Postern's.

use super::{Protocols, Row, try_row};
use crate::case::{Case, both, forwarded};

pub(super) const ROW: Row = Row {
    number: 9,
    attack: "identity headers in any spelling",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_09() {
    try_row(&ROW);
}

const NAMES: &[&str] = &[
    "x-postern-user-id",
    "x-postern-user-kind",
    "x-postern-organization-id",
    "x-postern-project",
    "x-postern-token-prefix",
    "x-postern-request-id",
    "x-postern-identity-token",
    "x-postern-anything-else",
    "x-postern-",
];

/// In place of the dashes. CGI and what came after it make the same variable of the first three at least; some servers of every
/// character that is neither letter nor digit.
const SEPARATORS: &[&str] = &["-", "_", ".", "!", "#", "$", "%", "&", "'", "*", "+", "^", "`", "|", "~"];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for separator in SEPARATORS {
        let spelled: Vec<_> = NAMES.iter().map(|name| name.replace('-', separator)).collect();
        let fields: Vec<_> = spelled.iter().map(|name| (name.as_str(), "forged")).collect();
        cases.extend(both("GET /items", &fields, "", forwarded("/items")));
        let open = [&[("host", "open.test")][..], &fields].concat();
        cases.extend(both("GET /items", &open, "", forwarded("/items").at("open.test").for_anybody()));
    }
    for name in [
        "X-Postern-User-Id",
        "X-POSTERN-USER-ID",
        "x-PoStErN-uSeR-iD",
        "X_Postern.User-Id",
        "x-postern_user.id",
        "X.POSTERN_USER_ID",
        "x_postern-user-id",
    ] {
        cases.extend(both("GET /items", &[(name, "forged")], "", forwarded("/items")));
        cases.extend(both(
            "POST /items",
            &[(name, "forged"), (name, "forged")],
            "hello",
            forwarded("/items").with_body("hello"),
        ));
    }
    // Others' names stay theirs.
    cases.extend(both(
        "GET /items",
        &[("X-Posternal", "1"), ("Y-Postern-User-Id", "2"), ("X-User-Id", "3")],
        "",
        forwarded("/items")
            .with("x-posternal", &["1"])
            .with("y-postern-user-id", &["2"])
            .with("x-user-id", &["3"]),
    ));
    cases
}
