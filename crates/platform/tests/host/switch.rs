//! The kill switch and the journal against the disk: what was acknowledged stays so, whatever was on its way.

use std::time::Duration;

use delivery::effect::{Effect, Outcome};
use delivery::strategy::OnExpiry;
use delivery::traffic::Weight;
use platform::edge::{Edge, Renewal, Role};
use rustix::process::{Pid, Signal};

use super::bed::{
    Bed, applied, command, get, percent, refused, revision, rollout, start, until, versions, weight,
};

async fn kill(edge: &Edge) {
    let pid = edge.status().await.unwrap().pid;
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_wins_over_a_promotion_on_its_way_to_the_disk() {
    let bed = Bed::new();
    let edge = bed.with_stable().await;
    let mut stable = revision(1);
    let mut taken_back = 0;
    for round in 2..150_u32 {
        // A dozen rounds, and on a fast disk as many more as it takes to meet the promotion on its way.
        if round >= 14 && taken_back > 0 {
            break;
        }
        applied(&edge, start(round, 1, bed.spec(round, "good"))).await;
        applied(&edge, weight(round, 2, percent(50.0), 60_000, OnExpiry::Rollback)).await;
        let promote = command(round, 3, Effect::Promote { revision: revision(round) });
        let (promoted, lowered) = tokio::join!(edge.apply(&promote), async {
            tokio::time::sleep(Duration::from_micros(u64::from(round % 20) * 100)).await;
            edge.lower(Weight::ZERO, None).await.unwrap()
        });
        let promoted = promoted.unwrap();
        if lowered.from == Weight::ZERO {
            assert!(matches!(promoted, Outcome::Applied { .. }), "{promoted:?}");
            applied(&edge, command(round, 4, Effect::Retire { revision: stable, drain_ms: 0 })).await;
            stable = revision(round);
        } else {
            taken_back += 1;
            assert!(matches!(promoted, Outcome::Refused { .. }), "round {round}: {promoted:?}");
            assert!(matches!(edge.renew(&rollout(round), 1).await.unwrap(), Renewal::Expired { .. }));
            applied(&edge, command(round, 4, Effect::Retire { revision: revision(round), drain_ms: 0 }))
                .await;
        }
        let status = edge.status().await.unwrap();
        assert_eq!((status.weight, &status.revision(Role::Stable).unwrap().id), (Weight::ZERO, &stable));
    }
    assert!(taken_back > 0, "no round was a race");
    // The disk says the same.
    kill(&edge).await;
    let status = bed.edge().await.status().await.unwrap();
    assert_eq!(status.revision(Role::Stable).unwrap().id, stable);
    bed.journal();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_answers_however_many_clients_there_are() {
    platform::process::raise_files_max(4_096);
    let bed = Bed::new();
    let mut program = Bed::program();
    program[2] = format!("ulimit -n 1024; {}", program[2]);
    let edge = Edge::ensure(&bed.config, &program).await.unwrap();
    applied(&edge, start(1, 1, bed.spec(1, "good"))).await;
    applied(&edge, command(1, 2, Effect::Promote { revision: revision(1) })).await;
    applied(&edge, start(2, 1, bed.spec(2, "good"))).await;
    applied(&edge, weight(2, 2, percent(50.0), 60_000, OnExpiry::Rollback)).await;
    let listen = edge.status().await.unwrap().listen;
    let mut clients = Vec::new();
    for _ in 0..1_100 {
        // Those beyond the limit wait in the backlog, and beyond that for their handshake.
        let connect = tokio::net::TcpStream::connect(&listen);
        let Ok(client) = tokio::time::timeout(Duration::from_millis(200), connect).await else { break };
        clients.push(client.unwrap());
    }
    assert!(clients.len() > 400, "{}", clients.len());
    let lowered = tokio::time::timeout(Duration::from_secs(1), edge.lower(Weight::ZERO, None)).await;
    assert_eq!(lowered.unwrap().unwrap().from, percent(50.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_weight_does_not_come_back_with_the_edge() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Hold).await;
    edge.lower(Weight::ZERO, None).await.unwrap();
    kill(&edge).await;
    let edge = bed.edge().await;
    let status = edge.status().await.unwrap();
    assert_eq!((status.weight, status.revisions.len()), (Weight::ZERO, 1));
    assert_eq!(versions(&status.listen, 20).await["v1"], 20);
    assert!(matches!(edge.renew(&rollout(2), 2).await.unwrap(), Renewal::Expired { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_holds_when_only_the_journal_can_not_be_written() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let journal = bed.config.state_directory.join("effects.jsonl");
    let aside = bed.config.state_directory.join("aside");
    std::fs::rename(&journal, &aside).unwrap();
    std::fs::create_dir(&journal).unwrap();
    applied(&edge, command(2, 3, Effect::Promote { revision: revision(2) })).await;
    let status = edge.status().await.unwrap();
    assert!(status.storage_problem.as_ref().unwrap().contains("journal"), "{status:?}");
    assert_eq!(status.revision(Role::Stable).unwrap().id, revision(2));
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(&aside, &journal).unwrap();
    kill(&edge).await;
    let edge = bed.edge().await;
    let status = edge.status().await.unwrap();
    assert_eq!(status.revision(Role::Stable).unwrap().id, revision(2));
    assert_eq!(get(&status.listen, "/").await, (200, "v2".into()));
    let effects: Vec<String> = bed.journal().into_iter().map(|(effect, ..)| effect).collect();
    assert_eq!(effects, ["start", "promote", "start", "set-weight", "promote"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_another_effect_is_refused() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    let reason = refused(&edge, command(2, 2, Effect::Promote { revision: revision(2) })).await;
    assert_eq!(reason, "number 2 of ro-00000002 was another effect");
    assert_eq!(edge.status().await.unwrap().weight, percent(50.0));
    // The first effect keeps its answer.
    applied(&edge, weight(2, 2, percent(50.0), 60_000, OnExpiry::Rollback)).await;
}

/// A raise that took longer on its way than the weight 0 which was asked for after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_overtaken_changes_nothing() {
    let bed = Bed::new();
    let edge = bed.with_canary(60_000, OnExpiry::Rollback).await;
    applied(&edge, weight(2, 4, percent(0.0), 60_000, OnExpiry::Rollback)).await;
    let reason = refused(&edge, weight(2, 3, percent(75.0), 60_000, OnExpiry::Rollback)).await;
    assert_eq!(reason, "a younger command of ro-00000002 was there first");
    assert_eq!(edge.status().await.unwrap().weight, percent(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_edited_are_not_started_again() {
    let bed = Bed::new();
    let edge = bed.with_stable().await;
    let content = bed.spec(1, "good").directory.join("content");
    std::fs::write(&content, "edited").unwrap();
    kill(&edge).await;
    let edge = bed.edge().await;
    let status =
        until(&edge, "the refusal", |status| status.revisions[0].instances[0].last_end.is_some()).await;
    let end = status.revisions[0].instances[0].last_end.clone().unwrap();
    assert!(end.contains("has digest") && end.contains("TRM-0603"), "{end}");
    assert_eq!(get(&status.listen, "/").await.0, 503);
    // Put right, they are.
    std::fs::write(&content, "original").unwrap();
    until(&edge, "the start", |status| status.revisions[0].instances[0].pid.is_some()).await;
    // And neither is an instance that died.
    std::fs::write(&content, "edited").unwrap();
    let status = until(&edge, "readiness", |status| status.revisions[0].instances[0].port.is_some()).await;
    let restarts = status.revisions[0].instances[0].restarts;
    let pid = status.revisions[0].instances[0].pid.unwrap();
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    until(&edge, "the second refusal", |status| {
        let instance = &status.revisions[0].instances[0];
        instance.restarts > restarts + 1 && instance.last_end.as_ref().unwrap().contains("TRM-0603")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_lacks_a_variable_after_a_restart_says_so() {
    let bed = Bed::new();
    let variables = [("API_TOKEN".to_owned(), "not-in-the-daemon".to_owned())];
    let edge = bed.edge().await.with_variables(variables.into());
    let mut spec = bed.spec(1, "good");
    spec.pass = vec!["API_TOKEN".into()];
    applied(&edge, start(1, 1, spec)).await;
    applied(&edge, command(1, 2, Effect::Promote { revision: revision(1) })).await;
    assert!(edge.status().await.unwrap().revisions[0].missing.is_empty());
    kill(&edge).await;
    let status = bed.edge().await.status().await.unwrap();
    assert_eq!(status.revisions[0].missing, ["API_TOKEN"]);
    let log = std::fs::read_to_string(bed.config.log_directory.join("edge.log")).unwrap();
    assert!(log.contains("rev-00000001 is started again without API_TOKEN"), "{log}");
}
