//! Signing in through others: what is set up, what is remembered while a browser is away, and how a command line gets
//! what a browser has earned.
//!
//! While a browser is at the provider nothing is kept here: what has to be remembered travels in a sealed cookie
//! ([`flow`]), so that any number of people who begin and never come back cost no memory, and a link that somebody else
//! began is worthless in this browser. A command line begins with the digest of a secret of its own and gets, through
//! the browser, a code that only this secret turns into a token ([`handover`]): no token ever stands in an address.
//!
//! What must not live here: HTTP of the management API, and whose account an identity is
//! ([`crate::directory::operations::sign_in`]).

pub mod flow;
pub mod handover;
mod slots;

use std::net::IpAddr;

use secrecy::SecretString;

use super::domain::DomainCheck;
use super::github::{GitHub, GitHubSettings};
use super::identity::Identity;
use super::oidc::{Flavour, Oidc, OidcError, OidcSettings, Providers};
use super::outgoing::{Names, Outgoing};
use crate::config::{AdminConfig, ThirdPartyConfig, ThirdPartyProtocol};
use crate::directory::model::{IdentityProvider, IdentityProviderKind, Timestamp};
use crate::directory::operations::Via;
use crate::policy::method::ThirdParty;
use flow::{Flow, FlowKey, HandOver};
use handover::HandOvers;
use slots::Slots;

/// Path of the address that providers send browsers back to, behind the public address.
pub const CALLBACK_PATH: &str = "/v1/userauth/sign_in/callback";

/// How long somebody may take at the provider, in seconds.
pub const FLOW_SECONDS: u32 = 600;

/// What an identity provider is asked for if nobody says what.
const DEFAULT_SCOPES: [&str; 2] = ["email", "profile"];

/// How somebody is spoken to.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// OpenID Connect.
    Oidc(OidcSettings),
    /// GitHub's OAuth.
    GitHub(GitHubSettings),
}

/// What the configuration says of signing in through others, ready for use; replaced whole at a reload.
#[derive(Debug)]
pub struct Others {
    /// Where browsers find the management API; `None`: nobody can sign in through others.
    public_url: Option<String>,
    third_parties: Vec<ThirdPartyConfig>,
    reach: Result<DomainCheck, String>,
}

/// What lives as long as the process.
#[derive(Debug)]
pub struct SignIn {
    key: FlowKey,
    used: flow::Used,
    /// Codes that wait for their command lines.
    pub hand_overs: HandOvers,
    providers: Providers,
    slots: Slots,
}

/// A browser is to be sent away.
#[derive(Debug)]
pub struct Begun {
    /// To there.
    pub redirect_url: String,
    /// With this cookie for us.
    pub cookie: String,
}

/// A browser has come back, and who it is has been checked.
#[derive(Debug)]
pub struct Arrived {
    /// Through whom.
    pub via: Via,
    /// Who it is there.
    pub identity: Identity,
    /// Who gets the token.
    pub hand_over: HandOver,
}

/// Why somebody did not get through.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Nobody can.
    #[error("signing in through others is not set up here: {0}")]
    NotSetUp(String),
    /// There is no such third party or identity provider, or it is switched off, or not set up.
    #[error("there is nothing by this name to sign in with")]
    NoSuchProvider,
    /// The browser has no cookie of ours, or it is not for this answer.
    #[error(
        "this browser did not begin this sign-in, or began another one since; begin again, and allow cookies for \
         this site"
    )]
    NotBegunHere,
    /// It took too long.
    #[error("this sign-in took longer than {} minutes; begin again", FLOW_SECONDS / 60)]
    Expired,
    /// The same answer came before.
    #[error("this sign-in has been completed before; begin again")]
    Replayed,
    /// The provider says that it did not happen.
    #[error("the provider did not sign you in: {0}")]
    Declined(String),
    /// Too many at once.
    #[error("too many are signing in at this moment; try again in a few seconds")]
    Busy,
    /// The provider cannot be reached, or its answer does not hold.
    #[error(transparent)]
    Provider(#[from] OidcError),
}

