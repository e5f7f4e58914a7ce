//! Who asks without a token: somebody who is about to prove who they are. Nothing is known of them but where they are.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::caller::{client_address, request_id};
use super::{Admin, ApiError};
use crate::directory::{Author, Channel};

/// Somebody without a token.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    address: IpAddr,
    request_id: String,
}

impl FromRequestParts<Arc<Admin>> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, ApiError> {
        Ok(Self { address: client_address(parts, admin), request_id: request_id(parts) })
    }
}

impl Visitor {
    /// From where the request came.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Who a login is said to be by: the user who proved to be it, if it did.
    pub(super) fn author(&self, user_id: Option<&str>) -> Author {
        Author {
            channel: Channel::Login,
            user_id: user_id.map(str::to_owned),
            token_prefix: None,
            address: Some(self.address),
            request_id: Some(self.request_id.clone()),
        }
    }
}
