//! The digest that an approval binds to: if a rule of the environment or its target changes, the approval is void.
//!
//! The target is where the environment listens. It is in this digest, and not in the approval's event beside it, because then
//! whatever binds the rules binds the target: approvals, plans, and what comes later.
//!
//! Invariant: equal rules give equal digests on every machine and in every build, however serde_json orders its maps.

use delivery::Digest;
use delivery::environment::Environment;
use serde_json::{Value, json};

/// SHA-256 over canonical JSON (keys in byte order, no blanks, numbers as serde_json writes them) of the rules that approvals
/// bind to: strategy with its analysis, gates, approval, freezes, KPIs and the rollback objective, with the environment's name
/// and address.
pub fn policy_digest(environment: &Environment) -> Digest {
    let rules = json!({
        "version": 1,
        "environment": environment.name,
        "listen": environment.listen,
        "strategy": environment.strategy,
        "gates": environment.gates,
        "approval": environment.approval,
        "freezes": environment.freezes,
        "kpis": environment.kpis,
        "rollback-objective-ms": environment.rollback_objective_ms,
    });
    let mut text = String::new();
    write_canonical(&rules, &mut text);
    Digest::of(text.as_bytes())
}

/// The depth is that of the vocabulary's own types, so recursion is bounded.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(name.clone()).to_string());
                text.push(':');
                write_canonical(member, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}
