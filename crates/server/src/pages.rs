//! The pages: what they are made from, and the forms that act.
//!
//! A page is its main part within a frame; with the header `x-fragment: main` only the main part is answered, which is what
//! the script swaps in. Leaves out the HTML (`templates/`). Invariant: everything on a page can be read, and done, without
//! script.

use std::ops::RangeInclusive;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use delivery::code::Code;
use delivery::effect::{Effect, Outcome};
use delivery::traffic::Weight;
use delivery::{Digest, Event, Problem, Recorded, RolloutId, Timestamp};
use http::header::{LOCATION, SET_COOKIE, VARY};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use store::Entry;

use crate::api::{self, Before, ROLLOUTS_MAX};
use crate::app::{App, blocking};
use crate::assets::{ADDRESSES, Addresses};
use crate::chart::{self, Figure, Story};
use crate::chronicle::Chronicle;
use crate::guard::{self, Permit};
use crate::operations::Approval;
use crate::refusal::Refusal;
use crate::view::Bounded;
use crate::view::log::{Group, LineView, groups};
use crate::view::rollout::{RolloutDetail, RolloutView};
use crate::view::state::{Around, StateView};

/// Looks that a rollout's page tells: the last ones.
const LOOKS_MAX: u64 = 1_000;
/// Other events that it tells. A rollout has a few dozen, and one more with each controller that dies.
const TOLD_MAX: u64 = 5_000;
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
    next_before: Option<String>,
    /// Whether newer ones were left out.
    later: bool,
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct RolloutMain {
    detail: RolloutDetail,
    figures: Vec<Figure>,
    log: Vec<Group>,
    /// `1,000 of 3,120`, when not all looks are told.
    looks_shown: Option<String>,
    rules_trouble: Option<String>,
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
    /// What else the form carries: names and values.
    hidden: Vec<(&'a str, String)>,
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

/// Calls back with what views are made with.
pub(crate) async fn around<T: Send + 'static>(
    app: &Arc<App>,
    make: impl FnOnce(&Around<'_>, &Chronicle) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let surroundings = app.look_around().await?;
    blocking(app, move |app| {
        let around = Around {
            project: &app.project,
            identity: &app.identity,
            surroundings: &surroundings,
            now: app.now(),
        };
        Ok(make(&around, &app.chronicle()))
    })
    .await
}

/// Whether a controller is at work on the rollout; `None` when there is no such rollout.
pub(crate) async fn driven(app: &Arc<App>, id: &RolloutId) -> Result<Option<bool>, Refusal> {
    let id = id.clone();
    blocking(app, move |app| {
        let place =
            app.chronicle().state().rollouts.get(&id).map(|rollout| {
                (rollout.plan.revision.service.clone(), rollout.plan.environment.name.clone())
            });
        Ok(place.map(|(service, environment)| app.operations.driven(&service, &environment)))
    })
    .await
}

/// Some rollouts.
pub(crate) struct RolloutsPage {
    pub(crate) rollouts: Bounded<RolloutView>,
    /// The last one, when there are older ones.
    pub(crate) next_before: Option<String>,
}

/// Rollouts, newest first, from those on that began before the one that is named.
pub(crate) async fn rollouts_page(
    app: &Arc<App>,
    before: Option<RolloutId>,
    limit: usize,
) -> Result<RolloutsPage, Refusal> {
    around(app, move |around, chronicle| {
        let rollouts = &chronicle.state().rollouts;
        // By time and then by id, so that the order is total.
        let key = |rollout: &rollout::progress::Rollout| (rollout.planned_at, rollout.plan.id.clone());
        let until = match &before {
            None => None,
            Some(id) => Some(key(rollouts.get(id).ok_or_else(|| unknown(id))?)),
        };
        let mut found: Vec<_> = rollouts.values().collect();
        found.sort_by_key(|rollout| std::cmp::Reverse(key(rollout)));
        let total = found.len();
        found.retain(|rollout| until.as_ref().is_none_or(|until| key(rollout) < *until));
        let more = found.len() > limit;
        let items: Vec<_> =
            found.iter().take(limit).map(|rollout| RolloutView::of(rollout, around)).collect();
        let next_before = items.last().filter(|_| more).map(|last| last.id.clone());
        Ok(RolloutsPage { rollouts: Bounded { items, total }, next_before })
    })
    .await?
}

/// The rollouts that ended last.
fn ended(chronicle: &Chronicle, around: &Around<'_>) -> Bounded<RolloutView> {
    let mut found: Vec<_> = chronicle.state().rollouts.values().filter(|rollout| !rollout.active()).collect();
    found.sort_by_key(|rollout| std::cmp::Reverse(rollout.planned_at));
    let items = found.iter().take(HISTORY_MAX).map(|rollout| RolloutView::of(rollout, around)).collect();
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
        if !app.guard.at_home(&headers) {
            // Sessions count under that name only.
            return Ok(see(&app.guard.url()));
        }
        let headers = [(LOCATION, "/".to_owned()), (SET_COOKIE, app.guard.set_cookie())];
        return Ok((StatusCode::SEE_OTHER, headers).into_response());
    }
    let asked = Asked::of(&app, &headers);
    let main = around(&app, |around, chronicle| {
        let state = chronicle.state();
        NowMain {
            view: StateView::of(state, around),
            history: ended(chronicle, around),
            recent: chronicle.notable().map(|event| LineView::of(event, state, around.now)).collect(),
            trouble: chronicle.trouble.clone(),
        }
    })
    .await?;
    render(&app, &asked, "Now", "now", &main)
}

/// `GET /rollouts?before=`.
pub(crate) async fn rollouts(
    State(app): State<Arc<App>>,
    query: Result<Query<Before>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let before = Before::id(query)?;
    let later = before.is_some();
    let RolloutsPage { rollouts, next_before } = rollouts_page(&app, before, ROLLOUTS_MAX).await?;
    let main = RolloutsMain { rollouts, next_before, later };
    render(&app, &Asked::of(&app, &headers), "Rollouts", "rollouts", &main)
}

/// A rollout in full, with its edge's word.
pub(crate) async fn detail(app: &Arc<App>, id: RolloutId) -> Result<RolloutDetail, Refusal> {
    around(app, move |around, chronicle| {
        let state = chronicle.state();
        let rollout = state.rollouts.get(&id).ok_or_else(|| unknown(&id))?;
        let why =
            around.why(state).into_iter().find(|why| why.names.first().is_some_and(|n| n == id.as_str()));
        Ok(RolloutDetail::of(state, rollout, why, around))
    })
    .await?
}

/// The rollout in brief.
async fn brief(app: &Arc<App>, id: RolloutId) -> Result<RolloutView, Refusal> {
    around(app, move |around, chronicle| {
        let rollout = chronicle.state().rollouts.get(&id).ok_or_else(|| unknown(&id))?;
        Ok(RolloutView::of(rollout, around))
    })
    .await?
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
        let (events, looks_shown) = events(app, &id)?;
        let now = detail.rollout.planned_at.now;
        let mut weights = weights(&events);
        // What the edge did by itself is on no record yet.
        weights.extend(detail.lapsed_at().map(|at| (at, Weight::ZERO)));
        let story = Story {
            from: weights.first().map_or(detail.rollout.planned_at.at, |(at, _)| *at),
            until: detail.rollout.finished_at.map_or(now, |finished| finished.at),
            looks: &detail.curve,
            thresholds: &detail.thresholds,
            weights: &weights,
            decided: detail.decided_at,
        };
        let figures = chart::figures(&story);
        let log = groups(&events, app.chronicle().state(), now);
        let rules_trouble = app.operations.rules().trouble.clone();
        Ok(RolloutMain { detail, figures, log, looks_shown, rules_trouble, signed_in })
    })
    .await?;
    render(&app, &asked, &title, "rollouts", &main)
}

