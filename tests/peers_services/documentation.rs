//! Configurations in the documentation are accepted by the programs that they are for.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use toml::{Table, Value};

use crate::support::certificates::Authority;
use crate::support::peers;

/// A fenced block of a page.
struct Block {
    page: String,
    language: String,
    text: String,
}

/// All of them that have a language.
fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = pages.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    pages.extend(["README.md", "SECURITY.md", "ARCHITECTURE.md"].map(|name| root.join(name)));
    pages.sort();
    let mut blocks = Vec::new();
    for page in pages {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&page).unwrap();
        let mut open: Option<Block> = None;
        for line in text.lines() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { page: name.clone(), language, text: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{name} has a block without an end");
    }
    blocks
}

/// The blocks in a language; fails if there is none on one of these pages.
#[track_caller]
fn blocks_in(language: &str, pages: &[&str]) -> Vec<Block> {
    let blocks: Vec<_> = blocks().into_iter().filter(|block| block.language == language).collect();
    for page in pages {
        assert!(blocks.iter().any(|block| block.page == *page), "{page} has no block of {language}");
    }
    blocks
}

/// The files that the examples name, in a folder of their own.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Authority::new().certificate(&["search.example.com"]);
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    write("search.crt", &certificate.pem);
    write("search.key", &certificate.key_pem);
    write("search.pem", &(certificate.pem + &certificate.key_pem));
    write("tokens.map", &format!("{} demo\n", "0".repeat(64)));
    folder
}

/// Puts what stands in a part of a configuration into a whole one: tables into the last of a list.
fn merge(whole: &mut Table, part: Table) {
    for (key, value) in part {
        match (whole.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(part)) => merge(inner, part),
            (Some(Value::Array(list)), Value::Table(part)) => {
                let last = list.last_mut().and_then(Value::as_table_mut).expect("a list of tables");
                merge(last, part);
            }
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, value) => drop(whole.insert(key, value)),
        }
    }
}

/// A block as a whole configuration.
fn whole(block: &Block) -> Table {
    let parse = |text: &str| text.parse::<Table>().unwrap_or_else(|error| panic!("{}: {error}", block.page));
    let part = parse(&block.text);
    if part.contains_key("store") {
        return part;
    }
    let mut whole = parse(include_str!("../../config/quickstart.toml"));
    merge(&mut whole, part);
    whole
}

fn check(folder: &Path, config: &str) -> Output {
    fs::write(folder.join("postern.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(["check", "--config", "postern.toml"]).current_dir(folder).output().unwrap()
}

#[test]
fn postern_accepts_every_configuration_in_the_documentation() {
    for block in blocks_in("toml", &["switching.md", "identity-token.md"]) {
        let folder = folder();
        let mut config = whole(&block);
        // As it is written, where it is a whole one.
        let is_whole = block.text.contains("[store]");
        let text = if is_whole { block.text.clone() } else { toml::to_string(&config).unwrap() };
        let output = check(folder.path(), &text);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}\n{text}", block.page);
        // And the check looks at what is checked here.
        config.insert("key_of_nobody".to_owned(), true.into());
        assert!(!check(folder.path(), &toml::to_string(&config).unwrap()).status.success(), "{}", block.page);
    }
}

#[test]
fn nginx_accepts_its_configuration_in_the_documentation() {
    let Some(nginx) = peers::program("nginx") else { return };
    for block in blocks_in("nginx", &["switching.md"]) {
        let folder = folder();
        // It looks names up as it starts, and writes where only a system's service may.
        let mut text = block.text;
        for (number, name) in ["search-1.internal", "search-2.internal"].iter().enumerate() {
            text = text.replace(name, &format!("127.0.0.{}", number + 1));
        }
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let places = places.map(|place| format!("{place}_temp_path {place};")).join(" ");
        let text = text.replacen("http {", &format!("http {{ access_log off; {places}"), 1);
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new(&nginx);
        command.arg("-t").arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr", "-g"]);
        peers::run(command.arg("pid nginx.pid;"));
    }
}

#[test]
fn haproxy_accepts_its_configuration_in_the_documentation() {
    let Some(haproxy) = peers::program("haproxy") else { return };
    for block in blocks_in("haproxy", &["switching.md"]) {
        let folder = folder();
        fs::write(folder.path().join("haproxy.cfg"), block.text).unwrap();
        peers::run(Command::new(&haproxy).args(["-c", "-f", "haproxy.cfg"]).current_dir(folder.path()));
    }
}
