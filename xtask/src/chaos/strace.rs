//! Reads what strace wrote: which system calls began and ended, in the order in which they did.
//!
//! strace is told to print all text in hexadecimal, so bytes are exact and no text can look like syntax. A call that
//! another thread's interrupts comes as two lines. Invariant: a line that can't be read is an error, never left out.

use std::collections::HashMap;

/// The calls that can change a file or a name, make one durable, or carry an answer out.
pub(crate) const CALLS: &str = "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync,syncfs,\
sync_file_range,ftruncate,truncate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,\
sendto,sendmsg,sendmmsg,fallocate,copy_file_range,sendfile,splice,io_uring_setup,msync";

/// What strace is told before the program's own command line; it writes to `log`.
pub(crate) fn options(log: &str) -> Vec<String> {
    let words = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", "16777216", "-qq", "-e", "signal=none", "-o", log];
    words.into_iter().map(str::to_owned).chain(["-e".to_owned(), format!("trace={CALLS}")]).collect()
}

/// An argument of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// A path, or what is written.
    Bytes(Vec<u8>),
    /// An open file: its number, and the path that it had when it was asked. `deleted`: its name is gone.
    File { number: i64, path: String, deleted: bool },
    /// A number, flags, or anything else.
    Word(String),
}

/// A call as it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The thread.
    pub(crate) thread: u32,
    /// Its name, such as `pwrite64`.
    pub(crate) name: String,
    /// In their order.
    pub(crate) arguments: Vec<Argument>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this number; an open with the path of the file that it opened.
    Well { value: i64, path: Option<String> },
    /// With this error, such as `ENOSPC`.
    Failed(String),
    /// The thread died in it.
    Never,
}

/// One thing that strace saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A call began.
    Began(Call),
    /// The last call of this thread ended.
    Ended { thread: u32, how: Ended },
}

/// Reads a log line by line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Threads that are within a call.
    within: HashMap<u32, String>,
}

impl Reader {
    /// What one line says: nothing, a beginning, an end, or both.
    pub(crate) fn read(&mut self, line: &str) -> Result<Vec<Seen>, String> {
        let unreadable = || format!("strace wrote what can't be read: {}", shortened(line));
        let (thread, rest) = line.split_once(' ').ok_or_else(unreadable)?;
        let thread: u32 = thread.parse().map_err(|_| unreadable())?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") {
            let died = self.within.remove(&thread).is_some();
            return Ok(if died { vec![Seen::Ended { thread, how: Ended::Never }] } else { Vec::new() });
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            self.within.remove(&thread).ok_or_else(unreadable)?;
            let how = ended(resumed).ok_or_else(unreadable)?;
            return Ok(vec![Seen::Ended { thread, how }]);
        }
        let (name, rest) = rest.split_once('(').ok_or_else(unreadable)?;
        if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            self.within.insert(thread, name.to_owned());
            let arguments = arguments(head.trim_end()).ok_or_else(unreadable)?;
            return Ok(vec![Seen::Began(Call { thread, name: name.to_owned(), arguments })]);
        }
        // Text is hexadecimal, so this is the bracket that ends the arguments.
        let close = rest.find(") ").ok_or_else(unreadable)?;
        let arguments = arguments(&rest[..close]).ok_or_else(unreadable)?;
        let how = ended(&rest[close..]).ok_or_else(unreadable)?;
        let call = Call { thread, name: name.to_owned(), arguments };
        Ok(vec![Seen::Began(call), Seen::Ended { thread, how }])
    }
}

fn shortened(line: &str) -> String {
    line.chars().take(200).collect()
}

/// What follows the closing bracket of a call: `) = 3<\x2f\x61>`, `) = -1 EIO (Input/output error) (INJECTED)`, `) = ?`.
fn ended(text: &str) -> Option<Ended> {
    let (_, text) = text.split_once(") ")?;
    let text = text.trim_start().strip_prefix("= ")?;
    if text.starts_with('?') {
        return Some(Ended::Never);
    }
    let mut words = text.split(' ');
    let value = words.next()?;
    if value == "-1" {
        return Some(Ended::Failed(words.next()?.to_owned()));
    }
    match file(value) {
        Some(Argument::File { number, path, .. }) => Some(Ended::Well { value: number, path: Some(path) }),
        _ => Some(Ended::Well { value: value.parse().ok()?, path: None }),
    }
}

/// Splits and reads what is between the brackets.
fn arguments(text: &str) -> Option<Vec<Argument>> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_u32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(argument).collect()
}

