//! What a ledger is and says, in lines that a person can compare: the stored bytes by their digest, and what they add up to.
//!
//! Only what has a meaning of its own, so that a new field of the state changes no line. Invariant: the same records give the
//! same lines, whatever the schema they lie in.

use std::fmt::Write as _;

use camino::Utf8Path;
use delivery::{Digest, text};
use rollout::follower::Follower;
use rollout::state::State;
use rusqlite::Connection;
use store::{Access, Ledger, Schema};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The lines of the ledger in that file, opened as a Trimtab opens it that knows these schemas.
pub(crate) fn of(file: &Utf8Path, access: Access, schema: Schema) -> Result<String> {
    let ledger = Ledger::open_as(file, access, schema)?;
    let verification = ledger.verify()?;
    let mut lines = String::new();
    writeln!(lines, "records {}", verification.size)?;
    writeln!(lines, "root {}", Digest::new(hex(&verification.root))?)?;
    writeln!(lines, "bodies {}", bodies(file)?)?;
    verification.damages.iter().try_for_each(|damage| writeln!(lines, "damage {damage}"))?;
    let unreadable = verification.unreadable.iter().map(|record| record.sequence.to_string());
    writeln!(lines, "not understood: {}", unreadable.collect::<Vec<_>>().join(" "))?;
    let follower = Follower::open(ledger)?;
    state(follower.state(), &mut lines)?;
    Ok(lines)
}

fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// SHA-256 over all bodies, each ended by a newline.
fn bodies(file: &Utf8Path) -> Result<Digest> {
    let connection = Connection::open(file)?;
    let mut statement = connection.prepare("SELECT body FROM record ORDER BY sequence")?;
    let mut all = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all.extend_from_slice(&row.get::<_, Vec<u8>>(0)?);
        all.push(b'\n');
    }
    Ok(Digest::of(&all))
}

fn state(state: &State, lines: &mut String) -> Result<()> {
    writeln!(lines, "folded {}, generation {}", text::count(state.size, "record"), state.epoch_max)?;
    for run in &state.runs {
        let tasks = run.tasks.iter().map(|task| format!("{} {:?}", task.task, task.outcome));
        let verdicts = run.verdicts.iter().map(|verdict| format!("{} {}", verdict.gate, verdict.passed));
        let parts: Vec<String> = tasks.chain(verdicts).collect();
        writeln!(lines, "run {} {:?}: {}", run.id, run.outcome, parts.join(", "))?;
    }
    for record in &state.releases {
        let release = &record.release;
        writeln!(lines, "release {} {} {}", release.id, release.version, release.artifact.digest)?;
    }
    state.keys.keys().try_for_each(|key| writeln!(lines, "key {key}"))?;
    for (artifact, envelopes) in &state.envelopes {
        writeln!(lines, "provenance of {artifact}: {}", envelopes.len())?;
    }
    for approval in &state.approvals {
        writeln!(lines, "approval of {} for {} by {}", approval.release, approval.environment, approval.by)?;
    }
    for rollout in state.rollouts.values() {
        let (id, outcome, cause) = (&rollout.plan.id, rollout.outcome, &rollout.cause);
        let cause = cause.as_ref().map_or_else(String::new, |cause| format!(", because {cause}"));
        writeln!(
            lines,
            "rollout {id} {outcome:?}{cause}: generation {}, command {}, weight {} of {}, {} looks, begun {}, incident {}",
            rollout.epoch,
            rollout.sequence,
            rollout.weight,
            rollout.weight_max,
            rollout.looks.len(),
            rollout.begun.len(),
            rollout.incident
        )?;
    }
    for ((service, environment), slot) in &state.slots {
        writeln!(
            lines,
            "slot {service}@{environment}: current {:?}, previous {:?}, stable {:?}",
            slot.current.as_ref().map(ToString::to_string),
            slot.previous.as_ref().map(ToString::to_string),
            slot.stable.as_ref().map(ToString::to_string)
        )?;
    }
    for (sequence, reason) in &state.quarantined {
        // The rest tells what this Trimtab knows, which grows.
        let reason = reason.split(':').next().unwrap_or_default();
        writeln!(lines, "put aside {sequence}: {reason}")?;
    }
    Ok(())
}
