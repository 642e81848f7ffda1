//! The pages: what they are made from, and the forms that act.
//!
//! A page is its main part within a frame; with the header `x-fragment: main` only the main part is answered, which is what
//! the script swaps in. Leaves out the HTML (`templates/`). Invariant: everything on a page can be read, and done, without
//! script.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use delivery::code::Code;
use delivery::effect::{Effect, Outcome};
use delivery::release::Release;
use delivery::traffic::Weight;
use delivery::{EnvironmentName, Event, Problem, Recorded, RolloutId, ServiceName, Timestamp};
use http::header::{LOCATION, SET_COOKIE, VARY};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use store::Entry;

use crate::api::{self, ROLLOUTS_MAX};
use crate::app::{App, blocking};
use crate::assets::{ADDRESSES, Addresses};
use crate::chart::{self, Figure, Story};
use crate::chronicle::Chronicle;
use crate::guard::{self, Permit};
use crate::refusal::Refusal;
use crate::view::Bounded;
use crate::view::log::{Group, LineView, groups};
use crate::view::rollout::{RolloutDetail, RolloutView};
use crate::view::state::{Around, StateView};

/// Events that a rollout's page tells: the last ones.
const LOG_MAX: u64 = 2_000;
/// Ended rollouts on the Now page.
const HISTORY_MAX: usize = 8;

type Answer = Result<Response, Refusal>;

/// The frame of every page.
#[derive(Template)]
#[template(path = "page.html")]
struct Frame<'a> {
    title: &'a str,
    project: &'a str,
    /// The part of the navigation that is marked.
    place: &'a str,
    identity: &'a str,
    signed_in: bool,
    addresses: &'a Addresses,
    /// HTML.
    main: &'a str,
}

#[derive(Template)]
#[template(path = "now.html")]
struct NowMain {
    view: StateView,
    history: Bounded<RolloutView>,
    recent: Vec<LineView>,
    trouble: Option<String>,
}

