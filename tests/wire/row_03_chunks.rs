//! Row 3: chunks that two readers may read differently. The upload is broken off amid it: whatever the service has seen of it is no
//! whole request, and is not held against the service (`place.rs` looks at its metrics).

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, forwarded, http1};
use crate::place::{Place, Transport};

pub(super) const ROW: Row = Row {
    number: 3,
    attack: "chunk sizes and extensions: `5;`, `0x5`, `0_2e`, NUL, CR, LF, overflow, 64 KiB of extension",
    cases,
    protocols: Protocols::Http1,
    configured: |builder| builder,
};

#[test]
fn row_03() {
    try_row(&ROW);
}

const HEAD: &str = "POST /items HTTP/1.1\r\n<usual>\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What may not stand where a chunk of `hello` should.
const NO_CHUNKS: &[&str] = &[
    // Sizes.
    "\r\nhello\r\n",
    "g\r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "0_2e\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "-5\r\nhello\r\n",
    " 5\r\nhello\r\n",
    "\t5\r\nhello\r\n",
    "5x\r\nhello\r\n",
    "5,\r\nhello\r\n",
    "5.0\r\nhello\r\n",
    "\"5\"\r\nhello\r\n",
    "\u{660}\r\nhello\r\n",
    "\x005\r\nhello\r\n",
    "5\0\r\nhello\r\n",
    "00000000000000005\r\nhello\r\n",
    "fffffffffffffffff\r\nhello\r\n",
    "10000000000000005\r\nhello\r\n",
    "ffffffffffffffff\r\nhello\r\n",
    "8000000000000000\r\nhello\r\n",
    // Ends of lines and of chunks.
    "5\nhello\r\n",
    "5\rhello\r\n",
    "5\r\r\nhello\r\n",
    "5\r\nhello\n",
    "5\r\nhello\r",
    "5\r\nhelloX\r\n",
    "5\r\nhello",
    "5\r\nhell\r\n",
    "4\r\nhello\r\n",
    // Extensions.
    "5;\r\nhello\r\n",
    "5; \r\nhello\r\n",
    "5;;\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "5 a\r\nhello\r\n",
    "5;a b\r\nhello\r\n",
    "5;a=\r\nhello\r\n",
    "5;=b\r\nhello\r\n",
    "5;\0\r\nhello\r\n",
    "5;a\0\r\nhello\r\n",
    "5;a=\"\0\"\r\nhello\r\n",
    "5;a\rb\r\nhello\r\n",
    "5;a=\rb\r\nhello\r\n",
    "5;a\nb\r\nhello\r\n",
    "5;a\nhello\r\n",
    "5;a=\"\n\"\r\nhello\r\n",
    "5;a=\"b\r\nhello\r\n",
    "5;a=\"b\"c\r\nhello\r\n",
    "5;\u{e9}\r\nhello\r\n",
    "5;a=\"\\\u{1}\"\r\nhello\r\n",
    // One reader takes the line feed for the end of the line, and the rest for chunks: the other sees a request.
    "2;\nxx\r\n4c\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: service.test\r\n\r\n",
    "0;\nxx\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: service.test\r\n\r\n",
];

fn cases() -> Vec<Case> {
    let long = ["5;", "5;a=", "5;a=\"", "5;a;"].map(|start| format!("{start}{}", "a".repeat(64 * 1024)));
    let short_but_many = "1;extension=value\r\nx\r\n".repeat(300);
    let broken = NO_CHUNKS.iter().map(|chunk| (*chunk).to_owned()).chain(long).chain([short_but_many]);
    let broken: Vec<_> = broken.collect();
    // All at once, the service may see nothing of it; and behind a first chunk that it has seen.
    let at_once = broken
        .iter()
        .map(|chunk| http1(format!("{HEAD}{chunk}0\r\n\r\n"), Outcome::BrokenOff(400)).named(&shown(chunk)));
    let later = broken.iter().map(|chunk| {
        let rest = format!("{chunk}0\r\n\r\n");
        http1(format!("{HEAD}9\r\nthe first\r\n{rest}"), Outcome::BrokenOff(400))
            .named(&shown(chunk))
            .with_pause(&rest, "the first")
    });
    // What the grammar allows, and nobody reads.
    let harmless = [
        "5;a\r\nhello\r\n0;b=c\r\n\r\n",
        "5 ; a = b ; c=\"d;e \\\" f\" ;g\r\nhello\r\n0\r\n\r\n",
        "0000000000000005\r\nhello\r\n000\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ]
    .map(|chunks| http1(format!("{HEAD}{chunks}"), forwarded("/items").with_body("hello")));
    at_once.chain(later).chain(harmless).collect()
}

fn shown(chunk: &str) -> String {
    format!("{:?}", chunk.get(..60).unwrap_or(chunk))
}

/// What a service did is told from what a client did: a failure more and its only address would rest.
#[test]
fn broken_chunks_do_not_eject_the_service() {
    let ejecting = "[upstreams.ejection]\nconsecutive_failures = 1";
    let place = Place::with(|builder| builder.upstream(ejecting));
    place.try_all(&cases()[..NO_CHUNKS.len()], Transport::Clear);
    let metrics = place.sidecar.metrics();
    let ejections = metrics.lines().filter(|line| line.contains("\"ejected\""));
    let ejections: Vec<_> = ejections.collect();
    assert!(!ejections.is_empty(), "ejections are counted:\n{metrics}");
    assert!(ejections.iter().all(|line| line.ends_with(" 0")), "{ejections:?}");
}
