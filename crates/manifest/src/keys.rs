//! Every key of `trimtab.toml`, version 1: the one table that checker, readers, schema and reference page share.
//!
//! Leaves out rules between keys (see `rules`). A change here is a change of the file format.

use delivery::limits::{ENVIRONMENTS_MAX, SERVICES_MAX, STEPS_MAX, TASKS_MAX};

use crate::format::Format;
use crate::shape::{Key, Shape, TableShape};

const DAY_MS: u64 = 86_400_000;
const DIRECTORY: Shape = Shape::Text(Format::Directory);
const GLOBS: Shape = Shape::Texts(Format::Selection, false);
const VARIABLE_NAMES: Shape = Shape::Texts(Format::Variable, false);
const RETRACT: &[&str] = &["rollback", "hold"];

const fn duration(least: u64, most: u64) -> Shape {
    Shape::Text(Format::Duration(least, most))
}

/// The whole file.
pub(crate) static MANIFEST: TableShape = TableShape {
    noun: "manifest",
    about: "The file `trimtab.toml` stands in the project's top directory. All its paths are relative to it.",
    keys: &[
        Key::new("version", Shape::Whole(1, 1), "1", "The format's version. Only 1 exists.").required(),
        Key::new("project", Shape::Text(Format::Name), "\"shop\"", "The project's name.").required(),
        Key::new("trunk", Shape::Text(Format::Branch), "\"main\"", "The branch that releases are made from.")
            .default("\"main\""),
        Key::new(
            "ledger",
            Shape::Text(Format::Database),
            "\"postgresql:///trimtab\"",
            "The PostgreSQL database that holds the ledger, when one machine is not enough. The variable `TRIMTAB_LEDGER` overrides \
             it. A password has no place here.",
        )
        .otherwise("the file `.trimtab/ledger.db`"),
        Key::new("service", Shape::Named(&SERVICE, Format::Name, SERVICES_MAX), "", "What is deployed."),
        Key::new("task", Shape::Named(&TASK, Format::TaskName, TASKS_MAX), "", "What is run."),
        Key::new("gate", Shape::Named(&GATE, Format::Name, TASKS_MAX), "", "What must hold of a change."),
        Key::new(
            "environment",
            Shape::Tables(&ENVIRONMENT, ENVIRONMENTS_MAX),
            "",
            "Where releases go, in the order of promotion.",
        ),
    ],
};

static SERVICE: TableShape = TableShape {
    noun: "service",
    about: "Something that is deployed: an artifact, and how to start it. A manifest without services runs tasks only.",
    keys: &[
        Key::new(
            "directory",
            DIRECTORY,
            "\"web\"",
            "Where the service lives; its globs are relative to it and `start` runs in it.",
        )
        .default("\".\""),
        Key::new(
            "artifact",
            Shape::Texts(Format::Glob, true),
            "[\"dist/**\"]",
            "The files that are deployed.",
        )
        .required(),
        Key::new(
            "start",
            Shape::Texts(Format::Argument, true),
            "[\"node\", \"dist/server.mjs\"]",
            "Program and arguments. The port to listen on is in `PORT`, and `{port}` in an argument is replaced by it.",
        )
        .required(),
        Key::new("environment", Shape::Variables, "{ LOG = \"info\" }", "Environment variables that are set."),
        Key::new(
            "pass",
            VARIABLE_NAMES,
            "[\"DATABASE_URL\"]",
            "Environment variables that are handed through from the machine. Nothing else is.",
        ),
        Key::new("ready", Shape::Table(&READY), "{ path = \"/healthz\" }", "When an instance counts as ready."),
        Key::new("instances", Shape::Whole(1, 64), "2", "How many processes share the traffic.").default("1"),
        Key::new(
            "stop-within",
            duration(0, DAY_MS),
            "\"10s\"",
            "How long an instance may take to end after it was asked to; then it is killed.",
        )
        .default("\"10s\""),
    ],
};

