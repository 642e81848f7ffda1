//! What a task's result depends on, and the key made of it.
//!
//! Leaves out how files are found and hashed. Values of environment variables enter as hashes only: nothing secret is kept.
//! Invariant: two tasks have the same key only if they have the same parts.

use blake3::Hash;

use super::stat::State;
use crate::wire::{Reader, Writer};

/// Raised when a key's meaning changes, so that old entries are never taken for new ones.
const FORMAT: u64 = 2;

/// Everything that a key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) command: Vec<String>,
    pub(crate) directory: String,
    /// Names and hashed values of declared variables, by name.
    pub(crate) environment: Vec<(String, Hash)>,
    /// Names and hashed values of passed variables, by name; `None` for one that is not set.
    pub(crate) passed: Vec<(String, Option<Hash>)>,
    /// Hash of the encoded [`Inputs`]; `None` when the task does not say what they are.
    pub(crate) inputs: Option<Hash>,
    pub(crate) outputs: Vec<String>,
    pub(crate) junit: Vec<String>,
    /// Names of needed tasks, each with the hash of what it gave (see `cache::entry::Entry::gives`), by name.
    pub(crate) needs: Vec<(String, Hash)>,
    /// Operating system and processor.
    pub(crate) platform: String,
}

impl Parts {
    pub(crate) fn key(&self) -> Hash {
        let mut writer = Writer::default();
        self.write(&mut writer);
        blake3::Hasher::new_derive_key("trimtab 2026 task key").update(&writer.into_bytes()).finalize()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.number(FORMAT);
        writer.texts(&self.command);
        writer.text(&self.directory);
        writer.number(self.environment.len() as u64);
        for (name, value) in &self.environment {
            writer.text(name);
            writer.hash(value);
        }
        writer.number(self.passed.len() as u64);
        for (name, value) in &self.passed {
            writer.text(name);
            write_optional(writer, value.as_ref());
        }
        write_optional(writer, self.inputs.as_ref());
        writer.texts(&self.outputs);
        writer.texts(&self.junit);
        writer.number(self.needs.len() as u64);
        for (name, gives) in &self.needs {
            writer.text(name);
            writer.hash(gives);
        }
        writer.text(&self.platform);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.number()? != FORMAT {
            return None;
        }
        Some(Self {
            command: reader.texts()?,
            directory: reader.text()?,
            environment: (0..reader.count()?)
                .map(|_| Some((reader.text()?, reader.hash()?)))
                .collect::<Option<_>>()?,
            passed: (0..reader.count()?)
                .map(|_| Some((reader.text()?, read_optional(reader)?)))
                .collect::<Option<_>>()?,
            inputs: read_optional(reader)?,
            outputs: reader.texts()?,
            junit: reader.texts()?,
            needs: (0..reader.count()?)
                .map(|_| Some((reader.text()?, reader.hash()?)))
                .collect::<Option<_>>()?,
            platform: reader.text()?,
        })
    }
}

fn write_optional(writer: &mut Writer, value: Option<&Hash>) {
    writer.number(u64::from(value.is_some()));
    if let Some(value) = value {
        writer.hash(value);
    }
}

#[expect(clippy::option_option, reason = "the outer one says damaged, the inner one says none")]
fn read_optional(reader: &mut Reader<'_>) -> Option<Option<Hash>> {
    match reader.number()? {
        0 => Some(None),
        1 => reader.hash().map(Some),
        _ => None,
    }
}

/// The hash under which a variable's value enters keys.
pub(crate) fn value_hash(name: &str, value: &str) -> Hash {
    let mut writer = Writer::default();
    writer.text(name);
    writer.text(value);
    blake3::Hasher::new_derive_key("trimtab 2026 variable").update(&writer.into_bytes()).finalize()
}

/// A task's input files, by path. `None`: there is no such file, which a path without wildcards may say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Inputs(pub(crate) Vec<(String, Option<State>)>);

impl Inputs {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.number(self.0.len() as u64);
        for (path, state) in &self.0 {
            writer.text(path);
            match state {
                None => writer.number(u64::MAX),
                Some(state) => {
                    writer.number(state.kind.code());
                    writer.hash(&state.hash);
                }
            }
        }
        writer.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut files = Vec::new();
        for _ in 0..reader.count()? {
            let path = reader.text()?;
            let state = match reader.number()? {
                u64::MAX => None,
                code => Some(State { kind: super::stat::Kind::from_code(code)?, hash: reader.hash()? }),
            };
            files.push((path, state));
        }
        reader.is_empty().then_some(Self(files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts {
            command: vec!["make".into(), "all".into()],
            directory: ".".into(),
            environment: vec![("A".into(), value_hash("A", "1"))],
            passed: vec![("TOKEN".into(), None)],
            inputs: Some(blake3::hash(b"inputs")),
            outputs: vec!["out".into()],
            junit: Vec::new(),
            needs: vec![("build".into(), blake3::hash(b"gives"))],
            platform: "linux-x86_64".into(),
        }
    }

    #[test]
    fn every_part_moves_the_key() {
        let base = parts().key();
        let changes: [fn(&mut Parts); 9] = [
            |parts| parts.command = vec!["make all".into()],
            |parts| parts.directory = "web".into(),
            |parts| parts.environment[0].1 = value_hash("A", "2"),
            |parts| parts.passed[0].1 = Some(value_hash("TOKEN", "")),
            |parts| parts.inputs = None,
            |parts| parts.outputs.push("out2".into()),
            |parts| parts.junit.push("out".into()),
            |parts| parts.needs[0].1 = blake3::hash(b"other"),
            |parts| parts.platform = "linux-aarch64".into(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut changed = parts();
            change(&mut changed);
            assert_ne!(changed.key(), base, "change {at}");
        }
        assert_eq!(parts().key(), base);
    }

    #[test]
    fn parts_are_read_back() {
        let mut writer = Writer::default();
        parts().write(&mut writer);
        assert_eq!(Parts::read(&mut Reader::new(&writer.into_bytes())), Some(parts()));
    }
}
