//! Small servers of others: one that answers HTTP with what a closure says, in the clear or over TLS, and one that
//! answers DNS from a table.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// What an HTTP server was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// What it answers: status, lines of headers with `\r\n` behind each, body.
pub type Answer = (u16, String, String);

/// Answers each connection's one request; ends with the process.
pub fn http(
    tls: Option<Arc<rustls::ServerConfig>>,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (answer, tls) = (Arc::clone(&answer), tls.clone());
            thread::spawn(move || match tls {
                None => one(stream, &*answer),
                Some(tls) => {
                    let session = rustls::ServerConnection::new(tls).unwrap();
                    one(rustls::StreamOwned::new(session, stream), &*answer);
                }
            });
        }
    });
    address
}

fn one(stream: impl Read + Write, answer: &dyn Fn(&Asked) -> Answer) {
    let mut reader = BufReader::new(stream);
    let Some(asked) = read(&mut reader) else { return };
    let (status, headers, body) = answer(&asked);
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // Who asked may have gone.
    let _ = reader.get_mut().write_all(response.as_bytes()).and_then(|()| reader.get_mut().flush());
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ');
    let mut asked = Asked { method: words.next()?.into(), target: words.next()?.into(), ..Asked::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = asked.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}

/// A name server. Names are in lower case, without the last dot.
#[derive(Clone)]
pub struct NameServer {
    pub address: SocketAddr,
    texts: Arc<Mutex<HashMap<String, Vec<String>>>>,
    hosts: Arc<Mutex<HashMap<String, Ipv4Addr>>>,
}

impl NameServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let this =
            Self { address: socket.local_addr().unwrap(), texts: Arc::default(), hosts: Arc::default() };
        let server = this.clone();
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                if let Some(response) = server.answer(&buffer[..length]) {
                    let _ = socket.send_to(&response, peer);
                }
            }
        });
        this
    }

    pub fn texts(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.texts.lock().unwrap().insert(name.to_owned(), texts);
    }

    pub fn host(&self, name: &str, address: Ipv4Addr) {
        self.hosts.lock().unwrap().insert(name.to_owned(), address);
    }

    /// RFC 1035: one question, and the answers there are, or that there is no such name.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (mut name, mut at) = (Vec::new(), 12);
        while let length @ 1.. = usize::from(*query.get(at)?) {
            name.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
            at += 1 + length;
        }
        let name = name.join(".");
        let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
        let question = query.get(12..at + 5)?;
        let texts = self.texts.lock().unwrap().get(&name).cloned();
        let host = self.hosts.lock().unwrap().get(&name).copied();
        let data: Vec<Vec<u8>> = match (kind, &texts, host) {
            (16, Some(texts), _) => texts.iter().map(|text| character_strings(text)).collect(),
            (1, _, Some(address)) => vec![address.octets().to_vec()],
            _ => Vec::new(),
        };
        let code = if texts.is_none() && host.is_none() { 3 } else { 0 };
        let mut response = query.get(..2)?.to_vec();
        response.extend([0x85, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
        response.extend(question);
        for data in data {
            response.extend([0xc0, 12]);
            response.extend(kind.to_be_bytes());
            response.extend([0, 1, 0, 0, 0, 60]);
            response.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            response.extend(data);
        }
        Some(response)
    }
}

/// A text in pieces of at most 255 bytes, each with its length in front.
fn character_strings(text: &str) -> Vec<u8> {
    let pieces = text.as_bytes().chunks(255);
    pieces.flat_map(|piece| std::iter::once(piece.len() as u8).chain(piece.iter().copied())).collect()
}
