//! Signing in through others, as a browser and as a command line would: against a real OpenID Connect provider, and
//! against a server that speaks what GitHub documents of its OAuth. What the tokens may do is seen through the proxy.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use postern::config::OutgoingConfig;
use postern::directory::model::{DomainVerification, Timestamp};
use postern::directory::operations::{self, PolicyUpdate};
use postern::login::identity::Email;
use postern::login::oidc::{Flavour, Oidc, OidcError, OidcSettings, Providers};
use postern::login::outgoing::{Names, Outgoing};
use postern::login::seal::{Purpose, Sealer};
use postern::token::TokenKind;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::browser::{Browser, PUBLIC_URL, Shown, query, with_query};
use support::directory::{ORGANIZATION, now};
use support::oidc_provider::{self, CLIENT_ID, CLIENT_SECRET, Provider};
use support::{Sidecar, Upstream, stub, until};

const VERIFIER: &str = "a-secret-that-only-the-command-line-knows-and-nobody-else";
const COOKIE: &str = "__Host-postern-sign-in";

fn accounts() -> Value {
    json!({
        "jane": {"email": "Jane@Example.com", "email_verified": true, "name": "Jane Doe"},
        "unverified": {"email": "jane@example.com", "email_verified": false},
        "elsewhere": {"email": "jane@elsewhere.example", "email_verified": true},
        "gmail": {"email": "jane@gmail.com", "email_verified": true},
        "workspace": {"email": "jane@example.com", "email_verified": true, "hd": "example.com"},
        "consumer": {"email": "jane@example.com", "email_verified": true},
        "owned": {"email": "jane@example.com", "xms_edov": true},
        "nobody": {},
    })
}

/// A sidecar, a provider, and an organization that has set it up for its domain.
struct Case {
    sidecar: Sidecar,
    provider: Provider,
    admin: String,
    domain: String,
    _upstream: Upstream,
}

impl Case {
    /// `None` where the provider is not installed.
    fn start() -> Option<Self> {
        Self::start_with(|_| String::new(), json!({}))
    }

    fn start_with(lines: impl FnOnce(&str) -> String, settings: Value) -> Option<Self> {
        let provider = oidc_provider::start(accounts(), settings)?;
        let upstream = Upstream::echo();
        let lines = format!("public_url = \"{PUBLIC_URL}\"\n{}{HTTP}", lines(&provider.issuer));
        let sidecar = Sidecar::in_front_of(&upstream).admin(&lines).start();
        let admin = sidecar.super_admin().token;
        let store = &*sidecar.directory.store;
        let domain =
            operations::add_domain(store, ORGANIZATION, "example.com", DomainVerification::Dns, now());
        let domain = domain.unwrap().value.id;
        operations::verify_domain(store, ORGANIZATION, &domain, now()).unwrap();
        Some(Self { sidecar, provider, admin, domain, _upstream: upstream })
    }

    fn browser(&self) -> Browser {
        Browser::new(self.sidecar.admin.unwrap())
    }

    /// Asks the API as a super admin.
    #[track_caller]
    fn api(&self, method_and_target: &str, body: &Value) -> Value {
        let response = self.sidecar.api(&self.admin, method_and_target, &body.to_string());
        assert_eq!(response.status, 200, "{method_and_target}: {}", response.text());
        response.json()
    }

    /// An identity provider with what is usual and what is given; returns its id.
    #[track_caller]
    fn identity_provider(&self, more: Value) -> String {
        let mut body = json!({
            "authentication_method_name": "Example's own",
            "authentication_method_type": "oidc",
            "authentication_method_enabled": true,
            "oidc_issuer": self.provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "linked_domains": [{"domain_id": self.domain}],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.api(&format!("POST /v1/account/{ORGANIZATION}/authentication"), &body);
        made["authentication_method"]["authentication_method_id"].as_str().unwrap().to_owned()
    }

    /// Begins, logs in at the provider, and returns the address that it sends the browser back to.
    #[track_caller]
    fn come_back(&self, browser: &mut Browser, through: &str, login: &str) -> String {
        let begun = browser.get(&start(through));
        assert_eq!(begun.status, 303, "{}", begun.text);
        browser.log_in_at_provider(&begun.location.unwrap(), login)
    }

    /// The whole way of a program with cookies: what the callback says.
    #[track_caller]
    fn sign_in(&self, through: &str, login: &str) -> Shown {
        let mut browser = self.browser();
        let back = self.come_back(&mut browser, through, login);
        browser.accept = "application/json";
        browser.get(&back)
    }

    /// The whole way; returns the token.
    #[track_caller]
    fn token(&self, through: &str, login: &str) -> String {
        let shown = self.sign_in(through, login);
        assert_eq!(shown.status, 200, "{}", shown.text);
        let json = shown.json();
        assert_eq!(json["state"], "active");
        json["token"].as_str().unwrap().to_owned()
    }

    /// Lets a person do everything on the routes' project.
    fn grant_everything(&self, user_id: &str) {
        self.sidecar.directory.grant(user_id, &["admin"]);
    }

    fn user_of(&self, token: &str) -> String {
        self.sidecar.directory.stored(&token[..17]).token.user_id
    }

    /// Waits until a request through the proxy is answered with this status.
    #[track_caller]
    fn until_proxied(&self, token: &str, status: u16) {
        let head = self.sidecar.head_with(token, "GET /", "");
        until(&format!("{status} through the proxy"), || self.sidecar.answers(&head, status));
    }

    fn set_policy(&self, update: PolicyUpdate) {
        operations::set_policy(&*self.sidecar.directory.store, ORGANIZATION, &update, now()).unwrap();
    }
}

const HTTP: &str = "[admin.http]\nprivate_networks = [\"127.0.0.0/8\"]\n";

fn start(through: &str) -> String {
    format!("{PUBLIC_URL}/v1/userauth/sign_in/{through}")
}

fn third_party(kind: &str, more: &str) -> String {
    format!(
        "[[admin.third_parties]]\nkind = \"{kind}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{CLIENT_SECRET}\"\n{more}\n"
    )
}

fn challenge() -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(VERIFIER.as_bytes()))
}

