//! Names for the numbers by which the directory in memory knows organizations, resources and identity providers: the
//! facts of a decision have only those.

use std::collections::HashMap;

use crate::directory::StoreError;
use crate::directory::store::Records;
use crate::directory::view::DirectoryView;
use crate::policy::{Check, MethodBinding};

/// Units above one another before the tree is taken for a knot.
const MAX_DEPTH: usize = 64;

/// What is known by name, as far as one decision needs it.
#[derive(Debug, Default)]
pub struct Names {
    organizations: HashMap<u32, String>,
    resources: HashMap<u32, String>,
    identity_providers: HashMap<u32, String>,
}

impl Names {
    /// The names that a decision about this token on this project may come across.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn of(
        records: &dyn Records,
        view: &DirectoryView,
        token_prefix: &str,
        project: Option<&str>,
    ) -> Result<Self, StoreError> {
        let mut names = Self::default();
        if let Some(project) = project {
            names.learn_resources(records, view, project)?;
        }
        for organization in records.organizations()? {
            names.learn_organization(records, view, &organization.id)?;
        }
        names.learn_binding(records, view, token_prefix)?;
        Ok(names)
    }

    /// Those of one organization alone, whose admins are told: what belongs to another one stays a number.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn within(
        records: &dyn Records,
        view: &DirectoryView,
        organization_id: &str,
        project: Option<&str>,
    ) -> Result<Self, StoreError> {
        let mut names = Self::default();
        if let Some(project) = project
            && let Some(found) = records.project(project)?
            && found.organization_id == organization_id
        {
            names.learn_resources(records, view, project)?;
        }
        names.learn_organization(records, view, organization_id)?;
        Ok(names)
    }

    /// The inputs of a check, with names in place of numbers.
    pub fn put_into(&self, check: Check, inputs: &str) -> String {
        let names = match check {
            Check::Member => &self.organizations,
            // A name says itself what kind of resource it is.
            Check::Granted => return replace_numbers(&inputs.replace("resource #", "#"), &self.resources),
            Check::MethodAllowed | Check::TwoFactor => &self.identity_providers,
            Check::NotRevoked
            | Check::NotExpired
            | Check::UserActive
            | Check::OrganizationAddresses
            | Check::TokenAddresses
            | Check::PersonalTokensEnabled
            | Check::Scopes => return inputs.to_owned(),
        };
        replace_numbers(inputs, names)
    }

    /// The project and what is above it: the view has the same chain in numbers.
    fn learn_resources(
        &mut self,
        records: &dyn Records,
        view: &DirectoryView,
        name: &str,
    ) -> Result<(), StoreError> {
        let (Some(project), Some(entry)) = (records.project(name)?, view.project(name).current.load_full())
        else {
            return Ok(());
        };
        let mut chain = vec![format!("project {}", project.name)];
        let mut next = project.unit_id;
        while let Some(id) = next
            && chain.len() <= MAX_DEPTH
            && let Some(unit) = records.unit(&id)?
        {
            chain.push(format!("unit {} ({})", unit.name, unit.id));
            next = unit.parent_id;
        }
        chain.push(format!("organization {}", project.organization_id));
        if chain.len() == entry.resource_chain.len() {
            self.resources.extend(entry.resource_chain.iter().map(|resource| resource.0).zip(chain));
        }
        Ok(())
    }

    /// An organization's number is known from any of its projects.
    fn learn_organization(
        &mut self,
        records: &dyn Records,
        view: &DirectoryView,
        id: &str,
    ) -> Result<(), StoreError> {
        for project in records.projects(id)? {
            let Some(entry) = view.project(&project.name).current.load_full() else { continue };
            self.organizations.insert(entry.organization.index.0, id.to_owned());
            let current = entry.organization.current.load();
            let providers = records.identity_providers(id)?;
            if providers.len() == current.identity_providers.len() {
                let names =
                    providers.into_iter().map(|provider| format!("{} ({})", provider.name, provider.id));
                let numbers = current.identity_providers.iter().map(|provider| provider.index.0);
                self.identity_providers.extend(numbers.zip(names));
            }
            return Ok(());
        }
        Ok(())
    }

    /// The identity provider that the token is bound to, whosever it is.
    fn learn_binding(
        &mut self,
        records: &dyn Records,
        view: &DirectoryView,
        prefix: &str,
    ) -> Result<(), StoreError> {
        let Some(token) = records.token(prefix)? else { return Ok(()) };
        let Some(entry) = view.tokens.find(&token.token.digest) else { return Ok(()) };
        let Some(method) = token.token.authentication_method_id else { return Ok(()) };
        let provider = records.authentication_method(&method)?.and_then(|method| method.identity_provider_id);
        if let (Some(MethodBinding::IdentityProvider(index)), Some(id)) =
            (entry.state().facts().binding, provider)
        {
            let provider = records.identity_provider(&id)?;
            let name = provider.map_or(id, |provider| format!("{} ({})", provider.name, provider.id));
            self.identity_providers.insert(index.0, name);
        }
        Ok(())
    }
}

/// The text with `#NUMBER` replaced by the name where there is one.
fn replace_numbers(text: &str, names: &HashMap<u32, String>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('#') {
        let (before, from) = rest.split_at(position);
        replaced.push_str(before);
        let digits = from[1..].find(|character: char| !character.is_ascii_digit()).unwrap_or(from.len() - 1);
        let (number, after) = from.split_at(1 + digits);
        match number[1..].parse().ok().and_then(|number: u32| names.get(&number)) {
            Some(name) => replaced.push_str(name),
            None => replaced.push_str(number),
        }
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names_where_there_are_any() {
        let names = HashMap::from([(1, "org-a".to_owned()), (12, "org-b".to_owned())]);
        let cases = [
            ("", ""),
            ("in #1, #12 and #2", "in org-a, org-b and #2"),
            ("#1", "org-a"),
            ("a # and #", "a # and #"),
            ("#99999999999 ü#1ü", "#99999999999 üorg-aü"),
        ];
        for (text, expected) in cases {
            assert_eq!(replace_numbers(text, &names), expected);
        }
    }
}
