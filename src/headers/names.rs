//! Header names, from how they are spelled on the wire.
//!
//! What must not live here: what any of them means.

use http::{HeaderName, header};

/// The name that these bytes spell; `None` if they are none. Those that most heads have, as most programs spell them, are told at
/// sight; the others are read character by character.
#[inline]
pub fn read(spelled: &[u8]) -> Option<HeaderName> {
    Some(match spelled {
        b"Host" | b"host" => header::HOST,
        b"Date" | b"date" => header::DATE,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Server" | b"server" => header::SERVER,
        b"Connection" | b"connection" => header::CONNECTION,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        _ => return HeaderName::from_bytes(spelled).ok(),
    })
}

#[cfg(test)]
mod tests {
    //! At sight or character by character, it is the same name.

    use super::*;

    #[test]
    fn a_name_is_the_same_however_it_was_read() {
        let names = [
            "Host",
            "Date",
            "Accept",
            "Cookie",
            "Server",
            "Connection",
            "User-Agent",
            "Content-Type",
            "Authorization",
            "Cache-Control",
            "Content-Length",
            "Accept-Encoding",
            "Accept-Language",
            "X-Other",
            "x_other",
            "Hos",
            "Hosts",
            "Ho st",
            "Hos\0",
            "",
        ];
        for name in names {
            for spelled in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let expected = HeaderName::from_bytes(spelled.as_bytes()).ok();
                assert_eq!(read(spelled.as_bytes()), expected, "{spelled:?}");
            }
        }
    }
}
