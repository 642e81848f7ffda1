//! What the ledger signs and what it believes: the signing key, and checkpoints that bear a signature.
//!
//! The last checkpoint that was signed lies beside the ledger. The next one is signed only if the ledger has grown out of it, so
//! that nobody gets this key to vouch for two histories by putting an older ledger in the place of a newer one.
//!
//! Invariant: a checkpoint that comes back from [`read`] was signed by a trusted key under the name that it bears.

use std::fs::File;
use std::io::{Read as _, Write as _};

use attest::limits::NOTE_BYTES_MAX;
use attest::{KeyError, Note, PublicKey, SigningKey, VerifierKey};
use camino::Utf8Path;
use delivery::code::Code;
use delivery::{Actor, Event, Problem, Recorded, Timestamp};
use rollout::follower::Follower;
use rollout::state::State;
use store::{Checkpoint, Ledger, Standing};

use crate::project::{self, Project};

/// A key in hand.
pub(crate) struct Ours {
    /// The key.
    pub(crate) key: SigningKey,
    /// Whether it was made just now.
    pub(crate) made: bool,
    /// What was read from the ledger meanwhile.
    pub(crate) news: Vec<Recorded>,
}

/// The key that signs. One that is not recorded yet is made, and recorded before it is kept: what the ledger does not name is
/// not trusted.
pub(crate) async fn key(
    project: &Project,
    follower: &mut Follower,
    actor: &Actor,
    now: Timestamp,
) -> Result<Ours, Vec<Problem>> {
    let one = |error: KeyError| vec![error.problem()];
    let (path, top) = (project.layout.signing_key(), project.layout.root().to_owned());
    let mut news = Vec::new();
    let made = SigningKey::open(&path, &top).map_err(one)?.is_none();
    if made {
        let key = SigningKey::generate().map_err(one)?;
        follower.ledger().append(actor, now, vec![created(&key)]).await.map_err(project::problems)?;
        key.store(&path).map_err(one)?;
    }
    // Somebody may have been faster. Whatever key is in the file by now, the ledger had it before.
    news.extend(follower.catch_up().map_err(project::problems)?);
    let Some(key) = known_key(project, follower.state()).map_err(one)? else {
        let gone = Problem::new(Code::KeyUnusable, format!("{path} was removed just after it was made"));
        return Err(vec![gone.hint("run the command again")]);
    };
    // The first key may have been put there by a person.
    if follower.state().keys.is_empty() {
        follower.ledger().append(actor, now, vec![created(&key)]).await.map_err(project::problems)?;
        news.extend(follower.catch_up().map_err(project::problems)?);
    }
    Ok(Ours { key, made, news })
}

fn created(key: &SigningKey) -> Event {
    Event::KeyCreated { key: key.id().clone(), public: key.public().to_pem() }
}

/// The key in the project's file, if there is one. Refused when the ledger names keys and this is none of them.
pub(crate) fn known_key(project: &Project, state: &State) -> Result<Option<SigningKey>, KeyError> {
    let path = project.layout.signing_key();
    let key = SigningKey::open(&path, project.layout.root())?;
    match key {
        Some(key) if !state.keys.is_empty() && !state.keys.contains_key(key.id()) => {
            Err(KeyError::Unrecorded { path, id: key.id().clone() })
        }
        key => Ok(key),
    }
}

/// The keys that the ledger has recorded, as they sign under this name.
pub(crate) fn recorded_keys(state: &State, origin: &str) -> Vec<VerifierKey> {
    let key = |pem: &String| VerifierKey::new(origin, PublicKey::from_pem(pem).ok()?).ok();
    state.keys.values().filter_map(key).collect()
}

/// Whose signatures count.
pub(crate) enum Trust<'a> {
    /// The keys that the ledger here has recorded.
    Recorded(&'a State),
    /// The keys that were given on the command line: verifier keys, or files that hold one.
    Given(Vec<VerifierKey>),
}

impl Trust<'_> {
    /// From the command line.
    pub(crate) fn given(keys: &[String]) -> Result<Self, Vec<Problem>> {
        let key = |text: &String| {
            let text =
                if Utf8Path::new(text).is_file() { read_file(Utf8Path::new(text))? } else { text.clone() };
            VerifierKey::parse(text.trim()).map_err(|error| vec![error.problem("the key")])
        };
        keys.iter().map(key).collect::<Result<_, _>>().map(Self::Given)
    }

    fn keys(&self, origin: &str) -> Vec<VerifierKey> {
        match self {
            Self::Recorded(state) => recorded_keys(state, origin),
            // A key vouches only for the log whose name it bears.
            Self::Given(keys) => keys.iter().filter(|key| key.name() == origin).cloned().collect(),
        }
    }
}

/// A checkpoint that was believed, and the key that signed it.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) key: VerifierKey,
}