static READY: TableShape = TableShape {
    noun: "ready",
    about: "When an instance counts as ready for traffic.",
    keys: &[
        Key::new("path", Shape::Text(Format::UrlPath), "\"/healthz\"", "A GET of it must answer 2xx.")
            .otherwise("accepting a connection is enough"),
        Key::new(
            "within",
            duration(100, DAY_MS),
            "\"10s\"",
            "How long an instance may take; longer and the release has failed to start.",
        )
        .default("\"30s\""),
    ],
};

static TASK: TableShape = TableShape {
    noun: "task",
    about: "A command that is run, after the tasks it needs. With `inputs`, it is skipped while nothing it depends on has \
            changed.",
    keys: &[
        Key::new(
            "command",
            Shape::Texts(Format::Argument, true),
            "[\"npm\", \"test\"]",
            "Program and arguments. No shell is involved; write `[\"sh\", \"-c\", \"...\"]` where one is needed.",
        )
        .required(),
        Key::new("directory", DIRECTORY, "\"web\"", "Where it runs; its globs are relative to it.").default("\".\""),
        Key::new(
            "inputs",
            GLOBS,
            "[\"src/**\", \"package-lock.json\"]",
            "The files that its result depends on. What git ignores is left out, and `!` in front takes files out again.",
        )
        .otherwise("unknown: it always runs"),
        Key::new("outputs", GLOBS, "[\"dist/**\"]", "The files that it writes; the cache restores them."),
        Key::new("needs", Shape::Texts(Format::TaskName, false), "[\"build\"]", "Tasks that must succeed first."),
        Key::new("environment", Shape::Variables, "{ CI = \"1\" }", "Environment variables that are set."),
        Key::new(
            "pass",
            VARIABLE_NAMES,
            "[\"HOME\"]",
            "Environment variables that are handed through; their values count as inputs.",
        ),
        Key::new("timeout", duration(1, DAY_MS), "\"5m\"", "The longest it may run.").default("\"30m\""),
        Key::new("junit", GLOBS, "[\"reports/*.xml\"]", "JUnit reports that it writes; gates count their tests."),
        Key::new("cache", Shape::Flag, "false", "Whether it may be skipped when nothing has changed.")
            .otherwise("`true` when `inputs` is given"),
    ],
};

static GATE: TableShape = TableShape {
    noun: "gate",
    about: "What must hold of a change before it may enter an environment.",
    keys: &[
        Key::new(
            "tasks",
            Shape::Texts(Format::TaskName, true),
            "[\"test\"]",
            "Tasks that must have succeeded.",
        )
        .required(),
        Key::new(
            "tests-min",
            Shape::Whole(0, 1_000_000_000),
            "100",
            "How many tests must have been executed, so that an empty test run is not a success.",
        )
        .otherwise("1 when one of its tasks has `junit`, else 0"),
        Key::new(
            "errors-max",
            Shape::Whole(0, 1_000_000_000),
            "0",
            "How many findings of level error are let pass.",
        )
        .default("0"),
    ],
};

