//! How a service starts, from a Procfile or a Dockerfile, where the language itself did not say.

use super::folder::Folder;
use super::proposal::{Found, ProposedService, plain_argv};

/// Adds the service that the folder's Procfile or Dockerfile starts, unless one is proposed already.
pub(super) fn add_service(folder: &Folder, found: &mut Found) {
    if found.service.is_some() {
        return;
    }
    let (reason, start) = match (procfile(folder), dockerfile(folder)) {
        (Some(start), _) => ("service: web in the Procfile", start),
        (None, Some(start)) => ("service: CMD in the Dockerfile", start),
        (None, None) => return,
    };
    let artifact = folder.program_globs();
    if artifact.is_empty() {
        return;
    }
    found.because(reason);
    found.service = Some(ProposedService {
        name: String::new(),
        artifact,
        start,
        ready: None,
        comment: "Narrow the artifact to what the service needs.".into(),
    });
}

/// `web: PROGRAM ARGUMENTS`, where `$PORT` is the only thing a shell would be needed for.
fn procfile(folder: &Folder) -> Option<Vec<String>> {
    let text = folder.read("Procfile")?;
    let line = text.lines().find_map(|line| line.strip_prefix("web:"))?.trim();
    let line = line.strip_prefix("exec ").unwrap_or(line);
    if line.is_empty() || line.contains(|c: char| c.is_control()) {
        return None;
    }
    let replaced = line.replace("${PORT}", "{port}").replace("$PORT", "{port}");
    Some(plain_argv(&replaced).unwrap_or_else(|| vec!["sh".into(), "-c".into(), format!("exec {line}")]))
}

/// `CMD ["PROGRAM", "ARGUMENT"]` of an image that speaks of `PORT`, and whose paths are relative: then it means the same here.
fn dockerfile(folder: &Folder) -> Option<Vec<String>> {
    let text = folder.read("Dockerfile")?;
    let starts =
        |line: &str, word: &str| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let instruction = |word: &str| {
        text.lines()
            .rev()
            .map(str::trim)
            .find(|line| starts(line, word))
            .map(|line| line[word.len()..].trim())
    };
    instruction("EXPOSE ")?;
    if !text.contains("PORT") {
        return None;
    }
    let list = |text: &str| serde_json::from_str::<Vec<String>>(text).ok();
    let mut argv = match instruction("ENTRYPOINT ") {
        Some(entry) => list(entry)?,
        None => Vec::new(),
    };
    if let Some(command) = instruction("CMD ") {
        argv.extend(list(command)?);
    }
    let foreign = |word: &String| word.starts_with('/') || word.contains('\0');
    (!argv.is_empty() && !argv[0].trim().is_empty() && !argv.iter().any(foreign)).then_some(argv)
}