#[test]
fn an_identity_providers_people_become_members_and_their_tokens_work() {
    let Some(case) = Case::start() else { return };
    let group = operations::create_group(&*case.sidecar.directory.store, ORGANIZATION, "People", "", now());
    let group = group.unwrap().value.id;
    case.sidecar.directory.store.read(|records| records.group(&group)).unwrap().unwrap();
    let provider = case.identity_provider(json!({
        "auto_join_user_group_id": group,
        "auth_token_max_age_seconds": 7200,
        "auth_token_extend_when_used": true,
    }));
    let token = case.token(&provider, "jane");
    let stored = case.sidecar.directory.stored(&token[..17]).token;
    assert_eq!(stored.kind, TokenKind::Session);
    assert_eq!((stored.max_age_seconds, stored.extend_when_used), (Some(7200), true));
    let records = |user: &str| {
        let user = user.to_owned();
        let store = &case.sidecar.directory.store;
        (
            store.read(|records| records.user(&user)).unwrap().unwrap(),
            store.read(|records| records.authentication_methods(&user)).unwrap(),
            store.read(|records| records.group_members(&group)).unwrap(),
        )
    };
    let (user, methods, members) = records(&stored.user_id);
    assert_eq!((user.email.as_str(), user.name.as_str()), ("jane@example.com", "Jane Doe"));
    assert_eq!(user.managing_organization_id.as_deref(), Some(ORGANIZATION));
    assert_eq!(members, std::slice::from_ref(&user.id));
    assert_eq!(methods.len(), 1);
    assert_eq!(methods[0].identity_provider_id.as_deref(), Some(provider.as_str()));
    assert_eq!(stored.authentication_method_id.as_deref(), Some(methods[0].id.as_str()));
    let subject = methods[0].subject.as_deref().unwrap();
    assert_eq!(subject, format!("{} jane", case.provider.issuer));

    // Through the proxy it is a member's token without grants, then one with.
    case.until_proxied(&token, 403);
    case.grant_everything(&user.id);
    case.until_proxied(&token, 200);
    // The second time it is the same person.
    assert_eq!(case.user_of(&case.token(&provider, "jane")), user.id);
}

#[test]
fn the_policys_switches_stop_and_start_sessions_and_tokens_made_in_them() {
    let google = |issuer: &str| third_party("google", &format!("issuer = \"{issuer}\""));
    let Some(case) = Case::start_with(google, json!({})) else { return };
    let provider = case.identity_provider(json!({}));
    let session = case.token(&provider, "workspace");
    let user = case.user_of(&session);
    case.grant_everything(&user);
    let through_google = case.token("google", "workspace");
    assert_eq!(case.user_of(&through_google), user, "both are linked to one person");
    // A personal token that was made in the first session has its binding.
    let method = case.sidecar.directory.stored(&session[..17]).token.authentication_method_id;
    let personal = case.sidecar.directory.token_with(&user, TokenKind::Personal, |new| {
        new.authentication_method_id = method;
    });
    let personal = personal.token.as_str();
    let all = |statuses: [u16; 3]| {
        for (token, status) in [session.as_str(), through_google.as_str(), personal].into_iter().zip(statuses)
        {
            case.until_proxied(token, status);
        }
    };
    all([200, 200, 200]);
    case.set_policy(PolicyUpdate { saml_enabled: Some(false), ..Default::default() });
    all([403, 200, 200]);
    case.set_policy(PolicyUpdate {
        personal_tokens_require_allowed_auth_method: Some(true),
        ..Default::default()
    });
    all([403, 200, 403]);
    case.set_policy(PolicyUpdate {
        saml_enabled: Some(true),
        oauth_enabled: Some(false),
        saml_allow_external: Some(false),
        ..Default::default()
    });
    all([200, 403, 200]);
    case.set_policy(PolicyUpdate { oauth_enabled: Some(true), ..Default::default() });
    all([200, 200, 200]);
    // Switching the provider off does the same to what is bound to it, and removing it ends that.
    let target = format!("/v1/account/{ORGANIZATION}/authentication/{provider}");
    case.api(&format!("PUT {target}"), &json!({"authentication_method_enabled": false}));
    all([403, 200, 403]);
    case.api(&format!("PUT {target}"), &json!({"authentication_method_enabled": true}));
    all([200, 200, 200]);
    case.api(&format!("DELETE {target}"), &json!({}));
    all([401, 200, 401]);
}

