//! Any text: no panic, and every span lies within the text on character boundaries.

use delivery::problem::Problem;
use proptest::prelude::*;

use super::{FULL, parse};

fn spans_are_sound(text: &str, result: &Result<crate::Manifest, Vec<Problem>>) {
    let Err(problems) = result else { return };
    assert!(!problems.is_empty() && problems.len() <= crate::issue::PROBLEMS_MAX + 1);
    for problem in problems {
        assert!(!problem.message.is_empty());
        let Some(snippet) = &problem.snippet else { continue };
        assert_eq!(snippet.text, text);
        assert!(
            snippet.text.get(snippet.span.clone()).is_some(),
            "{:?} of {} bytes",
            snippet.span,
            text.len()
        );
    }
}

/// Pieces of a manifest in any order: nearer to valid than arbitrary text.
const PIECES: &[&str] = &[
    "version = 1\n",
    "project = \"a\"\n",
    "[task.a]\n",
    "[task.b]\n",
    "command = [\"x\"]\n",
    "needs = [\"a\", \"b\"]\n",
    "[[environment]]\n",
    "name = \"e\"\n",
    "listen = \"127.0.0.1:1\"\n",
    "strategy = \"canary\"\n",
    "strategy = \"rolling\"\n",
    "canary = { steps = [{ weight = 5 }, { weight = 1 }] }\n",
    "canary.steps = []\n",
    "canary = 1\n",
    "[gate.g]\n",
    "tasks = [\"a\"]\n",
    "[service.s]\n",
    "[service]\n",
    "[[service]]\n",
    "artifact = [\"*\"]\n",
    "start = []\n",
    "freeze = [{}, 1]\n",
    "kpi = [{ min = inf }]\n",
    "analysis = { interval = \"1d\" }\n",
    "approval = {}\n",
    "\u{e4} = \"\u{1F600}\"\n",
    "\"\u{1F600}\" = 1\n",
    "[[environment.canary.steps]]\n",
    "weight = 1e3\n",
    "ready.path = \"\"\n",
    "environment = { A = \"\\u0000\" }\n",
    "[environment]\n",
    "[task.a.environment]\n",
    "=",
    "\"",
    "[",
    "]\n",
    "{",
    "}",
    "\r",
    "'''",
    "2026-01-01",
    "task = [",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn arbitrary_text(text in "\\PC{0,512}|[\\x00-\\x7f]{0,2048}") {
        spans_are_sound(&text, &parse(&text));
    }

    #[test]
    fn pieces(indices in prop::collection::vec(0..PIECES.len(), 0..24)) {
        let text: String = indices.iter().map(|index| PIECES[*index]).collect();
        spans_are_sound(&text, &parse(&text));
    }

    #[test]
    fn mutated_manifests(changes in prop::collection::vec((0..FULL.len(), 0_usize..12, "\\PC{0,6}"), 1..6)) {
        let mut text = FULL.to_owned();
        for (at, length, new) in changes {
            let start = text.floor_char_boundary(at.min(text.len()));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &new);
        }
        spans_are_sound(&text, &parse(&text));
    }

    #[test]
    fn durations_are_read_back(ms in 0_u64..100_000_000_000) {
        prop_assert_eq!(crate::format::duration_ms(&crate::format::shortest(ms)), Ok(ms));
    }
}
