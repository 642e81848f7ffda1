//! A crate imports only lower tiers. The table is the one that people read, in ARCHITECTURE.md; cargo says what is so.
//!
//! Dependencies that only tests use are free: tests may look from above.

use std::collections::BTreeMap;

use super::Complaint;
use crate::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";
/// The tier of the tools that nothing imports.
const DEV: u8 = u8::MAX;

/// Checks the table against cargo's packages, both ways.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let Some(page) = tree.file(PAGE) else {
        return vec![Complaint::new(PAGE, 1, "is missing: it holds the tier table")];
    };
    let table = table(&page.text);
    if table.is_empty() {
        return vec![Complaint::new(PAGE, 1, "has no table that begins with `| tier | crate |`")];
    }
    let tiers: BTreeMap<&str, u8> = table.iter().map(|(_, name, tier)| (name.as_str(), *tier)).collect();
    let mut complaints = Vec::new();
    for (line, name, _) in &table {
        if !tree.packages.iter().any(|package| package.name == *name) {
            complaints.push(Complaint::new(
                PAGE,
                *line,
                format!("`{name}` is in the tier table but not in the workspace"),
            ));
        }
    }
    for package in &tree.packages {
        let Some(&own) = tiers.get(package.name.as_str()) else {
            complaints.push(Complaint::new(PAGE, 1, format!("`{}` is not in the tier table", package.name)));
            continue;
        };
        for import in &package.imports {
            if tiers.get(import.as_str()).is_some_and(|&tier| tier >= own) {
                let message = format!("`{}` imports `{import}`, which is not in a lower tier", package.name);
                complaints.push(Complaint::new(format!("crates/{}/Cargo.toml", package.name), 1, message));
            }
        }
    }
    complaints
}

/// Line, crate and tier of each row.
fn table(page: &str) -> Vec<(usize, String, u8)> {
    let lines = page.lines().enumerate().skip_while(|(_, line)| !line.starts_with("| tier | crate |"));
    lines
        .skip(2)
        .take_while(|(_, line)| line.starts_with('|'))
        .filter_map(|(index, line)| row(index + 1, line))
        .collect()
}

fn row(line: usize, text: &str) -> Option<(usize, String, u8)> {
    let mut cells = text.trim_matches('|').split('|').map(str::trim);
    let tier = cells.next()?;
    let name = cells.next()?.trim_matches('`').to_owned();
    let tier = if tier == "dev" { DEV } else { tier.parse().ok()? };
    Some((line, name, tier))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use crate::tree::Package;

    const TABLE: &str = "# A\n\n| tier | crate | for |\n|---|---|---|\n| 0 | `delivery` | a |\n| 2 | `gate` | b |\n| 2 | `rollout` | c |\n| dev | `xtask` | d |\n";

    fn tree(packages: &[(&str, &[&str])]) -> Tree {
        let package = |(name, imports): &(&str, &[&str])| Package {
            name: (*name).into(),
            imports: imports.iter().map(|&import| import.into()).collect(),
        };
        Tree { packages: packages.iter().map(package).collect(), ..Tree::of([(PAGE, TABLE)]) }
    }

    #[test]
    fn a_house_in_order_passes() {
        let packages: &[(&str, &[&str])] = &[
            ("delivery", &[]),
            ("gate", &["delivery"]),
            ("rollout", &["delivery"]),
            ("xtask", &["delivery", "gate"]),
        ];
        assert_eq!(check(&tree(packages)), []);
    }

    #[test]
    fn sideways_upward_and_dev_imports_are_found() {
        let packages: &[(&str, &[&str])] =
            &[("delivery", &["gate"]), ("gate", &["rollout"]), ("rollout", &["xtask"]), ("xtask", &[])];
        assert_eq!(check(&tree(packages)).len(), 3);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let found = check(&tree(&[("delivery", &[]), ("gate", &[]), ("xtask", &[]), ("stray", &[])]));
        let messages: Vec<_> = found.iter().map(|complaint| complaint.message.as_str()).collect();
        assert_eq!(
            messages,
            ["`rollout` is in the tier table but not in the workspace", "`stray` is not in the tier table"]
        );
        assert_eq!(check(&Tree::of([(PAGE, "no table\n")])).len(), 1);
    }

    #[test]
    fn this_workspace_keeps_its_tiers() {
        let tree = Tree::load(&Place::find().unwrap().root).unwrap();
        assert_eq!(check(&tree), []);
        assert!(tree.packages.len() > 10);
    }
}
