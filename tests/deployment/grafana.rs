//! The dashboard: a real Prometheus answers every one of its queries with data of a sidecar that has something of everything to
//! do; and what dashboard and rules name is what that sidecar has.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::certificates::Authority;
use crate::support::peers::{self, Process};
use crate::support::stub::NameServer;
use crate::support::{Client, Sidecar, Upstream, eventually, until};
use crate::text;

/// The dashboard.
fn dashboard() -> Value {
    serde_json::from_str(&text("config/grafana/postern.json")).unwrap()
}

/// Its panels, by title, each with its queries; rows have none.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let queries = |panel: &Value| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
    };
    panels.map(|panel| (panel["title"].as_str().unwrap().to_owned(), queries(panel))).collect()
}

/// What choices above the panels ask for.
fn choices() -> Vec<String> {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap().clone();
    variables.iter().filter_map(|variable| variable["query"]["query"].as_str().map(str::to_owned)).collect()
}

/// A query as Grafana sends it, everything chosen.
fn filled_in(query: &str) -> String {
    let filled = query
        .replace("$__rate_interval", "1m")
        .replace("\"$job\"", "\"postern\"")
        .replace("\"$instance\"", "\".*\"")
        .replace("\"$route\"", "\".*\"")
        .replace("\"$upstream\"", "\".*\"");
    assert!(!filled.contains('$'), "{filled} has a variable that nobody fills in");
    filled
}

