//! The embedded proxy as a black box: real servers behind it, real clients before it, all on loopback.

mod failure;
mod guard;
mod protocol;
mod split;
mod stream;
mod world;
