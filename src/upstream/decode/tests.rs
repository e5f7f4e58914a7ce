//! Responses as upstreams send them, whole and cut at every position, and what must never pass for a complete answer.

use bytes::BytesMut;
use http::Method;
use proptest::prelude::*;

use super::{Fields, Offer, head};

/// Status, body, trailers and whether the connection is kept; an error; or nothing complete.
#[derive(Debug, PartialEq)]
enum Read {
    Complete { status: u16, body: Vec<u8>, trailers: usize, keeps_alive: bool },
    UntilClose { status: u16, body: Vec<u8> },
    Incomplete,
    Refused,
}

/// Feeds the bytes in pieces of this size.
fn read_in_pieces(method: &Method, bytes: &[u8], piece: usize) -> Read {
    let mut buffer = BytesMut::new();
    let mut fields = Fields::default();
    let mut pieces = bytes.chunks(piece);
    let head = loop {
        match head(&mut buffer, &mut fields, method, &Offer::Nothing, None) {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(_) => return Read::Refused,
        }
        match pieces.next() {
            Some(piece) => buffer.extend_from_slice(piece),
            None => return Read::Incomplete,
        }
    };
    let status = head.status.as_u16();
    let (mut framing, mut body, mut trailers) = (head.body, Vec::new(), 0);
    loop {
        match framing.decode(&mut buffer) {
            Ok(Some(frame)) => {
                body.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                trailers += frame.trailers_ref().map_or(0, http::HeaderMap::len);
                continue;
            }
            Ok(None) if framing.is_complete() => {
                let keeps_alive = head.keeps_alive && buffer.is_empty() && pieces.next().is_none();
                return Read::Complete { status, body, trailers, keeps_alive };
            }
            Ok(None) => {}
            Err(_) => return Read::Refused,
        }
        match pieces.next() {
            Some(piece) => buffer.extend_from_slice(piece),
            None if framing == super::Body::UntilClose => return Read::UntilClose { status, body },
            None => return Read::Incomplete,
        }
    }
}

#[track_caller]
fn check(method: &Method, text: &str, expect: Read) {
    for piece in 1..=text.len() {
        assert_eq!(read_in_pieces(method, text.as_bytes(), piece), expect, "in pieces of {piece}: {text:?}");
    }
}

fn complete(status: u16, body: &str, trailers: usize, keeps_alive: bool) -> Read {
    Read::Complete { status, body: body.into(), trailers, keeps_alive }
}

