//! Where one WebSocket frame ends and the next begins (RFC 6455, section 5.2), of what a server sends: the only places where
//! Postern can say something itself.
//!
//! And what an answer means to who has offered a WebSocket over HTTP/2.
//!
//! What must not live here: anything about the content of frames, which passes as it comes.

use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{StatusCode, Version};

use crate::error::Answer;
use crate::headers;
use crate::upstream::{Fields, Reply};

/// What a server's answer to a key is made with (RFC 6455, section 4.2.2).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `1008` (policy violation) in a close frame, as a server sends it: unmasked, without further words.
pub(super) const CLOSE_POLICY_VIOLATION: &[u8] = &[0x88, 0x02, 0x03, 0xf0];

/// The longest head of a frame: two bytes, a long length, a mask.
const HEAD_BYTES: usize = 14;

/// What an upstream's answer to an offer means to a client over HTTP/2, to which any success is an open WebSocket, and which has
/// no key of its own to compare (RFC 8441, section 5).
pub(super) fn check_answer(offer: &Parts, reply: Reply) -> Result<Reply, Answer> {
    if offer.version != Version::HTTP_2 {
        return Ok(reply);
    }
    let is_wrong = match reply.status() {
        StatusCode::SWITCHING_PROTOCOLS => !is_accepted(offer.headers.get(SEC_WEBSOCKET_KEY), &reply),
        status => status.is_success(),
    };
    if is_wrong {
        tracing::debug!(status = %reply.status(), "the upstream's answer opens no WebSocket over HTTP/2");
        return Err(Answer::UpstreamFailed);
    }
    Ok(reply)
}

/// Whether an answer is one to this key.
fn is_accepted(key: Option<&HeaderValue>, reply: &Reply) -> bool {
    let lines = reply.fields().map(Fields::lines).unwrap_or_default();
    let headers = headers::map_of_lines(&Bytes::copy_from_slice(lines));
    let mut answers = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    let (Some(key), Some(answer), None) = (key, answers.next(), answers.next()) else { return false };
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(KEY_SUFFIX);
    data_encoding::BASE64.encode(context.finish().as_ref()).as_bytes() == answer.as_bytes()
}

/// How far a stream of frames has come.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    head_length: usize,
    /// Bytes of the payload still to come.
    payload: u64,
    /// A close frame has passed: nothing may follow it.
    is_closed: bool,
}

impl Frames {
    /// Goes on by what passes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let length = usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload -= length as u64;
                bytes = bytes.get(length..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(place) = self.head.get_mut(self.head_length) {
                *place = *first;
            }
            self.head_length += 1;
            bytes = rest;
            if let Some(payload) = self.whole_head() {
                self.is_closed |= self.head[0] & 0x0f == 0x08;
                self.payload = payload;
                self.head_length = 0;
            }
        }
    }

    /// Whether a frame of one's own may come next.
    pub(super) fn is_between(&self) -> bool {
        self.head_length == 0 && self.payload == 0 && !self.is_closed
    }

    /// The payload's length, once the head is complete.
    fn whole_head(&self) -> Option<u64> {
        let head = self.head.get(..self.head_length)?;
        let [_, second, lengths @ ..] = head else { return None };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (length_bytes, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        if lengths.len() < length_bytes + mask {
            return None;
        }
        let long = lengths.get(..length_bytes)?.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        Some(short + long)
    }
}

#[cfg(test)]
mod tests {
    //! Frames of all forms, cut at every place.

    use super::Frames;

    fn frames() -> Vec<Vec<u8>> {
        let mut long = vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        long.extend(std::iter::repeat_n(7, 65_536));
        let mut middle = vec![0x01, 126, 1, 0];
        middle.extend(std::iter::repeat_n(9, 256));
        let masked = vec![0x81, 0x80 | 2, 1, 2, 3, 4, 5, 6];
        vec![vec![0x81, 0], vec![0x81, 3, 1, 2, 3], middle, masked, vec![0x89, 0], long]
    }

    #[test]
    fn only_between_frames_may_another_come() {
        for cut in [1, 2, 3, 7, 4096, 1 << 20] {
            let mut passed = Frames::default();
            for frame in frames() {
                let mut left = frame.len();
                for piece in frame.chunks(cut) {
                    passed.pass(piece);
                    left -= piece.len();
                    assert_eq!(passed.is_between(), left == 0, "{left} bytes left, cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut passed = Frames::default();
        passed.pass(&[0x88, 2, 0x03, 0xe8]);
        assert!(!passed.is_between());
    }
}
