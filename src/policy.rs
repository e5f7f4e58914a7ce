//! The decision: a pure function from [`Facts`] to [`Permit`] or [`Denial`], row by row as in the policy's table.
//!
//! No I/O lives here, no clock but the one in the facts, and no knowledge of HTTP beyond status codes.

pub mod address;
pub mod decision;
pub mod facts;
pub mod method;
pub mod permission;
pub mod reason;

pub use decision::{Check, CheckResult, ExplainedCheck, Permit, check, decide, explain, held};
pub use facts::{
    AuthenticationPolicy, ExpandedGrant, Facts, IdentityProviderFacts, Membership, OrganizationFacts,
    RequestFacts, TokenFacts, UserFacts,
};
pub use method::{MethodBinding, ThirdParty};
pub use permission::{Permission, PermissionSet, Role, UnknownPermission, UnknownRole, UnknownScope};
pub use reason::Denial;
