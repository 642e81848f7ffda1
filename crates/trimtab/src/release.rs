//! From a run that went well to a release: package, provenance, record; and the check of all that before a promotion.
//!
//! Invariant: the same commit with the same files is one release, however often it is shipped.

use std::collections::HashMap;

use attest::{Build, Expected, PublicKey, SigningKey, Statement};
use camino::{Utf8Path, Utf8PathBuf};
use delivery::change::Commit;
use delivery::code::Code;
use delivery::release::Release;
use delivery::{Digest, Event, Problem, ReleaseId};
use pipeline::{Globs, OutputFile};
use repo::{Repository, lineage};
use rollout::state::State;
use store::{Blobs, artifact};

use crate::carry::Ran;
use crate::project::Project;
use crate::promote::{Controller, SystemSeed};
use crate::signing;

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
            self.sign_again(repository, service, &release, ran).await?;
            return Ok(release);
        }
        let envelope = self.sign(repository, service, commit, ran, &artifact.digest).await?;
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

    /// Signs a release of before anew if its provenance can't be verified: it was just built from its commit once more, and
    /// came out the same.
    async fn sign_again(
        &mut self,
        repository: &Repository,
        service: &manifest::Service,
        release: &Release,
        ran: &Ran,
    ) -> Result<(), Vec<Problem>> {
        let blobs = blobs(self.project)?;
        contents(&blobs, release)?;
        let Err(problem) = provenance(&blobs, self.follower.state(), release) else { return Ok(()) };
        self.output.talk(format!("              signed again, because: {problem}"));
        let digest = release.artifact.digest.clone();
        let signed = self.sign(repository, service, &release.commit, ran, &digest).await?;
        let envelope = blobs.put_document(&signed.bytes).map_err(|error| vec![error.problem()])?;
        self.record(vec![Event::ArtifactSigned { digest, envelope, key: signed.key }]).await
    }

    /// The key that signs, and what came of asking for it, told.
    async fn signing_key(&mut self) -> Result<SigningKey, Vec<Problem>> {
        let before = self.follower.state().releases.len() as u64;
        let now = self.clock.now();
        let ours = signing::key(self.project, &mut self.follower, &self.actor, now).await?;
        if ours.made && before > 0 {
            self.output.talk(format!(
                "              a new signing key was made; {} signed by the one before, and stay valid",
                if before == 1 { "1 release is".to_owned() } else { format!("{before} releases are") }
            ));
        }
        self.tell_of(&ours.news);
        Ok(ours.key)
    }

    async fn sign(
        &mut self,
        repository: &Repository,
        service: &manifest::Service,
        commit: &Commit,
        ran: &Ran,
        digest: &Digest,
    ) -> Result<Signed, Vec<Problem>> {
        let key = self.signing_key().await?;
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
        provenance: Digest,
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
        "remove it, or leave it out of the artifact patterns; a task that makes it must name it among its outputs and write it anew",
    )])
}

/// Checks that a release's artifact is what was released, and that a key of ours signed where it is from.
pub(crate) fn verify(project: &Project, state: &State, release: &Release) -> Result<(), Vec<Problem>> {
    let blobs = blobs(project)?;
    contents(&blobs, release)?;
    provenance(&blobs, state, release).map_err(|problem| vec![problem])
}

fn contents(blobs: &Blobs, release: &Release) -> Result<(), Vec<Problem>> {
    artifact::load(&release.artifact.digest, blobs)
        .and_then(|list| artifact::verify(&list, blobs))
        .map_err(|error| vec![changed(Code::ArtifactChanged, "artifact", release, &error)])
}

/// That one of the envelopes about the release's artifact says that it was made from its commit. The private key is not asked
/// for: a rollback must not wait for one that was lost.
fn provenance(blobs: &Blobs, state: &State, release: &Release) -> Result<(), Problem> {
    let public = |(id, pem): (&Digest, &String)| PublicKey::from_pem(pem).ok().filter(|key| key.id() == id);
    let trusted: Vec<PublicKey> = state.keys.iter().filter_map(public).collect();
    let expected = Expected {
        digest: release.artifact.digest.clone(),
        commit: release.commit.id.clone(),
        service: release.artifact.service.clone(),
    };
    let verified = |envelope: &Digest| {
        let bytes = blobs
            .document(envelope)
            .map_err(|error| changed(Code::SignatureInvalid, "provenance", release, &error))?;
        attest::verify(&bytes, &trusted, &expected).map(drop).map_err(|error| error.problem())
    };
    verified(&release.provenance).or_else(|problem| {
        let again = state.envelopes.get(&release.artifact.digest).into_iter().flatten();
        if again.rev().any(|envelope| verified(envelope).is_ok()) { Ok(()) } else { Err(problem) }
    })
}

fn changed(code: Code, what: &str, release: &Release, error: &dyn std::error::Error) -> Problem {
    let (service, version) = (&release.artifact.service, &release.version);
    Problem::new(code, format!("the {what} of {service} {version} is not what was signed"))
        .because(error)
        .hint(
            "somebody or something changed it after it was signed; find out what, then ship the commit again",
        )
}
