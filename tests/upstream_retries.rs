//! What is sent again to another address, and what never is.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::TcpListener;

use support::{Sidecar, SidecarBuilder, Upstream, until};

/// Reads requests and closes the connection instead of an answer.
fn closing() -> Upstream {
    Upstream::start(|peer| {
        peer.read_request();
    })
}

/// A sidecar whose first request goes to the first of these.
fn before(first: &Upstream, second: &Upstream, retries: &str) -> SidecarBuilder {
    Sidecar::in_front_of(first).endpoint(second.address()).one_worker().upstream(retries)
}

fn retries(sidecar: &Sidecar, outcome: &str) -> u64 {
    let series = format!("postern_upstream_retries_total{{upstream=\"service\",outcome=\"{outcome}\"}}");
    sidecar.metric(&series) as u64
}

#[test]
fn a_get_whose_connection_ends_goes_to_another_address() {
    let (broken, fine) = (closing(), Upstream::echo());
    let sidecar = before(&broken, &fine, "[upstreams.retries]").start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!((broken.requests().len(), fine.requests().len()), (1, 1));
    assert_eq!(broken.requests()[0].headers, fine.requests()[0].headers, "the same request");
    assert_eq!((retries(&sidecar, "sent"), retries(&sidecar, "budget_exhausted")), (1, 0));
    let line = &sidecar.access_log(1)[0];
    assert_eq!(line["endpoint"].as_str(), Some(fine.address().to_string().as_str()), "{line}");
}

#[test]
fn without_the_table_it_does_not() {
    let (broken, fine) = (closing(), Upstream::echo());
    let sidecar = before(&broken, &fine, "").start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    assert_eq!(fine.requests().len(), 0);
}

#[test]
fn what_may_have_had_an_effect_is_sent_once() {
    for head in [
        "POST /|Content-Length: 0\r\n|",
        "PATCH /|Content-Length: 4\r\n|body",
        "PUT /|Content-Length: 4\r\n|body",
    ] {
        let (broken, fine) = (closing(), Upstream::echo());
        let sidecar = before(&broken, &fine, "[upstreams.retries]\nstatuses = [503]").start();
        let mut parts = head.split('|');
        let request = sidecar.head(parts.next().unwrap(), parts.next().unwrap()) + parts.next().unwrap();
        sidecar.request(request).assert_error(502, "upstream_failed");
        assert_eq!(fine.requests().len(), 0, "{head}");
    }
}

#[test]
fn a_put_of_whose_body_nothing_was_read_goes_to_another_address() {
    let broken = Upstream::start(|peer| {
        peer.read_head();
    });
    for (method, expected) in [("PUT", 200), ("POST", 502)] {
        let fine = Upstream::echo();
        let sidecar = before(&broken, &fine, "response_header_seconds = 30\n[upstreams.retries]").start();
        let mut client = sidecar.connect();
        let before = broken.connections();
        client.send(sidecar.head(&format!("{method} /"), "Content-Length: 4\r\n"));
        until("the request to arrive", || broken.connections() > before);
        if expected == 200 {
            until("it to arrive elsewhere", || fine.received_text().contains("\r\n\r\n"));
        }
        client.send("body");
        assert_eq!(client.response().status, expected, "{method}");
        let bodies: Vec<_> = fine.requests().into_iter().map(|request| request.body).collect();
        let whole: &[&[u8]] = if expected == 200 { &[b"body"] } else { &[] };
        assert_eq!(bodies, whole, "{method}");
    }
}

#[test]
fn what_no_connection_could_be_opened_for_goes_on_whatever_it_is() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fine = Upstream::echo();
    let sidecar = Sidecar::with_endpoint(down)
        .endpoint(fine.address())
        .upstream("[upstreams.retries]\nbudget_percent = 0\nleast_per_second = 0")
        .start();
    for _ in 0..10 {
        let request = sidecar.head("POST /", "Content-Length: 4\r\n") + "body";
        assert_eq!(sidecar.request(request).status, 200);
    }
    assert_eq!(fine.requests().len(), 10);
}

#[test]
fn statuses_that_are_listed_send_a_get_to_another_address() {
    let unavailable = |status: u16| {
        Upstream::start(move |peer| {
            while peer.read_request().is_some() {
                peer.respond(status, &[], b"come back later");
            }
        })
    };
    let settings = "[upstreams.retries]\nstatuses = [502, 503]";
    let fine = Upstream::echo();
    let (listed, not_listed) = (unavailable(503), unavailable(500));
    let sidecar = before(&listed, &fine, settings).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!((listed.requests().len(), fine.requests().len()), (1, 1));

    let sidecar = before(&not_listed, &fine, settings).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 500);
    let sidecar = before(&listed, &fine, settings).start();
    assert_eq!(sidecar.request(sidecar.head("POST /", "Content-Length: 0\r\n")).status, 503);
    assert_eq!(fine.requests().len(), 1);

    // With nobody better the last answer is the client's.
    let (one, two) = (unavailable(503), unavailable(502));
    let sidecar =
        before(&one, &two, "[upstreams.retries]\nmost_per_request = 10\nstatuses = [502, 503]").start();
    let response = sidecar.request(sidecar.get());
    assert_eq!((response.status, response.text().as_str()), (502, "come back later"));
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1), "each once");
}

#[test]
fn after_a_timeout_nothing_is_sent_again() {
    let (silent, fine) = (Upstream::start(|peer| while peer.read_request().is_some() {}), Upstream::echo());
    let sidecar = before(&silent, &fine, "response_header_seconds = 1\n[upstreams.retries]").start();
    sidecar.request(sidecar.get()).assert_error(504, "upstream_timeout");
    assert_eq!(fine.requests().len(), 0);
}

#[test]
fn one_request_is_sent_again_so_often_and_no_more() {
    let upstreams = [(); 4].map(|()| closing());
    let mut builder = before(&upstreams[0], &upstreams[1], "[upstreams.retries]\nmost_per_request = 2");
    for upstream in &upstreams[2..] {
        builder = builder.endpoint(upstream.address());
    }
    let sidecar = builder.start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    let received: usize = upstreams.iter().map(|upstream| upstream.requests().len()).sum();
    assert_eq!(received, 3);
}

#[test]
fn with_the_budget_spent_failures_reach_the_client() {
    let (one, two) = (closing(), closing());
    let settings = "[upstreams.retries]\nbudget_percent = 25\nleast_per_second = 0";
    let sidecar = before(&one, &two, settings).start();
    for _ in 0..40 {
        sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    }
    assert_eq!((retries(&sidecar, "sent"), retries(&sidecar, "budget_exhausted")), (10, 30));
    assert_eq!(one.requests().len() + two.requests().len(), 50);
}
