//! What routes can ask for and do: conditions, path parameters, rewriting, encoded slashes, permissions by method, headers,
//! limits of time and size, redirects, responses of Postern's own, preflight requests. Each with the request that must not
//! get through it, and the bytes that the service saw.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use postern::token::TokenKind;
use support::certificates::Authority;
use support::client::Broken;
use support::http2::{self, empty, full, request_with};
use support::sidecar::HOST;
use support::{Client, Http2Client, Response, Sidecar, SidecarBuilder, Upstream};

/// A further route to the usual upstream, with the usual owner.
fn route(name: &str, host: &str, lines: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nproject = \"demo\"\nservice = \"service\"\n\
         upstream = \"service\"\n{lines}\n"
    )
}

fn at(sidecar: &Sidecar, host: &str, method_and_target: &str, lines: &str) -> Response {
    let token = &sidecar.permitted.token;
    sidecar.request(format!(
        "{method_and_target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{lines}\r\n"
    ))
}

/// The service, which answers with what it was asked, was asked for this target.
#[track_caller]
fn assert_seen(response: &Response, asked: &str, forwarded: &str) {
    assert_eq!(response.status, 200, "{asked}: {}", response.text());
    assert_eq!(response.text().lines().next().unwrap(), format!("GET {forwarded}"), "{asked}");
}

