//! Time, randomness, the environment, processes and background tasks belong to a few modules; everything else takes them as
//! arguments. This is the table of owners.
//!
//! clippy.toml bans the same calls by type, and asks for a reason where they are used; this rule adds that the place is one
//! of the agreed ones. Tests are free here (clippy is not: there they need a reason). Invariant: an owner that no longer
//! uses its right is a complaint too, so the table stays true.

use super::{Complaint, rust};
use crate::tree::{File, Tree};

/// A call and the files, or folders ending in `/`, that may make it.
struct Ban {
    calls: &'static [&'static str],
    instead: &'static str,
    owners: &'static [&'static str],
}

const BANS: &[Ban] = &[
    // The wall clock: read once, by the one real clock.
    Ban {
        calls: &["SystemTime::now", "Timestamp::now", "Zoned::now"],
        instead: "take a `delivery::Clock`, or `now` as a value",
        owners: &["crates/delivery/src/clock.rs"],
    },
    // The monotonic clock: waits and measurements at the edges.
    Ban {
        calls: &["Instant::now"],
        instead: "take a `delivery::Clock`, or `now` as a value",
        owners: &[
            "crates/delivery/src/clock.rs",
            "crates/pipeline/src/process.rs",
            "crates/platform/src/edge/",
            "crates/platform/src/guard/launch.rs",
            "crates/platform/src/lock.rs",
            "crates/platform/src/proxy/",
            "crates/platform/src/supervisor/",
            "crates/simulator/src/universe.rs",
            "crates/simulator/src/vfs.rs",
            "crates/store/src/ledger.rs",
            "crates/store/src/ledger/sqlite/schema.rs",
            "crates/store/src/lease/rows.rs",
            "crates/store/src/postgres/link.rs",
            "crates/trimtab/src/load.rs",
            "xtask/src/figures/process.rs",
            "xtask/src/test.rs",
        ],
    },
    Ban {
        calls: &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        instead: "take the value as an argument",
        owners: &[
            "crates/testbed/src/postgres.rs",
            "crates/trimtab/src/environment.rs",
            "xtask/src/place.rs",
        ],
    },
    Ban {
        calls: &["Command::new"],
        instead: "start processes through the module that owns it",
        owners: &[
            "crates/pipeline/src/process.rs",
            "crates/platform/src/edge/launch.rs",
            "crates/platform/src/supervisor/instance.rs",
            "crates/repo/src/git.rs",
            "crates/testbed/src/postgres.rs",
            // Writes the demo's repository, which `repo` never does.
            "crates/trimtab/src/demo.rs",
            // Kills what it starts, which `shell` never does.
            "xtask/src/figures/process.rs",
            "xtask/src/shell.rs",
        ],
    },
    Ban {
        calls: &["tokio::spawn", "task::spawn"],
        instead: "return a future, and let a driver own the task",
        owners: &[
            "crates/platform/src/edge/",
            "crates/platform/src/guard/daemon.rs",
            "crates/platform/src/proxy/serve.rs",
            // Messages that are on their way whatever becomes of their sender.
            "crates/simulator/src/link.rs",
            "crates/platform/src/proxy/tunnel.rs",
            "crates/platform/src/supervisor.rs",
            "crates/platform/src/supervisor/output.rs",
            // The listener and the ledger's follower, which live as long as the server.
            "crates/server/src/lib.rs",
            "crates/trimtab/src/load.rs",
            // Ctrl-C, listened for as long as the process lives.
            "crates/trimtab/src/interrupt.rs",
        ],
    },
    Ban {
        calls: &["rand::rng", "OsRng", "getrandom::fill", "from_os_rng"],
        instead: "take a `delivery::Seed`",
        owners: &[
            "crates/attest/src/key.rs",
            "crates/platform/src/edge/daemon.rs",
            "crates/platform/src/edge/state.rs",
            "crates/platform/src/process/port.rs",
            "crates/platform/src/proxy/facts.rs",
            // Salts of pseudonyms.
            "crates/store/src/ledger/people.rs",
            // The system's seed, for the ids that the binary mints.
            "crates/trimtab/src/promote.rs",
        ],
    },
];

/// Checks the Rust files that are compiled into programs.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    judge(tree, BANS)
}

fn judge(tree: &Tree, bans: &[Ban]) -> Vec<Complaint> {
    let sources: Vec<(&File, String)> =
        tree.sources().map(|file| (file, rust::without_tests(&file.code))).collect();
    let mut complaints = Vec::new();
    for ban in bans {
        let mut used = vec![false; ban.owners.len()];
        for (file, code) in &sources {
            let owner = ban.owners.iter().position(|owner| owns(owner, file.path.as_str()));
            for call in ban.calls {
                for at in rust::find_word(code, call) {
                    match owner {
                        Some(index) => used[index] = true,
                        None => complaints.push(Complaint::new(
                            &file.path,
                            rust::line_of(code, at),
                            format!("`{call}` is not this module's: {}", ban.instead),
                        )),
                    }
                }
            }
        }
        complaints.extend(stale(ban, &used));
    }
    complaints
}

/// Complaints about owners that don't use their right.
fn stale(ban: &Ban, used: &[bool]) -> impl Iterator<Item = Complaint> {
    ban.owners.iter().zip(used).filter(|(_, used)| !**used).map(|(owner, _)| {
        Complaint::new(file!(), 1, format!("{owner} is listed for `{}` but does not call it", ban.calls[0]))
    })
}

fn owns(owner: &str, path: &str) -> bool {
    if owner.ends_with('/') { path.starts_with(owner) } else { path == owner }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAN: &[Ban] =
        &[Ban { calls: &["Instant::now"], instead: "take a clock", owners: &["src/clock.rs", "src/edge/"] }];
    const CALL: &str = "fn a() {\n    let t = std::time::Instant::now();\n}\n";

    #[test]
    fn a_banned_call_is_found_outside_its_owners() {
        let tree = Tree::of([("src/clock.rs", CALL), ("src/edge/loop.rs", CALL), ("src/plan.rs", CALL)]);
        let found = judge(&tree, BAN);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "src/plan.rs:2: `Instant::now` is not this module's: take a clock");
    }

    #[test]
    fn tests_are_free() {
        let inline = format!("#[cfg(test)]\nmod tests {{\n{CALL}}}\n");
        let tree = Tree::of([("src/plan.rs", &inline), ("src/plan/tests.rs", CALL), ("src/clock.rs", CALL)]);
        assert_eq!(judge(&tree, BAN).len(), 1, "only the stale folder is left");
    }

    #[test]
    fn an_owner_that_does_not_call_is_stale() {
        let found = judge(&Tree::of([("src/edge/loop.rs", CALL)]), BAN);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("src/clock.rs is listed"), "{}", found[0]);
    }
}
