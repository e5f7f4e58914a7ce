//! Random operations on a directory, and what a view says of all that they have made.

use std::collections::BTreeMap;

use postern::directory::model::{MethodKind, Principal, Resource, Timestamp, Token, new_id};
use postern::directory::operations::{
    self as op, NewSession, NewToken, Placement, PolicyUpdate, TokenUpdate,
};
use postern::directory::{DirectoryView, Store};
use postern::login::session::SessionLifetime;
use postern::policy::facts::UserState;

use super::{
    NOW, ORGANIZATION, PROJECTS, application_token, application_user, in_project, names, outcome, person,
    personal_token,
};

/// Random numbers that a seed alone decides.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Ids of what the random operations have made.
pub(crate) struct World {
    random: Random,
    /// When the next operation happens.
    pub(crate) now: Timestamp,
    application_users: Vec<String>,
    people: Vec<String>,
    methods: Vec<(String, String)>,
    groups: Vec<String>,
    units: Vec<String>,
    pub(crate) tokens: Vec<Token>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: NOW,
            application_users: Vec::new(),
            people: Vec::new(),
            methods: Vec::new(),
            groups: Vec::new(),
            units: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Lets some seconds pass before the next operation.
    pub(crate) fn pass_time(&mut self) {
        self.now.0 += self.below(20) as u32;
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    fn pick(&mut self, from: &[String]) -> String {
        let index = self.below(from.len());
        from.get(index).cloned().unwrap_or_else(|| "nobody".to_owned())
    }

    fn user(&mut self) -> String {
        let all: Vec<_> = self.application_users.iter().chain(&self.people).cloned().collect();
        self.pick(&all)
    }

    fn group(&mut self) -> String {
        self.pick(&self.groups.clone())
    }

    fn unit(&mut self) -> String {
        self.pick(&self.units.clone())
    }

    fn token(&mut self) -> String {
        let prefixes: Vec<_> = self.tokens.iter().map(|token| token.token_prefix.clone()).collect();
        self.pick(&prefixes)
    }

    fn project(&mut self) -> &'static str {
        PROJECTS[self.below(PROJECTS.len())]
    }

    fn resource(&mut self) -> Resource {
        match self.below(3) {
            0 => Resource::Organization(ORGANIZATION.to_owned()),
            1 => Resource::OrganizationUnit(self.unit()),
            _ => in_project(self.project()),
        }
    }

    fn principal(&mut self) -> Principal {
        if self.below(3) == 0 { Principal::UserGroup(self.group()) } else { Principal::User(self.user()) }
    }

    fn placement(&mut self) -> Placement {
        if self.below(3) == 0 { Placement::Organization } else { Placement::Unit(self.unit()) }
    }