/// The route that the access log says the latest request took.
fn latest_route(sidecar: &Sidecar, lines: usize) -> String {
    sidecar.access_log(lines)[lines - 1]["route"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn conditions_choose_among_routes_of_one_path_and_never_leave_it() {
    let upstream = Upstream::echo();
    let tables = [
        route("any", "c.test", "path_prefix = \"/\""),
        route("old", "c.test", "path_prefix = \"/api\"\nmatch_headers = { x-version = \"1\" }"),
        route("beta", "c.test", "path_prefix = \"/api\"\nmatch_query = { beta = true }\nmethods = [\"GET\"]"),
        route("write", "c.test", "path_prefix = \"/api\"\nmethods = [\"POST\", \"PUT\"]"),
    ];
    let sidecar = Sidecar::in_front_of(&upstream).more(&tables.concat()).start();
    let cases = [
        ("GET /other", "", 200, "any"),
        ("GET /api", "X-Version: 1\r\n", 200, "old"),
        ("GET /api/x?beta", "X-Version: 1\r\n", 200, "old"),
        ("GET /api/x?a=1&be%74a=no", "X-Version: 2\r\n", 200, "beta"),
        ("PUT /api?beta", "Content-Length: 0\r\n", 200, "write"),
        // None of its routes is for it: the broader one does not answer in their place.
        ("GET /api", "", 404, "none"),
        ("DELETE /api", "", 404, "none"),
        ("GET /api", "X-Version: 11\r\n", 404, "none"),
        // What is there twice can be read in two ways.
        ("GET /api", "X-Version: 1\r\nX-Version: 2\r\n", 400, "none"),
        ("GET /api", "X-Version: 2\r\nx-version: 1\r\n", 400, "none"),
    ];
    for (number, (request, lines, status, name)) in cases.into_iter().enumerate() {
        let response = at(&sidecar, "c.test", request, lines);
        assert_eq!(response.status, status, "{request} {lines}: {}", response.text());
        assert_eq!(latest_route(&sidecar, number + 1), name, "{request} {lines}");
        if status == 400 {
            response.assert_error(400, "ambiguous_condition");
        }
    }
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn parameters_match_one_segment_and_move_into_the_rewritten_path() {
    let upstream = Upstream::echo();
    let tables = [
        route("items", "p.test", "path = \"/v1/{tenant}/items\"\nrewrite = \"/tenants/{tenant}/all\""),
        route("below", "p.test", "path_prefix = \"/v2/{tenant}\"\nrewrite = \"/{tenant}\""),
        route("strip", "p.test", "path_prefix = \"/api\"\nrewrite = \"/\""),
    ];
    let sidecar = Sidecar::in_front_of(&upstream).more(&tables.concat()).start();
    for (asked, forwarded) in [
        ("/v1/acme/items", "/tenants/acme/all"),
        ("/v1/a%20b%26c/items?x=/v1/y&z=..", "/tenants/a%20b%26c/all?x=/v1/y&z=.."),
        ("/v1/%61cme/items", "/tenants/acme/all"),
        ("/v2/acme/x/y/?q", "/acme/x/y/?q"),
        ("/v2/acme", "/acme"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x", "/?x"),
        ("/api/x/", "/x/"),
    ] {
        let response = at(&sidecar, "p.test", &format!("GET {asked}"), "");
        assert_seen(&response, asked, forwarded);
        let over_2 = http2::get(&sidecar, asked);
        let (mut head, body) = over_2.into_parts();
        head.uri = format!("http://p.test{asked}").parse().unwrap();
        let over_2 = Http2Client::connect(sidecar.address()).request(http::Request::from_parts(head, body));
        assert_seen(&over_2, asked, forwarded);
    }
    let before = upstream.received().len();
    for (asked, status) in [
        ("/v1/acme/items/", 404),
        ("/v1/acme/items/7", 404),
        ("/v1//items", 400),
        ("/v1/../items", 400),
        ("/v1/%2e%2e/items", 400),
        ("/v1/a%2f..%2fb/items", 400),
        ("/v2/..", 400),
        ("/apis", 404),
    ] {
        assert_eq!(at(&sidecar, "p.test", &format!("GET {asked}"), "").status, status, "{asked}");
    }
    assert_eq!(upstream.received().len(), before, "nothing of those reaches the upstream");
}

#[test]
fn a_path_that_grows_too_long_by_rewriting() {
    let upstream = Upstream::echo();
    let longer = format!("path_prefix = \"/a\"\nrewrite = \"/{}\"", "b".repeat(60_000));
    let sidecar = Sidecar::in_front_of(&upstream).more(&route("long", "l.test", &longer)).start();
    let response = at(&sidecar, "l.test", &format!("GET /a/{}", "c".repeat(10_000)), "");
    response.assert_error(414, "target_too_long");
    upstream.assert_untouched();
}

#[test]
fn encoded_slashes_pass_by_declaration_and_never_into_another_route() {
    let upstream = Upstream::echo();
    let tables = [
        route("packages", "s.test", "path_prefix = \"/p\"\nencoded_slashes = \"pass\"\nrewrite = \"/x\""),
        route("admin", "s.test", "path_prefix = \"/p/admin\""),
        route("strict", "s.test", "path_prefix = \"/strict\""),
    ];
    let sidecar = Sidecar::in_front_of(&upstream).more(&tables.concat()).start();
    for (asked, forwarded) in [
        ("/p/@scope%2Fname", "/x/@scope%2Fname"),
        ("/p/%40scope%2fname/-/%61.tgz", "/x/%40scope%2fname/-/a.tgz"),
        ("/p/https:%2F%2Fexample.com%2F", "/x/https:%2F%2Fexample.com%2F"),
        ("/p/a%252Fb", "/x/a%252Fb"),
        ("/p/b%2Fadmin", "/x/b%2Fadmin"),
    ] {
        assert_seen(&at(&sidecar, "s.test", &format!("GET {asked}"), ""), asked, forwarded);
    }
    let before = upstream.received().len();
    for (asked, code) in [
        ("/strict/a%2Fb", "path_encoded_slash"),
        ("/nowhere%2Fp", "path_encoded_slash"),
        // Whoever decodes it would serve what another route is for.
        ("/p%2Fadmin/x", "path_encoded_slash"),
        ("/p/admin%2Fx", "path_encoded_slash"),
        ("/strict%2F..%2Fp", "path_dot_segment"),
        ("/p/a%2F..%2Fadmin", "path_dot_segment"),
        ("/p/..%2f", "path_dot_segment"),
        ("/p/%2e%2e%2fadmin", "path_dot_segment"),
        ("/p/a%5C..%2Fb", "path_backslash"),
        ("/p/a%2F%00", "path_encoded_control"),
        ("/p/a%2F%c0%af", "path_encoding"),
    ] {
        at(&sidecar, "s.test", &format!("GET {asked}"), "").assert_error(400, code);
    }
    assert_eq!(upstream.received().len(), before, "nothing of those reaches the upstream");
}

#[test]
fn methods_need_their_own_permissions() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .route("permissions = { POST = \"project:services:read\", PURGE = \"project:services:write\" }")
        .start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["project:services:read"]);
    let reader = sidecar.directory.token_with(&user, TokenKind::Application, |_| {});
    sidecar.wait_for(&reader);
    let ask = |method: &str| {
        sidecar.request(sidecar.head_with(&reader.token, &format!("{method} /"), "Content-Length: 0\r\n"))
    };
    assert_eq!(ask("GET").status, 200);
    assert_eq!(ask("POST").status, 200, "a search is a POST");
    for (method, permission) in
        [("PURGE", "project:services:write"), ("DELETE", "service:data:write"), ("PUT", "service:data:write")]
    {
        let response = ask(method);
        response.assert_error(403, "permission_denied");
        assert!(response.header("www-authenticate").unwrap().contains(permission), "{method}");
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn headers_are_changed_in_both_directions() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: more\r\nSet-Cookie: a=1\r\nServer: again\r\n\
         Content-Length: 2\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nok",
    );
    let tables = "[routes.request_headers]\nset = { x-env = \"prod\" }\nadd = { x-tag = \"b\" }\n\
                  remove = [\"x-debug\", \"cookie\"]\n\
                  [routes.response_headers]\nset = { x-powered-by = \"nobody\" }\n\
                  add = { set-cookie = \"b=2\" }\nremove = [\"server\"]\n";
    let sidecar = Sidecar::in_front_of(&upstream).route(tables).start();
    let lines = "X-Env: test\r\nX_ENV: test\r\nx.env: test\r\nX-Tag: a\r\nX_Debug: 1\r\nX-DEBUG: 2\r\n\
                 Cookie: a=1\r\nX-Other: kept\r\nX-Postern-User-Id: root\r\nX_Postern_User_Id: root\r\n";
    let over_1 = sidecar.request(sidecar.head("GET /", lines));
    let mut request = http2::get(&sidecar, "/");
    for line in lines.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        let name = http::HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let over_2 = Http2Client::connect(sidecar.address()).request(request);
    for seen in upstream.requests() {
        assert_eq!(seen.values("x-env"), ["prod"]);
        assert_eq!(seen.values("x-tag"), ["a", "b"]);
        assert_eq!(seen.values("x-other"), ["kept"]);
        assert_eq!(seen.values("x-postern-user-id"), [sidecar.permitted.user_id.as_str()]);
        for gone in ["x_env", "x.env", "x_debug", "x-debug", "cookie", "x_postern_user_id"] {
            assert_eq!(seen.values(gone), [""; 0], "{gone}");
        }
    }
    assert_eq!(upstream.requests().len(), 2);
    for response in [over_1, over_2] {
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert_eq!(response.values("server"), [""; 0]);
        assert_eq!(response.values("x-powered-by"), ["nobody"]);
        assert_eq!(response.values("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(response.values("date").len(), 1);
    }
}

#[test]
fn a_body_that_says_that_it_is_too_long_is_not_begun() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route("request_body_bytes = 10").start();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Content-Length: 11\r\nExpect: 100-continue\r\n"));
    let response = client.response();
    response.assert_error(413, "body_too_large");
    assert_eq!(response.values("connection"), ["close"]);
    for length in ["11", "18446744073709551615", "18446744073709551616"] {
        let head = sidecar.head("POST /", &format!("Content-Length: {length}\r\n"));
        let status = sidecar.request(head + "12345678901").status;
        assert!(matches!(status, 413 | 400), "{length}: {status}");
    }
    // Strangers learn nothing of it.
    let head = sidecar.head_with("nonsense-nonsense", "POST /", "Content-Length: 11\r\n");
    sidecar.request(head).assert_error(401, "invalid_token");
    upstream.assert_untouched();
    let whole = sidecar.request(sidecar.head("POST /", "Content-Length: 10\r\n") + "1234567890");
    assert_eq!(whole.status, 200);

    let mut over_2 = Http2Client::connect(sidecar.address());
    let token = &sidecar.permitted.token;
    over_2.request(request_with(token, "POST", "/", full("12345678901"))).assert_error(413, "body_too_large");
    assert_eq!(over_2.request(request_with(token, "POST", "/", full("1234567890"))).status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_body_that_becomes_too_long_breaks_off_the_request_and_nothing_else() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().route("request_body_bytes = 10").start();
    let mut client = sidecar.connect();
    let chunked = sidecar.head("POST /chunks", "Transfer-Encoding: chunked\r\n");
    client.send(format!("{chunked}8\r\n12345678\r\n"));
    client.send("3\r\n901\r\n0\r\n\r\n");
    let response = client.response();
    response.assert_error(413, "body_too_large");
    assert_eq!(response.values("connection"), ["close"]);
    upstream.wait_closed(0);
    assert!(upstream.requests().is_empty(), "no complete request came");
    assert!(!upstream.received_text().contains("901"), "{}", upstream.received_text());

    let within = sidecar.request(chunked + "a\r\n1234567890\r\n0\r\n\r\n");
    assert_eq!(within.status, 200);
    assert_eq!(upstream.only_request().body, b"1234567890");
    let endpoint = upstream.address();
    let of_outcome = |outcome: &str| {
        let labels = format!("upstream=\"service\",endpoint=\"{endpoint}\",outcome=\"{outcome}\"");
        sidecar.metric(&format!("postern_upstream_requests_total{{{labels}}}"))
    };
    assert_eq!(
        [of_outcome("aborted"), of_outcome("failed"), of_outcome("ok")].map(|count| count as u32),
        [1, 0, 1]
    );
    let lines = sidecar.access_log(2);
    assert!(lines.iter().any(|line| line["ending"] == "bad_request"), "{lines:?}");
}

#[test]
fn a_grpc_client_reads_a_status_of_a_body_that_is_too_long() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route("request_body_bytes = 10").start();
    let mut request = request_with(&sidecar.permitted.token, "POST", "/s/M", full("12345678901"));
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = Http2Client::connect(sidecar.address()).request(request);
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("8")));
    upstream.assert_untouched();
}

/// An upstream that answers `/fast` at once, and else when told.
fn answering_when_told(told: mpsc::Receiver<()>) -> Upstream {
    let told = parking_lot::Mutex::new(told);
    Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            if request.target == "/begins" {
                peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
            }
            if request.target != "/fast" {
                // An error says that the test is over.
                let _over = told.lock().recv();
            }
            if !peer.respond(200, &[], b"done") {
                return;
            }
        }
    })
}

