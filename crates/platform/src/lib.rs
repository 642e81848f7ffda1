//! Where software runs: host processes, and the embedded proxy that splits traffic between revisions.
//!
//! [`edge`] is the daemon that does both for one service and environment, and its client; where users come in through
//! [`haproxy`] instead, [`guard`] is the dead man's switch beside it; [`process`] and the private supervisor below it run
//! instances; [`mask`] keeps secrets out of what is stored. It deliberately leaves out deciding
//! (the `rollout` crate) and verifying artifacts (`attest`): it does what commands say. Invariant: nothing above this crate
//! names a platform's means (processes, ports, sockets); they see commands, outcomes and samples.

pub mod edge;
pub mod grant;
pub mod guard;
pub mod haproxy;
mod lock;
mod log;
pub mod mask;
pub mod process;
pub mod proxy;
mod signals;
mod supervisor;
