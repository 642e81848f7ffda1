//! What is said of a rollout under way: its weight, who drives it, whom it waits for, and all that happened.

use std::sync::atomic::Ordering;
use std::time::Duration;

use delivery::Event;
use delivery::evidence::Finding;

use super::World;
use super::story::{self, status};

/// When the world's clock stands still, in its seconds.
const NOW: i64 = 1_000;
const PAGE: &str = "/rollouts/ro-00000001";

async fn world(events: Vec<Event>) -> World {
    let world = World::new().await;
    world.append(NOW, events).await;
    world.follow().await;
    world
}

fn set(world: &World, edge: Option<platform::edge::Status>) {
    *world.notebook.edge.lock().unwrap() = edge;
}

#[tokio::test]
async fn after_the_dead_man_acted_nothing_says_that_there_is_traffic() {
    let world = world(story::exposed()).await;
    set(&world, Some(status(0.0)));
    let state = world.get("/api/v1/state").await.json();
    let detail = world.get("/api/v1/rollouts/ro-00000001").await.json();
    for rollout in [
        &state["rolling"]["items"][0],
        &state["services"]["items"][0]["cells"][0]["rolling"],
        &detail["rollout"],
    ] {
        assert_eq!(rollout["weight_percent"], 0.0, "{rollout}");
        assert_eq!((&rollout["weight_known"], &rollout["lapsed"]), (&true.into(), &true.into()));
    }
    let page = world.get(PAGE).await.body;
    assert!(page.contains(r#"id="weight">0 %<"#), "the headline");
    assert!(page.contains(r#"<rect class="value" width="0""#), "the gauge");
    assert!(page.contains("step 1 of 1, its traffic is back with stable"), "the chip");
    assert!(page.contains("It is 0 % now; the highest was 10 %."), "the chart");
    assert!(page.contains(r#"<li class="stopped">"#), "the steps");
    let now = world.get("/").await.body;
    assert!(now.contains("at 0 %") && !now.contains("at 10 %") && !now.contains(">10 %<"), "{now}");
}

#[tokio::test]
async fn a_weight_that_was_only_heard_of_once_is_said_to_be_that() {
    let world = world(story::exposed()).await;
    set(&world, None);
    let now = world.get("/").await.body;
    assert!(now.contains("at last known 10 %") && now.contains("of the traffic, last known"), "{now}");
    assert!(world.get(PAGE).await.body.contains("of the traffic, last known"));
    set(&world, Some(status(10.0)));
    let page = world.get(PAGE).await.body;
    assert!(!page.contains("last known"), "{page}");
    assert!(page.contains("Armed") && page.contains("on silence stable takes over in 5 s"), "{page}");
}

#[tokio::test]
async fn a_rollout_that_is_held_calls_a_person_who_can_let_it_go_on() {
    let world = world(story::held()).await;
    let path = "/rollouts/ro-00000001/resume";
    let answer = world.send("GET", path, &[], "").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("TRM-0814")));
    // Only time in which the traffic was looked at counts.
    let looks = (1..=90).map(|second| story::look(NOW + second, 6_000, Finding::Continue)).collect();
    world.append(NOW + 90, looks).await;
    world.follow().await;
    let now = world.get("/").await.body;
    assert!(!now.contains("Nothing waits for anybody"), "{now}");
    assert!(now.contains(r#"href="/rollouts/ro-00000001/resume">Let it go on"#), "{now}");
    let page = world.get(PAGE).await.body;
    assert!(page.contains(r#"id="resume""#) && page.contains("A person must act."), "{page}");
    let cookie = world.cookie().await;
    let csrf = world.csrf(path, &cookie).await;
    let origin = world.origin();
    let headers = [
        ("cookie", cookie.as_str()),
        ("origin", origin.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let answer = world.send("POST", path, &headers, &format!("csrf={csrf}&reason=the+load+test")).await;
    assert_eq!((answer.status, answer.header("location")), (303, PAGE));
    assert_eq!(world.asked(), [r#"Human("ana@example.com") lets ro-00000001 go on: the load test"#]);
}

#[tokio::test]
async fn a_controller_that_is_gone_is_not_called_at_work_and_a_person_only_later() {
    let world = world(story::exposed()).await;
    let page = world.get(PAGE).await.body;
    assert!(page.contains("; driven by ") && !page.contains("(gone)"), "{page}");
    world.notebook.driven.store(false, Ordering::Relaxed);
    let page = world.get(PAGE).await.body;
    assert!(page.contains("; last driven by ") && page.contains("(gone)"), "{page}");
    assert!(page.contains("this server takes over within seconds"), "{page}");
    let now = world.get("/").await.body;
    assert!(now.contains("Nothing waits for anybody") && !now.contains("run: trimtab server"), "{now}");
    world.clock.advance(Duration::from_secs(11));
    let now = world.get("/").await.body;
    assert!(now.contains("no controller is at work on it") && !now.contains("Nothing waits"), "{now}");
    let bearer = format!("Bearer {}", super::TOKEN);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer =
        world.send("POST", "/api/v1/rollouts/ro-00000001/rollback", &headers, r#"{"reason":"x"}"#).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json(), serde_json::json!({"version": 1, "accepted": true, "driven": false}));
    world.append(NOW + 41, vec![story::requested()]).await;
    world.follow().await;
    assert!(world.get(PAGE).await.body.contains("It is recorded; no controller is at work yet."));
}

#[tokio::test]
async fn however_many_looks_there_were_all_that_happened_is_told() {
    let world = world(story::exposed()).await;
    for batch in 0..6 {
        let looks = (0..400).map(|look| story::look(30 + batch, 5_000 + look, Finding::Continue)).collect();
        world.append(NOW + batch, looks).await;
    }
    world.append(NOW + 40, vec![story::requested()]).await;
    world.follow().await;
    let page = world.get(PAGE).await.body;
    assert!(page.contains("sets out for staging"), "the plan is told");
    assert!(page.contains("asked to send 10 % of the traffic to the canary"), "the weight is told");
    assert!(page.contains(r#"id="figure-weight""#), "and drawn");
    assert!(page.contains("With the last 1,000 of 2,405 looks."), "{}", page.len());
}

#[tokio::test]
async fn rules_that_can_not_be_read_are_said_to_be_old() {
    let world = world(story::exposed()).await;
    assert!(!world.get("/").await.body.contains("rules-trouble"));
    *world.notebook.trouble.lock().unwrap() = Some("trimtab.toml can't be read: <<<".into());
    for path in ["/", PAGE] {
        assert!(world.get(path).await.body.contains("can&#39;t be read: &#60;&#60;&#60;"), "{path}");
    }
    assert_eq!(world.get("/api/v1/state").await.json()["rules_trouble"], "trimtab.toml can't be read: <<<");
}

#[tokio::test]
async fn every_rollout_can_be_reached() {
    let world = World::new().await;
    for number in 0..120 {
        world.append(number as i64 / 7, vec![story::planned_as(number)]).await;
    }
    world.follow().await;
    let (mut path, mut found) = ("/api/v1/rollouts".to_owned(), Vec::new());
    loop {
        let answer = world.get(&path).await.json();
        assert_eq!(answer["rollouts"]["total"], 120);
        let items = answer["rollouts"]["items"].as_array().unwrap();
        found.extend(items.iter().map(|rollout| rollout["id"].as_str().unwrap().to_owned()));
        let Some(before) = answer["next_before"].as_str() else { break };
        path = format!("/api/v1/rollouts?before={before}");
    }
    let mut all: Vec<String> = (0..120).map(|number| format!("ro-1000{number:04}")).collect();
    all.reverse();
    assert_eq!(found, all);
    let page = world.get("/rollouts").await.body;
    assert!(page.contains(r#"id="older" href="/rollouts?before=ro-10000070""#), "{page}");
    assert_eq!(world.get("/rollouts?before=ro-zzzzzzzz").await.status, 404);
}
