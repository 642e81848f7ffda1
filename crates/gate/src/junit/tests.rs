use std::fmt::Write as _;

use delivery::finding::Level;
use proptest::prelude::*;

use super::*;

fn report(xml: &str) -> TestReport {
    parse(xml.as_bytes()).unwrap()
}

/// Tests, failures, skipped, and the findings as `rule | message | path:line`.
fn told(xml: &str) -> (u64, u64, u64, Vec<String>) {
    let report = report(xml);
    let findings = report.findings.iter().map(|finding| {
        let place = match (&finding.path, finding.line) {
            (Some(path), Some(line)) => format!(" | {path}:{line}"),
            (Some(path), None) => format!(" | {path}"),
            _ => String::new(),
        };
        format!("{} | {}{place}", finding.rule, finding.message)
    });
    (report.tests, report.failures, report.skipped, findings.collect())
}

#[test]
fn pytest() {
    let xml = r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1"
        failures="1" skipped="1" tests="4" time="0.05" timestamp="2026-01-01T00:00:00" hostname="h">
        <testcase classname="tests.test_cart" name="test_adds[1-2]" file="tests/test_cart.py" line="6" time="0.001" />
        <testcase classname="tests.test_cart" name="test_sum" file="tests/test_cart.py" line="9" time="0.001"><failure
          message="AssertionError: assert 3 == 4&#10;  + where 3 = f()">def test_sum(): ...</failure></testcase>
        <testcase classname="tests.test_cart" name="test_db" time="0.001"><error message="failed on setup with &quot;no db&quot;">x</error></testcase>
        <testcase classname="tests.test_cart" name="test_later" time="0.000"><skipped type="pytest.skip" message="not yet">y</skipped></testcase>
        </testsuite></testsuites>"#;
    let wanted = vec![
        "tests.test_cart::test_sum | AssertionError: assert 3 == 4 | tests/test_cart.py:10".to_owned(),
        r#"tests.test_cart::test_db | failed on setup with "no db""#.to_owned(),
    ];
    assert_eq!(told(xml), (3, 2, 1, wanted));
}

#[test]
fn surefire() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
        <testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="s.xsd" name="com.acme.CartTest" time="0.1" tests="3" errors="0" skipped="0" failures="1">
        <properties><property name="java.version" value="21"/><property name="a" value="&lt;failure&gt;"/></properties>
        <testcase name="adds" classname="com.acme.CartTest" time="0.01"><system-out><![CDATA[<failure>]]></system-out></testcase>
        <testcase name="sums" classname="com.acme.CartTest" time="0.01">
          <failure message="expected: &lt;4&gt; but was: &lt;3&gt;" type="org.opentest4j.AssertionFailedError"><![CDATA[org.opentest4j...]]></failure>
          <rerunFailure message="again" type="x"><stackTrace>t</stackTrace></rerunFailure></testcase>
        <testcase name="shaky" classname="com.acme.CartTest" time="0.01"><flakyFailure message="once" type="x"><stackTrace>t</stackTrace></flakyFailure></testcase>
        </testsuite>"#;
    let wanted = vec![
        "com.acme.CartTest::sums | expected: <4> but was: <3>".to_owned(),
        "com.acme.CartTest::shaky | passed only when tried again: once".to_owned(),
    ];
    assert_eq!(told(xml), (3, 1, 0, wanted));
    assert_eq!(report(xml).flaky, 1);
    assert_eq!(report(xml).findings[1].level, Level::Warning);
}

#[test]
fn jest() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="jest tests" tests="2" failures="1" errors="0" time="1.2">
        <testsuite name="cart" errors="0" failures="1" skipped="1" timestamp="t" time="1" tests="3">
        <testcase classname="cart adds up" name="cart adds up" time="0.003" file="src/cart.test.ts"></testcase>
        <testcase classname="cart sums" name="cart sums" time="0.003" file="src/cart.test.ts">
        <failure>Error: expect(received).toBe(expected) // Object.is equality

Expected: 4
    at Object.toBe (src/cart.test.ts:7:19)</failure></testcase>
        <testcase classname="cart later" name="cart later" time="0"><skipped/></testcase></testsuite></testsuites>"#;
    let wanted = vec![
        "cart sums::cart sums | Error: expect(received).toBe(expected) // Object.is equality | src/cart.test.ts".to_owned(),
    ];
    assert_eq!(told(xml), (2, 1, 1, wanted));
}

