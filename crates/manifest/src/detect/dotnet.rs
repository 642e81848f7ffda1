//! .NET: solutions and projects.

use super::folder::{Folder, ends};
use super::proposal::{Found, ProposedTask};

const INPUTS: [&str; 3] = ["**", "!**/bin/**", "!**/obj/**"];
const PROJECTS: [&str; 3] = [".csproj", ".fsproj", ".vbproj"];

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let of = |endings: &[&str]| -> Vec<&String> {
        folder.files.iter().filter(|name| ends(name, endings)).collect()
    };
    let (solutions, projects) = (of(&[".sln", ".slnx"]), of(&PROJECTS));
    let file = solutions.first().or(projects.first())?;
    let mut found = Found::new(folder, ".NET", file);
    // With several the program has to be told which.
    let several =
        (solutions.len() > 1 || (solutions.is_empty() && projects.len() > 1)).then_some(file.as_str());
    let tests = folder.beneath.iter().filter(|path| ends(path, &PROJECTS)).find(|path| {
        folder
            .read(path)
            .is_some_and(|text| text.contains("Microsoft.NET.Test.Sdk") || text.contains("MSTest.Sdk"))
    });
    let command = |verb: &'static str| -> Vec<&str> { ["dotnet", verb].into_iter().chain(several).collect() };
    if let Some(path) = tests {
        found.because(format!("tests: dotnet test ({path})"));
        found.tasks.push(ProposedTask::new("test", &command("test")).inputs(&INPUTS));
    } else {
        found.because("no tests found");
        found.tasks.push(ProposedTask::new("build", &command("build")));
    }
    Some(found)
}
