//! `postern demo`: a working sidecar from nothing, and lines to try it with. It is the real one: a real configuration
//! file and a real store in a throw-away folder, in front of a sample service.

mod directory;
mod screen;
mod upstream;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use tempfile::TempDir;

use super::Exit;
use super::failure::Failure;
use super::output::{Format, Output};
use super::run::LOG_PATIENCE;
use crate::app::{App, StartError};
use crate::config::{Config, ListenAddress, LogFormat};
use crate::lifecycle::Signals;
use crate::telemetry::log;
use screen::Screen;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern demo                        then paste the lines that it shows into another terminal
  postern demo --port 0 --admin-port 0 --ops-port 0
                                      on any free ports
  postern demo --json                 the same as one JSON object

It listens on 127.0.0.1 only, and everything it makes is in a folder of its own that goes when it ends (Ctrl-C).";

/// Everything in the throw-away folder, by name.
const CONFIG_FILE: &str = "postern.toml";
const ACCESS_LOG_FILE: &str = "access.log";

/// The demo's own log shows only what goes wrong: the screen is for the lines to paste.
const LOG_LEVEL: &str = "warn";

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Port of the proxy; another one if it is taken; 0: any free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the management API; another one if it is taken; 0: any free one.
    #[arg(long, default_value_t = 8181)]
    admin_port: u16,
    /// Port of metrics and health; another one if it is taken; 0: any free one.
    #[arg(long, default_value_t = 9464)]
    ops_port: u16,
}

pub(super) fn execute(arguments: &DemoArguments, output: Output) -> Result<Exit, Failure> {
    let log = log::start(LOG_LEVEL, LogFormat::Text).map_err(Failure::failed)?;
    // Nobody else's: the access log in it says who asked for what.
    let owner_only = fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("postern-demo-").permissions(owner_only).tempdir();
    let folder = folder.map_err(|error| {
        let place = std::env::temp_dir();
        Failure::Failed(format!(
            "cannot make a folder in {place:?}: {error}; make that one writable, or name another in TMPDIR"
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Whatever happens in here, the folder goes when this function ends.
    let served = runtime.block_on(Box::pin(serve(arguments, folder.path(), log.clone(), output)));
    log.flush(LOG_PATIENCE);
    served?;
    drop(runtime);
    clear_away(folder, output)
}

/// Everything between the folder's beginning and its end.
async fn serve(
    arguments: &DemoArguments,
    folder: &Path,
    log: log::LogHandle,
    output: Output,
) -> Result<(), Failure> {
    // First of all, so that Ctrl-C clears up from here on, as does closing the terminal.
    let signals = Signals::install_at_terminal()?;
    let upstream = upstream::start().await?;
    let proxy = free_or_any(arguments.port);
    let admin = free_or_any(arguments.admin_port);
    let ops = free_or_any(arguments.ops_port);
    let file = folder.join(CONFIG_FILE);
    fs::write(&file, config_text(proxy, admin, ops, upstream))?;

    let config = Config::load(&file)?;
    let made = directory::fill(&config)?;
    let app = match App::start(config, Some(log.clone())).await {
        // Somebody has taken a port since it was looked at, such as a demo that was started at the same time.
        Err(StartError::Bind { .. }) => {
            let any = any_port();
            fs::write(&file, config_text(any, any, any, upstream))?;
            App::start(Config::load(&file)?, Some(log)).await?
        }
        started => started?,
    };
    let addresses = app.addresses();
    let screen = Screen {
        asked: [arguments.port, arguments.admin_port, arguments.ops_port],
        proxy: match addresses.listeners.first() {
            Some(ListenAddress::Ip(bound)) => *bound,
            Some(ListenAddress::Unix(_)) | None => proxy,
        },
        admin: addresses.admin.unwrap_or(admin),
        ops: addresses.ops,
        upstream,
        folder: folder.to_owned(),
        config: file,
        access_log: folder.join(ACCESS_LOG_FILE),
        program: std::env::current_exe().unwrap_or_else(|_| "postern".into()),
        made,
    };
    output.result(&screen.contents(), screen::Contents::text)?;
    app.run(signals).await;
    Ok(())
}

fn clear_away(folder: TempDir, output: Output) -> Result<Exit, Failure> {
    let path = folder.path().to_owned();
    folder
        .close()
        .map_err(|error| Failure::Failed(format!("cannot remove {path:?}: {error}; remove it by hand")))?;
    if output.format() == Format::Text {
        output.remark("\nstopped; nothing was left behind");
    }
    Ok(Exit::Done)
}

/// The address with this port, or with port 0 if somebody has it: the system then chooses one.
fn free_or_any(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(wanted) {
        Ok(_free) => wanted,
        Err(_) => any_port(),
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A configuration such as an operator would write. Paths are relative: they start from the file's folder.
fn config_text(proxy: SocketAddr, admin: SocketAddr, ops: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        r#"# Made by `postern demo`.

[store]
path = "directory.sqlite"
create_if_missing = true

[[listeners]]
name = "proxy"
address = "{proxy}"

[admin]
address = "{admin}"

[ops]
address = "{ops}"

[organization]
id = "{organization}"
name = "Demo"

[[upstreams]]
name = "echo"
endpoints = ["{upstream}"]

# To read, a token's user needs `project:services:read` on the project; for anything else `service:data:write`.
[[routes]]
name = "echo"
path_prefix = "/"
project = "{project}"
service = "echo"
upstream = "echo"

[usage]
flush_interval_seconds = 1

[timeouts]
drain_seconds = 5

[logging]
level = "{LOG_LEVEL}"

[logging.access_log]
output = "{ACCESS_LOG_FILE}"
"#,
        organization = directory::ORGANIZATION,
        project = directory::PROJECT,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_demos_configuration_is_right() {
        let address = "127.0.0.1:0".parse().unwrap();
        let upstream = "127.0.0.1:1".parse().unwrap();
        let text = config_text(address, address, address, upstream);
        let folder = tempfile::tempdir().unwrap();
        if let Err(error) = Config::parse(&text, &folder.path().join(CONFIG_FILE)) {
            panic!("{error}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_left_to_whoever_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(free_or_any(port).port(), 0);
        drop(taken);
        assert_eq!(free_or_any(port).port(), port);
    }
}
