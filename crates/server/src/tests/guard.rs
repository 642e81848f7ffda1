//! Who is let through, over all routes.

use http::Method;

use super::story::{self, exposed};
use super::{TOKEN, World, at};
use crate::guard::Policy;
use crate::routes::table;

/// The status that headers and a body are answered with.
type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str);

/// A route's address with something real in its places.
fn address(path: &str) -> String {
    let id =
        if path.contains("releases") { story::release().to_string() } else { story::rollout().to_string() };
    path.replace("{id}", &id).replace("{environment}", "production").replace("{name}", "app.css")
}

async fn world() -> World {
    World::with(|ledger| {
        let actor = delivery::Actor::Machine("test".into());
        ledger.append_blocking(&actor, at(10), exposed()).unwrap();
    })
    .await
}

fn form(path: &str) -> bool {
    !path.starts_with("/api/")
}

/// A body that the route takes, with the form's token where it is a form.
fn body(path: &str, csrf: &str) -> (&'static str, String) {
    match (form(path), path.contains("releases")) {
        (true, _) => {
            let digest = delivery::Digest::of(b"seen");
            let seen = format!("policy={digest}&artifact={digest}");
            ("application/x-www-form-urlencoded", format!("csrf={csrf}&reason=because&comment=fine&{seen}"))
        }
        (false, true) => ("application/json", r#"{"environment":"production","comment":"fine"}"#.into()),
        (false, false) => ("application/json", r#"{"reason":"because"}"#.into()),
    }
}

#[test]
fn every_route_that_is_not_a_get_changes_something_or_reports() {
    let routes = table();
    assert!(routes.len() >= 20, "{} routes", routes.len());
    for route in &routes {
        let expected = match (&route.method, route.path) {
            (&Method::GET, _) => Policy::Read,
            (_, "/api/v1/events") => Policy::Report,
            _ => Policy::Change,
        };
        assert_eq!(route.policy, expected, "{} {}", route.method, route.path);
    }
    assert_eq!(routes.iter().filter(|route| route.policy == Policy::Change).count(), 6);
}

#[tokio::test]
async fn whatever_changes_something_is_refused_without_credentials() {
    let world = world().await;
    let cookie = world.cookie().await;
    let (origin, bearer) = (world.origin(), format!("Bearer {TOKEN}"));
    let machine = world.host();
    let machine_origin = format!("http://{machine}");
    let foreign_cookie = format!("{}0", &cookie[..cookie.len() - 1]);
    let mut cells = 0;
    for route in table().into_iter().filter(|route| route.policy == Policy::Change) {
        let path = address(route.path);
        let csrf = world.csrf(&path_of_form(&path), &cookie).await;
        let (kind, good) = body(&path, &csrf);
        let (_, wrong) = body(&path, &"0".repeat(csrf.len()));
        let none = good.replace("csrf=", "other=");
        let kind = ("content-type", kind);
        let cases: &[Case<'_>] = &[
            (401, &[kind], &good),
            (401, &[kind, ("origin", &origin)], &good),
            (401, &[kind, ("authorization", "Bearer ttb_wrong")], &good),
            (401, &[kind, ("authorization", "Bearer ")], &good),
            (401, &[kind, ("authorization", "Basic YTpi")], &good),
            (401, &[kind, ("authorization", TOKEN)], &good),
            // A wrong token is not made good by a session.
            (401, &[kind, ("authorization", "Bearer x"), ("cookie", &cookie), ("origin", &origin)], &good),
            (401, &[kind, ("cookie", &foreign_cookie), ("origin", &origin)], &good),
            (401, &[kind, ("cookie", "trimtab-1=x"), ("origin", &origin)], &good),
            (403, &[kind, ("cookie", &cookie)], &good),
            // A session under any other of the machine's names: other ports of it get such cookies too.
            (401, &[kind, ("cookie", &cookie), ("origin", &machine_origin), ("host", &machine)], &good),
            (401, &[kind, ("cookie", &cookie), ("origin", &origin), ("host", &machine)], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", &machine_origin)], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", "null")], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", "http://evil.example")], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", "https://127.0.0.1")], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", &origin), ("sec-fetch-site", "cross-site")], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", &origin), ("sec-fetch-site", "same-site")], &good),
            (403, &[kind, ("cookie", &cookie), ("origin", &origin)], &wrong),
            (403, &[kind, ("cookie", &cookie), ("origin", &origin)], &none),
            (403, &[("content-type", "text/plain"), ("cookie", &cookie), ("origin", &origin)], &good),
            (403, &[kind, ("authorization", &bearer), ("origin", "http://evil.example")], &good),
            (421, &[kind, ("authorization", &bearer), ("host", "evil.example")], &good),
        ];
        for (status, headers, body) in cases {
            let answer = world.send("POST", &path, headers, body).await;
            assert_eq!(answer.status, *status, "{path} {headers:?} {body}\n{}", answer.body);
            assert_eq!(answer.header("content-type"), "application/problem+json", "{path} {headers:?}");
            assert_eq!(answer.json()["code"], "TRM-0905", "{path} {headers:?}");
            cells += 1;
        }
    }
    assert_eq!(cells, 138);
    assert_eq!(world.asked(), Vec::<String>::new(), "nothing may have been asked for");
}

/// The page whose form goes to the address; for the API any.
fn path_of_form(path: &str) -> String {
    // A rollout that isn't held has no form for going on; the token is the same in all.
    if form(path) && !path.ends_with("/resume") {
        path.to_owned()
    } else {
        format!("/rollouts/{}/rollback", story::rollout())
    }
}

#[tokio::test]
async fn whatever_changes_something_is_let_through_with_them() {
    let world = world().await;
    let cookie = world.cookie().await;
    let (origin, bearer) = (world.origin(), format!("Bearer {TOKEN}"));
    for route in table().into_iter().filter(|route| route.policy == Policy::Change) {
        let path = address(route.path);
        let csrf = world.csrf(&path_of_form(&path), &cookie).await;
        let (kind, body) = body(&path, &csrf);
        let kind = ("content-type", kind);
        let expected = if form(&path) { 303 } else { 202 };
        let answer = world.send("POST", &path, &[kind, ("authorization", &bearer)], &body).await;
        assert_eq!(answer.status, expected, "{path}\n{}", answer.body);
        if form(&path) {
            let answer =
                world.send("POST", &path, &[kind, ("cookie", &cookie), ("origin", &origin)], &body).await;
            assert_eq!(answer.status, expected, "{path}\n{}", answer.body);
        }
    }
    let asked = world.asked();
    assert_eq!(asked.len(), 9);
    assert!(asked.iter().all(|line| line.starts_with(r#"Human("ana@example.com")"#)), "{asked:?}");
    assert!(asked.iter().any(|line| line.ends_with("rolls back ro-00000001: because")), "{asked:?}");
    assert!(
        asked.iter().any(|line| line.ends_with("approves rel-00000001 for production: fine")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn reading_needs_no_credentials_but_this_machines_name() {
    let world = world().await;
    let port = world.running.address().port();
    for route in table().into_iter().filter(|route| route.policy == Policy::Read && route.path != "/events") {
        let path = address(route.path);
        let expected = match path.as_str() {
            "/assets/app.css" => 404,
            // It is not held.
            path if path.ends_with("/resume") => 409,
            _ => 200,
        };
        let names = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
        for host in names.into_iter().chain([world.home()]) {
            let answer = world.send("GET", &path, &[("host", &host)], "").await;
            assert_eq!(answer.status, expected, "{path} as {host}");
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
        for host in ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:80", ""] {
            let answer = world.send("GET", &path, &[("host", host)], "").await;
            assert_eq!(answer.status, 421, "{path} as {host:?}");
        }
        let twice = [("host", world.host()), ("host", "evil.example".into())];
        let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = world.send("GET", &path, &twice, "").await;
        assert!(answer.status == 421 || answer.status == 400, "{path} with two hosts: {}", answer.status);
    }
}

#[tokio::test]
async fn a_browser_signs_in_once_and_the_token_leaves_the_address() {
    let world = World::new().await;
    let home = world.home();
    let elsewhere = world.send("GET", &format!("/?token={TOKEN}"), &[], "").await;
    assert_eq!((elsewhere.status, elsewhere.header("set-cookie")), (303, ""));
    assert_eq!(elsewhere.header("location"), world.running.url());
    let answer = world.send("GET", &format!("/?token={TOKEN}"), &[("host", &home)], "").await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(
        !cookie.contains(TOKEN),
        "the cookie is not the token, which other servers of this machine would see"
    );
    let wrong = world.send("GET", "/?token=ttb_wrong", &[], "").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    let page = world.get("/").await;
    assert!(page.body.contains("Reading only"));
    let cookie = world.cookie().await;
    let page = world.send("GET", "/", &[("cookie", &cookie)], "").await;
    assert!(page.body.contains("ana@example.com"));
}

#[tokio::test]
async fn a_session_outlasts_a_restart_and_its_name_is_told_to_nobody() {
    let world = world().await;
    let cookie = world.cookie().await;
    let home = world.home();
    assert!(home.ends_with(&format!(".localhost:{}", world.running.address().port())), "{home}");
    let mut config = World::config(world.ledger.clone(), std::sync::Arc::default());
    config.listen = world.running.address();
    let World { running, folder, ledger, notebook, clock } = world;
    running.stop().await;
    let running = crate::start(config).await.unwrap();
    let world = World { folder, ledger, running, notebook, clock };
    assert_eq!(world.home(), home);
    let page = world.send("GET", "/", &[("cookie", &cookie)], "").await;
    assert!(page.body.contains("ana@example.com"));
    // Who has not the token never learns it: neither from a page nor from a refusal.
    let name = home.split('.').next().unwrap();
    for (path, host) in [("/", world.host()), ("/nowhere", world.host()), ("/", "evil.example".to_owned())] {
        let answer = world.send("GET", path, &[("host", &host), ("accept", "text/html")], "").await;
        assert!(
            !answer.body.contains(name) && !format!("{:?}", answer.headers).contains(name),
            "{path} {host}"
        );
        assert!(host != "evil.example" || !answer.body.contains("shop"), "{}", answer.body);
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_a_code() {
    let world = world().await;
    let bearer = format!("bearer {TOKEN}");
    for path in ["/rollouts/%ff", "/api/v1/rollouts/%ff", "/?token=a&token=b", "/rollouts?before=x&before=y"]
    {
        let problem = world.send("GET", path, &[], "").await;
        assert_eq!(problem.header("content-type"), "application/problem+json", "{path}: {}", problem.body);
        assert_eq!((problem.status, problem.json()["code"].as_str()), (400, Some("TRM-0907")), "{path}");
    }
    let page = world.get("/rollouts/%ff").await;
    assert!(page.header("content-type").starts_with("text/html") && page.body.contains("TRM-0907"));
    // The scheme's name is taken in any case; what would deceive whoever reads the record is not.
    let kind = ("content-type", "application/json");
    let path = format!("/api/v1/rollouts/{}/rollback", story::rollout());
    for reason in [r"\u0000", r"a\u001b[31m", r"a\u009bb", r"a\u202eb", r"a\u2066b"] {
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        let answer = world.send("POST", &path, &[kind, ("authorization", &bearer)], &body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("TRM-0907")), "{reason}");
    }
    assert!(world.asked().is_empty());
    let body = r#"{"reason":"one\nline and äöü"}"#;
    let answer = world.send("POST", &path, &[kind, ("authorization", &bearer)], body).await;
    assert_eq!((answer.status, answer.json()["driven"].as_bool()), (202, Some(true)), "{}", answer.body);
}

#[tokio::test]
async fn odd_ways_to_write_an_address_lead_nowhere_else() {
    let world = world().await;
    let id = story::rollout();
    for path in [
        format!("//api/v1/rollouts/{id}/rollback"),
        format!("/api//v1/rollouts/{id}/rollback"),
        format!("/api/v1/rollouts/{id}/rollback/"),
        format!("/api/v1/rollouts/{id}/rollback;.css"),
        format!("/API/v1/rollouts/{id}/rollback"),
        format!("/api/v1/rollouts/{id}%2frollback"),
        format!("/assets/../api/v1/rollouts/{id}/rollback"),
        format!("/healthz/..;/api/v1/rollouts/{id}/rollback"),
    ] {
        let kind = ("content-type", "application/json");
        let answer = world.send("POST", &path, &[kind], r#"{"reason":"because"}"#).await;
        assert!(matches!(answer.status, 401 | 404 | 405), "{path}: {}", answer.status);
    }
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn bodies_are_bounded_and_read_only_from_who_may_send_them() {
    let world = world().await;
    let path = format!("/api/v1/rollouts/{}/rollback", story::rollout());
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let large = format!(r#"{{"reason":"{}"}}"#, "x".repeat(delivery::limits::REQUEST_BODY_BYTES_MAX));
    assert_eq!(world.send("POST", &path, &headers, &large).await.status, 413);
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(2_000));
    assert_eq!(world.send("POST", &path, &headers, &long).await.status, 422);
    for bad in ["", "{", "[]", "{}", r#"{"reason":""}"#, r#"{"reason":"  "}"#, r#"{"reason":"x","by":"y"}"#] {
        let answer = world.send("POST", &path, &headers, bad).await;
        assert!(matches!(answer.status, 400 | 422), "{bad}: {}", answer.status);
        assert_eq!(answer.json()["code"], "TRM-0907", "{bad}");
    }
    assert!(world.asked().is_empty());
}