impl Others {
    /// Made ready. What cannot be used is told to who needs it, for the data plane must not wait for it.
    pub fn new(config: &AdminConfig) -> Self {
        let reach =
            Names::new(&config.resolver_addresses).map_err(|error| error.to_string()).and_then(|names| {
                let outgoing = Outgoing::new(&config.outgoing, &names).map_err(|error| error.to_string())?;
                Ok(DomainCheck { names, outgoing, port: config.outgoing.domain_check_port })
            });
        if let Err(reason) = &reach {
            tracing::warn!(reason, "nobody can sign in through others, and no domain can be verified");
        }
        Self { public_url: config.public_url.clone(), third_parties: config.third_parties.clone(), reach }
    }

    /// The third parties that are set up; none without an address for browsers.
    pub fn third_parties(&self) -> impl Iterator<Item = ThirdParty> {
        let reachable = self.public_url.is_some();
        self.third_parties.iter().filter(move |_| reachable).map(|party| party.kind)
    }

    /// Where browsers come back to.
    ///
    /// # Errors
    ///
    /// If nobody has said.
    pub fn public_url(&self) -> Result<&str, SignInError> {
        let url = self.public_url.as_deref();
        url.ok_or_else(|| SignInError::NotSetUp("set `public_url` under [admin]".to_owned()))
    }

    /// How domains are checked.
    ///
    /// # Errors
    ///
    /// If requests to others could not be set up.
    pub fn domain_check(&self) -> Result<&DomainCheck, SignInError> {
        self.reach.as_ref().map_err(|reason| SignInError::NotSetUp(reason.clone()))
    }

    fn outgoing(&self) -> Result<&Outgoing, SignInError> {
        self.domain_check().map(|check| &check.outgoing)
    }

    fn redirect_uri(&self) -> Result<String, SignInError> {
        Ok(format!("{}{CALLBACK_PATH}", self.public_url()?))
    }

    /// How a third party is spoken to.
    ///
    /// # Errors
    ///
    /// If it is not set up.
    pub fn third_party(&self, kind: ThirdParty) -> Result<Protocol, SignInError> {
        let party = self.third_parties.iter().find(|party| party.kind == kind);
        party.map(protocol).ok_or(SignInError::NoSuchProvider)
    }
}

fn protocol(party: &ThirdPartyConfig) -> Protocol {
    let (client_id, client_secret) = (party.client_id.clone(), party.client_secret.clone());
    match &party.protocol {
        ThirdPartyProtocol::GitHub {
            authorization_endpoint,
            token_endpoint,
            user_endpoint,
            emails_endpoint,
        } => Protocol::GitHub(GitHubSettings {
            client_id,
            client_secret,
            authorization_endpoint: authorization_endpoint.clone(),
            token_endpoint: token_endpoint.clone(),
            user_endpoint: user_endpoint.clone(),
            emails_endpoint: emails_endpoint.clone(),
        }),
        ThirdPartyProtocol::OpenIdConnect { issuer, authorization_endpoint, token_endpoint } => {
            Protocol::Oidc(OidcSettings {
                issuer: issuer.clone(),
                client_id,
                client_secret: Some(client_secret),
                scopes: DEFAULT_SCOPES.map(str::to_owned).to_vec(),
                flavour: match party.kind {
                    ThirdParty::Google => Flavour::Google,
                    ThirdParty::Microsoft => Flavour::Microsoft,
                    ThirdParty::GitHub => Flavour::Standard,
                },
                authorization_endpoint: authorization_endpoint.clone(),
                token_endpoint: token_endpoint.clone(),
            })
        }
    }
}

/// How an identity provider is spoken to, as its organization has set it up.
///
/// # Errors
///
/// If it is switched off, of a kind that nobody can sign in with, or not set up.
pub fn identity_provider(
    provider: &IdentityProvider,
    client_secret: Option<SecretString>,
) -> Result<Protocol, SignInError> {
    let settings = &provider.settings;
    match (provider.kind, &settings.oidc_issuer, &settings.oidc_client_id) {
        (IdentityProviderKind::Oidc, Some(issuer), Some(client_id)) if provider.enabled => {
            let scopes = match settings.oidc_scopes.as_slice() {
                [] => DEFAULT_SCOPES.map(str::to_owned).to_vec(),
                scopes => scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
            };
            Ok(Protocol::Oidc(OidcSettings {
                issuer: issuer.clone(),
                client_id: client_id.clone(),
                client_secret,
                scopes,
                flavour: Flavour::Standard,
                authorization_endpoint: None,
                token_endpoint: None,
            }))
        }
        // SAML has its place in the model and no more than that yet.
        (IdentityProviderKind::Oidc | IdentityProviderKind::Saml, ..) => Err(SignInError::NoSuchProvider),
    }
}