#[test]
fn a_routes_own_time_for_the_head() {
    let (tell, told) = mpsc::channel();
    let upstream = answering_when_told(told);
    let patient = route("patient", "patient.test", "response_header_seconds = 86400");
    let sidecar = Sidecar::in_front_of(&upstream)
        .one_worker()
        .route("response_header_seconds = 1")
        .upstream("response_header_seconds = 600")
        .more(&patient)
        .start();
    // The connection that is kept has waited for longer before: that does not matter to the next request on it.
    assert_eq!(at(&sidecar, "patient.test", "GET /fast", "").status, 200);
    let started = Instant::now();
    sidecar.request(sidecar.get()).assert_error(504, "upstream_timeout");
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(upstream.connections(), 1, "it was the kept connection");
    drop(tell);
}

#[test]
fn the_whole_takes_too_long() {
    let (tell, told) = mpsc::channel();
    let upstream = answering_when_told(told);
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().route("total_seconds = 1").start();
    assert_eq!(sidecar.request(sidecar.head("GET /fast", "")).text(), "done");
    let started = Instant::now();
    sidecar.request(sidecar.head("GET /never", "")).assert_error(504, "upstream_timeout");
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    let mut client = sidecar.connect();
    client.send(sidecar.head("GET /begins", ""));
    match client.try_response() {
        Err(Broken::InBody(begun)) => assert_eq!(begun.text(), "begin"),
        other => panic!("a response that breaks off was expected, not {other:?}"),
    }
    // A client that does not send its body is not the service's fault.
    let slow = sidecar.request(sidecar.head("POST /", "Content-Length: 1\r\n"));
    slow.assert_error(408, "body_timeout");
    let lines = sidecar.access_log(4);
    let endings: Vec<_> = lines.iter().map(|line| line["ending"].as_str().unwrap()).collect();
    assert_eq!(endings, ["completed", "upstream_timeout", "upstream_timeout", "client_aborted"]);
    drop(tell);
}

