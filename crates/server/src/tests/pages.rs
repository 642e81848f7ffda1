//! What pages and answers say, and that nothing in them is taken for HTML.

use super::story::{self, HOSTILE};
use super::{World, event};

async fn world() -> World {
    let world = World::new().await;
    world.append(10, story::exposed()).await;
    world.follow().await;
    world
}

/// That the hostile text is there as text, and nowhere as anything else.
fn assert_harmless(page: &str) {
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"), "it is told");
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "{page}");
    for attribute in ["onerror=alert(1)>", " style=", "javascript:"] {
        assert!(!page.contains(attribute), "{attribute}");
    }
    let scripts = page.matches("<script").count();
    assert!(scripts <= 1, "only the page's own script: {scripts}");
}

#[tokio::test]
async fn hostile_texts_stay_texts() {
    let world = world().await;
    let id = story::rollout();
    let cookie = world.cookie().await;
    let mut pages = vec![world.get("/").await.body, world.get("/rollouts").await.body];
    pages.push(world.get(&format!("/rollouts/{id}")).await.body);
    for path in
        [format!("/rollouts/{id}/rollback"), format!("/releases/{}/approve/production", story::release())]
    {
        pages.push(world.send("GET", &path, &[("cookie", &cookie)], "").await.body);
    }
    world.append(40, vec![story::requested()]).await;
    world.follow().await;
    let taken_back = world.get(&format!("/rollouts/{id}")).await.body;
    assert!(taken_back.contains("Being taken back:") && taken_back.contains("ana@example.com asked for it"));
    pages.push(taken_back);
    for page in &pages {
        assert_harmless(page);
    }
    assert_eq!(pages.len(), 6);
    let answer = world.get(&format!("/rollouts/{id}/%3Cscript%3Ealert(1)")).await;
    assert_eq!(answer.status, 404);
    assert!(!answer.body.contains("<script>alert"));
    let answer = world.get("/rollouts/%3Cscript%3Ealert(1)").await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.body.contains("&#60;script&#62;") && !answer.body.contains("<script>alert"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn the_api_answers_what_the_pages_show() {
    let world = world().await;
    let state = world.get("/api/v1/state").await.json();
    assert_eq!(state["version"], 1);
    assert_eq!(state["rolling"]["items"][0]["weight_percent"], 10.0);
    assert_eq!(state["environments"], serde_json::json!(["staging", "production"]));
    assert_eq!(state["services"]["items"][0]["cells"][0]["version"], serde_json::Value::Null);
    let detail = world.get("/api/v1/rollouts/ro-00000001").await.json();
    assert_eq!(detail["rollout"]["phase"], "exposed");
    assert_eq!(detail["in_step"]["canary"]["requests"], 4_000);
    assert_eq!(detail["in_step"]["canary"]["errors"], 400);
    assert_eq!(detail["in_step"]["stable"]["requests"], 36_000);
    assert_eq!(detail["looks"]["total"], 5);
    assert_eq!(detail["edge"], serde_json::Value::Null);
    let rollouts = world.get("/api/v1/rollouts").await.json();
    assert_eq!(rollouts["rollouts"]["total"], 1);
    let why = world.get("/api/v1/why").await.json();
    assert_eq!(why["waiting"]["items"][0]["rollout"], "ro-00000001");
    let page = world.get("/rollouts/ro-00000001").await.body;
    assert!(page.contains("4,000") && page.contains("36,000") && page.contains("10 %"), "{page}");
    assert!(page.contains("5 looks: not enough evidence yet"), "{page}");
}

#[tokio::test]
async fn the_ledger_is_paged() {
    let world = World::new().await;
    world.append(1, (0..250).map(|_| event("x")).collect()).await;
    world.follow().await;
    let (mut after, mut sequences) = (0, Vec::new());
    loop {
        let answer = world.get(&format!("/api/v1/ledger?after={after}&limit=100")).await.json();
        let entries = answer["entries"].as_array().unwrap();
        sequences.extend(entries.iter().map(|entry| entry["sequence"].as_u64().unwrap()));
        match answer["next_after"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(sequences, (1..=250).collect::<Vec<u64>>());
    for query in ["limit=0", "limit=1001", "limit=x", "after=-1"] {
        assert_eq!(world.get(&format!("/api/v1/ledger?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_fragment_is_the_main_part_alone() {
    let world = world().await;
    let whole = world.get("/rollouts/ro-00000001").await;
    let part = world.send("GET", "/rollouts/ro-00000001", &[("x-fragment", "main")], "").await;
    assert!(part.body.trim_start().starts_with(r#"<div class="page""#), "{}", part.body);
    assert!(!part.body.contains("<html") && whole.body.contains("<html"));
    assert_eq!(part.header("vary"), "x-fragment");
    assert_eq!(part.header("cache-control"), "no-store");
}

#[tokio::test]
async fn assets_are_kept_for_good_under_their_digest() {
    let world = World::new().await;
    let page = world.get("/").await.body;
    let mut addresses = 0;
    for part in page.split(['"']).filter(|part| part.starts_with("/assets/")) {
        let answer = world.get(part).await;
        assert_eq!(answer.status, 200, "{part}");
        assert!(answer.header("cache-control").contains("immutable"), "{part}");
        addresses += 1;
    }
    assert_eq!(addresses, 3);
}

#[tokio::test]
async fn what_is_not_there_is_a_page_for_people_and_a_problem_for_programs() {
    let world = world().await;
    let page = world.get("/nowhere").await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
    let problem = world.send("GET", "/nowhere", &[], "").await;
    assert_eq!((problem.status, problem.header("content-type")), (404, "application/problem+json"));
    let unknown = world.get("/api/v1/rollouts/ro-zzzzzzzz").await;
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("TRM-0803")));
    let method = world.send("DELETE", "/", &[], "").await;
    assert_eq!(method.status, 405);
}

#[tokio::test]
async fn what_an_operation_refuses_is_told_with_its_code() {
    let world = world().await;
    let bearer = format!("Bearer {}", super::TOKEN);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world
        .send("POST", "/api/v1/releases/rel-0000000z/approvals", &headers, r#"{"environment":"production"}"#)
        .await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("TRM-0805")));
    assert_eq!(answer.json()["detail"], "an <author> can't approve it");
    assert!(HOSTILE.contains("<script>"));
}

#[tokio::test]
async fn an_ended_rollout_is_not_taken_back() {
    let world = world().await;
    world.append(41, vec![story::requested()]).await;
    world.follow().await;
    let cookie = world.cookie().await;
    let answer = world.send("GET", "/rollouts/ro-00000001/rollback", &[("cookie", &cookie)], "").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("TRM-0812")));
}
