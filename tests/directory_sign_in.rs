//! Whom somebody is who comes from a third party or an identity provider, and whom a domain's owner manages: the
//! directory's operations, case by case, on a store.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use postern::directory::model::{
    DomainVerification, IdentityProvider, IdentityProviderKind, MethodKind, Timestamp, User,
};
use postern::directory::operations::{
    self, Arrival, IdentityProviderUpdate, NewIdentityProvider, SignInRefusal, SignedIn, Via,
};
use postern::login::identity::{Email, Identity};
use postern::policy::ThirdParty;
use postern::policy::facts::UserState;
use support::directory::{Directory, ORGANIZATION, now};

const OTHER: &str = "org9f8e7d6c5b4a";

struct Case {
    directory: Directory,
    _folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(&folder.path().join("directory.db"));
        operations::ensure_organization(&*directory.store, OTHER, "Other", now()).unwrap();
        Self { directory, _folder: folder }
    }

    /// A verified domain of an organization; returns its id.
    fn domain(&self, organization: &str, name: &str) -> String {
        let store = &*self.directory.store;
        let domain =
            operations::add_domain(store, organization, name, DomainVerification::Dns, now()).unwrap().value;
        operations::verify_domain(store, organization, &domain.id, now()).unwrap().value.id
    }

    /// An identity provider that is switched on; returns its id.
    fn provider(&self, organization: &str, update: IdentityProviderUpdate) -> String {
        let new = NewIdentityProvider {
            organization_id: organization.into(),
            kind: IdentityProviderKind::Oidc,
            name: "Provider".into(),
        };
        let update = IdentityProviderUpdate { enabled: Some(true), ..update };
        let id = postern::directory::model::new_id("am");
        operations::set_up_identity_provider(&*self.directory.store, &id, &new, &update, now()).unwrap();
        id
    }

    fn linked(&self, organization: &str, domain: &str) -> String {
        let domain = self.domain(organization, domain);
        self.provider(
            organization,
            IdentityProviderUpdate { linked_domain_ids: Some(vec![domain]), ..Default::default() },
        )
    }

    fn arrive(&self, via: Via, subject: &str, email: Email) -> Result<SignedIn, SignInRefusal> {
        let identity = Identity { subject: subject.into(), email, name: Some("Jane Doe".into()) };
        operations::sign_in(&*self.directory.store, &Arrival { via, identity }, now()).unwrap().value
    }

    fn user(&self, id: &str) -> User {
        self.directory.store.read(|records| records.user(id)).unwrap().unwrap()
    }

    fn is_member(&self, user: &str, organization: &str) -> bool {
        let memberships = self.directory.store.read(|records| records.memberships(user)).unwrap();
        memberships.iter().any(|membership| membership.organization_id == organization)
    }

    fn sequence(&self) -> u64 {
        self.directory.store.read(|records| records.sequence()).unwrap().0
    }
}

fn google() -> Via {
    Via::ThirdParty(ThirdParty::Google)
}

fn verified(email: &str) -> Email {
    Email::Verified(email.into())
}

#[test]
fn a_third_party_signs_in_a_known_address_and_stays_with_that_person() {
    let case = Case::new();
    let (user, _) = case.directory.person("jane@example.com");
    let first = case.arrive(google(), "g 1", verified("jane@example.com")).unwrap();
    assert_eq!((first.user.id.as_str(), first.method.kind), (user.as_str(), MethodKind::Google));
    // The subject is the identity now: another address, or none that counts, changes nothing.
    for email in [verified("other@example.com"), Email::None, Email::Unverified("x@example.com".into())] {
        let again = case.arrive(google(), "g 1", email).unwrap();
        assert_eq!((again.user.id, again.method.id), (user.clone(), first.method.id.clone()));
    }
    assert_eq!(case.user(&user).email, "jane@example.com");
}

