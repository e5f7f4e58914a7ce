//! `postern health`: asks the running sidecar whether it is ready, for whoever looks after it and has nothing else to ask with:
//! an image without a shell, a script.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Exit;
use super::arguments::ConfigArguments;
use super::failure::Failure;
use super::output::{Format, Output};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern health                            is the sidecar of ./postern.toml ready for requests?
  postern health --live                     does it get on, or should it be restarted?
  postern health --address 127.0.0.1:9464   the one that listens there, whatever the file says

Exits with 0 if it is and with 1 if it is not, or does not answer within 2 seconds. Of the configuration only the address \
under [ops] is read: a file with mistakes in it makes no running sidecar unhealthy.";

/// The address without a word about it in the configuration.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// For connecting, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// So much of an answer is read.
const ANSWER_BYTES: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Ask whether it gets on or should be restarted, rather than whether it is ready for requests.
    #[arg(long)]
    live: bool,
    /// Where the sidecar's operators' listener is.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
}

/// What the sidecar says.
#[derive(Debug, Serialize)]
struct Health {
    ok: bool,
    /// Who was asked.
    address: SocketAddr,
    /// The page.
    path: &'static str,
    status: u16,
    /// In its own words.
    message: String,
}

pub(super) fn execute(arguments: &HealthArguments, output: Output) -> Result<Exit, Failure> {
    let address = reachable(match arguments.address {
        Some(address) => address,
        None => configured(&arguments.config.config)?,
    });
    if address.port() == 0 {
        return Err(Failure::Failed(
            "the configuration lets the system choose the port of [ops]: give the one of the sidecar with --address"
                .to_owned(),
        ));
    }
    let path = if arguments.live { "/healthz" } else { "/readyz" };
    let health = ask(address, path).map_err(|error| {
        Failure::Failed(format!(
            "nobody answers at http://{address}{path} ({error}): is the sidecar running, and is this where its [ops] listens?"
        ))
    })?;
    if health.ok || output.format() == Format::Json {
        output.result(&health, |health| health.message.clone())?;
    } else {
        output.remark(&health.message);
    }
    Ok(if health.ok { Exit::Done } else { Exit::Failed })
}

/// The address in the configuration file, read by itself. Where the file does not say it, or cannot be read as it is, that is the
/// default: the sidecar that runs has read an earlier one.
fn configured(file: &Path) -> Result<SocketAddr, Failure> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let tables: toml::Table = text.parse().unwrap_or_default();
    match tables.get("ops").and_then(|ops| ops.get("address")).and_then(toml::Value::as_str) {
        None => Ok(DEFAULT_ADDRESS),
        Some(address) => address.parse().map_err(|_| {
            Failure::Failed(format!(
                "`address` under [ops] in {} is no IP address with a port: correct it, or give the sidecar's with --address",
                file.display()
            ))
        }),
    }
}

/// Where somebody on this machine reaches what listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr, path: &'static str) -> io::Result<Health> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (status, message) =
        understood(&answer).ok_or_else(|| io::Error::other("it does not speak HTTP as Postern does"))?;
    Ok(Health { ok: status == 200, address, path, status, message })
}

/// An answer's status, and what it says to people.
fn understood(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let error: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = error.as_ref().and_then(|error| error.get("message")?.as_str());
    Some((status, message.unwrap_or(body).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    //! Whom it asks, and what it understands.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_address_is_the_configurations_even_of_a_file_with_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postern.toml");
        let cases = [
            ("[ops]\naddress = \"127.0.0.1:9000\"\n", Some("127.0.0.1:9000")),
            ("nonsense = 1\n[ops]\naddress = \"127.0.0.1:9000\"\n", Some("127.0.0.1:9000")),
            ("[ops]\naddress = \"[::]:9000\"\n", Some("[::]:9000")),
            ("[store]\npath = \"a\"\n", Some("127.0.0.1:9464")),
            ("[ops\n", Some("127.0.0.1:9464")),
            ("[ops]\naddress = \"nowhere\"\n", None),
        ];
        for (text, expected) in cases {
            std::fs::write(&file, text).unwrap();
            let found = configured(&file).ok();
            assert_eq!(found, expected.map(|address| address.parse().unwrap()), "{text:?}");
        }
        assert_eq!(configured(&folder.path().join("missing")).ok(), Some(DEFAULT_ADDRESS));
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listens, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn what_is_no_answer_is_not_understood() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n", Some((200, "ok"))),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"message\":\"Not ready.\",\"errors\":[]}\n",
                Some((503, "Not ready.")),
            ),
            ("HTTP/1.1 502 Bad\r\n\r\n<html>", Some((502, "<html>"))),
            ("HTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.1 é\r\n\r\n", None),
            ("SSH-2.0-x\r\n\r\n", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            let expected = expected.map(|(status, message)| (status, message.to_owned()));
            assert_eq!(understood(answer), expected, "{answer:?}");
        }
    }
}
