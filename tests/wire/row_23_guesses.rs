//! Row 23, as far as it is about what is sent: whoever guesses tokens learns nothing from how a wrong one is wrong.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both};
use crate::support::http2::{empty, request_with};
use crate::support::sidecar::HOST;
use crate::support::{Http2Client, Response, Sidecar, Upstream};

pub(super) const ROW: Row = Row {
    number: 23,
    attack: "guessing tokens: unknown, malformed, with a wrong checksum",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_23() {
    try_row(&ROW);
}

/// Unknown ones of Postern's own format need a checksum that fits; these are made up, cut off, mistyped, or others' tokens.
const WRONG: &[&str] = &[
    "a-token-that-nobody-has",
    "psta_0123456789ab0123456789abcdefghijABCDEFGHIJ000000",
    "psta_0123456789ab0123456789abcdefghijABCDEFGHIJ00000000",
    "psta_",
    "pstp_0123456789ab",
    "short",
    "x",
    "psta_0123456789ab_123456789abcdefghijABCDEFGHIJ_000000",
];

fn cases() -> Vec<Case> {
    let bearer = WRONG.iter().map(|token| format!("Bearer {token}"));
    let others = ["Basic dXNlcjpwYXNz", "Bearer", "Digest username=\"x\"", "aivenv1 x"].map(str::to_owned);
    let cases = bearer
        .chain(others)
        .flat_map(|value| both("GET /items", &[("Authorization", value.as_str())], "", Outcome::Denied(401)));
    cases.collect()
}

/// All of an answer that may differ between two: when it was given, and to which request.
fn without_names_and_times(mut response: Response) -> Response {
    for name in ["x-postern-request-id", "date"] {
        assert_eq!(response.values(name).len(), 1, "{name}: {response:?}");
    }
    response.headers.retain(|(name, _)| !matches!(name.as_str(), "x-postern-request-id" | "date"));
    response
}

#[test]
fn wrong_tokens_are_answered_alike_to_the_byte() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let token = sidecar.permitted.token.as_str();
    let last = if token.ends_with('0') { "1" } else { "0" };
    // One letter off, in each part of a token that exists; one that existed elsewhere; one that is cut off.
    let swapped = |at: usize| {
        let letter = if &token[at..=at] == "0" { "1" } else { "0" };
        format!("{}{letter}{}", &token[..at], &token[at + 1..])
    };
    let mut wrong: Vec<String> = WRONG.iter().map(|token| (*token).to_owned()).collect();
    wrong.extend([1024, 1025].map(|length| "x".repeat(length)));
    wrong.extend([5, 20, 40, 48, 49, 54].map(swapped));
    wrong.extend([
        format!("{}{last}", &token[..54]),
        token[..54].to_owned(),
        format!("{token}0"),
        token.to_uppercase(),
    ]);
    // In Postern's own format to the last digit, and nobody's here.
    let elsewhere = Sidecar::in_front_of(&upstream).start();
    wrong.push(elsewhere.permitted.token.clone());

    let mut over_1 = Vec::new();
    let mut over_2 = Vec::new();
    for token in &wrong {
        over_1.push(sidecar.request(format!(
            "POST /items HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        )));
        let request = request_with(token, "POST", "/items", empty());
        over_2.push(Http2Client::connect(sidecar.address()).request(request));
    }
    for answers in [over_1, over_2] {
        let mut answers = answers.into_iter().map(without_names_and_times);
        let first = answers.next().unwrap();
        first.assert_error(401, "invalid_token");
        for (answer, token) in answers.zip(&wrong[1..]) {
            assert_eq!(answer, first, "{token}");
        }
    }
    upstream.assert_untouched();
}