#[test]
fn nobody_is_linked_by_an_address_that_does_not_count() {
    let case = Case::new();
    case.directory.person("jane@example.com");
    let before = case.sequence();
    for email in [Email::None, Email::Unverified("jane@example.com".into())] {
        assert_eq!(case.arrive(google(), "g 1", email), Err(SignInRefusal::EmailNotVerified));
    }
    assert_eq!(case.sequence(), before, "a refusal changes nothing");
}

#[test]
fn a_second_account_at_the_same_party_does_not_take_the_place_of_the_first() {
    let case = Case::new();
    case.directory.person("jane@example.com");
    case.arrive(google(), "g 1", verified("jane@example.com")).unwrap();
    let second = case.arrive(google(), "g 2", verified("jane@example.com"));
    assert_eq!(second, Err(SignInRefusal::LinkedToAnother));
    // The same subject at another party is somebody else.
    let github =
        case.arrive(Via::ThirdParty(ThirdParty::GitHub), "g 1", verified("jane@example.com")).unwrap();
    assert_eq!(github.method.kind, MethodKind::GitHub);
}

#[test]
fn a_method_that_was_prepared_is_taken() {
    let case = Case::new();
    let (user, _) = case.directory.person("jane@example.com");
    let method = case.directory.method(&user, MethodKind::Google, None);
    let signed_in = case.arrive(google(), "g 1", verified("jane@example.com")).unwrap();
    assert_eq!(signed_in.method.id, method);
    assert_eq!(case.arrive(google(), "g 1", Email::None).unwrap().method.id, method);
}

#[test]
fn strangers_are_refused_and_change_nothing() {
    let case = Case::new();
    case.domain(ORGANIZATION, "example.com");
    let before = case.sequence();
    // Not even at a verified domain: a third party's word makes nobody a member.
    for email in ["jane@example.com", "jane@elsewhere.com"] {
        assert_eq!(case.arrive(google(), "g 1", verified(email)), Err(SignInRefusal::Unknown));
    }
    assert_eq!(case.sequence(), before);
}

#[test]
fn who_was_switched_off_or_cannot_log_in_is_refused() {
    let case = Case::new();
    let (user, _) = case.directory.person("jane@example.com");
    case.arrive(google(), "g 1", verified("jane@example.com")).unwrap();
    let application = case.directory.application_user();
    let email = case.user(&application).email;
    let refused = case.arrive(google(), "g 2", verified(&email));
    assert_eq!(refused, Err(SignInRefusal::ApplicationUser));
    operations::set_user_state(&*case.directory.store, &user, UserState::Deactivated, now()).unwrap();
    for subject in ["g 1", "g 3"] {
        let refused = case.arrive(google(), subject, verified("jane@example.com"));
        assert_eq!(refused, Err(SignInRefusal::Deactivated));
    }
}

#[test]
fn who_was_deleted_can_come_back_as_somebody_new() {
    let case = Case::new();
    let provider = case.linked(ORGANIZATION, "example.com");
    let via = || Via::IdentityProvider(provider.clone());
    let first = case.arrive(via(), "i 1", verified("jane@example.com")).unwrap();
    operations::delete_user(&*case.directory.store, &first.user.id, now()).unwrap();
    let second = case.arrive(via(), "i 1", verified("jane@example.com")).unwrap();
    assert_ne!(first.user.id, second.user.id);
    assert_eq!(case.arrive(via(), "i 1", verified("jane@example.com")).unwrap().user.id, second.user.id);
}

#[test]
fn an_identity_provider_makes_members_of_its_domains() {
    let case = Case::new();
    let group =
        operations::create_group(&*case.directory.store, ORGANIZATION, "Everybody", "", now()).unwrap().value;
    let domain = case.domain(ORGANIZATION, "example.com");
    let provider = case.provider(
        ORGANIZATION,
        IdentityProviderUpdate {
            linked_domain_ids: Some(vec![domain]),
            auto_join_user_group_id: Some(Some(group.id.clone())),
            ..Default::default()
        },
    );
    let via = || Via::IdentityProvider(provider.clone());
    let signed_in = case.arrive(via(), "i 1", verified("jane@example.com")).unwrap();
    let user = case.user(&signed_in.user.id);
    assert_eq!((user.email.as_str(), user.name.as_str()), ("jane@example.com", "Jane Doe"));
    assert_eq!(user.managing_organization_id.as_deref(), Some(ORGANIZATION));
    assert!(case.is_member(&user.id, ORGANIZATION));
    let members = || case.directory.store.read(|records| records.group_members(&group.id)).unwrap();
    assert_eq!(members(), std::slice::from_ref(&user.id));
    // Who was taken out of the group is not put back by logging in.
    operations::remove_group_members(
        &*case.directory.store,
        &group.id,
        std::slice::from_ref(&user.id),
        now(),
    )
    .unwrap();
    case.arrive(via(), "i 1", verified("jane@example.com")).unwrap();
    assert!(members().is_empty());
}

