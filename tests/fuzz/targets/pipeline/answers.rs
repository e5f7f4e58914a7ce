//! What a client makes of the bytes that it has received: answers one behind the other, each whole but perhaps the last.

use super::service::{Seen, find};

/// The numbers of the service's answers, in the order in which they came. All that came is answers.
pub(super) fn of_service(received: &[u8], seen: &[Seen]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut rest = received;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(rest)));
        let head = std::str::from_utf8(&rest[..end]).expect("heads are text here");
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse::<u16>().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let value = |name: &str| {
            head.split("\r\n").skip(1).find_map(|line| {
                let (other, value) = line.split_once(": ")?;
                other.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        if status < 200 {
            assert!(matches!(status, 100 | 102 | 103), "{head:?}");
            continue;
        }
        let number = value("x-answer").map(|number| number.parse::<u64>().expect("our own number"));
        numbers.extend(number);
        let asked_for_head = match number {
            Some(number) => seen.iter().any(|seen| seen.number == number && seen.method == "HEAD"),
            // Postern's own answers have bodies that begin with a brace.
            None => !rest.starts_with(b"{"),
        };
        if asked_for_head || status == 204 || status == 304 {
            continue;
        }
        rest = match (value("content-length"), value("transfer-encoding").as_deref()) {
            (Some(length), None) => {
                let length: usize = length.parse().expect("a length");
                rest.get(length..).unwrap_or_else(|| panic!("an answer is cut short: {head:?}"))
            }
            (None, Some("chunked")) => behind_chunks(rest, head),
            // To the end of the connection.
            (None, None) => &[],
            _ => panic!("two ways to frame an answer: {head:?}"),
        };
    }
    numbers
}

fn behind_chunks<'a>(mut rest: &'a [u8], head: &str) -> &'a [u8] {
    loop {
        let end = find(rest, b"\r\n").unwrap_or_else(|| panic!("chunks are cut short: {head:?}"));
        let length =
            std::str::from_utf8(&rest[..end]).ok().and_then(|line| usize::from_str_radix(line, 16).ok());
        let length = length.unwrap_or_else(|| panic!("no chunk: {head:?}"));
        let whole = end + 2 + length + 2;
        assert_eq!(rest.get(whole - 2..whole), Some(&b"\r\n"[..]), "chunks are cut short: {head:?}");
        rest = &rest[whole..];
        if length == 0 {
            return rest;
        }
    }
}
