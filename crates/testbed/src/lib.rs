//! Real servers for tests: started on this machine, in a folder of their own, and gone with the value that stands for them.
//!
//! Nothing that users run imports this. Invariant: a server that can't be had is an error that says how to get it, never a test
//! that passes without it.

mod postgres;

pub use postgres::{PostgresServer, ServerCertificate, Stop};
