//! PHP: Composer, PHPUnit, PHPStan.

use super::folder::Folder;
use super::proposal::{Found, ProposedTask};

const INPUTS: [&str; 3] = ["**", "!vendor/**", "!.phpunit.cache/**"];

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let composer = folder.json("composer.json")?;
    let mut found = Found::new(folder, "PHP", "composer.json");
    let pinned: &[&str] = if folder.has("composer.lock") { &["composer.json", "composer.lock"] } else { &[] };
    let install = ProposedTask::new("install", &["composer", "install", "--no-interaction"]);
    found.tasks.push(install.pinned_by(pinned, folder));
    if let Some(file) = folder.first(&["phpstan.neon", "phpstan.neon.dist", "phpstan.dist.neon"]) {
        found.because(format!("lint: PHPStan ({file})"));
        let task =
            ProposedTask::new("lint", &["vendor/bin/phpstan", "analyse", "--no-progress"]).inputs(&INPUTS);
        let task = task.after("install", &found);
        found.tasks.push(task);
    }
    let script = composer.get("scripts").and_then(|scripts| scripts.get("test"));
    let task = if let Some(file) = folder.first(&["phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml"]) {
        found.because(format!("tests: PHPUnit ({file})"));
        ProposedTask::new("test", &["vendor/bin/phpunit", "--log-junit", "reports/phpunit.xml"])
            .inputs(&INPUTS)
            .junit("reports/phpunit.xml")
    } else if script.is_some() {
        found.because("tests: the script");
        ProposedTask::new("test", &["composer", "run-script", "test"]).inputs(&INPUTS)
    } else {
        found.because("no tests found");
        return Some(found);
    };
    let task = task.after("install", &found);
    found.tasks.push(task);
    Some(found)
}
