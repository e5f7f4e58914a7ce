//! Stand-ins for what usage knows of the directory: a store of which only usage is asked.

pub mod error {
    #[derive(Debug)]
    pub struct StoreError;
}

pub mod store {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::error::StoreError;
    use crate::token::usage::UserAgent;

    pub trait Store {
        fn record_usage(&self, updates: &[UsageUpdate]) -> Result<(), StoreError>;
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UsageUpdate {
        pub token_number: u32,
        pub last_used_at: u32,
        pub address: Option<IpAddr>,
        pub user_agent: Option<Arc<UserAgent>>,
        pub requests: u32,
    }
}

pub mod view {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct UserIndex(pub u32);
}