fn argument(text: &str) -> Option<Argument> {
    if text.starts_with('"') {
        return Some(Argument::Bytes(bytes(text)?));
    }
    if text.contains("iov_base=") {
        // The parts of a writev, one after the other.
        let mut all = Vec::new();
        for part in text.split("iov_base=").skip(1) {
            all.extend(bytes(part.split_once(',')?.0)?);
        }
        return Some(Argument::Bytes(all));
    }
    Some(file(text).unwrap_or_else(|| Argument::Word(text.to_owned())))
}

/// `"\x61\x62"`; text that strace cut off, with dots behind it, is refused.
fn bytes(text: &str) -> Option<Vec<u8>> {
    hexadecimal(text.strip_prefix('"')?.strip_suffix('"')?)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (parts, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    parts
        .iter()
        .map(|[slash, x, high, low]| {
            (*slash == b'\\' && *x == b'x').then_some(())?;
            Some(digit(*high)? << 4 | digit(*low)?)
        })
        .collect()
}

/// `3<\x2f\x61>`, `3<\x2f\x61>(deleted)` or `AT_FDCWD<\x2f>`.
fn file(text: &str) -> Option<Argument> {
    let (number, rest) = text.split_once('<')?;
    let number = if number == "AT_FDCWD" { -100 } else { number.parse().ok()? };
    let (path, rest) = rest.split_once('>')?;
    let path = String::from_utf8_lossy(&hexadecimal(path)?).into_owned();
    Some(Argument::File { number, path, deleted: rest == "(deleted)" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Argument {
        Argument::Word(text.into())
    }

    fn hex(text: &str) -> String {
        text.bytes().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"))
    }

    #[test]
    fn a_whole_call_is_a_beginning_and_an_end() {
        let line = format!("7 pwrite64(3<{}>, \"{}\", 2, 512) = 2", hex("/a b"), "\\x00\\xff");
        let seen = Reader::default().read(&line).unwrap();
        let file = Argument::File { number: 3, path: "/a b".into(), deleted: false };
        let arguments = vec![file, Argument::Bytes(vec![0, 255]), word("2"), word("512")];
        assert_eq!(seen[0], Seen::Began(Call { thread: 7, name: "pwrite64".into(), arguments }));
        assert_eq!(seen[1], Seen::Ended { thread: 7, how: Ended::Well { value: 2, path: None } });
    }

    #[test]
    fn an_interrupted_call_ends_later_and_an_error_has_a_name() {
        let mut reader = Reader::default();
        let began = reader.read(&format!("7 fsync(3<{}>(deleted) <unfinished ...>", hex("/a"))).unwrap();
        assert!(
            matches!(&began[..], [Seen::Began(call)] if matches!(call.arguments[..], [Argument::File { deleted: true, .. }]))
        );
        let ended = reader.read("7 <... fsync resumed>)            = -1 EIO (Input/output error) (INJECTED)");
        assert_eq!(ended.unwrap(), [Seen::Ended { thread: 7, how: Ended::Failed("EIO".into()) }]);
        let whole =
            reader.read(&format!("7 mkdir(\"{}\", 0700) = -1 EEXIST (File exists)", hex("/a"))).unwrap();
        assert_eq!(whole[1], Seen::Ended { thread: 7, how: Ended::Failed("EEXIST".into()) });
    }

    #[test]
    fn parts_of_a_write_are_put_together_and_an_open_gives_its_path() {
        let mut reader = Reader::default();
        let line = format!(
            "7 writev(3<{}>, [{{iov_base=\"{}\", iov_len=1}}, {{iov_base=\"{}\", iov_len=2}}], 2) = 3",
            hex("socket:[1]"),
            hex("a"),
            hex("bc")
        );
        let Seen::Began(call) = &reader.read(&line).unwrap()[0] else { panic!() };
        assert_eq!(call.arguments[1], Argument::Bytes(b"abc".to_vec()));
        let line =
            format!("7 openat(AT_FDCWD<{}>, \"{}\", O_RDONLY) = 4<{}>", hex("/w"), hex("a"), hex("/w/a"));
        let opened = reader.read(&line).unwrap();
        let how = Ended::Well { value: 4, path: Some("/w/a".into()) };
        assert_eq!(opened[1], Seen::Ended { thread: 7, how });
    }

    #[test]
    fn a_thread_that_dies_in_a_call_ends_it_and_nonsense_is_an_error() {
        let mut reader = Reader::default();
        reader.read(&format!("7 fsync(3<{}> <unfinished ...>", hex("/a"))).unwrap();
        assert_eq!(
            reader.read("7 +++ killed by SIGKILL +++").unwrap(),
            [Seen::Ended { thread: 7, how: Ended::Never }]
        );
        assert!(reader.read("7 +++ exited with 0 +++").unwrap().is_empty());
        assert!(reader.read("7 write(1<\\x61>, \"\\x61\"..., 9) = 9").is_err(), "cut off");
        assert!(reader.read("nonsense").is_err());
    }
}
