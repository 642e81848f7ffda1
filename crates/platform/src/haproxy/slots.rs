//! From slots as they are to slots as they should be: pure.
//!
//! An instance keeps the slot that it has. A slot without instance, and every canary slot while the canary has no share, is
//! in maintenance, because `drain` would still let in users who are bound to it by a cookie.
//! Invariants: commands that lower the canary come first, those that raise it last; [`lowering`] never raises it, and gives
//! stable weight where it has none, because otherwise nobody would be served.

use std::net::SocketAddr;

use delivery::traffic::Weight;

use super::reading::{Backend, Server, State};
use super::{Error, Haproxy, share};

/// What the slots should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The stable release's ready instances.
    pub stable: Vec<SocketAddr>,
    /// The canary's ready instances.
    pub canary: Vec<SocketAddr>,
    /// The canary's share.
    pub weight: Weight,
}

/// Commands in three parts.
#[derive(Default)]
struct Orders {
    lower: Vec<String>,
    stable: Vec<String>,
    raise: Vec<String>,
}

/// What to do, in this order, so that the slots become what is wanted; nothing when they are.
pub(super) fn changes(config: &Haproxy, now: &Backend, wanted: &Wanted) -> Result<Vec<String>, Error> {
    let unfit = |reason: String| Error::Unfit { backend: config.backend.clone(), reason };
    let Aim { canary, keep_stable, of_stable, of_canary, .. } = aim(config, now, wanted)?;
    let mut orders = Orders::default();
    for (server, address) in assign(&now.canary, canary).map_err(unfit)? {
        let full = name(config, server);
        match address {
            None => retire(&full, server, &mut orders.lower),
            Some(address) => {
                let shrinks = server.force() > of_canary;
                let orders = if shrinks { &mut orders.lower } else { &mut orders.raise };
                place(&full, server, address, of_canary, orders);
            }
        }
    }
    if !keep_stable {
        for (server, address) in assign(&now.stable, &wanted.stable).map_err(unfit)? {
            let full = name(config, server);
            match address {
                None => retire(&full, server, &mut orders.stable),
                Some(address) => place(&full, server, address, of_stable, &mut orders.stable),
            }
        }
    }
    Ok([orders.lower, orders.stable, orders.raise].concat())
}

/// The share that the canary will have with what is wanted; at most what was asked.
pub(super) fn target(config: &Haproxy, now: &Backend, wanted: &Wanted) -> Result<Weight, Error> {
    let aim = aim(config, now, wanted)?;
    Ok(share::share(aim.of_stable * aim.stable_count as u64, aim.of_canary * aim.canary.len() as u64))
}

/// The weights to aim at.
struct Aim<'a> {
    canary: &'a [SocketAddr],
    /// With no stable instance ready its slots stay as they are: emptied, they would leave everything to the canary.
    keep_stable: bool,
    stable_count: usize,
    of_stable: u64,
    of_canary: u64,
}

fn aim<'a>(config: &Haproxy, now: &Backend, wanted: &'a Wanted) -> Result<Aim<'a>, Error> {
    let canary: &[SocketAddr] = if wanted.weight > Weight::ZERO { &wanted.canary } else { &[] };
    let weight = if canary.is_empty() { Weight::ZERO } else { wanted.weight };
    let keep_stable = wanted.stable.is_empty() && weight > Weight::ZERO && weight < Weight::FULL;
    let stable_count = if keep_stable { now.stable.len() } else { wanted.stable.len() };
    let (of_stable, of_canary) =
        share::weights(weight, stable_count, canary.len()).ok_or_else(|| Error::Unfit {
            backend: config.backend.clone(),
            reason: format!("its weights can't give the canary as little as {weight}"),
        })?;
    Ok(Aim { canary, keep_stable, stable_count, of_stable, of_canary })
}

