//! What is captured of a service's output.

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::limits::REVISION_LOG_BYTES_MAX;

use super::bed::{Bed, applied, revision, start};

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_before_they_are_stored() {
    use base64::Engine as _;
    let secret = "hunter2-is-long-enough";
    let bed = Bed::new();
    let edge = bed.edge().await.with_variables(BTreeMap::from([("API_TOKEN".into(), secret.into())]));
    let mut spec = bed.spec(1, "secret");
    spec.pass = vec!["API_TOKEN".into(), "NOT_SET_ANYWHERE".into()];
    let detail = applied(&edge, start(1, 1, spec)).await;
    assert!(detail.ends_with("; not set: NOT_SET_ANYWHERE"), "{detail}");
    let log = std::fs::read_to_string(bed.config.log_directory.join(format!("{}.log", revision(1)))).unwrap();
    assert!(log.contains(" 0 out token [masked] end\n"), "{log}");
    assert!(log.contains(" 0 err basic "), "{log}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("me:{secret}"));
    for folder in [&bed.config.log_directory, &bed.config.state_directory] {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
            assert!(!text.contains(secret), "{:?}", entry.path());
            assert!(!text.contains(&encoded[6..20]), "{:?}", entry.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_bounded_and_its_end_is_kept() {
    let bed = Bed::new();
    let edge = bed.edge().await;
    let mut spec = bed.spec(1, "flood");
    spec.ready.within_ms = 120_000;
    applied(&edge, start(1, 1, spec)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let path = bed.config.log_directory.join(format!("{}.log", revision(1)));
    let size = |path: &str| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let total = size(path.as_str()) + size(&format!("{path}.1"));
    assert!(total <= REVISION_LOG_BYTES_MAX, "{total}");
    assert!(total > REVISION_LOG_BYTES_MAX / 3, "{total}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("the flood is over"));
    let pid = edge.status().await.unwrap().pid;
    let memory = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 100_000, "{peak} kB");
}
