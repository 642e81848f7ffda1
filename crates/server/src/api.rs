//! Version 1 of the API: the same views that the pages are made from, as JSON.
//!
//! Leaves out authorization (`guard`). Invariant: domain types leave here only through `view`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use delivery::code::Code;
use delivery::report::Origin;
use delivery::{EnvironmentName, ReleaseId, RolloutId};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use store::Entry;

use crate::app::{App, blocking};
use crate::cdevents;
use crate::guard::{Permit, Reporter};
use crate::operations::Approval;
use crate::pages;
use crate::refusal::Refusal;
use crate::view::log::LineView;
use crate::view::rollout::RolloutView;
use crate::view::state::{StateView, WaitingView, waiting};
use crate::view::{Bounded, VERSION};

/// Records that one answer holds.
const LEDGER_MAX: usize = 1_000;
const LEDGER_DEFAULT: usize = 100;
/// Rollouts that one answer holds.
pub(crate) const ROLLOUTS_MAX: usize = 50;
/// A reason or a comment.
pub(crate) const REASON_BYTES_MAX: usize = 1_000;

type Answer = Result<Response, Refusal>;

/// `GET /api/v1/state`.
pub(crate) async fn state(State(app): State<Arc<App>>) -> Answer {
    let view = pages::around(&app, |around, chronicle| StateView::of(chronicle.state(), around)).await?;
    Ok(Json(view).into_response())
}

#[derive(Serialize)]
struct RolloutsAnswer {
    version: u32,
    rollouts: Bounded<RolloutView>,
    /// The `before` of the next request; absent at the end.
    next_before: Option<String>,
}

/// From where on rollouts are listed.
#[derive(Deserialize)]
pub(crate) struct Before {
    /// The id of a rollout: those that began before it.
    pub(crate) before: Option<String>,
}

impl Before {
    pub(crate) fn id(query: Result<Query<Self>, QueryRejection>) -> Result<Option<RolloutId>, Refusal> {
        let Query(query) = query.map_err(|_| unreadable_query())?;
        query.before.as_deref().map(rollout_id).transpose()
    }
}

/// `GET /api/v1/rollouts?before=`, newest first.
pub(crate) async fn rollouts(
    State(app): State<Arc<App>>,
    query: Result<Query<Before>, QueryRejection>,
) -> Answer {
    let before = Before::id(query)?;
    let page = pages::rollouts_page(&app, before, ROLLOUTS_MAX).await?;
    let answer = RolloutsAnswer { version: VERSION, rollouts: page.rollouts, next_before: page.next_before };
    Ok(Json(answer).into_response())
}

/// `GET /api/v1/rollouts/{id}`.
pub(crate) async fn rollout(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let detail = pages::detail(&app, rollout_id(&id)?).await?;
    Ok(Json(detail).into_response())
}

#[derive(Serialize)]
struct WhyAnswer {
    version: u32,
    waiting: Bounded<WaitingView>,
}

/// `GET /api/v1/why`.
pub(crate) async fn why(State(app): State<Arc<App>>) -> Answer {
    let waiting = pages::around(&app, |around, chronicle| waiting(chronicle.state(), around)).await?;
    Ok(Json(WhyAnswer { version: VERSION, waiting }).into_response())
}

/// Which records.
#[derive(Deserialize)]
pub(crate) struct Span {
    after: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct LedgerAnswer {
    version: u32,
    /// How many records there are.
    size: u64,
    /// The `after` of the next request; absent at the end.
    next_after: Option<u64>,
    entries: Vec<LineView>,
    /// The sequences among these that can't be read.
    quarantined: Vec<u64>,
}

/// `GET /api/v1/ledger?after=&limit=`.
pub(crate) async fn ledger(
    State(app): State<Arc<App>>,
    query: Result<Query<Span>, QueryRejection>,
) -> Answer {
    let Query(span) = query.map_err(|_| unreadable_query())?;
    let limit = span.limit.unwrap_or(LEDGER_DEFAULT);
    if limit == 0 || limit > LEDGER_MAX {
        let sentence = format!("limit is {limit}, it must be 1 to {LEDGER_MAX}");
        return Err(Refusal::invalid(StatusCode::BAD_REQUEST, sentence));
    }
    let answer = blocking(&app, move |app| {
        let found = app.ledger.read(span.after.unwrap_or(0), limit)?;
        let now = app.now();
        let chronicle = app.chronicle();
        let state = chronicle.state();
        let last = found.last().map(Entry::sequence);
        let (mut entries, mut quarantined) = (Vec::new(), Vec::new());
        for entry in &found {
            match entry {
                Entry::Record(recorded) => entries.push(LineView::of(recorded, state, now)),
                Entry::Quarantined { sequence, .. } => quarantined.push(*sequence),
            }
        }
        let next_after = last.filter(|last| *last < state.size);
        Ok(LedgerAnswer { version: VERSION, size: state.size, next_after, entries, quarantined })
    })
    .await?;
    Ok(Json(answer).into_response())
}

/// What a rollback, or letting a held rollout go on, is asked with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reasoned {
    reason: String,
}

