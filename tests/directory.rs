//! The view against the store: what a change does to decisions, that every process sees it, and, under random
//! operations, that following the log of changes leads to the same view as loading it afresh; also over links that fail.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "directory/link.rs"]
mod link;
#[path = "directory/partitions.rs"]
mod partitions;
#[path = "directory/world.rs"]
mod world;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use postern::config::StoreConfig;
use postern::directory::model::{MethodKind, Principal, Resource, Timestamp, Token};
use postern::directory::operations::{
    self as op, ImportedToken, NewApplicationUser, NewOrganizationUser, NewToken, Placement, PolicyUpdate,
    Revocation, TokenUpdate,
};
use postern::directory::sqlite::SqliteStore;
use postern::directory::store::UsageUpdate;
use postern::directory::{DirectoryView, OperationError, Store, Synchronizer};
use postern::policy::facts::UserState;
use postern::policy::{AuthenticationPolicy, Denial, Facts, Permission, RequestFacts, decide};
use postern::token::usage::RequestCounts;
use postern::token::{TokenDigest, TokenKind};
use tempfile::TempDir;
use world::World;

const NOW: Timestamp = Timestamp(1_800_000_000);
const ORGANIZATION: &str = "org1a2b3c4d5e6f";
const OTHER_ORGANIZATION: &str = "org6f5e4d3c2b1a";
const PROJECTS: [&str; 3] = ["alpha", "beta", "gamma"];
const CLIENT: &str = "192.0.2.7";

/// A store with its follower, and a second connection to it as another process has.
struct Fixture {
    folder: TempDir,
    store: Arc<dyn Store>,
    elsewhere: SqliteStore,
    synchronizer: Synchronizer,
    view: Arc<DirectoryView>,
}

impl Fixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig {
            path: folder.path().join("directory.sqlite"),
            create_if_missing: true,
            stale_after: None,
        };
        let store = postern::directory::open(&config).unwrap();
        op::ensure_organization(&*store, ORGANIZATION, "Example", NOW).unwrap();
        op::ensure_organization(&*store, OTHER_ORGANIZATION, "Other", NOW).unwrap();
        for project in PROJECTS {
            op::ensure_project(&*store, project, ORGANIZATION, NOW).unwrap();
        }
        let (synchronizer, view) = Synchronizer::start(Arc::clone(&store), Default::default()).unwrap();
        let elsewhere = SqliteStore::open(&config).unwrap();
        Self { folder, store, elsewhere, synchronizer, view }
    }

    /// An application user that may write to the data of one project, with a token.
    fn user_with_token(&self, project: &str) -> (String, Token) {
        let user = op::create_application_user(&self.elsewhere, &application_user(), NOW).unwrap().value.user;
        op::grant(
            &self.elsewhere,
            &Principal::User(user.id.clone()),
            &in_project(project),
            &names(&["developer"]),
            NOW,
        )
        .unwrap();
        let token = op::create_token(&self.elsewhere, &application_token(&user.id), NOW).unwrap().value.token;
        self.synchronizer.apply_pending().unwrap();
        (user.id, token)
    }

    #[track_caller]
    fn expect(&self, token: &Token, project: &str, expected: Result<(), Denial>) {
        self.synchronizer.apply_pending().unwrap();
        assert_eq!(outcome(&self.view, &token.digest, project, NOW.0 + 10), expected);
    }
}