impl Default for SignIn {
    fn default() -> Self {
        Self {
            key: FlowKey::generate(),
            used: flow::Used::default(),
            hand_overs: HandOvers::default(),
            providers: Providers::default(),
            slots: Slots::default(),
        }
    }
}

impl SignIn {
    /// Begins: where to send the browser, and the cookie that binds what follows to it.
    ///
    /// # Errors
    ///
    /// If the provider cannot be reached or is not set up rightly, or too many begin at once.
    pub async fn begin(
        &self,
        others: &Others,
        with: (&Via, &Protocol),
        hand_over: HandOver,
        from: (IpAddr, Timestamp),
    ) -> Result<Begun, SignInError> {
        let ((via, protocol), (address, now)) = (with, from);
        let _slot = self.slots.enter(address).ok_or(SignInError::Busy)?;
        let (outgoing, redirect_uri) = (others.outgoing()?, others.redirect_uri()?);
        let (redirect_url, secrets) = match protocol {
            Protocol::Oidc(settings) => {
                let oidc =
                    Oidc { settings, redirect_uri: &redirect_uri, providers: &self.providers, outgoing };
                oidc.begin(None, now).await?
            }
            Protocol::GitHub(settings) => {
                GitHub { settings, redirect_uri: &redirect_uri, outgoing }.begin()?
            }
        };
        let expiry = Timestamp(now.0.saturating_add(FLOW_SECONDS));
        let flow = Flow { via: via.clone(), secrets, expiry, hand_over };
        Ok(Begun { redirect_url, cookie: self.key.seal(&flow) })
    }

    /// What a browser's cookie says it began.
    ///
    /// # Errors
    ///
    /// If it is none of ours, or it is over.
    pub fn flow(&self, cookie: Option<&str>, now: Timestamp) -> Result<Flow, SignInError> {
        let flow = cookie.and_then(|cookie| self.key.open(cookie)).ok_or(SignInError::NotBegunHere)?;
        if now >= flow.expiry { Err(SignInError::Expired) } else { Ok(flow) }
    }

    /// Ends what a browser began: checks that the answer is to it, and who it is.
    ///
    /// # Errors
    ///
    /// If it is not, came before, the provider refuses or cannot be reached, or what it says does not hold.
    pub async fn finish(
        &self,
        others: &Others,
        flow: Flow,
        protocol: &Protocol,
        answer: &Answer<'_>,
        from: (IpAddr, Timestamp),
    ) -> Result<Arrived, SignInError> {
        let (address, now) = from;
        flow.check_state(answer.state)?;
        if let Some(error) = answer.error {
            return Err(SignInError::Declined(printable(answer.error_description.unwrap_or(error))));
        }
        let code = answer.code.ok_or_else(|| SignInError::Declined("it sent no code".to_owned()))?;
        let _slot = self.slots.enter(address).ok_or(SignInError::Busy)?;
        if !self.used.first_time(&flow, now) {
            return Err(SignInError::Replayed);
        }
        let (outgoing, redirect_uri) = (others.outgoing()?, others.redirect_uri()?);
        let identity = match protocol {
            Protocol::Oidc(settings) => {
                let oidc =
                    Oidc { settings, redirect_uri: &redirect_uri, providers: &self.providers, outgoing };
                oidc.finish(code, answer.issuer, &flow.secrets, now).await?
            }
            Protocol::GitHub(settings) => {
                GitHub { settings, redirect_uri: &redirect_uri, outgoing }.finish(code, &flow.secrets).await?
            }
        };
        Ok(Arrived { via: flow.via, identity, hand_over: flow.hand_over })
    }
}

/// What a provider appended to the address it sent the browser back to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// What we had sent it.
    pub state: Option<&'a str>,
    /// To be exchanged.
    pub code: Option<&'a str>,
    /// RFC 9207: whose answer it is.
    pub issuer: Option<&'a str>,
    /// That it did not happen.
    pub error: Option<&'a str>,
    /// Why it did not.
    pub error_description: Option<&'a str>,
}

/// What somebody else wrote, fit to be shown.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests;
