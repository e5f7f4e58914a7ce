//! Envoy behind the sidecar, over HTTP/1.1 and over HTTP/2: what it is told, bodies with trailers, connections that it closes, and
//! gRPC through both.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::prometheus::listening;
use crate::support::http2::{full, get, request_with};
use crate::support::peers::{self, Process};
use crate::support::sidecar::HOST;
use crate::support::{Http2Client, Sidecar, Upstream};

/// The response headers in which it tells what it has seen of a request, and of which header.
const SEEN: [(&str, &str); 5] = [
    ("x-seen-user", "x-postern-user-id"),
    ("x-seen-underscores", "x_postern_user_id"),
    ("x-seen-authorization", "authorization"),
    ("x-seen-authority", ":authority"),
    ("x-seen-client", "x-forwarded-for"),
];

const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// A running Envoy.
struct Envoy {
    _process: Process,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

/// Where the package has it.
#[track_caller]
fn program() -> Option<PathBuf> {
    let python = peers::python_program("python3")?;
    let found = "import pathlib, envoy; print(pathlib.Path(envoy.__path__[0]) / '_bin' / 'envoy')";
    Some(peers::run(Command::new(python).args(["-c", found])).trim().into())
}

impl Envoy {
    /// In front of a service in HTTP/1.1 or HTTP/2. It tells in response headers what it has seen of a request, and closes each
    /// connection after so many.
    #[track_caller]
    fn start(
        service: SocketAddr,
        service_in_http2: Option<Value>,
        requests_per_connection: u32,
    ) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = folder.path().join("envoy.json");
        let text = configuration(address, service, service_in_http2, requests_per_connection).to_string();
        fs::write(&file, text).unwrap();
        let child = Command::new(program)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        listening("Envoy", &mut process, address, folder.path());
        Some(Self { _process: process, _folder: folder, address })
    }

    fn sidecar(&self, protocol: &str) -> Sidecar {
        let upstream = format!("protocol = \"{protocol}\"");
        Sidecar::with_endpoint(self.address).upstream(&upstream).one_worker().start()
    }
}

fn configuration(address: SocketAddr, service: SocketAddr, http2: Option<Value>, requests: u32) -> Value {
    let place = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    let seen = SEEN.map(|(told, name)| {
        let header = json!({ "key": told, "value": format!("%REQ({name})%") });
        json!({ "header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" })
    });
    let manager = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "main",
        "codec_type": "AUTO",
        "http_protocol_options": { "enable_trailers": true },
        "common_http_protocol_options": { "max_requests_per_connection": requests },
        "use_remote_address": false,
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "response_headers_to_add": seen,
            "routes": [
                { "match": { "path": "/who" }, "direct_response": { "status": 200, "body": { "inline_string": "envoy" } } },
                { "match": { "prefix": "/" }, "route": { "cluster": "service", "timeout": "0s" } },
            ],
        }] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{TYPE}.filters.http.router.v3.Router") },
        }],
    });
    let explicit = http2.unwrap_or(json!({ "http_protocol_options": { "enable_trailers": true } }));
    let options = json!({
        "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": explicit,
    });
    let cluster = json!({
        "name": "service",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": place(service) } }] }],
        },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options },
    });
    let filter = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({ "static_resources": {
        "listeners": [{ "name": "main", "address": place(address), "filter_chains": [{ "filters": [filter] }] }],
        "clusters": [cluster],
    } })
}

/// Answers with how long the body was, in chunks, with a trailer that says so too.
fn counting() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.read_request() {
            let length = request.body.len().to_string();
            let trailer =
                request.trailers.iter().find(|(name, _)| name == "x-said").map_or("-", |(_, said)| said);
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n");
            peer.write(
                format!("{:x}\r\n{length}\r\n0\r\nx-sum: {length} {trailer}\r\n\r\n", length.len())
                    .as_bytes(),
            );
        }
    })
}

const UNBOUNDED: u32 = 1_000_000;