#[test]
fn an_identity_provider_logs_in_nobody_else() {
    let case = Case::new();
    let provider = case.linked(ORGANIZATION, "example.com");
    case.domain(ORGANIZATION, "unlinked.example");
    let foreign = case.domain(OTHER, "other.example");
    let via = || Via::IdentityProvider(provider.clone());
    case.directory.person("admin@elsewhere.com");
    for email in [
        "admin@elsewhere.com",
        "jane@unlinked.example",
        "jane@other.example",
        "jane@sub.example.com",
        "jane@notexample.com",
        "jane@example.com@elsewhere.com",
    ] {
        assert_eq!(
            case.arrive(via(), "i 1", verified(email)),
            Err(SignInRefusal::DomainNotLinked),
            "{email}"
        );
    }
    assert_eq!(
        case.arrive(via(), "i 1", Email::Unverified("jane@example.com".into())),
        Err(SignInRefusal::EmailNotVerified)
    );
    // A foreign domain cannot be linked at all.
    let update = IdentityProviderUpdate { linked_domain_ids: Some(vec![foreign]), ..Default::default() };
    assert!(operations::update_identity_provider(&*case.directory.store, &provider, &update, now()).is_err());
}

#[test]
fn what_ends_a_link_ends_logins_of_those_who_have_logged_in_before() {
    let case = Case::new();
    let domain = case.domain(ORGANIZATION, "example.com");
    let linked = || Some(vec![domain.clone()]);
    let provider = case
        .provider(ORGANIZATION, IdentityProviderUpdate { linked_domain_ids: linked(), ..Default::default() });
    let store = &*case.directory.store;
    let arrive = || case.arrive(Via::IdentityProvider(provider.clone()), "i 1", verified("jane@example.com"));
    let change = |update: IdentityProviderUpdate| {
        operations::update_identity_provider(store, &provider, &update, now()).unwrap().value
    };
    arrive().unwrap();
    // The provider says another address now.
    let moved = case.arrive(Via::IdentityProvider(provider.clone()), "i 1", verified("jane@elsewhere.com"));
    assert_eq!(moved, Err(SignInRefusal::DomainNotLinked));
    change(IdentityProviderUpdate { linked_domain_ids: Some(Vec::new()), ..Default::default() });
    assert_eq!(arrive(), Err(SignInRefusal::DomainNotLinked));
    change(IdentityProviderUpdate { linked_domain_ids: linked(), ..Default::default() });
    arrive().unwrap();
    change(IdentityProviderUpdate { enabled: Some(false), ..Default::default() });
    assert_eq!(arrive(), Err(SignInRefusal::ProviderDisabled));
    change(IdentityProviderUpdate { enabled: Some(true), ..Default::default() });
    operations::delete_domain(store, ORGANIZATION, &domain, now()).unwrap();
    assert_eq!(arrive(), Err(SignInRefusal::DomainNotLinked));
    let stored: IdentityProvider =
        store.read(|records| records.identity_provider(&provider)).unwrap().unwrap();
    assert!(stored.linked_domain_ids.is_empty());
    operations::delete_identity_provider(store, &provider, now()).unwrap();
    assert_eq!(arrive(), Err(SignInRefusal::ProviderDisabled));
}

