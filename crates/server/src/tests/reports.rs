//! Reports from outside: who may send them, and that each is recorded once.

use delivery::report::Fact;
use delivery::{Actor, Event, Recorded};
use store::Entry;

use super::story::{self, exposed};
use super::{Answer, REPORT_TOKEN, TOKEN, World, at, soon};

pub(super) const ONE: &str = "application/cloudevents+json";
pub(super) const BATCH: &str = "application/cloudevents-batch+json";
const PATH: &str = "/api/v1/events";

fn cloud_event(source: &str, id: &str, kind: &str, subject: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{kind}","data":{{"context":{{"specversion":"0.4.1","id":"{id}","source":"{source}","type":"{kind}","timestamp":"2026-05-28T20:00:00Z"}},"subject":{subject}}}}}"#
    )
}

pub(super) fn detected(source: &str, id: &str, incident: &str) -> String {
    let subject = format!(
        r#"{{"id":"{incident}","content":{{"environment":{{"id":"production"}},"service":{{"id":"shop"}},"description":"slow"}}}}"#
    );
    cloud_event(source, id, "dev.cdevents.incident.detected.0.3.0", &subject)
}

fn resolved(source: &str, id: &str, incident: &str) -> String {
    let subject = format!(r#"{{"id":"{incident}","content":{{}}}}"#);
    cloud_event(source, id, "dev.cdevents.incident.resolved.0.3.0", &subject)
}

impl World {
    async fn report(&self, kind: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {REPORT_TOKEN}");
        self.send("POST", PATH, &[("content-type", kind), ("authorization", &bearer)], body).await
    }

    fn records(&self) -> Vec<Recorded> {
        let record = |entry| match entry {
            Entry::Record(recorded) => recorded,
            Entry::Quarantined { reason, .. } => panic!("{reason}"),
        };
        self.ledger.read(0, usize::MAX).unwrap().into_iter().map(record).collect()
    }

    async fn restarted(self) -> Self {
        let config = Self::config(self.ledger.clone(), self.notebook.clone());
        let World { running, folder, ledger, notebook, clock } = self;
        running.stop().await;
        let running = crate::start(config).await.unwrap();
        World { folder, ledger, running, notebook, clock }
    }
}

fn sequences(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    json["recorded"].as_array().unwrap().iter().map(|receipt| receipt["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_report_is_on_record_when_it_is_answered_in_its_senders_name() {
    let world = World::new().await;
    let answer = world.report(ONE, &detected("/monitoring", "e1", "i1")).await;
    assert_eq!(answer.body, r#"{"version":1,"recorded":[{"source":"/monitoring","id":"e1","sequence":1}]}"#);
    let records = world.records();
    assert_eq!((records.len(), &records[0].actor), (1, &Actor::Machine("/monitoring".into())));
    let Event::Reported { origin, occurred_at, fact } = &records[0].event else { panic!("{records:?}") };
    assert_eq!((origin.id.as_str(), occurred_at.to_string().as_str()), ("e1", "2026-05-28T20:00:00Z"));
    assert!(matches!(fact, Fact::IncidentDetected { service, .. } if service == "shop"), "{fact:?}");
    world.follow().await;
    let lines = world.get("/api/v1/ledger").await;
    assert!(lines.body.contains("an incident of shop in production was reported: slow"), "{}", lines.body);
}

#[tokio::test]
async fn a_report_that_is_sent_again_gets_the_first_answer_also_after_a_restart() {
    let world = World::new().await;
    let first = world.report(ONE, &detected("/monitoring", "e1", "i1")).await;
    world.report(ONE, &resolved("/monitoring", "e2", "i1")).await;
    let again = world.report(ONE, &detected("/monitoring", "e1", "i1")).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    let world = world.restarted().await;
    let again = world.report(ONE, &detected("/monitoring", "e1", "i1")).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    // The memory of it is the record: what is kept beside it may go.
    std::fs::remove_file(world.folder.path().join("reports.db")).unwrap();
    let world = world.restarted().await;
    let again = world.report(ONE, &detected("/monitoring", "e1", "i1")).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(world.records().len(), 2);
}

#[tokio::test]
async fn among_concurrent_deliveries_to_two_servers_each_report_is_recorded_once() {
    let world = World::new().await;
    let another = world.another();
    let other = World {
        folder: tempfile::tempdir().unwrap(),
        running: crate::start(World::config(another.clone(), world.notebook.clone())).await.unwrap(),
        ledger: another,
        notebook: world.notebook.clone(),
        clock: world.clock.clone(),
    };
    let bodies: Vec<String> = (0..40)
        .map(|number| {
            let (source, id) = (format!("/source/{}", number % 3), format!("e{}", number % 7));
            detected(&source, &id, "i")
        })
        .collect();
    let deliveries = bodies.iter().enumerate().map(|(number, body)| {
        let to = if number % 2 == 0 { &world } else { &other };
        to.report(ONE, body)
    });
    let answers = soon(futures_util::future::join_all(deliveries)).await;
    assert_eq!(world.records().len(), 21);
    for (body, answer) in bodies.iter().zip(&answers) {
        let sequence = sequences(answer)[0];
        let record = &world.records()[sequence as usize - 1];
        let Event::Reported { origin, .. } = &record.event else { panic!("{record:?}") };
        assert!(body.contains(&origin.source) && body.contains(&format!("\"{}\"", origin.id)), "{body}");
    }
}

#[tokio::test]
async fn a_batch_is_recorded_as_a_whole_or_not_at_all() {
    let world = World::new().await;
    let (one, two) = (detected("/a", "1", "i"), detected("/b", "1", "i"));
    let broken = one.replace("production", "");
    let answer = world.report(BATCH, &format!("[{two},{broken}]")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("TRM-0910")), "{}", answer.body);
    assert!(answer.body.contains("event 1: subject.content.environment.id is empty"), "{}", answer.body);
    assert!(world.records().is_empty());
    // The same report twice in one batch is one report.
    let answer = world.report(BATCH, &format!("[{one},{two},{one}]")).await;
    let told = sequences(&answer);
    assert_eq!((told.len(), told[0] == told[2], told[0] == told[1]), (3, true, false));
    assert_eq!(world.records().len(), 2);
}

#[tokio::test]
async fn only_the_report_token_reports_and_it_does_nothing_else() {
    let world = World::with(|ledger| {
        ledger.append_blocking(&Actor::Machine("test".into()), at(10), exposed()).unwrap();
    })
    .await;
    let before = world.records().len();
    let cookie = world.cookie().await;
    let (origin, report) = (world.origin(), format!("bearer {REPORT_TOKEN}"));
    let kind = ("content-type", ONE);
    let cases: &[(u16, &[(&str, &str)])] = &[
        (401, &[kind]),
        (401, &[kind, ("authorization", &format!("Bearer {TOKEN}"))]),
        (401, &[kind, ("authorization", "Bearer ")]),
        (401, &[kind, ("authorization", REPORT_TOKEN)]),
        (401, &[kind, ("cookie", &cookie), ("origin", &origin)]),
        (403, &[kind, ("authorization", &report), ("origin", "http://evil.example")]),
        (403, &[kind, ("authorization", &report), ("sec-fetch-site", "cross-site")]),
        (421, &[kind, ("authorization", &report), ("host", "evil.example")]),
    ];
    for (status, headers) in cases {
        let answer = world.send("POST", PATH, headers, &detected("/a", "1", "i")).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (*status, Some("TRM-0905")),
            "{headers:?}"
        );
    }
    assert_eq!(world.records().len(), before);
    let path = format!("/api/v1/rollouts/{}/rollback", story::rollout());
    let headers = [("content-type", "application/json"), ("authorization", report.as_str())];
    assert_eq!(world.send("POST", &path, &headers, r#"{"reason":"because"}"#).await.status, 401);
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn an_incident_named_like_a_rollout_is_not_the_rollouts() {
    let world = World::with(|ledger| {
        ledger.append_blocking(&Actor::Machine("test".into()), at(10), exposed()).unwrap();
    })
    .await;
    let id = story::rollout();
    let before = world.get(&format!("/api/v1/rollouts/{id}")).await;
    assert_eq!(before.status, 200);
    for body in [detected("mailto:ana@example.com", "1", id.as_str()), resolved("trimtab", "2", id.as_str())]
    {
        sequences(&world.report(ONE, &body).await);
    }
    world.follow().await;
    assert!(world.records().iter().rev().take(2).all(|record| record.event.rollout().is_none()));
    // A machine is not shown as a person, whatever it calls itself.
    let page = world.get("/").await;
    assert!(page.body.contains("an incident of shop in production was reported"), "{}", page.body);
    assert!(!page.body.contains("mailto:ana@example.com"), "{}", page.body);
}

#[tokio::test]
async fn bodies_are_bounded_and_what_is_no_event_is_refused() {
    let world = World::new().await;
    let large = "x".repeat(delivery::limits::REQUEST_BODY_BYTES_MAX + 1);
    assert_eq!(world.report(ONE, &large).await.status, 413);
    let answer = world.report("application/json", &detected("/a", "1", "i")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (415, Some("TRM-0910")));
    let many: Vec<String> = (0..257).map(|number| detected("/a", &number.to_string(), "i")).collect();
    assert_eq!(world.report(BATCH, &format!("[{}]", many.join(","))).await.status, 413);
    assert_eq!(sequences(&world.report(BATCH, &format!("[{}]", many[1..].join(","))).await).len(), 256);
    assert_eq!(world.records().len(), 256);
}
