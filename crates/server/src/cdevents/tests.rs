use super::*;

/// As the specification's own examples are built.
fn cd_event(kind: &str, content: &str) -> String {
    format!(
        r#"{{"context":{{"specversion":"0.6.0-draft","id":"271069a8","source":"/event/source/123","type":"{kind}","timestamp":"2023-03-20T14:27:05.315384Z","schemaUri":"https://myorg.com/schema/custom","links":[{{"linkType":"END"}}]}},"subject":{{"id":"mySubject123","source":"/clusterA/namespaceB","content":{content}}},"customData":{{"metric":"responseTime"}},"customDataContentType":"application/json"}}"#
    )
}

fn enveloped(kind: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"271069a8","source":"/event/source/123","type":"{kind}","time":"2023-03-20T14:27:05Z","datacontenttype":"application/json","data":{data},"extension":1}}"#
    )
}

fn structured() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8".parse().unwrap());
    headers
}

fn one(kind: &str, content: &str) -> Result<Fact, String> {
    match read(&structured(), enveloped(kind, &cd_event(kind, content)).as_bytes()) {
        Ok(reports) => {
            let [report] = <[Report; 1]>::try_from(reports).unwrap();
            assert_eq!(
                (report.origin.source.as_str(), report.origin.id.as_str()),
                ("/event/source/123", "271069a8")
            );
            assert_eq!(report.occurred_at.to_string(), "2023-03-20T14:27:05.315384Z");
            Ok(report.fact)
        }
        Err(Unusable::Event { index: 0, wrong }) => Err(wrong),
        Err(other) => panic!("{other}"),
    }
}

const INCIDENT: &str = r#"{"description":"Response time above\nthreshold","environment":{"id":"prod1","source":"/iaas/geo1"},"service":{"id":"myApp"},"artifactId":"pkg:oci/myapp@sha256%3A0b31"}"#;

#[test]
fn each_type_has_its_meaning() {
    let incident = IncidentName { source: "/clusterA/namespaceB".into(), id: "mySubject123".into() };
    for kind in ["dev.cdevents.incident.detected.0.3.0", "dev.cdevents.incident.reported.0.2.0-draft"] {
        let detected = Fact::IncidentDetected {
            incident: incident.clone(),
            service: "myApp".into(),
            environment: "prod1".into(),
            summary: "Response time above threshold".into(),
        };
        assert_eq!(one(kind, INCIDENT), Ok(detected));
    }
    assert_eq!(one("dev.cdevents.incident.resolved.0.3.0", "{}"), Ok(Fact::IncidentResolved { incident }));
    for (kind, step) in [
        ("dev.cdevents.service.deployed.0.3.0", ServiceStep::Deployed),
        ("dev.cdevents.service.upgraded.0.3.0", ServiceStep::Upgraded),
        ("dev.cdevents.service.rolledback.0.3.0", ServiceStep::RolledBack),
    ] {
        let content = r#"{"environment":{"id":"test123"},"artifactId":"pkg:oci/myapp@sha256%3A0b31"}"#;
        let changed = Fact::ServiceChanged {
            step,
            service: "mySubject123".into(),
            environment: "test123".into(),
            artifact: "pkg:oci/myapp@sha256%3A0b31".into(),
        };
        assert_eq!(one(kind, content), Ok(changed));
    }
}