#[test]
fn another_organizations_provider_is_external_to_this_one() {
    let Some(case) = Case::start() else { return };
    const OTHER: &str = "org9f8e7d6c5b4a";
    let store = &*case.sidecar.directory.store;
    operations::ensure_organization(store, OTHER, "Other", now()).unwrap();
    let domain = operations::add_domain(store, OTHER, "elsewhere.example", DomainVerification::Dns, now());
    let domain = domain.unwrap().value.id;
    operations::verify_domain(store, OTHER, &domain, now()).unwrap();
    let provider = case.identity_provider(json!({}));
    // Over the store: the admin of one organization does not see the other.
    let id = postern::directory::model::new_id("am");
    let mut update = operations::IdentityProviderUpdate { enabled: Some(true), ..Default::default() };
    update.linked_domain_ids = Some(vec![domain]);
    update.settings.oidc_issuer = Some(case.provider.issuer.clone());
    update.settings.oidc_client_id = Some(CLIENT_ID.into());
    let new = operations::NewIdentityProvider {
        organization_id: OTHER.into(),
        kind: postern::directory::model::IdentityProviderKind::Oidc,
        name: "Other's".into(),
    };
    operations::set_up_identity_provider(store, &id, &new, &update, now()).unwrap();
    case.sidecar
        .api(&case.admin, &format!("GET /v1/account/{ORGANIZATION}/authentication/{id}"), "")
        .assert_error(404, "not_found");
    // Without the secret the provider refuses the code.
    case.sign_in(&id, "elsewhere").assert_refused(400, "sign_in_code_refused");
    let sealer = Sealer::beside(&case.sidecar.folder().join("store.db"));
    let sealed = sealer.seal(Purpose::ClientSecret(&id), CLIENT_SECRET.as_bytes()).unwrap();
    let update =
        operations::IdentityProviderUpdate { sealed_client_secret: Some(Some(sealed)), ..Default::default() };
    operations::update_identity_provider(store, &id, &update, now()).unwrap();
    let token = case.token(&id, "elsewhere");
    let user = case.user_of(&token);
    operations::add_member(store, &user, ORGANIZATION, now()).unwrap();
    case.grant_everything(&user);
    case.until_proxied(&token, 200);
    case.set_policy(PolicyUpdate { saml_allow_external: Some(false), ..Default::default() });
    case.until_proxied(&token, 403);
    let refused = case.sidecar.request(case.sidecar.head_with(&token, "GET /", ""));
    refused.assert_error(403, "external_identity_provider_not_allowed");
    case.set_policy(PolicyUpdate { saml_allow_external: Some(true), ..Default::default() });
    case.until_proxied(&token, 200);
    // What is stored of a secret is not the secret.
    let sealed = store.read(|records| records.sealed_client_secret(&provider)).unwrap().unwrap();
    assert!(!sealed.windows(8).any(|part| CLIENT_SECRET.as_bytes().windows(8).any(|secret| secret == part)));
}

