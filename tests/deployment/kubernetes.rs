//! The manifests, by Kubernetes' own schemas; what has to be the same in several of them; and their configuration in a sidecar
//! whose ConfigMap and secrets change as the kubelet changes them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustls::version::TLS13;

use crate::support::certificates::{Authority, Certificate};
use crate::support::{Client, Directory, Upstream, peers, until};
use crate::{file, text};

const WORKLOAD: &str = "config/kubernetes/workload.yaml";
const CONFIGURATION: &str = "config/kubernetes/postern.toml";

#[test]
fn kubernetes_finds_nothing_wrong_with_the_manifests() {
    let Some(program) = peers::python_program("kubernetes-validate") else { return };
    let folder = tempfile::tempdir().unwrap();
    let validate =
        |path: &Path| Command::new(&program).args(["--strict", "-k", "1.31"]).arg(path).output().unwrap();
    let mut found = 0;
    for entry in fs::read_dir(file("config/kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        let manifest = fs::read_to_string(&path).unwrap();
        // Kustomize's own file is none of Kubernetes' kinds.
        if path.extension().is_none_or(|end| end != "yaml") || manifest.contains("kind: Kustomization") {
            continue;
        }
        found += 1;
        let output = validate(&path);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", path.display());
        // A field of another name would be noticed.
        let spoilt = folder.path().join("spoilt.yaml");
        fs::write(&spoilt, manifest.replacen("\nspec:\n", "\nspec:\n  nonsense: 1\n", 1)).unwrap();
        assert!(!validate(&spoilt).status.success(), "{}: nonsense is not noticed", path.display());
    }
    assert_eq!(found, 3, "all of them");
}

/// Numbers after `key: ` in a manifest, in its order.
fn numbers(manifest: &str, key: &str) -> Vec<u64> {
    let text = text(manifest);
    let values = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
    let values = values.filter_map(|rest| rest.strip_prefix(": "));
    values.map(|value| value.trim_matches('"').parse().unwrap()).collect()
}

#[test]
fn kustomize_names_every_manifest() {
    let kustomization = text("config/kubernetes/kustomization.yaml");
    for entry in fs::read_dir(file("config/kubernetes")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_named = kustomization.contains(&format!("- {name}\n"));
        assert!(is_named || name == "kustomization.yaml" || name == "README.md", "{name}");
    }
}

#[test]
fn there_is_time_to_drain() {
    let [whole] = numbers(WORKLOAD, "terminationGracePeriodSeconds")[..] else { panic!("one") };
    let [before, service] = numbers(WORKLOAD, "seconds")[..] else { panic!("two pauses") };
    let configuration = text(CONFIGURATION);
    let drain = configuration.lines().find_map(|line| line.strip_prefix("drain_seconds = ")).unwrap();
    let drain: u64 = drain.parse().unwrap();
    assert!(before + drain + 10 <= whole, "what runs has its grace: {before} + {drain} s of {whole}");
    assert!(service >= before + drain && service < whole, "the service is there for as long: {service} s");
}

#[test]
fn ports_and_paths_are_those_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let pod = Pod::new(folder.path());
    let volume = pod.publish(1, &pod.configuration("127.0.0.1:9200"), &pod.first, "secret");
    let check = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["check", "--json", "--config"])
        .arg(volume.join("postern.toml"))
        .output()
        .unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(summary["ok"], true, "{summary}");
    // As it stands, too: only its folders are others here.
    let configuration = text(CONFIGURATION);
    let [public, ops] = numbers(WORKLOAD, "containerPort")[..] else { panic!("two ports") };
    for address in [format!("address = \"0.0.0.0:{public}\""), format!("address = \"0.0.0.0:{ops}\"")] {
        assert!(configuration.contains(&address), "{address} is not in the configuration");
    }
    assert_eq!(numbers(WORKLOAD, "prometheus.io/port"), [ops]);
    let workload = text(WORKLOAD);
    for line in configuration.lines().filter(|line| line.contains("\"/")) {
        let path = line.split('"').find(|part| part.starts_with('/')).unwrap();
        let folder = ["/etc/postern", "/var/lib/postern"].into_iter().find(|folder| path.starts_with(folder));
        let folder = folder.unwrap_or_else(|| panic!("{path} is on no volume"));
        assert!(workload.contains(&format!("mountPath: {folder}\n")), "{folder} is not mounted");
        let below = path.strip_prefix(folder).unwrap().trim_start_matches('/');
        let is_file = folder == "/var/lib/postern" || workload.contains(&format!("path: {below}\n"));
        assert!(is_file, "{path} is in no secret");
    }
}

/// What the kubelet gives the sidecar's container.
struct Pod<'a> {
    folder: &'a Path,
    authority: Authority,
    first: Certificate,
}

impl<'a> Pod<'a> {
    fn new(folder: &'a Path) -> Self {
        fs::create_dir(folder.join("state")).unwrap();
        let authority = Authority::new();
        let first = authority.certificate(&["service.test"]);
        Self { folder, authority, first }
    }

    /// The manifests' configuration, at free ports and in this test's folders.
    fn configuration(&self, endpoint: &str) -> String {
        let folder = self.folder.display();
        text(CONFIGURATION)
            .replace("/etc/postern/", &format!("{folder}/volume/"))
            .replace("/var/lib/postern/", &format!("{folder}/state/"))
            .replace("0.0.0.0:8443", "127.0.0.1:0")
            .replace("0.0.0.0:9464", "127.0.0.1:0")
            .replace("127.0.0.1:8181", "127.0.0.1:0")
            .replace("127.0.0.1:9200", endpoint)
    }

