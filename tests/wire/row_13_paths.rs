//! Row 13: paths that servers read in different ways. What is decided on is what is forwarded, one string; what has two readings
//! is refused. `/admin` is another project's, in which the token's holder may do nothing.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, forwarded, http1, http2, refused};

pub(super) const ROW: Row = Row {
    number: 13,
    attack: "`//`, `/./`, `%2e%2e`, `;`, `\\`, `#`, `%2f`, `%00`, overlong UTF-8",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_13() {
    try_row(&ROW);
}

const REFUSED: &[&str] = &[
    "//admin",
    "//admin/x",
    "/items//admin",
    "/items//",
    "///",
    "/./admin",
    "/items/.",
    "/items/./admin",
    "/items/..",
    "/items/../admin",
    "/items/../../admin",
    "/..",
    "/../admin",
    "/items/..?x",
    "/%2e%2e/admin",
    "/items/%2E%2E/admin",
    "/items/.%2e/admin",
    "/items/%2e./admin",
    "/items/%2e/admin",
    "/items/%2e%2e",
    "/items/%2e%2e?x",
    "/items;/../admin",
    "/items;x",
    "/;/admin",
    "/admin;x",
    "/..;/admin",
    "/items/..;/admin",
    "/items\\admin",
    "/items\\..\\admin",
    "/items%5cadmin",
    "/items%5C..%5Cadmin",
    "/items%2fadmin",
    "/items%2Fadmin",
    "/items%2f..%2fadmin",
    "/%2fadmin",
    "/admin%2f",
    "/admin%00",
    "/admin%00.html",
    "/%00/admin",
    "/items%0d%0aX-A:%20forged",
    "/items%0a",
    "/items%09",
    "/items%1f",
    "/items%7f",
    "/items%",
    "/items%2",
    "/items%zz",
    "/items%2%66admin",
    "/items%u002fadmin",
    "/%c0%ae%c0%ae/admin",
    "/%c0%afadmin",
    "/%e0%80%af/admin",
    "/%f0%80%80%af/admin",
    "/%c1%9cadmin",
    "/%c0%80",
    "/%ed%a0%80",
    "/%f4%90%80%80",
    "/%ff",
    "/%c3",
    "/%c3%28",
    "/%e2%82",
    "/\u{e9}",
    "/items|x",
    "/items\"x",
    "/items<x>",
    "/items^x",
    "/items`x",
    "/items{x}",
];

/// The readings of what passes. Encoded letters, digits and the like mean what they mean plain; other encodings, and the query,
/// stay as they are.
const PASSES: &[(&str, &str)] = &[
    ("/items", "/items"),
    ("/%69tems", "/items"),
    ("/items/", "/items/"),
    ("/administrator", "/administrator"),
    ("/admin.", "/admin."),
    ("/admin%2e", "/admin."),
    ("/admin%20", "/admin%20"),
    ("/Admin", "/Admin"),
    ("/.admin", "/.admin"),
    ("/...", "/..."),
    ("/..admin", "/..admin"),
    ("/%2e%2eadmin", "/..admin"),
    ("/%2561dmin", "/%2561dmin"),
    ("/%252e%252e/admin", "/%252e%252e/admin"),
    ("/items%3b/x", "/items%3b/x"),
    ("/items%23/x", "/items%23/x"),
    ("/items%3f/x", "/items%3f/x"),
    ("/items%c3%a9", "/items%c3%a9"),
    ("/items%E2%82%AC", "/items%E2%82%AC"),
    ("/%7Euser/%41?q=%41//..;", "/~user/A?q=%41//..;"),
    ("/items?/../admin", "/items?/../admin"),
    ("/items?a=%2e%2e%2f%00", "/items?a=%2e%2e%2f%00"),
    ("/items?a;b", "/items?a;b"),
    ("/?", "/?"),
];

/// All of which are `/admin`.
const FORBIDDEN: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?x",
    "/%61dmin",
    "/adm%69n/x",
    "/%61%64%6d%69%6e?x=%2e%2e",
    "/admin/%2ex",
    "/admin/...",
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in REFUSED {
        cases.extend(both(&format!("GET {path}"), &[], "", refused(400)));
    }
    for (path, seen) in PASSES {
        cases.extend(both(&format!("GET {path}"), &[], "", forwarded(seen)));
    }
    for path in FORBIDDEN {
        for method in ["GET", "POST"] {
            cases.extend(both(&format!("{method} {path}"), &[], "", Outcome::Denied(403)));
        }
    }
    // In the other form of a target as well.
    for path in ["//admin", "/items/../admin", "/items%2f..%2fadmin", "/items;x"] {
        let bytes = format!("GET http://service.test{path} HTTP/1.1\r\n<usual>\r\n\r\n");
        cases.push(http1(bytes, refused(400)));
    }
    cases.push(http1("GET http://service.test/%61dmin HTTP/1.1\r\n<usual>\r\n\r\n", Outcome::Denied(403)));
    // A fragment, which no client sends: HTTP/1.1's reader refuses it, HTTP/2's cuts it off before anybody decides.
    for (path, before) in [("/items#/../admin", "/items"), ("/items#", "/items"), ("/items?a#b", "/items?a")]
    {
        cases.push(http1(format!("GET {path} HTTP/1.1\r\n<usual>\r\n\r\n"), refused(400)));
        cases.push(http2(&[(":path", path)], forwarded(before)));
    }
    cases.push(http2(&[(":path", "/admin#/../items")], Outcome::Denied(403)));
    cases.push(http2(&[(":path", "#/admin")], forwarded("/")));
    cases
}
