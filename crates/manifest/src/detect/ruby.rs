//! Ruby: Bundler, RSpec, Rails, Rake, RuboCop.

use super::folder::Folder;
use super::proposal::{Found, ProposedTask};

const INPUTS: [&str; 4] = ["**", "!vendor/bundle/**", "!tmp/**", "!log/**"];

pub(super) fn find(folder: &Folder) -> Option<Found> {
    let gems = folder.read("Gemfile")?;
    let mut found = Found::new(folder, "Ruby", "Gemfile");
    let pinned: &[&str] = if folder.has("Gemfile.lock") { &["Gemfile", "Gemfile.lock"] } else { &[] };
    found.tasks.push(ProposedTask::new("install", &["bundle", "install"]).pinned_by(pinned, folder));
    if folder.has(".rubocop.yml") {
        found.because("lint: RuboCop (.rubocop.yml)");
        let task = ProposedTask::new("lint", &["bundle", "exec", "rubocop"])
            .inputs(&INPUTS)
            .after("install", &found);
        found.tasks.push(task);
    }
    let task = if folder.has(".rspec") || folder.folders.contains("spec") {
        found.because(if folder.has(".rspec") { "tests: RSpec (.rspec)" } else { "tests: RSpec (spec)" });
        let task = ProposedTask::new("test", &["bundle", "exec", "rspec"]).inputs(&INPUTS);
        if gems.contains("rspec_junit_formatter") {
            let mut task = task.junit("reports/rspec.xml");
            let more =
                ["--format", "progress", "--format", "RspecJunitFormatter", "--out", "reports/rspec.xml"];
            task.command.extend(more.map(str::to_owned));
            task
        } else {
            task
        }
    } else if folder.read("bin/rails").is_some() && folder.folders.contains("test") {
        found.because("tests: Rails (bin/rails)");
        ProposedTask::new("test", &["bin/rails", "test"]).inputs(&INPUTS)
    } else if folder.has("Rakefile") && folder.folders.contains("test") {
        found.because("tests: Rake (Rakefile, test)");
        ProposedTask::new("test", &["bundle", "exec", "rake", "test"]).inputs(&INPUTS)
    } else {
        found.because("no tests found");
        return Some(found);
    };
    let task = task.after("install", &found);
    found.tasks.push(task);
    Some(found)
}