static ENVIRONMENT: TableShape = TableShape {
    noun: "environment",
    about: "A place that releases are promoted through. The order in the file is the order of promotion.",
    keys: &[
        Key::new("name", Shape::Text(Format::Name), "\"production\"", "Its name.").required(),
        Key::new(
            "listen",
            Shape::Addresses,
            "\"127.0.0.1:8080\"",
            "Where its traffic comes in; with several services one address for each: \
             `{ api = \"127.0.0.1:8080\", web = \"127.0.0.1:8081\" }`. Port 0 takes a free one; 0.0.0.0 opens it to the \
             network, `localhost` is 127.0.0.1.",
        )
        .required(),
        Key::new(
            "trusted-proxies",
            Shape::Texts(Format::Network, false),
            "[\"10.0.0.0/8\"]",
            "Proxies in front (a TLS terminator) whose word about the client is taken: its address for `sticky` is then the \
             last one in `X-Forwarded-For` that is not theirs. What anybody else says of forwarding is replaced.",
        )
        .otherwise("nobody is trusted"),
        Key::new(
            "override-header",
            Shape::Text(Format::Token),
            "\"x-canary-4f1c\"",
            "The request header whose value `canary` or `stable` chooses the version, while the canary has traffic. Whoever \
             knows its name can use it, so choose one that is hard to guess. Such requests are not judged.",
        )
        .otherwise("no header does"),
        Key::new(
            "haproxy",
            Shape::Table(&HAPROXY),
            "{ socket = \"/run/haproxy/admin.sock\" }",
            "An HAProxy on this machine that splits the traffic; `listen` then says where it does.",
        )
        .otherwise("Trimtab's own proxy splits the traffic"),
        Key::new("gates", Shape::Texts(Format::Name, false), "[\"tests\"]", "Gates that must have passed."),
        Key::new(
            "strategy",
            Shape::Choice(&["direct", "rolling", "blue-green", "canary"]),
            "\"canary\"",
            "How a release takes over the traffic: at once; in equal shares; at once, but watched before the old one \
             goes; in growing shares, each kept only on evidence.",
        )
        .default("\"direct\""),
        Key::new("direct", Shape::Table(&DIRECT), "{ drain = \"10s\" }", "Settings of the strategy `direct`."),
        Key::new("rolling", Shape::Table(&ROLLING), "{ steps = 4 }", "Settings of the strategy `rolling`."),
        Key::new(
            "blue-green",
            Shape::Table(&BLUE_GREEN),
            "{ hold = \"5m\" }",
            "Settings of the strategy `blue-green`.",
        ),
        Key::new("canary", Shape::Table(&CANARY), "{ grant = \"15s\" }", "Settings of the strategy `canary`."),
        Key::new(
            "analysis",
            Shape::Table(&ANALYSIS),
            "{ alpha = 0.01 }",
            "The statistical questions, for `canary` and `blue-green`.",
        ),
        Key::new("approval", Shape::Table(&APPROVAL), "{ required = 1 }", "Who must approve.").otherwise("nobody"),
        Key::new(
            "freeze",
            Shape::Tables(&FREEZE, 256),
            "[{ reason = \"weekend\", from = \"Fri 16:00\", until = \"Mon 08:00\" }]",
            "When nothing is promoted.",
        ),
        Key::new(
            "kpi",
            Shape::Tables(&KPI, 64),
            "[{ measure = \"soak-minutes\", min = 30 }]",
            "What must be measured of the release, or of the service, before it may enter.",
        ),
        Key::new(
            "rollback-within",
            duration(1_000, 365 * DAY_MS),
            "\"15m\"",
            "The longest that taking a release back may take. Reported against, and alarmed on.",
        )
        .default("\"15m\""),
    ],
};

static HAPROXY: TableShape = TableShape {
    noun: "haproxy",
    about: "How an HAProxy in front is reached. It decides who stays with which version and which client is believed, and \
            counts no latencies: only errors are judged.",
    keys: &[
        Key::new(
            "socket",
            Shape::Text(Format::Path),
            "\"/run/haproxy/admin.sock\"",
            "The unix socket of its runtime API, with `level admin`.",
        )
        .required(),
        Key::new(
            "backend",
            Shape::Text(Format::Section),
            "\"shop\"",
            "The backend; `{service}` in it is the service's name.",
        )
        .default("\"{service}\""),
        Key::new(
            "stable",
            Shape::Text(Format::Section),
            "\"stable\"",
            "What the names of the servers for the old version begin with; a number from 1 follows.",
        )
        .default("\"stable\""),
        Key::new("canary", Shape::Text(Format::Section), "\"canary\"", "The same for the new version.")
            .default("\"canary\""),
        Key::new(
            "guard",
            Shape::Flag,
            "false",
            "Whether a guard, a process of its own, takes the canary's traffic back when everything else is dead. Without \
             one the canary keeps its weight then.",
        )
        .default("true"),
    ],
};

static STICKY: TableShape = TableShape {
    noun: "sticky",
    about: "What makes a user stay with the version they saw first. Exactly one key.",
    keys: &[
        Key::new(
            "cookie",
            Shape::Text(Format::Token),
            "\"shop_id\"",
            "By a cookie, which is set when it is missing.",
        ),
        Key::new("header", Shape::Text(Format::Token), "\"x-user\"", "By a request header's value."),
        Key::new("address", Shape::Flag, "true", "By the client's address."),
    ],
};

