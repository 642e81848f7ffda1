//! What splits the traffic in front of the instances: the proxy in this process, or an HAProxy beside it.
//!
//! Two kinds, each with the same few duties: follow routes, say when what was told is in force, count. The differences are
//! said, not papered over: HAProxy counts no latencies, and a raise there needs the guard.
//! Invariant: `follow` never waits, so that routes can be given under the books' lock.

use std::time::Duration;

use delivery::traffic::Sample;
use delivery::{RevisionId, Timestamp};

use super::follower::Follower;
use super::state::Exposure;
use super::wire::Role;
use crate::guard::Guard;
use crate::proxy::{Routes, Splitter};

/// What stands in front.
#[derive(Debug)]
pub(super) enum Front {
    /// The proxy in this process.
    Embedded(Splitter),
    /// An HAProxy, which follows after a moment.
    Haproxy(Follower),
}

/// Whether a weight may be raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permit {
    Granted,
    /// A newer controller is in charge.
    Fenced(u64),
    /// Why not, for people.
    Refused(String),
}

impl Front {
    /// Takes new routes. The embedded proxy follows them at once; see [`Front::settled`].
    pub(super) fn follow(&self, routes: Routes) {
        match self {
            Self::Embedded(splitter) => splitter.set_routes(routes),
            Self::Haproxy(follower) => follower.follow(&routes),
        }
    }

    /// Waits until the last routes are in force; the error says why they are not.
    pub(super) async fn settled(&self) -> Result<(), String> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Haproxy(follower) => follower.settled().await,
        }
    }

    /// What keeps the routes from being in force.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Embedded(_) => None,
            Self::Haproxy(follower) => follower.trouble(),
        }
    }

    /// The guard that a raise needs.
    pub(super) fn guard(&self) -> Option<&Guard> {
        match self {
            Self::Embedded(_) => None,
            Self::Haproxy(follower) => follower.guard(),
        }
    }

    /// Asks whether the weight may be raised: behind HAProxy the guard must hold its grant first.
    pub(super) async fn permit(&self, wanted: &Exposure) -> Permit {
        match self {
            Self::Embedded(_) => Permit::Granted,
            Self::Haproxy(follower) => follower.permit(wanted).await,
        }
    }

    /// Why so many instances don't fit; `None` when they do. The error says that it could not be found out.
    pub(super) async fn lack_of_room(&self, instances: u32) -> Result<Option<String>, String> {
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Haproxy(follower) => follower.lack_of_room(instances).await,
        }
    }

    /// Both arms' totals.
    pub(super) async fn sample(&self, at: Timestamp) -> Result<Sample, String> {
        match self {
            Self::Embedded(splitter) => Ok(splitter.sample(at)),
            Self::Haproxy(follower) => follower.sample(at).await,
        }
    }

    /// Requests that chose the revision by the override header.
    pub(super) fn asked(&self, revision: &RevisionId) -> u64 {
        match self {
            Self::Embedded(splitter) => splitter.asked(revision).requests,
            Self::Haproxy(_) => 0,
        }
    }

    /// Waits for the requests of a revision, which had this role, to end; whether they did, and how many are left where that
    /// can be known.
    pub(super) async fn drained(
        &self,
        revision: &RevisionId,
        role: Role,
        within: Duration,
    ) -> (bool, Option<u64>) {
        match self {
            Self::Embedded(splitter) => {
                (splitter.drained(revision, within).await, Some(splitter.in_flight(revision)))
            }
            Self::Haproxy(follower) if role == Role::Canary => follower.canary_drained(within).await,
            Self::Haproxy(_) => {
                // Its slots were given to others already, whose requests can't be told from the old ones.
                tokio::time::sleep(within).await;
                (false, None)
            }
        }
    }

    /// Drops the totals of a revision that is gone.
    pub(super) fn forget(&self, revision: &RevisionId) {
        if let Self::Embedded(splitter) = self {
            splitter.forget(revision);
        }
    }
}
