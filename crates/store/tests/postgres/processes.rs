//! Several processes that append at once, as replicas on several machines do, while connections are killed and transactions
//! lose against each other. A test here that is started with `TRIMTAB_STORE_CHILD` set plays one of the processes: it is the
//! same test binary, run again for that one test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use delivery::Event;
use store::{Access, Entry, Error};

use crate::ground::{open_at, server};
use crate::{actor, at, event};

const ROLE: &str = "TRIMTAB_STORE_CHILD";
const TEST: &str = "processes::several_processes_lose_and_double_nothing";
const PROCESSES: usize = 3;
const THREADS: usize = 2;
/// Times at which every connection is killed.
const KILLS: usize = 40;
/// The round after which one process is killed, and another one takes its place.
const DEATH: usize = 20;

/// Gives up every seventh change of the head as PostgreSQL gives up a transaction that lost against another one. A sequence
/// counts on when the transaction is undone.
const SERIALIZATION_FAILURES: &str = "CREATE SEQUENCE turns;
    CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('turns') % 7 = 0 THEN
            RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER lose BEFORE UPDATE ON trimtab_head FOR EACH ROW EXECUTE FUNCTION lose()";

#[expect(clippy::disallowed_methods, reason = "how the parent tells the child what to do")]
fn address_of_child() -> Option<String> {
    std::env::var(ROLE).ok()
}

#[expect(clippy::disallowed_methods, reason = "the test is about several processes")]
fn spawn(address: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(ROLE, address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Appends until its standard input is closed, and says of each record what it was told.
fn append(address: &str) {
    let ledger = open_at(address, Access::ReadWrite).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, stop) = (&ledger, &stop);
            scope.spawn(move || {
                for number in 0_u64.. {
                    if stop.load(std::sync::atomic::Ordering::SeqCst) {
                        return;
                    }
                    let name = format!("{} {thread} {number}", std::process::id());
                    match ledger.append_blocking(&actor(), at(0), vec![event(&name)]) {
                        Ok(records) => println!("acknowledged {} {name}", records[0].sequence),
                        Err(Error::Undecided { .. }) => println!("undecided 0 {name}"),
                        Err(Error::Interrupted { .. } | Error::Unavailable { .. } | Error::Locked { .. }) => {
                            println!("refused 0 {name}");
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
        std::io::stdin().lines().for_each(drop);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}

/// What a process was told, read to the end of what it said.
fn told(child: &mut Child) -> std::thread::JoinHandle<Vec<(String, u64, String)>> {
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        let mut told = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            // The test runner's own lines may stand before the first word.
            let Some(start) = ["acknowledged ", "refused ", "undecided "].iter().find_map(|w| line.find(w))
            else {
                continue;
            };
            let mut words = line[start..].splitn(3, ' ');
            let (what, sequence) = (words.next().unwrap(), words.next().unwrap());
            // The last line of a process that was killed may be cut off.
            let Some(name) = words.next().filter(|name| name.split(' ').count() == 3) else { continue };
            told.push((what.to_owned(), sequence.parse().unwrap(), name.to_owned()));
        }
        told
    })
}

#[test]
fn several_processes_lose_and_double_nothing() {
    if let Some(address) = address_of_child() {
        return append(&address);
    }
    let server = server();
    let address = server.address("");
    let ledger = open_at(&address, Access::ReadWrite).unwrap();
    server.sql(SERIALIZATION_FAILURES).unwrap();
    let mut running: Vec<_> = (0..PROCESSES).map(|_| spawn(&address)).collect();
    let mut readers: Vec<_> = running.iter_mut().map(told).collect();
    for round in 0..KILLS {
        std::thread::sleep(Duration::from_millis(100));
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'trimtab'";
        server.sql(kill).unwrap();
        if round == DEATH {
            let mut victim = running.swap_remove(0);
            victim.kill().unwrap();
            victim.wait().unwrap();
            let mut heir = spawn(&address);
            readers.push(told(&mut heir));
            running.push(heir);
        }
    }
    for mut child in running {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    let told: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();

    let found = ledger.verify().unwrap();
    assert!(found.is_sound(), "{:?}", found.damages);
    let mut places: HashMap<String, u64> = HashMap::new();
    for entry in ledger.read(0, usize::MAX).unwrap() {
        let Entry::Record(record) = entry else { panic!("{entry:?}") };
        let Event::IncidentResolved { incident } = record.event else { panic!("{:?}", record.event) };
        assert_eq!(places.insert(incident.clone(), record.sequence), None, "{incident} is there twice");
    }
    let mut counts = [0; 3];
    for (what, sequence, name) in told.iter().flatten() {
        let place = places.get(name);
        match what.as_str() {
            "acknowledged" => {
                assert_eq!(place, Some(sequence), "{name} was acknowledged");
                counts[0] += 1;
            }
            "refused" => {
                assert_eq!(place, None, "{name} was refused, but is there");
                counts[1] += 1;
            }
            _ => counts[2] += 1,
        }
    }
    let lost: u64 = server.sql("SELECT last_value / 7 FROM turns").unwrap().parse().unwrap();
    let [acknowledged, refused, undecided] = counts;
    println!(
        "{} processes, {KILLS} kills of all connections, {lost} serialization failures: acknowledged \
         {acknowledged}, refused {refused}, undecided {undecided}, lost 0, doubled 0",
        told.len()
    );
    let each =
        |told: &Vec<(String, u64, String)>| told.iter().filter(|(what, ..)| what == "acknowledged").count();
    assert!(
        told.iter().all(|told| each(told) > 0),
        "each of them got through: {:?}",
        told.iter().map(each).collect::<Vec<_>>()
    );
    assert!(lost > 0, "{lost}");
}