#[test]
fn bodies_end_where_their_framing_says() {
    let get = Method::GET;
    check(&get, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", complete(200, "hello", 0, true));
    check(&get, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", complete(200, "", 0, true));
    check(
        &get,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        complete(200, "ok", 0, true),
    );
    check(&get, "HTTP/1.1 204 No Content\r\n\r\n", complete(204, "", 0, true));
    check(&get, "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", complete(304, "", 0, true));
    check(&Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", complete(200, "", 0, true));
    check(&Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", complete(200, "", 0, true));
    check(
        &get,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        complete(200, "ok", 0, false),
    );
    check(&get, "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", complete(200, "ok", 0, false));
    check(
        &get,
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        complete(200, "ok", 0, true),
    );
    check(&get, "HTTP/1.1 200 OK\r\n\r\nall", Read::UntilClose { status: 200, body: b"all".to_vec() });
}

#[test]
fn chunks_are_put_together() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let get = Method::GET;
    check(&get, &chunked("0\r\n\r\n"), complete(200, "", 0, true));
    check(
        &get,
        &chunked("5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"),
        complete(200, "hello0123456789", 0, true),
    );
    check(&get, &chunked("1\r\na\r\n0\r\nx-sum: 1\r\ngrpc-status: 0\r\n\r\n"), complete(200, "a", 2, true));
    check(&get, &chunked("1\r\na\r\n0\r\ncontent-length: 7\r\n\r\n"), complete(200, "a", 0, true));
    for malformed in [
        "\r\na",
        "g\r\n",
        "0x1\r\na\r\n",
        "-1\r\n",
        "1\r\nab\r\n",
        "11111111111111111\r\n",
        "1\na\r\n",
        "1 1\r\na\r\n",
    ] {
        check(&get, &chunked(malformed), Read::Refused);
    }
}

#[test]
fn interim_responses_are_skipped_and_switching_is_refused() {
    let get = Method::GET;
    check(
        &get,
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        complete(200, "x", 0, true),
    );
    check(&get, "HTTP/1.1 100 Continue\r\n\r\n", Read::Incomplete);
    check(&get, "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", Read::Refused);
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for lines in [
        "content-length: 1\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 1",
        "content-length: 1\r\ncontent-length: 2",
        "content-length: +1",
        "content-length: 1, 1",
        "content-length: 99999999999999999999",
        "content-length:",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity",
        "name : value",
        " folded: x",
    ] {
        check(&Method::GET, &format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n0\r\n\r\n"), Read::Refused);
    }
    check(&Method::GET, "garbage\r\n\r\n", Read::Refused);
    check(&Method::GET, "HTTP/2.0 200 OK\r\n\r\n", Read::Refused);
    check(&Method::GET, "HTTP/1.1 99 Low\r\n\r\n", Read::Refused);
    check(&Method::GET, "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Read::Refused);
}

#[test]
fn lines_go_on_as_they_came_without_what_ends_here() {
    let mut read = BytesMut::from(
        "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive, X-Hop\r\nx-hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Set-Cookie: a=1\r\nset-cookie:  b=2 \r\nContent-Length: 0\r\ncontent-length: 0\r\nUpgrade: h2c\r\n\r\n",
    );
    let mut fields = Fields::default();
    head(&mut read, &mut fields, &Method::GET, &Offer::Nothing, None).expect("valid").expect("complete");
    let text = |fields: &Fields| String::from_utf8(fields.lines().to_vec()).expect("ascii");
    assert_eq!(text(&fields), "Server: x\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 0\r\n");
    assert!(!fields.has_date());
    // The next response is written over it; a bare line feed does not go on as one.
    let mut next =
        BytesMut::from("HTTP/1.1 204 No Content\r\ndate: b\nA:b\r\nContent-Length: 0\r\nC: d\r\n\r\n");
    head(&mut next, &mut fields, &Method::GET, &Offer::Nothing, None).expect("valid").expect("complete");
    assert_eq!(text(&fields), "date: b\r\nA: b\r\nC: d\r\n");
    assert!(fields.has_date());
}

#[test]
fn a_cut_response_is_never_complete() {
    for whole in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        for cut in 0..whole.len() {
            assert_eq!(
                read_in_pieces(&Method::GET, &whole.as_bytes()[..cut], 7),
                Read::Incomplete,
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn endless_heads_are_refused() {
    let mut text = String::from("HTTP/1.1 200 OK\r\n");
    (0..300).for_each(|number| text.push_str(&format!("x-{number}: y\r\n")));
    assert_eq!(read_in_pieces(&Method::GET, format!("{text}\r\n").as_bytes(), 4096), Read::Refused);
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(300 * 1024));
    assert_eq!(read_in_pieces(&Method::GET, endless.as_bytes(), 8192), Read::Refused);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1..50usize) {
        let _outcome = read_in_pieces(&Method::GET, &bytes, piece);
        let framed = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &bytes[..]].concat();
        let _outcome = read_in_pieces(&Method::GET, &framed, piece);
    }

    #[test]
    fn chunked_bodies_come_back_whole(pieces in proptest::collection::vec("[a-z]{1,40}", 0..8), size in 1..64usize) {
        let mut text = String::from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for piece in &pieces {
            text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        text.push_str("0\r\n\r\n");
        let expect = complete(200, &pieces.concat(), 0, true);
        prop_assert_eq!(read_in_pieces(&Method::GET, text.as_bytes(), size), expect);
    }
}
