//! Just enough of HTTP/1.1 to know when a response ends and what status it had.

use std::io::{self, ErrorKind, Read};

/// Reads one response after the other from one connection.
#[derive(Default)]
pub struct ResponseReader {
    head: Vec<u8>,
    /// Once the head is known: its status, and the body's bytes to come.
    body: Option<(u16, usize)>,
}

pub enum Progress {
    /// The rest has not arrived yet.
    Waiting,
    /// A whole response with this status.
    Done(u16),
    /// The other side closed between responses.
    Closed,
}

impl ResponseReader {
    /// Reads what has arrived.
    ///
    /// # Errors
    ///
    /// When the connection ends within a response, or what arrives is none.
    pub fn read(&mut self, stream: &mut impl Read, scratch: &mut [u8]) -> io::Result<Progress> {
        loop {
            let count = match stream.read(scratch) {
                Ok(0) if self.head.is_empty() && self.body.is_none() => return Ok(Progress::Closed),
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the response is cut off")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) => return Err(error),
            };
            if let Some(status) = self.take(&scratch[..count])? {
                return Ok(Progress::Done(status));
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<Option<u16>> {
        let (status, missing, rest) = match self.body {
            Some((status, missing)) => (status, missing, bytes.len()),
            None => {
                self.head.extend_from_slice(bytes);
                let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return Ok(None);
                };
                let (status, length) = read_head(&self.head[..end])?;
                let rest = self.head.len() - end - 4;
                self.head.clear();
                (status, length, rest)
            }
        };
        if rest > missing {
            return Err(io::Error::new(ErrorKind::InvalidData, "more than the response that was asked for"));
        }
        let missing = missing - rest;
        self.body = (missing > 0).then_some((status, missing));
        Ok((missing == 0).then_some(status))
    }
}

fn read_head(head: &[u8]) -> io::Result<(u16, usize)> {
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let text = str::from_utf8(head).map_err(|_| invalid("the head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| invalid("no HTTP/1.1 status"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    Ok((status, length.ok_or_else(|| invalid("no content-length"))?))
}
