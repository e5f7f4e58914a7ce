//! The management API keeps what its own OpenAPI document promises: schemathesis reads the document from the running
//! sidecar, makes requests of it, good ones and wrong ones, and compares each answer with what the document says.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::process::Command;

use postern::directory::operations;
use postern::token::TokenKind;
use serde_json::{Value, json};
use support::directory::now;
use support::management::{Api, ORGANIZATION};
use support::{Client, Sidecar, Upstream, peers};

/// What would end the token that the requests are made with, or keep it out: everything after it would only show that.
const SAWING: &[&str] = &[
    "post_me_logout",
    "post_me_expire_tokens",
    "put_me_password",
    "delete_me_authentication_methods_by_user_authentication_method_id",
    "delete_access_token_by_token_prefix",
    "patch_organization_by_organization_id_config_authentication",
];

struct Fuzz {
    sidecar: Sidecar,
    upstream: Upstream,
    command: Command,
    folder: tempfile::TempDir,
}

impl Fuzz {
    /// `None` where schemathesis is not installed and need not be.
    #[track_caller]
    fn prepare(phases: &str, examples: u32, excluded_checks: &str) -> Option<Self> {
        let program = peers::python_program("schemathesis")?;
        let upstream = Upstream::echo();
        let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
        let url = format!("http://{}", sidecar.admin.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(folder.path())
            .args(["run", &format!("{url}/v1/openapi.json"), "--url", &url])
            .args(["--phases", phases, "--max-examples", &examples.to_string()])
            // With two workers, Python 3.11's parser fails now and then.
            .args(["--seed", "20260801", "--workers", "1", "--no-shrink", "--continue-on-failure"])
            .args(["--request-timeout", "20", "--suppress-health-check", "all", "--warnings", "off"])
            .args(["--exclude-checks", excluded_checks])
            .env("NO_COLOR", "1")
            .env("COLUMNS", "160");
        Some(Self { sidecar, upstream, command, folder })
    }

    /// Runs it and prints its summary; fails with all that it found.
    #[track_caller]
    fn run(mut self) -> (Sidecar, Upstream) {
        let output = peers::run(&mut self.command);
        let summary = output.rsplit_once("SUMMARY").map_or(output.as_str(), |(_, summary)| summary);
        println!("{summary}");
        drop(self.folder);
        (self.sidecar, self.upstream)
    }
}

#[test]
fn with_a_token_every_answer_is_one_that_the_document_has() {
    // What a name or an id must be, and what there is, the document cannot say whole.
    let excluded = "positive_data_acceptance";
    let Some(mut fuzz) = Fuzz::prepare("examples,coverage,fuzzing", 12, excluded) else { return };
    // The last person who is super admin cannot be removed.
    let directory = &fuzz.sidecar.directory;
    let (person, method) = directory.person("jane@example.com");
    operations::set_super_admin(&*directory.store, &person, ORGANIZATION, true, now()).unwrap();
    let admin = directory.token_with(&person, TokenKind::Personal, |token| {
        token.authentication_method_id = Some(method.clone());
    });
    fuzz.sidecar.wait_for(&admin);
    fuzz.command.args(["--header", &format!("Authorization: aivenv1 {}", admin.token)]);
    for operation in SAWING {
        fuzz.command.args(["--exclude-operation-id", operation]);
    }
    let (sidecar, _upstream) = fuzz.run();
    // It still works. (Users were deleted on the way, and may have been any but this one.)
    assert_eq!(sidecar.managed_as(&admin).get("/v1/organizations").status, 200);
    let permitted = sidecar.directory.permitted();
    sidecar.wait_for(&permitted);
    assert_eq!(sidecar.request(sidecar.head_with(&permitted.token, "GET /", "")).status, 200);
}

#[test]
fn without_a_token_every_answer_is_one_that_the_document_has() {
    // Without a token what is wrong with a request does not matter.
    let excluded = "positive_data_acceptance,negative_data_rejection,missing_required_header";
    let Some(fuzz) = Fuzz::prepare("coverage", 1, excluded) else { return };
    fuzz.run();
}

#[test]
fn the_document_is_served_to_everybody_and_describes_what_is_there() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let answer = Client::connect(sidecar.admin.unwrap())
        .request("GET /v1/openapi.json HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    let api = Api::new(sidecar.admin.unwrap(), "none");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            let say = |field: &str| operation[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(say("summary") || say("description"), "{place} says what it does");
            assert!(!operation["tags"].as_array().unwrap().is_empty(), "{place} has a tag");
            let responses = operation["responses"].as_object().unwrap();
            let succeeds = |status: &String| status.starts_with(['2', '3']);
            assert!(responses.keys().any(succeeds), "{place} can succeed");
            let needs = operation["security"].as_array();
            if needs.is_none_or(|needs| needs.iter().all(|need| need == &json!({}))) {
                continue;
            }
            assert!(responses.contains_key("401"), "{place} needs a token");
            let concrete = path.replace(['{', '}'], "");
            let body = matches!(method.as_str(), "post" | "put" | "patch").then_some("{}");
            let refused = api.send(&method.to_uppercase(), &concrete, body);
            assert_eq!(refused.status, 401, "{place} without a token: {}", refused.text());
        }
    }
    let shapes = document["components"]["schemas"].as_object().unwrap();
    assert!(shapes.contains_key("ErrorBody"), "{:?}", shapes.keys().collect::<Vec<_>>());
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["token"]["scheme"], "bearer");
    assert!(matches!(&document["info"]["version"], Value::String(version) if !version.is_empty()));
}
