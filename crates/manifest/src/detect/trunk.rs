//! The branch that releases are made from, as git's own files name it.

use camino::Utf8Path;

/// Where neither the remote nor the branches say.
const DEFAULT: &str = "main";

/// The remote's default branch; else `main` or `master`, whichever is there alone.
pub(super) fn trunk(root: &Utf8Path) -> String {
    let read = |name: &str| {
        let path = root.join(".git").join(name);
        let small = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1 << 20);
        if small { std::fs::read_to_string(path).ok() } else { None }
    };
    let remote = read("refs/remotes/origin/HEAD");
    let remote = remote.as_deref().and_then(|text| text.trim().strip_prefix("ref: refs/remotes/origin/"));
    if let Some(branch) = remote.filter(|branch| crate::format::Format::Branch.check(branch).is_ok()) {
        return branch.to_owned();
    }
    let packed = read("packed-refs").unwrap_or_default();
    let head = read("HEAD").unwrap_or_default();
    let exists = |branch: &str| {
        let name = format!("refs/heads/{branch}");
        read(&name).is_some()
            || packed.lines().any(|line| line.ends_with(&format!(" {name}")))
            || head.trim().ends_with(&name)
    };
    if !exists(DEFAULT) && exists("master") { "master".to_owned() } else { DEFAULT.to_owned() }
}
