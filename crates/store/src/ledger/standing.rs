//! How the ledger stands to a checkpoint that somebody kept: whether it has grown out of it.
//!
//! This finds what [`super::verify`] can't: an end that was cut off, or history that was rewritten, with a head that fits.
//!
//! Invariant: [`Standing::Continues`] is said only with a consistency proof that has been verified against both roots.

use super::database::View;
use super::head::HeadRow;
use super::proof::{self, ConsistencyProof};
use crate::checkpoint::{Checkpoint, origin};
use crate::error::Error;
use crate::merkle::Hash;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The ledger begins with what the checkpoint stands for; with as many records, it is that.
    Continues(ConsistencyProof),
    /// The ledger has fewer records than were signed: its end was cut off, or an older copy was put in its place.
    Shorter {
        /// What it has.
        size: u64,
    },
    /// As many records, and other ones: two histories of one ledger.
    Forked {
        /// The ledger's root.
        root: Hash,
    },
    /// More records, but the first ones are not those that were signed.
    Rewritten {
        /// The root over as many of them.
        root: Hash,
    },
    /// The first record is another, so it is the checkpoint of another ledger, or everything was replaced.
    Other {
        /// The name of the ledger that is here.
        origin: String,
    },
}

/// What the ledger is now; `None` when it is empty, for it has no name then.
pub(super) fn checkpoint(view: &mut dyn View) -> Result<Option<Checkpoint>, Error> {
    let head = HeadRow::read(view)?;
    let size = head.frontier.size();
    if size == 0 {
        return Ok(None);
    }
    let origin = origin(&proof::range_root(view, 0..1)?);
    Ok(Some(Checkpoint { origin, size, root: head.frontier.root() }))
}

/// How the ledger stands to the checkpoint.
pub(super) fn standing(view: &mut dyn View, kept: &Checkpoint) -> Result<Standing, Error> {
    let Some(here) = checkpoint(view)? else { return Ok(Standing::Shorter { size: 0 }) };
    if here.origin != kept.origin {
        return Ok(Standing::Other { origin: here.origin });
    }
    if here.size < kept.size {
        return Ok(Standing::Shorter { size: here.size });
    }
    // No ledger with this name was ever empty.
    if kept.size == 0 {
        return Ok(Standing::Rewritten { root: crate::merkle::empty_root() });
    }
    let proof = proof::consistency(view, kept.size)?;
    Ok(match (proof.from_root == kept.root, here.size == kept.size) {
        (true, _) => Standing::Continues(proof),
        (false, true) => Standing::Forked { root: here.root },
        (false, false) => Standing::Rewritten { root: proof.from_root },
    })
}
