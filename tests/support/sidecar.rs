//! A sidecar as operators run it, `postern run`: real signals, its own memory figures, its own output.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{WaitOptions, WaitStatus};

use super::directory::{Credential, Directory};
use super::{Client, Response, Upstream, eventually};

/// The built binary.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_postern");

/// The host of the route that needs a token.
pub const HOST: &str = "service.test";

/// The host of the route that is declared open.
pub const OPEN_HOST: &str = "open.test";

/// What the configuration says beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct SidecarBuilder {
    workers: Option<usize>,
    endpoints: Vec<String>,
    listener: String,
    more_listeners: String,
    organization: String,
    upstream: String,
    route: String,
    more: String,
    admin: Option<String>,
    limits: String,
    timeouts: String,
    log_level: Option<String>,
    files: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    is_linked: bool,
    activated: Option<Activated>,
    store: Option<String>,
    store_lines: String,
    access_log: Option<String>,
    wrapper: Vec<String>,
    permitted_is_super_admin: bool,
}

/// Two sockets that systemd passes, each with its name.
#[derive(Clone, Debug)]
pub struct Activated {
    pub names: [&'static str; 2],
    pub sockets: Arc<[OwnedFd; 2]>,
}

/// A running sidecar. Killed when dropped, and what has taken over from it too.
pub struct Sidecar {
    process: Mutex<Child>,
    /// Processes that have taken over, the last one in charge.
    successors: Mutex<Vec<u32>>,
    builder: SidecarBuilder,
    folder: tempfile::TempDir,
    /// One per listener.
    pub listeners: Vec<SocketAddr>,
    pub ops: SocketAddr,
    /// The management API, if it has one.
    pub admin: Option<SocketAddr>,
    pub directory: Directory,
    /// A token that may do everything on the routes' project.
    pub permitted: Credential,
    output: Arc<Mutex<String>>,
}

impl SidecarBuilder {
    /// Lines of the `[[listeners]]` table, and tables below it.
    pub fn listener(mut self, lines: &str) -> Self {
        self.listener = format!("{}\n{lines}\n", self.listener);
        self
    }

    /// Further `[[listeners]]` tables.
    pub fn more_listeners(mut self, tables: &str) -> Self {
        self.more_listeners = tables.into();
        self
    }

    /// Lines of the `[organization]` table, and tables below it.
    pub fn organization(mut self, lines: &str) -> Self {
        self.organization = lines.into();
        self
    }

    /// Lines of the `[[upstreams]]` table, and tables below it.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream = lines.into();
        self
    }

    /// Another endpoint of the upstream.
    pub fn endpoint(mut self, endpoint: impl ToString) -> Self {
        self.endpoints.push(endpoint.to_string());
        self
    }

    /// Lines of the `[[routes]]` table that needs a token.
    pub fn route(mut self, lines: &str) -> Self {
        self.route = lines.into();
        self
    }

    /// Further tables, routes and upstreams.
    pub fn more(mut self, tables: &str) -> Self {
        self.more = format!("{}\n{tables}\n", self.more);
        self
    }