#[test]
fn gotestsum() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?><testsuites tests="3" failures="1" errors="1" time="0.2">
        <testsuite tests="2" failures="1" time="0.01" name="acme/cart" timestamp="t"><properties><property name="go.version" value="go1.24"></property></properties>
        <testcase classname="acme/cart" name="TestAdds" time="0.0"></testcase>
        <testcase classname="acme/cart" name="TestSum" time="0.0"><failure message="Failed" type="">=== RUN   TestSum&#xA;    cart_test.go:8: got 3, want 4&#xA;--- FAIL: TestSum (0.00s)&#xA;</failure></testcase></testsuite>
        <testsuite tests="0" failures="0" errors="1" time="0" name="acme/broken" timestamp="t"></testsuite></testsuites>"#;
    let wanted = vec![
        "acme/cart::TestSum | cart_test.go:8: got 3, want 4".to_owned(),
        "acme/broken | the suite says that 1 failed, but lists none".to_owned(),
    ];
    assert_eq!(told(xml), (2, 2, 0, wanted));
}

#[test]
fn googletest() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
        <testsuites tests="3" failures="1" disabled="1" errors="0" time="0." name="AllTests">
        <testsuite name="Cart" tests="3" failures="1" disabled="1" skipped="0" errors="0" time="0.">
        <testcase name="Adds" file="cart_test.cc" line="5" status="run" result="completed" time="0." classname="Cart" />
        <testcase name="Sums" file="cart_test.cc" line="9" status="run" result="completed" time="0." classname="Cart">
        <failure message="cart_test.cc:11&#x0A;Expected equality" type=""><![CDATA[cart_test.cc:11
Expected equality]]></failure></testcase>
        <testcase name="DISABLED_Later" file="cart_test.cc" line="20" status="notrun" result="suppressed" time="0." classname="Cart" />
        </testsuite></testsuites>"#;
    assert_eq!(told(xml), (2, 1, 1, vec!["Cart::Sums | cart_test.cc:11 | cart_test.cc:9".to_owned()]));
}

#[test]
fn nextest() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?><testsuites name="nextest-run" tests="3" failures="1" errors="0" uuid="u" timestamp="t" time="0.1">
        <testsuite name="cart" tests="3" disabled="0" errors="0" failures="1">
        <testcase name="tests::adds" classname="cart" timestamp="t" time="0.006"></testcase>
        <testcase name="tests::sums" classname="cart" timestamp="t" time="0.006"><failure message="thread 'tests::sums' panicked at src/lib.rs:12:9" type="test failure with exit code 101">thread ...</failure><rerunFailure type="x">again</rerunFailure></testcase>
        <testcase name="tests::shaky" classname="cart" time="0.006"><flakyFailure message="thread panicked" type="x">t</flakyFailure></testcase>
        </testsuite></testsuites>"#;
    let (tests, failures, skipped, findings) = told(xml);
    assert_eq!((tests, failures, skipped), (3, 1, 0));
    assert_eq!(findings[0], "cart::tests::sums | thread 'tests::sums' panicked at src/lib.rs:12:9");
}

#[test]
fn node() {
    let xml = r#"<?xml version="1.0" encoding="utf-8"?>
<testsuites>
	<testsuite name="cart" time="0.002" disabled="0" errors="0" tests="2" failures="1" skipped="0" hostname="h">
		<testcase name="adds" time="0.0003" classname="test"/>
		<testsuite name="sums" time="0.001" disabled="0" errors="0" tests="1" failures="1" skipped="0" hostname="h">
			<testcase name="to four" time="0.0002" classname="test" failure="3 !== 4">
				<failure type="testCodeFailure" message="3 !== 4">
[Error [ERR_TEST_FAILURE]: 3 !== 4] { code: 'ERR_TEST_FAILURE' }
				</failure>
			</testcase>
		</testsuite>
	</testsuite>
	<testcase name="later" time="0.0001" classname="test"><skipped type="skipped" message="true"/></testcase>
	<testcase name="bare" time="0.0001" classname="test"/>
	<!-- tests 4 -->
</testsuites>"#;
    assert_eq!(told(xml), (3, 1, 1, vec!["cart > sums::to four | 3 !== 4".to_owned()]));
}

#[test]
fn a_failure_outside_any_test_counts() {
    let xml = r#"<testsuite name="setup" tests="0"><error message="no database"/><system-err>x</system-err></testsuite>"#;
    assert_eq!(told(xml), (0, 1, 0, vec!["setup | no database".to_owned()]));
}

