//! Real processes in temporary folders: what runs, what is taken from the cache, and that nothing hangs or stays behind.

#![expect(clippy::unwrap_used, reason = "all of this crate is tests, their helpers included")]

mod cache;
mod endings;
mod inputs;
mod outputs;
mod world;