/// What the decision is for a token on a project, at a time.
fn outcome(view: &DirectoryView, digest: &TokenDigest, project: &str, now: u32) -> Result<(), Denial> {
    let entry = view.tokens.find(digest).ok_or(Denial::UnknownToken)?;
    let user = view.users.current(entry.user());
    let state = entry.state();
    let project = view.project(project).current.load_full();
    let organization = project
        .as_ref()
        .map(|project| (project.organization.index, project.organization.current.load_full()));
    let facts = Facts {
        request: RequestFacts {
            now,
            client_address: CLIENT.parse().unwrap(),
            required: Permission::ServiceDataWrite,
            resource_chain: project.as_ref().map_or(&[], |project| &project.resource_chain),
        },
        token: state.facts(),
        user: user.facts(),
        organization: organization.as_ref().map(|(index, entry)| entry.facts(*index)),
    };
    decide(&facts).map(drop)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn in_project(name: &str) -> Resource {
    Resource::Project(name.to_owned())
}

fn application_user() -> NewApplicationUser {
    NewApplicationUser {
        organization_id: ORGANIZATION.to_owned(),
        name: "reports".to_owned(),
        description: String::new(),
        is_super_admin: false,
    }
}

fn application_token(user_id: &str) -> NewToken {
    NewToken {
        user_id: user_id.to_owned(),
        kind: TokenKind::Application,
        description: String::new(),
        created_manually: true,
        max_age_seconds: None,
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: None,
    }
}

fn personal_token(user_id: &str, method_id: &str) -> NewToken {
    NewToken {
        kind: TokenKind::Personal,
        authentication_method_id: Some(method_id.to_owned()),
        ..application_token(user_id)
    }
}

fn person(email: &str) -> NewOrganizationUser {
    NewOrganizationUser {
        email: email.to_owned(),
        real_name: "Jane Doe".to_owned(),
        managing_organization_id: None,
    }
}

#[test]
fn a_change_by_another_process_is_seen_at_the_next_look() {
    let fixture = Fixture::new();
    let (user, token) = fixture.user_with_token("alpha");
    fixture.expect(&token, "alpha", Ok(()));
    fixture.expect(&token, "beta", Err(Denial::PermissionDenied));
    fixture.expect(&token, "nowhere", Err(Denial::NotAMember));

    op::set_user_state(&fixture.elsewhere, &user, UserState::Deactivated, NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::UserDeactivated));
    op::set_user_state(&fixture.elsewhere, &user, UserState::Active, NOW).unwrap();
    fixture.expect(&token, "alpha", Ok(()));

    let ranges: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
    let update = PolicyUpdate { allowed_ip_ranges: Some(ranges), ..PolicyUpdate::default() };
    op::set_policy(&fixture.elsewhere, ORGANIZATION, &update, NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::IpNotAllowedByOrganization));
    fixture.synchronizer.pin_policy(ORGANIZATION, Some(AuthenticationPolicy::default()));
    fixture.expect(&token, "alpha", Ok(()));
    fixture.synchronizer.pin_policy(ORGANIZATION, None);
    fixture.expect(&token, "alpha", Err(Denial::IpNotAllowedByOrganization));
    let update = PolicyUpdate { allowed_ip_ranges: Some(Vec::new()), ..PolicyUpdate::default() };
    op::set_policy(&fixture.elsewhere, ORGANIZATION, &update, NOW).unwrap();

    let update = TokenUpdate { ip_allowlist: Some(names(&["198.51.100.0/24"])), ..TokenUpdate::default() };
    op::update_token(&fixture.elsewhere, &token.token_prefix, &update, NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::IpNotAllowedByToken));

    op::delete_user(&fixture.elsewhere, &user, NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::UserDeleted));
    assert_eq!(fixture.view.status.errors_total(), 0);
}

#[test]
fn an_own_change_is_in_the_view_before_it_is_acknowledged() {
    let fixture = Fixture::new();
    let (_, token) = fixture.user_with_token("alpha");
    let revoked = op::revoke_token(&*fixture.store, &token.token_prefix, NOW).unwrap();
    assert!(matches!(revoked.value, Revocation::Revoked(_)));
    fixture.synchronizer.apply_through(revoked.sequence).unwrap();
    assert_eq!(outcome(&fixture.view, &token.digest, "alpha", NOW.0), Err(Denial::TokenRevoked));
    assert!(fixture.synchronizer.sequence() >= revoked.sequence);
    let again = op::revoke_token(&*fixture.store, &token.token_prefix, NOW).unwrap();
    assert!(matches!(again.value, Revocation::AlreadyRevoked(_)));
}

#[test]
fn a_revoked_token_never_comes_back() {
    let fixture = Fixture::new();
    let (_, token) = fixture.user_with_token("alpha");
    let held = fixture.view.tokens.find(&token.digest).unwrap();
    op::revoke_token(&*fixture.store, &token.token_prefix, NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::TokenRevoked));
    assert!(held.state().facts().revoked, "who holds the entry sees it too");
    // A store that was put back to an earlier state says otherwise.
    let path = fixture.folder.path().join("directory.sqlite");
    let raw = rusqlite::Connection::open(path).unwrap();
    raw.execute_batch(
        "UPDATE tokens SET revoked_time = NULL, ip_allowlist = '[\"0.0.0.0/0\"]';
         INSERT INTO changes SELECT NULL, 'token', number, 0 FROM tokens",
    )
    .unwrap();
    fixture.expect(&token, "alpha", Err(Denial::TokenRevoked));
}

