//! A store that goes back in time: put back to a backup, from which it goes on, or robbed of a part of its log of changes. What is in
//! memory stays; what could not be applied is never acknowledged; nothing is written to numbers that mean something else now.

use rusqlite::Connection;

use super::support::directory::Credential;
use super::support::management::ORGANIZATION;
use super::support::{Sidecar, Upstream, until};
use super::{is_refused, says, serves};

const ERRORS: &str = "postern_directory_errors_total";
const SEQUENCE: &str = "postern_directory_sequence";

/// Changes the store's file as nobody should, in one step.
fn meddle(sidecar: &Sidecar, sql: &str) {
    let store = Connection::open(sidecar.folder().join("store.db")).unwrap();
    store.execute_batch(&format!("BEGIN IMMEDIATE; {sql}; COMMIT")).unwrap();
}

fn token_number(sidecar: &Sidecar, credential: &Credential) -> i64 {
    let store = Connection::open(sidecar.folder().join("store.db")).unwrap();
    let sql = "SELECT number FROM tokens WHERE prefix = ?1";
    store.query_row(sql, [&credential.prefix], |row| row.get(0)).unwrap()
}

#[test]
fn a_store_that_was_put_back_and_goes_on_is_not_taken_for_the_one_that_was_followed() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let user = sidecar.directory.permitted();
    sidecar.wait_for(&user);
    let applied = sidecar.metric(SEQUENCE);
    meddle(
        &sidecar,
        "DELETE FROM changes WHERE sequence > (SELECT max(sequence) FROM changes) - 3;
         UPDATE sqlite_sequence SET seq = (SELECT max(sequence) FROM changes) WHERE name = 'changes'",
    );
    until("that to be noticed", || sidecar.metric(ERRORS) > 0.5);
    says(&sidecar, "was put back to an earlier state");
    says(&sidecar, "restart Postern");

    // A revocation gets a number that has been applied, as another change's. It is not in force, so it is not acknowledged.
    let tokens = format!("/v1/organization/{ORGANIZATION}/application-users/{}/access-tokens", user.user_id);
    is_refused(&api.delete(&format!("{tokens}/{}", user.prefix)));

    // It goes on beyond where it was left: by numbers alone, there is a little that is new.
    let number = token_number(&sidecar, &sidecar.permitted);
    meddle(
        &sidecar,
        &format!(
            "UPDATE tokens SET revoked_time = create_time WHERE number = {number};
             INSERT INTO changes (entity, entity_id, change_time)
             VALUES ('token', '{number}', 1), ('domain', 'a', 1), ('domain', 'b', 1), ('domain', 'c', 1)"
        ),
    );
    let before = sidecar.metric(ERRORS);
    until("more looks at it", || sidecar.metric(ERRORS) > before + 5.0);
    assert!((sidecar.metric(SEQUENCE) - applied).abs() < 0.5, "none of it is applied");
    until("the age to grow", || sidecar.metric("postern_directory_age_seconds") > 1.0);
    serves(&sidecar, 5);
    assert!(!sidecar.output().contains("the store works again"));

    // The number of a token in memory may be another token's there.
    let usage = || sidecar.directory.stored(&sidecar.permitted.prefix).usage;
    let before = usage();
    sidecar.stop();
    says(&sidecar, "could not be written and are lost");
    assert_eq!(usage(), before);
}

#[test]
fn a_log_of_changes_that_lacks_entries_is_said() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.wait_for(&sidecar.directory.permitted());
    let number = token_number(&sidecar, &sidecar.permitted);
    // Two changes, and the first of them removed before anybody has seen it.
    meddle(
        &sidecar,
        &format!(
            "UPDATE tokens SET revoked_time = create_time WHERE number = {number};
             INSERT INTO changes (entity, entity_id, change_time) VALUES ('token', '{number}', 1), ('domain', 'a', 1);
             DELETE FROM changes WHERE change_time = 1 AND entity = 'token'"
        ),
    );
    until("that to be noticed", || sidecar.metric(ERRORS) > 0.5);
    says(&sidecar, "lacks entries");
    until("the age to grow", || sidecar.metric("postern_directory_age_seconds") > 1.0);
    serves(&sidecar, 5);
}

#[test]
fn a_log_whose_old_entries_were_removed_is_followed_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.wait_for(&sidecar.directory.permitted());
    meddle(&sidecar, "DELETE FROM changes");
    let new = sidecar.directory.permitted();
    sidecar.wait_for(&new);
    sidecar.directory.revoke(&new.prefix);
    let head = sidecar.head_with(&new.token, "GET /", "");
    until("the revocation to be in force", || sidecar.answers(&head, 401));
    assert!(sidecar.metric(ERRORS) < 0.5);
}
