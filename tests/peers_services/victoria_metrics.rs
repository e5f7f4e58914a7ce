//! VictoriaMetrics behind the sidecar: a Prometheus writes to it through the sidecar with a bearer token, until that is revoked.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::prometheus;
use crate::support::peers::{self, Process};
use crate::support::{Sidecar, eventually, until};

#[test]
fn prometheus_writes_through_the_sidecar_for_as_long_as_its_token_lasts() {
    let (Some(program), Some(writer)) = (peers::program("victoria-metrics"), peers::program("prometheus"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = free();
    let child = Command::new(program)
        .arg(format!("-storageDataPath={}", folder.path().join("data").display()))
        .arg(format!("-httpListenAddr={address}"))
        // What has been written is found at once.
        .arg("-search.latencyOffset=0s")
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    prometheus::listening("VictoriaMetrics", &mut process, address, folder.path());

    // Prometheus names the address as the host. Writing is POST, which is asked as such.
    let any_host =
        "[[routes]]\nname = \"any\"\nproject = \"demo\"\nservice = \"metrics\"\nupstream = \"service\"";
    let sidecar = Sidecar::with_endpoint(address).more(any_host).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["service:data:write"]);
    let token = sidecar.directory.token(&user);
    sidecar.wait_for(&token);

    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("token"), &token.token).unwrap();
    let configuration = format!(
        "global:\n  scrape_interval: 1s\n\
         scrape_configs:\n- job_name: postern\n  static_configs:\n  - targets: ['{ops}']\n\
         remote_write:\n- url: http://{sidecar}/api/v1/write\n  authorization:\n    credentials_file: {token}\n  \
         queue_config:\n    batch_send_deadline: 200ms\n    min_backoff: 100ms\n    max_backoff: 200ms\n",
        ops = sidecar.ops,
        sidecar = sidecar.address(),
        token = place.path().join("token").display(),
    );
    fs::write(place.path().join("prometheus.yml"), configuration).unwrap();
    let _writer = prometheus::run(&writer, place.path(), free());

    let query = |expression: &str| {
        let response = sidecar.request(sidecar.head(&format!("GET /api/v1/query?query={expression}"), ""));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["data"]["result"].get(0)?["value"][1].as_str()?.parse::<f64>().ok()
    };
    eventually("what was written to be found", || {
        query("up%7Bjob%3D%22postern%22%7D").filter(|up| *up > 0.5)
    });
    // What writes may not read, and the other way round nobody writes without a token.
    let reading = sidecar.request(sidecar.head_with(&token.token, "GET /api/v1/query?query=up", ""));
    reading.assert_error(403, "permission_denied");
    let stranger = "POST /api/v1/write HTTP/1.1\r\nHost: service.test\r\nContent-Length: 0\r\n\r\n";
    sidecar.request(stranger).assert_error(401, "missing_credentials");

    sidecar.directory.revoke(&token.prefix);
    let refused = "postern_denials_total{route=\"any\",reason=\"token_revoked\"}";
    until("a write to be refused", || sidecar.find_metric(refused).is_some_and(|refused| refused > 0.5));
    let written = |sidecar: &Sidecar| {
        let permitted = sidecar.find_metric("postern_requests_total{route=\"any\",code=\"204\"}");
        permitted.unwrap_or_default()
    };
    // Of all that Prometheus goes on to send nothing is let in any more.
    let before = written(&sidecar);
    assert!(before > 0.5, "{}", sidecar.metrics());
    let refusals = sidecar.metric(refused);
    until("more of them to be refused", || sidecar.metric(refused) > refusals + 0.5);
    assert!((written(&sidecar) - before).abs() < 0.5, "{}", sidecar.metrics());
}