#[test]
fn a_store_that_is_replaced_put_back_or_gone_is_said_and_memory_goes_on() {
    let fixture = Fixture::new();
    let (_, token) = fixture.user_with_token("alpha");
    let says = |text: &str| {
        let error = fixture.synchronizer.apply_pending().unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
        assert_eq!(outcome(&fixture.view, &token.digest, "alpha", NOW.0), Ok(()));
    };
    let path = fixture.folder.path().join("directory.sqlite");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("DELETE FROM tokens; UPDATE sqlite_sequence SET seq = 1 WHERE name = 'changes'")
        .unwrap();
    says("put back to an earlier state");
    let away = fixture.folder.path().join("away.sqlite");
    std::fs::rename(&path, &away).unwrap();
    says("does not exist");
    std::fs::copy(&away, &path).unwrap();
    says("was replaced by another file");
    assert_eq!(fixture.view.status.errors_total(), 3);
}

#[test]
fn units_groups_and_roles_reach_down_to_the_project() {
    let fixture = Fixture::new();
    let store = &fixture.elsewhere;
    let (user, token) = fixture.user_with_token("alpha");
    let outer =
        op::create_unit(store, ORGANIZATION, "outer", &Placement::Organization, NOW).unwrap().value.id;
    let inner =
        op::create_unit(store, ORGANIZATION, "inner", &Placement::Organization, NOW).unwrap().value.id;
    let group = op::create_group(store, ORGANIZATION, "writers", "", NOW).unwrap().value.id;
    op::add_group_members(store, &group, &names(&[&user]), NOW).unwrap();
    let principal = Principal::UserGroup(group.clone());
    op::grant(store, &principal, &Resource::OrganizationUnit(outer.clone()), &names(&["admin"]), NOW)
        .unwrap();
    op::move_project(store, "beta", &Placement::Unit(inner.clone()), NOW).unwrap();
    fixture.expect(&token, "beta", Err(Denial::PermissionDenied));
    op::move_unit(store, &inner, &Placement::Unit(outer.clone()), NOW).unwrap();
    fixture.expect(&token, "beta", Ok(()));
    assert!(op::move_unit(store, &outer, &Placement::Unit(inner), NOW).is_err(), "into itself");
    op::remove_group_members(store, &group, &names(&[&user]), NOW).unwrap();
    fixture.expect(&token, "beta", Err(Denial::PermissionDenied));
    op::add_group_members(store, &group, &names(&[&user]), NOW).unwrap();
    fixture.expect(&token, "beta", Ok(()));
    op::delete_group(store, &group, NOW).unwrap();
    fixture.expect(&token, "beta", Err(Denial::PermissionDenied));
    op::delete_project(store, "alpha", NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::NotAMember));
    op::ensure_project(store, "alpha", ORGANIZATION, NOW).unwrap();
    fixture.expect(&token, "alpha", Err(Denial::PermissionDenied));
}

#[test]
fn what_happens_to_a_login_method_happens_to_its_tokens() {
    let fixture = Fixture::new();
    let store = &fixture.elsewhere;
    let user = op::create_organization_user(store, &person("jane@example.com"), NOW).unwrap().value.id;
    op::add_member(store, &user, ORGANIZATION, NOW).unwrap();
    op::set_super_admin(store, &user, ORGANIZATION, true, NOW).unwrap();
    let method = |kind| op::add_authentication_method(store, &user, kind, None, NOW).unwrap().value.id;
    let (password, google) = (method(MethodKind::Password), method(MethodKind::Google));
    let token =
        |method: &str| op::create_token(store, &personal_token(&user, method), NOW).unwrap().value.token;
    let (by_password, by_google) = (token(&password), token(&google));
    fixture.expect(&by_password, "alpha", Ok(()));
    fixture.expect(&by_google, "alpha", Ok(()));
    op::set_two_factor(store, &user, true, NOW).unwrap();
    fixture.expect(&by_password, "alpha", Err(Denial::TokenRevoked));
    fixture.expect(&by_google, "alpha", Ok(()));
    assert_eq!(op::delete_authentication_method(store, &google, NOW).unwrap().value, 1);
    fixture.expect(&by_google, "alpha", Err(Denial::TokenRevoked));
    let last = token(&password);
    op::expire_tokens(store, &user, NOW).unwrap();
    fixture.expect(&last, "alpha", Err(Denial::TokenRevoked));
    let fresh = token(&password);
    fixture.expect(&fresh, "alpha", Ok(()));
    // The last super admin stays; with another one, she may go.
    assert!(matches!(op::remove_member(store, &user, ORGANIZATION, NOW), Err(OperationError::Conflict(_))));
    fixture.expect(&fresh, "alpha", Ok(()));
    let other = op::create_organization_user(store, &person("john@example.com"), NOW).unwrap().value.id;
    op::add_member(store, &other, ORGANIZATION, NOW).unwrap();
    op::set_super_admin(store, &other, ORGANIZATION, true, NOW).unwrap();
    op::remove_member(store, &user, ORGANIZATION, NOW).unwrap();
    fixture.expect(&fresh, "alpha", Err(Denial::NotAMember));
}

