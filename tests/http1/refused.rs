//! What must be refused, whole and in pieces, alone and behind good requests.

use bytes::Bytes;

use crate::support::{Answer, Then, cut, drip, serve};

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const POSTED: &[u8] = b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
/// Pieces this small are also cut at every place.
const CUT_EVERYWHERE_BYTES: usize = 200;

/// The service must not see this head; the client gets this status and code, and the connection closes.
#[track_caller]
fn head(status: u16, code: &str, bytes: impl AsRef<[u8]>) {
    refused(status, code, bytes.as_ref(), 0);
}

/// The body behind a good chunked head must break off.
#[track_caller]
fn body(status: u16, code: &str, bytes: impl AsRef<[u8]>) {
    refused(status, code, &[CHUNKED.as_bytes(), bytes.as_ref()].concat(), 1);
}

#[track_caller]
fn refused(status: u16, code: &str, bytes: &[u8], broken_off: usize) {
    let refusal = Answer { status, code: Some(code.to_owned()), is_from_service: true, closes: true };
    let check = |pieces: Vec<Bytes>, good: usize, how: &str| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        let outcome = serve(pieces, Then::Waits);
        let (answer, before) = outcome.answers.split_last().unwrap_or_else(|| panic!("{how}: {shown:?}"));
        assert_eq!(*answer, refusal, "{how}: {shown:?}");
        assert_eq!(before.iter().filter(|answer| answer.status == 200).count(), good, "{how}: {shown:?}");
        assert_eq!(before.len(), good, "{how}: {shown:?}");
        let whole = outcome.seen.iter().filter(|seen| seen.body.is_some());
        assert!(whole.clone().all(|seen| seen.target == "/good"), "{how}: {shown:?}");
        assert_eq!(whole.count(), good, "{how}: {shown:?}");
        assert_eq!(outcome.seen.len(), good + broken_off, "{how}: {shown:?}");
    };
    check(vec![Bytes::copy_from_slice(bytes)], 0, "whole");
    check(drip(bytes), 0, "byte by byte");
    check(vec![[GOOD, bytes].concat().into()], 1, "pipelined");
    check(vec![[GOOD, POSTED, GOOD, bytes].concat().into()], 3, "pipelined behind a body");
    check(drip(&[POSTED, bytes].concat()), 1, "behind a body, byte by byte");
    check(vec![[bytes, GOOD, GOOD].concat().into()], 0, "before good ones");
    if bytes.len() <= CUT_EVERYWHERE_BYTES {
        for at in 1..bytes.len() {
            check(cut(bytes, [at]), 0, "cut in two");
        }
    }
}

