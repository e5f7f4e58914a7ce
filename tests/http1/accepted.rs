//! What real clients send must arrive unchanged, whole and in pieces.

use bytes::Bytes;

use crate::support::{Outcome, Seen, Then, cut, drip, serve};

const CURL: &str = "GET /api/v1/query?query=up HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
    Authorization: Bearer psta_0123456789abcdefghij\r\n\r\n";

/// Serves the bytes whole, byte by byte, pipelined, and cut in two everywhere; the service sees the same.
#[track_caller]
fn accepted(bytes: impl AsRef<[u8]>) -> Seen {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
    let whole = one(serve(vec![Bytes::copy_from_slice(bytes)], Then::Closes), &shown);
    assert_eq!(one(serve(drip(bytes), Then::Closes), &shown), whole, "byte by byte: {shown}");
    for at in 1..bytes.len().min(600) {
        assert_eq!(one(serve(cut(bytes, [at]), Then::Closes), &shown), whole, "cut at {at}: {shown}");
    }
    whole
}

#[track_caller]
fn one(outcome: Outcome, shown: &str) -> Seen {
    assert_eq!(outcome.statuses(), [200], "{shown}");
    assert_eq!(outcome.seen.len(), 1, "{shown}");
    outcome.seen.into_iter().next().unwrap()
}

#[test]
fn heads_of_real_clients() {
    for head in [
        CURL,
        "GET /metrics HTTP/1.1\r\nHost: 10.0.0.1:9090\r\nUser-Agent: Prometheus/3.1.0\r\nAccept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.1\r\n\
         Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
        "GET /_cluster/health HTTP/1.1\r\nHost: [2001:db8::1]:9200\r\nConnection: Keep-Alive\r\nUser-Agent: Apache-HttpClient/5.2 (Java/17.0.9)\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Java/1.8.0_392\r\nAccept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2\r\nConnection: keep-alive\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: localhost:3000\r\nConnection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\nAccept-Language: de-DE,de;q=0.9\r\n\
         Cookie: a=b; c=\"d e\"; theme=dark\r\n\r\n",
        "GET /query?q=SELECT%20*%20FROM%20cpu&db=x HTTP/1.1\r\nHost: influx\r\nuser-agent: python-requests/2.31.0\r\naccept: */*\r\n\r\n",
        "GET /q?query=sum{job=`a`}|x^2&b[]=1&c=? HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a[1]/b:c@d;e,f=g!$&'()*+~ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http://A.Example:80/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET HTTPS://a.example/ HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "GET http://[::1]:8080/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "M-SEARCH /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\nEmpty:\r\nEmpty-Too: \r\nTab:\tx\ty\t\r\nX:  spaces  \r\n\r\n",
        "GET / HTTP/1.1\r\nhOsT: \t a_b-c.d~e:0080 \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Name: caf\u{e9} \u{20ac}\r\nX_Y.Z!#$%&'*+^`|~0: odd\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "DELETE /a HTTP/1.1\r\nHost: a\r\nX-Content-Length: 5\r\nContent-Length-X: 5, 5\r\nTransfer-Encodings: cow\r\n\r\n",
    ] {
        assert_eq!(accepted(head).body.as_deref(), Some(&b""[..]), "{head}");
    }
}

#[test]
fn limits_are_inclusive() {
    let seen = accepted(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(16_383)));
    assert_eq!(seen.target.len(), 16_384);
    let seen = accepted(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99)));
    assert_eq!(seen.headers.len(), 100);
    let seen = accepted(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(65_000)));
    assert_eq!(seen.headers["x"].len(), 65_000);
}

#[test]
fn bodies() {
    let seen = accepted(
        "POST /write?db=a HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\ncpu,host=a value=1 \r\n\r",
    );
    assert_eq!(seen.body.as_deref(), Some(&b"cpu,host=a value=1 \r\n\r"[..]));
    // A body may look like a request, and have any byte.
    let seen = accepted(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0023\r\n\r\nGET /x HTTP/1.1\r\n\r\n\0\n\xff\r",
    );
    assert_eq!(seen.body.as_deref(), Some(&b"GET /x HTTP/1.1\r\n\r\n\0\n\xff\r"[..]));
    let seen =
        accepted("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert_eq!(seen.body.as_deref(), Some(&b"hello"[..]));
    let seen = accepted("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(seen.body.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn chunked_bodies_with_extensions_and_trailers() {
    for (body, expected, trailers) in [
        ("0\r\n\r\n", "", 0),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", 0),
        ("A\r\n0123456789\r\n000\r\n\r\n", "0123456789", 0),
        ("0000000000000005\r\n\r\n\r\n\r\r\n0\r\n\r\n", "\r\n\r\n\r", 0),
        ("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello", 0),
        ("5 ; a = b ; c=\"d;e \\\" f\" ;g\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5\t;\ta\r\nhello\r\n0;x\r\n\r\n", "hello", 0),
        ("5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX:\r\nY:\ta \u{e9}\r\n\r\n", "hello", 3),
    ] {
        for name in ["Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED \t"] {
            let seen = accepted(format!("POST / HTTP/1.1\r\nHost: a\r\n{name}\r\n\r\n{body}"));
            assert_eq!(seen.body.as_deref(), Some(expected.as_bytes()), "{body}");
            assert_eq!(seen.trailers.len(), trailers, "{body}");
        }
    }
    let trailers = "X: y\r\n".repeat(100);
    let seen = accepted(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}\r\n"
    ));
    assert_eq!(seen.trailers.len(), 100);
}

#[test]
fn pipelined_requests_arrive_in_order() {
    let bytes = format!(
        "{CURL}POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\nX: y\r\n\r\n{CURL}"
    )
    .into_bytes();
    for pieces in (0..bytes.len()).map(|at| cut(&bytes, [at])).chain([drip(&bytes)]) {
        let outcome = serve(pieces, Then::Closes);
        assert_eq!(outcome.statuses(), [200; 5]);
        let targets: Vec<_> = outcome.seen.iter().map(|seen| seen.target.as_str()).collect();
        assert_eq!(targets, ["/api/v1/query?query=up", "/1", "/2", "/3", "/api/v1/query?query=up"]);
    }
}

#[test]
fn a_client_that_leaves_in_a_head_or_a_body_is_not_a_request() {
    assert_eq!(serve(vec!["GET / HTTP/1.1\r\nHo".into()], Then::Closes).answers, []);
    assert_eq!(serve(vec![], Then::Closes).answers, []);
    assert_eq!(serve(vec!["\r\n".into()], Then::Closes).answers, []);
    let outcome =
        serve(vec!["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel".into()], Then::Closes);
    assert_eq!(outcome.seen.len(), 1);
    assert_eq!(outcome.seen[0].body, None);
}
