//! From a run that went well to a release: package, provenance, record; and the check of all that before a promotion.
//!
//! Invariant: the same commit with the same files is one release, however often it is shipped.

use std::collections::HashMap;

use attest::{Build, Expected, SigningKey, Statement};
use camino::{Utf8Path, Utf8PathBuf};
use delivery::change::Commit;
use delivery::code::Code;
use delivery::release::Release;
use delivery::{Event, Problem, ReleaseId};
use pipeline::{Globs, OutputFile};
use repo::{Repository, lineage};
use store::{Blobs, artifact};

use crate::carry::Ran;
use crate::project::Project;
use crate::promote::{Controller, SystemSeed};

/// Subjects that a release's record keeps; the rest are in the repository.
const CHANGELOG_SUBJECTS: usize = 200;

impl Controller<'_> {
    /// Packages, signs and records a release of the service, unless the very same was released before.
    pub(crate) async fn release(
        &mut self,
        repository: &Repository,
        service: &manifest::Service,
        commit: &Commit,
        ran: &Ran,
    ) -> Result<Release, Vec<Problem>> {
        let blobs = blobs(self.project)?;
        let root = self.project.root.join(&service.directory);
        let files = artifact_files(&root, service)?;
        // Before, so that no stray secret enters the store; after, so that what was packaged is what was checked.
        answered_for(self.project, repository, service, commit, ran, &files)?;
        let (artifact, _) =
            artifact::pack(&root, &files, &service.name, &blobs).map_err(|error| vec![error.problem()])?;
        answered_for(self.project, repository, service, commit, ran, &files)?;
        let state = self.follower.state();
        let same = state.releases.iter().rev().map(|record| &record.release).find(|release| {
            release.artifact.digest == artifact.digest
                && release.commit.id == commit.id
                && release.artifact.service == service.name
        });
        if let Some(release) = same.cloned() {
            self.output.talk(format!(
                "              {} {} was released before ({})",
                service.name, release.version, release.id
            ));
            // What gates say of this run now counts for the release.
            self.record(vec![Event::ArtifactPackaged { run: ran.id.clone(), artifact }]).await?;
            return Ok(release);
        }
        let envelope = self.sign(repository, service, commit, ran, &artifact.digest)?;
        let provenance = blobs.put_document(&envelope.bytes).map_err(|error| vec![error.problem()])?;
        let release = self.describe(repository, service, commit, ran, artifact, provenance)?;
        self.record(vec![
            Event::ArtifactPackaged { run: ran.id.clone(), artifact: release.artifact.clone() },
            Event::ArtifactSigned {
                digest: release.artifact.digest.clone(),
                envelope: release.provenance.clone(),
                key: envelope.key,
            },
            Event::ReleaseCreated { release: Box::new(release.clone()) },
        ])
        .await?;
        Ok(release)
    }

    fn sign(
        &self,
        repository: &Repository,
        service: &manifest::Service,
        commit: &Commit,
        ran: &Ran,
        digest: &delivery::Digest,
    ) -> Result<Signed, Vec<Problem>> {
        let key = SigningKey::open_or_create(&self.project.layout.signing_key())
            .map_err(|error| vec![error.problem()])?;
        let folder = repository.root().file_name().unwrap_or("repository").to_owned();
        let statement = Statement::local(&Build {
            digest: digest.clone(),
            service: service.name.clone(),
            repository: repository.origin().ok().flatten().unwrap_or(folder),
            branch: repository.branch().map_err(|error| vec![error.problem()])?,
            commit: commit.id.clone(),
            tasks: ran.report.tasks.iter().map(|task| task.task.clone()).collect(),
            run: ran.id.clone(),
            started_at: ran.span.0,
            finished_at: ran.span.1,
        });
        Ok(Signed { bytes: statement.seal(&key).to_bytes(), key: key.id().to_string() })
    }

    fn describe(
        &self,
        repository: &Repository,
        service: &manifest::Service,
        commit: &Commit,
        ran: &Ran,
        artifact: delivery::artifact::Artifact,
        provenance: delivery::Digest,
    ) -> Result<Release, Vec<Problem>> {
        let several = self.project.manifest.services.len() > 1;
        let problem = |error: repo::Error| vec![error.problem()];
        let mut paths = Vec::new();
        if several {
            // The manifest's paths are relative to its folder, git's to the repository's root.
            let folder = repository.path_of(&self.project.root).map_err(problem)?;
            paths.push(folder.join(&service.directory));
        }
        let releases = || self.follower.state().releases.iter().map(|record| &record.release);
        let own: Vec<&Release> =
            releases().rev().filter(|release| release.artifact.service == service.name).collect();
        let question = lineage::Question {
            commit,
            service: several.then_some(&service.name),
            paths: &paths,
            own: &own,
            first: releases().next(),
        };
        let lineage = lineage::trace(repository, &question).map_err(problem)?;
        if let Some(lost) = &lineage.lost {
            self.output.talk(format!(
                "              note: the commit of the release before ({}) is not in the repository any longer; authors and \
                 changelog count from what is left",
                lost.short()
            ));
        }
        let subjects = lineage.changelog.into_iter().map(|commit| commit.subject);
        Ok(Release {
            id: ReleaseId::mint(&mut SystemSeed),
            version: lineage.version,
            commit: commit.clone(),
            artifact,
            authors: lineage.authors,
            changelog: subjects.take(CHANGELOG_SUBJECTS).collect(),
            run: ran.id.clone(),
            provenance,
        })
    }
}

