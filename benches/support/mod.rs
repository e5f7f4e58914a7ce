//! What the micro benchmarks and the instruction counts share: a small directory, one function for each thing that is
//! measured, and a sidecar's worker on one thread with both of its ends in hand.
//!
//! Nothing here measures; `micro.rs` takes times and `instructions.rs` counts.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "benchmarks; each of them uses a part of this"
)]

pub mod directory;
pub mod pipeline;
pub mod work;

/// Calls a macro with the name of each function of [`work`], in the order of a request's way; the last ones are whole
/// requests.
macro_rules! every_work {
    ($each:ident) => {
        $each!(path_normalization);
        $each!(path_normalization_encoded);
        $each!(route_match);
        $each!(route_match_wildcard);
        $each!(request_ids);
        $each!(http2_frames);
        $each!(token_format);
        $each!(digest);
        $each!(credential_parse);
        $each!(credential_parse_malformed);
        $each!(look_up);
        $each!(look_up_unknown);
        $each!(decision);
        $each!(usage_noted_already);
        $each!(usage_first_in_a_second);
        $each!(token_to_decision);
        $each!(permission_expansion);
        $each!(header_rewrite);
        $each!(request_permitted);
        $each!(request_permitted_logged);
        $each!(request_with_body);
        $each!(request_unknown_token);
        $each!(request_malformed_token);
        $each!(request_denied);
    };
}
pub(crate) use every_work;
