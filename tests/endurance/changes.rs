//! What changes under way in an endurance run: tokens, policy, configuration, certificates, the store, the services' health.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::endurance::ledger::{Pass, Phase};
use crate::endurance::service::FAULTS;
use crate::endurance::world::{Random, World};
use crate::support::Response;
use crate::support::directory::{Credential, ORGANIZATION};
use crate::support::management::Api;

/// So many tokens are in use at once.
const IN_USE: usize = 30;

/// How long a change may be refused because somebody else holds the store.
const HELD: Duration = Duration::from_secs(60);

/// Makes a token and revokes the oldest one, again and again; revoked ones go on being tried for a while.
pub fn tokens(world: &World, _: &mut Random) {
    let api = world.sidecar.managed();
    let path = format!("/v1/organization/{ORGANIZATION}/application-users/{}/access-tokens", world.program);
    let (mut good, mut ended) = (VecDeque::new(), VecDeque::new());
    while !world.is_over() {
        let Some(made) = insist(world, || api.post(&path, json!({ "description": "endurance" }))) else {
            return;
        };
        let made = made.json();
        let credential = Credential {
            token: made["full_token"].as_str().unwrap().into(),
            prefix: made["token_prefix"].as_str().unwrap().into(),
            user_id: world.program.clone(),
        };
        let pass = Pass::new(credential, Phase::Good);
        world.add(&pass);
        good.push_back(pass);
        world.ledger.count("directory", "tokens made");
        if good.len() > IN_USE {
            let pass = good.pop_front().unwrap();
            pass.set(Phase::Changing);
            if insist(world, || api.delete(&format!("{path}/{}", pass.credential.prefix))).is_none() {
                return;
            }
            pass.set(Phase::Ended);
            world.ledger.count("directory", "tokens revoked");
            ended.push_back(pass);
        }
        if ended.len() > IN_USE / 3 {
            world.remove(&ended.pop_front().unwrap());
        }
        world.pause(Duration::from_millis(300));
    }
}

/// Forbids personal tokens made with a password, and allows them again.
pub fn policy(world: &World, _: &mut Random) {
    let api = world.sidecar.managed();
    while !world.is_over() {
        world.pause(Duration::from_secs(3));
        for allowed in [false, true] {
            let phase = if allowed { Phase::Good } else { Phase::Ended };
            if !set_policy(world, &api, allowed, phase) {
                return;
            }
            world.pause(Duration::from_secs(1));
        }
    }
}

fn set_policy(world: &World, api: &Api, allowed: bool, phase: Phase) -> bool {
    let path = format!("/v1/organization/{ORGANIZATION}/config/authentication");
    let body: Value =
        json!({ "password_auth_enabled": allowed, "personal_tokens_require_allowed_auth_method": true });
    let each = |phase| world.people.iter().for_each(|pass: &Arc<Pass>| pass.set(phase));
    each(Phase::Changing);
    let is_done = insist(world, || api.patch(&path, body.clone())).is_some();
    if is_done {
        each(phase);
        world.ledger.count("directory", "policies changed");
    }
    is_done
}

/// Asks until it is done: while somebody else holds the store, changes are refused with 503. `None` when the run is over first.
fn insist(world: &World, mut ask: impl FnMut() -> Response) -> Option<Response> {
    let started = Instant::now();
    loop {
        let answer = ask();
        match answer.status {
            200..=299 => return Some(answer),
            503 => world.ledger.count("directory", "503, the store was held"),
            _ => panic!("a change was refused with {}: {}", answer.status, answer.text()),
        }
        assert!(started.elapsed() < HELD, "the store was free again long ago");
        if world.is_over() {
            return None;
        }
        world.pause(Duration::from_millis(100));
    }
}

/// Reloads in turn because of a changed limit, a signal, a new certificate; and a file that is wrong, which changes nothing.
pub fn reloads(world: &World, _: &mut Random) {
    let file = world.sidecar.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let folder = world.sidecar.folder();
    for turn in 0_u32.. {
        world.pause(Duration::from_secs(2));
        if world.is_over() {
            return;
        }
        match turn % 4 {
            0 => {
                let limits = format!("connections = {}", 2_000 + turn % 8);
                std::fs::write(&file, text.replace("connections = 2000", &limits)).unwrap();
            }
            1 => world.sidecar.signal("HUP"),
            2 => {
                let certificate = world.authority.certificate(&["service.test"]);
                std::fs::write(folder.join("tls.crt"), certificate.pem).unwrap();
                std::fs::write(folder.join("tls.key"), certificate.key_pem).unwrap();
            }
            _ => {
                std::fs::write(&file, "workers = \"many\"\n[[").unwrap();
                world.pause(Duration::from_millis(500));
                std::fs::write(&file, &text).unwrap();
            }
        }
        world.ledger.count("configuration", "changed, or told to reload");
    }
}

/// Lets the faulty service fail in another way every second, and holds the store now and then.
pub fn faults(world: &World, random: &mut Random) {
    let store = rusqlite::Connection::open(world.sidecar.folder().join("store.db")).unwrap();
    store.busy_timeout(Duration::from_secs(30)).unwrap();
    for turn in 0_u32.. {
        world.set_fault(u8::try_from(random.below(FAULTS.into())).unwrap());
        if turn % 10 == 5 {
            store.execute_batch("BEGIN IMMEDIATE").unwrap();
            world.pause(Duration::from_secs(2));
            store.execute_batch("ROLLBACK").unwrap();
            world.ledger.count("store", "held for two seconds");
        }
        if world.is_over() {
            return;
        }
        world.pause(Duration::from_secs(1));
    }
}

/// Takes the access log away, as a rotation does, and looks whether all its lines are whole.
pub fn rotations(world: &World, _: &mut Random) {
    let folder = world.sidecar.folder();
    let (current, rotated) = (folder.join("access.log"), folder.join("access.log.1"));
    loop {
        world.pause(Duration::from_secs(10));
        if world.is_over() {
            return;
        }
        std::fs::rename(&current, &rotated).unwrap();
        world.sidecar.signal("USR1");
        crate::support::until("the access log to be opened again", || current.exists());
        let text = std::fs::read_to_string(&rotated).unwrap();
        for line in text.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "no line of the access log: {line}");
        }
        world.ledger.count("access log", "rotated");
    }
}
