//! The model of a service: it reads what reaches it strictly and on its own, remembers every request, and answers as it is told.
//! It never waits: each turn takes what is there.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// How the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// When it has the whole request, with a length.
    Whole,
    /// The same, in chunks.
    Chunked,
    /// The same, and closes the connection.
    Closing,
    /// When it has the head, whatever of the body is to come; and closes when the request is whole.
    Early,
}

impl Manner {
    pub(super) const fn of(choice: u8) -> Self {
        match choice & 3 {
            0 => Self::Whole,
            1 => Self::Chunked,
            2 => Self::Closing,
            _ => Self::Early,
        }
    }
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Counted over all connections; its answer says it.
    pub(super) number: u64,
    pub(super) method: String,
    pub(super) target: String,
    /// Names in small letters.
    pub(super) fields: Vec<(String, String)>,
    pub(super) is_answered: bool,
}

pub(super) struct Service {
    listener: UnixListener,
    connections: Vec<Connection>,
    manner: Manner,
    seen: Vec<Seen>,
    count: u64,
    /// Received, over all connections.
    bytes: usize,
}

struct Connection {
    stream: UnixStream,
    /// What has come and was not read yet.
    pending: Vec<u8>,
    reading: Reading,
    /// The request whose body is being read, by its place.
    current: Option<usize>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Head,
    /// So many bytes of a body.
    Body(usize),
    /// A chunk's line.
    Chunk,
    /// So many bytes of a chunk, and its end.
    ChunkData(usize),
    Trailers,
}

/// A connection's next step.
enum Step {
    /// There is not enough.
    Wait,
    GoOn,
    /// The request is whole.
    Whole,
}

impl Service {
    pub(super) fn at(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        Self {
            listener,
            connections: Vec::new(),
            manner: Manner::Whole,
            seen: Vec::new(),
            count: 0,
            bytes: 0,
        }
    }

    pub(super) fn behave(&mut self, manner: Manner) {
        self.manner = manner;
        self.turn();
        // What an earlier client's end has brought about is that one's.
        self.seen.clear();
    }

    pub(super) fn take_seen(&mut self) -> Vec<Seen> {
        // Whose request is not whole yet must not mix it with the next client's.
        self.connections.retain(|connection| connection.current.is_none() && connection.pending.is_empty());
        std::mem::take(&mut self.seen)
    }

    /// Takes what is there, and answers what is whole; whether there was anything.
    pub(super) fn turn(&mut self) -> bool {
        let before = self.bytes;
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("a socket");
            let (pending, reading, current) = (Vec::new(), Reading::Head, None);
            self.connections.push(Connection { stream, pending, reading, current });
        }
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain_mut(|connection| self.serve(connection));
        self.connections = connections;
        self.bytes != before
    }

    /// Whether the connection goes on.
    fn serve(&mut self, connection: &mut Connection) -> bool {
        let pending = connection.pending.len();
        let is_open = connection.fill();
        self.bytes += connection.pending.len() - pending;
        loop {
            let step = match connection.reading {
                Reading::Head => self.read_head(connection),
                _ => connection.read_body(),
            };
            match step {
                Step::Wait => return is_open,
                Step::GoOn => {}
                Step::Whole => {
                    let request = connection.current.take().expect("its head has come");
                    if self.manner != Manner::Early {
                        self.answer(connection, request);
                    }
                    if matches!(self.manner, Manner::Closing | Manner::Early) {
                        assert!(
                            connection.pending.is_empty(),
                            "{:?}",
                            String::from_utf8_lossy(&connection.pending)
                        );
                        return false;
                    }
                }
            }
        }
    }

    fn read_head(&mut self, connection: &mut Connection) -> Step {
        let Some(end) = find(&connection.pending, b"\r\n\r\n") else {
            let so_far = &connection.pending;
            let is_beginning = so_far.first().is_none_or(|&byte| is_token(byte));
            assert!(is_beginning, "no head begins so: {:?}", String::from_utf8_lossy(so_far));
            return Step::Wait;
        };
        let head: Vec<u8> = connection.pending.drain(..end + 4).collect();
        let (seen, reading) = parse_head(&head[..end], self.count);
        self.count += 1;
        connection.current = Some(self.seen.len());
        connection.reading = reading;
        self.seen.push(seen);
        if self.manner == Manner::Early {
            self.answer(connection, self.seen.len() - 1);
        }
        if reading == Reading::Body(0) {
            connection.reading = Reading::Head;
            return Step::Whole;
        }
        Step::GoOn
    }

    fn answer(&mut self, connection: &mut Connection, request: usize) {
        let seen = &mut self.seen[request];
        seen.is_answered = true;
        let body = format!("answer {}\n", seen.number);
        let has_body = seen.method != "HEAD";
        let framing = match self.manner {
            Manner::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
            Manner::Whole => format!("content-length: {}\r\n", body.len()),
            Manner::Closing | Manner::Early => {
                format!("content-length: {}\r\nconnection: close\r\n", body.len())
            }
        };
        let body = match (has_body, self.manner) {
            (false, _) => String::new(),
            (true, Manner::Chunked) => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            (true, _) => body,
        };
        let answer = format!("HTTP/1.1 200 OK\r\nx-answer: {}\r\n{framing}\r\n{body}", seen.number);
        // Who asked may be gone.
        let _gone = connection.stream.write_all(answer.as_bytes());
    }
}

