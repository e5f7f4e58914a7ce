//! The real OpenID Connect provider that sign-in is tried against: the npm package oidc-provider, in a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};

use super::PATIENCE;
use super::browser::PUBLIC_URL;
use super::peers::{self, Process};

/// A provider that runs.
pub struct Provider {
    pub issuer: String,
    _process: Process,
}

/// The client that the sidecar is at the provider.
pub const CLIENT_ID: &str = "postern";
pub const CLIENT_SECRET: &str = "a client secret of tests";

/// Starts one with these accounts, by login name; `None`, and a line that says so, where it is not installed.
#[track_caller]
pub fn start(accounts: Value, more: Value) -> Option<Provider> {
    let node = peers::program("node")?;
    let installed = installed()?;
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let mut settings = json!({
        "accounts": accounts,
        "key": key.serialize_pem(),
        "clients": [{
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [format!("{PUBLIC_URL}/v1/userauth/sign_in/callback")],
        }],
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(node)
        .arg(folder().join("provider.mjs"))
        .arg(settings.to_string())
        .arg(installed)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log.reopen().unwrap())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // It warns of what is only for development before it says where it is.
        let said = lines.map_while(Result::ok).find_map(|line| serde_json::from_str::<Value>(&line).ok());
        // Nobody may be waiting any more.
        let _told = sender.send(said);
    });
    let Some(said) = receiver.recv_timeout(PATIENCE).ok().flatten() else {
        panic!("the provider does not say where it is, but {:?}", fs::read_to_string(log.path()));
    };
    Some(Provider { issuer: said["issuer"].as_str().unwrap().to_owned(), _process: process })
}

/// Where `tests/run` has installed the package.
#[track_caller]
fn installed() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/oidc-provider");
    if target.join("node_modules/oidc-provider").is_dir() {
        return Some(target);
    }
    peers::missing("the npm package oidc-provider");
    None
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/oidc-provider")
}
