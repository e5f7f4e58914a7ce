//! Tunnels through a proxy to the upstream of `serve-websocket`: kept ones that messages go through, or ever new ones.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::tasks::{Seen, answered, block_on, together};
use crate::{Options, Outcome, socket};

type Tunnel = WebSocketStream<TcpStream>;

pub fn run(target: SocketAddrV4, options: &Options) -> Outcome {
    let url = format!("ws://{target}{}", options.text("path")?);
    let tokens = options.tokens()?;
    let kind = options.text("kind")?;
    if kind == "refused" {
        return block_on(refused(target, &url, &tokens[0]));
    }
    let (tunnels, bytes): (usize, usize) = (options.number("tunnels")?, options.number("bytes")?);
    let seconds = Duration::from_secs_f64(options.number("seconds")?);
    let token = |number: usize| tokens[number % tokens.len()].clone();
    block_on(async {
        match kind {
            "echo" => {
                // Opening them is another measurement.
                let mut opened = Vec::new();
                for number in 0..tunnels {
                    opened.push(open(target, &url, &token(number), number).await?);
                }
                let end = Instant::now() + seconds;
                together(opened.into_iter().map(|tunnel| echo(tunnel, bytes, end))).await
            }
            "open" => {
                let end = Instant::now() + seconds;
                let each = |first| {
                    let (url, tokens) = (url.clone(), tokens.clone());
                    open_over_and_over(target, url, tokens, first, tunnels, bytes, end)
                };
                together((0..tunnels).map(each)).await
            }
            other => Err(format!("unknown kind {other}: echo, open or refused").into()),
        }
    })
}

/// One message at a time there and back, until the end.
async fn echo(mut tunnel: Tunnel, bytes: usize, end: Instant) -> Outcome<Seen> {
    let mut seen = Seen::default();
    loop {
        there_and_back(&mut tunnel, seen.done, bytes, &mut seen).await?;
        if Instant::now() >= end {
            break;
        }
    }
    close(tunnel).await?;
    Ok(seen)
}

/// A tunnel, one message there and back, a close that both sides have agreed to; and the next one.
async fn open_over_and_over(
    target: SocketAddrV4,
    url: String,
    tokens: Vec<String>,
    first: usize,
    step: usize,
    bytes: usize,
    end: Instant,
) -> Outcome<Seen> {
    let mut seen = Seen::default();
    for number in (first..).step_by(step) {
        let asked = Instant::now();
        let mut tunnel = open(target, &url, &tokens[number % tokens.len()], number).await?;
        there_and_back(&mut tunnel, number, bytes, &mut Seen::default()).await?;
        close(tunnel).await?;
        seen.note(1, asked);
        if Instant::now() >= end {
            break;
        }
    }
    Ok(seen)
}

async fn connect(
    target: SocketAddrV4,
    url: &str,
    token: &str,
    number: usize,
) -> Outcome<Result<Tunnel, tungstenite::Error>> {
    let stream = socket::connect_from(number, target)?;
    stream.set_nonblocking(true)?;
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let opened = client_async(request, TcpStream::from_std(stream)?);
    answered(async { Ok::<_, std::io::Error>(opened.await) }, "opening")
        .await
        .map(|opened| opened.map(|(tunnel, _)| tunnel))
}

async fn open(target: SocketAddrV4, url: &str, token: &str, number: usize) -> Outcome<Tunnel> {
    connect(target, url, token, number).await?.map_err(|error| format!("tunnel {number}: {error}").into())
}

async fn there_and_back(tunnel: &mut Tunnel, number: usize, bytes: usize, seen: &mut Seen) -> Outcome {
    let text = format!("{number:0bytes$}");
    let asked = Instant::now();
    answered(tunnel.send(Message::text(text.clone())), "sending").await?;
    match answered(async { tunnel.next().await.transpose() }, "the echo").await? {
        Some(Message::Text(answer)) if *answer == *text => seen.note(1, asked),
        other => return Err(format!("sent {text}, back came {other:?}").into()),
    }
    Ok(())
}

async fn close(mut tunnel: Tunnel) -> Outcome {
    answered(tunnel.close(None), "closing").await?;
    match answered(async { tunnel.next().await.transpose() }, "the close").await? {
        Some(Message::Close(_)) => Ok(()),
        other => Err(format!("closed, back came {other:?}").into()),
    }
}

async fn refused(target: SocketAddrV4, url: &str, token: &str) -> Outcome {
    match connect(target, url, token, 0).await? {
        Err(tungstenite::Error::Http(response)) if response.status() == 401 => {
            println!(r#"{{"refused":true}}"#);
            Ok(())
        }
        Err(error) => Err(format!("not refused, but: {error}").into()),
        Ok(_) => Err("a bad token was let in".into()),
    }
}