#[test]
fn a_member_of_elsewhere_joins_through_the_owner_of_the_domain() {
    let case = Case::new();
    let (user, _) = case.directory.person("jane@other.example");
    let provider = case.linked(OTHER, "other.example");
    assert_eq!(case.user(&user).managing_organization_id, None, "only members are managed");
    let signed_in =
        case.arrive(Via::IdentityProvider(provider), "i 1", verified("jane@other.example")).unwrap();
    assert_eq!(signed_in.user.id, user);
    assert!(case.is_member(&user, OTHER) && case.is_member(&user, ORGANIZATION));
    assert_eq!(case.user(&user).managing_organization_id.as_deref(), Some(OTHER));
}

#[test]
fn names_that_cannot_be_shown_are_replaced() {
    let case = Case::new();
    let provider = case.linked(ORGANIZATION, "example.com");
    for (number, name) in ["", "  ", "\u{1b}[31mred", &"x".repeat(500)].into_iter().enumerate() {
        let email = format!("jane{number}@example.com");
        let identity =
            Identity { subject: format!("i {number}"), email: verified(&email), name: Some(name.into()) };
        let arrival = Arrival { via: Via::IdentityProvider(provider.clone()), identity };
        let signed_in = operations::sign_in(&*case.directory.store, &arrival, now()).unwrap().value.unwrap();
        assert_eq!(signed_in.user.name, email, "{name:?}");
    }
}

#[test]
fn a_domains_owner_manages_its_people_while_it_has_the_domain() {
    let case = Case::new();
    let store = &*case.directory.store;
    let (jane, _) = case.directory.person("jane@example.com");
    let (sub, _) = case.directory.person("jane@sub.example.com");
    let (outside, _) = case.directory.person("outside@example.com");
    operations::remove_member(store, &outside, ORGANIZATION, now()).unwrap();
    let managers = || [&jane, &sub, &outside].map(|id| case.user(id).managing_organization_id);
    let added = operations::add_domain(store, ORGANIZATION, "Example.COM.", DomainVerification::Dns, now());
    let domain = added.unwrap().value;
    assert_eq!(managers(), [None, None, None], "claiming a domain changes nothing");
    operations::verify_domain(store, ORGANIZATION, &domain.id, now()).unwrap();
    assert_eq!(managers(), [Some(ORGANIZATION.to_owned()), None, None]);
    // Another way of showing it has to be shown.
    operations::update_domain(store, ORGANIZATION, &domain.id, DomainVerification::Http, now()).unwrap();
    assert_eq!(managers(), [None, None, None]);
    operations::verify_domain(store, ORGANIZATION, &domain.id, now()).unwrap();
    assert_eq!(managers(), [Some(ORGANIZATION.to_owned()), None, None]);
    // The same way changes nothing.
    operations::update_domain(store, ORGANIZATION, &domain.id, DomainVerification::Http, now()).unwrap();
    assert_eq!(managers(), [Some(ORGANIZATION.to_owned()), None, None]);
    // Nobody else gets it meanwhile.
    let theirs =
        operations::add_domain(store, OTHER, "example.com", DomainVerification::Dns, now()).unwrap().value;
    assert!(operations::verify_domain(store, OTHER, &theirs.id, now()).is_err());
    operations::delete_domain(store, ORGANIZATION, &domain.id, now()).unwrap();
    assert_eq!(managers(), [None, None, None]);
    operations::verify_domain(store, OTHER, &theirs.id, Timestamp(now().0 + 1)).unwrap();
}

#[test]
fn only_domains_are_domains() {
    let case = Case::new();
    let store = &*case.directory.store;
    for name in [
        "",
        "example",
        "-a.example",
        "a-.example",
        "a..example",
        "127.0.0.1",
        "exa mple.com",
        "*.example.com",
        "example.com/x",
        "example.com:443",
        "user@example.com",
        "münchen.example",
        &format!("{}.com", "a".repeat(64)),
    ] {
        let added = operations::add_domain(store, ORGANIZATION, name, DomainVerification::Dns, now());
        assert!(added.is_err(), "{name}");
    }
}