struct Signed {
    bytes: Vec<u8>,
    key: String,
}

fn blobs(project: &Project) -> Result<Blobs, Vec<Problem>> {
    Blobs::open(&project.layout.blobs()).map_err(|error| vec![error.problem()])
}

/// The files that the service's artifact globs match, relative to its folder.
fn artifact_files(root: &Utf8Path, service: &manifest::Service) -> Result<Vec<Utf8PathBuf>, Vec<Problem>> {
    let problem = |error: &dyn std::error::Error| {
        let message = format!("the artifact patterns of {} can't be followed", service.name);
        vec![Problem::new(Code::ArtifactUnpackable, message).because(error)]
    };
    let globs = Globs::new(Utf8Path::new(""), &service.artifact).map_err(|error| problem(&error))?;
    let files = globs.files(root).map_err(|error| problem(&error))?;
    Ok(files.into_iter().map(Utf8PathBuf::from).collect())
}

/// Refuses files that neither the commit nor a task of the run answers for: the signature says that both did. The paths are
/// relative to the service's folder.
fn answered_for(
    project: &Project,
    repository: &Repository,
    service: &manifest::Service,
    commit: &Commit,
    ran: &Ran,
    files: &[Utf8PathBuf],
) -> Result<(), Vec<Problem>> {
    let problem = |error: &dyn std::error::Error| {
        vec![Problem::new(Code::ArtifactUnpackable, "a file of the artifact can't be read").because(error)]
    };
    let made: HashMap<&Utf8Path, &OutputFile> =
        ran.report.tasks.iter().flat_map(|task| &*task.outputs).map(|file| (&*file.path, file)).collect();
    let mut rest = Vec::new();
    for file in files {
        let whole = project.root.join(&service.directory).join(file);
        let whole: Utf8PathBuf = whole.components().filter(|part| part.as_str() != ".").collect();
        let inner = whole.strip_prefix(&project.root).unwrap_or(&whole);
        let is_made = |path: &Utf8Path| match made.get(path) {
            Some(made) => made.is_in_place(&project.root).map_err(|error| problem(&error)),
            None => Ok(false),
        };
        if is_made(inner)? {
            continue;
        }
        // A link of the commit may lead to a file that is none.
        let real = whole.canonicalize_utf8().map_err(|error| problem(&error))?;
        let target = real.strip_prefix(&project.root).unwrap_or(&real);
        let foreign = real != whole && !is_made(target)?;
        let committed = std::iter::once(&whole).chain(foreign.then_some(&real));
        rest.extend(committed.filter_map(|path| Some(path.strip_prefix(repository.root()).ok()?.to_owned())));
    }
    let foreign = repository.foreign(&commit.id, &rest).map_err(|error| vec![error.problem()])?;
    let Some(first) = foreign.first() else { return Ok(()) };
    let more = if foreign.len() > 1 { format!(" and {} more", foreign.len() - 1) } else { String::new() };
    let message = format!(
        "{first}{more} would be in the artifact of {}, but the commit does not hold it and no task of this run wrote it",
        service.name
    );
    Err(vec![Problem::new(Code::ArtifactUnpackable, message).hint(
        "remove it, or leave it out of the artifact patterns; if a task makes it, name it among the task's outputs",
    )])
}

/// Checks a release's provenance against the artifact, the commit and the key.
pub(crate) fn verify(project: &Project, release: &Release) -> Result<(), Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let name = format!("{} {}", release.artifact.service, release.version);
    let again =
        "somebody or something changed it after it was signed; find out what, then ship the commit again";
    let changed = |code: Code, what: &str, error: &dyn std::error::Error| {
        one(Problem::new(code, format!("the {what} of {name} is not what was signed"))
            .because(error)
            .hint(again))
    };
    let blobs = blobs(project)?;
    let list = artifact::load(&release.artifact.digest, &blobs)
        .and_then(|list| artifact::verify(&list, &blobs).map(|()| list))
        .map_err(|error| changed(Code::ArtifactChanged, "artifact", &error))?;
    let envelope = blobs
        .document(&release.provenance)
        .map_err(|error| changed(Code::SignatureInvalid, "provenance", &error))?;
    let key = SigningKey::open(&project.layout.signing_key()).map_err(|error| one(error.problem()))?;
    let expected = Expected {
        digest: list.digest(),
        commit: release.commit.id.clone(),
        service: release.artifact.service.clone(),
    };
    attest::verify(&envelope, std::slice::from_ref(key.public()), &expected)
        .map_err(|error| one(error.problem()))?;
    Ok(())
}