#[test]
fn who_asks_is_told_to_envoy() {
    let service = counting();
    let Some(envoy) = Envoy::start(service.address(), None, UNBOUNDED) else { return };
    for protocol in ["http1", "http2"] {
        let sidecar = envoy.sidecar(protocol);
        let forged =
            "X-Postern-User-Id: forged\r\nX_Postern_User_Id: forged\r\nX-Forwarded-For: 192.0.2.1\r\n";
        let response = sidecar.request(sidecar.head("GET /who", forged));
        assert_eq!((response.status, response.text().as_str()), (200, "envoy"), "{protocol}");
        let seen = SEEN.map(|(told, _)| response.header(told).filter(|seen| *seen != "-"));
        let user = sidecar.permitted.user_id.as_str();
        assert_eq!(seen, [Some(user), None, None, Some(HOST), Some("127.0.0.1")], "{protocol}");
        let refused = sidecar.request(format!("GET /who HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        refused.assert_error(401, "missing_credentials");
    }
}

#[test]
fn bodies_and_trailers_pass_through_envoy_both_ways() {
    let service = counting();
    let Some(envoy) = Envoy::start(service.address(), None, UNBOUNDED) else { return };
    for protocol in ["http1", "http2"] {
        let sidecar = envoy.sidecar(protocol);
        let mut client = sidecar.connect();
        let head =
            sidecar.head("POST /sum", "TE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-said\r\n");
        let body =
            format!("{:x}\r\n{}\r\n5\r\nhello\r\n0\r\nX-Said: bye\r\n\r\n", 100_000, "x".repeat(100_000));
        for _ in 0..3 {
            let response = client.request(head.clone() + &body);
            assert_eq!((response.status, response.text().as_str()), (200, "100005"), "{protocol}");
            assert_eq!(response.trailers, [("x-sum".into(), "100005 bye".into())], "{protocol}");
        }
        let large = request_with(&sidecar.permitted.token, "PUT", "/sum", full(vec![7; 8 * 1024 * 1024]));
        let response = Http2Client::connect(sidecar.address()).request(large);
        assert_eq!((response.status, response.text().as_str()), (200, "8388608"), "{protocol}");
    }
}

#[test]
fn no_request_is_lost_when_envoy_closes_its_connections() {
    let service = counting();
    // `Connection: close` and GOAWAY after every third request.
    let Some(envoy) = Envoy::start(service.address(), None, 3) else { return };
    for protocol in ["http1", "http2"] {
        let sidecar = envoy.sidecar(protocol);
        let mut client = sidecar.connect();
        for number in 0..30 {
            let target = if number % 2 == 0 { "GET /who" } else { "GET /sum" };
            assert_eq!(client.request(sidecar.head(target, "")).status, 200, "{protocol} {number}");
        }
        // Side by side.
        let mut client = Http2Client::connect(sidecar.address());
        for number in 0..30 {
            assert_eq!(client.request(get(&sidecar, "/who")).status, 200, "{protocol} {number}");
        }
    }
}

#[test]
fn grpc_passes_through_envoy() {
    let Some(python) = peers::python_program("python3") else { return };
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/grpc").join(name);
    let mut child = Command::new(&python)
        .arg(script("server.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _server = Process(child);
    let said: Value = serde_json::from_str(&line).expect("the service says its port");
    let port = u16::try_from(said["port"].as_u64().unwrap()).unwrap();
    let http2 = json!({ "http2_protocol_options": {} });
    let Some(envoy) = Envoy::start(SocketAddr::from(([127, 0, 0, 1], port)), Some(http2), UNBOUNDED) else {
        return;
    };
    let sidecar = envoy.sidecar("http2");
    let call = |token: &str, what: &str| -> Value {
        let mut client = Command::new(&python);
        client.arg(script("client.py")).args([&sidecar.address().to_string(), what]);
        let said = peers::run(client.env("TOKEN", token).env("AUTHORITY", HOST));
        serde_json::from_str(&said).expect("the client says what came of it")
    };
    let said = call(&sidecar.permitted.token, "all");
    assert_eq!(said["unary"]["head"]["seen-user"], sidecar.permitted.user_id.as_str(), "{said}");
    assert_eq!(said["unary"]["trailers"]["trailing"], "there", "{said}");
    let codes =
        ["unary", "serverStream", "clientStream", "both", "fail"].map(|kind| said[kind]["code"].as_u64());
    assert_eq!(codes, [Some(0), Some(0), Some(0), Some(0), Some(9)], "{said}");
    assert_eq!(said["serverStream"]["messages"], 1000, "{said}");
    assert_eq!(call(&sidecar.permitted.token, "deadline")["code"], 4);
    assert_eq!(call("", "unary")["code"], 16);
}
