//! The policy's table from check 4 on, written down a second time: rows of data in terms of what is to be refused,
//! over types of their own. Nothing of the crate is used in here, and nothing of this came from its source.

/// The organization's switches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) password: bool,
    pub(crate) two_factor_required: bool,
    pub(crate) oauth: bool,
    pub(crate) saml: bool,
    pub(crate) external: bool,
    pub(crate) personal: bool,
    pub(crate) personal_requires_method: bool,
    pub(crate) addresses: Addresses,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) binding: Binding,
    pub(crate) revoked: bool,
    pub(crate) created_before_validity: bool,
    pub(crate) expiry: Expiry,
    pub(crate) addresses: Addresses,
    pub(crate) scope: Scope,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) state: UserState,
    pub(crate) has_two_factor: bool,
    pub(crate) member: Member,
    pub(crate) grant: Grant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Application,
    Personal,
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Binding {
    Unbound,
    Password,
    Google,
    Microsoft,
    GitHub,
    OwnProvider,
    OwnProviderDisabled,
    ForeignProvider,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Addresses {
    NoneListed,
    ClientInside,
    ClientOutside,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expiry {
    Never,
    Later,
    Reached,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scope {
    Unrestricted,
    WithRequired,
    WithoutRequired,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum UserState {
    Active,
    Deactivated,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Member {
    Nowhere,
    /// Super admin of another organization only.
    Elsewhere,
    Here,
    SuperAdminHere,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Grant {
    Nothing,
    /// The required permission, on another project only.
    Elsewhere,
    WithRequired(Level),
    WithoutRequired(Level),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    Project,
    Unit,
    Organization,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    /// `None`: the directory does not know the project, and so not its organization.
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) token: &'a Token,
    pub(crate) user: &'a User,
}

/// One way to be refused.
struct Row {
    check: u8,
    applies_to: fn(&Case<'_>) -> bool,
    refuses: fn(&Case<'_>) -> bool,
    with: &'static str,
}

/// The policy's table from check 4 on, a row for each code.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { check: 4, applies_to: all, refuses: |c| c.token.revoked, with: "token_revoked" },
    Row { check: 4, applies_to: all, refuses: |c| c.token.created_before_validity, with: "token_revoked" },
    Row { check: 5, applies_to: all, refuses: |c| c.token.expiry == Expiry::Reached, with: "token_expired" },
    Row { check: 6, applies_to: all, refuses: |c| c.user.state == UserState::Deactivated, with: "user_deactivated" },
    Row { check: 6, applies_to: all, refuses: |c| c.user.state == UserState::Deleted, with: "user_deleted" },
    Row { check: 7, applies_to: all, refuses: |c| c.policy.is_none(), with: "not_a_member" },
    Row { check: 7, applies_to: all, refuses: |c| matches!(c.user.member, Member::Nowhere | Member::Elsewhere), with: "not_a_member" },
    Row { check: 8, applies_to: known, refuses: |c| policy(c).addresses == Addresses::ClientOutside, with: "ip_not_allowed_by_organization" },
    Row { check: 9, applies_to: all, refuses: |c| c.token.addresses == Addresses::ClientOutside, with: "ip_not_allowed_by_token" },
    Row { check: 10, applies_to: personal, refuses: |c| !policy(c).personal, with: "personal_tokens_disabled" },
    Row { check: 11, applies_to: bound, refuses: |c| !binding_allowed(c) && !only_external_missing(c), with: "authentication_method_not_allowed" },
    Row { check: 11, applies_to: bound, refuses: only_external_missing, with: "external_identity_provider_not_allowed" },
    Row { check: 12, applies_to: password_session, refuses: |c| policy(c).two_factor_required && !c.user.has_two_factor, with: "two_factor_required" },
    Row { check: 13, applies_to: all, refuses: |c| c.token.scope == Scope::WithoutRequired, with: "insufficient_scope" },
    Row { check: 14, applies_to: all, refuses: |c| !holds_permission(c), with: "permission_denied" },
];

type AllowedWhen = fn(&Policy) -> bool;

/// The table of bindings that are allowed, and when; what is not in it never is.
#[rustfmt::skip]
const BINDINGS: &[(Binding, AllowedWhen)] = &[
    (Binding::Password, |p| p.password),
    (Binding::Google, |p| p.oauth),
    (Binding::Microsoft, |p| p.oauth),
    (Binding::GitHub, |p| p.oauth),
    (Binding::OwnProvider, |p| p.saml),
    (Binding::ForeignProvider, |p| p.saml && p.external),
];

/// The code of the first row that refuses.
pub(crate) fn refusal(case: &Case<'_>) -> Option<&'static str> {
    for row in TABLE {
        if (row.applies_to)(case) && (row.refuses)(case) {
            return Some(row.with);
        }
    }
    None
}

/// What one check says on its own.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    DoesNotApply,
    Passes,
    Refuses(&'static str),
}

pub(crate) fn answer(check: u8, case: &Case<'_>) -> Answer {
    let mut answer = Answer::DoesNotApply;
    for row in TABLE.iter().filter(|row| row.check == check && (row.applies_to)(case)) {
        if (row.refuses)(case) {
            return Answer::Refuses(row.with);
        }
        answer = Answer::Passes;
    }
    answer
}

fn all(_: &Case<'_>) -> bool {
    true
}

fn known(case: &Case<'_>) -> bool {
    case.policy.is_some()
}

fn personal(case: &Case<'_>) -> bool {
    known(case) && case.token.kind == Kind::Personal
}

fn bound(case: &Case<'_>) -> bool {
    known(case) && case.token.kind == Kind::Session || personal(case) && policy(case).personal_requires_method
}

fn password_session(case: &Case<'_>) -> bool {
    known(case) && case.token.kind == Kind::Session && case.token.binding == Binding::Password
}

fn policy<'a>(case: &Case<'a>) -> &'a Policy {
    case.policy.expect("rows that ask the policy apply only to known organizations")
}

fn binding_allowed(case: &Case<'_>) -> bool {
    BINDINGS.iter().any(|(binding, when)| *binding == case.token.binding && when(policy(case)))
}

fn only_external_missing(case: &Case<'_>) -> bool {
    case.token.binding == Binding::ForeignProvider && policy(case).saml && !policy(case).external
}

fn holds_permission(case: &Case<'_>) -> bool {
    known(case) && case.user.member == Member::SuperAdminHere
        || matches!(case.user.grant, Grant::WithRequired(Level::Project | Level::Unit | Level::Organization))
}
