//! A task's output on its way to the log: masked, cut into lines, limited.
//!
//! Bytes beyond `TASK_OUTPUT_BYTES_MAX` are counted and dropped, so a task that floods is neither blocked nor kept. Leaves out
//! where the bytes come from. Invariant: memory is bounded by the last lines and one chunk, whatever is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use camino::Utf8Path;
use delivery::limits::TASK_OUTPUT_BYTES_MAX;
use platform::mask::{MaskedLines, Masker};

/// Lines kept for the report.
const TAIL_LINES_MAX: usize = 20;
/// Bytes of each of them.
const TAIL_LINE_BYTES_MAX: usize = 2_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Capture {
    lines: MaskedLines,
    log: Option<BufWriter<File>>,
    tail: VecDeque<String>,
    taken: u64,
    dropped: u64,
    trouble: Option<io::Error>,
}

/// What is left of the output.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) tail: Vec<String>,
    /// Bytes that were not kept.
    pub(crate) dropped: u64,
    /// Why the log is not complete, if it is not.
    pub(crate) trouble: Option<io::Error>,
}

impl Capture {
    /// Writes to a new file at `log`.
    pub(crate) fn new(log: &Utf8Path, masker: &Masker) -> Self {
        let (log, trouble) = match File::create(log) {
            Ok(file) => (Some(BufWriter::new(file)), None),
            Err(error) => (None, Some(error)),
        };
        Self { lines: masker.lines(), log, tail: VecDeque::new(), taken: 0, dropped: 0, trouble }
    }

    /// One that keeps nothing.
    pub(crate) fn closed() -> Self {
        Self {
            lines: Masker::default().lines(),
            log: None,
            tail: VecDeque::new(),
            taken: 0,
            dropped: 0,
            trouble: None,
        }
    }

    /// Takes the next bytes and gives the lines that ended in them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let room = usize::try_from(TASK_OUTPUT_BYTES_MAX - self.taken).unwrap_or(usize::MAX);
        let kept = bytes.len().min(room);
        self.taken += kept as u64;
        self.dropped += (bytes.len() - kept) as u64;
        if kept == 0 {
            return Vec::new();
        }
        let lines = self.lines.feed(&bytes[..kept]);
        self.write(&lines);
        lines
    }

    /// Ends the log; gives the last line, if it had no line end, and what is left.
    pub(crate) fn finish(mut self) -> (Vec<String>, Captured) {
        let mut lines: Vec<String> = self.lines.finish().into_iter().collect();
        if self.dropped > 0 {
            lines.push(format!(
                "[trimtab: {} bytes more were written and dropped; the limit is {TASK_OUTPUT_BYTES_MAX}]",
                self.dropped
            ));
        }
        self.write(&lines);
        if let Some(Err(error)) = self.log.as_mut().map(BufWriter::flush) {
            self.trouble = Some(error);
        }
        let captured = Captured { tail: self.tail.into(), dropped: self.dropped, trouble: self.trouble };
        (lines, captured)
    }

    fn write(&mut self, lines: &[String]) {
        for line in lines {
            if let Some(log) = &mut self.log
                && let Err(error) = log.write_all(line.as_bytes()).and_then(|()| log.write_all(b"\n"))
            {
                self.trouble = Some(error);
                self.log = None;
            }
        }
        for line in &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..] {
            if self.tail.len() == TAIL_LINES_MAX {
                self.tail.pop_front();
            }
            let end = line.floor_char_boundary(TAIL_LINE_BYTES_MAX.min(line.len()));
            self.tail.push_back(line[..end].to_owned());
        }
    }
}