/// What happened in the rollout with its last looks, oldest first, and how many of its looks these are when they are not
/// all. Blocks.
fn events(app: &App, id: &RolloutId) -> Result<(Vec<Recorded>, Option<String>), Refusal> {
    let places = app.chronicle().places(id);
    let (mut events, _) = last(app, &places.told, TOLD_MAX)?;
    let (looks, total) = last(app, &places.looks, LOOKS_MAX)?;
    let shown = Bounded { items: looks.iter().collect(), total }.shown();
    events.extend(looks);
    events.sort_by_key(|recorded| recorded.sequence);
    Ok((events, shown))
}

/// The last records of the ranges, at most some, and how many there are. Blocks.
fn last(app: &App, ranges: &[RangeInclusive<u64>], limit: u64) -> Result<(Vec<Recorded>, usize), Refusal> {
    let length = |range: &RangeInclusive<u64>| range.end() - range.start() + 1;
    let total: u64 = ranges.iter().map(length).sum();
    let mut skip = total.saturating_sub(limit);
    let mut events = Vec::new();
    for range in ranges {
        let skipped = skip.min(length(range));
        skip -= skipped;
        if skipped < length(range) {
            let found = app.ledger.read(range.start() + skipped - 1, (length(range) - skipped) as usize)?;
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
    let view = brief(&app, id.clone()).await?;
    if !view.revocable() {
        let problem = Problem::new(Code::NothingToRollBack, format!("rollout {id} is {}", view.phase_text()));
        return Err(problem
            .hint("what serves is taken back with: trimtab rollback --environment NAME")
            .into());
    }
    let asked = Asked::of(&app, &headers);
    let question = Question {
        verb: "rollback",
        title: format!("Take back {} {}?", view.service, view.version),
        lead: format!(
            "It has {} of the traffic in {}. All of it goes back to what served before, and the new revision is stopped.",
            view.weight_words(),
            view.environment
        ),
        button: format!("Roll back {}", view.version),
        keep: "Keep it going",
        danger: true,
        command: format!("trimtab rollback {id} --reason \"…\""),
    };
    let main = question.about(&app, &asked, &id);
    render(&app, &asked, &main.title, "rollouts", &main)
}

/// What is asked once more before something is done to a rollout.
struct Question {
    /// The last part of the form's address.
    verb: &'static str,
    title: String,
    lead: String,
    button: String,
    keep: &'static str,
    danger: bool,
    /// The same at a command line.
    command: String,
}

impl Question {
    fn about<'a>(self, app: &'a App, asked: &Asked, id: &RolloutId) -> ConfirmMain<'a> {
        let Self { verb, title, lead, button, keep, danger, command } = self;
        ConfirmMain {
            title,
            lead,
            action: format!("/rollouts/{id}/{verb}"),
            back: format!("/rollouts/{id}"),
            field: "reason",
            label: "Why? It goes on record.",
            required: true,
            button,
            keep,
            danger,
            hidden: Vec::new(),
            csrf: app.guard.form_token(),
            command,
            signed_in: asked.signed_in,
            identity: app.identity.to_string(),
            bytes_max: api::REASON_BYTES_MAX,
        }
    }
}