const STICKY_KEY: Key = Key::new(
    "sticky",
    Shape::Table(&STICKY),
    "{ cookie = \"shop_id\" }",
    "What makes a user stay with the version they saw first.",
)
.otherwise("each request is drawn by itself");
const GRANT_KEY: Key = Key::new(
    "grant",
    duration(1_000, DAY_MS),
    "\"15s\"",
    "How long the proxy keeps a raised weight without hearing from Trimtab.",
)
.default("\"15s\"");
const DRAIN_KEY: Key = Key::new(
    "drain",
    duration(0, DAY_MS),
    "\"10s\"",
    "How long the version that goes may finish its requests.",
)
.default("\"10s\"");
const ON_INCONCLUSIVE_KEY: Key = Key::new(
    "on-inconclusive",
    Shape::Choice(RETRACT),
    "\"hold\"",
    "What happens when a step's deadline passes without evidence: take it back, or hold for a person. It never promotes.",
)
.default("\"rollback\"");
const ON_EXPIRY_KEY: Key = Key::new(
    "on-expiry",
    Shape::Choice(RETRACT),
    "\"rollback\"",
    "What the proxy does when the grant runs out: everything back to the old version, or keep the weight.",
)
.default("\"rollback\"");
const DEADLINE_KEY: Key = Key::new(
    "deadline",
    duration(1_000, 30 * DAY_MS),
    "\"10m\"",
    "The longest wait for evidence, counted from the step's start; then the step is inconclusive.",
)
.otherwise("\"10m\", or twice `hold` where that is more");

static DIRECT: TableShape = TableShape {
    noun: "direct",
    about: "All traffic at once, as soon as the new version is ready.",
    keys: &[DRAIN_KEY],
};

static ROLLING: TableShape = TableShape {
    noun: "rolling",
    about: "Traffic moves in equal shares, without analysis.",
    keys: &[
        Key::new("steps", Shape::Whole(2, STEPS_MAX as u64), "4", "How many equal shares.").default("4"),
        Key::new("hold", duration(0, 30 * DAY_MS), "\"10s\"", "The stay at each share.").default("\"10s\""),
        STICKY_KEY,
        GRANT_KEY,
        DRAIN_KEY,
        ON_EXPIRY_KEY,
    ],
};

static BLUE_GREEN: TableShape = TableShape {
    noun: "blue-green",
    about: "All traffic in one step; the old version stands by until the new one has shown itself.",
    keys: &[
        Key::new("hold", duration(0, 30 * DAY_MS), "\"30s\"", "The shortest watch.").default("\"30s\""),
        DEADLINE_KEY,
        GRANT_KEY,
        DRAIN_KEY,
        ON_INCONCLUSIVE_KEY,
        ON_EXPIRY_KEY,
    ],
};

static CANARY: TableShape = TableShape {
    noun: "canary",
    about: "Traffic moves in growing shares; each step asks for evidence.",
    keys: &[
        Key::new(
            "steps",
            Shape::Tables(&STEP, STEPS_MAX),
            "[{ weight = 5, hold = \"20s\" }, { weight = 50 }]",
            "The shares, in order. They never fall.",
        )
        .otherwise("5 %, 25 % and 50 %"),
        STICKY_KEY,
        GRANT_KEY,
        DRAIN_KEY,
        ON_INCONCLUSIVE_KEY,
        ON_EXPIRY_KEY,
    ],
};

static STEP: TableShape = TableShape {
    noun: "step",
    about: "One share of a canary.",
    keys: &[
        Key::new(
            "weight",
            Shape::Number(0.01, 100.0),
            "5",
            "The new version's share of the traffic in percent.",
        )
        .required(),
        Key::new(
            "hold",
            duration(0, 30 * DAY_MS),
            "\"20s\"",
            "The shortest stay, however good the evidence.",
        )
        .default("\"20s\""),
        DEADLINE_KEY,
    ],
};