#[derive(Serialize)]
struct Acknowledgement {
    version: u32,
    accepted: bool,
    /// Whether a controller is at work, which hears of it at once; absent where none is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    driven: Option<bool>,
}

fn accepted(driven: Option<bool>) -> Response {
    (StatusCode::ACCEPTED, Json(Acknowledgement { version: VERSION, accepted: true, driven })).into_response()
}

/// `POST /api/v1/rollouts/{id}/rollback`: 202 when the request is recorded.
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    permit: Permit,
    body: Result<Json<Reasoned>, JsonRejection>,
) -> Answer {
    let Json(request) = body.map_err(|rejection| unreadable(&rejection))?;
    let reason = reason(&request.reason, true)?;
    let id = rollout_id(&id)?;
    app.roll_back(permit.actor(), id.clone(), reason).await?;
    Ok(accepted(pages::driven(&app, &id).await?))
}

/// `POST /api/v1/rollouts/{id}/resume`: 202 when it is recorded that a person lets it go on.
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    permit: Permit,
    body: Result<Json<Reasoned>, JsonRejection>,
) -> Answer {
    let Json(request) = body.map_err(|rejection| unreadable(&rejection))?;
    let reason = reason(&request.reason, true)?;
    let id = rollout_id(&id)?;
    app.operations.resume(permit.actor(), id.clone(), reason).await?;
    Ok(accepted(pages::driven(&app, &id).await?))
}

/// What an approval is given with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalRequest {
    environment: String,
    #[serde(default)]
    comment: String,
}

/// `POST /api/v1/releases/{id}/approvals`: 202 when the approval is recorded.
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    permit: Permit,
    body: Result<Json<ApprovalRequest>, JsonRejection>,
) -> Answer {
    let Json(request) = body.map_err(|rejection| unreadable(&rejection))?;
    let comment = reason(&request.comment, false)?;
    let (release, environment) = (release_id(&id)?, environment_name(&request.environment)?);
    app.operations.approve(permit.actor(), Approval { release, environment, seen: None, comment }).await?;
    Ok(accepted(None))
}

/// What was recorded of a report.
#[derive(Serialize)]
struct ReceiptAnswer {
    version: u32,
    recorded: Vec<Receipt>,
}

#[derive(Serialize)]
struct Receipt {
    source: String,
    id: String,
    sequence: u64,
}

/// `POST /api/v1/events`: 200 when all events of the request are recorded, with their sequences; the same answer again for
/// those that were recorded before.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    _: Reporter,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let reports = cdevents::read(&headers, &body).map_err(|unusable| Refusal::unusable(&unusable))?;
    let origins: Vec<Origin> = reports.iter().map(|report| report.origin.clone()).collect();
    let sequences = app.intake.take(reports).await?;
    let receipt =
        |(origin, sequence): (Origin, u64)| Receipt { source: origin.source, id: origin.id, sequence };
    let recorded = origins.into_iter().zip(sequences).map(receipt).collect();
    Ok(Json(ReceiptAnswer { version: VERSION, recorded }).into_response())
}

fn unreadable(rejection: &JsonRejection) -> Refusal {
    Refusal::invalid(rejection.status(), rejection.body_text())
}

fn unreadable_query() -> Refusal {
    Refusal::invalid(StatusCode::BAD_REQUEST, "the query can't be understood")
}

/// Whether the character would change how the record reads: control characters, and those that turn text round.
pub(crate) fn is_deceptive(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A reason or comment as it is recorded: trimmed, on one line, not too long, and without characters that deceive.
pub(crate) fn reason(text: &str, required: bool) -> Result<String, Refusal> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > REASON_BYTES_MAX {
        let sentence =
            format!("the reason is {} bytes long, at most {REASON_BYTES_MAX} are allowed", text.len());
        return Err(Refusal::invalid(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    if let Some(character) = text.chars().find(|character| is_deceptive(*character)) {
        let sentence =
            format!("the reason holds the character U+{:04X}, which can't be read", character as u32);
        return Err(Refusal::invalid(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    if required && text.is_empty() {
        let refusal = Refusal::invalid(StatusCode::UNPROCESSABLE_ENTITY, "a reason is missing");
        return Err(refusal.hint("say why, for those who read the record later"));
    }
    Ok(text)
}

pub(crate) fn rollout_id(text: &str) -> Result<RolloutId, Refusal> {
    RolloutId::new(text).map_err(|error| {
        Refusal::unknown(Code::RolloutUnknown, format!("{text:?} is not a rollout: {error}"))
    })
}

pub(crate) fn release_id(text: &str) -> Result<ReleaseId, Refusal> {
    ReleaseId::new(text)
        .map_err(|error| Refusal::unknown(Code::ThingUnknown, format!("{text:?} is not a release: {error}")))
}

pub(crate) fn environment_name(text: &str) -> Result<EnvironmentName, Refusal> {
    EnvironmentName::new(text).map_err(|error| {
        Refusal::unknown(Code::EnvironmentUnknown, format!("{text:?} is not an environment: {error}"))
    })
}
