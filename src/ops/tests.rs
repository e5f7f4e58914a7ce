//! The four pages, what is not one of them, and the listener's end.
#![allow(clippy::unwrap_used, reason = "tests")]

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::lifecycle::Drain;

struct Server {
    address: std::net::SocketAddr,
    drain: Drain,
    readiness: Arc<Readiness>,
    identity_keys: Arc<IdentityKeys>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

async fn start() -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::new(1);
    let readiness = Readiness::new(drain.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let identity_keys = Arc::<IdentityKeys>::default();
    let told = Told {
        metrics: Metrics::new(1),
        readiness: Arc::clone(&readiness),
        progress: Progress::new(1),
        identity_keys: Arc::clone(&identity_keys),
    };
    let running = tokio::spawn(serve(listener, told, async move {
        let _ = stopped.await;
    }));
    Server { address, drain, readiness, identity_keys, stop, running }
}

struct Answer {
    head: String,
    body: String,
}

impl Server {
    /// One request on a connection of its own.
    async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { head: head.to_lowercase(), body: body.into() }
    }

    async fn unready_codes(&self) -> Vec<String> {
        let answer = self.ask("GET", "/readyz").await;
        answer.check_status(503);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let errors = body["errors"].as_array().unwrap();
        assert!(errors.iter().all(|it| it["status"] == 503 && it["message"].is_string()), "{body}");
        errors.iter().map(|it| it["error_code"].as_str().unwrap().into()).collect()
    }
}

impl Answer {
    #[track_caller]
    fn check_status(&self, status: u16) {
        assert!(self.head.starts_with(&format!("http/1.1 {status} ")), "{}\n{}", self.head, self.body);
        assert!(self.head.contains("cache-control: no-store"), "{}", self.head);
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let server = start().await;
    let answer = server.ask("GET", "/metrics").await;
    answer.check_status(200);
    assert!(
        answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        answer.head
    );
    assert!(answer.body.contains("\npostern_build_info{"), "{}", answer.body);
    server.ask("GET", "/metrics?x=y").await.check_status(200);
}

#[tokio::test]
async fn keys_are_listed_if_anything_is_signed() {
    let server = start().await;
    server.ask("GET", "/.well-known/jwks.json").await.check_status(404);
    server.identity_keys.configure(Some(Duration::from_secs(600)));
    let answer = server.ask("GET", "/.well-known/jwks.json").await;
    assert!(answer.head.starts_with("http/1.1 200 "), "{}", answer.head);
    assert!(answer.head.contains("content-type: application/jwk-set+json"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: public, max-age=300"), "{}", answer.head);
    let list: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 2, "{list}");
    server.ask("POST", "/.well-known/jwks.json").await.check_status(405);
}

#[tokio::test]
async fn head_has_no_body() {
    let server = start().await;
    for path in ["/metrics", "/healthz", "/readyz", "/nothing"] {
        assert_eq!(server.ask("HEAD", path).await.body, "", "{path}");
    }
}

#[tokio::test]
async fn healthy_as_long_as_it_answers() {
    let server = start().await;
    server.drain.start();
    let answer = server.ask("GET", "/healthz").await;
    answer.check_status(200);
    assert_eq!(answer.body, "ok\n");
}

#[tokio::test]
async fn not_healthy_while_a_thread_is_stuck() {
    let progress = Progress::new(2);
    let pulses = [progress.of_worker(0), progress.of_worker(1)];
    let told = Told {
        metrics: Metrics::new(2),
        readiness: Readiness::new(Drain::new(2)),
        progress,
        identity_keys: Arc::default(),
    };
    let later = Instant::now() + Duration::from_secs(15);
    pulses[0].beat(later);
    let response = told.health_at(later);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["errors"][0]["error_code"], "stuck");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("worker 1") && !message.contains("worker 0"), "{message}");
    pulses[1].beat(later);
    assert_eq!(told.health_at(later).status(), StatusCode::OK);
}

#[tokio::test]
async fn ready_once_loaded_and_bound_and_until_it_drains() {
    let server = start().await;
    assert_eq!(server.unready_codes().await, ["directory_not_loaded", "listeners_not_bound"]);
    server.readiness.directory_loaded(Arc::default());
    assert_eq!(server.unready_codes().await, ["listeners_not_bound"]);
    server.readiness.listeners_bound();
    server.ask("GET", "/readyz").await.check_status(200);
    server.drain.start();
    assert_eq!(server.unready_codes().await, ["draining"]);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = start().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
        ("OPTIONS", "/readyz", 405),
        ("FOO", "/readyz", 405),
    ] {
        let answer = server.ask(method, path).await;
        answer.check_status(status);
        assert_eq!(answer.head.contains("allow: get, head"), status == 405, "{}", answer.head);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["errors"][0]["status"], status, "{body}");
    }
}

#[tokio::test]
async fn more_connections_than_slots_wait_for_one() {
    let server = start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(keep_alive(&server).await);
    }
    let mut waiting = Box::pin(server.ask("GET", "/healthz"));
    // Another answer shows that the server has had its turn.
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there was no slot"),
        () = ask_again(&mut held[0]) => {}
    }
    drop(held);
    waiting.await.check_status(200);
}

#[tokio::test]
async fn the_end_closes_kept_connections() {
    let server = start().await;
    let mut kept = keep_alive(&server).await;
    server.stop.send(()).unwrap();
    assert_eq!(kept.read(&mut [0; 16]).await.unwrap(), 0);
    server.running.await.unwrap();
    TcpStream::connect(server.address).await.unwrap_err();
}

/// A connection that has had an answer and stays open.
async fn keep_alive(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut stream).await;
    stream
}

async fn ask_again(stream: &mut TcpStream) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ops\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nok\n") {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
    }
}