/// What the forms about a rollout carry, beside their token.
#[derive(Deserialize)]
pub(crate) struct ReasonForm {
    reason: String,
}

/// `POST /rollouts/{id}/rollback`.
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    permit: Permit,
    form: Result<Form<ReasonForm>, FormRejection>,
) -> Answer {
    let Form(form) = form.map_err(|rejection| unreadable(&rejection))?;
    let reason = api::reason(&form.reason, true)?;
    let id = api::rollout_id(&id)?;
    app.roll_back(permit.actor(), id.clone(), reason).await?;
    Ok(see(&format!("/rollouts/{id}")))
}

/// `GET /rollouts/{id}/resume`: asks once more.
pub(crate) async fn resume_confirm(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let id = api::rollout_id(&id)?;
    let view = brief(&app, id.clone()).await?;
    if !view.held {
        let message = format!("rollout {id} does not wait for a person");
        return Err(Problem::new(Code::NothingToApprove, message).into());
    }
    let asked = Asked::of(&app, &headers);
    let question = Question {
        verb: "resume",
        title: format!("Let {} {} go on?", view.service, view.version),
        lead: format!(
            "Its step went without enough evidence ({}). It goes on from {} of the traffic in {} on your word; later steps are watched as before.",
            view.finding_text(),
            view.weight_words(),
            view.environment
        ),
        button: format!("Let {} go on", view.version),
        keep: "Not now",
        danger: false,
        command: format!("trimtab approve {id} --comment \"…\""),
    };
    let main = question.about(&app, &asked, &id);
    render(&app, &asked, &main.title, "rollouts", &main)
}