impl Connection {
    /// Takes what is there; whether more may come.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    fn read_body(&mut self) -> Step {
        match self.reading {
            Reading::Head => Step::GoOn,
            Reading::Body(left) => {
                let taken = left.min(self.pending.len());
                self.pending.drain(..taken);
                self.reading = Reading::Body(left - taken);
                if left > taken {
                    return Step::Wait;
                }
                self.reading = Reading::Head;
                Step::Whole
            }
            Reading::Chunk => {
                let Some(line) = self.take_line() else { return Step::Wait };
                assert!(
                    (1..=16).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{line:?}"
                );
                let length = usize::from_str_radix(&line, 16).expect("digits");
                self.reading = if length == 0 { Reading::Trailers } else { Reading::ChunkData(length) };
                Step::GoOn
            }
            Reading::ChunkData(left) => {
                let taken = left.min(self.pending.len());
                self.pending.drain(..taken);
                self.reading = Reading::ChunkData(left - taken);
                if left > taken || self.pending.len() < 2 {
                    return Step::Wait;
                }
                let end: Vec<u8> = self.pending.drain(..2).collect();
                assert_eq!(end, b"\r\n", "behind a chunk");
                self.reading = Reading::Chunk;
                Step::GoOn
            }
            Reading::Trailers => {
                let Some(line) = self.take_line() else { return Step::Wait };
                if !line.is_empty() {
                    let (name, _) = field(&line);
                    let meant = name.replace(['_', '.'], "-");
                    assert!(
                        !meant.starts_with("x-postern-") && meant != "authorization",
                        "the trailer {line:?}"
                    );
                    return Step::GoOn;
                }
                self.reading = Reading::Head;
                Step::Whole
            }
        }
    }

    fn take_line(&mut self) -> Option<String> {
        let end = find(&self.pending, b"\r\n")?;
        let line: Vec<u8> = self.pending.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}

/// A head in the one form that has one meaning (RFC 9112), and what follows it.
fn parse_head(head: &[u8], number: u64) -> (Seen, Reading) {
    // As bytes are characters of their own here, nothing is lost.
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { panic!("the request line {line:?}") };
    assert!(!method.is_empty() && method.bytes().all(is_token), "the method {method:?}");
    assert!(
        !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'),
        "{target:?}"
    );
    let fields: Vec<(String, String)> = lines.map(field).collect();
    let values = |name: &str| {
        fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    };
    let (lengths, codings): (Vec<&str>, Vec<&str>) = (values("content-length"), values("transfer-encoding"));
    let reading = match (&lengths[..], &codings[..]) {
        ([], []) => Reading::Body(0),
        ([length], []) => {
            assert!(!length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()), "{length:?}");
            Reading::Body(length.parse().expect("a length"))
        }
        ([], ["chunked"]) => Reading::Chunk,
        _ => panic!("two ways to frame a body: {text:?}"),
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    (Seen { number, method, target, fields, is_answered: false }, reading)
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("the line {line:?}"));
    assert!(!name.is_empty() && name.bytes().all(is_token), "the name {name:?}");
    assert!(!value.contains(['\r', '\n', '\0']), "the value {value:?}");
    (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(super) fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}
