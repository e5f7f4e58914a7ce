//! The sample service behind the demo: says what it was asked (`/slow` after three seconds), and streams a line a
//! second at `/stream`. HTTP/1.1 only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, interval};

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(3);

/// Time between the lines of `/stream`.
const LINE: Duration = Duration::from_secs(1);

/// Lines of `/stream`.
const LINES: u32 = 10;

/// How long accepting pauses when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts the service on a free port; it ends with the runtime.
pub(super) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    Ok(address)
}

async fn serve(stream: TcpStream) {
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "a connection to the sample service ended early");
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Either<Full<Bytes>, Lines>>, Infallible> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/stream" {
        let lines = Lines { ticks: interval(LINE), sent: 0 };
        return Ok(response("text/plain; charset=utf-8", Either::Right(lines)));
    }
    if head.uri.path() == "/slow" {
        tokio::time::sleep(SLOW).await;
    }
    let echo = Echo {
        method: head.method.as_str(),
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: lines_of(&head.headers),
        body_bytes: count(body).await,
    };
    let mut text = serde_json::to_vec_pretty(&echo).unwrap_or_default();
    text.push(b'\n');
    Ok(response("application/json", Either::Left(Full::from(text))))
}

fn response<B>(content_type: &'static str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    let value = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// What the service was asked.
#[derive(Serialize)]
struct Echo<'a> {
    method: &'a str,
    path: &'a str,
    headers: BTreeMap<&'a str, String>,
    body_bytes: u64,
}

/// Several lines of one name are joined, as HTTP allows.
fn lines_of(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut lines = BTreeMap::<&str, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        lines
            .entry(name.as_str())
            .and_modify(|line| {
                line.push_str(", ");
                line.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    lines
}

/// Reads a body to its end, or to where it breaks off, and keeps nothing of it.
async fn count(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

/// A body of a line a second.
#[derive(Debug)]
struct Lines {
    ticks: Interval,
    sent: u32,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.sent == LINES {
            return Poll::Ready(None);
        }
        std::task::ready!(this.ticks.poll_tick(context));
        this.sent += 1;
        let line = format!("line {} of {LINES}\n", this.sent);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(line)))))
    }
}
