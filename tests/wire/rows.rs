//! The rows of the list, each with its table; and the proof that none has lost its cases.

use std::path::Path;

use crate::case::Case;
use crate::place::{Place, Transport};
use crate::support::SidecarBuilder;

mod row_01_transfer_encoding;
mod row_02_content_length;
mod row_03_chunks;
mod row_04_bytes_in_heads;
mod row_05_host;
mod row_06_two_hosts;
mod row_07_http2_framing;
mod row_08_connection;
mod row_09_identity;
mod row_10_trailers;
mod row_11_forwarding;
mod row_12_credentials;
mod row_13_paths;
mod row_14_overrides;
mod row_15_unread_bodies;
mod row_16_refused_websockets;
mod row_17_upgrades;
mod row_18_expectations;
mod row_19_methods;
mod row_22_sizes;
mod row_23_guesses;
mod row_25_control_plane;

/// The last row that is about what is sent over a connection.
const LAST_ROW: u8 = 22;

/// One row of the list.
struct Row {
    number: u8,
    attack: &'static str,
    cases: fn() -> Vec<Case>,
    protocols: Protocols,
    /// What its sidecar has in its configuration beside the usual.
    configured: fn(SidecarBuilder) -> SidecarBuilder,
}

/// The protocols in which an attack has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocols {
    Both,
    Http1,
    Http2,
}

const ROWS: &[Row] = &[
    row_01_transfer_encoding::ROW,
    row_02_content_length::ROW,
    row_03_chunks::ROW,
    row_04_bytes_in_heads::ROW,
    row_05_host::ROW,
    row_06_two_hosts::ROW,
    row_07_http2_framing::ROW,
    row_08_connection::ROW,
    row_09_identity::ROW,
    row_10_trailers::ROW,
    row_11_forwarding::ROW,
    row_12_credentials::ROW,
    row_13_paths::ROW,
    row_14_overrides::ROW,
    row_15_unread_bodies::ROW,
    row_16_refused_websockets::ROW,
    row_17_upgrades::ROW,
    row_18_expectations::ROW,
    row_19_methods::ROW,
    row_22_sizes::ROW,
    row_23_guesses::ROW,
    row_25_control_plane::ROW,
];

/// How many cases each row has at least, by protocol: HTTP/1.1 and HTTP/2. Who takes cases out says so here.
const LEAST: &[(u8, usize, usize)] = &[
    (1, 33, 7),
    (2, 27, 25),
    (3, 116, 0),
    (4, 57, 18),
    (5, 49, 89),
    (6, 38, 14),
    (7, 0, 83),
    (8, 25, 5),
    (9, 45, 45),
    (10, 39, 33),
    (11, 22, 22),
    (12, 52, 44),
    (13, 118, 115),
    (14, 29, 29),
    (15, 38, 20),
    (16, 35, 12),
    (17, 62, 12),
    (18, 23, 22),
    (19, 24, 16),
    (22, 25, 24),
    (23, 12, 12),
    (25, 88, 72),
];

/// Rows that take their own time and traffic, and where they are.
const ELSEWHERE: &[(u8, &str)] = &[(20, "tests/wire_http2.rs"), (21, "tests/proxy_limits.rs")];

/// In the clear, at a sidecar of the row's own.
#[track_caller]
fn try_row(row: &Row) {
    Place::with(row.configured).try_all(&(row.cases)(), Transport::Clear);
}

#[test]
fn all_rows_over_tls() {
    // At one sidecar that has whatever rows are configured with.
    let place = Place::with(|builder| ROWS.iter().fold(builder, |builder, row| (row.configured)(builder)));
    for row in ROWS {
        println!("row {}: {}", row.number, row.attack);
        place.try_all(&(row.cases)(), Transport::Tls);
    }
}

#[test]
fn no_row_has_lost_its_cases() {
    for number in 1..=LAST_ROW {
        let here = ROWS.iter().any(|row| row.number == number);
        let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == number);
        assert!(here || elsewhere.is_some(), "row {number} has no cases");
        if let Some((_, file)) = elsewhere {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text =
                std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(text.contains("#[test]"), "row {number}: there are tests in {}", file.display());
        }
    }
    for row in ROWS {
        let cases = (row.cases)();
        let over_http2 = cases.iter().filter(|case| case.is_over_http2()).count();
        let over_http1 = cases.len() - over_http2;
        println!(
            "row {:2}: {over_http1:3} over HTTP/1.1, {over_http2:3} over HTTP/2: {}",
            row.number, row.attack
        );
        assert_eq!(over_http1 > 0, row.protocols != Protocols::Http2, "row {}", row.number);
        assert_eq!(over_http2 > 0, row.protocols != Protocols::Http1, "row {}", row.number);
        let least = LEAST.iter().find(|(number, ..)| *number == row.number);
        let (_, least_1, least_2) =
            least.unwrap_or_else(|| panic!("row {} says how many it has", row.number));
        assert!(
            over_http1 >= *least_1 && over_http2 >= *least_2,
            "row {} had {least_1} and {least_2} cases at least, and has {over_http1} and {over_http2}",
            row.number
        );
    }
}
