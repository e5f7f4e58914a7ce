//! What a preview lists and what enforcement then refuses and lets in are the same, on random directories: each token is
//! really decided, before the change and after it, on facts gathered as for a request.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use postern::config::StoreConfig;
use postern::directory::gather::{Gathered, Question};
use postern::directory::model::{IdentityProviderKind, MethodKind, Principal, Resource, Timestamp, new_id};
use postern::directory::operations::{
    self as op, IdentityProviderUpdate, NewApplicationUser, NewIdentityProvider, NewOrganizationUser,
    NewToken, PolicyUpdate,
};
use postern::directory::preview::{AffectedToken, Preview, PreviewPage, PreviewQuestion, preview};
use postern::directory::store::UsageUpdate;
use postern::directory::view::{OrganizationCell, ProjectEntry};
use postern::directory::{DirectoryView, Store, Synchronizer};
use postern::policy::facts::UserState;
use postern::policy::{AuthenticationPolicy, Denial, Permission, decide};
use postern::token::{TokenDigest, TokenKind};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_800_000_000);
const HERE: &str = "org1a2b3c4d5e6f";
const ELSEWHERE: &str = "org6f5e4d3c2b1a";
const PROJECT: &str = "alpha";
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.1.2.3", "192.0.2.7", "2001:db8::1"];
/// Is in every range that is ever allowed: requests from here pass the checks of addresses.
const ALWAYS_ALLOWED: &str = "10.0.0.1";
const REQUIRED: Permission = Permission::ServiceDataWrite;

/// A small generator, so that every run of a seed is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    fn policy(&mut self) -> PolicyUpdate {
        let ranges = match self.below(3) {
            0 => vec![],
            1 => vec!["10.0.0.0/8"],
            _ => vec!["10.0.0.1/32", "2001:db8::/32"],
        };
        PolicyUpdate {
            password_auth_enabled: Some(self.one_in(2)),
            two_factor_required: Some(self.one_in(2)),
            oauth_enabled: Some(self.one_in(2)),
            saml_enabled: Some(!self.one_in(3)),
            saml_allow_external: Some(self.one_in(2)),
            personal_tokens_enabled: Some(!self.one_in(3)),
            personal_tokens_require_allowed_auth_method: Some(self.one_in(2)),
            mcp_enabled: Some(self.one_in(2)),
            allowed_ip_ranges: Some(ranges.into_iter().map(|range| range.parse().unwrap()).collect()),
        }
    }
}

struct World {
    _folder: TempDir,
    store: Arc<dyn Store>,
    synchronizer: Synchronizer,
    view: Arc<DirectoryView>,
    tokens: Vec<TokenDigest>,
}

impl World {
    fn random(random: &mut Random) -> Self {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig {
            path: folder.path().join("directory.sqlite"),
            create_if_missing: true,
            stale_after: None,
        };
        let store = postern::directory::open(&config).unwrap();
        op::ensure_organization(&*store, HERE, "Here", NOW).unwrap();
        op::ensure_organization(&*store, ELSEWHERE, "Elsewhere", NOW).unwrap();
        op::ensure_project(&*store, PROJECT, HERE, NOW).unwrap();
        op::set_policy(&*store, HERE, &random.policy(), NOW).unwrap();
        let providers: Vec<String> = [(HERE, true), (HERE, false), (ELSEWHERE, true)]
            .map(|(organization, enabled)| provider(&*store, organization, enabled))
            .into();
        let mut tokens = Vec::new();
        for number in 0..24 {
            let user = if number % 3 == 0 {
                application_user(&*store, random)
            } else {
                person(&*store, number, random)
            };
            grant(&*store, &user, random);
            for _ in 0..1 + random.below(4) {
                tokens.push(token(&*store, &user, number % 3 == 0, &providers, random));
            }
            if random.one_in(8) {
                op::set_user_state(&*store, &user, UserState::Deactivated, NOW).unwrap();
            }
        }
        let (synchronizer, view) = Synchronizer::start(Arc::clone(&store), Default::default()).unwrap();
        Self { _folder: folder, store, synchronizer, view, tokens }
    }

    fn project(&self) -> Arc<ProjectEntry> {
        self.view.project(PROJECT).current.load_full().unwrap()
    }

    fn organization(&self) -> Arc<OrganizationCell> {
        Arc::clone(&self.project().organization)
    }

    /// What is decided about each token, as for a request from this address, or from where the token was used last.
    fn decisions(&self, from: Option<IpAddr>) -> BTreeMap<u32, Result<(), Denial>> {
        let project = self.view.project(PROJECT);
        let decided = self.tokens.iter().map(|digest| {
            let entry = self.view.tokens.find(digest).unwrap();
            let last = || entry.last_used_by().0.unwrap_or(ALWAYS_ALLOWED.parse().unwrap());
            let client_address = from.unwrap_or_else(last);
            let question = Question { now: NOW.0, client_address, required: REQUIRED };
            let gathered = Gathered::new(&self.view, entry, Some(&*project), question);
            (entry.store_number(), decide(&gathered.facts()).map(drop))
        });
        decided.collect()
    }
}