fn with_tls(builder: SidecarBuilder, authority: &Authority) -> SidecarBuilder {
    let certificate = authority.certificate(&[HOST]);
    let tables = "[[listeners]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
                  [[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"\n";
    builder.more_listeners(tables).file("a.crt", &certificate.pem).file("a.key", &certificate.key_pem)
}

#[test]
fn what_comes_in_the_clear_is_sent_to_https() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let ported = route("ported", "ported.test", "redirect = \"https:8443\"");
    let sidecar = with_tls(Sidecar::in_front_of(&upstream), &authority)
        .route("redirect = \"https\"")
        .more(&ported)
        .start();
    for (host, target, location) in [
        ("service.test", "/a/%62?c=%64#".trim_end_matches('#'), "https://service.test/a/b?c=%64"),
        ("SERVICE.test:8080", "/", "https://service.test/"),
        ("ported.test:80", "/x", "https://ported.test:8443/x"),
    ] {
        // No token is looked at, and a trusted proxy's word is not taken from a stranger.
        let response = sidecar.request(format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nContent-Length: 0\r\n\r\n"
        ));
        response.assert_error(308, "https_required");
        assert_eq!(response.values("location"), [location]);
        assert_eq!(response.values("cache-control"), ["no-store"]);
    }
    upstream.assert_untouched();
    let config = authority.client(&[&rustls::version::TLS13], &[]);
    let mut secure = Client::connect_tls(sidecar.listeners[1], HOST, config).unwrap();
    assert_eq!(secure.request(sidecar.get()).status, 200);
    let stranger = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    secure.request(stranger).assert_error(401, "missing_credentials");
}

