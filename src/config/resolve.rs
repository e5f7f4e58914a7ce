//! From what the file says to what the program runs on: checked, resolved once, all problems in one report.
//!
//! One file a table is in `resolve/`. Nothing is opened or bound here but files the configuration refers to, which
//! are read to be checked.

mod admin;
mod identity_token;
mod listeners;
mod organization;
mod peers;
mod routes;
mod settings;
mod sign_in;
mod text;
mod tracing;
mod upstreams;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::Config;
use super::decode::decode_entries;
use super::error::{ConfigError, Problem};
use super::file::FileConfig;
use super::input;
use super::report::{Located, Location, Report};
use super::source::Source;
use super::syntax;

/// What surrounds the process and is not in the file. Tests bring their own.
pub(crate) struct Surroundings<'a> {
    /// The value of an environment variable.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<OsString>,
}

/// One file on its way from shape to [`Config`].
pub(crate) struct Resolution<'r, 'a> {
    pub(crate) report: &'r mut Report<'a>,
    pub(crate) surroundings: &'r Surroundings<'r>,
    /// What relative paths start from.
    folder: PathBuf,
    /// Every file referred to so far.
    referenced_files: Vec<PathBuf>,
}

impl Config {
    /// Reads and checks the configuration file at `path`, and every file it refers to.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with place, reason and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let content = input::read(path).map_err(|error| {
            let reason = format!("cannot read the configuration file: {}", input::why(&error));
            whole_file(path, reason, input::what_to_do(&error))
        })?;
        match String::from_utf8(content) {
            Ok(text) => Self::parse(&text, path),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
                let line = Source::new(&before).line(before.len());
                let reason = format!("line {line} of the configuration file is not UTF-8 text");
                Err(whole_file(path, reason, "save the file in UTF-8"))
            }
        }
    }

    /// Checks a configuration's text, as if it stood in the file `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with place, reason and remedy.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::parse_in(text, path, &Surroundings { environment: &|name| std::env::var_os(name) })
    }

    pub(crate) fn parse_in(
        text: &str,
        path: &Path,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, ConfigError> {
        let mut report = Report::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What was meant behind a slip of syntax is a guess: problems of a guess would only distract.
            syntax::note(&errors, text, &mut report);
            let problems = report.finish();
            return Err(ConfigError { file: path.to_owned(), problems, referenced_files: Vec::new() });
        }
        let file = decode_entries(table.get_ref(), &Location::top(), &mut report);
        let mut resolution = Resolution {
            report: &mut report,
            surroundings,
            folder: folder_of(path),
            referenced_files: Vec::new(),
        };
        let config = resolve(&file, path, &mut resolution);
        let referenced_files = resolution.referenced_files;
        match config {
            Some(config) if report.is_empty() => Ok(Self { referenced_files, ..config }),
            _ => Err(ConfigError { file: path.to_owned(), problems: report.finish(), referenced_files }),
        }
    }
}

/// The configuration, or `None` with the problems noted. Every table is looked at, whatever is wrong with others.
fn resolve(file: &FileConfig, path: &Path, resolution: &mut Resolution<'_, '_>) -> Option<Config> {
    let store = file.store.as_ref().map(|table| settings::store(&table.value, resolution));
    let ops = file.ops.as_ref().map(|table| settings::ops(&table.value, resolution));
    let admin = file.admin.as_ref().map(|table| admin::resolve(&table.value, resolution));
    let listeners = listeners::resolve(file, resolution);
    let organization =
        file.organization.as_ref().map(|table| organization::resolve(&table.value, resolution));
    let identity_token = identity_token::resolve(file, resolution);
    let upstreams = upstreams::resolve(file, &identity_token, resolution);
    let routes = routes::resolve(file, resolution);
    let limits = file.limits.as_ref().map(|table| settings::limits(&table.value, resolution));
    let tracing = file.tracing.as_ref().map(|table| tracing::resolve(&table.value, resolution));
    let logging = file.logging.as_ref().map(|table| settings::logging(&table.value, resolution));
    Some(Config {
        file: path.to_owned(),
        workers: settings::workers(file),
        core_dumps: settings::value(&file.core_dumps)?,
        store: store??,
        listeners: listeners?,
        ops: ops??,
        admin: match admin {
            Some(admin) => Some(admin?),
            None => None,
        },
        organization: organization??,
        upstreams: upstreams?,
        routes: routes?,
        authentication_throttle: match &file.authentication_throttle {
            Some(table) => Some(settings::authentication_throttle(&table.value)?),
            None => None,
        },
        usage: settings::usage(&file.usage.as_ref()?.value)?,
        events: settings::events(&file.events.as_ref()?.value)?,
        tokens: settings::tokens(&file.tokens.as_ref()?.value)?,
        identity_key_rotation: identity_token?.map(|issued| issued.rotation),
        limits: limits??,
        timeouts: settings::timeouts(&file.timeouts.as_ref()?.value)?,
        logging: logging??,
        tracing: match tracing {
            Some(tracing) => Some(tracing?),
            None => None,
        },
        referenced_files: Vec::new(),
    })
}

impl Resolution<'_, '_> {
    /// The path of a file whose content the configuration depends on; `None` with the problem noted if it is empty.
    pub(crate) fn referenced_file(&mut self, path: &Located<String>) -> Option<PathBuf> {
        let file = self.path(path)?;
        if !self.referenced_files.contains(&file) {
            self.referenced_files.push(file.clone());
        }
        Some(file)
    }

    /// A path, relative ones from the configuration file's folder; `None` with the problem noted if it is empty.
    pub(crate) fn path(&mut self, path: &Located<String>) -> Option<PathBuf> {
        if path.value.is_empty() || path.value.contains('\0') {
            self.report.value_problem(&path.at, "this is no path", "name a file");
            return None;
        }
        Some(self.folder.join(&path.value))
    }
}

/// Absolute where possible, so that it stays right when the process changes its folder.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    let absolute = std::path::absolute(path).ok();
    absolute.as_deref().and_then(Path::parent).unwrap_or(folder).to_owned()
}

/// All of a list, or `None` if one of its elements has a problem; every element has been looked at by then.
fn all<T>(resolved: Vec<Option<T>>) -> Option<Vec<T>> {
    resolved.into_iter().collect()
}

fn whole_file(path: &Path, reason: String, remedy: &str) -> ConfigError {
    let problem =
        Problem { excerpt: None, key: String::new(), value: None, reason, remedy: remedy.to_owned() };
    ConfigError { file: path.to_owned(), problems: vec![problem], referenced_files: Vec::new() }
}
