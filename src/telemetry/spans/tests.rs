//! What a collector gets, how often, and what becomes of traces that it does not take. Collectors here are a few lines on a socket.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::policy::Denial;
use crate::telemetry::record::{Decision, Ending};

fn traced(number: u8) -> Traced {
    Traced {
        context: TraceContext {
            trace_id: [number; 16],
            parent_id: Some([7; 8]),
            request_span: [1; 8],
            decision_span: [2; 8],
            upstream_span: [3; 8],
        },
        record: Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_788_000_000),
            request_id: *b"0123456789abcdef0123456789abcdef",
            trace_id: [b'0'; 32],
            client_address: [192, 0, 2, 1].into(),
            method: Some(Method::GET),
            host: "search.example.com".into(),
            uri: Uri::from_static("/index/_search?q=not+told"),
            route: Some("search".into()),
            status: Some(StatusCode::OK),
            decision: Decision::Permit,
            user_id: Some(HeaderValue::from_static("u1")),
            token_prefix: Some(HeaderValue::from_static("psta_0123456789ab")),
            user_agent: Some(HeaderValue::from_bytes(b"caf\xe9/1").unwrap()),
            upstream: Some(("search".into(), "127.0.0.1:9200".into())),
            bytes_received: 3,
            bytes_sent: 5,
            duration: Duration::from_millis(20),
            upstream_duration: Some(Duration::from_millis(10)),
            ending: Ending::Completed,
            difference: None,
        },
        decided: Some(Duration::from_micros(3)),
        called: Some(Duration::from_micros(5)),
    }
}

/// A collector that answers one request after another with these statuses, the last one over and over.
struct Collector {
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
}

impl Collector {
    async fn start(statuses: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let body = loop {
                    let count = stream.read_buf(&mut bytes).await.unwrap();
                    assert!(count > 0, "a whole request was expected");
                    if let Some(body) = body_of(&bytes) {
                        break body;
                    }
                };
                let status = statuses[number.min(statuses.len() - 1)];
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if sender.send(ExportTraceServiceRequest::decode(body).unwrap()).is_err() {
                    break;
                }
            }
        });
        Self { address, received }
    }

    async fn next(&mut self) -> Vec<Span> {
        let request =
            tokio::time::timeout(Duration::from_secs(20), self.received.recv()).await.unwrap().unwrap();
        let [resource] = &request.resource_spans[..] else { panic!("{request:?}") };
        let service = &resource.resource.as_ref().unwrap().attributes[0];
        assert_eq!((service.key.as_str(), told(service)), ("service.name", "gate".to_owned()));
        resource.scope_spans[0].spans.clone()
    }
}

/// The body, once all of it is there.
fn body_of(request: &[u8]) -> Option<Bytes> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&request[..end]).unwrap().to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let body = &request[end..];
    (body.len() == length).then(|| Bytes::copy_from_slice(body))
}

fn told(attribute: &opentelemetry_proto::tonic::common::v1::KeyValue) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|attribute| attribute.key == key).map(told)
}

struct Running {
    spans: Arc<Spans>,
    metrics: Arc<Metrics>,
    ending: watch::Sender<bool>,
    exporting: tokio::task::JoinHandle<()>,
}

impl Running {
    fn to(address: SocketAddr) -> Self {
        let config = TracingConfig {
            endpoint: format!("http://{address}/v1/traces"),
            service_name: "gate".to_owned(),
            sampled_per_million: 1_000_000,
            follow_parent: true,
        };
        let metrics = Metrics::new(1);
        let (spans, exporter) = Spans::new(&config, &metrics).unwrap();
        let ending = watch::Sender::new(false);
        let exporting = tokio::spawn(exporter.run(ending.subscribe()));
        Self { spans, metrics, ending, exporting }
    }

