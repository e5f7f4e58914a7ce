//! gRPC calls through a proxy to the upstream of `serve-grpc`, over HTTP/2 in the clear: unary ones, streams that the server
//! fills, and streams that messages go both ways on. What gRPC is on the wire, for both sides.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::tasks::{Seen, answered, block_on, together};
use crate::{Options, Outcome, socket};

/// Sends every message back, until the caller has said all.
pub const ECHO: &str = "/lab.Stream/Echo";
/// Sends as many messages, of as many bytes, as the one message of the call says.
pub const POUR: &str = "/lab.Stream/Pour";
/// What may be under way without a word from the other side: no window of ours shall be what is waited for.
pub const WINDOW: u32 = 1 << 24;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub fn run(target: SocketAddrV4, options: &Options) -> Outcome {
    let tokens = options.tokens()?;
    let kind = options.text("kind")?.to_owned();
    if kind == "refused" {
        return block_on(refused(target, &tokens[0]));
    }
    let (connections, streams): (usize, usize) = (options.number("connections")?, options.number("streams")?);
    let (bytes, messages) = (options.number("bytes")?, options.number("messages")?);
    let seconds = Duration::from_secs_f64(options.number("seconds")?);
    block_on(async {
        let mut clients = Vec::new();
        for number in 0..connections {
            let caller = connect(target, number, &tokens[number % tokens.len()]).await?;
            clients.extend((0..streams).map(|_| caller.clone()));
        }
        let load = Load { bytes, messages, end: Instant::now() + seconds };
        match &*kind {
            "unary" => together(clients.into_iter().map(|caller| unary(caller, load))).await,
            "pour" => together(clients.into_iter().map(|caller| pour(caller, load))).await,
            "both" => together(clients.into_iter().map(|caller| both(caller, load))).await,
            other => Err(format!("unknown kind {other}: unary, pour, both or refused").into()),
        }
    })
}

#[derive(Clone, Copy)]
struct Load {
    bytes: usize,
    messages: usize,
    end: Instant,
}

/// A connection and who calls over it.
#[derive(Clone)]
struct Caller {
    requests: SendRequest<Bytes>,
    authority: SocketAddrV4,
    authorization: Arc<str>,
}

async fn connect(target: SocketAddrV4, number: usize, token: &str) -> Outcome<Caller> {
    let stream = socket::connect_from(number, target)?;
    stream.set_nonblocking(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let handshake = builder.handshake(TcpStream::from_std(stream)?);
    let (requests, connection) = answered(handshake, "connecting").await?;
    // Whatever ends it shows in the calls.
    tokio::spawn(async { drop(connection.await) });
    Ok(Caller { requests, authority: target, authorization: format!("Bearer {token}").into() })
}

impl Caller {
    /// Begins a call; the head of its answer comes when it comes.
    async fn call(&mut self, path: &str) -> Outcome<(h2::client::ResponseFuture, SendStream<Bytes>)> {
        let request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "load-client/1")
            .header("authorization", &*self.authorization)
            .body(())?;
        let mut ready = answered(self.requests.clone().ready(), "a free stream").await?;
        Ok(ready.send_request(request, false)?)
    }
}

async fn unary(mut caller: Caller, load: Load) -> Outcome<Seen> {
    let mut seen = Seen::default();
    loop {
        let message = numbered(seen.done, load.bytes);
        let asked = Instant::now();
        let (response, mut sending) = caller.call(ECHO).await?;
        sending.send_data(framed(&message), true)?;
        let mut answer = begun(answered(response, "the answer").await?)?;
        expect(answer.next().await?, &message)?;
        answer.end().await?;
        seen.note(1, asked);
        if Instant::now() >= load.end {
            break;
        }
    }
    Ok(seen)
}

async fn pour(mut caller: Caller, load: Load) -> Outcome<Seen> {
    let mut seen = Seen::default();
    loop {
        let asked = Instant::now();
        let (response, mut sending) = caller.call(POUR).await?;
        sending.send_data(framed(format!("{} {}", load.messages, load.bytes).as_bytes()), true)?;
        let mut answer = begun(answered(response, "the answer").await?)?;
        for number in 0..load.messages {
            expect(answer.next().await?, &numbered(number, load.bytes))?;
        }
        answer.end().await?;
        seen.note(load.messages, asked);
        if Instant::now() >= load.end {
            break;
        }
    }
    Ok(seen)
}

