//! The process's environment: the only place of this crate that reads variables.

use camino::Utf8PathBuf;

/// The value of a variable, if it is set and is text.
#[expect(clippy::disallowed_methods, reason = "this module owns the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How to start this very program again.
pub(crate) fn program() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok())
        .unwrap_or_else(|| "trimtab".into())
}

/// This process, for people.
pub(crate) fn holder(command: &str) -> String {
    format!("trimtab {command} (pid {})", std::process::id())
}

/// The folder that the command was started in.
pub(crate) fn current_directory() -> std::io::Result<Utf8PathBuf> {
    let path = std::env::current_dir()?;
    Utf8PathBuf::from_path_buf(path)
        .map_err(|path| std::io::Error::other(format!("the folder's name is not UTF-8: {}", path.display())))
}