    /// With the management API; lines of `[admin]`, and tables below it.
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin = Some(lines.into());
        self
    }

    /// Lines of `[limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        self.limits = lines.into();
        self
    }

    /// Lines of `[timeouts]`.
    pub fn timeouts(mut self, lines: &str) -> Self {
        self.timeouts = lines.into();
        self
    }

    /// What is logged, in the place of everything.
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = Some(level.into());
        self
    }

    /// One worker, so that connections to the upstream are shared by all clients.
    pub fn one_worker(mut self) -> Self {
        self.workers = Some(1);
        self
    }

    /// A file beside the configuration.
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    /// A variable of its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Started by a symbolic link in its folder, `postern`, which may come to point to another program.
    pub fn linked(mut self) -> Self {
        self.is_linked = true;
        self
    }

    /// Started as systemd starts a service that it has sockets for.
    pub fn activated(mut self, activated: Activated) -> Self {
        self.activated = Some(activated);
        self
    }

    /// Another path of the store; what is filled beforehand is `store.db` all the same.
    pub fn store(mut self, path: &str) -> Self {
        self.store = Some(path.into());
        self
    }

    /// More of the store's table.
    pub fn store_lines(mut self, lines: &str) -> Self {
        self.store_lines = lines.into();
        self
    }

    /// Where the access log goes.
    pub fn access_log(mut self, output: &str) -> Self {
        self.access_log = Some(output.into());
        self
    }

    /// Run by another program, such as `sh -c SCRIPT sh`, which becomes the sidecar (`exec "$@"`), in the configuration's folder.
    pub fn wrapped_in(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The permitted token's user is a super admin of the organization too, from the start.
    pub fn permitted_is_super_admin(mut self) -> Self {
        self.permitted_is_super_admin = true;
        self
    }

    /// The configuration's text.
    pub fn config(&self) -> String {
        let Self {
            listener,
            more_listeners,
            organization,
            upstream,
            route,
            more,
            limits,
            timeouts,
            store_lines,
            ..
        } = self;
        let workers = self.workers.unwrap_or(2);
        let level = self.log_level.as_deref().unwrap_or("postern=debug");
        let store = self.store.as_deref().unwrap_or("store.db");
        let access_log = self.access_log.as_deref().unwrap_or("access.log");
        let endpoints = format!("{:?}", self.endpoints);
        let admin = match &self.admin {
            Some(lines) => format!("[admin]\naddress = \"127.0.0.1:0\"\n{lines}"),
            None => String::new(),
        };
        format!(
            r#"
workers = {workers}

[store]
path = {store:?}
{store_lines}

[[listeners]]
name = "main"
address = "127.0.0.1:0"
{listener}
{more_listeners}

[ops]
address = "127.0.0.1:0"

{admin}

[organization]
id = "org1a2b3c4d5e6"
name = "Example"
{organization}

[[upstreams]]
name = "service"
endpoints = {endpoints}
{upstream}

[[routes]]
name = "main"
hosts = ["service.test"]
project = "demo"
service = "service"
upstream = "service"
{route}

[[routes]]
name = "open"
hosts = ["open.test"]
upstream = "service"
authentication = "off"
{more}

[usage]
flush_interval_seconds = 1

[limits]
{limits}

[timeouts]
{timeouts}

[logging]
level = "{level}"

[logging.access_log]
output = {access_log:?}
"#
        )
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Sidecar {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let config = folder.path().join("postern.toml");
        fs::write(&config, self.config()).unwrap();
        let directory = Directory::open(&folder.path().join("store.db"));
        let permitted = directory.permitted();
        if self.permitted_is_super_admin {
            directory.make_super_admin(&permitted.user_id);
        }

        if self.is_linked {
            symlink(PROGRAM, folder.path().join("postern")).unwrap();
        }
        let (process, output) = self.spawn(folder.path());
        let mut sidecar = Sidecar {
            process: Mutex::new(process),
            successors: Mutex::default(),
            builder: self,
            folder,
            listeners: Vec::new(),
            ops: SocketAddr::from(([0; 4], 0)),
            admin: None,
            directory,
            permitted,
            output,
        };
        sidecar.wait_until_it_listens();
        sidecar
    }

    fn spawn(&self, folder: &Path) -> (Child, Arc<Mutex<String>>) {
        let program = if self.is_linked { folder.join("postern") } else { PROGRAM.into() };
        let wrapper: Vec<&str> = match &self.activated {
            None => self.wrapper.iter().map(String::as_str).collect(),
            Some(_) => {
                let script = "export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\" 3<&0 4<&1 </dev/null >&2";
                vec!["sh", "-c", script, "sh"]
            }
        };
        let mut words = wrapper.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["run", "--json", "--config"])
            .arg(folder.join("postern.toml"))
            .current_dir(folder)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(Activated { names, sockets }) = &self.activated {
            let [first, second] = &**sockets;
            command.envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", &names.join(":"))]);
            command.stdin(first.try_clone().unwrap()).stdout(second.try_clone().unwrap());
        }
        let mut process = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        if let Some(stdout) = process.stdout.take() {
            collect(stdout, &output);
        }
        collect(process.stderr.take().unwrap(), &output);
        (process, output)
    }
}