#[test]
fn a_trusted_proxy_says_what_its_client_speaks() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .route("redirect = \"https\"")
        .start();
    for (lines, status) in [
        ("", 308),
        ("X-Forwarded-Proto: http\r\n", 308),
        ("X-Forwarded-Proto: gopher\r\n", 308),
        ("X-Forwarded-Proto: http, https\r\n", 308),
        ("X-Forwarded-Proto: https\r\n", 200),
        ("X-Forwarded-Proto: HTTPS, http\r\n", 200),
    ] {
        assert_eq!(sidecar.request(sidecar.head("GET /", lines)).status, status, "{lines}");
    }
}

#[test]
fn a_response_of_ones_own_is_for_those_with_a_token() {
    let upstream = Upstream::echo();
    let owned = "project = \"demo\"\nservice = \"service\"\n";
    let response = "[routes.response]\nstatus = 403\nbody = \"{}\"\ncontent_type = \"application/json\"\n";
    let tables = format!(
        "[[routes]]\nname = \"fixed\"\nhosts = [\"f.test\"]\n{owned}{response}\
         [[routes]]\nname = \"gone\"\nhosts = [\"f.test\"]\npath = \"/gone\"\nauthentication = \"off\"\n\
         [routes.response]\nstatus = 204\n"
    );
    let sidecar = Sidecar::in_front_of(&upstream).more(&tables).start();
    let stranger = |method: &str, target: &str| {
        sidecar.request(format!("{method} {target} HTTP/1.1\r\nHost: f.test\r\n\r\n"))
    };
    stranger("GET", "/").assert_error(401, "missing_credentials");
    let mut client = sidecar.connect();
    let token = &sidecar.permitted.token;
    for _ in 0..2 {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: f.test\r\nAuthorization: Bearer {token}\r\nContent-Length: 3\r\n\r\nabc"
        );
        let response = client.request(request);
        assert_eq!((response.status, response.text().as_str()), (403, "{}"));
        assert_eq!(response.values("content-type"), ["application/json"]);
        assert_eq!(response.values("x-postern-request-id").len(), 1);
    }
    let head =
        client.request(format!("HEAD / HTTP/1.1\r\nHost: f.test\r\nAuthorization: Bearer {token}\r\n\r\n"));
    assert_eq!((head.status, head.values("content-length")), (403, vec!["2"]));
    let gone = stranger("GET", "/gone");
    assert_eq!((gone.status, gone.values("content-length").len()), (204, 0));

    let mut over_2 = Http2Client::connect(sidecar.address());
    for (method, body) in [("GET", "{}"), ("HEAD", "")] {
        let mut request = request_with(token, method, "/", empty());
        *request.uri_mut() = "http://f.test/".parse().unwrap();
        let response = over_2.request(request);
        assert_eq!((response.status, response.text().as_str()), (403, body), "{method}");
    }
    upstream.assert_untouched();
    let lines = sidecar.access_log(7);
    let of_fixed = lines.iter().filter(|line| line["route"] == "fixed" && line["ending"] == "completed");
    assert_eq!(of_fixed.count(), 5, "{lines:?}");
}

