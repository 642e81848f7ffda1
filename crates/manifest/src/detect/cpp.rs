//! C and C++: CMake, and Make where nothing else was recognised.
//!
//! Their builds keep their own state beside the results, so nothing is cached for them: they are quick by themselves when nothing
//! has changed, and wrong when only a part of that state is restored.

use super::folder::{Folder, ends};
use super::proposal::{Found, ProposedTask};

const SOURCES: [&str; 7] = [".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".hh"];

pub(super) fn cmake(folder: &Folder) -> Option<Found> {
    let lists = folder.read("CMakeLists.txt")?;
    let mut found = Found::new(folder, "C/C++", "CMakeLists.txt");
    found.tasks.push(ProposedTask::new("configure", &["cmake", "-S", ".", "-B", "build"]));
    let task = ProposedTask::new("build", &["cmake", "--build", "build"]).after("configure", &found);
    found.tasks.push(task);
    let lower = lists.to_ascii_lowercase();
    if lower.contains("enable_testing") || lower.contains("include(ctest)") {
        found.because("tests: CTest (enable_testing)");
        let command = ["ctest", "--test-dir", "build", "--output-on-failure", "--output-junit", "ctest.xml"];
        let task = ProposedTask::new("test", &command).junit("build/ctest.xml").after("build", &found);
        found.tasks.push(task);
    } else {
        found.because("no tests found");
    }
    Some(found)
}

pub(super) fn make(folder: &Folder) -> Option<Found> {
    let file = folder.first(&["GNUmakefile", "Makefile", "makefile"])?;
    let text = folder.read(file)?;
    let source = folder.any_beneath(|path| ends(path, &SOURCES));
    let mut found = Found::new(folder, if source.is_some() { "C/C++" } else { "Make" }, file);
    let target = |name: &str| {
        text.lines().any(|line| {
            let rest = line.strip_prefix(name).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with(':') && !rest.starts_with(":="))
        })
    };
    if source.is_some() {
        found.tasks.push(ProposedTask::new("build", &["make"]));
    }
    if target("lint") {
        found.tasks.push(ProposedTask::new("lint", &["make", "lint"]));
    }
    if let Some(name) = ["test", "check"].into_iter().find(|name| target(name)) {
        found.because(format!("tests: make {name}"));
        let task = ProposedTask::new("test", &["make", name]).after("build", &found);
        found.tasks.push(task);
    } else {
        found.because("no tests found");
    }
    // A Makefile that neither builds C nor names a check says nothing that could be run with confidence.
    (!found.tasks.is_empty()).then_some(found)
}