/// What to do so that the canary has no more than the ceiling; nothing when it has not.
pub(super) fn lowering(config: &Haproxy, now: &Backend, ceiling: Weight) -> Vec<String> {
    if !now.exceeds(ceiling) {
        return Vec::new();
    }
    let ready = |servers: &[Server]| servers.iter().filter(|server| server.state == State::Ready).count();
    // Beside a stable that gets nothing, any weight is all of it.
    let alone = ready(&now.stable) == 0;
    let fits = share::weights(ceiling, ready(&now.stable), ready(&now.canary)).filter(|_| !alone);
    let (of_stable, of_canary) = fits.unwrap_or((share::WEIGHT_MAX, 0));
    let mut orders = Vec::new();
    for server in now.canary.iter().filter(|server| server.force() > 0) {
        let full = name(config, server);
        if of_canary == 0 {
            retire(&full, server, &mut orders);
        } else {
            orders.push(format!("set server {full} weight {}", of_canary.min(server.weight)));
        }
    }
    // Where stable had all the weight it can keep it: more of it only lowers the canary's share.
    for server in now.stable.iter().filter(|server| server.state == State::Ready && server.weight < of_stable)
    {
        orders.push(format!("set server {} weight {of_stable}", name(config, server)));
    }
    orders
}

fn name(config: &Haproxy, server: &Server) -> String {
    format!("{}/{}", config.backend, server.name)
}

fn retire(full: &str, server: &Server, orders: &mut Vec<String>) {
    if server.state != State::Maintenance {
        orders.push(format!("set server {full} state maint"));
    }
}

fn place(full: &str, server: &Server, address: SocketAddr, weight: u64, orders: &mut Vec<String>) {
    if server.address != Some(address) {
        orders.push(format!("set server {full} addr {} port {}", address.ip(), address.port()));
    }
    if server.weight != weight {
        orders.push(format!("set server {full} weight {weight}"));
    }
    if server.state != State::Ready {
        orders.push(format!("set server {full} state ready"));
    }
}

