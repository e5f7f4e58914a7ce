//! The closed list of ways in which a client breaks HTTP/1's framing rules, and what it is told.
//!
//! What must not live here: how a violation is found (that is `head` and `chunked`), or the response's shape.

use std::fmt;
use std::io;

use http::StatusCode;

/// Why a request was refused. Terminal: the connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Not `method SP target SP HTTP/1.x`.
    RequestLine,
    /// A target with a byte or in a form that is not allowed for its method.
    Target,
    /// A target longer than [`uri_bytes`](super::Limits::uri_bytes).
    TargetTooLong,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A line that does not end with CR LF, or a CR inside one.
    LineEnding,
    /// A header that goes on in the next line (`obs-fold`).
    FoldedHeader,
    /// An empty name, a byte that no name may have, or white space before the colon.
    HeaderName,
    /// A control character in a value.
    HeaderValue,
    /// More header bytes than [`header_bytes`](super::Limits::header_bytes).
    HeadersTooLarge,
    /// More header lines than [`header_count`](super::Limits::header_count).
    TooManyHeaders,
    /// HTTP/1.1 without a `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that is not `host[:port]`.
    HostInvalid,
    /// An absolute target whose authority is not the `Host`.
    HostMismatch,
    /// A `Content-Length` that is not one plain number.
    ContentLength,
    /// More than one `Content-Length`.
    ContentLengthRepeated,
    /// `Content-Length` beside `Transfer-Encoding`.
    AmbiguousLength,
    /// A `Transfer-Encoding` that is malformed, repeated, or sent with HTTP/1.0.
    TransferEncoding,
    /// A well-formed `Transfer-Encoding` with another coding than `chunked`.
    TransferCoding,
    /// A chunk size that is not one to sixteen hexadecimal digits, or too large a number.
    ChunkSize,
    /// A malformed chunk extension.
    ChunkExtension,
    /// More bytes of chunk extensions in one body than are put up with.
    ChunkExtensionsTooLarge,
    /// Chunk data that is not followed by CR LF.
    ChunkEnd,
    /// A malformed trailer field.
    Trailer,
    /// More trailer fields, or more bytes of them, than allowed.
    TrailersTooLarge,
    /// The head was not complete in time.
    HeaderTimeout,
}

impl Violation {
    /// The status of the response that the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::LineEnding
            | Self::FoldedHeader
            | Self::HeaderName
            | Self::HeaderValue
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::HostMismatch
            | Self::ContentLength
            | Self::ContentLengthRepeated
            | Self::AmbiguousLength
            | Self::TransferEncoding
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkExtensionsTooLarge
            | Self::ChunkEnd
            | Self::Trailer => StatusCode::BAD_REQUEST,
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge | Self::TooManyHeaders | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// The stable code that response, log and metric share.
    pub fn code(self) -> &'static str {
        match self {
            Self::RequestLine => "malformed_request_line",
            Self::Target => "invalid_target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "unsupported_version",
            Self::LineEnding => "malformed_line_ending",
            Self::FoldedHeader => "folded_header",
            Self::HeaderName => "invalid_header_name",
            Self::HeaderValue => "invalid_header_value",
            Self::HeadersTooLarge => "headers_too_large",
            Self::TooManyHeaders => "too_many_headers",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostInvalid => "host_invalid",
            Self::HostMismatch => "host_mismatch",
            Self::ContentLength => "invalid_content_length",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::AmbiguousLength => "ambiguous_length",
            Self::TransferEncoding => "invalid_transfer_encoding",
            Self::TransferCoding => "unsupported_transfer_coding",
            Self::ChunkSize => "invalid_chunk_size",
            Self::ChunkExtension => "invalid_chunk_extension",
            Self::ChunkExtensionsTooLarge => "chunk_extensions_too_large",
            Self::ChunkEnd => "invalid_chunk_end",
            Self::Trailer => "invalid_trailer",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::HeaderTimeout => "header_timeout",
        }
    }

    /// What happened and what to do about it, for the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::RequestLine => {
                "The request line is malformed. Send a method, a target and the HTTP version, with one space between them."
            }
            Self::Target => {
                "The request's target is not valid for its method. Percent-encode every byte that a URL may not contain, and leave out the fragment."
            }
            Self::TargetTooLong => {
                "The request's target is too long. Shorten the path or the query, or send the data in the body."
            }
            Self::Version => "This HTTP version is not supported. Use HTTP/1.1, HTTP/1.0 or HTTP/2.",
            Self::LineEnding => {
                "A line of the request's head does not end with CR LF, or has a CR inside. End every line with CR LF."
            }
            Self::FoldedHeader => "A header starts with white space. Send each header in a single line.",
            Self::HeaderName => {
                "A header's name is empty, has an invalid character, or has white space before the colon. Correct the name."
            }
            Self::HeaderValue => "A header's value has a control character. Remove it.",
            Self::HeadersTooLarge => "The request's headers are too large. Send fewer or shorter headers.",
            Self::TooManyHeaders => "The request has too many headers. Send fewer.",
            Self::HostMissing => "The request has no Host header. Send exactly one.",
            Self::HostRepeated => "The request has more than one Host header. Send exactly one.",
            Self::HostInvalid => {
                "The Host header is not valid. Send a host name or address and, if needed, a port."
            }
            Self::HostMismatch => {
                "The Host header differs from the authority of the request's target. Make them the same."
            }
            Self::ContentLength => {
                "The Content-Length header is not a plain number. Send decimal digits only."
            }
            Self::ContentLengthRepeated => "The request has more than one Content-Length header. Send one.",
            Self::AmbiguousLength => {
                "The request has both Content-Length and Transfer-Encoding. Send only one of them."
            }
            Self::TransferEncoding => {
                "The Transfer-Encoding header is malformed, repeated, or sent with HTTP/1.0. Send one \"chunked\", over HTTP/1.1, or a Content-Length."
            }
            Self::TransferCoding => {
                "This transfer coding is not supported. Use \"chunked\" alone, and Content-Encoding for compression."
            }
            Self::ChunkSize => {
                "A chunk of the body has an invalid size. Send one to sixteen hexadecimal digits, then CR LF."
            }
            Self::ChunkExtension => {
                "A chunk of the body has a malformed extension. Leave chunk extensions out."
            }
            Self::ChunkExtensionsTooLarge => {
                "The body's chunk extensions are too large. Leave chunk extensions out."
            }
            Self::ChunkEnd => "A chunk of the body is longer or shorter than its size. Correct the size.",
            Self::Trailer => "A trailer of the body is malformed. Correct it, or leave trailers out.",
            Self::TrailersTooLarge => {
                "The body's trailers are too large or too many. Send fewer or shorter trailers."
            }
            Self::HeaderTimeout => {
                "The request's headers did not arrive in time. Send the request again, without pauses."
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for Violation {}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(io::ErrorKind::InvalidData, violation)
    }
}
