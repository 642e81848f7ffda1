//! Bad files: each with its code, the text at the caret, and what the hint says.

use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code::{self, *};
use delivery::limits::MANIFEST_BYTES_MAX;
use delivery::problem::Problem;

use super::{FULL, parse, spanned};

const HEAD: &str = "version = 1\nproject = \"shop\"\n";
const SERVICE: &str = "[service.a]\nartifact = [\"*\"]\nstart = [\"x\"]\n";
const TASK: &str = "[task.a]\ncommand = [\"x\"]\n";
const ENVIRONMENT: &str = "[[environment]]\nname = \"e\"\nlisten = \"127.0.0.1:8080\"\n";

fn only(text: &str) -> Problem {
    let mut problems = parse(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
    problems.remove(0)
}

/// Code, text at the caret, a part of the message, a part of the hint.
type Expected = (Code, &'static str, &'static str, &'static str);

fn holds(text: &str, (code, caret, message, hint): Expected) {
    let problem = only(text);
    assert_eq!(problem.code, code, "{text}\n{problem:#?}");
    assert_eq!(spanned(&problem), caret, "{text}\n{}", problem.message);
    assert!(problem.message.contains(message), "{text}\n{}", problem.message);
    let found = problem.hint.unwrap_or_default();
    assert!(found.contains(hint) && !found.is_empty(), "{text}\n{found:?}");
}

/// Each case after the same beginning.
fn all(before: &str, cases: &[(&str, Expected)]) {
    for (text, expected) in cases {
        holds(&format!("{before}{text}\n"), *expected);
    }
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

const THE_WHOLE_FILE: &[(&str, Expected)] = &[
    ("", (ManifestEmpty, "", "trimtab.toml says nothing", "version = 1")),
    ("# only a comment\n", (ManifestEmpty, "", "says nothing", "version = 1")),
    ("version = 2\nfuture = true\n", (ManifestVersion, "2", "version 2", "version = 1")),
    ("project = \"shop\"\n", (ManifestKeyMissing, "project = \"shop\"", "no `version`", "version = 1")),
    ("version = 1\n", (ManifestKeyMissing, "version = 1", "no `project`", "project = \"shop\"")),
    (
        "version = \"1\"\nproject = \"a\"",
        (ManifestType, "\"1\"", "expected a whole number, found a string", "without quotes"),
    ),
    (
        "version = 1\nproject = \"My Shop\"\n",
        (ManifestValue, "\"My Shop\"", "the name is not valid", "`my-shop`"),
    ),
    ("version = 1\nproject = \"a\"\nproject = \"b\"\n", (ManifestSyntax, "project", "given before", "once")),
    ("version = 1\nproject = shop\n", (ManifestSyntax, "shop", "not valid TOML", "quotes")),
    ("version = 1\nproject = \"shop\n", (ManifestSyntax, "", "not valid TOML", "double quote")),
    (
        "version = 1\n[task.a\ncommand = [\"a\"]\n",
        (ManifestSyntax, "", "the table's name does not end", "`]`"),
    ),
    ("version = 1\nproject\n", (ManifestSyntax, "", "no value", "key = value")),
    (
        "version = 1\nproject = \"a\"\ntasks = 1\n",
        (ManifestKeyUnknown, "tasks", "unknown key `tasks`", "`task`"),
    ),
    (
        "version = 1\nproject = \"a\"\nxyzzy = 1\n",
        (ManifestKeyUnknown, "xyzzy", "the manifest has", "version, project, trunk"),
    ),
    (
        "version = 1\nproject = \"a\"\ntrunk = \"my branch\"\n",
        (ManifestValue, "\"my branch\"", "not a branch", "main"),
    ),
];

#[test]
fn the_whole_file() {
    let cases = THE_WHOLE_FILE;
    for (text, expected) in cases {
        holds(text, *expected);
    }
}

const TASKS: &[(&str, Expected)] = &[
    (
        "[task.a]\ncomand = [\"x\"]\ncommand = [\"x\"]",
        (ManifestKeyUnknown, "comand", "task `a` has the unknown key `comand`", "`command`"),
    ),
    ("[task.a]\ncommand = [\"x\"]\nenv = {}", (ManifestKeyUnknown, "env", "`env`", "`environment`")),
    ("[task.a]\ncommand = [\"x\"]\ndeps = []", (ManifestKeyUnknown, "deps", "`deps`", "`needs`")),
    (
        "[task.a]\n",
        (ManifestKeyMissing, "[task.a]", "task `a` has no `command`", "command = [\"npm\", \"test\"]"),
    ),
    (
        "[task.a]\ncommand = \"npm test\"",
        (
            ManifestType,
            "\"npm test\"",
            "`command` of task `a`: expected a list of strings, found a string",
            "write command = [\"npm\", \"test\"]",
        ),
    ),
    (
        "[task.a]\ncommand = \"a && b\"",
        (ManifestType, "\"a && b\"", "found a string", "[\"sh\", \"-c\", \"a && b\"]"),
    ),
    ("[task.a]\ncommand = []", (ManifestValue, "[]", "the list is empty", "for example")),
    ("[task.a]\ncommand = [\"\"]", (ManifestValue, "\"\"", "program's name is empty", "for example")),
    (
        "[task.a]\ncommand = [\"sleep\", 5]",
        (ManifestType, "5", "expected a string as element 2 of the list, found a whole number", "\"5\""),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ninputs = \"src/**\"",
        (ManifestType, "\"src/**\"", "list of strings", "inputs = [\"src/**\"]"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ninputs = [\"/etc/passwd\"]",
        (ManifestValue, "\"/etc/passwd\"", "absolute", "relative"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\noutputs = [\"a/../../b\"]",
        (ManifestValue, "\"a/../../b\"", "leaves the project", ".."),
    ),
    ("[task.a]\ncommand = [\"x\"]\ninputs = [\"a[\"]", (ManifestValue, "\"a[\"", "not a glob", "`**`")),
    ("[task.a]\ncommand = [\"x\"]\ninputs = [\"!/a\"]", (ManifestValue, "\"!/a\"", "absolute", "relative")),
    (
        "[task.a]\ncommand = [\"x\"]\ndirectory = \"..\"",
        (ManifestValue, "\"..\"", "leaves the project", ".."),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ntimeout = 300",
        (ManifestType, "300", "expected a duration in quotes", "timeout = \"300s\""),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ntimeout = \"5 minutes\"",
        (ManifestValue, "\"5 minutes\"", "\"5 minutes\" is not a duration", "\"5m\""),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ntimeout = \"0s\"",
        (ManifestValue, "\"0s\"", "too short", "from 1ms to 1d"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ntimeout = \"99999999999999999999d\"",
        (ManifestValue, "\"99999999999999999999d\"", "too long", "shorter"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\ncache = \"true\"",
        (ManifestType, "\"true\"", "expected true or false", "cache = true without quotes"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\nenvironment = { \"A B\" = \"1\" }",
        (ManifestValue, "\"A B\"", "environment variable", "letters"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\nenvironment = { A = 1 }",
        (ManifestType, "1", "expected a string, found a whole number", "\"1\""),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\nneeds = [\"b\"]\n[task.c]\ncommand = [\"x\"]\n",
        (ManifestReference, "\"b\"", "task `a` names the task `b`, which is not defined", "`a`"),
    ),
    (
        "[task.lint]\ncommand = [\"x\"]\n[task.a]\ncommand = [\"x\"]\nneeds = [\"lnit\"]",
        (ManifestReference, "\"lnit\"", "`lnit`", "did you mean `lint`?"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\nneeds = [\"a\"]",
        (ManifestCycle, "\"a\"", "task `a` needs itself", "`needs`"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\nneeds = [\"b\"]\n[task.b]\ncommand = [\"x\"]\nneeds = [\"c\"]\n[task.c]\ncommand = [\"x\"]\nneeds = [\"a\"]",
        (ManifestCycle, "\"a\"", "in a circle: a -> b -> c -> a", "remove one"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\noutputs = [\"dist\"]\n[task.b]\ncommand = [\"x\"]\noutputs = [\"./dist/**\"]",
        (ManifestOutputs, "\"./dist/**\"", "tasks `a` and `b` both write ./dist/**", "needs = [\"a\"]"),
    ),
    (
        "[task.a]\ncommand = [\"x\"]\noutputs = [\"w/o\"]\n[task.b]\ncommand = [\"x\"]\ndirectory = \"w\"\noutputs = [\"!x\", \"o\"]",
        (ManifestOutputs, "\"o\"", "tasks `a` and `b` both write o", "elsewhere"),
    ),
    ("[task.A]\ncommand = [\"x\"]", (ManifestValue, "A", "task `A`: the name is not valid", "`a`")),
    ("[task]\ncommand = [\"x\"]", (ManifestType, "[\"x\"]", "expected a table, found a list", "[task.NAME]")),
    ("[[task]]\ncommand = [\"x\"]", (ManifestType, "[[task]]", "found a list of tables", "[task.NAME]")),
    (
        "task = 5",
        (
            ManifestType,
            "5",
            "`task` of the manifest: expected tables named `[task.NAME]`, found a whole number",
            "[task.NAME]",
        ),
    ),
];

#[test]
fn tasks() {
    let cases = TASKS;
    all(HEAD, cases);
}

const SERVICES_AND_GATES: &[(&str, &str, Expected)] = &[
    (
        "",
        "[service.a]\nstart = [\"x\"]\nartifact = [\"*\", \"!b\"]",
        (ManifestValue, "\"!b\"", "can't take files out", "without `!`"),
    ),
    ("", "[service.a]\nstart = [\"x\"]", (ManifestKeyMissing, "[service.a]", "no `artifact`", "artifact = ")),
    (
        SERVICE,
        "ready = { pth = \"/\" }",
        (ManifestKeyUnknown, "pth", "`ready` of service `a` has the unknown key `pth`", "`path`"),
    ),
    (
        SERVICE,
        "ready = { path = \"healthz\" }",
        (ManifestValue, "\"healthz\"", "starts with `/`", "/healthz"),
    ),
    (
        SERVICE,
        "ready = \"/healthz\"",
        (ManifestType, "\"/healthz\"", "expected a table, found a string", "ready = {"),
    ),
    (SERVICE, "instances = 0", (ManifestValue, "0", "0 is out of range", "from 1 to 64")),
    (SERVICE, "instances = -1", (ManifestValue, "-1", "-1 is out of range", "from 1 to 64")),
    (SERVICE, "port = 8080", (ManifestKeyUnknown, "port", "`port`", "a service knows")),
    (SERVICE, "environment = { PORT = \"1\" }", (ManifestValue, "{ PORT = \"1\" }", "PORT", "remove it")),
    ("", "[gate.g]\ntasks = []", (ManifestValue, "[]", "the list is empty", "for example")),
    (TASK, "[gate.g]\ntasks = [\"b\"]", (ManifestReference, "\"b\"", "gate `g` names the task `b`", "`a`")),
    (TASK, "[gate.g]\ntasks = [\"a\"]\ntests-min = 1", (ManifestValue, "1", "can never pass", "junit")),
    (
        TASK,
        "[gate.g]\ntasks = [\"a\"]\ntests_min = 0",
        (ManifestKeyUnknown, "tests_min", "`tests_min`", "`tests-min`"),
    ),
];

#[test]
fn services_and_gates() {
    let cases = SERVICES_AND_GATES;
    for (before, text, expected) in cases {
        holds(&format!("{HEAD}{before}{text}\n"), *expected);
    }
}

const ENVIRONMENTS: &[(&str, Expected)] = &[
    ("gates = [\"g\"]", (ManifestReference, "\"g\"", "environment `e` names the gate `g`", "[gate.g]")),
    (
        "strategy = \"cannary\"",
        (ManifestValue, "\"cannary\"", "expected \"direct\", \"rolling\"", "\"canary\""),
    ),
    ("aproval = { required = 1 }", (ManifestKeyUnknown, "aproval", "environment `e`", "`approval`")),
    (
        "approval = { requird = 1 }",
        (ManifestKeyUnknown, "requird", "`approval` of environment `e`", "`required`"),
    ),
    (
        "approval = { required = 2, approvers = [\"a@b\", \"A@b\"] }",
        (ManifestValue, "2", "can never be met", "more approvers"),
    ),
    (
        "approval = { approvers = [\"ana\"] }",
        (ManifestValue, "\"ana\"", "not an e-mail address", "ana@example.com"),
    ),
    ("rollback-within = \"soon\"", (ManifestValue, "\"soon\"", "not a duration", "\"5m\"")),
    (
        "freeze = [{ reason = \"x\", from = \"Fri 16:00\" }]",
        (
            ManifestKeyMissing,
            "{ reason = \"x\", from = \"Fri 16:00\" }",
            "freeze 1 of environment `e` has no `until`",
            "until = ",
        ),
    ),
    (
        "freeze = [{ reason = \"x\", from = \"Frod 16:00\", until = \"Mon 08:00\" }]",
        (ManifestValue, "\"Frod 16:00\"", "not a moment", "Fri 16:00"),
    ),
    (
        "freeze = [{ reason = \"x\", from = \"Fri 25:00\", until = \"Mon 08:00\" }]",
        (ManifestValue, "\"Fri 25:00\"", "not a time of day", "16:00"),
    ),
    (
        "freeze = [{ reason = \"x\", from = \"Fri 16:00\", until = \"2026-12-20T00:00Z\" }]",
        (ManifestValue, "\"2026-12-20T00:00Z\"", "one end of the freeze is weekly", "both"),
    ),
    (
        "freeze = [{ reason = \"x\", from = \"2026-12-21T00:00Z\", until = \"2026-12-20T00:00Z\" }]",
        (ManifestValue, "\"2026-12-20T00:00Z\"", "ends before it starts", "later"),
    ),
    (
        "freeze = [{ reason = \"x\", from = 2026-12-21, until = \"2026-12-22T00:00Z\" }]",
        (ManifestValue, "2026-12-21", "time of day is missing", "\"2026-12-21T00:00Z\""),
    ),
    (
        "freeze = { reason = \"x\", from = \"Fri 16:00\", until = \"Mon 08:00\" }",
        (
            ManifestType,
            "{ reason = \"x\", from = \"Fri 16:00\", until = \"Mon 08:00\" }",
            "expected a list of tables, found a table",
            "[{ ... }]",
        ),
    ),
    (
        "kpi = [{ measure = \"soak\", min = 1 }]",
        (ManifestValue, "\"soak\"", "\"soak-minutes\" or", "soak-minutes"),
    ),
    (
        "kpi = [{ measure = \"soak-minutes\" }]",
        (ManifestKeyMissing, "{ measure = \"soak-minutes\" }", "has no bound", "`min`"),
    ),
    (
        "kpi = [{ measure = \"soak-minutes\", min = 2, max = 1 }]",
        (ManifestValue, "2", "`min` is above `max`", "exchange"),
    ),
    ("kpi = [{ measure = \"soak-minutes\", min = nan }]", (ManifestValue, "nan", "out of range", "from 0")),
    (
        "strategy = \"direct\"\ncanary = {}",
        (ManifestValue, "canary", "has no effect", "strategy = \"canary\""),
    ),
    ("strategy = \"direct\"\nanalysis = {}", (ManifestValue, "analysis", "has no effect", "canary")),
    (
        "strategy = \"canary\"\nanalysis = { alpha = 2 }",
        (ManifestValue, "2", "`alpha` of `analysis` of environment `e`: 2 is out of range", "0.5"),
    ),
    (
        "strategy = \"canary\"\nanalysis = { interval = \"10s\", silence = \"1s\" }",
        (ManifestValue, "\"1s\"", "shorter than `interval`", "10s"),
    ),
    ("strategy = \"canary\"\ncanary = { steps = [] }", (ManifestValue, "[]", "the list is empty", "steps")),
    (
        "strategy = \"canary\"\ncanary = { steps = [{ weight = 50 }, { weight = 5 }] }",
        (
            ManifestValue,
            "5",
            "step 2 of `canary` of environment `e` has less weight than the step before",
            "ascending",
        ),
    ),
    (
        "strategy = \"canary\"\ncanary = { steps = [{ weight = 0 }] }",
        (ManifestValue, "0", "out of range", "100"),
    ),
    (
        "strategy = \"canary\"\ncanary = { steps = [{ weight = 101 }] }",
        (ManifestValue, "101", "out of range", "100"),
    ),
    (
        "strategy = \"canary\"\ncanary = { steps = [{ weight = \"5%\" }] }",
        (ManifestType, "\"5%\"", "expected a number, found a string", "weight = 5"),
    ),
    (
        "strategy = \"canary\"\ncanary = { steps = [{ weigth = 5, weight = 5 }] }",
        (ManifestKeyUnknown, "weigth", "step 1 of `canary` of environment `e`", "`weight`"),
    ),
    (
        "strategy = \"canary\"\ncanary = { steps = [5] }",
        (ManifestType, "5", "expected a table as element 1 of the list", "weight"),
    ),
    (
        "strategy = \"canary\"\ncanary = { steps = [{ weight = 5, hold = \"1h\", deadline = \"1m\" }] }",
        (ManifestValue, "\"1m\"", "can never pass", "1h"),
    ),
    (
        "strategy = \"canary\"\ncanary = { sticky = { cookie = \"a\", address = true } }",
        (ManifestValue, "{ cookie = \"a\", address = true }", "names 2 ways", "address = true"),
    ),
    (
        "strategy = \"canary\"\ncanary = { sticky = { cookie = \"a b\" } }",
        (ManifestValue, "\"a b\"", "not the name of a cookie", "letters"),
    ),
    ("strategy = \"rolling\"\nrolling = { steps = 1 }", (ManifestValue, "1", "out of range", "from 2 to 64")),
];

#[test]
fn environments() {
    let cases = ENVIRONMENTS;
    all(&format!("{HEAD}{ENVIRONMENT}"), cases);
}

const SEVERAL_ENVIRONMENTS: &[(&str, Expected)] = &[
    (
        "[[environment]]\nname = \"e\"\nlisten = \"127.0.0.1:1\"",
        (ManifestValue, "\"e\"", "two environments named `e`", "rename"),
    ),
    (
        "[[environment]]\nname = \"f\"\nlisten = \"127.0.0.1:8080\"",
        (
            ManifestValue,
            "\"127.0.0.1:8080\"",
            "environment `f` listens at the same address as environment `e`",
            "own port",
        ),
    ),
    (
        "[[environment]]\nname = \"f\"\nlisten = \"0.0.0.0:8080\"",
        (ManifestValue, "\"0.0.0.0:8080\"", "same address", "own port"),
    ),
    (
        "[[environment]]\nname = \"f\"\nlisten = \"localhost:8080\"",
        (ManifestValue, "\"localhost:8080\"", "same address", "own port"),
    ),
    (
        "[[environment]]\nname = \"f\"\nlisten = \"8081\"",
        (ManifestValue, "\"8081\"", "address is missing", "\"127.0.0.1:8081\""),
    ),
    ("[[environment]]\nname = \"f\"\nlisten = 8081", (ManifestType, "8081", "expected a string", "\"8081\"")),
    (
        "[[environment]]\nname = \"f\"\nlisten = \"127.0.0.1\"",
        (ManifestValue, "\"127.0.0.1\"", "port is missing", "127.0.0.1:8080"),
    ),
    (
        "[[environment]]\nname = \"f\"\nlisten = \"web:http\"",
        (ManifestValue, "\"web:http\"", "not an address", "127.0.0.1:8080"),
    ),
    (
        "[[environment]]\nname = \"f\"",
        (ManifestKeyMissing, "[[environment]]", "environment `f` has no `listen`", "listen = "),
    ),
    (
        "[[environment]]\nname = \"Prod\"\nlisten = \"[::1]:80\"",
        (ManifestValue, "\"Prod\"", "not valid", "`prod`"),
    ),
];

#[test]
fn several_environments() {
    let cases = SEVERAL_ENVIRONMENTS;
    all(&format!("{HEAD}{ENVIRONMENT}"), cases);
    let table = format!("{HEAD}[environment.staging]\nlisten = \"127.0.0.1:1\"\n");
    holds(
        &table,
        (ManifestType, "environment", "found a table", "[[environment]] and beneath it name = \"staging\""),
    );
}

#[test]
fn all_problems_are_told_in_order_and_bounded() {
    let text = FULL
        .replace("command", "comand")
        .replace("\"lint\"", "\"lnit\"")
        .replace("weight = 25", "weight = 2");
    let problems = parse(&text).expect_err("bad");
    let codes: Vec<&str> = problems.iter().map(|problem| problem.code.id()).collect();
    // Each task lacks its command and has an unknown key; then the reference; then the weight.
    assert_eq!(codes, ["TRM-0108", "TRM-0106", "TRM-0108", "TRM-0106", "TRM-0110", "TRM-0109"]);

    let many = repeated(3_000, |index| format!("k{index} = 1\n"));
    let problems = parse(&format!("{HEAD}{many}")).expect_err("bad");
    assert_eq!(problems.len(), crate::issue::PROBLEMS_MAX + 1);
    let last = problems.last().unwrap();
    assert!(last.message.contains("2950 problems") && last.snippet.is_none(), "{}", last.message);
}

/// A megabyte of each mistake takes no longer than a megabyte of anything else.
#[test]
fn many_mistakes_take_no_long_time() {
    let names = repeated(9_000, |index| format!("[task.t{index}]\ncommand = [\"x\"]\n"));
    let needs = repeated(60_000, |index| format!("\"u{index}\","));
    let texts = [
        "= ".repeat(500_000),
        "=\n".repeat(500_000),
        repeated(90_000, |index| format!("k{index} = 1\n")),
        format!("{HEAD}{names}[task.x]\ncommand = [\"x\"]\nneeds = [{needs}]\n"),
        format!("{HEAD}trunk = \"{}\"\n", " ".repeat(1_000_000)),
        format!("{HEAD}[task.t]\ncommand = [{}]\n", "1,".repeat(500_000)),
    ];
    for text in &texts {
        #[expect(clippy::disallowed_methods, reason = "this test measures")]
        let start = std::time::Instant::now();
        let problems = parse(text).expect_err("bad");
        let took = start.elapsed();
        eprintln!("{} bytes, {} problems: {took:?}", text.len(), problems.len());
        assert!(took < std::time::Duration::from_secs(10), "{took:?} for {}", &text[..40]);
        assert!(problems.iter().all(|problem| problem.message.len() < 1_000));
    }
}

#[test]
fn syntax_errors_are_not_repeated() {
    for text in
        ["a = [1, 2\nb = 3\n", "\"\"\"", "[[[", "a = {b = \n", "= 1\n= 2\n= 3\n= 4\n= 5\n= 6\n= 7\n", "\u{0}"]
    {
        let problems = parse(text).expect_err(text);
        assert!((1..=5).contains(&problems.len()), "{text}");
        assert!(problems.iter().all(|problem| problem.code == Code::ManifestSyntax), "{text}");
    }
    let deep = format!("{HEAD}a = {}", "[".repeat(100_000));
    assert_eq!(parse(&deep).expect_err("deep")[0].code, Code::ManifestSyntax);
}

fn loaded(bytes: Option<&[u8]>) -> Problem {
    let folder = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(folder.path()).unwrap();
    if let Some(bytes) = bytes {
        std::fs::write(directory.join("trimtab.toml"), bytes).unwrap();
    }
    let mut problems = crate::load(directory).expect_err("bad");
    assert_eq!(problems.len(), 1);
    problems.remove(0)
}

#[test]
fn files_that_are_refused() {
    let missing = loaded(None);
    assert_eq!(missing.code, Code::ManifestMissing);
    assert!(missing.hint.unwrap().contains("trimtab init"));
    assert_eq!(loaded(Some(b"")).code, Code::ManifestEmpty);
    assert_eq!(loaded(Some(b"  \n\t\n")).code, Code::ManifestEmpty);
    let latin = loaded(Some(b"version = 1\nproject = \"caf\xe9\"\n"));
    assert_eq!(latin.code, Code::ManifestNotUtf8);
    assert!(latin.message.contains("line 2"), "{}", latin.message);
    let wide = loaded(Some(b"\xff\xfev\0"));
    assert!(wide.hint.unwrap().contains("UTF-16"));
    let large = loaded(Some(&vec![b'#'; MANIFEST_BYTES_MAX as usize + 1]));
    assert_eq!(large.code, Code::ManifestTooLarge);
    let text = "#".repeat(MANIFEST_BYTES_MAX as usize + 1);
    assert_eq!(only(&text).code, Code::ManifestTooLarge);
}

#[test]
fn ten_megabytes_are_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("trimtab.toml")).unwrap();
    // A file without blocks: reading it would give zeros, and with them another problem.
    std::fs::File::create(&path).unwrap().set_len(10 << 20).unwrap();
    let problems = crate::load(path.parent().unwrap()).expect_err("large");
    assert_eq!(problems[0].code, Code::ManifestTooLarge);
    assert!(problems[0].hint.as_deref().unwrap().contains("was not read"));
}

#[test]
fn a_directory_of_that_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("trimtab.toml")).unwrap();
    let problems = crate::load(Utf8Path::from_path(folder.path()).unwrap()).expect_err("a directory");
    assert_eq!(problems[0].code, Code::ManifestUnreadable);
}

const SEVERAL_SERVICES: &[(&str, Expected)] = &[
    (
        "listen = \"127.0.0.1:8080\"",
        (
            ManifestValue,
            "\"127.0.0.1:8080\"",
            "environment `e` has one address for 2 services",
            "write listen = { a = \"127.0.0.1:8080\", web = \"127.0.0.1:8090\" }",
        ),
    ),
    (
        "listen = { a = \"127.0.0.1:8080\" }",
        (ManifestKeyMissing, "{ a = \"127.0.0.1:8080\" }", "no address for service `web`", "add web = "),
    ),
    (
        "listen = { a = \"127.0.0.1:1\", web = \"127.0.0.1:2\", wbe = \"127.0.0.1:3\" }",
        (ManifestReference, "wbe", "names the service `wbe`", "`web`"),
    ),
    (
        "listen = { a = \"127.0.0.1:8080\", web = \"0.0.0.0:8080\" }",
        (
            ManifestValue,
            "\"0.0.0.0:8080\"",
            "service `web` in environment `e` listens at the same address as service `a` in environment `e`",
            "own port",
        ),
    ),
    (
        "listen = { a = \"127.0.0.1:8080\", web = 8081 }",
        (ManifestType, "8081", "expected a string", "\"8081\""),
    ),
    (
        "listen = { a = \"127.0.0.1:8080\", web = \"8081\" }",
        (ManifestValue, "\"8081\"", "address is missing", "\"127.0.0.1:8081\""),
    ),
    (
        "listen = { a = \"127.0.0.1:1\", web = \"127.0.0.1:2\" }\n[[environment]]\nname = \"f\"\n\
         listen = { a = \"127.0.0.1:3\", web = \"127.0.0.1:1\" }",
        (
            ManifestValue,
            "\"127.0.0.1:1\"",
            "service `web` in environment `f` listens at the same",
            "own port",
        ),
    ),
];

#[test]
fn several_services_each_need_an_address() {
    let web = SERVICE.replace(".a]", ".web]");
    let before = format!("{HEAD}{SERVICE}{web}[[environment]]\nname = \"e\"\n");
    all(&before, SEVERAL_SERVICES);
}

const BEHIND_HAPROXY: &[(&str, Expected)] = &[
    ("haproxy = {}", (ManifestKeyMissing, "{}", "no `socket`", "socket = ")),
    ("haproxy = { socket = \"h.sock\" }", (ManifestValue, "\"h.sock\"", "no absolute path", "`/`")),
    (
        "haproxy = { socket = \"/h.sock\", backend = \"a b\" }",
        (ManifestValue, "\"a b\"", "HAProxy has no such names", "`{service}`"),
    ),
    (
        "haproxy = { socket = \"/h.sock\", stable = \"x\", canary = \"x\" }",
        (ManifestValue, "haproxy", "names the servers of both versions alike", "different"),
    ),
    (
        "haproxy = { socket = \"/h.sock\" }\noverride-header = \"x-arm\"",
        (ManifestValue, "override-header", "has no effect: HAProxy is in front", "use-server"),
    ),
    (
        "haproxy = { socket = \"/h.sock\" }\ntrusted-proxies = [\"10.0.0.0/8\"]",
        (ManifestValue, "trusted-proxies", "has no effect: HAProxy is in front", "forwarding headers"),
    ),
    (
        "haproxy = { socket = \"/h.sock\" }\nstrategy = \"canary\"\nanalysis = { warm-up = \"1s\" }",
        (ManifestValue, "warm-up", "counts no latencies", "remove it"),
    ),
    (
        "haproxy = { socket = \"/h.sock\" }\nstrategy = \"canary\"\ncanary = { sticky = { address = true } }",
        (ManifestValue, "sticky", "HAProxy decides who stays where", "stick table"),
    ),
    (
        "haproxy = { socket = \"/h.sock\" }\nstrategy = \"canary\"\ncanary = { steps = [{ weight = 0.2 }] }",
        (ManifestValue, "haproxy", "asks for 0.2%, which HAProxy's weights can't say", "0.39"),
    ),
];

#[test]
fn what_haproxy_can_not_do_is_refused() {
    all(&format!("{HEAD}{SERVICE}{ENVIRONMENT}"), BEHIND_HAPROXY);
    let web = SERVICE.replace(".a]", ".web]");
    let listen = "listen = { a = \"127.0.0.1:1\", web = \"127.0.0.1:2\" }\n";
    let before = format!("{HEAD}{SERVICE}{web}[[environment]]\nname = \"e\"\n{listen}");
    holds(
        &format!("{before}haproxy = {{ socket = \"/h.sock\", backend = \"shop\" }}\n"),
        (ManifestValue, "haproxy", "has one backend for 2 services", "`{service}`"),
    );
}