/// The checkpoint in a note, if a trusted key signed it. `what` names it in messages.
pub(crate) fn believe(what: &str, text: &str, trust: &Trust<'_>) -> Result<Signed, Vec<Problem>> {
    let refused = |error: attest::NoteError| vec![error.problem(what)];
    let malformed = |error: store::CheckpointError| {
        let message = format!("{what} can't be trusted: it is not a checkpoint: {error}");
        vec![Problem::new(Code::CheckpointUnreadable, message)]
    };
    let note = Note::parse(text).map_err(refused)?;
    let claimed = Checkpoint::parse(note.claimed()).map_err(malformed)?;
    let keys = trust.keys(&claimed.origin);
    let (text, key) = note.open(&keys).map_err(refused)?;
    Ok(Signed { checkpoint: Checkpoint::parse(text).map_err(malformed)?, key: key.clone() })
}

/// The checkpoint in a file.
pub(crate) fn read(path: &Utf8Path, trust: &Trust<'_>) -> Result<Signed, Vec<Problem>> {
    believe(path.as_str(), &read_file(path)?, trust)
}

/// A file's text, of at most what a note, a proof or a key takes.
pub(crate) fn read_file(path: &Utf8Path) -> Result<String, Vec<Problem>> {
    let limit = store::bundle::BUNDLE_BYTES_MAX.max(NOTE_BYTES_MAX) as u64 + 1;
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)).map_err(|error| {
        vec![Problem::new(Code::CheckpointUnreadable, format!("{path} can't be read")).because(&error)]
    })?;
    Ok(text)
}

/// Writes a file as a whole: nobody ever sees half of it.
pub(crate) fn write_file(path: &Utf8Path, bytes: &[u8]) -> Result<(), Vec<Problem>> {
    let name = path.file_name().unwrap_or_default();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    });
    written.map_err(|error| {
        // What can't be written is often not there to be removed either.
        let _ = std::fs::remove_file(&draft);
        vec![Problem::new(Code::OutputLost, format!("{path} can't be written")).because(&error)]
    })
}

/// What is wrong, if the ledger did not grow out of the checkpoint. `what` names the checkpoint.
pub(crate) fn contradiction(what: &str, kept: &Checkpoint, standing: &Standing) -> Option<Problem> {
    let size = kept.size;
    let (code, message) = match standing {
        Standing::Continues(_) => return None,
        Standing::Shorter { size: here } => (
            Code::HistoryChanged,
            format!(
                "the ledger has {here} records, but {what} was signed over {size}: {} were cut off, or an older copy was put back",
                size - here
            ),
        ),
        Standing::Rewritten { .. } => (
            Code::HistoryChanged,
            format!(
                "the first {size} records are not those that {what} was signed over: history was rewritten"
            ),
        ),
        Standing::Forked { .. } => (
            Code::LedgerForked,
            format!(
                "{what} and the ledger here are a fork of {}: both have {size} records, but different roots",
                kept.origin
            ),
        ),
        Standing::Other { origin } => (
            Code::HistoryChanged,
            format!(
                "{what} is of the ledger {}, and this is {origin}: it belongs to another project, or everything here was replaced",
                kept.origin
            ),
        ),
    };
    let hint = format!("keep both as they are, they are the evidence; then: trimtab explain {}", code.id());
    Some(Problem::new(code, message).hint(hint))
}

/// How the ledger stands to a checkpoint; a problem when it did not grow out of it.
pub(crate) fn held_against(what: &str, ledger: &Ledger, kept: &Checkpoint) -> Result<(), Vec<Problem>> {
    let standing = ledger.standing(kept).map_err(project::problems)?;
    contradiction(what, kept, &standing).map_or(Ok(()), |problem| Err(vec![problem]))
}

/// The last checkpoint that was signed here, if there is one.
pub(crate) fn last_signed(project: &Project, state: &State) -> Result<Option<Signed>, Vec<Problem>> {
    let path = project.layout.checkpoint();
    if path.exists() { read(&path, &Trust::Recorded(state)).map(Some) } else { Ok(None) }
}

/// Signs the checkpoint, unless an earlier one that was signed here says otherwise, and remembers it.
pub(crate) fn sign(
    project: &Project,
    follower: &Follower,
    key: &SigningKey,
    checkpoint: &Checkpoint,
) -> Result<Note, Vec<Problem>> {
    let last = last_signed(project, follower.state())?;
    if let Some(last) = &last {
        held_against(project.layout.checkpoint().as_str(), follower.ledger(), &last.checkpoint)?;
    }
    let note = Note::sign(&checkpoint.text(), &checkpoint.origin, key)
        .map_err(|error| vec![error.problem("the checkpoint")])?;
    if last.is_none_or(|last| last.checkpoint.size < checkpoint.size) {
        write_file(&project.layout.checkpoint(), note.to_string().as_bytes())?;
    }
    Ok(note)
}