#[test]
fn who_is_invited_makes_an_account_by_signing_in_and_accepts() {
    let google = |issuer: &str| third_party("google", &format!("issuer = \"{issuer}\""));
    let Some(case) = Case::start_with(google, json!({})) else { return };
    case.sign_in("google", "gmail").assert_refused(403, "user_not_invited");
    let invitation = format!("POST /v1/organization/{ORGANIZATION}/invitation");
    let invited = case.sidecar.api(&case.admin, &invitation, r#"{"user_email": "jane@gmail.com"}"#);
    assert!(matches!(invited.status, 200 | 201), "{}", invited.text());
    let token = case.token("google", "gmail");
    let user = case.user_of(&token);
    case.until_proxied(&token, 403);
    let accept = format!("{invitation}/jane@gmail.com");
    let accepted = case.sidecar.api(&token, &accept, r#"{"action": "accept"}"#);
    assert!(matches!(accepted.status, 200 | 204), "{}", accepted.text());
    case.grant_everything(&user);
    case.until_proxied(&token, 200);
    assert_eq!(case.user_of(&case.token("google", "gmail")), user);
}

#[test]
fn who_kept_the_code_of_an_invitation_does_not_stay_beside_its_owner() {
    let google = |issuer: &str| third_party("google", &format!("issuer = \"{issuer}\""));
    let Some(case) = Case::start_with(google, json!({})) else { return };
    const PASSWORD: &str = "tidal-acorn-velvet-9";
    const OTHER_PASSWORD: &str = "marble/Ostrich/quilt/7";
    let invitation = format!("POST /v1/organization/{ORGANIZATION}/invitation");
    let invited = case.sidecar.api(&case.admin, &invitation, r#"{"user_email": "jane@example.com"}"#);
    let code = invited.json()["code"].clone();
    let anonymous = |target: &str, body: Value| {
        let answer = case.sidecar.api("", target, &body.to_string());
        (answer.status, answer.json()["token"].as_str().unwrap_or_default().to_owned())
    };
    let set_up = |code: &Value, password: &str| {
        let body = json!({"code": code, "password": password, "real_name": "Jane"});
        anonymous("POST /v1/userauth/setup", body)
    };
    let log_in = |password: &str| {
        anonymous("POST /v1/userauth", json!({"email": "jane@example.com", "password": password}))
    };
    let (status, thiefs) = set_up(&code, PASSWORD);
    assert_eq!(status, 200);
    let (status, personal) = {
        let answer = case.sidecar.api(&thiefs, "POST /v1/access_token", "{}");
        (answer.status, answer.json()["full_token"].as_str().unwrap().to_owned())
    };
    assert_eq!(status, 200);
    // Another password is the same one's.
    let change = json!({"password": PASSWORD, "new_password": OTHER_PASSWORD});
    let changed = case.sidecar.api(&thiefs, "PUT /v1/me/password", &change.to_string());
    let thiefs = changed.json()["token"].as_str().unwrap().to_owned();
    let user = case.user_of(&thiefs);

    let owners = case.token("google", "workspace");
    assert_eq!(case.user_of(&owners), user);
    for ended in [&thiefs, &personal] {
        case.sidecar.api(ended, "GET /v1/me", "").assert_error(401, "token_revoked");
    }
    assert_eq!(log_in(OTHER_PASSWORD).0, 401);
    let me = case.sidecar.api(&owners, "GET /v1/me", "").json();
    assert_eq!(me["user"]["auth"], json!(["google_oauth"]));

    // Once the address has been shown to be theirs, a password beside it is theirs too.
    let reset = format!("POST /v1/organization/{ORGANIZATION}/user/{user}/reset_password");
    let code = case.api(&reset, &json!({}))["code"].clone();
    assert_eq!(set_up(&code, PASSWORD).0, 200);
    let provider = case.identity_provider(json!({}));
    assert_eq!(case.user_of(&case.token(&provider, "jane")), user);
    assert_eq!(log_in(PASSWORD).0, 200);
}

#[test]
fn a_password_that_the_operator_gave_stays() {
    let google = |issuer: &str| third_party("google", &format!("issuer = \"{issuer}\""));
    let Some(case) = Case::start_with(google, json!({})) else { return };
    let new = operations::NewPerson {
        email: "jane@example.com".into(),
        real_name: "Jane".into(),
        organization_id: ORGANIZATION.into(),
        is_super_admin: true,
        password_hash: Some("$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".into()),
    };
    let store = &*case.sidecar.directory.store;
    let user = operations::create_person(store, &new, now()).unwrap().value.user.id;
    assert_eq!(case.user_of(&case.token("google", "workspace")), user);
    assert!(store.read(|records| records.password(&user)).unwrap().is_some());
}

#[test]
fn only_the_right_people_get_through_an_identity_provider() {
    let Some(case) = Case::start() else { return };
    let provider = case.identity_provider(json!({}));
    case.sign_in(&provider, "unverified").assert_refused(403, "email_not_verified");
    case.sign_in(&provider, "nobody").assert_refused(403, "email_not_verified");
    case.sign_in(&provider, "elsewhere").assert_refused(403, "domain_not_linked");
    case.token(&provider, "jane");
    let target = format!("/v1/account/{ORGANIZATION}/authentication/{provider}");
    case.api(&format!("PUT {target}"), &json!({"linked_domains": []}));
    case.sign_in(&provider, "jane").assert_refused(403, "domain_not_linked");
    // Switched off while the browser is away.
    let mut browser = case.browser();
    let back = case.come_back(&mut browser, &provider, "jane");
    case.api(&format!("PUT {target}"), &json!({"authentication_method_enabled": false}));
    browser.accept = "application/json";
    browser.get(&back).assert_refused(404, "not_found");
    browser.get(&start(&provider)).assert_refused(404, "not_found");
    browser.get(&start("am000000000000")).assert_refused(404, "not_found");
    browser.get(&start("google")).assert_refused(404, "not_found");
}

#[test]
fn an_answer_counts_only_where_and_when_it_was_asked_for() {
    let Some(case) = Case::start() else { return };
    let provider = case.identity_provider(json!({}));
    let mut browser = case.browser();
    let back = case.come_back(&mut browser, &provider, "jane");
    browser.accept = "application/json";

    // In a browser that did not begin: login CSRF.
    let mut other = case.browser();
    other.accept = "application/json";
    other.get(&back).assert_refused(400, "sign_in_not_begun_here");
    // In one that began another: still not.
    other.get(&start(&provider));
    other.get(&back).assert_refused(400, "sign_in_not_begun_here");
    // With another state, or none.
    browser.get(&with_query(&back, "state", "made-up")).assert_refused(400, "sign_in_not_begun_here");
    browser.get(&back.replace("state=", "stat=")).assert_refused(400, "sign_in_not_begun_here");
    // With a cookie that was tampered with.
    let cookie = browser.cookie(COOKIE).unwrap().to_owned();
    let (start_of_it, rest) = cookie.split_at(cookie.len() / 2);
    let other = if rest.starts_with('A') { "B" } else { "A" };
    browser.set_cookie("postern.test", COOKIE, &format!("{start_of_it}{other}{}", &rest[1..]));
    browser.get(&back).assert_refused(400, "sign_in_not_begun_here");
    browser.set_cookie("postern.test", COOKIE, &cookie);
    // None of that has spent it.
    assert_eq!(browser.get(&back).status, 200);
    assert_eq!(browser.cookie(COOKIE), None, "it is over");
    browser.get(&back).assert_refused(400, "sign_in_not_begun_here");
    // With the cookie put back the answer is known.
    browser.set_cookie("postern.test", COOKIE, &cookie);
    browser.get(&back).assert_refused(400, "sign_in_replayed");

    let counted =
        |outcome: &str| case.sidecar.metric(&format!("postern_sign_ins_total{{outcome=\"{outcome}\"}}"));
    assert!((counted("succeeded") - 1.0).abs() < 0.1, "{}", counted("succeeded"));
    assert!((counted("not_begun_here") - 6.0).abs() < 0.1, "{}", counted("not_begun_here"));
    assert!((counted("failed") - 1.0).abs() < 0.1, "{}", counted("failed"));

    // As an answer of another issuer: mix-up.
    let back = case.come_back(&mut browser, &provider, "jane");
    let mixed = with_query(&back, "iss", "https://attacker.example");
    browser.get(&mixed).assert_refused(403, "identity_not_believed");
    // The provider says no.
    let begun = browser.get(&start(&provider)).location.unwrap();
    let state = query(&begun, "state").unwrap();
    let declined = format!("{PUBLIC_URL}/v1/userauth/sign_in/callback?error=access_denied&state={state}");
    browser.get(&declined).assert_refused(403, "sign_in_declined");
}

#[test]
fn a_token_for_another_sign_in_is_not_believed() {
    let Some(case) = Case::start() else { return };
    let provider = case.identity_provider(json!({}));
    let mut browser = case.browser();
    browser.accept = "text/html";
    // With another nonce than the one this sign-in began with.
    let begun = browser.get(&start(&provider)).location.unwrap();
    let back = browser.log_in_at_provider(&with_query(&begun, "nonce", "another"), "jane");
    browser.accept = "application/json";
    browser.get(&back).assert_refused(403, "identity_not_believed");
    // A code that was given for another sign-in: PKCE.
    let mut attacker = case.browser();
    let stolen = query(&case.come_back(&mut attacker, &provider, "jane"), "code").unwrap();
    browser.accept = "text/html";
    let own = case.come_back(&mut browser, &provider, "jane");
    browser.accept = "application/json";
    browser.get(&with_query(&own, "code", &stolen)).assert_refused(400, "sign_in_code_refused");
}

#[test]
fn a_command_line_gets_its_token_with_its_secret_only() {
    let Some(case) = Case::start() else { return };
    let provider = case.identity_provider(json!({}));
    let begin = |browser: &mut Browser, more: &str| {
        let url =
            format!("{}?code_challenge={}&code_challenge_method=S256{more}", start(&provider), challenge());
        let begun = browser.get(&url);
        assert_eq!(begun.status, 303, "{}", begun.text);
        browser.log_in_at_provider(&begun.location.unwrap(), "jane")
    };
    let turn_in = |code: &str, verifier: &str| {
        let body = json!({"code": code, "code_verifier": verifier}).to_string();
        case.sidecar.api("", "POST /v1/userauth/sign_in/token", &body)
    };
    // To a port on the same machine.
    let mut browser = case.browser();
    let back = begin(&mut browser, "&port=8400&state=theirs");
    let shown = browser.get(&back);
    let location = shown.location.unwrap();
    assert!(location.starts_with("http://127.0.0.1:8400/?"), "{location}");
    assert_eq!(query(&location, "state").as_deref(), Some("theirs"));
    let code = query(&location, "code").unwrap();
    let session = turn_in(&code, VERIFIER);
    assert_eq!(session.status, 200, "{}", session.text());
    assert_eq!(session.json()["user_email"], "jane@example.com");
    let token = session.json()["token"].as_str().unwrap().to_owned();
    case.until_proxied(&token, 403);
    // Once.
    turn_in(&code, VERIFIER).assert_error(400, "sign_in_code_refused");

    // By hand: the page shows the code, and what it is for.
    let back = begin(&mut browser, "");
    let shown = browser.get(&back);
    assert_eq!(
        (shown.status, &shown.headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(shown.text.contains("jane@example.com"), "{}", shown.text);
    let code = shown.copied();
    assert_eq!(turn_in(&code.to_lowercase(), VERIFIER).status, 200);

    // Without the secret it is worth nothing, and is spent.
    let back = begin(&mut browser, "");
    let code = browser.get(&back).copied();
    turn_in(&code, &"x".repeat(50)).assert_error(400, "sign_in_code_refused");
    turn_in(&code, VERIFIER).assert_error(400, "sign_in_code_refused");
    turn_in("MADEUP", VERIFIER).assert_error(400, "sign_in_code_refused");

    // What cannot be meant is named.
    browser.accept = "application/json";
    for (query, field) in [
        ("code_challenge=short", "code_challenge"),
        (&format!("code_challenge={}&code_challenge_method=plain", challenge()), "code_challenge_method"),
        (&format!("code_challenge={}&port=0", challenge()), "port"),
        (&format!("code_challenge={}&state=a%20b", challenge()), "state"),
        ("port=8400", "code_challenge"),
    ] {
        let refused = browser.get(&format!("{}?{query}", start(&provider)));
        refused.assert_refused(400, "bad_request");
        assert!(refused.json()["message"].as_str().unwrap().starts_with(field), "{}", refused.text);
    }
}

#[test]
fn a_browser_is_shown_its_token_once_on_a_page_that_tells_nobody() {
    let Some(case) = Case::start() else { return };
    let provider = case.identity_provider(json!({}));
    let mut browser = case.browser();
    let begun = browser.get(&start(&provider));
    let cookie = begun.headers["set-cookie"].to_str().unwrap();
    for attribute in ["__Host-", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/", "; Max-Age=600"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let begun = begun.location.unwrap();
    assert_eq!(query(&begun, "code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(query(&begun, "redirect_uri"), Some(format!("{PUBLIC_URL}/v1/userauth/sign_in/callback")));
    let back = browser.log_in_at_provider(&begun, "jane");
    let shown = browser.get(&back);
    case.until_proxied(&shown.copied(), 403);
    let header = |name: &str| shown.headers[name].to_str().unwrap();
    assert_eq!((header("cache-control"), header("referrer-policy")), ("no-store", "no-referrer"));
    assert!(header("content-security-policy").contains("default-src 'none'"));
    // A refusal is a page too.
    let refused = browser.get(&back);
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("You are not logged in"), "{}", refused.text);
    // Neither the token nor what led to it is in the log.
    let output = case.sidecar.output();
    for secret in
        [shown.copied(), query(&back, "code").unwrap(), query(&back, "state").unwrap(), CLIENT_SECRET.into()]
    {
        assert!(!output.contains(&secret), "{secret} is in the log: {output}");
    }
}

#[test]
fn third_parties_sign_in_people_who_are_known_or_invited() {
    let lines = |issuer: &str| {
        let issuer = format!("issuer = \"{issuer}\"");
        third_party("google", &issuer) + &third_party("microsoft", &issuer)
    };
    // These claims come as user info, after the ID token.
    let Some(case) = Case::start_with(lines, json!({"claimsInUserInfo": true})) else { return };
    case.sign_in("google", "gmail").assert_refused(403, "user_not_invited");
    let (gmail, _) = case.sidecar.directory.person("jane@gmail.com");
    assert_eq!(case.user_of(&case.token("google", "gmail")), gmail);
    let (jane, _) = case.sidecar.directory.person("jane@example.com");
    // Google's word counts for what it serves itself.
    case.sign_in("google", "consumer").assert_refused(403, "email_not_verified");
    // Microsoft's for domains that the tenant owns. The discovery document is of this issuer, so no template is needed.
    case.sign_in("microsoft", "unverified").assert_refused(403, "email_not_verified");
    assert_eq!(case.user_of(&case.token("microsoft", "owned")), jane);
    // Somebody who is switched off.
    let store = &*case.sidecar.directory.store;
    let off = postern::policy::facts::UserState::Deactivated;
    operations::set_user_state(store, &jane, off, now()).unwrap();
    case.sign_in("microsoft", "owned").assert_refused(403, "user_deactivated");
}

#[test]
fn login_options_say_the_way_without_saying_who_is_there() {
    let google = |issuer: &str| third_party("google", &format!("issuer = \"{issuer}\""));
    let Some(case) = Case::start_with(google, json!({})) else { return };
    let provider = case.identity_provider(json!({}));
    case.sidecar.directory.person("jane@example.com");
    case.sidecar.directory.person("jane@elsewhere.example");
    let options = |body: Value| {
        let response = case.sidecar.api("", "POST /v1/userauth/login_options", &body.to_string());
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    };
    let known = options(json!({"email": "jane@example.com"}));
    assert_eq!(
        (&known["action"], &known["method"], &known["name"]),
        (&json!("saml"), &json!("GET"), &json!("Example's own"))
    );
    assert_eq!(known["redirect_url"], start(&provider));
    assert_eq!(options(json!({"email": "Nobody@EXAMPLE.com"})), known);
    let password = options(json!({}));
    assert_eq!(password["action"], "password");
    assert_eq!(password["login_methods"][1]["action"], "google_oauth");
    assert_eq!(password["login_methods"][1]["redirect_url"], start("google"));
    for email in ["jane@elsewhere.example", "nobody@elsewhere.example"] {
        assert_eq!(options(json!({"email": email})), password, "{email}");
    }
    case.sidecar
        .api("", "POST /v1/userauth/login_options", r#"{"email": "no address"}"#)
        .assert_error(400, "bad_request");
    // Switched off it is no way.
    let target = format!("PUT /v1/account/{ORGANIZATION}/authentication/{provider}");
    case.api(&target, &json!({"authentication_method_enabled": false}));
    assert_eq!(options(json!({"email": "jane@example.com"})), password);
}

#[test]
fn identity_providers_are_set_up_in_aivens_wire_format() {
    let Some(case) = Case::start() else { return };
    let target = format!("/v1/account/{ORGANIZATION}/authentication");
    // What the Go client sends for SAML; it is kept, and nobody can sign in with it yet.
    let made = case.api(
        &format!("POST {target}"),
        &json!({
            "authentication_method_name": "SAML",
            "authentication_method_type": "saml",
            "saml_idp_url": "https://idp.example.com/saml",
            "saml_entity_id": "https://idp.example.com",
            "saml_certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "saml_digest_algorithm": "sha256",
            "saml_signature_algorithm": "rsa-sha256",
            "saml_field_mapping": {"email": "mail"},
            "saml_idp_login_allowed": true,
            "auto_join_user_group_id": "",
        }),
    );
    let made = &made["authentication_method"];
    let id = made["authentication_method_id"].as_str().unwrap();
    for (field, value) in [
        ("account_id", json!(ORGANIZATION)),
        ("authentication_method_type", json!("saml")),
        ("authentication_method_enabled", json!(false)),
        ("state", json!("active")),
        ("saml_idp_url", json!("https://idp.example.com/saml")),
        ("saml_digest_algorithm", json!("sha256")),
        ("saml_signature_algorithm", json!("rsa-sha256")),
        ("saml_field_mapping", json!({"email": "mail"})),
        ("auto_join_user_group_id", json!(null)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let shown = case.api(&format!("GET {target}/{id}?limit=999"), &json!({}));
    assert_eq!(&shown["authentication_method"], made);
    let changed = case.api(
        &format!("PUT {target}/{id}"),
        &json!({
            "authentication_method_name": "Renamed",
            "authentication_method_enabled": true,
            "auth_token_max_age_seconds": 600,
            "saml_idp_url": "https://idp.example.com/other",
        }),
    );
    let changed = &changed["authentication_method"];
    assert_eq!(changed["authentication_method_name"], "Renamed");
    assert_eq!(
        (&changed["auth_token_max_age_seconds"], &changed["saml_entity_id"]),
        (&json!(600), &made["saml_entity_id"])
    );
    let cleared = case.api(&format!("PUT {target}/{id}"), &json!({"auth_token_max_age_seconds": null}));
    assert_eq!(cleared["authentication_method"]["auth_token_max_age_seconds"], json!(null));
    let mut browser = case.browser();
    browser.accept = "application/json";
    browser.get(&start(id)).assert_refused(404, "not_found");

    let oidc = case.identity_provider(json!({}));
    let shown = case.api(&format!("GET {target}/{oidc}"), &json!({}));
    let shown = &shown["authentication_method"];
    assert_eq!(shown["linked_domains"], json!([{"domain_id": case.domain}]));
    assert_eq!(shown["oidc_redirect_uri"], format!("{PUBLIC_URL}/v1/userauth/sign_in/callback"));
    assert!(!shown.to_string().contains(CLIENT_SECRET) && shown.get("oidc_client_secret").is_none());
    // Its secret does not go to another issuer.
    let elsewhere = json!({"oidc_issuer": "https://elsewhere.example"});
    let moved = case.sidecar.api(&case.admin, &format!("PUT {target}/{oidc}"), &elsewhere.to_string());
    moved.assert_error(400, "bad_request");
    let message = moved.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("oidc_client_secret: "), "{message}");
    let same = json!({"oidc_issuer": case.provider.issuer, "oidc_client_id": "other"});
    case.api(&format!("PUT {target}/{oidc}"), &same);
    for secret in [json!("the new one's"), json!(null)] {
        let moving = json!({"oidc_issuer": "https://elsewhere.example", "oidc_client_secret": secret});
        case.api(&format!("PUT {target}/{oidc}"), &moving);
        case.api(
            &format!("PUT {target}/{oidc}"),
            &json!({"oidc_issuer": case.provider.issuer, "oidc_client_secret": CLIENT_SECRET}),
        );
    }
    let list = case.api(&format!("GET {target}"), &json!({}));
    assert_eq!(list["authentication_methods"].as_array().unwrap().len(), 2);

    let create = |body: Value| case.sidecar.api(&case.admin, &format!("POST {target}"), &body.to_string());
    let with = |more: Value| {
        let mut body = json!({"authentication_method_name": "x", "authentication_method_type": "oidc"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(body)
    };
    for (more, field) in [
        (json!({"oidc_issuer": "http://idp.example.com"}), "oidc_issuer"),
        (json!({"oidc_issuer": "https://idp.example.com?x=1"}), "oidc_issuer"),
        (json!({"oidc_issuer": "https://user:password@idp.example.com"}), "oidc_issuer"),
        (json!({"oidc_client_secret": ""}), "oidc_client_secret"),
        (json!({"oidc_scopes": ["with space"]}), "oidc_scopes"),
        (json!({"auth_token_max_age_seconds": 5}), "auth_token_max_age_seconds"),
        (json!({"scim_enabled": true}), "scim_enabled"),
        (json!({"auto_join_team_id": "at1"}), "auto_join_team_id"),
        (json!({"authentication_method_type": "internal"}), "authentication_method_type"),
        (json!({"authentication_method_type": "ldap"}), "authentication_method_type"),
        (json!({"authentication_method_type": "saml", "oidc_client_id": "x"}), "oidc_issuer"),
        (json!({"saml_digest_algorithm": "md5"}), "saml_digest_algorithm"),
        (json!({"authentication_method_name": ""}), "authentication_method_name"),
        (json!({"surprise": 1}), "surprise"),
    ] {
        let refused = with(more.clone());
        refused.assert_error(400, "bad_request");
        assert!(refused.json()["message"].as_str().unwrap().contains(field), "{more}: {}", refused.text());
    }
    with(json!({"linked_domains": [{"domain_id": "dom000000000000"}]})).assert_error(404, "not_found");
    with(json!({"auto_join_user_group_id": "ug000000000000"})).assert_error(404, "not_found");
    // Nobody but an admin of the whole organization.
    let member = &case.sidecar.permitted.token;
    let minimal = r#"{"authentication_method_name": "x", "authentication_method_type": "oidc"}"#;
    for (method, body) in [("GET", ""), ("POST", minimal)] {
        let refused = case.sidecar.api(member, &format!("{method} {target}"), body);
        refused.assert_error(403, "permission_denied");
    }
    case.sidecar
        .api(&case.admin, "GET /v1/account/org-of-others/authentication", "")
        .assert_error(404, "not_found");
    let removed = case.api(&format!("DELETE {target}/{id}"), &json!({}));
    assert_eq!(removed, json!({}));
    case.sidecar.api(&case.admin, &format!("GET {target}/{id}"), "").assert_error(404, "not_found");
}

#[test]
fn a_provider_that_cannot_be_used_is_not_waited_for_and_says_nothing_to_strangers() {
    let Some(case) = Case::start() else { return };
    let mut browser = case.browser();
    browser.accept = "application/json";
    // Nothing listens there.
    let gone = case.identity_provider(json!({"oidc_issuer": "http://127.0.0.1:9"}));
    let refused = browser.get(&start(&gone));
    refused.assert_refused(502, "identity_provider_unreachable");
    assert!(!refused.text.contains("127.0.0.1"), "{}", refused.text);
    // Its document is of somebody else.
    let other = case.identity_provider(json!({"oidc_issuer": format!("{}/", case.provider.issuer)}));
    browser.get(&start(&other)).assert_refused(502, "identity_provider_unusable");
    // What is behind the firewall is not called, redirects are not followed, and endless answers end.
    for address in ["https://10.0.0.1", "https://[::1]:9", "https://169.254.169.254"] {
        let inside = case.identity_provider(json!({"oidc_issuer": address}));
        browser.get(&start(&inside)).assert_refused(502, "identity_provider_unreachable");
    }
    let issuer = case.provider.issuer.clone();
    let redirecting = stub::http(None, move |_| {
        (302, format!("Location: {issuer}/.well-known/openid-configuration\r\n"), String::new())
    });
    let endless = stub::http(None, |_| (200, String::new(), "{".repeat(1 << 20)));
    for address in [redirecting, endless] {
        let there = case.identity_provider(json!({"oidc_issuer": format!("http://{address}")}));
        browser.get(&start(&there)).assert_refused(502, "identity_provider_unreachable");
    }
    // Without a public address there is no way at all.
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let mut browser = Browser::new(sidecar.admin.unwrap());
    browser.accept = "application/json";
    browser.get(&start("google")).assert_refused(404, "sign_in_not_set_up");
}

/// What GitHub documents of its OAuth web application flow, of `GET /user` and of `GET /user/emails`.
fn github(emails: Value) -> std::net::SocketAddr {
    stub::http(None, move |asked| {
        let json = |status: u16, body: Value| {
            (status, "Content-Type: application/json\r\n".into(), body.to_string())
        };
        let authorized = asked.headers.get("authorization").is_some_and(|value| value == "Bearer gho_token");
        let form = reqwest::Url::parse(&format!("http://form/?{}", asked.body)).unwrap();
        let field = |name: &str| query(form.as_str(), name).unwrap_or_default();
        match asked.target.as_str() {
            "/login/oauth/access_token" if asked.headers["accept"] != "application/json" => {
                (200, String::new(), "access_token=gho_token&token_type=bearer".into())
            }
            "/login/oauth/access_token" => {
                let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(field("code_verifier").as_bytes()));
                let right = field("client_id") == CLIENT_ID
                    && field("client_secret") == CLIENT_SECRET
                    && field("code") == challenge
                    && field("redirect_uri") == format!("{PUBLIC_URL}/v1/userauth/sign_in/callback");
                // Refusals are 200 too.
                match right {
                    true => json(
                        200,
                        json!({"access_token": "gho_token", "scope": "user:email", "token_type": "bearer"}),
                    ),
                    false => {
                        json(200, json!({"error": "bad_verification_code", "error_description": "expired"}))
                    }
                }
            }
            _ if !authorized || !asked.headers.contains_key("user-agent") => {
                json(401, json!({"message": "Bad credentials"}))
            }
            "/user" => json(
                200,
                json!({"id": 583_231, "login": "octocat", "name": null, "email": "public@elsewhere.example"}),
            ),
            "/user/emails" => json(200, emails.clone()),
            _ => json(404, json!({"message": "Not Found"})),
        }
    })
}

#[test]
fn github_counts_with_its_verified_primary_address_only() {
    let address = |email: &str, primary: bool, verified: bool| json!({"email": email, "primary": primary, "verified": verified, "visibility": null});
    let cases = [
        (json!([address("other@example.com", false, true), address("jane@example.com", true, true)]), Ok(())),
        (json!([address("jane@example.com", true, false)]), Err("email_not_verified")),
        (json!([address("jane@example.com", false, true)]), Err("email_not_verified")),
        (json!([]), Err("email_not_verified")),
        (json!([address("stranger@example.com", true, true)]), Err("user_not_invited")),
    ];
    for (emails, expect) in cases {
        let server = github(emails);
        let upstream = Upstream::echo();
        let endpoints = format!(
            "authorization_endpoint = \"http://{server}/login/oauth/authorize\"\n\
             token_endpoint = \"http://{server}/login/oauth/access_token\"\n\
             user_endpoint = \"http://{server}/user\"\nemails_endpoint = \"http://{server}/user/emails\""
        );
        let lines = format!("public_url = \"{PUBLIC_URL}\"\n{}{HTTP}", third_party("github", &endpoints));
        let sidecar = Sidecar::in_front_of(&upstream).admin(&lines).start();
        let (jane, _) = sidecar.directory.person("jane@example.com");
        let mut browser = Browser::new(sidecar.admin.unwrap());
        browser.accept = "application/json";
        let back = |browser: &mut Browser| {
            let begun = browser.get(&start("github")).location.unwrap();
            assert!(begun.starts_with(&format!("http://{server}/login/oauth/authorize?")), "{begun}");
            let [state, challenge] = ["state", "code_challenge"].map(|name| query(&begun, name).unwrap());
            // The code is made of the challenge, so that the server can check the verifier without remembering.
            format!("{PUBLIC_URL}/v1/userauth/sign_in/callback?code={challenge}&state={state}")
        };
        let address = back(&mut browser);
        let shown = browser.get(&address);
        match expect {
            Err(code) => shown.assert_refused(403, code),
            Ok(()) => {
                assert_eq!(shown.status, 200, "{}", shown.text);
                let token = shown.json()["token"].as_str().unwrap().to_owned();
                let stored = sidecar.directory.stored(&token[..17]).token;
                assert_eq!(stored.user_id, jane);
                let methods =
                    sidecar.directory.store.read(|records| records.authentication_methods(&jane)).unwrap();
                let github = methods
                    .iter()
                    .find(|method| Some(&method.id) == stored.authentication_method_id.as_ref());
                assert_eq!(github.unwrap().subject, Some(format!("http://{server} 583231")));
                let wrong = with_query(&back(&mut browser), "code", "another");
                browser.get(&wrong).assert_refused(400, "sign_in_code_refused");
            }
        }
    }
}

/// The flow without a sidecar, so that the clock can be set.
struct Direct {
    settings: OidcSettings,
    providers: Providers,
    outgoing: Outgoing,
    redirect_uri: String,
}

impl Direct {
    fn new(issuer: &str) -> Self {
        let outgoing = OutgoingConfig {
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(15),
            private_networks: vec!["127.0.0.0/8".parse().unwrap()],
            domain_check_port: 443,
        };
        let names = Names::new(&["127.0.0.1:9".parse().unwrap()]).unwrap();
        Self {
            settings: OidcSettings {
                issuer: issuer.into(),
                client_id: CLIENT_ID.into(),
                client_secret: Some(CLIENT_SECRET.into()),
                scopes: vec!["email".into()],
                flavour: Flavour::Standard,
                authorization_endpoint: None,
                token_endpoint: None,
            },
            providers: Providers::default(),
            outgoing: Outgoing::new(&outgoing, &names).unwrap(),
            redirect_uri: format!("{PUBLIC_URL}/v1/userauth/sign_in/callback"),
        }
    }

    fn oidc(&self) -> Oidc<'_> {
        Oidc {
            settings: &self.settings,
            redirect_uri: &self.redirect_uri,
            providers: &self.providers,
            outgoing: &self.outgoing,
        }
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn log_in(begun: &str) -> String {
    let mut browser = Browser::new("127.0.0.1:9".parse().unwrap());
    query(&browser.log_in_at_provider(begun, "jane"), "code").unwrap()
}

#[test]
fn a_token_ends_by_the_clock_that_is_passed_in() {
    let Some(provider) = oidc_provider::start(accounts(), json!({})) else { return };
    let direct = Direct::new(&provider.issuer);
    for (later, expect) in [(0, true), (550, true), (900, false), (4000, false)] {
        let (url, secrets) = wait(direct.oidc().begin(None, now())).unwrap();
        let code = log_in(&url);
        let then = Timestamp(now().0 + later);
        let finished = wait(direct.oidc().finish(&code, Some(&provider.issuer), &secrets, then));
        match finished {
            Ok(identity) => {
                assert!(expect, "{later} s later");
                assert_eq!(identity.email, Email::Verified("jane@example.com".into()));
            }
            Err(OidcError::NotBelieved { reason }) => assert!(!expect, "{later} s later: {reason}"),
            Err(error) => panic!("{error}"),
        }
    }
    // A token from the future.
    let (url, secrets) = wait(direct.oidc().begin(None, now())).unwrap();
    let finished = wait(direct.oidc().finish(&log_in(&url), None, &secrets, Timestamp(now().0 - 300)));
    assert!(matches!(finished, Err(OidcError::NotBelieved { .. })), "{finished:?}");
}

#[test]
fn new_keys_of_a_provider_are_fetched_when_they_are_met() {
    let Some(first) = oidc_provider::start(accounts(), json!({})) else { return };
    let issuer = first.issuer.clone();
    let direct = Direct::new(&issuer);
    let started = now();
    let (_, _) = wait(direct.oidc().begin(None, started)).unwrap();
    drop(first);
    let port = reqwest::Url::parse(&issuer).unwrap().port().unwrap();
    let Some(second) = oidc_provider::start(accounts(), json!({"port": port})) else { return };
    assert_eq!(second.issuer, issuer);
    let finish = |later: u32| {
        let (url, secrets) = wait(direct.oidc().begin(None, started)).unwrap();
        wait(direct.oidc().finish(&log_in(&url), Some(&issuer), &secrets, Timestamp(started.0 + later)))
    };
    // Not at once again: a made-up key must not make us ask the provider each time.
    assert!(matches!(finish(1), Err(OidcError::NotBelieved { .. })));
    assert_eq!(finish(40).unwrap().email, Email::Verified("jane@example.com".into()));
}
