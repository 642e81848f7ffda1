//! The manifest as a user meets it: the documented example, bad files, limits, arbitrary text.

mod bad;
mod good;
mod properties;

use camino::Utf8Path;
use delivery::problem::Problem;

use crate::Manifest;

/// The example of the reference page's length and breadth: every table is in it.
pub(crate) const FULL: &str = r#"
version = 1
project = "shop"
trunk = "main"                      # optional

[service.shop]
directory = "."
artifact = ["dist/**"]
start = ["node", "dist/server.mjs"]  # PORT is set; "{port}" is replaced
ready = { path = "/healthz", within = "10s" }
instances = 1
stop-within = "10s"
environment = { LOG = "info" }
pass = ["DATABASE_URL"]

[task.lint]
command = ["node", "--check", "src/server.mjs"]
inputs = ["src/**"]

[task.test]
command = ["node", "--test"]
inputs = ["src/**", "test/**"]
needs = ["lint"]
junit = ["reports/*.xml"]
timeout = "5m"

[gate.tests]
tasks = ["test"]
tests-min = 1

[[environment]]
name = "staging"
listen = "127.0.0.1:8081"
strategy = "direct"
gates = ["tests"]

[[environment]]
name = "production"
listen = "127.0.0.1:8080"
gates = ["tests"]
rollback-within = "15m"
approval = { required = 1, approvers = ["ana@example.com"] }
freeze = [{ reason = "weekend", from = "Fri 16:00", until = "Mon 08:00" }, { reason = "launch", from = "2026-12-20T00:00Z", until = "2027-01-03T00:00Z" }]
kpi = [{ measure = "soak-minutes", min = 30 }, { measure = "change-failure-percent", max = 10 }]
strategy = "canary"
canary = { steps = [ { weight = 5, hold = "20s", deadline = "10m" }, { weight = 25 }, { weight = 50 } ], sticky = { cookie = "shop_id" }, grant = "15s", drain = "10s", on-inconclusive = "rollback", on-expiry = "rollback" }
analysis = { alpha = 0.01, beta = 0.05, error-ratio-margin = 1.1, error-rate-floor = 0.02, safe-ratio = 2.0, latency-ratio-margin = 1.25, latency-share-floor = 0.05, interval = "500ms", silence = "10s" }
"#;

pub(crate) fn parse(text: &str) -> Result<Manifest, Vec<Problem>> {
    crate::parse(Utf8Path::new("trimtab.toml"), text)
}

/// What the problem's span covers.
pub(crate) fn spanned(problem: &Problem) -> &str {
    problem.snippet.as_ref().map_or("", |snippet| &snippet.text[snippet.span.clone()])
}
