//! A folder with a configuration, and the built binary run in it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A throw-away folder; commands run in it.
pub(crate) struct Folder(TempDir);

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Folder {
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a configuration and its store.
    pub(crate) fn initialized() -> Self {
        let folder = Self::empty();
        folder.write_config(&config(&[], ""));
        folder.done(&["init"]);
        folder
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.0.path().join("postern.toml"), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("POSTERN_CONFIG")
            .env("TMPDIR", self.0.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn postern(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What a command prints that does what it is asked.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.postern(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// The same, as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap()
    }

    /// The names of what is in the folder.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .files()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// A configuration with two routes of two projects; `store`: further keys of its store; `more`: further tables.
pub(crate) fn config(store: &[(&str, &str)], more: &str) -> String {
    let mut text = String::from("[store]\npath = \"store.sqlite\"\n");
    for (key, value) in store {
        writeln!(text, "{key} = {value}").unwrap();
    }
    text.push_str(
        r#"
[[listeners]]
name = "main"
address = "127.0.0.1:0"

[ops]
address = "127.0.0.1:0"

[organization]
id = "org-a"
name = "Org A"

[[upstreams]]
name = "service"
endpoints = ["127.0.0.1:9"]

[[routes]]
name = "metrics"
hosts = ["metrics.example.com"]
project = "metrics"
service = "prometheus"
upstream = "service"

[[routes]]
name = "search"
hosts = ["search.example.com"]
path_prefix = "/index"
project = "search"
service = "opensearch"
upstream = "service"

[[routes]]
name = "open"
hosts = ["search.example.com"]
path_prefix = "/public"
authentication = "off"
upstream = "service"

"#,
    );
    text.push_str(more);
    text
}

/// The names in an object, sorted.
#[track_caller]
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Sends a signal by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