#[test]
fn a_failure_counts_wherever_it_lies() {
    for inner in [
        r#"<testcase name="b"><failure message="m"/></testcase>"#,
        r#"<testsuite name="s" failures="1"><testcase name="b"><failure message="m"/></testcase></testsuite>"#,
        r#"<attempt><error message="m"/></attempt>"#,
    ] {
        let report = report(&format!(r#"<testsuite><testcase name="a">{inner}</testcase></testsuite>"#));
        assert_eq!((report.failures, report.findings[0].message.as_str()), (1, "m"), "{inner}");
    }
    assert_eq!(report("<testsuite><wrapper><failure/></wrapper></testsuite>").failures, 1);
    let nested = r#"<testsuite><testcase name="a"><testcase name="b"/></testcase></testsuite>"#;
    assert_eq!(report(nested).tests, 2);
}

#[test]
fn a_status_counts_like_an_element() {
    for said in [r#"status="failed""#, r#"result="failure""#, r#"status="Error""#, r#"status="broken""#] {
        let xml = format!(r#"<testsuite failures="1"><testcase name="a" {said}/></testsuite>"#);
        let wanted = vec!["a | failed, and the report does not say why".to_owned()];
        assert_eq!(told(&xml), (1, 1, 0, wanted), "{said}");
    }
    let both = r#"<testsuite><testcase name="a" status="fail"><failure message="m"/></testcase></testsuite>"#;
    assert_eq!(told(both), (1, 1, 0, vec!["a | m".to_owned()]));
}

#[test]
fn what_a_suite_claims_beyond_what_it_lists_counts() {
    let xml = r#"<testsuites failures="5"><testsuite name="s" failures="5" tests="9">
        <testcase name="a"><failure message="m"/></testcase><testcase name="b"/></testsuite></testsuites>"#;
    let wanted = vec!["s::a | m".to_owned(), "s | the suite says that 5 failed, but lists only 1".to_owned()];
    assert_eq!(told(xml), (2, 5, 0, wanted));
    assert_eq!(report(xml).unlisted, 7);
    // Catch2 counts assertions, and lists each that failed.
    let xml = r#"<testsuite failures="2"><testcase name="a"><failure/><failure/></testcase></testsuite>"#;
    assert_eq!(report(xml).failures, 1);
}

#[test]
fn what_passed_when_tried_again_is_flaky() {
    let again = r#"<testsuite tests="3" failures="2">
        <testcase classname="p" name="T"><failure message="once"/></testcase>
        <testcase classname="p" name="T"><failure message="twice"/></testcase>
        <testcase classname="p" name="T"/></testsuite>"#;
    let wanted = ["once", "twice"].map(|said| format!("p::T | passed only when tried again: {said}"));
    assert_eq!(told(again), (1, 0, 0, wanted.to_vec()));
    assert_eq!((report(again).flaky, report(again).findings[0].level), (1, Level::Warning));
    for mark in ["rerun", "rerunFailure", "rerunError"] {
        let xml = format!(r#"<testsuite><testcase name="T"><{mark} message="x"/></testcase></testsuite>"#);
        assert_eq!((report(&xml).flaky, report(&xml).failures), (1, 0), "{mark}");
    }
    let fails = |cases: &str| report(&format!("<testsuites>{cases}</testsuites>")).failures;
    // The last attempt has the last word; without a name, or in another suite, nobody knows that it is the same test.
    assert_eq!(
        fails("<testsuite><testcase name='T'/><testcase name='T'><failure/></testcase></testsuite>"),
        1
    );
    assert_eq!(fails("<testsuite><testcase><failure/></testcase><testcase/></testsuite>"), 1);
    assert_eq!(
        fails(
            "<testsuite><testcase name='T'><failure/></testcase></testsuite><testsuite><testcase name='T'/></testsuite>"
        ),
        1
    );
}

#[test]
fn what_can_not_be_counted_is_no_report() {
    for count in ["1.0", "", "-1", "one", "4294967296"] {
        let xml = format!(r#"<testsuite failures="{count}"><testcase name="a"/></testsuite>"#);
        let wanted = ReportError::Count { attribute: "failures", value: count.to_owned() };
        assert_eq!(parse(xml.as_bytes()), Err(wanted));
    }
    for attributes in ["failures=1", r#"failures="1" failures="0""#, "failures"] {
        let xml = format!("<testsuite {attributes}><testcase name='a'/></testsuite>");
        let refused = parse(xml.as_bytes());
        assert!(matches!(refused, Err(ReportError::NotXml { .. })), "{attributes}: {refused:?}");
    }
}

#[test]
fn what_is_no_report_is_refused() {
    let refused = |xml: &str| parse(xml.as_bytes()).unwrap_err();
    assert_eq!(refused(" \n"), ReportError::Empty);
    assert_eq!(refused("<html></html>"), ReportError::NotJunit { root: "html".into() });
    assert_eq!(
        refused("<testsuite><testcase name='a'>"),
        ReportError::Truncated { element: "testcase".into() }
    );
    assert_eq!(
        refused("<testsuite><testcase name='a'"),
        ReportError::Truncated { element: "testsuite".into() }
    );
    assert!(matches!(refused("<testsuite></testcase>"), ReportError::NotXml { .. }));
    assert!(matches!(refused("{\"tests\": 1}"), ReportError::NotXml { .. }));
    assert!(matches!(refused("<testsuite/> trailing"), ReportError::NotXml { .. }));
    let bomb = r#"<!DOCTYPE t [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><testsuite name="&b;"/>"#;
    assert_eq!(refused(bomb), ReportError::Doctype);
    assert_eq!(refused(&"<testsuite>".repeat(DEPTH_MAX + 1)), ReportError::TooDeep);
    let wide: String = (0..=ATTRIBUTES_MAX).fold(String::new(), |mut text, at| {
        write!(text, " a{at}=''").unwrap();
        text
    });
    assert_eq!(refused(&format!("<testsuite{wide}/>")), ReportError::TooManyAttributes);
    let problem = ReportError::Empty.problem(Utf8Path::new("r.xml"));
    assert_eq!(problem.to_string(), "TRM-0502 the report r.xml can't be read: it is empty");
}

#[test]
fn odd_bytes_are_survived() {
    let mut xml = b"\xef\xbb\xbf<testsuite><testcase name='caf\xe9 & co'><failure message='&unknown; \x1b[31m'/></testcase></testsuite>".to_vec();
    let report = parse(&xml).unwrap();
    assert_eq!(report.findings[0].rule, "caf\u{fffd} & co");
    xml.truncate(40);
    assert!(parse(&xml).is_err());
}

fn many(cases: usize) -> String {
    let mut xml = String::from("<testsuites><testsuite name='s'>");
    for at in 0..cases {
        write!(
            xml,
            "<testcase classname='c' name='t{at}'><failure message='m{at}'>some text</failure></testcase>"
        )
        .unwrap();
    }
    xml.push_str("</testsuite></testsuites>");
    xml
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test measures time")]
fn time_is_linear_and_findings_are_limited() {
    let time = |cases: usize| {
        let xml = many(cases);
        let started = std::time::Instant::now();
        let report = parse(xml.as_bytes()).unwrap();
        assert_eq!(report.failures, cases as u64);
        assert_eq!(report.findings.len(), cases.min(delivery::limits::FINDINGS_MAX));
        started.elapsed()
    };
    let (small, large) = (time(10_000), time(100_000));
    assert!(
        large < small * 40 + std::time::Duration::from_millis(500),
        "{small:?} for 10,000, {large:?} for 100,000"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_mix_of_pieces_makes_it_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("<testsuites>"), Just("</testsuites>"), Just("<testsuite name='s' failures='1'>"), Just("</testsuite>"),
        Just("<testcase name='a' line='4294967295' file='./x'>"), Just("</testcase>"), Just("<failure message='m'>"), Just("</failure>"),
        Just("<error/>"), Just("<skipped/>"), Just("text & more"), Just("<![CDATA[x]]>"), Just("&#xffffff;"), Just("<!--"), Just("\u{1F600}"),
    ], 0..40)) {
        let _ = parse(pieces.concat().as_bytes());
    }

    #[test]
    fn counts_add_up(endings in proptest::collection::vec(0_u16..4, 0..50)) {
        let mut xml = String::from("<testsuite name='s'>");
        for (at, ending) in endings.iter().enumerate() {
            let inner = ["", "<failure/>", "<skipped/>", "<flakyFailure/>"][usize::from(*ending)];
            write!(xml, "<testcase name='t{at}'>{inner}</testcase>").unwrap();
        }
        xml.push_str("</testsuite>");
        let report = report(&xml);
        let n = |wanted| endings.iter().filter(|ending| **ending == wanted).count() as u64;
        prop_assert_eq!((report.tests, report.failures, report.skipped, report.flaky), (n(0) + n(1) + n(3), n(1), n(2), n(3)));
    }
}