#[test]
fn what_is_missing_wrong_or_deceptive_is_named() {
    let detected = "dev.cdevents.incident.detected.0.3.0";
    let says = |content: &str, words: &str| {
        let wrong = one(detected, content).unwrap_err();
        assert!(wrong.contains(words), "{content}: {wrong}");
    };
    says("{}", "subject.content.service.id is missing");
    says(r#"{"service":{"id":"a"}}"#, "subject.content.environment.id is missing");
    says(r#"{"service":{"id":""},"environment":{"id":"p"}}"#, "subject.content.service.id is empty");
    says(r#"{"service":{"id":7},"environment":{"id":"p"}}"#, "data: invalid type: integer `7`");
    says(r#"{"service":{"id":"a\u202eb"},"environment":{"id":"p"}}"#, "U+202E");
    says(
        &format!(r#"{{"service":{{"id":"{}"}},"environment":{{"id":"p"}}}}"#, "x".repeat(1_025)),
        "1025 bytes long",
    );
    for kind in [
        "dev.cdevents.build.queued.0.3.0",
        "dev.cdevents.incident.detected",
        "dev.cdevents.incident.detected.",
        "other",
    ] {
        assert!(one(kind, "{}").unwrap_err().contains("says nothing of incidents or deployments"), "{kind}");
    }
    let body = enveloped(detected, &cd_event(detected, INCIDENT));
    let wrong = |body: String| read(&structured(), body.as_bytes()).unwrap_err().to_string();
    assert!(
        wrong(body.replace(r#""specversion":"1.0""#, r#""specversion":"0.3""#))
            .contains("it must be \"1.0\"")
    );
    assert!(
        wrong(body.replacen("271069a8", "other", 1)).contains("but context.id in its data is \"271069a8\"")
    );
    assert!(wrong(body.replace(r#""data":{"#, r#""else":{"#)).contains("data is missing"));
    assert!(wrong(body.replace("2023-03-20T14:27:05.315384Z", "yesterday")).contains("data: "));
    assert!(wrong("[]".into()).contains("event 0: "));
}

#[test]
fn a_long_description_is_cut_and_the_cut_is_marked() {
    let content = INCIDENT.replace("Response", &"ä".repeat(3_000));
    let Ok(Fact::IncidentDetected { summary, .. }) = one("dev.cdevents.incident.detected.0.3.0", &content)
    else {
        panic!("it is refused");
    };
    assert!(summary.ends_with('…') && summary.len() <= REPORT_SUMMARY_BYTES_MAX + '…'.len_utf8());
}

#[test]
fn the_binary_mode_carries_the_same() {
    let kind = "dev.cdevents.incident.detected.0.3.0";
    let data = cd_event(kind, INCIDENT).replace("271069a8", "a b%");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "a%20b%25"),
        ("ce-source", "/event/source/123"),
        ("ce-type", kind),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let reports = read(&headers, data.as_bytes()).unwrap();
    assert_eq!(reports[0].origin.id, "a b%");
    headers.insert("ce-id", "a%2".parse().unwrap());
    assert!(
        read(&headers, data.as_bytes()).unwrap_err().to_string().contains("ce-id is not percent-encoded")
    );
    headers.remove("ce-id");
    assert!(read(&headers, data.as_bytes()).unwrap_err().to_string().contains("ce-id is missing"));
}

#[test]
fn bodies_that_are_no_events_are_refused_whatever_they_hold() {
    let mut batch = HeaderMap::new();
    batch.insert(CONTENT_TYPE, "Application/CloudEvents-Batch+JSON".parse().unwrap());
    for body in ["", "{}", "null", "[[]]", "[1]", "[{}]", "\u{feff}[]", "[", "[]"] {
        assert!(matches!(read(&batch, body.as_bytes()), Err(Unusable::Event { .. })), "{body}");
    }
    assert!(read(&batch, &[0xff, 0xfe]).is_err());
    assert_eq!(
        read(&batch, format!("[{}1]", "1,".repeat(300)).as_bytes()),
        Err(Unusable::Many { events: 301 })
    );
    assert_eq!(read(&HeaderMap::new(), b"{}"), Err(Unusable::Mode));
    assert!(read(&structured(), "[".repeat(100_000).as_bytes()).is_err());
}

/// Every example of the specification: ours are read, the others are told that they are of no use here.
#[test]
#[expect(clippy::disallowed_methods, reason = "the data's place is told by the environment")]
fn the_specifications_examples_are_read() {
    let Ok(data) = std::env::var("TRIMTAB_DATA") else {
        eprintln!("skipped: TRIMTAB_DATA is not set");
        return;
    };
    let mut taken = 0;
    for entry in std::fs::read_dir(std::path::Path::new(&data).join("cdevents")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let example: serde_json::Value = serde_json::from_str(&text).unwrap();
        let context = &example["context"];
        let (id, source, kind) = (&context["id"], &context["source"], &context["type"]);
        let body =
            format!(r#"{{"specversion":"1.0","id":{id},"source":{source},"type":{kind},"data":{text}}}"#);
        match read(&structured(), body.as_bytes()) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(
                    error.to_string().contains("says nothing of incidents or deployments"),
                    "{path:?}: {error}"
                );
            }
        }
    }
    assert_eq!(taken, 6);
}
