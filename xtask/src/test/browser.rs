//! Drives the dashboard of the built binary in a real, headless Chromium.
//!
//! The script is `crates/server/tests/browser.mjs`. It gets, as environment: `TRIMTAB_BIN` the binary, `CHROMIUM_BIN` the
//! browser, `NODE_PATH` a folder for `createRequire`, `PLAYWRIGHT_PATH` the folder of playwright-core, `AXE_PATH` the
//! script of axe-core. It passes when it ends with 0.

use super::tools;
use crate::place::Place;
use crate::shell::Call;

const SCRIPT: &str = "crates/server/tests/browser.mjs";

/// Builds the binary, finds or installs the browser, runs the script.
pub(super) fn run(place: &Place) -> Result<String, String> {
    let script = place.root.join(SCRIPT);
    if !script.is_file() {
        return Err(format!("{SCRIPT} is missing"));
    }
    let modules = tools::npm_packages(place)?.join("node_modules");
    let chromium = tools::chromium(place)?;
    Call::new(place, "cargo", &["build", "--package", "trimtab"]).run()?;
    Call::new(place, "node", &[script.as_str()])
        .with("TRIMTAB_BIN", place.target.join("debug/trimtab"))
        .with("CHROMIUM_BIN", chromium)
        .with("NODE_PATH", modules.as_str())
        .with("PLAYWRIGHT_PATH", modules.join("playwright-core"))
        .with("AXE_PATH", modules.join("axe-core/axe.min.js"))
        .run()?;
    Ok(String::new())
}
