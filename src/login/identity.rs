//! Who somebody is, as a third party or an identity provider says.

/// An identity that has been checked: it is what the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Issuer and subject: never changes, and is never given to somebody else.
    pub subject: String,
    /// The person's email address, and whether the provider's word for it counts.
    pub email: Email,
    /// What the person is called.
    pub name: Option<String>,
}

/// An email address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Email {
    /// The provider named none.
    None,
    /// Named, but anybody could have claimed it.
    Unverified(String),
    /// The person has shown to receive mail there.
    Verified(String),
}

/// Longest email address: RFC 5321's path, without its brackets.
const MAX_EMAIL: usize = 254;

/// The address in the form in which it is stored and compared; `None` if it is none.
pub fn canonical_email(text: &str) -> Option<String> {
    let email = text.trim().to_lowercase();
    let (local, domain) = email.split_once('@')?;
    let plain = email.len() <= MAX_EMAIL && email.chars().all(|c| !c.is_control() && !c.is_whitespace());
    // A second `@` is allowed in quotes by the standard, and by nobody who wants to get mail.
    (plain && !local.is_empty() && !domain.is_empty() && !domain.contains('@')).then_some(email)
}

/// The domain of an email address.
pub fn email_domain(email: &str) -> Option<&str> {
    email.rsplit_once('@').map(|(_, domain)| domain)
}
