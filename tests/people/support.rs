//! People who use the management API: from an address of their own, with the token they have got, and what they type.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use postern::login::totp::Authenticator;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::{Sidecar, SidecarBuilder, Upstream};

/// A password that is strong enough.
pub(crate) const PASSWORD: &str = "tidal-acorn-velvet-9";

/// Another one.
pub(crate) const OTHER_PASSWORD: &str = "marble/Ostrich/quilt/7";

/// Cheap hashes, so that tests are quick.
pub(crate) const CHEAP: &str = "[admin.login]\nargon2_memory_kib = 8192\nargon2_iterations = 1\n";

/// A sidecar with the management API.
pub(crate) fn with_api(upstream: &Upstream) -> SidecarBuilder {
    Sidecar::in_front_of(upstream).admin(CHEAP)
}

/// Somebody who asks the management API.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    api: SocketAddr,
    from: IpAddr,
    token: Option<String>,
}

/// What they are answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Person {
    /// Somebody without a token, at 127.0.0.1.
    pub(crate) fn stranger(sidecar: &Sidecar) -> Self {
        let api = sidecar.admin.expect("the sidecar has a management API");
        Self { api, from: Ipv4Addr::LOCALHOST.into(), token: None }
    }

    /// The same person elsewhere; every address of 127.0.0.0/8 is this machine.
    pub(crate) fn from(&self, address: [u8; 4]) -> Self {
        Self { from: Ipv4Addr::from(address).into(), ..self.clone() }
    }

    /// The same with a token.
    pub(crate) fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Logged in, with the password alone.
    #[track_caller]
    pub(crate) fn logged_in(&self, email: &str, password: &str) -> Self {
        self.with(self.log_in(email, password, None).ok().text("token"))
    }

    #[track_caller]
    pub(crate) fn log_in(&self, email: &str, password: &str, otp: Option<&str>) -> Answer {
        let mut body = json!({ "email": email, "password": password });
        if let Some(otp) = otp {
            body["otp"] = otp.into();
        }
        self.send("POST", "/v1/userauth", Some(&body))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None)
    }

    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut stream = self.connect();
        stream.write_all(self.request(method, path, body, "close").as_bytes()).unwrap();
        let mut whole = Vec::new();
        stream.read_to_end(&mut whole).unwrap();
        Answer::parse(&String::from_utf8(whole).unwrap())
    }

    /// A connection from the person's own address.
    pub(crate) fn connect(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((self.from, 0)).into()).unwrap();
        socket.connect(&self.api.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        stream
    }

    /// A request's bytes.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>, connection: &str) -> String {
        let authorization = self
            .token
            .as_ref()
            .map_or_else(String::new, |token| format!("Authorization: aivenv1 {token}\r\n"));
        let body = body.map(Value::to_string).unwrap_or_default();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        )
    }
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a response has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        Self { status, head: head.to_lowercase(), body }
    }

    /// Fails unless it was done.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self
    }

    /// Fails unless it was refused like this, in Aiven's error shape.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let error = &self.body["errors"][0];
        assert_eq!((self.status, error["error_code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!((&error["status"], &error["message"]), (&status.into(), &self.body["message"]));
        self
    }

    #[track_caller]
    pub(crate) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_else(|| panic!("no text {field} in {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Runs a `postern user` command beside a running sidecar; returns what it prints.
#[track_caller]
pub(crate) fn postern_user(sidecar: &Sidecar, arguments: &[&str], typed: &str) -> Value {
    let ran = try_postern_user(sidecar, arguments, typed);
    ran.unwrap_or_else(|problem| panic!("{arguments:?}: {problem}"))
}

pub(crate) fn try_postern_user(sidecar: &Sidecar, arguments: &[&str], typed: &str) -> Result<Value, String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("user")
        .args(arguments)
        .args(["--json", "--config"])
        .arg(sidecar.config_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that asks for nothing may have ended already.
    let _unread = child.stdin.take().unwrap().write_all(format!("{typed}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(serde_json::from_str(&text(&output.stdout)).unwrap())
    } else {
        Err(text(&output.stderr))
    }
}

/// A person made at the command line, whom the sidecar knows by now; returns the id.
#[track_caller]
pub(crate) fn made(sidecar: &Sidecar, email: &str, more: &[&str]) -> String {
    let arguments = [&["create", email], more].concat();
    postern_user(sidecar, &arguments, PASSWORD)["user_id"].as_str().unwrap().to_owned()
}

/// The authenticator app that somebody took a URI into.
pub(crate) fn app(uri: &str, email: &str) -> Authenticator {
    Authenticator::from_uri(uri, "Postern Example", email).unwrap()
}

pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
