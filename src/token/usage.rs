//! When, from where and by what each token was last used: touched by workers, flushed by control. To be filled.

use std::net::IpAddr;
use std::sync::Arc;

use super::TokenEntry;

/// The entries whose usage changed since the last flush. Memory is bounded by the number of tokens.
#[derive(Debug, Default)]
pub struct UsageLog {}

impl UsageLog {
    /// Notes that a token was just used. On the hot path: one relaxed load if the token was already used in
    /// this second, and no waiting ever.
    pub fn touch(&self, _entry: &Arc<TokenEntry>, _now: u32, _client: IpAddr, _user_agent: Option<&[u8]>) {}
}
