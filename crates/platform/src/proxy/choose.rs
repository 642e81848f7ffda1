//! Which arm a request goes to: a pure function of the split and of the request's facts.
//!
//! A sticky key becomes a fixed point in 0..10,000 basis points, and the canary has the points below the weight. So raising
//! the weight only moves keys from stable to canary, and lowering it moves exactly those back, in reverse order. The point
//! is salted with the canary's revision: it stays put for the whole rollout, while the next rollout exposes other users first.
//!
//! The hash is FNV-1a (64 bits) over the key, finished twice with Stafford's mix 13 (as in SplitMix64) around the salt:
//! fixed for ever, fast for short keys, and even in the high bits that the point is taken from. It is not keyed, so a client
//! who wants to can find a cookie that leads to either arm; nothing rests on that being hard.

use delivery::RevisionId;
use delivery::traffic::Weight;

/// One of the two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArmChoice {
    /// What serves by default.
    Stable,
    /// What is tried.
    Canary,
}

/// The part of the routes that a choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Whether there is a stable arm.
    pub stable: bool,
    /// Whether there is a canary arm.
    pub canary: bool,
    /// The canary's share.
    pub weight: Weight,
    /// From [`salt`]; 0 without a canary.
    pub salt: u64,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The arm that its override header names, where such a header is configured.
    pub asked: Option<ArmChoice>,
    /// The hash of its sticky key (from [`key`]), where it has one.
    pub key: Option<u64>,
    /// A random number that stays the request's own, for when it has no key.
    pub draw: u64,
}

/// The arm; `None` when there is none to go to.
pub fn choose(split: &Split, facts: &Facts) -> Option<ArmChoice> {
    let exposed = split.canary && split.weight > Weight::ZERO;
    if !exposed {
        return split.stable.then_some(ArmChoice::Stable);
    }
    if !split.stable {
        return Some(ArmChoice::Canary);
    }
    if let Some(asked) = facts.asked {
        return Some(asked);
    }
    let point = facts.key.map_or_else(|| scale(facts.draw), |key| point(key, split.salt));
    Some(if point < split.weight.basis_points() { ArmChoice::Canary } else { ArmChoice::Stable })
}

/// The hash of a sticky key.
pub fn key(bytes: &[u8]) -> u64 {
    mix(fnv1a(bytes))
}

/// What a canary's points are salted with.
pub fn salt(canary: &RevisionId) -> u64 {
    key(canary.as_str().as_bytes())
}

/// The point of a key under a salt, in 0..10,000.
pub fn point(key: u64, salt: u64) -> u16 {
    scale(mix(key ^ salt))
}

/// An even 64-bit number as a point in 0..10,000 (Lemire's multiply-shift; its bias is below 2^-50).
fn scale(number: u64) -> u16 {
    ((u128::from(number) * u128::from(Weight::FULL.basis_points())) >> 64) as u16
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Stafford's variant 13 of the 64-bit finaliser: a bijection with full avalanche.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
