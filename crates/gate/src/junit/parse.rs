//! The parser: one pass over the XML events.
//!
//! A failure belongs to the innermost case or suite that is open, however many other elements lie between. Leaves out files.
//! Invariant: time and memory are linear in the report; no recursion.

use std::borrow::Cow;
use std::collections::HashMap;

use delivery::finding::{Finding, Level};
use delivery::limits::{FINDINGS_MAX, REPORT_BYTES_MAX};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use super::{ATTRIBUTES_MAX, DEPTH_MAX, ReportError, TOOL, TestReport};
use crate::fingerprint::fingerprint;

/// Of a failure's text, only the beginning can hold its first line.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Of a message.
const MESSAGE_CHARS_MAX: usize = 500;

/// Reads a report. Bytes that are not UTF-8 are replaced.
pub fn parse(bytes: &[u8]) -> Result<TestReport, ReportError> {
    if bytes.len() as u64 > REPORT_BYTES_MAX {
        return Err(ReportError::TooLarge { bytes: bytes.len() as u64 });
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    if text.is_empty() {
        return Err(ReportError::Empty);
    }
    let mut reader = Reader::from_str(text);
    // Captured output often holds a bare `&`.
    reader.config_mut().allow_dangling_amp = true;
    let mut parser = Parser::default();
    loop {
        let event = reader.read_event().map_err(|error| parser.not_xml(reader.error_position(), &error))?;
        match event {
            Event::Start(start) => parser.open(&start, reader.buffer_position())?,
            Event::Empty(start) => {
                parser.open(&start, reader.buffer_position())?;
                parser.close();
            }
            Event::End(_) => parser.close(),
            Event::Text(text) => parser.text(&text, reader.buffer_position())?,
            Event::CData(text) => parser.text(&text, reader.buffer_position())?,
            Event::GeneralRef(name) => {
                let raw = format!("&{};", &*name);
                let plain = unescape(&raw).map(Cow::into_owned).unwrap_or(raw.clone());
                parser.text(&plain, reader.buffer_position())?;
            }
            Event::DocType(_) => return Err(ReportError::Doctype),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    parser.finish()
}

/// What an open element is.
#[derive(Debug)]
enum Element {
    Suite(Suite),
    Case(Case),
    /// A failure, error, skip or note of another attempt, whose text may matter: of the case around it, or by itself.
    Mark {
        loose: Option<Case>,
    },
    Other,
}

#[derive(Debug, Default)]
struct Suite {
    name: String,
    /// Failures and errors that it says it has.
    failures_claimed: u64,
    /// Tests that it says it has.
    tests_claimed: u64,
    /// What had been listed before it.
    before: Listed,
    is_pytest: bool,
    /// Its failed cases by name, with their findings: a later case of the same name that passed was another attempt.
    failed: HashMap<String, Vec<Option<usize>>>,
}

/// What suites have listed so far, or claimed without listing it.
#[derive(Debug, Clone, Copy, Default)]
struct Listed {
    failures: u64,
    tests: u64,
}

/// How a case ended; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Passed,
    Flaky,
    Skipped,
    Failed,
}

#[derive(Debug)]
struct Case {
    rule: String,
    path: Option<String>,
    line: Option<u32>,
    ending: Ending,
    /// Failures and errors listed within.
    marks: u64,
    message: String,
    text: String,
}

impl Case {
    /// A failure that belongs to no test.
    fn loose(rule: String, message: String) -> Self {
        let (path, line, ending, marks, text) = (None, None, Ending::Failed, 1, String::new());
        Self { rule, path, line, ending, marks, message, text }
    }
}

#[derive(Debug, Default)]
struct Parser {
    report: TestReport,
    stack: Vec<(String, Element)>,
    listed: Listed,
    seen_root: bool,
}

/// The attributes that are used, unescaped.
#[derive(Debug, Default)]
struct Attributes {
    name: String,
    class: String,
    file: Option<String>,
    line: Option<u32>,
    message: String,
    kind: String,
    status: String,
    result: String,
    failures: Option<String>,
    errors: Option<String>,
    tests: Option<String>,
}

impl Attributes {
    /// `at` is where the element ends. An attribute without quotes, or twice, is refused: it may have said that something failed.
    fn of(start: &BytesStart<'_>, at: u64) -> Result<Self, ReportError> {
        let mut all = Self::default();
        for (count, attribute) in start.attributes().enumerate() {
            if count == ATTRIBUTES_MAX {
                return Err(ReportError::TooManyAttributes);
            }
            let attribute =
                attribute.map_err(|error| ReportError::NotXml { at, detail: error.to_string() })?;
            let value = match unescape(&attribute.value) {
                Ok(value) => value.into_owned(),
                Err(_) => attribute.value.to_string(),
            };
            match attribute.key.as_ref() {
                "name" => all.name = value,
                "classname" | "class" => all.class = value,
                "file" | "filepath" => all.file = Some(value).filter(|file| !file.is_empty()),
                "line" | "lineno" => all.line = value.trim().parse().ok(),
                "message" => all.message = value,
                "type" => all.kind = value,
                "status" => all.status = value,
                "result" => all.result = value,
                "failures" => all.failures = Some(value),
                "errors" => all.errors = Some(value),
                "tests" => all.tests = Some(value),
                _ => {}
            }
        }
        Ok(all)
    }
}

/// A suite's count; none given is none claimed. In 32 bits, so that no sum over a report overflows.
fn claimed(attribute: &'static str, value: Option<&str>) -> Result<u64, ReportError> {
    let unreadable = |value: &str| ReportError::Count { attribute, value: value.chars().take(64).collect() };
    let read = |value: &str| value.trim().parse::<u32>().map_err(|_| unreadable(value));
    value.map_or(Ok(0), |value| read(value).map(u64::from))
}

impl Parser {
    fn not_xml(&self, at: u64, error: &quick_xml::Error) -> ReportError {
        // An end of file within a tag is a report that was cut off.
        match (error, self.stack.last()) {
            (quick_xml::Error::Syntax(_), Some((name, _))) => {
                ReportError::Truncated { element: name.clone() }
            }
            _ => ReportError::NotXml { at, detail: error.to_string() },
        }
    }

    fn open(&mut self, start: &BytesStart<'_>, at: u64) -> Result<(), ReportError> {
        if self.stack.len() == DEPTH_MAX {
            return Err(ReportError::TooDeep);
        }
        let local = start.local_name();
        let name: &str = local.as_ref();
        let is_suite = matches!(name, "testsuite" | "testsuites");
        if self.stack.is_empty() {
            if !is_suite {
                return Err(ReportError::NotJunit { root: name.chars().take(64).collect() });
            }
            self.seen_root = true;
        }
        let element = match name {
            _ if is_suite => Element::Suite(self.suite(Attributes::of(start, at)?)?),
            "testcase" => Element::Case(self.new_case(Attributes::of(start, at)?)),
            "failure" | "error" => self.mark(Ending::Failed, Attributes::of(start, at)?),
            "skipped" => self.mark(Ending::Skipped, Attributes::of(start, at)?),
            "flakyFailure" | "flakyError" | "rerunFailure" | "rerunError" | "rerun" => {
                self.mark(Ending::Flaky, Attributes::of(start, at)?)
            }
            _ => Element::Other,
        };
        self.stack.push((name.to_owned(), element));
        Ok(())
    }

    fn suite(&self, attributes: Attributes) -> Result<Suite, ReportError> {
        let failures = claimed("failures", attributes.failures.as_deref())?;
        let errors = claimed("errors", attributes.errors.as_deref())?;
        Ok(Suite {
            is_pytest: attributes.name == "pytest",
            failures_claimed: failures + errors,
            tests_claimed: claimed("tests", attributes.tests.as_deref())?,
            before: self.listed,
            failed: HashMap::new(),
            name: attributes.name,
        })
    }

    fn suites(&self) -> impl DoubleEndedIterator<Item = &Suite> {
        self.stack.iter().filter_map(|(name, element)| match element {
            // The outermost element's name is the tool's or the file's.
            Element::Suite(suite) if name == "testsuite" => Some(suite),
            _ => None,
        })
    }

    fn new_case(&self, attributes: Attributes) -> Case {
        let ending = ending_of(&attributes.status).max(ending_of(&attributes.result));
        // Node gives every case the class "test"; then the names of the suites around it say more.
        let class = if attributes.class.is_empty() || attributes.class == "test" {
            let names: Vec<&str> =
                self.suites().map(|suite| suite.name.as_str()).filter(|name| !name.is_empty()).collect();
            names.join(" > ")
        } else {
            attributes.class
        };
        let rule = if class.is_empty() { attributes.name } else { format!("{class}::{}", attributes.name) };
        // pytest counts lines from 0.
        let shift = u32::from(self.suites().any(|suite| suite.is_pytest));
        Case {
            rule,
            path: attributes.file.map(|file| file.strip_prefix("./").unwrap_or(&file).to_owned()),
            line: attributes.line.map(|line| line.saturating_add(shift)).filter(|line| *line > 0),
            ending,
            marks: 0,
            message: String::new(),
            text: String::new(),
        }
    }

    fn mark(&mut self, ending: Ending, attributes: Attributes) -> Element {
        let around = self.stack.iter_mut().rev().find_map(|(_, element)| match element {
            Element::Case(case) => Some(Ok(case)),
            Element::Suite(suite) => Some(Err(&suite.name)),
            _ => None,
        });
        let message = first_of(attributes.message, attributes.kind);
        match around {
            Some(Ok(case)) => {
                case.marks += u64::from(ending == Ending::Failed);
                let says_more = ending == case.ending && case.message.is_empty() && case.text.is_empty();
                if ending > case.ending || says_more {
                    case.ending = ending;
                    case.message = message;
                    case.text.clear();
                    return Element::Mark { loose: None };
                }
                Element::Other
            }
            Some(Err(suite)) if ending == Ending::Failed => {
                Element::Mark { loose: Some(Case::loose(suite.clone(), message)) }
            }
            _ => Element::Other,
        }
    }

    fn text(&mut self, text: &str, at: u64) -> Result<(), ReportError> {
        let case = match self.stack.split_last_mut() {
            None if !text.trim().is_empty() => {
                return Err(ReportError::NotXml { at, detail: "text outside of any element".to_owned() });
            }
            Some(((_, Element::Mark { loose: Some(case) }), _)) => Some(case),
            Some(((_, Element::Mark { loose: None }), around)) => {
                around.iter_mut().rev().find_map(|(_, element)| match element {
                    Element::Case(case) => Some(case),
                    _ => None,
                })
            }
            _ => None,
        };
        if let Some(case) = case {
            let room = TEXT_BYTES_MAX.saturating_sub(case.text.len());
            case.text.push_str(&text[..text.floor_char_boundary(room.min(text.len()))]);
        }
        Ok(())
    }

    fn close(&mut self) {
        match self.stack.pop() {
            Some((_, Element::Case(case))) => self.count(case),
            Some((_, Element::Mark { loose: Some(loose) })) => {
                self.report.failures += 1;
                self.listed.failures += 1;
                self.find(loose, Level::Error);
            }
            Some((name, Element::Suite(suite))) => self.close_suite(&name, suite),
            _ => {}
        }
    }

    /// What a suite claims beyond what it lists counts as well; for the suites around it, it is listed then.
    fn close_suite(&mut self, element: &str, suite: Suite) {
        // Node counts a suite within a suite as one of its tests.
        if element == "testsuite" && self.suites().next().is_some() && suite.tests_claimed == 0 {
            self.listed.tests += 1;
        }
        let listed = self.listed.failures - suite.before.failures;
        let unlisted = suite.failures_claimed.saturating_sub(listed);
        if unlisted > 0 {
            self.report.failures += unlisted;
            self.listed.failures += unlisted;
            let lists = if listed == 0 { "none".to_owned() } else { format!("only {listed}") };
            let message = format!("the suite says that {} failed, but lists {lists}", suite.failures_claimed);
            let rule = if suite.name.is_empty() { "testsuite".to_owned() } else { suite.name };
            self.find(Case::loose(rule, message), Level::Error);
        }
        let unlisted = suite.tests_claimed.saturating_sub(self.listed.tests - suite.before.tests);
        self.report.unlisted += unlisted;
        self.listed.tests += unlisted;
    }

    fn count(&mut self, case: Case) {
        self.listed.tests += 1;
        let failed = case.ending == Ending::Failed;
        // A case that failed by its status alone is listed, too.
        self.listed.failures += if failed { case.marks.max(1) } else { 0 };
        if case.ending == Ending::Skipped {
            self.report.skipped += 1;
            return;
        }
        self.report.tests += 1;
        if failed {
            self.report.failures += 1;
            let rule = case.rule.clone();
            let found = self.find(case, Level::Error);
            // Without a name nobody can say that a later case is the same.
            let named = !rule.is_empty() && !rule.ends_with("::");
            if let Some(suite) = self.innermost_suite().filter(|_| named) {
                suite.failed.entry(rule).or_default().push(found);
            }
            return;
        }
        let before = self.innermost_suite().and_then(|suite| suite.failed.remove(&case.rule));
        self.report.flaky += u64::from(case.ending == Ending::Flaky || before.is_some());
        if let Some(attempts) = before {
            self.forgive(&attempts);
        } else if case.ending == Ending::Flaky {
            self.find(case, Level::Warning);
        }
    }

    fn innermost_suite(&mut self) -> Option<&mut Suite> {
        self.stack.iter_mut().rev().find_map(|(_, element)| match element {
            Element::Suite(suite) => Some(suite),
            _ => None,
        })
    }

    /// The test failed, was tried again and passed (gotestsum's `--rerun-fails`, Gradle's retry): all that was one flaky test.
    fn forgive(&mut self, attempts: &[Option<usize>]) {
        self.report.tests -= attempts.len() as u64;
        self.report.failures -= attempts.len() as u64;
        for at in attempts.iter().flatten() {
            let finding = &mut self.report.findings[*at];
            finding.level = Level::Warning;
            finding.message = flaky(&finding.message);
            finding.fingerprint = fingerprint(TOOL, &finding.rule, finding.path.as_deref(), &finding.message);
        }
    }

    /// Adds a finding, if there is room, and says where.
    fn find(&mut self, case: Case, level: Level) -> Option<usize> {
        let at = self.report.findings.len();
        if at >= FINDINGS_MAX {
            return None;
        }
        let said = sentence(&case.message, &case.text);
        let message = if level == Level::Warning { flaky(&said) } else { said };
        self.report.findings.push(Finding {
            fingerprint: fingerprint(TOOL, &case.rule, case.path.as_deref(), &message),
            tool: TOOL.to_owned(),
            rule: case.rule,
            level,
            message,
            path: case.path,
            line: case.line,
        });
        Some(at)
    }

    fn finish(self) -> Result<TestReport, ReportError> {
        if let Some((name, _)) = self.stack.last() {
            return Err(ReportError::Truncated { element: name.clone() });
        }
        if !self.seen_root {
            return Err(ReportError::NotXml { at: 0, detail: "there is no element".to_owned() });
        }
        Ok(self.report)
    }
}

/// What a case's `status` or `result` says of it.
fn ending_of(status: &str) -> Ending {
    match status.to_ascii_lowercase().as_str() {
        "fail" | "failed" | "failure" | "error" | "errored" | "broken" => Ending::Failed,
        "notrun" | "skipped" | "disabled" | "suppressed" => Ending::Skipped,
        _ => Ending::Passed,
    }
}

fn flaky(said: &str) -> String {
    format!("passed only when tried again: {said}")
}

fn first_of(message: String, kind: String) -> String {
    if message.trim().is_empty() { kind } else { message }
}

/// The first line that says something. gotestsum's message is always "Failed"; Go's own lines start with `===` or `---`.
fn sentence(message: &str, text: &str) -> String {
    let telling = |line: &&str| !line.is_empty() && !line.starts_with("=== ") && !line.starts_with("--- ");
    let of_message = message.lines().map(str::trim).find(telling).filter(|line| *line != "Failed");
    let of_text = text.lines().map(str::trim).find(telling);
    let line = of_message.or(of_text).unwrap_or("failed, and the report does not say why");
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}