    /// One operation. Those that are refused are as good as any: they must change nothing.
    pub(crate) fn step(&mut self, store: &dyn Store) {
        let (flag, now) = (self.below(2) == 0, self.now);
        match self.below(24) {
            0 | 1 => {
                let user = op::create_application_user(store, &application_user(), now).unwrap().value.user;
                self.application_users.push(user.id);
            }
            2 => {
                let email = format!("{}@example.com", new_id("jane"));
                let user = op::create_organization_user(store, &person(&email), now).unwrap().value.id;
                op::add_member(store, &user, ORGANIZATION, now).unwrap();
                let method = op::add_authentication_method(store, &user, MethodKind::Password, None, now);
                self.methods.push((user.clone(), method.unwrap().value.id));
                self.people.push(user);
            }
            3..=6 => self.create_token(store),
            7 => drop(op::revoke_token(store, &self.token(), now)),
            8 => {
                let ip_allowlist = Some(if flag { names(&["192.0.2.0/24"]) } else { names(&["10.0.0.0/8"]) });
                let update = TokenUpdate { ip_allowlist, ..TokenUpdate::default() };
                drop(op::update_token(store, &self.token(), &update, now));
            }
            9..=11 => {
                let granted =
                    if flag { names(&["developer"]) } else { names(&["read_only", "service:logs:read"]) };
                drop(op::grant(store, &self.principal(), &self.resource(), &granted, now));
            }
            12 => drop(op::revoke(store, &self.principal(), &self.resource(), &names(&["developer"]), now)),
            13 => {
                let group =
                    op::create_group(store, ORGANIZATION, &format!("{} of tests", new_id("group")), "", now)
                        .unwrap()
                        .value
                        .id;
                self.groups.push(group);
            }
            14 | 15 => drop(op::add_group_members(store, &self.group(), &[self.user()], now)),
            16 => drop(op::remove_group_members(store, &self.group(), &[self.user()], now)),
            17 => drop(op::move_project(store, self.project(), &self.placement(), now)),
            18 => {
                if let Ok(unit) = op::create_unit(store, ORGANIZATION, "unit", &self.placement(), now) {
                    self.units.push(unit.value.id);
                }
                drop(op::move_unit(store, &self.unit(), &self.placement(), now));
            }
            19 => {
                let update = PolicyUpdate {
                    personal_tokens_enabled: Some(flag),
                    password_auth_enabled: Some(!flag),
                    ..PolicyUpdate::default()
                };
                drop(op::set_policy(store, ORGANIZATION, &update, now));
            }
            20 => {
                let state = if flag { UserState::Active } else { UserState::Deactivated };
                drop(op::set_user_state(store, &self.user(), state, now));
                drop(op::set_super_admin(store, &self.user(), ORGANIZATION, flag, now));
            }
            21 => drop(op::set_two_factor(store, &self.user(), flag, now)),
            22 => {
                let index = self.below(self.methods.len());
                if let Some((_, method)) = self.methods.get(index).filter(|_| flag) {
                    drop(op::delete_authentication_method(store, method, now));
                }
                drop(op::expire_tokens(store, &self.user(), now));
            }
            _ => match self.below(5) {
                0 => drop(op::delete_user(store, &self.user(), now)),
                1 => drop(op::remove_member(store, &self.user(), ORGANIZATION, now)),
                2 => drop(op::delete_group(store, &self.group(), now)),
                3 => drop(op::delete_unit(store, &self.unit(), now)),
                _ => {
                    let project = self.project();
                    drop(op::delete_project(store, project, now));
                    op::ensure_project(store, project, ORGANIZATION, now).unwrap();
                }
            },
        }
    }

    fn create_token(&mut self, store: &dyn Store) {
        let new = if self.below(3) == 0 {
            let index = self.below(self.methods.len());
            let absolute_seconds = [5, 700, 86_400][self.below(3)];
            let Some((user, method)) = self.methods.get(index) else { return };
            if index.is_multiple_of(2) {
                let terms = SessionLifetime { idle_seconds: 600, absolute_seconds }.beginning(self.now);
                let session =
                    NewSession { user_id: user.clone(), authentication_method_id: method.clone(), terms };
                if let Ok(created) = op::create_session(store, &session, self.now) {
                    self.tokens.push(created.value.token);
                }
                return;
            }
            personal_token(user, method)
        } else {
            let users = self.application_users.clone();
            application_token(&self.pick(&users))
        };
        let scopes = if self.below(4) == 0 { names(&["service:logs:read"]) } else { Vec::new() };
        if let Ok(created) = op::create_token(store, &NewToken { scopes, ..new }, self.now) {
            self.tokens.push(created.value.token);
        }
    }

    /// What a view says about every token on every project, in a form without the view's own numbers.
    pub(crate) fn seen(&self, view: &DirectoryView) -> BTreeMap<String, String> {
        let describe = |token: &Token| {
            let entry = view.tokens.find(&token.digest).unwrap();
            let user = view.users.current(entry.user());
            let outcomes = PROJECTS.map(|project| outcome(view, &token.digest, project, self.now.0 + 10));
            let permissions = user.grants.iter().map(|grant| format!("{}", grant.permissions));
            let mut permissions: Vec<_> = permissions.filter(|permissions| !permissions.is_empty()).collect();
            permissions.sort();
            let memberships = user.memberships.iter().map(|membership| membership.is_super_admin);
            format!(
                "{outcomes:?} {:?} {:?} {} {} {permissions:?} {:?}",
                entry.state().facts(),
                user.state,
                user.two_factor_enabled,
                user.token_validity_begin,
                memberships.collect::<Vec<_>>(),
            )
        };
        self.tokens.iter().map(|token| (token.token_prefix.clone(), describe(token))).collect()
    }
}