/// The addresses that the log says it listens at: one for each listener, and the operators' last.
fn listening(log: &str) -> Vec<SocketAddr> {
    let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let announced =
        parsed.filter(|line| line["fields"]["message"] == "listening" || line["message"] == "listening");
    let address = |line: serde_json::Value| {
        let field = line["fields"]["address"].as_str().or_else(|| line["address"].as_str());
        let field = field.expect("an address");
        (!field.starts_with("unix:")).then(|| field.parse().expect("an address"))
    };
    announced.filter_map(address).collect()
}

/// Collects a stream's lines in the background.
fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            output.lock().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

impl Sidecar {
    /// Waits until it says where it listens.
    #[track_caller]
    pub fn wait_until_it_listens(&mut self) {
        let control = 1 + usize::from(self.builder.admin.is_some());
        let config = self.builder.config();
        // Unix sockets have no address to be told.
        let unix = config.matches("address = \"unix:").count();
        let count = config.matches("[[listeners]]").count() - unix + control;
        let started = eventually("the sidecar to listen", || {
            let addresses = listening(&self.output.lock());
            if addresses.len() >= count {
                return Some(Ok(addresses));
            }
            self.process.lock().try_wait().unwrap().map(Err)
        });
        let mut addresses = match started {
            Ok(addresses) => addresses,
            Err(status) => panic!("the sidecar ended with {status}:\n{}", self.output.lock()),
        };
        self.ops = addresses.pop().unwrap();
        self.admin = self.builder.admin.is_some().then(|| addresses.pop().unwrap());
        self.listeners = addresses;
    }