#[test]
fn a_preflight_request_passes_by_declaration_and_nothing_else_does() {
    let upstream = Upstream::echo();
    let closed = route("closed", "closed.test", "");
    let sidecar = Sidecar::in_front_of(&upstream)
        .route("cors_preflight = \"pass\"\npass_authorization = true")
        .more(&closed)
        .start();
    let origin = "Origin: https://app.example.com\r\n";
    let method = "Access-Control-Request-Method: DELETE\r\n";
    let identity = "X-Postern-User-Id: root\r\nAuthorization: Bearer made-up-made-up-made-up\r\n";
    let ask = |host: &str, line: &str, lines: &str| {
        sidecar.request(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"))
    };
    assert_eq!(ask(HOST, "OPTIONS /items", &format!("{origin}{method}{identity}")).status, 200);
    let seen = upstream.only_request();
    assert_eq!((seen.method.as_str(), seen.values("origin")), ("OPTIONS", vec!["https://app.example.com"]));
    for absent in ["x-postern-user-id", "x-postern-token-prefix", "authorization"] {
        assert_eq!(seen.values(absent), [""; 0], "{absent}");
    }
    assert_eq!(sidecar.access_log(1)[0]["decision"], "open");

    let before = upstream.received().len();
    for (host, line, lines) in [
        (HOST, "OPTIONS /items", origin.to_owned()),
        (HOST, "OPTIONS /items", method.to_owned()),
        (HOST, "OPTIONS /items", format!("{origin}{origin}{method}")),
        (HOST, "OPTIONS /items", format!("{origin}{method}{method}")),
        (HOST, "OPTIONS /items", format!("{origin}{method}Transfer-Encoding: chunked\r\n")),
        (HOST, "GET /items", format!("{origin}{method}")),
        (HOST, "DELETE /items", format!("{origin}{method}")),
        (HOST, "options /items", format!("{origin}{method}")),
        (
            HOST,
            "POST /items",
            format!("{origin}{method}X-HTTP-Method-Override: OPTIONS\r\nContent-Length: 0\r\n"),
        ),
        ("closed.test", "OPTIONS /items", format!("{origin}{method}")),
    ] {
        ask(host, line, &lines).assert_error(401, "missing_credentials");
    }
    assert_eq!(upstream.received().len(), before, "nothing of those reaches the upstream");
}

#[test]
fn one_route_can_do_several_things_at_once() {
    let upstream = Upstream::echo();
    let lines = "path = \"/v1/{tenant}/search\"\nmethods = [\"POST\"]\nrewrite = \"/{tenant}/_search\"\n\
                 permissions = { POST = \"project:services:read\" }\nrequest_body_bytes = 4\ntotal_seconds = 30\n\
                 [routes.request_headers]\nset = { x-env = \"prod\" }";
    let sidecar = Sidecar::in_front_of(&upstream).more(&route("search", "all.test", lines)).start();
    let token = &sidecar.permitted.token;
    let response = sidecar.request(format!(
        "POST /v1/acme/search?size=1 HTTP/1.1\r\nHost: all.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 4\r\n\r\nbody"
    ));
    assert_eq!(response.status, 200, "{}", response.text());
    let seen = upstream.only_request();
    assert_eq!((seen.target.as_str(), seen.values("x-env")), ("/acme/_search?size=1", vec!["prod"]));
    assert_eq!(seen.body, b"body");
}
