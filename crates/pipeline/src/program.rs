//! Where a task's program is.
//!
//! Done here and not left to the system, so that a relative path is always relative to the task's directory, and so that what
//! is missing can be told. Invariant: a program that is found is an executable file.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// Finds the program, or says in one clause why it can't be started. A name with a slash is relative to `directory`; any
/// other is looked for in `search`, the value of `PATH`.
pub(crate) fn find(program: &str, directory: &Utf8Path, search: Option<&str>) -> Result<Utf8PathBuf, String> {
    if !directory.is_dir() {
        return Err(format!("the directory {directory} does not exist"));
    }
    if program.contains('/') {
        let path = directory.join(program);
        return match is_executable(&path) {
            Some(true) => Ok(path),
            Some(false) => Err(format!("{program} is not executable (chmod +x {path})")),
            None => Err(format!("there is no file {program} in {directory}")),
        };
    }
    let Some(search) = search else {
        return Err(format!("{program} can't be found, because PATH is not set"));
    };
    let mut barred = None;
    for folder in search.split(':') {
        let path = directory.join(folder).join(program);
        match is_executable(&path) {
            Some(true) => return Ok(path),
            Some(false) => barred = barred.or(Some(path)),
            None => {}
        }
    }
    Err(match barred {
        Some(path) => format!("{path} is not executable"),
        None => format!("{program} is not installed, or its folder is not in PATH ({search})"),
    })
}

/// `None`: no such file.
fn is_executable(path: &Utf8Path) -> Option<bool> {
    let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::write(directory.join("tool"), "#!/bin/sh\n").unwrap();
        let told = |program, search| find(program, directory, search).unwrap_err();
        assert!(told("./tool", None).contains("chmod +x"), "{}", told("./tool", None));
        assert!(told("./other", None).contains("no file ./other"));
        assert!(told("tool", Some(".")).contains("not executable"));
        assert!(told("no-such-tool", Some("/bin:/usr/bin")).contains("/bin:/usr/bin"));
        assert!(told("sh", None).contains("PATH is not set"));
        assert!(find("sh", &directory.join("absent"), Some("/bin")).unwrap_err().contains("does not exist"));
        assert_eq!(find("sh", directory, Some("/nowhere:/bin")).unwrap(), "/bin/sh");
    }
}
