//! gRPC through the sidecar, with gRPC's own clients and servers for Node.js and for Python, which is that of C++: all four kinds
//! of calls, its statuses for what is refused, and the end of a call whose token ends. And HTTP/2 upstreams as such.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::peers::{self, Process};
use support::sidecar::HOST;
use support::{Sidecar, SidecarBuilder, until};

/// Whose client or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Node,
    Python,
}

struct Service {
    port: u64,
    process: Process,
}

/// Where `tests/run` has installed the package.
#[track_caller]
fn installed() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/grpc");
    if target.join("node_modules/@grpc/grpc-js").is_dir() {
        return Some(target);
    }
    peers::missing("the npm package @grpc/grpc-js");
    None
}

fn node(script: &str) -> Option<Command> {
    let (node, installed) = (peers::program("node")?, installed()?);
    let mut command = Command::new(node);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/grpc").join(script)).arg(installed);
    Some(command)
}

impl Library {
    const ALL: [Self; 2] = [Self::Node, Self::Python];

    fn run(self, program: &str) -> Option<Command> {
        match self {
            Self::Node => node(&format!("{program}.mjs")),
            Self::Python => {
                let script = format!("tests/peers/grpc/{program}.py");
                let mut command = Command::new(peers::python_program("python3")?);
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
                Some(command)
            }
        }
    }

    fn service(self) -> Option<Service> {
        started(self.run("server")?)
    }
}

fn service() -> Option<Service> {
    Library::Node.service()
}

fn started(mut server: Command) -> Option<Service> {
    let mut child = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).expect("the service says its port");
    Some(Service { port: said["port"].as_u64().unwrap(), process: Process(child) })
}

fn in_front_of(service: &Service) -> SidecarBuilder {
    Sidecar::with_endpoint(format!("127.0.0.1:{}", service.port)).upstream(
        r#"protocol = "http2"
response_header_seconds = 30"#,
    )
}

