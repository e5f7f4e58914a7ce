//! What a reload cannot change: the keys that need a restart, by name.

use super::{Config, ListenerConfig};

/// The keys that differ between two configurations and take effect only after a restart; everything else is taken
/// over by a reload. Listeners are told apart by their names.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    if old.workers != new.workers {
        keys.push("workers".to_owned());
    }
    if old.core_dumps != new.core_dumps {
        keys.push("core_dumps".to_owned());
    }
    if old.store.path != new.store.path {
        keys.push("store.path".to_owned());
    }
    listeners(&old.listeners, &new.listeners, &mut keys);
    if old.ops.address != new.ops.address {
        keys.push("ops.address".to_owned());
    }
    match (&old.admin, &new.admin) {
        (None, None) => {}
        (None, Some(_)) => keys.push("admin (added)".to_owned()),
        (Some(_), None) => keys.push("admin (removed)".to_owned()),
        (Some(old), Some(new)) => {
            if old.address != new.address {
                keys.push("admin.address".to_owned());
            }
            if old.tls.is_some() != new.tls.is_some() {
                let state = if new.tls.is_some() { "switched on" } else { "switched off" };
                keys.push(format!("admin.tls ({state})"));
            }
            if old.login != new.login {
                keys.push("admin.login".to_owned());
            }
        }
    }
    if old.tracing != new.tracing {
        keys.push("tracing".to_owned());
    }
    if old.logging.format != new.logging.format {
        keys.push("logging.format".to_owned());
    }
    if old.logging.recent_denials != new.logging.recent_denials {
        keys.push("logging.recent_denials".to_owned());
    }
    keys
}

fn listeners(old: &[ListenerConfig], new: &[ListenerConfig], keys: &mut Vec<String>) {
    for listener in new {
        let name = &listener.name;
        let Some(before) = old.iter().find(|before| before.name == *name) else {
            keys.push(format!("listeners.{name} (added)"));
            continue;
        };
        if before.address != listener.address {
            keys.push(format!("listeners.{name}.address"));
        }
        if before.tls.is_some() != listener.tls.is_some() {
            let state = if listener.tls.is_some() { "switched on" } else { "switched off" };
            keys.push(format!("listeners.{name}.tls ({state})"));
        }
    }
    let gone = old.iter().filter(|before| !new.iter().any(|listener| listener.name == before.name));
    keys.extend(gone.map(|listener| format!("listeners.{} (removed)", listener.name)));
}
