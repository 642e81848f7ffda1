//! Commands and what comes of them, with everything alive.

use std::time::Duration;

use delivery::effect::{Command, Effect, Outcome};
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use platform::edge::{Edge, Error, Renewal, Role};
use tokio::time::Instant;

use super::bed::{
    Bed, applied, command, get, percent, refused, revision, rollout, start, until, versions, weight,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_from_start_over_split_to_stable() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    let address = edge.status().await.unwrap().listen;
    assert_eq!(get(&address, "/").await.0, 503);
    let detail = applied(&edge, start(1, 1, bed.spec(1, "good"))).await;
    assert!(detail.starts_with("1 instance ready in "), "{detail}");
    assert_eq!(get(&address, "/").await.0, 503, "a started revision has no traffic yet");
    applied(&edge, command(1, 2, Effect::Promote { revision: revision(1) })).await;
    assert_eq!(get(&address, "/").await, (200, "v1".into()));

    let mut second = bed.spec(2, "good");
    second.instances = 2;
    let detail = applied(&edge, start(2, 1, second)).await;
    assert!(detail.starts_with("2 instances ready in "), "{detail}");
    applied(&edge, weight(2, 2, percent(50.0), 60_000, OnExpiry::Rollback)).await;
    let seen = versions(&address, 200).await;
    assert!(seen["v1"] > 60 && seen["v2"] > 60 && seen.len() == 2, "{seen:?}");
    let sample = edge.sample(delivery::Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(sample.canary.requests, u64::from(seen["v2"]));
    assert_eq!(sample.stable.requests, u64::from(seen["v1"]) + 1);
    assert_eq!((sample.weight, sample.at), (percent(50.0), delivery::Timestamp::UNIX_EPOCH));

    applied(&edge, command(2, 3, Effect::Promote { revision: revision(2) })).await;
    assert_eq!(versions(&address, 20).await["v2"], 20);
    let status = edge.status().await.unwrap();
    assert_eq!(status.revision(Role::Stable).unwrap().instances.len(), 2);
    assert_eq!(status.revision(Role::Retiring).unwrap().id, revision(1));
    assert_eq!((status.weight, status.grant_remaining_ms), (Weight::ZERO, None));
    applied(&edge, command(2, 4, Effect::Retire { revision: revision(1), drain_ms: 1_000 })).await;
    let status = edge.status().await.unwrap();
    assert_eq!(status.revisions.len(), 1);
    assert_eq!(bed.processes().len(), 2);
    let reason = refused(&edge, command(2, 5, Effect::Retire { revision: revision(2), drain_ms: 0 })).await;
    assert!(reason.ends_with("is the stable revision"), "{reason}");
    edge.shutdown().await.unwrap();
    assert_eq!(bed.processes(), []);
    assert_eq!(get(&address, "/").await.0, 0);
    let effects: Vec<String> = bed.journal().into_iter().map(|(effect, ..)| effect).collect();
    assert_eq!(effects, ["start", "promote", "start", "set-weight", "promote", "retire"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_applied_once_and_its_first_answer_repeated() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let before = bed.journal();
    let pids = bed.processes();
    let again = edge.apply(&start(2, 1, bed.spec(2, "good"))).await.unwrap();
    assert!(matches!(again, Outcome::Applied { .. }));
    // A lower number that comes late changes nothing.
    applied(&edge, weight(2, 3, percent(10.0), 60_000, OnExpiry::Rollback)).await;
    applied(&edge, weight(2, 2, percent(50.0), 60_000, OnExpiry::Rollback)).await;
    assert_eq!(edge.status().await.unwrap().weight, percent(10.0));
    assert_eq!(bed.processes(), pids);
    assert_eq!(bed.journal()[before.len()..], [("set-weight".into(), Some(3), 1_000)]);
    // At the same time, too.
    let raise = weight(2, 4, percent(20.0), 60_000, OnExpiry::Rollback);
    let all = futures_util::future::join_all((0..8).map(|_| edge.apply(&raise))).await;
    assert!(all.iter().all(|outcome| matches!(outcome, Ok(Outcome::Applied { .. }))), "{all:?}");
    assert_eq!(bed.journal().len(), before.len() + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_controller_is_fenced() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let newer = Command { epoch: 7, ..weight(2, 3, percent(20.0), 60_000, OnExpiry::Rollback) };
    applied(&edge, newer).await;
    let stale = weight(2, 4, percent(50.0), 60_000, OnExpiry::Rollback);
    assert_eq!(edge.apply(&stale).await.unwrap(), Outcome::Fenced { epoch: 7 });
    assert_eq!(edge.renew(&rollout(2), 6).await.unwrap(), Renewal::Fenced { epoch: 7 });
    let Renewal::Held { remaining_ms } = edge.renew(&rollout(2), 8).await.unwrap() else { panic!() };
    assert_eq!(remaining_ms, 60_000);
    assert_eq!(edge.renew(&rollout(9), 8).await.unwrap(), Renewal::None);
    let status = edge.status().await.unwrap();
    assert_eq!((status.weight, status.epoch), (percent(20.0), 8));
    // Fencing outlives the edge.
    edge.shutdown().await.unwrap();
    let edge = bed.edge().await;
    let outcome = edge.apply(&command(2, 9, Effect::Promote { revision: revision(1) })).await.unwrap();
    assert_eq!(outcome, Outcome::Fenced { epoch: 8 });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_the_weight_falls_in_time() {
    let bed = Bed::new();
    let ttl = Duration::from_millis(800);
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    applied(&edge, weight(2, 3, percent(60.0), 800, OnExpiry::Rollback)).await;
    // Renewed, it stays beyond its length.
    for _ in 0..5 {
        tokio::time::sleep(ttl / 4).await;
        assert!(matches!(edge.renew(&rollout(2), 1).await.unwrap(), Renewal::Held { .. }));
    }
    let last_renewal = Instant::now();
    let address = edge.status().await.unwrap().listen;
    let status = until(&edge, "the expiry", |status| status.weight == Weight::ZERO).await;
    let fell_after = last_renewal.elapsed();
    assert!(fell_after + Duration::from_millis(50) > ttl, "{fell_after:?}");
    assert!(fell_after < ttl + Duration::from_millis(200), "{fell_after:?}");
    let expired = status.expired.unwrap();
    assert_eq!((expired.rollout, expired.weight), (rollout(2), percent(60.0)));
    assert_eq!(versions(&address, 30).await["v1"], 30);
    assert!(matches!(edge.renew(&rollout(2), 1).await.unwrap(), Renewal::Expired { .. }));
    let reason = refused(&edge, weight(2, 4, percent(5.0), 60_000, OnExpiry::Rollback)).await;
    assert!(reason.contains("nobody renewed its grant"), "{reason}");
    let reason = refused(&edge, command(2, 5, Effect::Promote { revision: revision(2) })).await;
    assert!(reason.contains("nobody renewed its grant"), "{reason}");
    // Taking it back goes on as usual.
    applied(&edge, weight(2, 6, Weight::ZERO, 0, OnExpiry::Rollback)).await;
    applied(&edge, command(2, 7, Effect::Retire { revision: revision(2), drain_ms: 100 })).await;
    assert!(bed.journal().contains(&("expire".into(), None, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_holds_keeps_its_weight() {
    let bed = Bed::new();
    let edge = bed.with_canary(300, OnExpiry::Hold).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let status = edge.status().await.unwrap();
    assert_eq!((status.weight, status.expired), (percent(50.0), None));
    assert!(matches!(edge.renew(&rollout(2), 2).await.unwrap(), Renewal::Held { remaining_ms: 300 }));
    applied(&edge, Command { epoch: 2, ..command(2, 3, Effect::Promote { revision: revision(2) }) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_only_lowers_and_its_rollout_is_over() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let lowered = edge.lower(percent(80.0), None).await.unwrap();
    assert_eq!((lowered.from, lowered.to), (percent(50.0), percent(50.0)));
    let lowered = edge.lower(percent(20.0), None).await.unwrap();
    assert_eq!((lowered.from, lowered.to), (percent(50.0), percent(20.0)));
    let began = Instant::now();
    assert_eq!(edge.lower(Weight::ZERO, None).await.unwrap().to, Weight::ZERO);
    assert!(began.elapsed() < Duration::from_secs(1));
    let Renewal::Expired { cause, .. } = edge.renew(&rollout(2), 1).await.unwrap() else { panic!() };
    assert_eq!(cause, "the kill switch was used");
    refused(&edge, weight(2, 3, percent(5.0), 60_000, OnExpiry::Rollback)).await;
    assert_eq!(edge.status().await.unwrap().weight, Weight::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_weights_only_fall() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    // A folder where the temporary file belongs stands for a disk that takes no writes.
    let obstacle = bed.config.state_directory.join("state.new");
    std::fs::create_dir(&obstacle).unwrap();
    let raise = weight(2, 3, percent(60.0), 60_000, OnExpiry::Rollback);
    let error = edge.apply(&raise).await.unwrap_err();
    assert!(matches!(&error, Error::Failed { reason, .. } if reason.contains("can't be written")), "{error}");
    let promote = command(2, 4, Effect::Promote { revision: revision(2) });
    assert!(matches!(edge.apply(&promote).await, Err(Error::Failed { .. })));
    let status = edge.status().await.unwrap();
    assert_eq!(status.weight, percent(50.0));
    assert_eq!(status.revision(Role::Stable).unwrap().id, revision(1));
    assert!(status.storage_problem.is_some());
    applied(&edge, weight(2, 5, percent(10.0), 60_000, OnExpiry::Rollback)).await;
    assert_eq!(edge.lower(Weight::ZERO, None).await.unwrap().from, percent(10.0));
    assert_eq!(edge.status().await.unwrap().weight, Weight::ZERO);
    std::fs::remove_dir(&obstacle).unwrap();
    refused(&edge, raise).await;
    assert_eq!(edge.status().await.unwrap().storage_problem, None);
    let weights: Vec<u64> = bed.journal().into_iter().map(|(.., weight)| weight).collect();
    assert!(!weights.contains(&6_000), "{weights:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_revision_finishes_its_requests() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let address = edge.status().await.unwrap().listen;
    applied(&edge, weight(2, 3, percent(100.0), 60_000, OnExpiry::Rollback)).await;
    let slow = tokio::spawn({
        let address = address.clone();
        async move { get(&address, "/slow").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let detail =
        applied(&edge, command(2, 4, Effect::Retire { revision: revision(2), drain_ms: 5_000 })).await;
    assert!(detail.starts_with("drained"), "{detail}");
    assert_eq!(slow.await.unwrap(), (200, "v2".into()));
    assert_eq!(versions(&address, 10).await["v1"], 10);
    applied(&edge, command(2, 5, Effect::Retire { revision: revision(2), drain_ms: 5_000 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_names_its_holder() {
    let mut bed = Bed::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bed.config.listen = listener.local_addr().unwrap().to_string();
    let error = Edge::ensure(&bed.config, &Bed::program()).await.unwrap_err();
    let Error::PortTaken { address, holder } = &error else { panic!("{error}") };
    assert_eq!(*address, bed.config.listen);
    assert_eq!(holder.as_ref().unwrap().pid, std::process::id());
    assert_eq!(error.problem().code, delivery::code::Code::PortTaken);
    drop(listener);
    bed.edge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_edge_is_explained() {
    let bed = Bed::new();
    let shell = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let error = Edge::ensure(&bed.config, &shell("echo what is --config; exit 2")).await.unwrap_err();
    assert!(matches!(&error, Error::Died { reason, .. } if reason == "what is --config"), "{error}");
    let error = Edge::ensure(&bed.config, &["/nonexistent/trimtab".to_owned()]).await.unwrap_err();
    assert!(matches!(&error, Error::NotStarted { .. }), "{error}");
    assert!(matches!(Edge::connect(&bed.config).await, Err(Error::NotRunning { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_once_give_one_edge() {
    let bed = Bed::new();
    let program = Bed::program();
    let (first, second) =
        tokio::join!(Edge::ensure(&bed.config, &program), Edge::ensure(&bed.config, &program));
    let (first, second) = (first.unwrap().status().await.unwrap(), second.unwrap().status().await.unwrap());
    assert_eq!((first.pid, &first.boot), (second.pid, &second.boot));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_was_changed_is_not_started() {
    let bed = Bed::new();
    let edge = bed.with_stable().await;
    let spec = bed.spec(2, "good");
    std::fs::write(spec.directory.join("content"), "swapped").unwrap();
    let reason = refused(&edge, start(2, 1, spec.clone())).await;
    assert!(reason.contains("has digest ") && reason.contains(spec.digest.short()), "{reason}");
    std::fs::remove_file(spec.directory.join("content")).unwrap();
    let reason = refused(&edge, start(2, 2, spec)).await;
    assert!(reason.contains("can't be checked"), "{reason}");
    assert_eq!(edge.status().await.unwrap().revisions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_whose_socket_was_removed_is_found_again() {
    let bed = Bed::new();
    let before = bed.edge().await.status().await.unwrap();
    std::fs::remove_file(&bed.config.control_socket).unwrap();
    let after = bed.edge().await.status().await.unwrap();
    assert_eq!((before.pid, before.boot), (after.pid, after.boot));
}
