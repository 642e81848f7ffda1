//! Who goes where, and what is counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use delivery::Timestamp;
use delivery::strategy::Sticky;
use delivery::traffic::Weight;
use http::{HeaderName, Request};
use platform::proxy::Routes;

use crate::world::{CANARY, Client, Proxy, STABLE, arm, both, empty, get, named, only, percent, revision};

const REQUESTS: u64 = 20_000;
const CLIENTS: u64 = 16;

/// Sends the requests over some clients; gives the canary's share in percent, as the clients saw it.
async fn share(
    proxy: &Proxy,
    request: impl Fn(u64) -> Request<crate::world::Body> + Clone + Send + 'static,
) -> f64 {
    let mut tasks = Vec::new();
    for first in 0..CLIENTS {
        let mut client = proxy.client().await;
        let request = request.clone();
        tasks.push(tokio::spawn(async move {
            let mut canary = 0_u32;
            for number in (first..REQUESTS).step_by(CLIENTS as usize) {
                canary += u32::from(client.text(request(number)).await == "canary");
            }
            canary
        }));
    }
    let mut canary = 0;
    for task in tasks {
        canary += task.await.unwrap();
    }
    f64::from(canary) / REQUESTS as f64 * 100.0
}

/// At 2 % and 20,000 draws, half a percentage point is five standard deviations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_draws_keep_the_share_and_everything_is_counted() {
    let (stable, at_stable) = named("stable").await;
    let (canary, at_canary) = named("canary").await;
    let proxy = Proxy::start(both(stable, canary, 2.0)).await;
    let share = share(&proxy, |_| get("/")).await;
    assert!((share - 2.0).abs() <= 0.5, "{share}");
    for (id, arrived) in [(STABLE, at_stable), (CANARY, at_canary)] {
        let totals = proxy.settled(id).await;
        assert_eq!(totals.requests, arrived.load(Ordering::SeqCst));
        assert_eq!(totals.latency.iter().sum::<u64>(), totals.requests);
        assert_eq!((totals.errors, totals.in_flight), (0, 0));
        assert_eq!(proxy.splitter.sent(&revision(id)), totals.requests);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_keys_keep_the_share() {
    let (stable, _) = named("stable").await;
    let (canary, _) = named("canary").await;
    let sticky = Sticky::Header("x-user".into());
    let proxy = Proxy::start(Routes { sticky, ..both(stable, canary, 10.0) }).await;
    let request = |user: u64| {
        Request::get("/").header("host", "s").header("x-user", format!("user-{user}")).body(empty()).unwrap()
    };
    let share = share(&proxy, request).await;
    assert!((share - 10.0).abs() <= 0.5, "{share}");
}

/// Asks as a user with a cookie; gives the arm's name, and takes the cookie that is given.
async fn visit(client: &mut Client, cookie: &mut Option<String>) -> String {
    let mut request = get("/");
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    let (status, headers, text) = client.ask(request).await;
    assert_eq!(status, 200);
    match (headers.get("set-cookie"), &cookie) {
        (Some(set), None) => *cookie = set.to_str().unwrap().split(';').next().map(str::to_owned),
        (None, Some(_)) => {}
        other => panic!("a cookie is given exactly once: {other:?}"),
    }
    text
}

#[tokio::test]
async fn users_stay_and_exposure_is_monotone() {
    let (stable, _) = named("stable").await;
    let (canary, _) = named("canary").await;
    let sticky = Sticky::Cookie("trimtab_id".into());
    let proxy = Proxy::start(Routes { sticky, ..both(stable, canary, 20.0) }).await;
    let mut client = proxy.client().await;
    let mut users: Vec<Option<String>> = vec![None; 300];
    let mut at_weight: HashMap<u16, Vec<bool>> = HashMap::new();
    for weight in [20_u16, 20, 50, 90, 50, 20] {
        proxy.splitter.set_weight_and_wait(percent(f64::from(weight))).await;
        let mut seen = Vec::new();
        for cookie in &mut users {
            seen.push(visit(&mut client, cookie).await == "canary");
        }
        // The same weight exposes exactly the same users, whichever weights came between.
        assert_eq!(at_weight.entry(weight).or_insert_with(|| seen.clone()), &seen);
    }
    for (low, high) in [(20, 50), (50, 90)] {
        let moved_back = at_weight[&low].iter().zip(&at_weight[&high]).filter(|(low, high)| **low && !**high);
        assert_eq!(moved_back.count(), 0);
    }
    let exposed = at_weight[&50].iter().filter(|canary| **canary).count();
    assert!((100..200).contains(&exposed), "{exposed} of 300 at 50 %");
}

/// Clients that hammer the proxy until they are told to stop; gives how many requests were answered.
fn hammer(clients: Vec<Client>, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<u64>> {
    let run = |mut client: Client, stop: Arc<AtomicBool>| async move {
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) {
            client.text(get("/")).await;
            answered += 1;
        }
        answered
    };
    clients.into_iter().map(|client| tokio::spawn(run(client, Arc::clone(stop)))).collect()
}

async fn clients(proxy: &Proxy, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(proxy.client().await);
    }
    clients
}