#[test]
fn records_that_cannot_be_read_are_closed_and_counted() {
    let fixture = Fixture::new();
    let (_, token) = fixture.user_with_token("alpha");
    let (_, other) = fixture.user_with_token("alpha");
    let raw = rusqlite::Connection::open(fixture.folder.path().join("directory.sqlite")).unwrap();
    let spoil = |sql: &str| {
        raw.execute_batch(sql).unwrap();
        raw.execute_batch(
            "INSERT INTO changes SELECT NULL, 'token', min(number), 0 FROM tokens;
             INSERT INTO changes SELECT NULL, 'organization', id, 0 FROM organizations;
             INSERT INTO changes SELECT NULL, 'user', id, 0 FROM users",
        )
        .unwrap();
    };
    spoil(
        "UPDATE tokens SET ip_allowlist = '[\"everything\"]' WHERE number = (SELECT min(number) FROM tokens)",
    );
    fixture.expect(&token, "alpha", Err(Denial::IpNotAllowedByToken));
    fixture.expect(&other, "alpha", Ok(()));
    spoil("UPDATE tokens SET ip_allowlist = NULL, scopes = '[\"service:data:write\", \"service:data:fly\"]'");
    fixture.expect(&token, "alpha", Ok(()));
    spoil("UPDATE tokens SET scopes = '\"any\"'");
    fixture.expect(&token, "alpha", Err(Denial::InsufficientScope));
    spoil("UPDATE tokens SET scopes = NULL; UPDATE grants SET permissions = '[\"ruler\"]'");
    fixture.expect(&other, "alpha", Err(Denial::PermissionDenied));
    spoil("UPDATE users SET state = 'sleeping'");
    fixture.expect(&other, "alpha", Err(Denial::UserDeactivated));
    spoil("UPDATE users SET state = 'active'; UPDATE organizations SET authentication_policy = '{}'");
    fixture.expect(&other, "alpha", Err(Denial::IpNotAllowedByOrganization));
    assert!(fixture.view.status.errors_total() >= 4);
}

#[test]
fn an_imported_token_has_its_prefix_in_memory() {
    let fixture = Fixture::new();
    let (user, own) = fixture.user_with_token("alpha");
    let imported =
        ImportedToken { prefix: "AVNx/+=4".to_owned(), digest: TokenDigest::of(b"a token from elsewhere") };
    let import = || op::import_token(&*fixture.store, &application_token(&user), &imported, NOW);
    let token = import().unwrap().value;
    fixture.expect(&token, "alpha", Ok(()));
    let entry = fixture.synchronizer.token_by_prefix("AVNx/+=4").unwrap().unwrap();
    assert_eq!(entry.state().imported_prefix(), Some("AVNx/+=4"));
    assert_eq!(fixture.view.tokens.find(&own.digest).unwrap().state().imported_prefix(), None);
    assert!(matches!(import(), Err(OperationError::AlreadyExists { entity: "token", .. })));
    assert_eq!(fixture.view.tokens.unrevoked(TokenKind::Application), 2);
}