    /// What a collector answered has been dealt with a moment after it answered.
    async fn until_metrics_say(&self, line: &str) {
        let told = async {
            while !self.metrics.encode().unwrap().contains(line) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect(line);
    }

    async fn stop(self) -> String {
        self.ending.send_replace(true);
        self.exporting.await.unwrap();
        self.metrics.encode().unwrap()
    }
}

#[tokio::test]
async fn a_request_is_three_spans() {
    let mut collector = Collector::start(&["200 OK"]).await;
    let running = Running::to(collector.address);
    running.spans.submit(traced(9));
    let spans = collector.next().await;
    let [request, decision, upstream] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| span.trace_id == [9; 16] && span.flags & 1 == 1));
    assert_eq!((&request.span_id[..], &request.parent_span_id[..]), (&[1; 8][..], &[7; 8][..]));
    assert_eq!((&decision.span_id[..], &decision.parent_span_id[..]), (&[2; 8][..], &[1; 8][..]));
    assert_eq!((&upstream.span_id[..], &upstream.parent_span_id[..]), (&[3; 8][..], &[1; 8][..]));
    let kinds = [request, decision, upstream].map(Span::kind);
    assert_eq!(kinds, [SpanKind::Server, SpanKind::Internal, SpanKind::Client]);
    let start = 1_788_000_000_000_000_000;
    let times = |span: &Span| (span.start_time_unix_nano - start, span.end_time_unix_nano - start);
    assert_eq!([request, decision, upstream].map(times), [(0, 20_000_000), (0, 3_000), (5_000, 20_000_000)]);
    assert_eq!(upstream.events[0].time_unix_nano - start, 10_000_000);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/index/_search"),
        ("http.response.status_code", "200"),
        ("client.address", "192.0.2.1"),
        ("server.address", "search.example.com"),
        ("user.id", "u1"),
        ("postern.token_prefix", "psta_0123456789ab"),
        ("postern.route", "search"),
        ("user_agent.original", "caf\u{fffd}/1"),
    ] {
        assert_eq!(attribute(request, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(request.name, "GET search");
    assert_eq!(attribute(decision, "postern.decision").as_deref(), Some("permit"));
    assert!(!format!("{spans:?}").contains("not+told"), "queries are nobody's");
    assert!(running.stop().await.contains("postern_traces_total{outcome=\"exported\"} 1\n"));
}

#[tokio::test]
async fn a_refusal_says_why_and_calls_nobody() {
    let mut collector = Collector::start(&["200 OK"]).await;
    let running = Running::to(collector.address);
    let mut refused = traced(1);
    refused.called = None;
    refused.record.status = Some(StatusCode::FORBIDDEN);
    refused.record.ending = Ending::Denied(Denial::InsufficientScope);
    refused.record.decision = Decision::Deny;
    running.spans.submit(refused);
    let spans = collector.next().await;
    let [request, decision] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(attribute(decision, "postern.reason").as_deref(), Some(Denial::InsufficientScope.code()));
    assert!(request.status.is_none(), "the server did what it should");
}

#[tokio::test]
async fn what_a_collector_cannot_take_now_is_sent_again() {
    let mut collector = Collector::start(&["503 Service Unavailable\r\nRetry-After: 0", "200 OK"]).await;
    let running = Running::to(collector.address);
    running.spans.submit(traced(1));
    assert_eq!(collector.next().await, collector.next().await);
    let metrics = running.stop().await;
    assert!(metrics.contains("postern_traces_total{outcome=\"exported\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn what_a_collector_refuses_is_dropped_and_counted() {
    let mut collector = Collector::start(&["400 Bad Request"]).await;
    let running = Running::to(collector.address);
    running.spans.submit(traced(1));
    collector.next().await;
    // To be stopped before it knows would send it once more.
    running.until_metrics_say("postern_traces_total{outcome=\"dropped\"} 1\n").await;
    running.stop().await;
    assert!(collector.received.try_recv().is_err(), "it was not sent again");
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_the_end_sends_the_rest() {
    let collector = Collector::start(&["200 OK"]).await;
    let config = TracingConfig {
        endpoint: format!("http://{}/v1/traces", collector.address),
        service_name: "gate".to_owned(),
        sampled_per_million: 0,
        follow_parent: true,
    };
    let metrics = Metrics::new(1);
    let (spans, mut exporter) = Spans::new(&config, &metrics).unwrap();
    // How fast a debug build sends all of it is not what is asked here.
    exporter.last_patience = Duration::from_secs(120);
    // Nobody takes anything yet.
    (0..QUEUE + 3).for_each(|_| spans.submit(traced(1)));
    let (_ending, ended) = watch::channel(true);
    exporter.run(ended).await;
    let text = metrics.encode().unwrap();
    assert!(text.contains("postern_traces_total{outcome=\"dropped\"} 3\n"), "{text}");
    assert!(text.contains(&format!("postern_traces_total{{outcome=\"exported\"}} {QUEUE}\n")), "{text}");
}