async fn both(mut caller: Caller, load: Load) -> Outcome<Seen> {
    let mut seen = Seen::default();
    let (response, mut sending) = caller.call(ECHO).await?;
    let first = numbered(0, load.bytes);
    // A server need not answer before it has a message.
    sending.send_data(framed(&first), false)?;
    let mut answer = begun(answered(response, "the answer").await?)?;
    expect(answer.next().await?, &first)?;
    loop {
        let message = numbered(seen.done, load.bytes);
        let asked = Instant::now();
        sending.send_data(framed(&message), false)?;
        expect(answer.next().await?, &message)?;
        seen.note(1, asked);
        if Instant::now() >= load.end {
            break;
        }
    }
    sending.send_data(Bytes::new(), true)?;
    answer.end().await?;
    Ok(seen)
}

async fn refused(target: SocketAddrV4, token: &str) -> Outcome {
    let (response, mut sending) = connect(target, 0, token).await?.call(ECHO).await?;
    // The refusal may be there before the message.
    let _refused_already = sending.send_data(framed(b"let me in"), true);
    let response = answered(response, "the answer").await?;
    let unauthenticated = response.headers().get("grpc-status").is_some_and(|status| status == "16");
    if response.status() == 401 || unauthenticated {
        println!(r#"{{"refused":true}}"#);
        return Ok(());
    }
    Err(format!("a bad token was answered with {response:?}").into())
}

fn begun(response: Response<RecvStream>) -> Outcome<Messages> {
    if response.status() != 200 || response.headers().contains_key("grpc-status") {
        return Err(format!("a call was answered with {response:?}").into());
    }
    Ok(Messages::of(response.into_body()))
}

fn expect(found: Option<Bytes>, message: &[u8]) -> Outcome {
    if found.as_deref() == Some(message) { Ok(()) } else { Err(format!("not the message: {found:?}").into()) }
}

/// A message that is another one than those before it; at least twenty bytes.
pub fn numbered(number: usize, bytes: usize) -> Vec<u8> {
    format!("{number:0bytes$}").into_bytes()
}

/// A message as it goes over the wire.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of one direction, however they are spread over DATA frames.
pub struct Messages {
    stream: RecvStream,
    arrived: BytesMut,
}

impl Messages {
    pub fn of(stream: RecvStream) -> Self {
        Self { stream, arrived: BytesMut::new() }
    }

    /// The next message; none after the last one.
    pub async fn next(&mut self) -> Outcome<Option<Bytes>> {
        loop {
            if let Some(message) = self.split() {
                return Ok(Some(message));
            }
            let Some(data) = answered(async { self.stream.data().await.transpose() }, "a message").await?
            else {
                return if self.arrived.is_empty() { Ok(None) } else { Err("a message is cut off".into()) };
            };
            self.stream.flow_control().release_capacity(data.len())?;
            self.arrived.extend_from_slice(&data);
        }
    }

    fn split(&mut self) -> Option<Bytes> {
        let length = self.arrived.get(1..PREFIX)?.get_u32() as usize;
        if self.arrived.len() < PREFIX + length {
            return None;
        }
        self.arrived.advance(PREFIX);
        Some(self.arrived.split_to(length).freeze())
    }

    /// Nothing more comes but trailers that say all went well.
    async fn end(mut self) -> Outcome {
        if let Some(more) = self.next().await? {
            return Err(format!("a message too many: {more:?}").into());
        }
        let trailers = answered(self.stream.trailers(), "the trailers").await?;
        let status = |trailers: &HeaderMap| trailers.get("grpc-status").is_some_and(|status| status == "0");
        if trailers.as_ref().is_some_and(status) {
            Ok(())
        } else {
            Err(format!("the call ended with {trailers:?}").into())
        }
    }
}
