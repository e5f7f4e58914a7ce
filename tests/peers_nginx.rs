//! A real nginx behind the sidecar: files, ranges, validators, compression, chunks, and connections that are reused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use support::http2::{full, get, request_with};
use support::peers::{self, Process};
use support::{Http2Client, Sidecar, eventually};

/// A running nginx and the folder that it serves.
struct Nginx {
    _process: Process,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Nginx {
    /// Starts it; `None` where it is not installed.
    #[track_caller]
    fn start() -> Option<Self> {
        let program = peers::program("nginx")?;
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port before nginx does: then it is tried with another one.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), address)).unwrap();
            let errors = fs::File::create(folder.path().join("stderr")).unwrap();
            let child = Command::new(&program)
                .arg("-p")
                .arg(folder.path())
                .args(["-c", "nginx.conf", "-e", "error.log"])
                .stdout(Stdio::null())
                .stderr(errors)
                .spawn()
                .unwrap();
            let mut process = Process(child);
            let listens = eventually("nginx to listen", || match process.0.try_wait().unwrap() {
                Some(_ended) => Some(false),
                None => TcpStream::connect(address).is_ok().then_some(true),
            });
            if listens {
                fs::create_dir(folder.path().join("html")).unwrap();
                return Some(Self { _process: process, folder, address });
            }
        }
        panic!(
            "nginx does not start: {}",
            fs::read_to_string(folder.path().join("error.log")).unwrap_or_default()
        );
    }

    fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.folder.path().join("html").join(name), content).unwrap();
    }

    fn sidecar(&self) -> Sidecar {
        Sidecar::with_endpoint(self.address).one_worker().start()
    }
}

