//! The load lab's own client, for what wrk and h2load cannot do, and the upstreams that nginx cannot be. Reading of arguments
//! only; each command has its file.
//!
//!     load-client open ADDRESS --rate 5000 --seconds 5 --connections 64 --tokens FILE --expect 200 --path /x
//!     load-client idle ADDRESS --count 10000 --tokens FILE --path /x        holds them until its input ends
//!     load-client attempts ADDRESS --bytes FILE --parallel 16 --seconds 5
//!     load-client websocket ADDRESS --kind echo|open|refused --tunnels 64 --bytes 64 --seconds 5 --tokens FILE --path /x
//!     load-client grpc ADDRESS --kind unary|pour|both|refused --connections 4 --streams 16 --bytes 64 --messages 1000
//!                              --seconds 5 --tokens FILE
//!     load-client serve-websocket ADDRESS                                   serve until they are ended
//!     load-client serve-grpc ADDRESS
//!
//! Each load prints one line of JSON. Addresses of the loopback network only: this is no tool for the world outside.

mod attempts;
mod grpc;
mod idle;
mod latency;
mod open;
mod response;
mod serve;
mod socket;
mod tasks;
mod websocket;

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddrV4;
use std::process::ExitCode;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load-client: {error}");
            ExitCode::FAILURE
        }
    }
}

const COMMANDS: &str = "open, idle, attempts, websocket, grpc, serve-websocket or serve-grpc";

fn run() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().ok_or_else(|| format!("a command is missing: {COMMANDS}"))?;
    let target: SocketAddrV4 = arguments.next().ok_or("the address is missing")?.parse()?;
    if !target.ip().is_loopback() {
        return Err(format!("{target} is not an address of this machine").into());
    }
    let mut options = Options(HashMap::new());
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
        options.0.insert(name.trim_start_matches('-').to_owned(), value);
    }
    match &*command {
        "open" => open::run(target, &options),
        "idle" => idle::run(target, &options),
        "attempts" => attempts::run(target, &options),
        "websocket" => websocket::run(target, &options),
        "grpc" => grpc::run(target, &options),
        "serve-websocket" => serve::websocket(target),
        "serve-grpc" => serve::grpc(target),
        _ => Err(format!("unknown command {command}: {COMMANDS}").into()),
    }
}

/// `--name value` pairs.
struct Options(HashMap<String, String>);

impl Options {
    fn text(&self, name: &str) -> Outcome<&str> {
        Ok(self.0.get(name).ok_or_else(|| format!("--{name} is missing"))?)
    }

    fn number<T: std::str::FromStr<Err: Error + Send + Sync + 'static>>(&self, name: &str) -> Outcome<T> {
        Ok(self.text(name)?.parse().map_err(|error| format!("--{name}: {error}"))?)
    }

    /// The tokens of the file; at least one.
    fn tokens(&self) -> Outcome<Vec<String>> {
        let tokens: Vec<_> =
            std::fs::read_to_string(self.text("tokens")?)?.lines().map(str::to_owned).collect();
        if tokens.is_empty() { Err("the file of tokens is empty".into()) } else { Ok(tokens) }
    }

    /// One request for each token of the file, ready to be sent.
    fn requests(&self, target: SocketAddrV4) -> Outcome<Vec<Box<[u8]>>> {
        let path = self.text("path")?;
        let request = |token: &String| {
            format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nAuthorization: Bearer {token}\r\n\r\n")
                .into_bytes()
                .into()
        };
        Ok(self.tokens()?.iter().map(request).collect())
    }
}
