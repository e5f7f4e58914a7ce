//! Properties: nothing panics, and pieces do not matter.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Seen, Then, cut, serve};

/// Pieces of requests that bring a random mixture near the interesting places.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.0\r\n",
        "Host: a\r\n",
        "Host: [::1]:80\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "X: y\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        "0\r\n\r\n",
        "3\r\nabc\r\n",
        "3;a=\"b\"\r\nabc\r\n",
        "0\r\nX: y\r\n\r\n",
        "abc",
        " ",
        ":",
        "\0",
        "\t",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        "%2e",
        "//",
        "#",
        "ffffffffffffffff\r\n",
        "\u{e9}",
    ]);
    prop_oneof![8 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => vec(any::<u8>(), 0..8)]
}

fn field() -> impl Strategy<Value = String> {
    ("[!#$%&'*+.^_`|~a-zA-Z0-9-]{1,20}", "[ \t]?[ -~\u{80}-\u{ff}]{0,40}")
        .prop_map(|(name, value)| format!("x-{name}:{value}\r\n"))
}

fn chunked_body() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop::sample::select(vec!["", ";a", ";a=b", " ; a = \"b;\\\"\" ;c"]);
    let chunk = (vec(any::<u8>(), 1..40), extension);
    (vec(chunk, 0..5), vec(field(), 0..3)).prop_map(|(chunks, trailers)| {
        let mut bytes = Vec::new();
        for (data, extension) in chunks {
            bytes.extend(format!("{:x}{extension}\r\n", data.len()).bytes());
            bytes.extend(data);
            bytes.extend(b"\r\n");
        }
        bytes.extend(format!("0\r\n{}\r\n", trailers.concat()).bytes());
        bytes
    })
}

/// A valid request that keeps the connection alive.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = (
        "[A-Z]{3,7}".prop_filter("its target has another form", |method| method != "CONNECT"),
        "/[a-zA-Z0-9._~!$&'()*+,;=:@%/\\[\\]-]{0,40}(\\?[a-zA-Z0-9/?{}|^`=&%-]{0,40})?",
    );
    let body = prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..200).prop_map(|body| Some((format!("Content-Length: {}\r\n", body.len()), body))),
        chunked_body().prop_map(|body| Some(("transfer-Encoding: Chunked\r\n".to_owned(), body))),
    ];
    (line, vec(field(), 0..6), body, any::<prop::sample::Index>()).prop_map(
        |((method, target), mut fields, body, at)| {
            let (length, body) = body.unwrap_or_default();
            fields.insert(at.index(fields.len() + 1), format!("host: a.example\r\n{length}"));
            let mut bytes = format!("{method} {target} HTTP/1.1\r\n{}\r\n", fields.concat()).into_bytes();
            bytes.extend(body);
            bytes
        },
    )
}

fn places() -> impl Strategy<Value = Vec<usize>> {
    vec(0..1500usize, 0..12)
}

/// What a service may have seen of a connection that broke off somewhere: all requests whole but for the last.
fn whole(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.body.is_some()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_requests_are_read_alike_however_they_are_cut(requests in vec(request(), 1..4), places in places()) {
        let bytes = requests.concat();
        let together = serve(vec![Bytes::copy_from_slice(&bytes)], Then::Closes);
        prop_assert_eq!(together.statuses(), vec![200; requests.len()]);
        prop_assert_eq!(&serve(cut(&bytes, places), Then::Closes), &together);
        let one_by_one: Vec<_> = requests
            .iter()
            .flat_map(|request| serve(vec![Bytes::copy_from_slice(request)], Then::Closes).seen)
            .collect();
        prop_assert_eq!(one_by_one, together.seen);
    }

    #[test]
    fn anything_is_judged_alike_however_it_is_cut(fragments in vec(fragment(), 0..14), places in places()) {
        let bytes = fragments.concat();
        let together = serve(vec![Bytes::copy_from_slice(&bytes)], Then::Closes);
        let pieces = serve(cut(&bytes, places), Then::Closes);
        prop_assert_eq!(&pieces.answers, &together.answers);
        prop_assert_eq!(whole(&pieces.seen), whole(&together.seen));
    }

    #[test]
    fn every_answer_is_the_services(fragments in vec(fragment(), 0..14), places in places()) {
        let outcome = serve(cut(&fragments.concat(), places), Then::Closes);
        prop_assert!(outcome.answers.iter().all(|answer| answer.is_from_service), "{:?}", outcome.answers);
    }

    #[test]
    fn one_changed_byte_makes_no_two_requests_of_one(
        mut bytes in request(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        *at.get_mut(&mut bytes) = byte;
        let outcome = serve(vec![bytes.into()], Then::Closes);
        prop_assert!(outcome.answers.iter().all(|answer| answer.is_from_service), "{:?}", outcome.answers);
    }
}
