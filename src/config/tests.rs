//! Holds the reference file against the decoder's list of keys, and tests what needs the inside: the environment,
//! defaults, keys that need a restart.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use http::HeaderValue;
use toml::de::DeValue;

use super::change::needs_restart;
use super::decode::{Presence, Schema, Sensitivity, Table, Value};
use super::file::FileConfig;
use super::report::{Location, Report};
use super::resolve::Surroundings;
use super::{AccessLogOutput, Config, ConfigError, LoginConfig, UpstreamCredential};

const REFERENCE: &str = include_str!("../../config/postern.toml");
const QUICKSTART: &str = include_str!("../../config/quickstart.toml");

/// A folder with every file the reference refers to.
fn reference_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let made = rcgen::generate_simple_self_signed(["api.example.com".to_owned()]).unwrap();
    write("tls/api.crt", &made.cert.pem());
    write("tls/api.key", &made.signing_key.serialize_pem());
    write("tls/search-ca.pem", &made.cert.pem());
    let (authority, list) = authority_with_revocation_list();
    write("tls/clients-ca.pem", &authority);
    write("tls/clients-crl.pem", &list);
    write("tls/internal-ca.pem", &made.cert.pem());
    write("tls/postern.pem", &made.cert.pem());
    write("tls/postern-key.pem", &made.signing_key.serialize_pem());
    write("secrets/microsoft", "hush\n");
    write("secrets/github", "hush\n");
    write("secrets/search-password", "hush\n");
    folder
}

/// An authority's certificate, and its list without any entry.
fn authority_with_revocation_list() -> (String, String) {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyPair,
    };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    (authority.pem(), list.signed_by(&authority).unwrap().pem().unwrap())
}

fn parse(text: &str, folder: &Path, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    let environment = |name: &str| variables.get(name).map(OsString::from);
    Config::parse_in(text, &folder.join("postern.toml"), &Surroundings { environment: &environment })
}

#[test]
fn the_reference_loads_also_with_its_examples_switched_on() {
    let folder = reference_folder();
    let switched_on: String = REFERENCE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if example.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => example,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_ne!(switched_on, REFERENCE);
    for text in [REFERENCE, &switched_on] {
        let config = parse(text, folder.path(), &[("METRICS_TOKEN", "t0ken")]);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let files = [
            "tls/api.crt",
            "tls/api.key",
            "secrets/microsoft",
            "secrets/github",
            "tls/internal-ca.pem",
            "tls/clients-ca.pem",
            "tls/clients-crl.pem",
            "tls/search-ca.pem",
            "tls/postern.pem",
            "tls/postern-key.pem",
            "secrets/search-password",
        ];
        assert_eq!(config.referenced_files, files.map(|file| folder.path().join(file)));
        assert_credential(&config.upstreams[0].credential, "Basic cG9zdGVybjpodXNo");
        assert_credential(&config.upstreams[1].credential, "Bearer t0ken");
    }
}

#[track_caller]
fn assert_credential(credential: &UpstreamCredential, expected: &str) {
    let UpstreamCredential::Fixed(value) = credential else { panic!("no credential") };
    assert_eq!(value, HeaderValue::from_str(expected).unwrap());
    assert!(value.is_sensitive());
}

#[test]
fn the_quick_start_loads_and_has_the_documented_defaults() {
    let config = parse(QUICKSTART, Path::new("/nowhere"), &[]).unwrap();
    assert_eq!(config.routes[0].name, "*/");
    assert_eq!(config.timeouts.drain.as_secs(), 30);
    assert_eq!(config.limits.header_bytes, 65_536);
    assert!((1..=1024).contains(&config.workers));
    let access_log = config.logging.access_log.unwrap();
    assert_eq!(access_log.output, AccessLogOutput::StandardOutput);
}

#[test]
fn how_people_log_in_is_the_same_with_an_empty_table_and_without_one() {
    let with_table = parse(QUICKSTART, Path::new("/nowhere"), &[]).unwrap();
    assert_eq!(with_table.admin.as_ref().unwrap().login, LoginConfig::default());
    let text = QUICKSTART.replace("[admin]\naddress = \"127.0.0.1:8181\"\n", "");
    let without = parse(&text, Path::new("/nowhere"), &[]).unwrap();
    assert!(without.admin.is_none());
    assert_eq!(without.login(), LoginConfig::default());
}

#[test]
fn a_session_cannot_stay_unused_for_longer_than_it_lasts() {
    let table = "[admin.login]\nsession_idle_seconds = 7200\nsession_absolute_seconds = 3600\n";
    let error = parse(&format!("{QUICKSTART}\n{table}"), Path::new("/nowhere"), &[]).unwrap_err();
    let [problem] = &error.problems[..] else { panic!("{error}") };
    assert!(problem.reason.contains("3600 seconds") && problem.reason.contains("7200"), "{error}");
}

#[test]
fn the_reference_has_every_key_with_its_real_default() {
    let documented = documented_keys();
    let mut missing = Vec::new();
    for_each_key(&FileConfig::SCHEMA, &mut |schema, key, presence, nested| {
        if let Some(nested) = nested {
            let written = REFERENCE.lines().any(|line| line == nested.header);
            if !written {
                missing.push(format!("header {}", nested.header));
            }
            return;
        }
        let expected = match presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional => "default: none".to_owned(),
            Presence::Derived(text) | Presence::Default(text) => format!("default: {text}"),
        };
        let found = documented.get(&(schema.header.to_owned(), key.to_owned()));
        if found != Some(&expected) {
            missing.push(format!("{} {key}: `# {expected}`, found {found:?}", schema.header));
        }
    });
    assert!(missing.is_empty(), "config/postern.toml does not say:\n{}", missing.join("\n"));
}

