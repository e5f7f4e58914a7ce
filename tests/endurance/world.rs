//! What all of an endurance run works on: the sidecar, the services behind it, the tokens, the time that is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use postern::token::TokenKind;

use crate::endurance::ledger::{Ledger, Pass, Phase};
use crate::endurance::service;
use crate::support::certificates::Authority;
use crate::support::directory::Credential;
use crate::support::{Sidecar, Upstream};

/// The host of the route to the service that fails.
pub const FAULTY_HOST: &str = "faulty.test";

/// What a request asks for that must never reach a service.
pub const NEVER: &str = "/never";

const TLS_LISTENER: &str = "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
    [[listeners.tls.certificates]]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n";

pub struct World {
    pub sidecar: Sidecar,
    pub authority: Authority,
    pub ledger: Ledger,
    /// The tokens that requests are sent with.
    pool: RwLock<Vec<Arc<Pass>>>,
    /// All there ever were, for the account of their use.
    all: Mutex<Vec<Arc<Pass>>>,
    /// Tokens of people, made with a password: the policy decides about them.
    pub people: Vec<Arc<Pass>>,
    /// A good token of whose use nobody keeps account.
    pub spare: Credential,
    /// The application user whose tokens come and go.
    pub program: String,
    /// What the faulty service does at the moment.
    pub fault: Arc<AtomicU8>,
    /// Requests for [`NEVER`] that a service has seen.
    pub arrived: Arc<AtomicU64>,
    deadline: Instant,
    _services: [Upstream; 2],
}

impl World {
    pub fn start(length: Duration) -> Self {
        let (fault, arrived) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
        let sound = service::sound(Arc::clone(&arrived));
        let faulty = service::faulty(Arc::clone(&fault));
        let authority = Authority::new();
        let certificate = authority.certificate(&["service.test"]);
        let sidecar = Sidecar::in_front_of(&sound)
            .more_listeners(TLS_LISTENER)
            .file("tls.crt", &certificate.pem)
            .file("tls.key", &certificate.key_pem)
            .admin("")
            .limits("connections = 2000")
            .log_level("postern=info")
            .more(&format!(
                "[[upstreams]]\nname = \"faulty\"\nendpoints = [\"{}\"]\n\
                 [[routes]]\nname = \"faulty\"\nhosts = [\"{FAULTY_HOST}\"]\nproject = \"demo\"\nservice = \"faulty\"\nupstream = \"faulty\"\n",
                faulty.address()
            ))
            .start();
        let directory = &sidecar.directory;
        let program = directory.application_user();
        directory.grant(&program, &["admin"]);
        let people: Vec<_> = (0..3)
            .map(|number| {
                let (person, method) = directory.person(&format!("person{number}@example.com"));
                directory.grant(&person, &["admin"]);
                let credential = directory.token_with(&person, TokenKind::Personal, |token| {
                    token.authentication_method_id = Some(method);
                });
                Pass::new(credential, Phase::Good)
            })
            .collect();
        let spare = directory.token(&program);
        sidecar.wait_for(&spare);
        let lasting = Pass::new(sidecar.permitted.clone(), Phase::Good);
        let pool: Vec<_> = people.iter().cloned().chain([lasting]).collect();
        Self {
            all: Mutex::new(pool.clone()),
            pool: RwLock::new(pool),
            ledger: Ledger::default(),
            deadline: Instant::now() + length,
            _services: [sound, faulty],
            sidecar,
            authority,
            people,
            spare,
            program,
            fault,
            arrived,
        }
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Waits, not beyond the end of the run: this shapes the load, nothing is awaited with it.
    pub fn pause(&self, length: Duration) {
        std::thread::sleep(length.min(self.deadline.saturating_duration_since(Instant::now())));
    }

    /// Any of the tokens in use, ended ones included.
    pub fn any_pass(&self, random: &mut Random) -> Arc<Pass> {
        let pool = self.pool.read();
        Arc::clone(&pool[random.below(pool.len())])
    }

    /// From now on requests are sent with it.
    pub fn add(&self, pass: &Arc<Pass>) {
        self.pool.write().push(Arc::clone(pass));
        self.all.lock().push(Arc::clone(pass));
    }

    /// From now on none is.
    pub fn remove(&self, pass: &Arc<Pass>) {
        self.pool.write().retain(|other| !Arc::ptr_eq(other, pass));
    }

    /// All tokens there ever were.
    pub fn all(&self) -> Vec<Arc<Pass>> {
        self.all.lock().clone()
    }

    pub fn descriptors(&self) -> usize {
        self.sidecar.metric("process_open_fds") as usize
    }

    /// Where TLS is spoken.
    pub fn tls_address(&self) -> std::net::SocketAddr {
        self.sidecar.listeners[1]
    }

    pub fn set_fault(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
    }
}

/// Numbers that look random and are the same in each run (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[3]).collect()
    }
}