    /// Kills it, as the system would without any warning.
    pub fn crash(&self) {
        let mut process = self.process.lock();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts it anew in the same folder; whether it listens is another question.
    pub fn start_again(&mut self) {
        let (process, output) = self.builder.spawn(self.folder.path());
        (self.process, self.output) = (Mutex::new(process), output);
    }

    /// Lets the name that a linked sidecar was started by stand for another program, in one step.
    pub fn install(&self, program: impl AsRef<Path>) {
        let new = self.folder().join("postern.new");
        symlink(program, &new).unwrap();
        fs::rename(new, self.folder().join("postern")).unwrap();
    }

    /// Asks it to hand over, by the command; what that reports. Whoever has taken over is in charge then.
    #[track_caller]
    pub fn upgrade(&self, arguments: &[&str]) -> serde_json::Value {
        // What this process's children leave behind is its to wait for.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let ran = Command::new(PROGRAM)
            .args(["upgrade", "--json", "--config"])
            .arg(self.config_file())
            .args(arguments)
            .output()
            .unwrap();
        let report: serde_json::Value = match serde_json::from_slice(&ran.stdout) {
            Ok(report) => report,
            Err(error) => panic!("{error}: {ran:?}\n{}", self.output()),
        };
        assert_eq!(ran.status.success(), report["taken_over"] == true, "{ran:?}");
        if let Some(process_id) = report["process_id"].as_u64() {
            self.successors.lock().push(process_id.try_into().unwrap());
        }
        report
    }

    /// The same by the signal; returns when the new process says that it has taken over.
    #[track_caller]
    pub fn upgrade_by_signal(&self) -> u32 {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let before = self.output().len();
        self.signal("USR2");
        let process_id = eventually("another process to take over", || {
            let output = self.output();
            let mut lines = output[before..]
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.find_map(|line| {
                let line = if line["fields"].is_object() { &line["fields"] } else { &line };
                let is_it = line["message"] == "another process has taken over";
                is_it.then(|| u32::try_from(line["process_id"].as_u64().unwrap()).unwrap())
            })
        });
        self.successors.lock().push(process_id);
        process_id
    }

    /// Lets a process be in charge that has taken over by itself.
    pub fn follow(&self, process_id: u32) {
        self.successors.lock().push(process_id);
    }

    /// Waits for a process to end that had taken over, and from which another has.
    #[track_caller]
    pub fn assert_abandoned(&self, process_id: u32) {
        self.successors.lock().retain(|successor| *successor != process_id);
        let status = eventually("a process that was left to end", || wait(process_id));
        assert_eq!(status.exit_status(), Some(0), "{status:?}\n{}", self.output());
    }

    /// Stops the process in charge, which has taken over from the first.
    #[track_caller]
    pub fn stop_successor(&self) {
        self.signal("TERM");
        self.wait_for_successor();
    }

    /// Waits for the process in charge, which has taken over from the first, to end.
    #[track_caller]
    pub fn wait_for_successor(&self) {
        let process_id = self.successors.lock().pop().expect("somebody has taken over");
        let status = eventually("the process that took over to end", || wait(process_id));
        assert_eq!(status.exit_status(), Some(0), "{status:?}\n{}", self.output());
    }

    /// A sidecar in front of one upstream.
    pub fn in_front_of(upstream: &Upstream) -> SidecarBuilder {
        Self::with_endpoint(upstream.address())
    }

    /// A sidecar in front of whatever is at this address.
    pub fn with_endpoint(address: impl ToString) -> SidecarBuilder {
        SidecarBuilder { endpoints: vec![address.to_string()], ..SidecarBuilder::default() }
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// A new connection to the first listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Sends a request on a new connection and reads the response.
    #[track_caller]
    pub fn request(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().request(bytes)
    }

    /// Sends a permitted request over TLS on a new connection; how its handshake went, and whether it was served. To the end of
    /// the connection, so that what it takes to resume the session has come.
    pub fn request_over_tls(
        &self,
        config: &Arc<rustls::ClientConfig>,
    ) -> (Option<rustls::HandshakeKind>, bool) {
        use std::io::Write as _;
        let name = rustls_pki_types::ServerName::try_from(HOST).unwrap();
        let session = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
        let socket = std::net::TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        let _closed_already = stream.write_all(self.head("GET /", "Connection: close\r\n").as_bytes());
        let mut answer = Vec::new();
        let _closed_with_an_alert = stream.read_to_end(&mut answer);
        (stream.conn.handshake_kind(), answer.starts_with(b"HTTP/1.1 200"))
    }

    /// The head of a permitted request, up to further header lines (each ended by CRLF).
    pub fn head(&self, method_and_target: &str, lines: &str) -> String {
        self.head_with(&self.permitted.token, method_and_target, lines)
    }

    /// The head of a request with some token.
    pub fn head_with(&self, token: &str, method_and_target: &str, lines: &str) -> String {
        format!(
            "{method_and_target} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n{lines}\r\n"
        )
    }

    /// A permitted GET.
    pub fn get(&self) -> String {
        self.head("GET /", "")
    }

    /// Whether a request is answered with this status: for waiting until a token stops being valid. A request that is under way as
    /// it does is broken off, without an answer.
    pub fn answers(&self, head: &str, status: u16) -> bool {
        let mut client = self.connect();
        client.send(head);
        client.try_response().is_ok_and(|response| response.status == status)
    }

    /// Waits until the sidecar has seen a token in the store, and with it all that was changed before.
    #[track_caller]
    pub fn wait_for(&self, credential: &Credential) {
        let probe = format!(
            "GET / HTTP/1.1\r\nHost: unknown.test\r\nAuthorization: Bearer {}\r\n\r\n",
            credential.token
        );
        super::until("the sidecar to know a new token", || {
            self.request(&probe).error_code() != "invalid_token"
        });
    }

    /// Asks the management API: a method and a target, with a body if it is not empty.
    #[track_caller]
    pub fn api(&self, token: &str, method_and_target: &str, body: &str) -> Response {
        let length = body.len();
        let mut client = Client::connect(self.admin.expect("there is a management API"));
        client.request(format!(
            "{method_and_target} HTTP/1.1\r\nHost: admin\r\nAuthorization: aivenv1 {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    /// A super admin's token that the sidecar knows.
    #[track_caller]
    pub fn super_admin(&self) -> Credential {
        let admin = self.directory.super_admin();
        self.wait_for(&admin);
        admin
    }

    /// Where the operators' listener is.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops
    }

    /// Asks the operators' listener for a page.
    #[track_caller]
    pub fn ops(&self, path: &str) -> Response {
        let mut client = Client::connect(self.ops);
        client.request(format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n"))
    }

    /// The metrics' text.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.ops("/metrics").text()
    }

    /// The value of one series, named with its labels in their order; fails if it is not there.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        self.find_metric(series).unwrap_or_else(|| panic!("{series} is not in\n{}", self.metrics()))
    }

    /// The value of one series, if it is there.
    pub fn find_metric(&self, series: &str) -> Option<f64> {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a number"))
    }

    /// The folder that the configuration is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder().join("postern.toml")
    }

    /// Waits for so many lines of the access log.
    #[track_caller]
    pub fn access_log(&self, lines: usize) -> Vec<serde_json::Value> {
        let path = self.folder().join("access.log");
        let awaited = format!("{lines} lines in the access log");
        eventually(&awaited, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let complete: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            (complete.len() >= lines).then(|| {
                let parse = |line: &&str| serde_json::from_str(line).expect("a line is a JSON object");
                complete.iter().map(parse).collect()
            })
        })
    }

    /// What it wrote to its standard streams so far.
    pub fn output(&self) -> String {
        self.output.lock().clone()
    }

    /// The number of the process in charge.
    pub fn id(&self) -> u32 {
        self.successors.lock().last().copied().unwrap_or_else(|| self.process.lock().id())
    }

    /// The number of the process that it was started as.
    pub fn first_id(&self) -> u32 {
        self.process.lock().id()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Processor time it has used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // The name, in parentheses, may have blanks in it. User and system time are fields 14 and 15, in hundredths.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let hundredths: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(hundredths * 10)
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(status.unwrap().success(), "the signal is sent");
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        eventually("the sidecar to end", || self.process.lock().try_wait().unwrap())
    }

    /// Whether the process that it was started as still runs.
    pub fn is_running(&self) -> bool {
        self.process.lock().try_wait().unwrap().is_none()
    }

    /// Stops it gracefully; fails unless everything finished.
    #[track_caller]
    pub fn stop(&self) {
        self.signal("TERM");
        self.assert_finished();
    }

    /// Waits for it to end by itself; fails unless everything finished.
    #[track_caller]
    pub fn assert_finished(&self) {
        self.assert_ended("everything finished");
    }

    /// Waits for it to end by itself; fails unless something was broken off.
    #[track_caller]
    pub fn assert_forced(&self) {
        self.assert_ended("the grace was over");
    }

    #[track_caller]
    fn assert_ended(&self, how: &str) {
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.output());
        eventually(how, || self.output().contains(how).then_some(()));
    }
}

fn pid(process_id: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(process_id.try_into().unwrap()).unwrap()
}

/// How a process that was left behind has ended, if it has.
fn wait(process_id: u32) -> Option<WaitStatus> {
    // Until its parent has ended, it is not ours to wait for.
    let waited = rustix::process::waitpid(Some(pid(process_id)), WaitOptions::NOHANG);
    waited.ok().flatten().map(|(_, status)| status)
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let mut process = self.process.lock();
        // They may have ended already.
        let _ended = process.kill();
        let _reaped = process.wait();
        for process_id in self.successors.lock().drain(..) {
            let pid = pid(process_id);
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _reaped = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        if thread::panicking() {
            eprintln!("--- the sidecar's output\n{}---", self.output.lock());
        }
    }
}
