//! The embedded proxy as a black box: real servers behind it, real clients before it, all on loopback.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed the test")]

mod failure;
mod protocol;
mod split;
mod stream;
mod world;
