//! The upstreams that nginx cannot be: one that sends WebSocket messages back, and a small gRPC service. On one thread, and
//! cheap enough that the proxies in front are what is measured.

use std::future::Future;
use std::net::SocketAddrV4;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server;

use crate::Outcome;
use crate::grpc::{ECHO, Messages, POUR, WINDOW, framed, numbered};
use crate::tasks::block_on;

const TOKEN_SENT_ON: &str = "the proxy sends the client's token on";

pub fn websocket(address: SocketAddrV4) -> Outcome {
    serve(address, |stream| async {
        let mut tunnel = accept_hdr_async(stream, without_token).await?;
        while let Some(message) = tunnel.next().await {
            let message = message?;
            // The answer to a close is the library's.
            if message.is_text() || message.is_binary() {
                tunnel.send(message).await?;
            }
        }
        Ok(())
    })
}

/// Who is let in must not see what let the client in.
#[allow(clippy::result_large_err, reason = "the library's callback")]
fn without_token(
    request: &server::Request,
    response: server::Response,
) -> Result<server::Response, server::ErrorResponse> {
    if request.headers().contains_key("authorization") {
        let mut refusal = server::ErrorResponse::new(Some(TOKEN_SENT_ON.to_owned()));
        *refusal.status_mut() = http::StatusCode::BAD_REQUEST;
        return Err(refusal);
    }
    Ok(response)
}

pub fn grpc(address: SocketAddrV4) -> Outcome {
    serve(address, |stream| async {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(10_000);
        let mut connection = builder.handshake(stream).await?;
        while let Some(call) = connection.accept().await {
            let (request, response) = call?;
            tokio::spawn(async { tell(called(request, response).await) });
        }
        Ok(())
    })
}

fn serve<F, C>(address: SocketAddrV4, connection: F) -> Outcome
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = Outcome> + Send + 'static,
{
    block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let served = connection(stream);
            tokio::spawn(async { tell(served.await) });
        }
    })
}

/// Proxies close connections in many ways, and try whether a port listens: what was wrong shows at the client. These lines are for
/// whoever looks for the reason.
fn tell(outcome: Outcome) {
    if let Err(error) = outcome {
        eprintln!("{error}");
    }
}

async fn called(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Outcome {
    let path = request.uri().path().to_owned();
    if request.headers().contains_key("authorization") {
        return refuse(&mut respond, "3", TOKEN_SENT_ON);
    }
    let mut messages = Messages::of(request.into_body());
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    match &*path {
        ECHO => {
            let Some(mut message) = messages.next().await? else {
                return refuse(&mut respond, "3", "no message");
            };
            let mut sending = respond.send_response(head, false)?;
            loop {
                sending.send_data(framed(&message), false)?;
                match messages.next().await? {
                    Some(next) => message = next,
                    None => break,
                }
            }
            sending.send_trailers(status("0"))?;
        }
        POUR => {
            let message = messages.next().await?.unwrap_or_default();
            let asked = str::from_utf8(&message)?.split_once(' ');
            let (count, bytes) = asked.ok_or("how many messages of how many bytes?")?;
            let (count, bytes) = (count.parse()?, bytes.parse()?);
            let mut sending = respond.send_response(head, false)?;
            for number in 0..count {
                sending.send_data(framed(&numbered(number, bytes)), false)?;
            }
            sending.send_trailers(status("0"))?;
        }
        _ => return refuse(&mut respond, "12", "no such method"),
    }
    Ok(())
}

fn refuse(respond: &mut SendResponse<Bytes>, code: &'static str, reason: &'static str) -> Outcome {
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", code)
        .header("grpc-message", reason);
    respond.send_response(response.body(())?, true)?;
    Ok(())
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(code),
    )])
}
