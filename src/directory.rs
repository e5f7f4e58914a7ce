//! The directory: organizations, users, grants, policies and tokens together.
//!
//! [`model`] says what is stored, [`store`] how it is kept durable, [`view`] how workers see it in memory,
//! and [`sync`] carries changes from the one to the other in the store's order.

pub mod view;