/// Gives each instance a slot: the one that it has, or a free one.
fn assign<'a>(
    slots: &'a [Server],
    instances: &[SocketAddr],
) -> Result<Vec<(&'a Server, Option<SocketAddr>)>, String> {
    let has = |server: &Server| {
        server.address.filter(|address| server.state != State::Maintenance && instances.contains(address))
    };
    let mut assigned: Vec<(&Server, Option<SocketAddr>)> = Vec::new();
    for server in slots {
        let kept = has(server).filter(|address| !assigned.iter().any(|(_, other)| *other == Some(*address)));
        assigned.push((server, kept));
    }
    for instance in instances {
        if assigned.iter().any(|(_, address)| *address == Some(*instance)) {
            continue;
        }
        let free = assigned.iter_mut().find(|(_, address)| address.is_none());
        let lacks = || format!("it has {} servers of a kind for {} instances", slots.len(), instances.len());
        free.ok_or_else(lacks)?.1 = Some(*instance);
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reading::parse;
    use super::super::reading::tests::{config, said};
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn backend(servers: &[(&str, &str, u64, u16)]) -> Backend {
        parse(&said(servers), &config()).unwrap()
    }

    fn points(points: u16) -> Weight {
        Weight::from_basis_points(points).unwrap()
    }

    /// What HAProxy does with the commands.
    fn obey(backend: &Backend, commands: &[String]) -> Vec<Backend> {
        let mut now = backend.clone();
        let mut course = vec![now.clone()];
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            let name = words[2].strip_prefix("shop/").unwrap();
            let all = now.stable.iter_mut().chain(&mut now.canary);
            let server = all.into_iter().find(|server| server.name == name).unwrap();
            match words[3..] {
                ["state", "maint"] => server.state = State::Maintenance,
                ["state", "ready"] => server.state = State::Ready,
                ["weight", weight] => server.weight = weight.parse().unwrap(),
                ["addr", ip, "port", port] => server.address = format!("{ip}:{port}").parse().ok(),
                _ => panic!("{command}"),
            }
            course.push(now.clone());
        }
        course
    }

    #[test]
    fn a_rollout_from_the_first_instance_to_the_promotion() {
        let mut now = backend(&[("stable1", "MAINT", 1, 1), ("canary1", "MAINT", 1, 1)]);
        let step = |now: &mut Backend, wanted: Wanted| {
            let commands = changes(&config(), now, &wanted).unwrap();
            *now = obey(now, &commands).pop().unwrap();
            assert_eq!(changes(&config(), now, &wanted).unwrap(), Vec::<String>::new());
            commands
        };
        step(&mut now, Wanted { stable: vec![at(10)], ..Wanted::default() });
        step(&mut now, Wanted { stable: vec![at(10)], canary: vec![at(20)], weight: Weight::ZERO });
        assert_eq!(now.canary[0].state, State::Maintenance, "an instance without a share gets nothing");
        step(&mut now, Wanted { stable: vec![at(10)], canary: vec![at(20)], weight: points(2_500) });
        assert_eq!(now.share(), points(2_500));
        step(&mut now, Wanted { stable: vec![at(10)], canary: vec![at(20)], weight: Weight::FULL });
        assert_eq!(now.share(), Weight::FULL);
        let commands = step(&mut now, Wanted { stable: vec![at(20)], ..Wanted::default() });
        assert_eq!(commands[0], "set server shop/canary1 state maint", "what lowers the canary comes first");
        assert_eq!((now.stable[0].address, now.share()), (Some(at(20)), Weight::ZERO));
    }

    #[test]
    fn instances_keep_their_slots() {
        let now =
            backend(&[("stable1", "UP", 256, 1), ("stable2", "UP", 256, 2), ("canary1", "MAINT", 1, 1)]);
        let wanted = Wanted { stable: vec![at(2), at(3)], ..Wanted::default() };
        assert_eq!(
            changes(&config(), &now, &wanted).unwrap(),
            ["set server shop/stable1 addr 127.0.0.1 port 3"]
        );
        let wanted = Wanted { stable: vec![at(2), at(3), at(4)], ..Wanted::default() };
        let refusal = changes(&config(), &now, &wanted).unwrap_err().to_string();
        assert!(refusal.contains("2 servers of a kind for 3 instances"), "{refusal}");
    }

    #[test]
    fn a_stable_without_instances_does_not_leave_everything_to_the_canary() {
        let now = backend(&[("stable1", "UP", 19, 10), ("canary1", "UP", 1, 20)]);
        let wanted = Wanted { stable: Vec::new(), canary: vec![at(20)], weight: points(500) };
        assert_eq!(changes(&config(), &now, &wanted).unwrap(), Vec::<String>::new());
        let wanted = Wanted { canary: Vec::new(), stable: vec![at(10)], weight: points(500) };
        assert_eq!(changes(&config(), &now, &wanted).unwrap()[0], "set server shop/canary1 state maint");
    }

    #[test]
    fn draining_from_all_traffic_gives_stable_its_weight_back() {
        let now = backend(&[("stable1", "UP", 0, 10), ("canary1", "UP", 256, 20)]);
        let after = obey(&now, &lowering(&config(), &now, Weight::ZERO)).pop().unwrap();
        assert_eq!((after.share(), after.stable[0].force()), (Weight::ZERO, 256));
    }

    proptest! {
        #[test]
        fn lowering_only_lowers_and_reaches_the_ceiling(
            weights in prop::collection::vec((0_u64..=256, 0_u8..3), 4),
            ceiling in 0_u16..=10_000,
        ) {
            let status = |state: u8| ["UP", "MAINT", "DRAIN"][usize::from(state)];
            let slot = |name: &'static str, at: usize| (name, status(weights[at].1), weights[at].0, 1);
            let now = backend(&[slot("stable1", 0), slot("stable2", 1), slot("canary1", 2), slot("canary2", 3)]);
            let course = obey(&now, &lowering(&config(), &now, points(ceiling)));
            for pair in course.windows(2) {
                let force = |backend: &Backend| backend.canary.iter().map(Server::force).sum::<u64>();
                prop_assert!(force(&pair[1]) <= force(&pair[0]), "{pair:?}");
                prop_assert!(pair[1].share() <= pair[0].share());
            }
            let after = &course[course.len() - 1];
            prop_assert!(!after.exceeds(points(ceiling)), "{after:?}");
        }
    }
}
