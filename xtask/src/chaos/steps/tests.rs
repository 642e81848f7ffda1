//! Calls as strace writes them, and what they leave on the disk of the model.

use super::*;

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"))
}

/// Lines of thread 7 in which `"text"` and `<text>` stand for hexadecimal.
fn steps(lines: &[&str]) -> Result<Vec<Step>, String> {
    let line = |line: &&str| {
        let mut out = String::from("7 ");
        for (at, part) in line.split(['"', '<', '>']).enumerate() {
            let mark = line.match_indices(['"', '<', '>']).nth(at).map_or("", |(_, mark)| mark);
            let text = if at % 2 == 1 { hex(part) } else { part.to_owned() };
            out = out + &text + mark;
        }
        Ok(out)
    };
    translate(lines.iter().map(line), Utf8Path::new("/p"))
}

fn replayed(steps: &[Step]) -> Replay {
    let mut replay = Replay::new(true);
    steps.iter().for_each(|step| replay.step(step).unwrap());
    replay
}

const MAKE: [&str; 4] = [
    "mkdir(\"/p/.trimtab\", 0700) = 0",
    "openat(AT_FDCWD</p>, \"/p/.trimtab/a\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</p/.trimtab/a>",
    "write(3</p/.trimtab/a>, \"one\", 3) = 3",
    "write(3</p/.trimtab/a>, \"two\", 3) = 3",
];

#[test]
fn writes_follow_each_other_and_a_rename_replaces() {
    let steps = steps(&[&MAKE[..], &["rename(\"/p/.trimtab/a\", \"/p/.trimtab/b\") = 0"]].concat()).unwrap();
    let live = replayed(&steps).disk.live();
    assert_eq!(live, [(".trimtab/b".to_owned(), b"onetwo".to_vec())].into());
}

#[test]
fn a_call_that_failed_changed_nothing() {
    let more = [
        "write(3</p/.trimtab/a>, \"three\", 5) = -1 ENOSPC (No space left on device)",
        "unlink(\"/p/.trimtab/a\") = -1 EACCES (Permission denied)",
    ];
    let live = replayed(&steps(&[&MAKE[..], &more].concat()).unwrap()).disk.live();
    assert_eq!(live[".trimtab/a"], b"onetwo");
}

#[test]
fn what_the_model_does_not_know_is_an_error() {
    for call in [
        "fallocate(3</p/.trimtab/a>, 0, 0, 4096) = 0",
        "sendfile(3</p/.trimtab/a>, 4</p/x>, NULL, 4096) = 4096",
        "copy_file_range(4</p/x>, NULL, 3</p/.trimtab/a>, NULL, 4096, 0) = 4096",
        "symlink(\"/x\", \"/p/.trimtab/s\") = 0",
    ] {
        let error = steps(&[&MAKE[..], &[call]].concat()).unwrap_err();
        assert!(error.contains("which the model of the disk does not know"), "{call}: {error}");
    }
    assert!(steps(&["sendfile(3</p/other>, 4</p/x>, NULL, 4096) = 4096"]).is_ok(), "not ours");
}

#[test]
fn logs_and_shared_memory_are_left_out_and_the_folder_itself_is_not() {
    assert!(watched("") && watched(".trimtab") && watched(".trimtab/ledger.db-wal"));
    assert!(!watched(".trimtab/ledger.db-shm") && !watched(".trimtab/logs/a") && !watched("src/a"));
    assert!(watched(".trimtab/logs-of-mine") && !watched(".trimtabs"));
    let synced = steps(&["fsync(3</p>) = 0"]).unwrap();
    assert_eq!(synced[0], Step::Sync { thread: 7, path: String::new() });
}

#[test]
fn an_answer_counts_from_its_beginning() {
    let line = format!("7 write(1<{}>, \"{}\", 16 <unfinished ...>", hex("/out"), hex("10:20:30.123  up"));
    let steps = translate(std::iter::once(Ok(line)), Utf8Path::new("/p"));
    assert_eq!(steps.unwrap(), [Step::Acknowledged(Acknowledged::Told("10:20:30.123".into()))]);
}
