//! What a route changes in headers, made ready once; and which headers no route may touch.
//!
//! What must not live here: what is done to every request.

use http::{HeaderName, HeaderValue};

use super::{dashed, ends_here, ends_with_response, write_field};
use crate::config::HeaderChangesConfig;

/// The changes of one route in one direction.
#[derive(Debug)]
pub struct HeaderChanges {
    /// Names with dashes only, in lower case.
    removed: Box<[Box<[u8]>]>,
    /// Lines that come last, each with its end.
    lines: Box<[u8]>,
}

/// In which direction headers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the service.
    Request,
    /// To the client.
    Response,
}

impl HeaderChanges {
    /// What is changed, if anything is.
    pub fn of(config: &HeaderChangesConfig) -> Option<Box<Self>> {
        let HeaderChangesConfig { set, add, remove } = config;
        if set.is_empty() && add.is_empty() && remove.is_empty() {
            return None;
        }
        let removed = remove.iter().chain(set.iter().map(|(name, _)| name));
        let mut lines = Vec::new();
        for (name, value) in set.iter().chain(add) {
            write_field(&mut lines, name.as_str().as_bytes(), value.as_bytes());
        }
        Some(Box::new(Self {
            removed: removed.map(|name| dashed(name.as_str().as_bytes()).as_slice().into()).collect(),
            lines: lines.into(),
        }))
    }

    /// Whether lines of this name are taken out, in any spelling that a server may take for it.
    pub fn removes(&self, name: &[u8]) -> bool {
        !self.removed.is_empty() && {
            let name = dashed(name);
            self.removed.iter().any(|removed| **removed == *name)
        }
    }

    /// The lines that come last.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Changes lines that are written already, each with its end.
    pub fn apply(&self, lines: &mut Vec<u8>) {
        self.take_out_of(lines);
        lines.extend_from_slice(&self.lines);
    }

    /// Takes out of written lines what is removed, and that of which others take the place.
    pub fn take_out_of(&self, lines: &mut Vec<u8>) {
        if self.removed.is_empty() {
            return;
        }
        let mut kept = Vec::with_capacity(lines.len() + self.lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if !self.removes(name) {
                kept.extend_from_slice(line);
            }
        }
        *lines = kept;
    }
}

/// Why no route may change headers of this name, if none may.
pub fn why_reserved(name: &HeaderName, direction: Direction) -> Option<&'static str> {
    let dashed = dashed(name.as_str().as_bytes());
    let dashed = std::str::from_utf8(&dashed).unwrap_or_default();
    if dashed.starts_with("x-postern-") {
        return Some("tells who a request comes from, which only a decision may say");
    }
    let Ok(plain) = HeaderName::from_bytes(dashed.as_bytes()) else { return Some("is no header") };
    if dashed.starts_with("sec-websocket-") {
        return Some("belongs to a WebSocket's handshake");
    }
    match (direction, dashed) {
        (_, "content-length" | "transfer-encoding" | "trailer" | "connection" | "upgrade" | "te") => {
            Some("says where a message ends or how its connection goes on")
        }
        (_, "date") => Some("says when a message was made"),
        (Direction::Request, "authorization") => {
            Some("is the credential: see `[upstreams.credential]` and `pass_authorization`")
        }
        (Direction::Request, _) if ends_here(&plain) => Some(
            "is dealt with by postern itself: it concerns one connection, the client's address or the target",
        ),
        (Direction::Response, _) if ends_with_response(dashed) => Some("concerns one connection"),
        (Direction::Request | Direction::Response, _) => None,
    }
}

/// A value as a header line carries it.
pub fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|value| value.as_bytes().trim_ascii() == value.as_bytes())
}