/// The promise: once weight 0 is acknowledged, no request starts on the canary. What had started by then is all that its
/// instance ever sees. The canary's pool is thrown away every other time, so that connecting races with the change too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_starts_after_an_acknowledged_zero() {
    let (stable, _) = named("stable").await;
    let (canary, arrived) = named("canary").await;
    let proxy = Proxy::start(only(stable)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = hammer(clients(&proxy, 32).await, &stop);
    for round in 0..200 {
        let before = proxy.splitter.sent(&revision(CANARY));
        proxy.splitter.set_routes(both(stable, canary, 50.0));
        // The change must meet live traffic, however slow the machine is just now.
        while proxy.splitter.sent(&revision(CANARY)) < before + 1 + round % 32 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        proxy.splitter.set_weight_and_wait(Weight::ZERO).await;
        let acknowledged = proxy.splitter.sent(&revision(CANARY));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(proxy.splitter.sent(&revision(CANARY)), acknowledged, "round {round}");
        proxy.settled(CANARY).await;
        assert_eq!(arrived.load(Ordering::SeqCst), acknowledged, "round {round}");
        if round % 2 == 0 {
            proxy.splitter.set_routes(only(stable));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_routes_under_load_loses_nothing() {
    let (first, _) = named("stable").await;
    let (second, _) = named("stable").await;
    let (canary, _) = named("canary").await;
    let proxy = Proxy::start(both(first, canary, 50.0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = hammer(clients(&proxy, 8).await, &stop);
    for round in 0..300_u32 {
        let stable = arm(STABLE, [&[first][..], &[second], &[first, second]][(round % 3) as usize]);
        let routes = both(first, canary, f64::from(round % 101));
        proxy.splitter.set_routes(Routes { stable: Some(stable), ..routes });
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for task in load {
        answered += task.await.unwrap();
    }
    let (stable, canary) = (proxy.settled(STABLE).await, proxy.settled(CANARY).await);
    assert_eq!(stable.requests + canary.requests, answered);
    assert_eq!(stable.errors + canary.errors, 0);
}

#[tokio::test]
async fn totals_belong_to_the_revision_and_follow_a_promotion() {
    let (stable, _) = named("stable").await;
    let (canary, _) = named("canary").await;
    let proxy = Proxy::start(both(stable, canary, 100.0)).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.text(get("/")).await;
    }
    let at = Timestamp::UNIX_EPOCH;
    let during = proxy.splitter.sample(at);
    assert_eq!((during.boot.as_str(), during.weight), ("boot-1", Weight::FULL));
    assert_eq!((during.stable.requests, during.canary.requests), (0, 3));
    proxy.splitter.set_routes(Routes { stable: Some(arm(CANARY, &[canary])), ..Routes::default() });
    client.text(get("/")).await;
    let after = proxy.splitter.sample(at);
    assert_eq!((after.stable.requests, after.canary.requests), (4, 0));
    assert!(!proxy.splitter.forget(&revision(CANARY)), "it is routed to");
    assert!(proxy.splitter.forget(&revision(STABLE)));
    assert_eq!(proxy.splitter.totals(&revision(STABLE)), None);
}

#[tokio::test]
async fn the_override_header_works_where_it_is_configured() {
    let (stable, _) = named("stable").await;
    let (canary, _) = named("canary").await;
    let ask =
        |arm: &str| Request::get("/").header("host", "s").header("x-trimtab-arm", arm).body(empty()).unwrap();
    let proxy = Proxy::start(both(stable, canary, 0.01)).await;
    let mut client = proxy.client().await;
    let mut reached = 0;
    for _ in 0..20 {
        reached += u32::from(client.text(ask("canary")).await == "canary");
    }
    assert!(reached < 20, "not configured, so not honoured");
    let override_header = Some(HeaderName::from_static("x-trimtab-arm"));
    let routes = Routes { override_header, ..both(stable, canary, 0.01) };
    proxy.splitter.set_routes(routes.clone());
    for _ in 0..20 {
        assert_eq!(client.text(ask("canary")).await, "canary");
    }
    proxy.splitter.set_routes(Routes { weight: percent(99.99), ..routes });
    for _ in 0..20 {
        assert_eq!(client.text(ask("stable")).await, "stable");
    }
    proxy.splitter.set_weight_and_wait(Weight::ZERO).await;
    assert_eq!(client.text(ask("canary")).await, "stable", "weight 0 means none at all");
    // Whoever may send the header must not be able to make an arm look good or bad.
    let counted = [STABLE, CANARY].map(|id| proxy.totals(id).requests).iter().sum::<u64>();
    let asked = [STABLE, CANARY].map(|id| proxy.splitter.asked(&revision(id)).requests).iter().sum::<u64>();
    assert_eq!((counted, asked), (20, 41));
}

#[tokio::test]
async fn requests_spread_over_the_instances_of_an_arm() {
    let (first, at_first) = named("first").await;
    let (second, at_second) = named("second").await;
    let proxy =
        Proxy::start(Routes { stable: Some(arm(STABLE, &[first, second])), ..Routes::default() }).await;
    let mut client = proxy.client().await;
    for _ in 0..100 {
        client.text(get("/")).await;
    }
    let counts: [u64; 2] = [&at_first, &at_second].map(|count: &Arc<AtomicU64>| count.load(Ordering::SeqCst));
    assert_eq!(counts, [50, 50]);
}