fn configuration(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    // As root, nginx would serve as another user, who may not read a temporary folder.
    let user = if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        "user root;"
    } else {
        ""
    };
    format!(
        "{user} daemon off; master_process off; pid {folder}/nginx.pid; worker_processes 1;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
           gzip on; gzip_types text/plain; gzip_min_length 100; client_max_body_size 64m;
           server {{
             listen {address}; root {folder}/html; default_type text/plain;
             location = /who {{ return 200 \"$http_x_postern_user_id $http_authorization $host $http_x_forwarded_for\"; }}
             location = /requests {{ return 200 \"$connection_requests\"; }}
             location = /teapot {{ return 418; }}
             location = /short-lived {{ keepalive_timeout 0; return 200 \"bye\"; }}
             location = /no-upload {{ client_max_body_size 1k; proxy_pass http://{address}/who; }}
           }}
         }}"
    )
}

#[test]
fn who_asks_is_told_to_nginx() {
    let Some(nginx) = Nginx::start() else { return };
    let sidecar = nginx.sidecar();
    let lines = "X-Postern-User-Id: forged\r\nX_Postern_User_Id: forged\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let response = sidecar.request(sidecar.head("GET /who", lines));
    assert_eq!(response.text(), format!("{}  service.test 127.0.0.1", sidecar.permitted.user_id));
    assert_eq!(sidecar.request(sidecar.head("GET /teapot", "")).status, 418);
}

#[test]
fn connections_to_nginx_are_reused() {
    let Some(nginx) = Nginx::start() else { return };
    let sidecar = nginx.sidecar();
    for number in 1..=20 {
        assert_eq!(sidecar.request(sidecar.head("GET /requests", "")).text(), number.to_string());
    }
    for _ in 0..5 {
        assert_eq!(sidecar.request(sidecar.head("GET /short-lived", "")).text(), "bye");
    }
    assert_eq!(sidecar.request(sidecar.head("GET /requests", "")).text(), "1");
}

#[test]
fn validators_and_ranges() {
    let Some(nginx) = Nginx::start() else { return };
    nginx.file("digits", b"0123456789");
    let sidecar = nginx.sidecar();
    let mut client = sidecar.connect();
    let whole = client.request(sidecar.head("GET /digits", ""));
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
    let tag = whole.header("etag").unwrap();
    let unchanged = client.request(sidecar.head("GET /digits", &format!("If-None-Match: {tag}\r\n")));
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let part = client.request(sidecar.head("GET /digits", "Range: bytes=2-4\r\n"));
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    let parts = client.request(sidecar.head("GET /digits", "Range: bytes=0-0,9-9\r\n"));
    assert_eq!(parts.status, 206);
    assert!(parts.header("content-type").unwrap().starts_with("multipart/byteranges"));
    assert_eq!(client.request(sidecar.head("GET /digits", "Range: bytes=50-\r\n")).status, 416);
    let head = client.request(sidecar.head("HEAD /digits", ""));
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(client.request(sidecar.head("GET /missing", "")).status, 404);
}

#[test]
fn compressed_and_chunked() {
    let Some(nginx) = Nginx::start() else { return };
    nginx.file("text", "all work and no play ".repeat(1000).as_bytes());
    let sidecar = nginx.sidecar();
    let plain = sidecar.request(sidecar.head("GET /text", ""));
    assert_eq!((plain.body.len(), plain.header("content-encoding")), (21_000, None));
    let compressed = sidecar.request(sidecar.head("GET /text", "Accept-Encoding: gzip\r\n"));
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert_eq!(compressed.header("transfer-encoding"), Some("chunked"));
    assert!(compressed.body.starts_with(&[0x1f, 0x8b]) && compressed.body.len() < 2_000);
    let mut request = get(&sidecar, "/text");
    request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let over_2 = Http2Client::connect(sidecar.address()).request(request);
    assert_eq!(over_2.body, compressed.body);
}

#[test]
fn a_big_file_arrives_unchanged() {
    let Some(nginx) = Nginx::start() else { return };
    // Not periodic, so that lost or repeated pieces show.
    let content: Vec<u8> =
        (0..32 * 1024 * 1024_u64).map(|byte| (byte.wrapping_mul(byte) >> 7) as u8).collect();
    nginx.file("big", &content);
    let sidecar = nginx.sidecar();
    let expected = Sha256::digest(&content);
    let over_1 = sidecar.request(sidecar.head("GET /big", ""));
    assert_eq!(Sha256::digest(&over_1.body), expected);
    let over_2 = Http2Client::connect(sidecar.address()).request(get(&sidecar, "/big"));
    assert_eq!(Sha256::digest(&over_2.body), expected);
}

#[test]
fn an_upload_that_nginx_refuses() {
    let Some(nginx) = Nginx::start() else { return };
    let sidecar = nginx.sidecar();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /no-upload", "Content-Length: 1000000\r\n"));
    let _refused_midway = client.try_send(vec![7; 1_000_000]);
    assert_eq!(client.response().status, 413);
    let request = request_with(&sidecar.permitted.token, "POST", "/no-upload", full(vec![7; 1_000_000]));
    assert_eq!(Http2Client::connect(sidecar.address()).request(request).status, 413);
}

#[test]
fn curl_speaks_both_protocols() {
    let (Some(nginx), Some(curl)) = (Nginx::start(), peers::program("curl")) else { return };
    nginx.file("digits", b"0123456789");
    let sidecar = nginx.sidecar();
    let url = format!("http://{}/digits", sidecar.address());
    let token = format!("Authorization: Bearer {}", sidecar.permitted.token);
    for (flag, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2"), ("--http1.0", "1.0")] {
        let output = peers::run(Command::new(&curl).args([
            "-sS",
            flag,
            "-m",
            "30",
            "-H",
            "Host: service.test",
            "-H",
            &token,
            "-w",
            " %{http_code} %{http_version}",
            &url,
        ]));
        // nginx and curl agree on less with HTTP/1.0: the sidecar answers as HTTP/1.0 or 1.1.
        assert!(output.starts_with("0123456789 200 "), "{flag}: {output}");
        assert!(version == "1.0" || output.ends_with(version), "{flag}: {output}");
    }
    let refused = peers::run(Command::new(&curl).args([
        "-sS",
        "--http2",
        "-m",
        "30",
        "-H",
        "Host: service.test",
        "-H",
        &token,
        "-w",
        " %{http_code} %{http_version}",
        &url,
    ]));
    assert!(refused.ends_with(" 200 1.1"), "an offer of h2c stays unanswered: {refused}");
    let expecting = peers::run(Command::new(&curl).args([
        "-sS",
        "-m",
        "30",
        "-H",
        "Host: service.test",
        "-H",
        &token,
        "-H",
        "Expect: 100-continue",
        "-d",
        "x=1",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &format!("http://{}/who", sidecar.address()),
    ]));
    assert_eq!(expecting, "200");
}

#[test]
fn h2load_loses_no_request() {
    let (Some(nginx), Some(h2load)) = (Nginx::start(), peers::program("h2load")) else { return };
    nginx.file("digits", b"0123456789");
    // h2load names the address as the host.
    let any_host =
        "[[routes]]\nname = \"any\"\nproject = \"demo\"\nservice = \"service\"\nupstream = \"service\"";
    let sidecar = Sidecar::with_endpoint(nginx.address).more(any_host).start();
    let url = format!("http://{}/digits", sidecar.address());
    let token = format!("authorization: Bearer {}", sidecar.permitted.token);
    for protocol in [&["-m", "20"][..], &["--h1"]] {
        let mut command = Command::new(&h2load);
        command.args(["-n", "3000", "-c", "20", "-H", &token]).args(protocol).arg(&url);
        let output = peers::run(&mut command);
        assert!(output.contains("3000 succeeded, 0 failed, 0 errored"), "{protocol:?}: {output}");
        assert!(output.contains("status codes: 3000 2xx"), "{protocol:?}: {output}");
    }
}