/// A running Prometheus that scrapes a sidecar every second.
struct Prometheus {
    _process: Process,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Prometheus {
    #[track_caller]
    fn scraping(ops: SocketAddr) -> Option<Self> {
        let program = peers::program("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // The configuration that is shipped, with this sidecar and a shorter pause, and its rules.
        let shipped = text("config/prometheus/prometheus.yml");
        let configuration =
            shipped.replace("127.0.0.1:9464", &ops.to_string()).replace("_interval: 15s", "_interval: 1s");
        assert_ne!(configuration, shipped);
        fs::write(path("prometheus.yml"), configuration).unwrap();
        fs::write(path("postern.rules.yml"), text("config/prometheus/postern.rules.yml")).unwrap();
        // Another process may take the port before Prometheus does: then it is tried with another.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let errors = fs::File::create(path("stderr")).unwrap();
            let child = Command::new(&program)
                .arg(format!("--config.file={}", path("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", path("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdout(Stdio::null())
                .stderr(errors)
                .spawn()
                .unwrap();
            let mut process = Process(child);
            let listens = eventually("Prometheus to listen", || match process.0.try_wait().unwrap() {
                Some(_ended) => Some(false),
                None => TcpStream::connect(address).is_ok().then_some(true),
            });
            if listens {
                return Some(Self { _process: process, _folder: folder, address });
            }
        }
        panic!("Prometheus does not start");
    }

    /// The series of an answer; none before Prometheus has read its own files.
    #[track_caller]
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let mut client = Client::connect(self.address);
        let response = client.request(format!(
            "GET /api/v1/query?query={encoded} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\n\r\n"
        ));
        match response.status {
            200 => response.json()["data"]["result"].as_array().unwrap().clone(),
            503 => Vec::new(),
            status => panic!("{expression}: {status} {}", response.text()),
        }
    }
}

/// A sidecar that has something of everything to do.
struct Busy {
    sidecar: Sidecar,
    authority: Authority,
}

impl Busy {
    fn start(upstream: &Upstream) -> Self {
        let authority = Authority::new();
        let certificate = authority.certificate(&["service.test"]);
        let names = NameServer::start();
        names.host("service.internal", Ipv4Addr::LOCALHOST);
        let tables = format!(
            "[[upstreams]]\nname = \"named\"\nendpoints = [\"service.internal:{}\"]\nresolvers = [\"{}\"]\n\
             [[routes]]\nname = \"named\"\nhosts = [\"named.test\"]\nupstream = \"named\"\nauthentication = \"off\"\n\
             [tracing]\nendpoint = \"http://127.0.0.1:9/v1/traces\"\nsampled_per_million = 1000000\n",
            upstream.address().port(),
            names.address
        );
        let secure = "[[listeners]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
                      [[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"\n";
        let sidecar = Sidecar::in_front_of(upstream)
            .listener("trusted_proxies = [\"127.0.0.0/8\"]")
            .more_listeners(secure)
            .file("a.crt", &certificate.pem)
            .file("a.key", &certificate.key_pem)
            .upstream("[upstreams.health]\nkind = \"http\"\npath = \"/\"\ninterval_seconds = 1\ntimeout_seconds = 1\n")
            .route("[routes.token_rate_limit]\nrequests = 5\n")
            .more(&tables)
            .admin("")
            .start();
        let this = Self { sidecar, authority };
        // What is let in now and would not be, and the other way round.
        this.postern(&["policy", "set", "allowed_ip_ranges=127.0.0.1/32"]);
        this.postern(&["policy", "candidate", "set", "allowed_ip_ranges=198.51.100.0/24"]);
        this
    }

    fn postern(&self, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        peers::run(command.args(arguments).arg("--config").arg(self.sidecar.config_file()));
    }

    /// A little of everything.
    fn work(&self) {
        let mut client = self.sidecar.connect();
        for _ in 0..8 {
            let status = client.request(self.sidecar.get()).status;
            assert!(status == 200 || status == 429, "{status}");
        }
        let elsewhere = self.sidecar.head("GET /", "X-Forwarded-For: 198.51.100.7\r\n");
        assert_ne!(client.request(elsewhere).status, 200, "not from there");
        client
            .request("GET / HTTP/1.1\r\nHost: service.test\r\n\r\n")
            .assert_error(401, "missing_credentials");
        assert_eq!(client.request("GET / HTTP/1.1\r\nHost: named.test\r\n\r\n").status, 200);
        let tls = self.authority.client(&[&rustls::version::TLS13], &[]);
        let mut client = Client::connect_tls(self.sidecar.listeners[1], "service.test", tls).unwrap();
        client
            .request("GET / HTTP/1.1\r\nHost: service.test\r\n\r\n")
            .assert_error(401, "missing_credentials");
    }

    /// The names that its metrics have.
    fn metrics(&self) -> BTreeSet<String> {
        let text = self.sidecar.metrics();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

#[test]
fn every_query_finds_something_and_names_what_there_is() {
    let upstream = Upstream::echo();
    let busy = Busy::start(&upstream);
    let panels = panels();
    assert!(panels.len() > 30, "{} panels", panels.len());

    // Names first: that much needs no Prometheus.
    let rules = crate::prometheus::metrics();
    let queries =
        panels.iter().flat_map(|(_, queries)| queries).chain(&choices()).cloned().collect::<Vec<_>>();
    let named: BTreeSet<String> =
        queries.iter().flat_map(|query| crate::metrics_in(query)).chain(rules).collect();
    let mut missing: Vec<String> = Vec::new();
    until("everything that is named to be there (what is missing stands above)", || {
        busy.work();
        let there = busy.metrics();
        let before = std::mem::take(&mut missing);
        missing.extend(named.iter().filter(|name| !there.contains(*name)).cloned());
        if missing != before {
            println!("missing: {missing:?}");
        }
        missing.is_empty()
    });
    // And nothing that a sidecar has is on no panel, but what is about Prometheus' own process metrics.
    let shown: BTreeSet<String> = queries.iter().flat_map(|query| crate::metrics_in(query)).collect();
    let hidden: Vec<_> = busy
        .metrics()
        .into_iter()
        .filter(|name| name.starts_with("postern_") && !shown.contains(name))
        .collect();
    assert_eq!(hidden, Vec::<String>::new(), "on no panel");

    let Some(prometheus) = Prometheus::scraping(busy.sidecar.ops) else { return };
    for (title, queries) in &panels {
        let mut rows = Vec::new();
        eventually(&format!("data for the panel {title:?}: {queries:?}"), || {
            busy.work();
            rows.clear();
            for query in queries {
                rows.extend(prometheus.query(&filled_in(query)));
            }
            (!rows.is_empty()).then_some(())
        });
        for row in &rows {
            println!("{title:40} {:60} {}", row["metric"].to_string(), row["value"][1].as_str().unwrap());
        }
    }
    // The rules that are shipped are loaded beside it, and nothing is wrong with this sidecar but its candidate policy.
    let critical = prometheus.query("ALERTS{severity=\"critical\", alertstate=\"firing\"}");
    assert_eq!(critical, Vec::<Value>::new());
    busy.sidecar.stop();
}

#[test]
fn nothing_lies_over_anything_else() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let number = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(number("x") + number("w") <= 24, "{}", panel["title"]);
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(taken.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has another's number", panel["title"]);
    }
}