#[test]
fn operations_refuse_what_is_not_allowed() {
    let fixture = Fixture::new();
    let (user, _) = fixture.user_with_token("alpha");
    let base = application_token(&user);
    let cases: [(NewToken, &str); 9] = [
        (NewToken { description: "x".repeat(1_001), ..base.clone() }, "description: has 1001 characters"),
        (NewToken { max_age_seconds: Some(599), ..base.clone() }, "max_age_seconds: is 599"),
        (NewToken { max_age_seconds: Some(315_360_001), ..base.clone() }, "max_age_seconds"),
        (NewToken { ip_allowlist: names(&["10.0.0.0/33"]), ..base.clone() }, "ip_allowlist"),
        (NewToken { scopes: names(&["service:data:fly"]), ..base.clone() }, "scopes"),
        (NewToken { kind: TokenKind::Personal, ..base.clone() }, "kind"),
        (NewToken { user_id: "u0".to_owned(), ..base.clone() }, "user \"u0\" does not exist"),
        (
            NewToken { authentication_method_id: Some("uam1".to_owned()), ..base.clone() },
            "authentication_method_id",
        ),
        (NewToken { kind: TokenKind::Session, ..base }, "kind"),
    ];
    let before = fixture.store.read(|records| records.sequence()).unwrap();
    for (new, says) in cases {
        let error = op::create_token(&*fixture.store, &new, NOW).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    assert_eq!(fixture.store.read(|records| records.sequence()).unwrap(), before);
}

#[test]
fn two_writers_of_usage_merge_by_the_later_use() {
    let fixture = Fixture::new();
    let (_, token) = fixture.user_with_token("alpha");
    let stored = || fixture.store.read(|records| records.token(&token.token_prefix)).unwrap().unwrap();
    let update = |seconds: u32, address: &str| UsageUpdate {
        token_number: stored().token.number,
        last_used_at: NOW.0 + seconds,
        address: Some(address.parse::<IpAddr>().unwrap()),
        user_agent: None,
        requests: seconds,
    };
    fixture.store.record_usage(&[update(5, "192.0.2.5")]).unwrap();
    fixture.elsewhere.record_usage(&[update(9, "2001:db8::9")]).unwrap();
    fixture.store.record_usage(&[update(7, "192.0.2.7")]).unwrap();
    let usage = stored().usage.unwrap();
    assert_eq!(usage.last_used_time, Timestamp(NOW.0 + 9));
    assert_eq!(usage.last_ip, Some("2001:db8::9".parse().unwrap()));
    assert_eq!(usage.request_count, 5 + 9 + 7);
}

#[test]
fn usage_goes_from_the_worker_to_the_store_and_survives_its_absence() {
    let fixture = Fixture::new();
    let (_, token) = fixture.user_with_token("alpha");
    let entry = fixture.view.tokens.find(&token.digest).unwrap();
    let client: IpAddr = CLIENT.parse().unwrap();
    let counts = RequestCounts::default();
    for second in [1, 1, 2, 2, 3] {
        fixture.view.usage.touch(entry, NOW.0 + second, client, Some(b"curl/8.0\n\xff"));
        counts.count(entry, &fixture.view.usage);
    }
    counts.fold(&fixture.view.tokens, &fixture.view.usage);
    assert_eq!(fixture.view.usage.pending(), 1);
    let raw = rusqlite::Connection::open(fixture.folder.path().join("directory.sqlite")).unwrap();
    raw.execute_batch("ALTER TABLE token_usage RENAME TO away").unwrap();
    assert!(fixture.view.usage.flush(&fixture.view.tokens, &*fixture.store).is_err());
    assert_eq!(fixture.view.usage.pending(), 1);
    raw.execute_batch("ALTER TABLE away RENAME TO token_usage").unwrap();
    assert_eq!(fixture.view.usage.flush(&fixture.view.tokens, &*fixture.store).unwrap().tokens, 1);
    assert_eq!((fixture.view.usage.pending(), fixture.view.usage.flushed_total()), (0, 1));
    let usage =
        fixture.store.read(|records| records.token(&token.token_prefix)).unwrap().unwrap().usage.unwrap();
    assert_eq!(usage.last_used_time, Timestamp(NOW.0 + 3));
    assert_eq!(usage.last_ip, Some(client));
    assert_eq!(usage.last_user_agent.as_deref(), Some("curl/8.0??"));
    assert_eq!(usage.request_count, 5);
    let (_, afresh) = Synchronizer::start(Arc::clone(&fixture.store), Default::default()).unwrap();
    assert_eq!(afresh.tokens.find(&token.digest).unwrap().last_used_at(), Some(NOW.0 + 3));
}

/// Random operations, most of which make sense; after each batch the view that followed them is compared with one
/// loaded afresh.
#[test]
fn following_the_log_of_changes_and_loading_afresh_lead_to_the_same_view() {
    for seed in 1..=6 {
        let fixture = Fixture::new();
        let mut world = World::new(seed);
        for batch in 0..25 {
            for _ in 0..8 {
                world.step(&fixture.elsewhere);
            }
            fixture.synchronizer.apply_pending().unwrap();
            let (_, afresh) = Synchronizer::start(Arc::clone(&fixture.store), Default::default()).unwrap();
            assert_eq!(world.seen(&fixture.view), world.seen(&afresh), "seed {seed}, batch {batch}");
        }
        assert!(world.tokens.len() > 10, "the steps make sense too rarely");
        assert_eq!(fixture.view.status.errors_total(), 0);
    }
}