fn provider(store: &dyn Store, organization: &str, enabled: bool) -> String {
    let new = NewIdentityProvider {
        organization_id: organization.into(),
        kind: IdentityProviderKind::Saml,
        name: "Provider".into(),
    };
    let id = op::create_identity_provider(store, &new, NOW).unwrap().value.id;
    let update = IdentityProviderUpdate { enabled: Some(enabled), ..Default::default() };
    op::update_identity_provider(store, &id, &update, NOW).unwrap();
    id
}

fn application_user(store: &dyn Store, random: &mut Random) -> String {
    let new = NewApplicationUser {
        organization_id: random.of(&[HERE, HERE, HERE, ELSEWHERE]).into(),
        name: "Application".into(),
        description: String::new(),
        is_super_admin: random.one_in(6),
    };
    op::create_application_user(store, &new, NOW).unwrap().value.user.id
}

fn person(store: &dyn Store, number: u32, random: &mut Random) -> String {
    let new = NewOrganizationUser {
        email: format!("p{number}@example.com"),
        real_name: "Person".into(),
        managing_organization_id: None,
    };
    let user = op::create_organization_user(store, &new, NOW).unwrap().value.id;
    if !random.one_in(6) {
        op::add_member(store, &user, HERE, NOW).unwrap();
    }
    if random.one_in(3) {
        op::add_member(store, &user, ELSEWHERE, NOW).unwrap();
    }
    if random.one_in(2) {
        op::set_two_factor(store, &user, true, NOW).unwrap();
    }
    user
}

fn grant(store: &dyn Store, user: &str, random: &mut Random) {
    let (principal, resource) = (Principal::User(user.into()), Resource::Project(PROJECT.into()));
    let member = store.read(|records| records.memberships(user)).unwrap();
    if member.iter().any(|membership| membership.organization_id == HERE) && !random.one_in(4) {
        let role = random.of(&["developer", "admin", "read_only"]);
        op::grant(store, &principal, &resource, &[role.to_owned()], NOW).unwrap();
    }
}

fn token(
    store: &dyn Store,
    user: &str,
    is_application: bool,
    providers: &[String],
    random: &mut Random,
) -> TokenDigest {
    let kind = if is_application {
        TokenKind::Application
    } else {
        random.of(&[TokenKind::Personal, TokenKind::Session])
    };
    let authentication_method_id = (!is_application).then(|| {
        let kinds = [
            MethodKind::Password,
            MethodKind::Google,
            MethodKind::GitHub,
            MethodKind::IdentityProvider,
            MethodKind::IdentityProvider,
        ];
        method(store, user, random.of(&kinds), providers, random)
    });
    let new = NewToken {
        user_id: user.into(),
        kind,
        description: new_id("token "),
        created_manually: true,
        max_age_seconds: random.one_in(4).then_some(3_600),
        extend_when_used: random.one_in(2),
        ip_allowlist: if random.one_in(4) { vec!["10.0.0.0/8".into()] } else { Vec::new() },
        scopes: if random.one_in(5) { vec!["service:logs:read".into()] } else { Vec::new() },
        authentication_method_id,
    };
    let made = Timestamp(NOW.0 - random.of(&[100, 4_000]));
    let made = op::create_token(store, &new, made).unwrap().value.token;
    if !random.one_in(3) {
        let update = UsageUpdate {
            token_number: made.number,
            last_used_at: NOW.0 - random.of(&[10, 3_000]),
            address: Some(random.of(&ADDRESSES).parse().unwrap()),
            user_agent: None,
            requests: 3,
        };
        store.record_usage(&[update]).unwrap();
    }
    if random.one_in(10) {
        op::revoke_token(store, &made.token_prefix, NOW).unwrap();
    }
    made.digest
}

/// The user's method of this kind, added if it is missing.
fn method(
    store: &dyn Store,
    user: &str,
    kind: MethodKind,
    providers: &[String],
    random: &mut Random,
) -> String {
    let provider = (kind == MethodKind::IdentityProvider)
        .then(|| providers[random.below(providers.len() as u64) as usize].as_str());
    let methods = store.read(|records| records.authentication_methods(user)).unwrap();
    let known = methods
        .into_iter()
        .find(|method| method.kind == kind && method.identity_provider_id.as_deref() == provider);
    known.map_or_else(
        || op::add_authentication_method(store, user, kind, provider, NOW).unwrap().value.id,
        |method| method.id,
    )
}

type Changes = BTreeMap<u32, (Option<Denial>, Option<Denial>)>;