/// `POST /rollouts/{id}/resume`.
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    permit: Permit,
    form: Result<Form<ReasonForm>, FormRejection>,
) -> Answer {
    let Form(form) = form.map_err(|rejection| unreadable(&rejection))?;
    let reason = api::reason(&form.reason, true)?;
    let id = api::rollout_id(&id)?;
    app.operations.resume(permit.actor(), id.clone(), reason).await?;
    Ok(see(&format!("/rollouts/{id}")))
}

/// `GET /releases/{id}/approve/{environment}`: says what is approved.
pub(crate) async fn approve_confirm(
    State(app): State<Arc<App>>,
    Path((id, environment)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let (id, environment) = (api::release_id(&id)?, api::environment_name(&environment)?);
    let (release, policy) = blocking(&app, {
        let environment = environment.clone();
        move |app| {
            let rules = app.operations.rules();
            let known = rules.environments.iter().find(|(known, _)| known.name == environment);
            let (_, policy) = known.ok_or_else(|| {
                Refusal::unknown(Code::EnvironmentUnknown, format!("there is no environment {environment}"))
            })?;
            let chronicle = app.chronicle();
            let release = chronicle.state().release(&id).cloned();
            let missing = || Refusal::unknown(Code::ThingUnknown, format!("there is no release {id}"));
            Ok((release.ok_or_else(missing)?, policy.clone()))
        }
    })
    .await?;
    let asked = Asked::of(&app, &headers);
    let main = ConfirmMain {
        title: format!("Approve {} {} for {environment}?", release.artifact.service, release.version),
        lead: format!(
            "“{}” by {}, artifact sha256:{}. The approval counts for this artifact and the present rules only.",
            release.commit.subject,
            release.commit.author.email,
            release.artifact.digest.short()
        ),
        action: format!("/releases/{}/approve/{environment}", release.id),
        back: "/".into(),
        field: "comment",
        label: "Comment (optional). It goes on record.",
        required: false,
        button: format!("Approve {}", release.version),
        keep: "Not now",
        danger: false,
        hidden: vec![("policy", policy.to_string()), ("artifact", release.artifact.digest.to_string())],
        csrf: app.guard.form_token(),
        command: format!("trimtab approve {} --environment {environment}", release.id),
        signed_in: asked.signed_in,
        identity: app.identity.to_string(),
        bytes_max: api::REASON_BYTES_MAX,
    };
    render(&app, &asked, &main.title, "now", &main)
}

/// What the form for an approval carries, beside its token: also what its reader saw.
#[derive(Deserialize)]
pub(crate) struct ApproveForm {
    policy: Digest,
    artifact: Digest,
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
    let seen = Some((form.policy, form.artifact));
    app.operations.approve(permit.actor(), Approval { release, environment, seen, comment }).await?;
    Ok(see("/"))
}

fn unreadable(rejection: &FormRejection) -> Refusal {
    Refusal::invalid(rejection.status(), rejection.body_text())
}

fn see(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, address.to_owned())]).into_response()
}
