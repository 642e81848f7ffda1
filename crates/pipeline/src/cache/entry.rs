//! A kept result: what it was made of, what it wrote, and how long it took.
//!
//! Leaves out the contents (blobs) and where entries lie. Invariant: a decoded entry's paths stay inside the root.

use blake3::Hash;

use super::key::Parts;
use super::stat::{Kind, State};
use crate::wire::{Reader, Writer};

/// One file or link that a task wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Relative to the root.
    pub(crate) path: String,
    pub(crate) state: State,
    /// Permission bits of a file.
    pub(crate) mode: u32,
    /// A link's text; empty for files, whose content lies in the blobs under `state.hash`.
    pub(crate) link: String,
}

/// A kept result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) parts: Parts,
    pub(crate) duration_ms: u64,
    /// By path.
    pub(crate) outputs: Vec<Output>,
    /// Those outputs that are JUnit reports.
    pub(crate) reports: Vec<String>,
}

impl Entry {
    /// What dependents' keys contain of the task. With declared outputs it is their content, so a rebuild that gives the same
    /// bytes stops there; without, it is the key, since nobody knows what else it did. Reports do not count: they hold times.
    pub(crate) fn gives(&self) -> Hash {
        if self.parts.outputs.is_empty() {
            return self.parts.key();
        }
        let files = self.outputs.iter().filter(|output| !self.reports.contains(&output.path));
        gives_of_files(files.map(|output| (output.path.as_str(), output.state)))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.parts.write(&mut writer);
        writer.number(self.duration_ms);
        writer.number(self.outputs.len() as u64);
        for output in &self.outputs {
            writer.text(&output.path);
            writer.number(output.state.kind.code());
            writer.hash(&output.state.hash);
            writer.number(u64::from(output.mode));
            writer.text(&output.link);
        }
        writer.texts(&self.reports);
        writer.seal()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::unseal(bytes)?;
        let parts = Parts::read(&mut reader)?;
        let duration_ms = reader.number()?;
        let mut outputs = Vec::new();
        for _ in 0..reader.count()? {
            let path = reader.text().filter(|path| is_inside(path))?;
            let state = State { kind: Kind::from_code(reader.number()?)?, hash: reader.hash()? };
            let mode = u32::try_from(reader.number()?).ok()?;
            outputs.push(Output { path, state, mode, link: reader.text()? });
        }
        let reports = reader.texts()?;
        let sound = reader.is_empty() && are_apart(&outputs);
        sound.then_some(Self { parts, duration_ms, outputs, reports })
    }
}

/// The hash of files that a task gave; sorted by path.
pub(crate) fn gives_of_files<'f>(files: impl Iterator<Item = (&'f str, State)>) -> Hash {
    let mut writer = Writer::default();
    for (path, state) in files {
        writer.text(path);
        writer.number(state.kind.code());
        writer.hash(&state.hash);
    }
    blake3::Hasher::new_derive_key("trimtab 2026 task outputs").update(&writer.into_bytes()).finalize()
}

fn is_inside(path: &str) -> bool {
    !path.starts_with('/') && !path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// Whether the paths are sorted and none lies below another: a link could lead what is below it elsewhere.
fn are_apart(outputs: &[Output]) -> bool {
    let is_output = |path: &str| outputs.binary_search_by(|output| output.path.as_str().cmp(path)).is_ok();
    outputs.is_sorted_by(|a, b| a.path < b.path)
        && !outputs
            .iter()
            .any(|output| output.path.match_indices('/').any(|(at, _)| is_output(&output.path[..at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for (path, inside) in
            [("a/b", true), ("../a", false), ("/a", false), ("a/../../b", false), ("", false)]
        {
            assert_eq!(is_inside(path), inside, "{path}");
        }
    }

    #[test]
    fn no_output_lies_below_another() {
        let state = State { kind: Kind::Link, hash: blake3::hash(b"") };
        let output = |path: &str| Output { path: path.into(), state, mode: 0, link: String::new() };
        for (paths, apart) in
            [(["out", "out/f"], false), (["out", "out-f"], true), (["b", "a"], false), (["a/b", "a/c"], true)]
        {
            assert_eq!(are_apart(&paths.map(output)), apart, "{paths:?}");
        }
    }
}