#[derive(Template)]
#[template(path = "rollouts.html")]
struct RolloutsMain {
    rollouts: Bounded<RolloutView>,
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct RolloutMain {
    detail: RolloutDetail,
    figures: Vec<Figure>,
    log: Vec<Group>,
    /// `2,000 of 3,120`, when the log is cut.
    log_shown: Option<String>,
    signed_in: bool,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmMain<'a> {
    title: String,
    lead: String,
    /// Where the form goes.
    action: String,
    /// Where it doesn't.
    back: String,
    field: &'a str,
    label: &'a str,
    required: bool,
    button: String,
    keep: &'a str,
    danger: bool,
    csrf: &'a str,
    command: String,
    signed_in: bool,
    identity: String,
    bytes_max: usize,
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalMain<'a> {
    status: u16,
    problem: &'a Problem,
}

/// How a page is asked for.
struct Asked {
    fragment: bool,
    signed_in: bool,
}

impl Asked {
    fn of(app: &App, headers: &HeaderMap) -> Self {
        let fragment = headers.get("x-fragment").is_some_and(|value| value == "main");
        Self { fragment, signed_in: app.guard.in_session(headers) }
    }
}

fn render(app: &App, asked: &Asked, title: &str, place: &str, main: &impl Template) -> Answer {
    let main = main.render().map_err(|_| Refusal::internal())?;
    let html = if asked.fragment {
        main
    } else {
        let identity = app.identity.to_string();
        let frame = Frame {
            title,
            project: &app.project,
            place,
            identity: &identity,
            signed_in: asked.signed_in,
            addresses: &ADDRESSES,
            main: &main,
        };
        frame.render().map_err(|_| Refusal::internal())?
    };
    Ok(([(VARY, "x-fragment")], axum::response::Html(html)).into_response())
}

/// A refusal as a page.
pub(crate) fn refusal(app: &App, signed_in: bool, refusal: &Refusal) -> Response {
    let main = RefusalMain { status: refusal.status.as_u16(), problem: &refusal.problem };
    let asked = Asked { fragment: false, signed_in };
    match render(app, &asked, refusal.problem.code.title(), "", &main) {
        Ok(page) => (refusal.status, page).into_response(),
        Err(failed) => failed.into_response(),
    }
}

/// Calls back with what views are made with. Asks for controllers first, without the lock. Blocks.
pub(crate) fn around<T>(app: &App, make: impl FnOnce(&Around<'_>, &Chronicle) -> T) -> T {
    let active: Vec<(ServiceName, EnvironmentName)> = app
        .chronicle()
        .state()
        .rollouts_active()
        .iter()
        .map(|rollout| (rollout.plan.revision.service.clone(), rollout.plan.environment.name.clone()))
        .collect();
    let driven: BTreeSet<_> = active
        .into_iter()
        .filter(|(service, environment)| app.operations.driven(service, environment))
        .collect();
    let around = Around {
        project: &app.project,
        environments: &app.environments,
        identity: &app.identity,
        driven: &driven,
        now: app.now(),
    };
    make(&around, &app.chronicle())
}

/// The project as it is now. Blocks.
pub(crate) fn state_view(app: &App) -> StateView {
    around(app, |around, chronicle| StateView::of(chronicle.state(), around))
}

/// Rollouts, newest first. Blocks.
pub(crate) fn rollouts_view(app: &App, limit: usize) -> Bounded<RolloutView> {
    let now = app.now();
    newest(&app.chronicle(), now, limit, |_| true)
}

fn newest(
    chronicle: &Chronicle,
    now: Timestamp,
    limit: usize,
    wanted: impl Fn(&rollout::progress::Rollout) -> bool,
) -> Bounded<RolloutView> {
    let mut found: Vec<_> = chronicle.state().rollouts.values().filter(|rollout| wanted(rollout)).collect();
    found.sort_by_key(|rollout| std::cmp::Reverse(rollout.planned_at));
    let items = found.iter().take(limit).map(|rollout| RolloutView::of(rollout, now)).collect();
    Bounded { items, total: found.len() }
}

/// How a browser signs in.
#[derive(Deserialize)]
pub(crate) struct SignIn {
    token: Option<String>,
}

/// `GET /`, and `GET /?token=…` which begins a session.
pub(crate) async fn now(
    State(app): State<Arc<App>>,
    Query(sign_in): Query<SignIn>,
    headers: HeaderMap,
) -> Answer {
    if let Some(token) = sign_in.token {
        if !app.guard.is_token(&token) {
            return Err(guard::token_wrong());
        }
        let headers = [(LOCATION, "/".to_owned()), (SET_COOKIE, app.guard.set_cookie())];
        return Ok((StatusCode::SEE_OTHER, headers).into_response());
    }
    let asked = Asked::of(&app, &headers);
    let main = blocking(&app, |app| {
        Ok(around(app, |around, chronicle| {
            let state = chronicle.state();
            NowMain {
                view: StateView::of(state, around),
                history: newest(chronicle, around.now, HISTORY_MAX, |rollout| !rollout.active()),
                recent: chronicle.notable().map(|event| LineView::of(event, state, around.now)).collect(),
                trouble: chronicle.trouble.clone(),
            }
        }))
    })
    .await?;
    render(&app, &asked, "Now", "now", &main)
}

/// `GET /rollouts`.
pub(crate) async fn rollouts(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer {
    let main = blocking(&app, |app| Ok(RolloutsMain { rollouts: rollouts_view(app, ROLLOUTS_MAX) })).await?;
    render(&app, &Asked::of(&app, &headers), "Rollouts", "rollouts", &main)
}

/// A rollout in full, with its edge's word.
pub(crate) async fn detail(app: &Arc<App>, id: RolloutId) -> Result<RolloutDetail, Refusal> {
    let place = find(app, &id)?;
    let edge = match place {
        Some((service, environment)) => app.edge(service, environment).await,
        None => None,
    };
    blocking(app, move |app| {
        around(app, |around, chronicle| {
            let state = chronicle.state();
            let rollout = state.rollouts.get(&id).ok_or_else(|| unknown(&id))?;
            let why =
                around.why(state).into_iter().find(|why| why.names.first().is_some_and(|n| n == id.as_str()));
            Ok(RolloutDetail::of(state, rollout, why, edge.as_ref(), around.now))
        })
    })
    .await
}

/// Where the rollout is under way; `None` when it has ended.
fn find(app: &App, id: &RolloutId) -> Result<Option<(ServiceName, EnvironmentName)>, Refusal> {
    let chronicle = app.chronicle();
    let rollout = chronicle.state().rollouts.get(id).ok_or_else(|| unknown(id))?;
    let plan = &rollout.plan;
    Ok(rollout.active().then(|| (plan.revision.service.clone(), plan.environment.name.clone())))
}

fn unknown(id: &RolloutId) -> Refusal {
    Refusal::unknown(Code::RolloutUnknown, format!("there is no rollout {id}"))
}

/// `GET /rollouts/{id}`.
pub(crate) async fn rollout(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let id = api::rollout_id(&id)?;
    let detail = detail(&app, id.clone()).await?;
    let asked = Asked::of(&app, &headers);
    let signed_in = asked.signed_in;
    let title = format!("{} {}", detail.rollout.service, detail.rollout.version);
    let main = blocking(&app, move |app| {
        let (events, total) = events(app, &id)?;
        let now = detail.rollout.planned_at.now;
        let weights = weights(&events);
        let story = Story {
            from: weights.first().map_or(detail.rollout.planned_at.at, |(at, _)| *at),
            until: detail.rollout.finished_at.map_or(now, |finished| finished.at),
            looks: &detail.looks.items,
            thresholds: &detail.thresholds,
            weights: &weights,
            decided: detail.decided_at,
        };
        let figures = chart::figures(&story);
        let log = groups(&events, app.chronicle().state(), now);
        let log_shown = Bounded { items: events, total }.shown();
        Ok(RolloutMain { detail, figures, log, log_shown, signed_in })
    })
    .await?;
    render(&app, &asked, &title, "rollouts", &main)
}

/// The rollout's last events, oldest first, and how many there are. Blocks.
fn events(app: &App, id: &RolloutId) -> Result<(Vec<Recorded>, usize), Refusal> {
    let ranges = app.chronicle().sequences(id).to_vec();
    let total: u64 = ranges.iter().map(|range| range.end() - range.start() + 1).sum();
    let mut skip = total.saturating_sub(LOG_MAX);
    let mut events = Vec::new();
    for range in ranges {
        let length = range.end() - range.start() + 1;
        let skipped = skip.min(length);
        skip -= skipped;
        if skipped < length {
            let found = app.ledger.read(range.start() + skipped - 1, (length - skipped) as usize)?;
            events.extend(found.into_iter().filter_map(|entry| match entry {
                Entry::Record(recorded) => Some(recorded),
                Entry::Quarantined { .. } => None,
            }));
        }
    }
    Ok((events, total as usize))
}

/// When which weight was acknowledged.
fn weights(events: &[Recorded]) -> Vec<(Timestamp, Weight)> {
    let mut asked = None;
    let mut weights = Vec::new();
    for recorded in events {
        match &recorded.event {
            Event::EffectRequested { command } => asked = Some(command),
            Event::EffectFinished { sequence, outcome: Outcome::Applied { .. }, .. } => {
                let effect =
                    asked.filter(|command| command.sequence == *sequence).map(|command| &command.effect);
                match effect {
                    Some(Effect::SetWeight { weight, .. }) => weights.push((recorded.at, *weight)),
                    Some(Effect::Promote { .. }) => weights.push((recorded.at, Weight::FULL)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    weights
}

/// `GET /rollouts/{id}/rollback`: asks once more.
pub(crate) async fn rollback_confirm(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let id = api::rollout_id(&id)?;
    let now = app.now();
    let view = {
        let chronicle = app.chronicle();
        RolloutView::of(chronicle.state().rollouts.get(&id).ok_or_else(|| unknown(&id))?, now)
    };
    if !view.revocable() {
        let problem = Problem::new(Code::NothingToRollBack, format!("rollout {id} is {}", view.phase_text()));
        return Err(problem
            .hint("what serves is taken back with: trimtab rollback --environment NAME")
            .into());
    }
    let asked = Asked::of(&app, &headers);
    let main = ConfirmMain {
        title: format!("Take back {} {}?", view.service, view.version),
        lead: format!(
            "It has {} of the traffic in {}. All of it goes back to what served before, and the new revision is stopped.",
            view.weight_text(),
            view.environment
        ),
        action: format!("/rollouts/{id}/rollback"),
        back: format!("/rollouts/{id}"),
        field: "reason",
        label: "Why? It goes on record.",
        required: true,
        button: format!("Roll back {}", view.version),
        keep: "Keep it going",
        danger: true,
        csrf: app.guard.form_token(),
        command: format!("trimtab rollback {id} --reason \"…\""),
        signed_in: asked.signed_in,
        identity: app.identity.to_string(),
        bytes_max: api::REASON_BYTES_MAX,
    };
    render(&app, &asked, &main.title, "rollouts", &main)
}

/// What the form for a rollback carries, beside its token.
#[derive(Deserialize)]
pub(crate) struct RollbackForm {
    reason: String,
}

/// `POST /rollouts/{id}/rollback`.
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    permit: Permit,
    form: Result<Form<RollbackForm>, FormRejection>,
) -> Answer {
    let Form(form) = form.map_err(|rejection| unreadable(&rejection))?;
    let reason = api::reason(&form.reason, true)?;
    let id = api::rollout_id(&id)?;
    app.operations.rollback(permit.actor(), id.clone(), reason).await?;
    Ok(see(&format!("/rollouts/{id}")))
}

fn release(app: &App, id: &str) -> Result<Release, Refusal> {
    let id = api::release_id(id)?;
    let chronicle = app.chronicle();
    chronicle
        .state()
        .release(&id)
        .cloned()
        .ok_or_else(|| Refusal::unknown(Code::ThingUnknown, format!("there is no release {id}")))
}

/// `GET /releases/{id}/approve/{environment}`: says what is approved.
pub(crate) async fn approve_confirm(
    State(app): State<Arc<App>>,
    Path((id, environment)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let release = release(&app, &id)?;
    let environment = api::environment_name(&environment)?;
    if !app.environments.iter().any(|(known, _)| known.name == environment) {
        let problem =
            Problem::new(Code::EnvironmentUnknown, format!("there is no environment {environment}"));
        return Err(problem.into());
    }
    let asked = Asked::of(&app, &headers);
    let main = ConfirmMain {
        title: format!("Approve {} {} for {environment}?", release.artifact.service, release.version),
        lead: format!(
            "“{}” by {}, artifact sha256:{}. The approval counts for this artifact and the present rules only.",
            release.commit.subject,
            release.commit.author.email,
            release.artifact.digest.short()
        ),
        action: format!("/releases/{id}/approve/{environment}"),
        back: "/".into(),
        field: "comment",
        label: "Comment (optional). It goes on record.",
        required: false,
        button: format!("Approve {}", release.version),
        keep: "Not now",
        danger: false,
        csrf: app.guard.form_token(),
        command: format!("trimtab approve {id} --environment {environment}"),
        signed_in: asked.signed_in,
        identity: app.identity.to_string(),
        bytes_max: api::REASON_BYTES_MAX,
    };
    render(&app, &asked, &main.title, "now", &main)
}

/// What the form for an approval carries, beside its token.
#[derive(Deserialize)]
pub(crate) struct ApproveForm {
    #[serde(default)]
    comment: String,
}

/// `POST /releases/{id}/approve/{environment}`.
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    Path((id, environment)): Path<(String, String)>,
    permit: Permit,
    form: Result<Form<ApproveForm>, FormRejection>,
) -> Answer {
    let Form(form) = form.map_err(|rejection| unreadable(&rejection))?;
    let comment = api::reason(&form.comment, false)?;
    let (release, environment) = (api::release_id(&id)?, api::environment_name(&environment)?);
    app.operations.approve(permit.actor(), release, environment, comment).await?;
    Ok(see("/"))
}

fn unreadable(rejection: &FormRejection) -> Refusal {
    Refusal::invalid(rejection.status(), rejection.body_text())
}

fn see(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, address.to_owned())]).into_response()
}
