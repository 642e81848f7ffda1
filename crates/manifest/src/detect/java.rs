//! Java and its neighbours: Maven and Gradle, with their wrappers.

use super::folder::Folder;
use super::proposal::{Found, ProposedTask};

pub(super) fn find(folder: &Folder) -> Option<Found> {
    if folder.has("pom.xml") {
        let program = if folder.has("mvnw") { "./mvnw" } else { "mvn" };
        let mut found = Found::new(folder, "Java", "pom.xml");
        found.because(format!("tests: Maven ({program})"));
        let task =
            ProposedTask::new("test", &[program, "-B", "-ntp", "test"]).inputs(&["**", "!**/target/**"]);
        found.tasks.push(task.junit("**/target/surefire-reports/*.xml"));
        return Some(found);
    }
    let file =
        folder.first(&["settings.gradle.kts", "settings.gradle", "build.gradle.kts", "build.gradle"])?;
    let program = if folder.has("gradlew") { "./gradlew" } else { "gradle" };
    let mut found = Found::new(folder, "Java", file);
    found.because(format!("tests: Gradle ({program})"));
    let task = ProposedTask::new("test", &[program, "--no-daemon", "test"]);
    let task = task.inputs(&["**", "!**/build/**", "!**/.gradle/**"]);
    found.tasks.push(task.junit("**/build/test-results/*/*.xml"));
    Some(found)
}
