//! A record as it lies in the ledger: version 1 of the record format.
//!
//! The body is compact JSON: `{"v":1,"sequence":1,"at":0,"actor":{..},"event":{"kind":..,"data":..}}`, keys in this
//! order, maps sorted, numbers in their shortest form, `at` in microseconds since 1970. The leaf hash is over exactly these
//! bytes. People stand in it by their pseudonyms (`people`). The format number beside the body leaves room for other
//! bodies; only format 1 exists.
//!
//! Invariant: what [`check`] accepts reads back equal to what was given (finite numbers only).

use std::io::Write;

use delivery::limits::RECORD_BYTES_MAX;
use delivery::{Actor, Event, Recorded, Timestamp};
use serde::{Deserialize, Serialize};

use super::people;
use super::verify::Fault;
use crate::error::Error;
use crate::merkle::{Hash, leaf_hash};

/// The record format that is written.
pub(super) const FORMAT: i64 = 1;
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    sequence: u64,
    at: i64,
    actor: &'a Actor,
    event: &'a Event,
}

#[derive(Deserialize)]
struct Read {
    actor: Actor,
    event: Event,
}

/// The part of a record that is readable even when its event is not known.
#[derive(Deserialize)]
struct Header {
    v: u32,
    sequence: u64,
    at: i64,
}

/// The record's body.
pub(super) fn encode(sequence: u64, at: i64, actor: &Actor, event: &Event) -> Result<Vec<u8>, Error> {
    let mut body = Bounded(Vec::with_capacity(512));
    match serde_json::to_writer(&mut body, &Written { v: VERSION, sequence, at, actor, event }) {
        Ok(()) => Ok(body.0),
        Err(error) if error.is_io() => Err(Error::RecordTooLarge { kind: event.kind() }),
        Err(error) => Err(Error::NotRepresentable { kind: event.kind(), detail: error.to_string() }),
    }
}

/// Whether the event fits a record at any sequence and time, and reads back as itself.
pub(super) fn check(actor: &Actor, event: &Event) -> Result<(), Error> {
    let body = encode(u64::MAX, i64::MIN, actor, event)?;
    if let Some((actor, event)) = people::hidden(actor, event) {
        encode(u64::MAX, i64::MIN, &actor, &event)?;
    }
    let wrong = |detail: String| Error::NotRepresentable { kind: event.kind(), detail };
    let read: Read = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
    if read.event == *event && read.actor == *actor {
        Ok(())
    } else {
        Err(wrong("it reads back as another event".to_owned()))
    }
}

/// A row of the record table, unchecked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) sequence: i64,
    pub(super) at: i64,
    pub(super) format: i64,
    pub(super) body: &'a [u8],
    pub(super) leaf: &'a [u8],
}

impl Row<'_> {
    /// Checks the row against itself and reads it. The leaf hash, computed from the body, comes back in any case.
    pub(super) fn open(&self) -> (Hash, Result<Recorded, Fault>) {
        let leaf = leaf_hash(self.body);
        (leaf, self.decode(&leaf))
    }

    fn decode(&self, leaf: &Hash) -> Result<Recorded, Fault> {
        if self.format != FORMAT {
            return Err(Fault::Format(self.format));
        }
        if self.leaf != leaf {
            return Err(Fault::Leaf);
        }
        let unreadable = |error: serde_json::Error| Fault::Unreadable(error.to_string());
        let header: Header = serde_json::from_slice(self.body).map_err(unreadable)?;
        if i64::try_from(header.sequence) != Ok(self.sequence) {
            return Err(Fault::Sequence(header.sequence));
        }
        if header.at != self.at {
            return Err(Fault::Time);
        }
        if header.v != VERSION {
            return Err(Fault::Unreadable(format!(
                "it has version {}, this Trimtab knows {VERSION}",
                header.v
            )));
        }
        let read: Read = serde_json::from_slice(self.body).map_err(unreadable)?;
        let at =
            Timestamp::from_microsecond(self.at).map_err(|error| Fault::Unreadable(error.to_string()))?;
        Ok(Recorded { sequence: header.sequence, at, actor: read.actor, event: read.event })
    }
}

/// A buffer that refuses to grow past the largest record.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > RECORD_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
