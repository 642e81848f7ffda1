//! The parser: one pass over the XML events, one open test case at a time.
//!
//! Leaves out files. Invariant: time and memory are linear in the report; no recursion.

use std::borrow::Cow;

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
            Event::Start(start) => parser.open(&start)?,
            Event::Empty(start) => {
                parser.open(&start)?;
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
    Case,
    /// A failure, error, skip or flaky note, whose text may matter.
    Mark,
    Other,
}

#[derive(Debug, Default)]
struct Suite {
    name: String,
    /// Failures and errors that it says it has.
    claimed: u64,
    /// Failures counted before it.
    counted_before: u64,
    is_pytest: bool,
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
    message: String,
    text: String,
}

#[derive(Debug, Default)]
struct Parser {
    report: TestReport,
    stack: Vec<(String, Element)>,
    case: Option<Case>,
    /// A failure or error directly in a suite.
    loose: Option<Case>,
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
    failures: u64,
    errors: u64,
}

impl Attributes {
    fn of(start: &BytesStart<'_>) -> Result<Self, ReportError> {
        let mut all = Self::default();
        // Duplicates are not looked for: that check takes quadratic time. The last one wins.
        for (count, attribute) in start.attributes().with_checks(false).enumerate() {
            if count == ATTRIBUTES_MAX {
                return Err(ReportError::TooManyAttributes);
            }
            let Ok(attribute) = attribute else { continue };
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
                "failures" => all.failures = value.trim().parse().unwrap_or(0),
                "errors" => all.errors = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        Ok(all)
    }
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

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), ReportError> {
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
            _ if is_suite && self.case.is_none() => Element::Suite(self.suite(Attributes::of(start)?)),
            "testcase" if self.case.is_none() => {
                self.case = Some(self.new_case(Attributes::of(start)?));
                Element::Case
            }
            "failure" | "error" | "skipped" | "flakyFailure" | "flakyError" => self.mark(name, start)?,
            _ => Element::Other,
        };
        self.stack.push((name.to_owned(), element));
        Ok(())
    }

    fn suite(&self, attributes: Attributes) -> Suite {
        Suite {
            is_pytest: attributes.name == "pytest",
            claimed: attributes.failures.saturating_add(attributes.errors),
            counted_before: self.report.failures,
            name: attributes.name,
        }
    }

    fn suites(&self) -> impl DoubleEndedIterator<Item = &Suite> {
        self.stack.iter().filter_map(|(name, element)| match element {
            // The outermost element's name is the tool's or the file's.
            Element::Suite(suite) if name == "testsuite" => Some(suite),
            _ => None,
        })
    }

    fn new_case(&self, attributes: Attributes) -> Case {
        let ending = match (attributes.status.as_str(), attributes.result.as_str()) {
            ("notrun" | "skipped" | "disabled", _) | (_, "skipped" | "suppressed") => Ending::Skipped,
            _ => Ending::Passed,
        };
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
            message: String::new(),
            text: String::new(),
        }
    }

    fn mark(&mut self, name: &str, start: &BytesStart<'_>) -> Result<Element, ReportError> {
        let ending = match name {
            "skipped" => Ending::Skipped,
            "flakyFailure" | "flakyError" => Ending::Flaky,
            _ => Ending::Failed,
        };
        let in_case = matches!(self.stack.last(), Some((_, Element::Case)));
        let in_suite = matches!(self.stack.last(), Some((_, Element::Suite(_))));
        let counts = in_case || (in_suite && ending == Ending::Failed);
        if !counts {
            return Ok(Element::Other);
        }
        let attributes = Attributes::of(start)?;
        if in_suite {
            let rule = self.suites().next_back().map_or_else(String::new, |suite| suite.name.clone());
            let (message, text) = (first_of(attributes.message, attributes.kind), String::new());
            self.loose = Some(Case { rule, path: None, line: None, ending, message, text });
            return Ok(Element::Mark);
        }
        if let Some(case) = &mut self.case
            && ending > case.ending
        {
            case.ending = ending;
            case.message = first_of(attributes.message, attributes.kind);
            case.text.clear();
            return Ok(Element::Mark);
        }
        Ok(Element::Other)
    }

    fn text(&mut self, text: &str, at: u64) -> Result<(), ReportError> {
        match self.stack.last() {
            None if !text.trim().is_empty() => {
                return Err(ReportError::NotXml { at, detail: "text outside of any element".to_owned() });
            }
            Some((_, Element::Mark)) => {}
            _ => return Ok(()),
        }
        if let Some(case) = self.loose.as_mut().or(self.case.as_mut()) {
            let room = TEXT_BYTES_MAX.saturating_sub(case.text.len());
            case.text.push_str(&text[..text.floor_char_boundary(room.min(text.len()))]);
        }
        Ok(())
    }

    fn close(&mut self) {
        match self.stack.pop() {
            Some((_, Element::Case)) => {
                if let Some(case) = self.case.take() {
                    self.count(case);
                }
            }
            Some((_, Element::Mark)) => {
                if let Some(loose) = self.loose.take() {
                    self.report.failures += 1;
                    self.find(loose, Level::Error);
                }
            }
            Some((_, Element::Suite(suite))) => self.close_suite(suite),
            _ => {}
        }
    }

    /// A suite that claims failures but lists none must not pass.
    fn close_suite(&mut self, suite: Suite) {
        if suite.claimed > 0 && self.report.failures == suite.counted_before {
            self.report.failures += 1;
            let message = format!("the suite says that {} failed, but lists none", suite.claimed);
            let rule = if suite.name.is_empty() { "testsuite".to_owned() } else { suite.name };
            let ending = Ending::Failed;
            self.find(
                Case { rule, path: None, line: None, ending, message, text: String::new() },
                Level::Error,
            );
        }
    }

    fn count(&mut self, case: Case) {
        match case.ending {
            Ending::Skipped => self.report.skipped += 1,
            Ending::Passed => self.report.tests += 1,
            Ending::Flaky => {
                self.report.tests += 1;
                self.report.flaky += 1;
                self.find(case, Level::Warning);
            }
            Ending::Failed => {
                self.report.tests += 1;
                self.report.failures += 1;
                self.find(case, Level::Error);
            }
        }
    }

    fn find(&mut self, case: Case, level: Level) {
        if self.report.findings.len() >= FINDINGS_MAX {
            return;
        }
        let said = sentence(&case.message, &case.text);
        let message =
            if level == Level::Warning { format!("passed only when tried again: {said}") } else { said };
        self.report.findings.push(Finding {
            fingerprint: fingerprint(TOOL, &case.rule, case.path.as_deref(), &message),
            tool: TOOL.to_owned(),
            rule: case.rule,
            level,
            message,
            path: case.path,
            line: case.line,
        });
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