/// The tokens that stop or start, with the reasons before and after, as decisions say.
fn decided(before: &BTreeMap<u32, Result<(), Denial>>, after: &BTreeMap<u32, Result<(), Denial>>) -> Changes {
    let pairs = before.iter().map(|(number, before)| (*number, (before.err(), after[number].err())));
    pairs.filter(|(_, (before, after))| before.is_none() != after.is_none()).collect()
}

fn listed(preview: &Preview) -> Changes {
    let lists = [&preview.stopping, &preview.starting];
    for list in lists {
        assert_eq!(list.count(), list.listed.len());
        assert!(list.listed.is_sorted_by_key(|token| token.number));
    }
    let reasons = |token: &AffectedToken| (token.number, (token.reason_before, token.reason_after));
    lists.into_iter().flat_map(|list| &list.listed).map(reasons).collect()
}

/// Whether scopes and grants suffice is not asked: what fails only there comes as far as the others.
fn but_for_permissions(decisions: BTreeMap<u32, Result<(), Denial>>) -> BTreeMap<u32, Result<(), Denial>> {
    let but = |decision| match decision {
        Err(Denial::InsufficientScope | Denial::PermissionDenied) => Ok(()),
        decision => decision,
    };
    decisions.into_iter().map(|(number, decision)| (number, but(decision))).collect()
}

const WHOLE: PreviewPage = PreviewPage { after: 0, limit: 10_000 };

#[test]
fn what_is_listed_is_what_enforcement_then_refuses_and_lets_in() {
    let (mut stopped, mut started) = (0, 0);
    for seed in 0..12 {
        let mut random = Random(seed);
        let world = World::random(&mut random);
        for round in 0..12 {
            let update = random.policy();
            let candidate = world.candidate(&update);
            let organization = world.organization();
            let project = world.project();
            let from: IpAddr = random.of(&ADDRESSES).parse().unwrap();
            let asked = Some((&*project, REQUIRED));
            // Each token from where it was used last, those never used from where nothing is refused; then all from one
            // address. Both about all checks and about all but scopes and grants.
            let questions = [(asked, None), (asked, Some(from)), (None, None), (None, Some(from))];
            let previews = questions.map(|(asked, client_address)| {
                let question = PreviewQuestion { asked, client_address, now: NOW.0 };
                preview(&world.view, &organization, &candidate, question, WHOLE)
            });
            let before = [world.decisions(None), world.decisions(Some(from))];

            op::set_policy(&*world.store, HERE, &update, NOW).unwrap();
            world.synchronizer.apply_pending().unwrap();

            let after = [world.decisions(None), world.decisions(Some(from))];
            for (position, preview) in previews.iter().enumerate() {
                let pair = [before[position % 2].clone(), after[position % 2].clone()];
                let [before, after] = if position < 2 { pair } else { pair.map(but_for_permissions) };
                let decided = decided(&before, &after);
                assert_eq!(listed(preview), decided, "seed {seed}, round {round}, question {position}");
                stopped += preview.stopping.count();
                started += preview.starting.count();
            }
        }
    }
    assert!(stopped > 1_000 && started > 1_000, "the test has cases: {stopped} stopped, {started} started");
}

#[test]
fn pages_together_list_each_token_once_and_users_are_those_of_the_tokens() {
    let mut random = Random(99);
    let world = World::random(&mut random);
    let organization = world.organization();
    let question = PreviewQuestion { asked: None, client_address: None, now: NOW.0 };
    for _ in 0..20 {
        let candidate = world.candidate(&random.policy());
        let whole = preview(&world.view, &organization, &candidate, question, WHOLE);
        let mut pages = Vec::new();
        let mut after = 0;
        loop {
            let page = PreviewPage { after, limit: 3 };
            let part = preview(&world.view, &organization, &candidate, question, page);
            assert_eq!(part.stopping.by_reason, whole.stopping.by_reason);
            assert!(part.users.len() <= 3);
            pages.extend([part.stopping.listed, part.starting.listed].concat());
            let Some(next) = part.next else { break };
            assert!(next > after);
            after = next;
        }
        let by_number = |tokens: &mut Vec<AffectedToken>| tokens.sort_by_key(|token| token.number);
        let mut all = [whole.stopping.listed.clone(), whole.starting.listed.clone()].concat();
        by_number(&mut pages);
        by_number(&mut all);
        assert_eq!(pages, all);
        let sums = whole.users.iter().fold((0, 0), |(stopping, starting), user| {
            assert_eq!(user.working_before + user.starting - user.stopping, user.working_after);
            (stopping + user.stopping, starting + user.starting)
        });
        assert_eq!(sums, (whole.stopping.count(), whole.starting.count()));
        op::set_policy(&*world.store, HERE, &random.policy(), NOW).unwrap();
        world.synchronizer.apply_pending().unwrap();
    }
}

impl World {
    /// The policy in force with an update.
    fn candidate(&self, update: &PolicyUpdate) -> AuthenticationPolicy {
        let mut candidate = self.organization().current.load().policy.clone();
        update.apply(&mut candidate);
        candidate
    }
}