/// Header and key → what its comment says about its default; the first time it is in the reference.
fn documented_keys() -> BTreeMap<(String, String), String> {
    let mut documented = BTreeMap::new();
    let mut header = String::new();
    let mut presence = None;
    for line in REFERENCE.lines() {
        let code = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with('[') {
            header = line.to_owned();
            presence = None;
        } else if let Some(text) = line.strip_prefix("# ") {
            if text == "required" || text.starts_with("default: ") {
                presence = Some(text.to_owned());
            }
        } else if let Some((key, _)) = code.split_once(" = ") {
            if let Some(presence) = presence.take() {
                documented.entry((header.clone(), key.to_owned())).or_insert(presence);
            }
        } else {
            presence = None;
        }
    }
    documented
}

type Visit<'v> = dyn FnMut(&'static Schema, &'static str, Presence, Option<&'static Schema>) + 'v;

fn for_each_key(schema: &'static Schema, visit: &mut Visit<'_>) {
    for key in schema.keys {
        visit(schema, key.name, key.presence, key.nested);
        if let Some(nested) = key.nested {
            for_each_key(nested, visit);
        }
    }
}

#[test]
fn what_holds_secrets_is_marked_as_secret() {
    let mut secrets = Vec::new();
    fn walk(schema: &'static Schema, secrets: &mut Vec<&'static str>) {
        for key in schema.keys {
            if key.sensitivity == Sensitivity::Secret {
                secrets.push(key.name);
            }
            if let Some(nested) = key.nested {
                walk(nested, secrets);
            }
        }
    }
    walk(&FileConfig::SCHEMA, &mut secrets);
    assert_eq!(secrets, ["client_secret", "password", "token"]);
}

#[test]
fn every_default_is_a_toml_value() {
    for_each_key(&FileConfig::SCHEMA, &mut |schema, key, presence, _| {
        if let Presence::Default(text) = presence {
            assert!(DeValue::parse(text).is_ok(), "{} {key} = {text}", schema.header);
        }
    });
    let empty = DeValue::parse("{}").unwrap();
    let mut report = Report::new("");
    super::file::LoggingTable::decode(empty.get_ref(), &Location::top(), &mut report).unwrap();
    assert!(report.is_empty());
}

#[track_caller]
fn check_secret(variables: &[(&str, &str)], reason: &str) {
    let upstream = "[[upstreams]]\nname = \"m\"\nendpoints = [\"m:1\"]\n";
    let credential = "[upstreams.credential]\nkind = \"bearer\"\ntoken = { env = \"T\" }\n";
    let text = QUICKSTART.replace("[[routes]]", &format!("{upstream}{credential}[[routes]]"));
    match parse(&text, Path::new("/nowhere"), variables) {
        Ok(_) => assert_eq!(reason, "", "no problem"),
        Err(error) => {
            let [problem] = &error.problems[..] else { panic!("{error}") };
            assert_eq!(problem.reason, reason);
            assert_eq!(problem.key, "upstreams[1].credential.token.env");
        }
    }
}

#[test]
fn secrets_from_the_environment_are_set_and_not_empty() {
    check_secret(&[("T", "secret")], "");
    check_secret(&[("T", "")], "the environment variable `T` is empty");
    check_secret(&[], "the environment variable `T` is not set");
}

#[track_caller]
fn check_restart(from: &str, to: &str, keys: &[&str]) {
    let folder = reference_folder();
    let variables = [("METRICS_TOKEN", "t0ken")];
    assert!(REFERENCE.contains(from));
    let old = parse(REFERENCE, folder.path(), &variables).unwrap();
    let new = parse(&REFERENCE.replace(from, to), folder.path(), &variables);
    let new = new.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(needs_restart(&old, &new), keys);
}

#[test]
fn what_needs_a_restart_is_named() {
    check_restart("#workers = 4", "workers = 999", &["workers"]);
    check_restart("core_dumps = false", "core_dumps = true", &["core_dumps"]);
    check_restart("path = \"postern.db\"", "path = \"other.db\"", &["store.path"]);
    check_restart(
        "address = \"127.0.0.1:8080\"",
        "address = \"127.0.0.1:8081\"",
        &["listeners.local.address"],
    );
    check_restart(
        "name = \"local\"",
        "name = \"inside\"",
        &["listeners.inside (added)", "listeners.local (removed)"],
    );
    check_restart("127.0.0.1:9464\"\n", "127.0.0.1:9465\"\n", &["ops.address"]);
    let tls = "[[listeners]]\nname = \"local\"\naddress = \"127.0.0.1:8080\"\n";
    let with_tls = format!(
        "{tls}[listeners.tls]\ncertificates = [{{ certificate_file = \"tls/api.crt\", key_file = \"tls/api.key\" }}]\n"
    );
    check_restart(tls, &with_tls, &["listeners.local.tls (switched on)"]);
}

#[test]
fn what_a_reload_can_change_needs_no_restart() {
    for (from, to) in [
        ("level = \"info\"", "level = \"debug\""),
        ("flush_interval_seconds = 10", "flush_interval_seconds = 20"),
        ("header_bytes = 65536", "header_bytes = 32768"),
        ("require_tls13 = true", "require_tls13 = false"),
        ("oauth_enabled = false", "oauth_enabled = true"),
    ] {
        check_restart(from, to, &[]);
    }
}
