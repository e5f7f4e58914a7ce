//! What the OpenAPI document says of every operation alike: how to authenticate, and how it refuses and fails. Handlers
//! say only what is their own.

use std::collections::BTreeMap;

use http::Method;
use serde_json::Value;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, OpenApi, PathItem, Ref, RefOr, Required, Response, ResponseBuilder, Schema, Type,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::error::{ErrorBody, ErrorEntry};

/// The name of the security scheme that handlers refer to.
const SCHEME: &str = "token";

/// Completes the document that was gathered from the handlers.
pub(super) fn complete(mut document: OpenApi) -> Value {
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of this directory; Aiven's scheme `aivenv1` is accepted as well."))
            .build(),
    );
    components.add_security_scheme(SCHEME, scheme);
    components.schemas.insert(ErrorBody::name().into_owned(), ErrorBody::schema());
    components.schemas.insert(ErrorEntry::name().into_owned(), ErrorEntry::schema());
    let schemas = &components.schemas;
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(operation_id(&method, path));
            complete_operation(&method, path, operation);
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.required = needs_something(body, schemas).then_some(Required::True);
            }
        }
    }
    let mut document = serde_json::to_value(document).unwrap_or_default();
    widen_unsigned(&mut document);
    document
}

/// What is read as a number without a sign is described as one with a sign: that leaves out half of what is accepted.
fn widen_unsigned(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_unsigned = fields.get("minimum").is_some_and(|least| least.as_i64() == Some(0));
            let most = match fields.get("format").and_then(Value::as_str) {
                Some("int32") if is_unsigned => Some(Value::from(u32::MAX)),
                Some("int64") if is_unsigned => Some(Value::from(u64::MAX)),
                _ => None,
            };
            if let Some(most) = most {
                fields.remove("format");
                fields.entry("maximum").or_insert(most);
            }
            fields.values_mut().for_each(widen_unsigned);
        }
        Value::Array(items) => items.iter_mut().for_each(widen_unsigned),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a body has a field that must be there: no body at all counts as one without fields.
fn needs_something(body: &RequestBody, schemas: &BTreeMap<String, RefOr<Schema>>) -> bool {
    let content = body.content.values().filter_map(|content| match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    });
    content.into_iter().any(|schema| match schema {
        RefOr::Ref(to) => {
            let name = to.ref_location.rsplit('/').next().unwrap_or_default();
            schemas.get(name).is_none_or(has_required_fields)
        }
        schema => has_required_fields(schema),
    })
}

fn has_required_fields(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => !object.required.is_empty(),
        // What is composed or refers on is taken for needed.
        _ => true,
    }
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::PATCH, patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn complete_operation(method: &Method, path: &str, operation: &mut Operation) {
    let needs_token = needs_token(operation);
    let mut refusals = vec![
        (400, "Something in the request is not as it has to be; the message names it."),
        (503, "The directory's store does not work at the moment; nothing was changed."),
    ];
    if needs_token {
        refusals.push((401, "There is no token, or it is not good (any more)."));
        refusals.push((403, "The token is good, and its holder may not do this."));
    }
    if path.contains('{') {
        refusals.push((404, "There is no such thing, or the caller may not know of it."));
    }
    if *method != Method::GET {
        refusals.push((409, "It contradicts what is there: it exists already, or was changed meanwhile."));
    }
    if operation.request_body.is_some() {
        refusals.push((413, "The request's body has more than 1 MiB."));
    }
    for (status, description) in refusals {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_string()).or_insert_with(|| RefOr::T(refusal(status, description)));
    }
}

fn needs_token(operation: &Operation) -> bool {
    let none = SecurityRequirement::default();
    operation.security.as_ref().is_some_and(|needs| !needs.is_empty() && !needs.contains(&none))
}

fn refusal(status: u16, description: &str) -> Response {
    let body = Ref::from_schema_name(ErrorBody::name());
    let content = ContentBuilder::new().schema(Some(body)).build();
    let builder = ResponseBuilder::new().description(description).content("application/json", content);
    let text = || Schema::Object(ObjectBuilder::new().schema_type(Type::String).build());
    let header = |says: &str| HeaderBuilder::new().description(Some(says)).schema(Some(text())).build();
    match status {
        401 => builder.header("WWW-Authenticate", header("How to authenticate, by RFC 6750.")),
        503 => builder.header("Retry-After", header("Seconds after which it is worth another try.")),
        _ => builder,
    }
    .build()
}

/// A name that no other operation has: `get_organization_application_users`.
fn operation_id(method: &Method, path: &str) -> String {
    let words = path.split('/').filter(|segment| !segment.is_empty() && *segment != "v1");
    let words = words.map(|segment| match segment.strip_prefix('{') {
        Some(parameter) => format!("by_{}", parameter.trim_end_matches('}')),
        None => segment.replace(['-', '.'], "_"),
    });
    [method.as_str().to_lowercase()].into_iter().chain(words).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_different_paths_have_different_names() {
        assert_eq!(operation_id(&Method::GET, "/v1/organizations"), "get_organizations");
        assert_eq!(
            operation_id(&Method::PATCH, "/v1/organization/{organization_id}/user-groups/{user_group_id}"),
            "patch_organization_by_organization_id_user_groups_by_user_group_id"
        );
    }
}