#[test]
fn request_lines() {
    for line in [
        "GET",
        "GET ",
        "GET /",
        "GET / ",
        "GET /  HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1 x",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/11.1",
        "GET / HTTP/1.10",
        "GET / HTP/1.1",
        "GET /a b HTTP/1.1",
        "GET HTTP/1.1",
        "GE(T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "\0GET / HTTP/1.1",
        "AMETHODTHATISLONGERTHANANYTHATEXISTS / HTTP/1.1",
        "/ HTTP/1.1",
        "\u{16}\u{3}\u{1}",
        "GET /\tHTTP/1.1",
        "\u{feff}GET / HTTP/1.1",
    ] {
        head(400, "malformed_request_line", format!("{line}\r\nHost: a\r\n\r\n"));
    }
    for version in ["HTTP/1.2", "HTTP/1.9", "HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        head(505, "unsupported_version", format!("GET / {version}\r\nHost: a\r\n\r\n"));
    }
    head(505, "unsupported_version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn targets() {
    for target in [
        "/a#b",
        "/#",
        "#",
        "/a\\b",
        "/a?b\\c",
        "/a?b#c",
        "/\u{e9}",
        "/?\u{e9}",
        "/a\u{0}",
        "/a?\u{0}",
        "/\u{7f}",
        "/a\u{1}b",
        "/<script>",
        "/a\"b",
        "/a?b\"c",
        "/a?<b>",
        "/a|b",
        "/{a}",
        "/a^b",
        "/a`b",
        "a",
        "a/b",
        "*",
        "example.com:80",
        "?q",
        "ftp://a/",
        "http:/a",
        "http:a",
        "http://",
        "http:///a",
        "http://user@a/",
        "http://user:pw@a/",
        "http://a:port/",
        "http://a:/",
        "http://a,b/",
        "https://a/#b",
        "http://a\\b/",
        "http://[::1/",
        "http://a/b|c",
        "urn:a",
        "javascript:alert(1)",
    ] {
        head(400, "invalid_target", format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for target in ["/", "*", "a", "http://a:80/", "a:", "a:80/", "user@a:80", ":80", "a:65536", "a:b"] {
        head(400, "invalid_target", format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
}

#[test]
fn line_endings() {
    for bytes in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a long value that has a \r in its middle and goes on\r\n\r\n",
    ] {
        head(400, "malformed_line_ending", bytes);
    }
    // More than one empty line, and a bare CR where a token must be.
    head(400, "malformed_request_line", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    head(400, "malformed_request_line", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n");
    head(400, "malformed_request_line", "GET / HTTP/1.1\rHost: a\r\n\r\n");
    head(400, "invalid_header_name", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n");
    head(400, "invalid_header_name", "GET / HTTP/1.1\r\nHost: a\r\nX\r: b\r\n\r\n");
}

#[test]
fn header_names_and_values() {
    for line in [" X: a", "\tX: a", " ", "\t", " Host: b", "  folded"] {
        head(400, "folded_header", format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n"));
        head(400, "folded_header", format!("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n{line}\r\n\r\n"));
    }
    for line in [
        "X : a",
        "X\t: a",
        ": a",
        ":",
        "X",
        "X a",
        "X(: a",
        "X\u{0}: a",
        "X\u{e9}: a",
        "X/Y: a",
        "\"X\": a",
        "X@Y: a",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\u{b}: chunked",
        "X\u{7f}: a",
        "X{}: a",
        "Content Length: 5",
        "[X]: a",
        "X;: a",
        "X,Y: a",
        "X=Y: a",
        "X\\: a",
        "X?: a",
        "X<: a",
    ] {
        head(400, "invalid_header_name", format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
        head(400, "invalid_header_name", format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n"));
    }
    for value in [
        "\0",
        "a\0b",
        "\u{1}",
        "\u{b}",
        "\u{c}",
        "\u{1b}[31m",
        "a\u{7f}",
        "a value of some length\u{8}",
        "\u{1f}",
    ] {
        head(400, "invalid_header_value", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n"));
    }
    head(400, "invalid_header_value", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n");
    head(400, "invalid_header_value", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\u{c}\r\n\r\nhello");
}

#[test]
fn hosts() {
    head(400, "host_missing", "GET / HTTP/1.1\r\n\r\n");
    head(400, "host_missing", "GET / HTTP/1.1\r\nX-Host: a\r\n\r\n");
    head(400, "host_missing", "GET http://a/ HTTP/1.1\r\nAccept: */*\r\n\r\n");
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for (first, second) in [("a", "a"), ("a", "b"), ("a", "")] {
            head(
                400,
                "host_repeated",
                format!("GET / {version}\r\nHost: {first}\r\nX: y\r\nhost: {second}\r\n\r\n"),
            );
        }
        for host in [
            "",
            " ",
            "user@a",
            "user:pw@a",
            "a/b",
            "a/",
            "http://a",
            "a b",
            "a,b",
            "a, b",
            "a:",
            "a:b",
            "a:80:80",
            ":80",
            "a:65536",
            "a:123456",
            "a:-1",
            "a:+80",
            "a: 80",
            "[::1",
            "::1",
            "[::1]80",
            "[::1]:",
            "[]",
            "[g::1]",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "a%2eb",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "\u{e9}.example",
            "a;b",
            "<a>",
            "a\tb",
            "a=b",
            "(a)",
            "a'b",
            "$a",
            "*",
        ] {
            head(400, "host_invalid", format!("GET / {version}\r\nHost: {host}\r\n\r\n"));
        }
    }
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a", "b"),
        ("http://a:81/", "a"),
        ("http://a/", "a:81"),
        ("http://a/", "a:443"),
        ("https://a/", "a:80"),
        ("http://a.example/", "b.a.example"),
        ("http://[::1]/", "[::2]"),
        ("http://[::1]/", "a"),
        ("HTTP://a/", "aa"),
        ("http://a?x", "b"),
    ] {
        head(400, "host_mismatch", format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

#[test]
fn lengths() {
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n0\r\n\r\n");
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5x",
        "five",
        "5.0",
        "1e3",
        "5;",
        "\"5\"",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "5_0",
        "\u{660}",
        "5,",
        ",5",
    ] {
        head(400, "invalid_content_length", post(&format!("Content-Length: {value}")));
    }
    for (first, second) in [("5", "5"), ("5", "6"), ("0", "5"), ("5", "")] {
        head(
            400,
            "content_length_repeated",
            post(&format!("Content-Length: {first}\r\ncontent-length: {second}")),
        );
    }
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 0",
        "Content-Length: 5\r\ntransfer-encoding: identity",
    ] {
        head(400, "ambiguous_length", post(lines));
    }
    for value in [
        "",
        "chunked,chunked",
        "chunked, chunked",
        "cow, chunked",
        ",chunked",
        "chunked,",
        "chunked, ",
        "cow",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "chunked gzip",
        "chunked, gzip",
        "gzip,,chunked",
        "\"chunked\"",
        "gzip;q=1, chunked",
        "c hunked",
        "chunk\u{e9}d",
        "chunked, identity",
        "gzip, chunked, chunked",
        "'chunked'",
    ] {
        head(400, "invalid_transfer_encoding", post(&format!("Transfer-Encoding: {value}")));
    }
    head(400, "invalid_transfer_encoding", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"));
    head(400, "invalid_transfer_encoding", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"));
    head(400, "invalid_transfer_encoding", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    for value in [
        "gzip",
        "deflate",
        "compress",
        "identity",
        "GZIP",
        "x-gzip",
        "gzip, chunked",
        "gzip,deflate ,\tchunked",
    ] {
        head(501, "unsupported_transfer_coding", post(&format!("Transfer-Encoding: {value}")));
    }
}

#[test]
fn what_is_too_large() {
    head(414, "target_too_long", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(16_384)));
    head(414, "target_too_long", format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(16_384)));
    // Without an end in sight.
    head(414, "target_too_long", format!("GET /{}", "a".repeat(17_000)));
    let fields = |count: usize| "X: y\r\n".repeat(count);
    head(431, "too_many_headers", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(100)));
    head(431, "headers_too_large", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(65_536)));
    head(431, "headers_too_large", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(66_000)));
    head(
        431,
        "headers_too_large",
        format!("GET / HTTP/1.1\r\n{}\r\n", format!("X: {}\r\n", "y".repeat(1000)).repeat(70)),
    );
}

#[test]
fn chunks() {
    for line in [
        "",
        "g",
        "0x5",
        "0_2e",
        "+5",
        "-5",
        " 5",
        "\t5",
        "5g",
        "5,",
        "5x",
        "00000000000000005",
        "10000000000000000",
        "ffffffffffffffff",
        "8000000000000000",
        "fffffffffffffffff",
        "\u{660}",
        "\u{0}5",
        "\"5\"",
        "5\u{0}",
        "5.0",
    ] {
        body(400, "invalid_chunk_size", format!("{line}\r\nhello\r\n0\r\n\r\n"));
    }
    for extension in [
        ";",
        "; ",
        ";;",
        ";a;",
        ";=",
        ";=b",
        ";a=",
        ";a=\"b",
        ";a=b c",
        ";a b",
        ";\u{0}",
        ";a\u{0}",
        ";a=\u{0}",
        ";a=\"\u{0}\"",
        ";a=b\"",
        ";a=\"b\"c",
        " a",
        " ",
        "\t",
        ";a=\u{e9}",
        ";\u{e9}",
        ";a=b;",
        ";a=(",
        ";a=\u{7f}",
        ";a=\"\\\u{1}\"",
        ";a ",
        ";a=b ",
        ";a=\rb",
    ] {
        body(400, "invalid_chunk_extension", format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    }
    for bytes in ["5\nhello\r\n0\r\n\r\n", "5\u{b}\r\nhello\r\n0\r\n\r\n"] {
        body(400, "invalid_chunk_size", bytes);
    }
    body(400, "invalid_chunk_extension", "5;a\nhello\r\n0\r\n\r\n");
    body(400, "invalid_chunk_extension", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n");
    body(400, "malformed_line_ending", "5\rhello\r\n0\r\n\r\n");
    body(400, "malformed_line_ending", "5;a\rb\r\nhello\r\n0\r\n\r\n");
    body(400, "malformed_line_ending", "5\r\rhello\r\n0\r\n\r\n");
    for bytes in [
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
    ] {
        body(400, "invalid_chunk_end", bytes);
    }
    body(400, "chunk_extensions_too_large", format!("5;a={}\r\nhello\r\n0\r\n\r\n", "b".repeat(65_536)));
    body(400, "chunk_extensions_too_large", format!("{}0\r\n\r\n", "1;extension=value\r\nx\r\n".repeat(300)));
}

#[test]
fn trailers() {
    for trailer in [
        ": a",
        "X : a",
        "X",
        " X: a",
        "\tX: a",
        "X: a\u{0}",
        "X: a\u{7f}",
        "X\u{e9}: a",
        "X: a\r\n folded",
        "X: a\nY: b",
        "\n",
        "X: a\n",
        "(X): a",
        "X: a\rb",
    ] {
        body(400, "invalid_trailer", format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
    }
    body(400, "invalid_trailer", "0\r\n\n");
    body(400, "malformed_line_ending", "0\r\n\r\r\n");
    body(431, "trailers_too_large", format!("0\r\n{}\r\n", "X: y\r\n".repeat(101)));
    body(431, "trailers_too_large", format!("0\r\nX: {}\r\n\r\n", "y".repeat(16_384)));
}