fn client_of(library: Library, sidecar: &Sidecar, token: &str, call: &str) -> Child {
    library
        .run("client")
        .expect("the service was started")
        .args([&sidecar.address().to_string(), call])
        .env("TOKEN", token)
        .env("AUTHORITY", HOST)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[track_caller]
fn call(sidecar: &Sidecar, token: &str, what: &str) -> Value {
    call_of(Library::Node, sidecar, token, what)
}

#[track_caller]
fn call_of(library: Library, sidecar: &Sidecar, token: &str, what: &str) -> Value {
    let output = client_of(library, sidecar, token, what).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("the client says what came of it")
}

#[test]
fn calls_of_all_four_kinds_pass_with_their_metadata_and_trailers() {
    // Each library's client with the other's server, too.
    for server in Library::ALL {
        let Some(service) = server.service() else { return };
        let sidecar = in_front_of(&service).start();
        for client in Library::ALL {
            check_all_four_kinds(&sidecar, client);
        }
    }
}

#[track_caller]
fn check_all_four_kinds(sidecar: &Sidecar, client: Library) {
    let said = call_of(client, sidecar, &sidecar.permitted.token, "all");
    let unary = &said["unary"];
    assert_eq!((unary["code"].as_u64(), unary["message"].as_str()), (Some(0), Some("hello")), "{said}");
    assert_eq!(unary["head"]["seen-user"], sidecar.permitted.user_id.as_str(), "{said}");
    assert_eq!(unary["head"]["seen-authorization"], "none");
    assert_eq!(unary["trailers"]["trailing"], "there");
    assert_eq!(
        (said["serverStream"]["messages"].as_u64(), said["serverStream"]["code"].as_u64()),
        (Some(1000), Some(0))
    );
    assert_eq!(
        (said["clientStream"]["total"].as_u64(), said["clientStream"]["code"].as_u64()),
        (Some(4_194_304), Some(0))
    );
    assert_eq!((said["both"]["messages"].as_u64(), said["both"]["code"].as_u64()), (Some(100), Some(0)));
    assert_eq!(
        (said["fail"]["code"].as_u64(), said["fail"]["details"].as_str()),
        (Some(9), Some("not in this state: ä"))
    );
}

#[test]
fn refusals_are_statuses_that_grpc_clients_know() {
    for library in Library::ALL {
        let Some(service) = library.service() else { return };
        let sidecar = in_front_of(&service).start();
        let user = sidecar.directory.application_user();
        let nothing = sidecar.directory.token(&user);
        let revoked = sidecar.directory.permitted();
        sidecar.directory.revoke(&revoked.prefix);
        sidecar.wait_for(&nothing);
        let call = |token: &str, what: &str| call_of(library, &sidecar, token, what);
        let unauthenticated = call("", "unary");
        assert_eq!(unauthenticated["code"], 16, "{unauthenticated}");
        assert!(
            unauthenticated["details"].as_str().unwrap().starts_with("missing_credentials: "),
            "{unauthenticated}"
        );
        let ended = call(&revoked.token, "unary");
        assert_eq!(ended["code"], 16, "{ended}");
        assert!(ended["details"].as_str().unwrap().starts_with("token_revoked: "), "{ended}");
        let forbidden = call(&nothing.token, "unary");
        assert_eq!(forbidden["code"], 7, "{forbidden}");
        let late = call(&sidecar.permitted.token, "deadline");
        assert_eq!(late["code"], 4, "{late}");
    }
}

#[test]
fn a_service_that_is_gone_is_unavailable() {
    let Some(service) = service() else { return };
    let sidecar = in_front_of(&service).start();
    assert_eq!(call(&sidecar, &sidecar.permitted.token, "unary")["code"], 0);
    drop(service);
    assert_eq!(call(&sidecar, &sidecar.permitted.token, "unary")["code"], 14);
}

/// The state of the service's only address.
fn is_in_state(sidecar: &Sidecar, service: &Service, state: &str) -> bool {
    let endpoint = format!("127.0.0.1:{}", service.port);
    let series = format!(
        "postern_upstream_addresses{{upstream=\"service\",endpoint=\"{endpoint}\",state=\"{state}\"}}"
    );
    sidecar.metric(&series) > 0.5
}

#[test]
fn a_service_that_says_it_is_not_serving_is_not_asked() {
    let Some(mut service) = service() else { return };
    let checked = |asked: &str| {
        Sidecar::with_endpoint(format!("127.0.0.1:{}", service.port))
            .upstream(&format!(
                "protocol = \"http2\"\n[upstreams.health]\nkind = \"grpc\"\nservice = \"{asked}\"\ninterval_seconds = 1\n\
                 timeout_seconds = 1\nhealthy_threshold = 1\nunhealthy_threshold = 1"
            ))
            .start()
    };
    // One that its server does not know is not healthy.
    let unknown = checked("test.Unknown");
    until("the unknown one to be unhealthy", || is_in_state(&unknown, &service, "unhealthy"));
    assert!(unknown.output().contains("gRPC status 5"), "{}", unknown.output());
    drop(unknown);

    let sidecar = checked("test.Echo");
    let passed = format!(
        "postern_upstream_checks_total{{endpoint=\"127.0.0.1:{}\",outcome=\"passed\",upstream=\"service\"}}",
        service.port
    );
    until("a check to pass", || sidecar.find_metric(&passed).is_some_and(|passed| passed > 0.5));
    assert_eq!(call(&sidecar, &sidecar.permitted.token, "unary")["code"], 0);
    let mut says = service.process.0.stdin.take().unwrap();
    writeln!(says, "NOT_SERVING").unwrap();
    until("it to be unhealthy", || is_in_state(&sidecar, &service, "unhealthy"));
    let refused = call(&sidecar, &sidecar.permitted.token, "unary");
    assert_eq!(refused["code"], 14, "{refused}");
    assert!(refused["details"].as_str().unwrap().starts_with("upstream_unhealthy"), "{refused}");
    writeln!(says, "SERVING").unwrap();
    until("it to be healthy", || is_in_state(&sidecar, &service, "healthy"));
    assert_eq!(call(&sidecar, &sidecar.permitted.token, "unary")["code"], 0);
}

#[test]
fn revocation_ends_the_tokens_streams_with_a_status() {
    for library in Library::ALL {
        let Some(service) = library.service() else { return };
        let sidecar = in_front_of(&service).start();
        let doomed = sidecar.directory.permitted();
        sidecar.wait_for(&doomed);
        let mut holding = client_of(library, &sidecar, &doomed.token, "hold");
        let mut said = BufReader::new(holding.stdout.take().unwrap()).lines();
        let mut next = || serde_json::from_str::<Value>(&said.next().unwrap().unwrap()).unwrap();
        assert_eq!(next()["open"], true);
        sidecar.directory.revoke(&doomed.prefix);
        let ended = next();
        assert_eq!(ended["code"], 16, "{ended}");
        assert!(ended["details"].as_str().unwrap().starts_with("token_revoked"), "{ended}");
        assert!(holding.wait().unwrap().success());
    }
}

#[test]
fn clients_of_http1_reach_a_service_that_speaks_http2() {
    let Some(service) = service() else { return };
    let sidecar = in_front_of(&service).start();
    let mut client = sidecar.connect();
    // gRPC's frame of an empty message; the answer is a frame too, and its status is in the trailers.
    let lines = "Content-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 5\r\n";
    let mut request = sidecar.head("POST /test.Echo/Unary", lines).into_bytes();
    request.extend([0; 5]);
    let response = client.request(request);
    assert_eq!((response.status, response.body.as_slice()), (200, &[0u8; 5][..]));
    assert!(response.trailers.contains(&("grpc-status".into(), "0".into())), "{:?}", response.trailers);
    let refused = client.request(sidecar.head_with("psta_0000000000000000", "GET /", ""));
    refused.assert_error(401, "invalid_token");
}
