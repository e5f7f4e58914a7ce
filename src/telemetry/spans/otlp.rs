//! Spans as OTLP has them: for each sampled request one for the request, one for the decision, one for the call of the upstream.
//! Names and attributes are OpenTelemetry's for HTTP; what it has no word for begins with `postern.`. Paths are told without queries.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::Traced;
use crate::telemetry::record::Ending;

/// The flag of a sampled trace.
const SAMPLED: u32 = 1;

/// The request that tells a collector of some traces.
pub(super) fn request(service_name: &str, traces: &[Traced]) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "postern".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = traces.iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

fn spans(traced: &Traced) -> Vec<Span> {
    let request = of_request(traced);
    let decision = traced.decided.map(|decided| of_decision(traced, decided));
    let upstream = traced.called.map(|called| of_upstream(traced, called));
    [Some(request), decision, upstream].into_iter().flatten().collect()
}

fn of_request(traced: &Traced) -> Span {
    let record = &traced.record;
    let method = record.method.as_ref().map_or("HTTP", |method| method.as_str());
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.path", record.uri.path()),
        text("client.address", &record.client_address.to_string()),
        text("postern.request_id", &String::from_utf8_lossy(&record.request_id)),
        text("postern.ending", record.ending.code()),
        number("http.request.body.size", record.bytes_received),
        number("http.response.body.size", record.bytes_sent),
    ];
    if !record.host.is_empty() {
        attributes.push(text("server.address", &record.host));
    }
    if let Some(status) = record.status {
        attributes.push(number("http.response.status_code", status.as_u16().into()));
    }
    let told = [
        ("user_agent.original", record.user_agent.as_ref()),
        ("user.id", record.user_id.as_ref()),
        ("postern.token_prefix", record.token_prefix.as_ref()),
    ];
    attributes.extend(told.into_iter().filter_map(|(name, value)| Some(text(name, &visible(value?)))));
    if let Some(route) = &record.route {
        attributes.push(text("postern.route", route));
    }
    let name = record.route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    Span {
        parent_span_id: traced.context.parent_id.map_or_else(Vec::new, |parent| parent.to_vec()),
        attributes,
        // A client's fault is none of the server's.
        status: failed(record.status.is_some_and(|status| status.is_server_error()), record.ending),
        ..span(traced, traced.context.request_span, name, SpanKind::Server, Duration::ZERO, record.duration)
    }
}

fn of_decision(traced: &Traced, decided: Duration) -> Span {
    let record = &traced.record;
    let mut attributes = vec![text("postern.decision", record.decision.code())];
    if let Ending::Denied(denial) = record.ending {
        attributes.push(text("postern.reason", denial.code()));
    }
    Span {
        attributes,
        ..span(
            traced,
            traced.context.decision_span,
            "decision".to_owned(),
            SpanKind::Internal,
            Duration::ZERO,
            decided,
        )
    }
}

fn of_upstream(traced: &Traced, called: Duration) -> Span {
    let record = &traced.record;
    let mut attributes = Vec::new();
    if let Some((upstream, endpoint)) = &record.upstream {
        attributes.extend([text("postern.upstream", upstream), text("postern.endpoint", endpoint)]);
    }
    let events = record.upstream_duration.map(|answered| Event {
        time_unix_nano: nanoseconds(record.time, answered),
        name: "response head".to_owned(),
        ..Event::default()
    });
    let has_failed = record.upstream_duration.is_none() || record.ending == Ending::UpstreamAborted;
    Span {
        attributes,
        events: events.into_iter().collect(),
        status: failed(has_failed, record.ending),
        ..span(
            traced,
            traced.context.upstream_span,
            "upstream".to_owned(),
            SpanKind::Client,
            called,
            record.duration,
        )
    }
}

/// From `start` to `end` after the request's head; a child of the request's span unless said otherwise.
fn span(traced: &Traced, id: [u8; 8], name: String, kind: SpanKind, start: Duration, end: Duration) -> Span {
    let time = traced.record.time;
    Span {
        trace_id: traced.context.trace_id.to_vec(),
        span_id: id.to_vec(),
        parent_span_id: traced.context.request_span.to_vec(),
        name,
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(time, start),
        end_time_unix_nano: nanoseconds(time, end.max(start)),
        flags: SAMPLED,
        ..Span::default()
    }
}

fn failed(has_failed: bool, ending: Ending) -> Option<Status> {
    has_failed.then(|| Status { message: ending.code().to_owned(), code: StatusCode::Error.into() })
}

fn nanoseconds(time: SystemTime, after: Duration) -> u64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + after;
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// A header's value as text; what is not ASCII is somebody's to guess.
fn visible(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
