//! `postern check`: is a configuration right, and what does it come to?

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Exit;
use super::arguments::ConfigArguments;
use super::failure::{Failure, problems};
use super::output::{Format, Output, fields};
use crate::config::{AccessLogOutput, Config, RouteAuthentication, RouteTarget};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern check --config postern.toml
  postern check --config postern.toml --json | jq '.problems[].reason'

Exits with 0 if the configuration is right and with 64 if it is not; all problems are shown together.";

/// What a configuration comes to.
#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    file: PathBuf,
    organization_id: String,
    store: StoreSummary,
    /// A file, or `stdout`, or `off`.
    access_log: String,
    listeners: Vec<ListenerSummary>,
    ops_address: String,
    /// The management API; `None`: there is none.
    admin: Option<ListenerSummary>,
    routes: Vec<RouteSummary>,
    upstreams: Vec<UpstreamSummary>,
}

#[derive(Debug, Serialize)]
struct StoreSummary {
    path: PathBuf,
    exists: bool,
    create_if_missing: bool,
}

#[derive(Debug, Serialize)]
struct ListenerSummary {
    name: String,
    address: String,
    tls: bool,
}

#[derive(Debug, Serialize)]
struct RouteSummary {
    name: String,
    hosts: Vec<String>,
    path: String,
    project: String,
    upstream: String,
    authentication: &'static str,
}

#[derive(Debug, Serialize)]
struct UpstreamSummary {
    name: String,
    endpoints: Vec<String>,
    tls: bool,
}

pub(super) fn execute(arguments: &ConfigArguments, output: Output) -> Result<Exit, Failure> {
    match (Config::load(&arguments.config), output.format()) {
        (Ok(config), _) => {
            output.result(&Summary::of(&config), Summary::text)?;
            Ok(Exit::Done)
        }
        // Here the report is what was asked for.
        (Err(error), Format::Json) => {
            output.result(&problems(&error), |_| String::new())?;
            Ok(Exit::Config)
        }
        (Err(error), Format::Text) => Err(error.into()),
    }
}

impl Summary {
    fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter().map(|listener| ListenerSummary {
            name: listener.name.clone(),
            address: listener.address.to_string(),
            tls: listener.tls.is_some(),
        });
        let upstream_name = |position: usize| {
            config.upstreams.get(position).map_or_else(String::new, |upstream| upstream.name.clone())
        };
        let routes = config.routes.iter().map(|route| RouteSummary {
            name: route.name.clone(),
            hosts: route.hosts.clone(),
            path: route.path.as_str().to_owned(),
            project: route.project.clone(),
            upstream: match &route.target {
                RouteTarget::Upstream(position) => upstream_name(*position),
                RouteTarget::Response(fixed) => format!("response {}", fixed.status.as_u16()),
            },
            authentication: match route.authentication {
                RouteAuthentication::Required => "required",
                RouteAuthentication::Off => "off",
            },
        });
        let upstreams = config.upstreams.iter().map(|upstream| UpstreamSummary {
            name: upstream.name.clone(),
            endpoints: upstream.endpoints.iter().map(|endpoint| endpoint.label.clone()).collect(),
            tls: upstream.tls.is_some(),
        });
        Self {
            ok: true,
            file: config.file.clone(),
            organization_id: config.organization.id.clone(),
            store: StoreSummary {
                path: config.store.path.clone(),
                exists: config.store.path.exists(),
                create_if_missing: config.store.create_if_missing,
            },
            access_log: match config.logging.access_log.as_ref().map(|access_log| &access_log.output) {
                None => "off".to_owned(),
                Some(AccessLogOutput::StandardOutput) => "stdout".to_owned(),
                Some(AccessLogOutput::File(path)) => path.display().to_string(),
            },
            listeners: listeners.collect(),
            ops_address: config.ops.address.to_string(),
            admin: config.admin.as_ref().map(|admin| ListenerSummary {
                name: "admin".to_owned(),
                address: admin.address.to_string(),
                tls: admin.tls.is_some(),
            }),
            routes: routes.collect(),
            upstreams: upstreams.collect(),
        }
    }

    fn text(&self) -> String {
        let tls = |on: bool| if on { ", TLS" } else { "" };
        let listeners = self.listeners.iter().map(|listener| {
            ("listener", format!("{}: {}{}", listener.name, listener.address, tls(listener.tls)))
        });
        let routes = self.routes.iter().map(|route| {
            let hosts = if route.hosts.is_empty() { "any host".to_owned() } else { route.hosts.join(", ") };
            let access = match route.authentication {
                "off" => "open to everybody".to_owned(),
                _ => format!("project {}", route.project),
            };
            ("route", format!("{}: {hosts}, {} -> {} ({access})", route.name, route.path, route.upstream))
        });
        let upstreams = self.upstreams.iter().map(|upstream| {
            ("upstream", format!("{}: {}{}", upstream.name, upstream.endpoints.join(", "), tls(upstream.tls)))
        });
        let admin = match &self.admin {
            Some(admin) => format!("{}{}", admin.address, tls(admin.tls)),
            None => "off".to_owned(),
        };
        let control = [("ops", self.ops_address.clone()), ("admin", admin)];
        let rows = listeners.chain(control).chain(routes).chain(upstreams).chain([
            ("organization", self.organization_id.clone()),
            ("store", self.store.text()),
            ("access log", self.access_log.clone()),
        ]);
        format!("OK: {}\n{}", self.file.display(), fields(rows))
    }
}

impl StoreSummary {
    fn text(&self) -> String {
        let state = match (self.exists, self.create_if_missing) {
            (true, _) => "",
            (false, _) if !self.path.parent().is_none_or(Path::is_dir) => {
                " (missing, and so is its folder: make that first)"
            }
            (false, true) => " (missing; `postern run` or `postern init` makes it)",
            (false, false) => " (missing; `postern init` makes it)",
        };
        format!("{}{state}", self.path.display())
    }
}
