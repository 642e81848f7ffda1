//! Carries a release into an environment, step by step, and takes it back when it is worse.
//!
//! The heart is pure: [`state::State`] is a fold over the ledger's events, [`planner::next`] decides from one rollout's
//! state and the time what comes next, [`promotion::blockers`] says what keeps a release out of an environment, and
//! [`why::why`] puts every waiting thing into words. The only asynchronous part is [`driver::drive`], which records an
//! intention, acts on a [`world::World`], and records what came of it.
//!
//! Left out on purpose: how software is run and traffic is split (`platform`), and who may call (`server`).
//!
//! Architecture Invariant: nothing here acts before it is recorded, and `replay(ledger)` equals the live state.

pub mod analysis;
pub mod driver;
pub mod follower;
pub mod planner;
pub mod planning;
pub mod progress;
pub mod promotion;
pub mod state;
pub mod watch;
pub mod why;
pub mod world;