static ANALYSIS: TableShape = TableShape {
    noun: "analysis",
    about: "How strictly the new version is compared with the old one. Ratios are new over old.",
    keys: &[
        Key::new(
            "alpha",
            Shape::Number(0.000_001, 0.5),
            "0.01",
            "The probability of ever taking back a version that is within the margins.",
        )
        .default("0.01"),
        Key::new(
            "beta",
            Shape::Number(0.000_001, 0.5),
            "0.05",
            "The probability of ever promoting early a version that is outside the margins.",
        )
        .default("0.05"),
        Key::new("error-ratio-margin", Shape::Number(1.0, 1_000.0), "1.1", "An error-rate ratio up to this is no harm.")
            .default("1.1"),
        Key::new(
            "error-rate-floor",
            Shape::Number(0.0, 1.0),
            "0.02",
            "To promote, the error rate must be shown to be below this, or below `safe-ratio` times the old version's.",
        )
        .default("0.02"),
        Key::new("safe-ratio", Shape::Number(1.0, 1_000.0), "2.0", "See the two floors.").default("2.0"),
        Key::new(
            "latency-ratio-margin",
            Shape::Number(1.0, 1_000.0),
            "1.25",
            "An odds ratio of exceeding any latency bound up to this is no harm.",
        )
        .default("1.25"),
        Key::new(
            "latency-share-floor",
            Shape::Number(0.0, 1.0),
            "0.075",
            "To promote, the share of slower requests must be shown to be below the old version's plus this, or below \
             `safe-ratio` times the old version's odds, for each latency bound.",
        )
        .default("0.075"),
        Key::new(
            "latency-from",
            duration(0, DAY_MS),
            "\"20ms\"",
            "Latency bounds below this are not judged: being slower there does not matter to anyone.",
        )
        .default("\"5ms\""),
        Key::new(
            "warm-up",
            duration(0, DAY_MS),
            "\"30s\"",
            "Latency is not judged for this long after the first canary traffic. Errors are judged from the first request on.",
        )
        .default("\"3s\""),
        Key::new("interval", duration(50, DAY_MS), "\"500ms\"", "The time between two looks.").default("\"500ms\""),
        Key::new(
            "silence",
            duration(500, DAY_MS),
            "\"10s\"",
            "Without a request to the new version for this long, there is no signal. At least `interval`.",
        )
        .default("\"10s\""),
    ],
};

static APPROVAL: TableShape = TableShape {
    noun: "approval",
    about: "Who must approve a promotion. Nobody counts whose change enters the environment with it. People are known by the \
            address that git's mailmap gives them.",
    keys: &[
        Key::new("required", Shape::Whole(0, 64), "2", "How many different people.").default("1"),
        Key::new(
            "approvers",
            Shape::Texts(Format::Email, false),
            "[\"ana@example.com\"]",
            "Who may approve.",
        )
        .otherwise("anyone but the authors"),
    ],
};

static FREEZE: TableShape = TableShape {
    noun: "freeze",
    about: "A time in which nothing is promoted: the same hours of each week, or from one instant to another. \
            Times without a zone are UTC.",
    keys: &[
        Key::new("reason", Shape::Text(Format::Words), "\"weekend\"", "Shown to who is blocked.").required(),
        Key::new("from", Shape::Text(Format::Moment), "\"Fri 16:00\"", "Its first minute.").required(),
        Key::new("until", Shape::Text(Format::Moment), "\"Mon 08:00\"", "The first minute after it.")
            .required(),
    ],
};

static KPI: TableShape = TableShape {
    noun: "kpi",
    about: "A threshold. It needs `min`, `max` or both. Without a soak time it does not hold; the share of failures is asked \
            once a first promotion has ended there.",
    keys: &[
        Key::new(
            "measure",
            Shape::Choice(&["soak-minutes", "change-failure-percent"]),
            "\"soak-minutes\"",
            "Minutes that the release has run in the environment before; or the share of the service's last 20 \
             promotions into this environment that were taken back, in percent.",
        )
        .required(),
        Key::new("min", Shape::Number(0.0, 1e9), "30", "It must be at least this."),
        Key::new("max", Shape::Number(0.0, 1e9), "10", "It must be at most this."),
    ],
};
