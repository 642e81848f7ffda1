//! Reads trimtab.toml into checked, spanned, versioned types; says what is wrong and where.

pub mod model;
mod policy;

pub use model::{Gate, Manifest, Readiness, Service, Task};
pub use policy::policy_digest;
