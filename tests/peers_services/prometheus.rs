//! A real Prometheus that scrapes the sidecar, and whose HTTP API is asked through the sidecar.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::peers::{self, Process};
use crate::support::{Sidecar, eventually};

/// Starts one with the configuration in its folder, and waits until it listens.
#[track_caller]
pub(super) fn run(program: &Path, folder: &Path, address: SocketAddr) -> Process {
    let errors = fs::File::create(folder.join("stderr")).unwrap();
    let child = Command::new(program)
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut process = Process(child);
    listening("Prometheus", &mut process, address, folder);
    process
}

/// Waits until a program listens; fails with what it said if it ends.
#[track_caller]
pub(super) fn listening(name: &str, process: &mut Process, address: SocketAddr, folder: &Path) {
    eventually(&format!("{name} to listen"), || {
        let ended = process.0.try_wait().unwrap();
        let said = || fs::read_to_string(folder.join("stderr")).unwrap_or_default();
        assert!(ended.is_none(), "{name} ended: {}", said());
        TcpStream::connect(address).ok()
    });
}

#[test]
fn prometheus_scrapes_the_sidecar_and_is_asked_through_it() {
    let Some(program) = peers::program("prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    // Prometheus has to be told its port, and the sidecar where Prometheus is, before either of them runs.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = Sidecar::with_endpoint(address).start();
    let configuration = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: postern\n  static_configs:\n  - targets: ['{}']\n",
        sidecar.ops
    );
    fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
    let _process = run(&program, folder.path(), address);

    // A request without a token does not get through to it.
    let refused = sidecar.request("GET /api/v1/query?query=up HTTP/1.1\r\nHost: service.test\r\n\r\n");
    refused.assert_error(401, "missing_credentials");

    let query = |expression: &str| {
        let response = sidecar.request(sidecar.head(&format!("GET /api/v1/query?query={expression}"), ""));
        (response.status == 200).then(|| response.json()["data"]["result"].clone())
    };
    let first_value = |expression: &str| query(expression)?.get(0)?["value"][1].as_str()?.parse::<f64>().ok();
    eventually("the sidecar to be up in Prometheus", || {
        first_value("up%7Bjob%3D%22postern%22%7D").filter(|up| *up > 0.5)
    });
    // What was just asked through the sidecar is counted by it, scraped, and seen through it.
    let permitted = eventually("the requests to be counted", || {
        first_value("postern_requests_total%7Broute%3D%22main%22%2Ccode%3D%22200%22%7D")
    });
    assert!(permitted >= 1.0, "{permitted}");
    eventually("the refusal to be counted", || {
        first_value("postern_denials_total%7Breason%3D%22missing_credentials%22%2Croute%3D%22main%22%7D")
            .filter(|refused| *refused > 0.5)
    });

    // POST is how Grafana asks: it needs the permission to write, unless the route says otherwise.
    let form = "query=up";
    let lines =
        format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len());
    let response = sidecar.request(sidecar.head("POST /api/v1/query", &lines) + form);
    assert_eq!((response.status, response.json()["status"].as_str()), (200, Some("success")));
    sidecar.stop();
}
