//! Row 10: trailers, which come behind everything that was decided, in both directions.

use super::{Protocols, Row, try_row};
use crate::case::{Case, data, exactly, forwarded, head, http1, stream};
use crate::support::http2::get;
use crate::support::{Http2Client, Sidecar, Upstream};

pub(super) const ROW: Row = Row {
    number: 10,
    attack: "trailers with identity, Host, Content-Length, Transfer-Encoding, Authorization",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_10() {
    try_row(&ROW);
}

/// What may not come as a trailer: it frames, routes, authenticates or identifies.
const FORBIDDEN: &[&str] = &[
    "x-postern-user-id",
    "X_Postern_User_Id",
    "x.postern.user.id",
    "x~postern~user~id",
    "x-postern-identity-token",
    "x-postern-request-id",
    "host",
    "content-length",
    "content_length",
    "authorization",
    "proxy-authorization",
    "proxy_authorization",
    "x-forwarded-for",
    "x_forwarded_for",
    "forwarded",
    "x-real-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "traceparent",
    "transfer_encoding",
    "expect",
    "cookie",
    "set-cookie",
    "content-type",
    "content-encoding",
    "content-range",
    "trailer",
    "cache-control",
    "range",
    "max-forwards",
    "www-authenticate",
];

/// And what HTTP/2 forbids anywhere.
const OF_CONNECTIONS: &[&str] =
    &["transfer-encoding", "connection", "te", "upgrade", "keep-alive", "proxy-connection"];

const LIVING: &[(&str, &str)] = &[("grpc-status", "0"), ("grpc-message", "fine"), ("x-checksum", "abc")];

fn cases() -> Vec<Case> {
    let chunked = |lines: &str, trailers: &str| {
        format!(
            "POST /items HTTP/1.1\r\n<usual>\r\nTransfer-Encoding: chunked\r\n{lines}\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        )
    };
    let mut cases = Vec::new();
    let living: String = LIVING.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let seen = forwarded("/items").with_body("hello").with_trailers(LIVING);
    for name in FORBIDDEN.iter().chain(OF_CONNECTIONS) {
        cases.push(http1(chunked("", &format!("{name}: forged\r\n{living}")), seen.clone()));
    }
    for name in FORBIDDEN {
        let lower_case = name.to_lowercase();
        let fields = [&[(lower_case.as_str(), "forged")][..], LIVING].concat();
        cases.push(stream(vec![head(&[(":method", "POST")]), data("hello"), exactly(&fields)], seen.clone()));
    }
    // Those that gRPC needs live, announced or not, with whatever else was announced.
    let announced = "TE: trailers\r\nTrailer: Grpc-Status, X-Postern-User-Id, Authorization\r\n";
    cases.push(http1(
        chunked(announced, &format!("{living}X-Postern-User-Id: forged\r\nAuthorization: Bearer forged\r\n")),
        seen.clone().with("te", &["trailers"]).with("connection", &["te"]),
    ));
    cases.push(stream(
        vec![head(&[(":method", "POST"), ("te", "trailers")]), data("hello"), exactly(LIVING)],
        seen.with("te", &["trailers"]).with("connection", &["te"]),
    ));
    cases
}

#[test]
fn trailers_of_the_service_frame_route_and_identify_nothing_either() {
    let mut living: Vec<_> =
        LIVING.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    living.sort();
    let forbidden: Vec<_> = FORBIDDEN.iter().chain(OF_CONNECTIONS).collect();
    // As many as are taken of a service at once.
    for some in forbidden.chunks(20) {
        let forged: String = some.iter().map(|name| format!("{name}: forged\r\n")).collect();
        let lines: String = LIVING.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let upstream = Upstream::answering(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{forged}{lines}\r\n"
        ));
        let sidecar = Sidecar::in_front_of(&upstream).start();
        let over_1 = sidecar.request(sidecar.head("GET /", "TE: trailers\r\n"));
        let over_2 = Http2Client::connect(sidecar.address()).request(get(&sidecar, "/"));
        for response in [over_1, over_2] {
            assert_eq!(response.text(), "hello");
            let mut trailers = response.trailers.clone();
            trailers.sort();
            assert_eq!(trailers, living);
        }
        // Who has not said that it reads trailers gets none.
        let unasked = sidecar.request(sidecar.get());
        assert_eq!((unasked.text().as_str(), unasked.trailers.len()), ("hello", 0));
    }
}