    /// Puts the next version of the volume in the place of the one before, as the kubelet does: into a folder of its own, to
    /// which `..data` leads from one moment to the next. What the container sees are links through `..data`.
    fn publish(
        &self,
        version: usize,
        configuration: &str,
        certificate: &Certificate,
        password: &str,
    ) -> std::path::PathBuf {
        let volume = self.folder.join("volume");
        let name = format!("..2026_11_25_06_00_00.{version}");
        let new = volume.join(&name);
        fs::create_dir_all(new.join("tls")).unwrap();
        fs::create_dir(new.join("secrets")).unwrap();
        for (path, content) in [
            ("postern.toml", configuration),
            ("tls/tls.crt", &certificate.pem),
            ("tls/tls.key", &certificate.key_pem),
            ("secrets/service-password", password),
        ] {
            fs::write(new.join(path), content).unwrap();
        }
        let before = fs::read_link(volume.join("..data"));
        symlink(&name, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        match before {
            Ok(before) => fs::remove_dir_all(volume.join(before)).unwrap(),
            Err(_) => {
                for visible in ["postern.toml", "tls", "secrets"] {
                    symlink(format!("..data/{visible}"), volume.join(visible)).unwrap();
                }
            }
        }
        volume
    }
}

/// Starts the sidecar and returns where it says that it listens at: the listener and the operators' one.
fn start(config: &Path) -> (peers::Process, SocketAddr, SocketAddr) {
    let child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--json", "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = peers::Process(child);
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let mut addresses = Vec::new();
    while addresses.len() < 3 {
        let line = log.next().expect("the sidecar ended").unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = if event["fields"].is_object() { &event["fields"] } else { &event };
        if fields["message"] == "listening" {
            addresses.push(fields["address"].as_str().unwrap().parse().unwrap());
        }
    }
    // Read on, or it would wait for whoever reads.
    thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    (process, addresses[0], addresses[2])
}

#[test]
fn a_changed_config_map_and_changed_secrets_are_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::echo();
    let pod = Pod::new(folder.path());
    let configuration = pod.configuration(&upstream.address().to_string());
    let volume = pod.publish(1, &configuration, &pod.first, "first");
    let directory = Directory::open(&folder.path().join("state/postern.db"));
    let token = directory.permitted().token;
    let (_process, public, ops) = start(&volume.join("postern.toml"));

    let shown = || {
        let name = rustls_pki_types::ServerName::try_from("service.test").unwrap();
        let mut session = rustls::ClientConnection::new(pod.authority.client(&[&TLS13], &[]), name).unwrap();
        let mut socket = std::net::TcpStream::connect(public).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session.peer_certificates().unwrap()[0].to_vec()
    };
    let request = |path: &str| {
        let client = Client::connect_tls(public, "service.test", pod.authority.client(&[&TLS13], &[]));
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: service.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        client.unwrap().request(head)
    };
    // The sidecar's own credential, as the service got it.
    let credential = || {
        let answer = request("/");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = answer
            .text()
            .lines()
            .find_map(|line| line.to_lowercase().starts_with("authorization: ").then(|| line.to_owned()));
        line.unwrap()
    };
    let basic = |password: &str| {
        let encoded = data_encoding::BASE64.encode(format!("postern:{password}").as_bytes());
        format!("Basic {encoded}")
    };
    assert!(credential().ends_with(&basic("first")), "{}", credential());
    assert_eq!(shown(), pod.first.der.to_vec());

    let second = pod.authority.certificate(&["service.test"]);
    // Each alone, twice over: what one change does to the watches the next one has to live with.
    pod.publish(2, &configuration, &second, "first");
    until("the second certificate to be shown", || shown() == second.der.to_vec());
    pod.publish(3, &configuration, &second, "second");
    until("the second password to be told", || credential().ends_with(&basic("second")));
    let route = "\n[[routes]]\nname = \"hello\"\npath = \"/hello\"\nauthentication = \"off\"\n[routes.response]\nstatus = 299\n";
    pod.publish(4, &(configuration.clone() + route), &second, "second");
    until("the new route to be served", || request("/hello").status == 299);
    pod.publish(5, &configuration, &pod.first, "third");
    until("everything to be taken back", || {
        shown() == pod.first.der.to_vec() && request("/hello").status == 200
    });
    assert!(credential().ends_with(&basic("third")), "a secret that came with other changes");

    // Half a certificate changes nothing, is said, and is mended.
    let mut torn = pod.authority.certificate(&["service.test"]);
    torn.key_pem.clone_from(&second.key_pem);
    pod.publish(6, &configuration, &torn, "third");
    let rejected = "postern_config_last_reload_successful 0";
    let metrics = || {
        let mut client = Client::connect(ops);
        client.request("GET /metrics HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").text()
    };
    until("the metric to say that it was rejected", || metrics().contains(rejected));
    assert_eq!(shown(), pod.first.der.to_vec(), "the last good one");
    pod.publish(7, &configuration, &second, "third");
    until("the mended one to be shown", || shown() == second.der.to_vec());
}
