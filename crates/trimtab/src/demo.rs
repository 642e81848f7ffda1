//! The demo's world: a small real service in a git repository of its own, and the changes that are made to it.
//!
//! Everything else in the demo is what every user has: the same manifest, tasks, gates, edges, planners and ledger.

use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};
use delivery::Problem;
use delivery::code::Code;

/// Who writes the changes.
pub(crate) const AUTHOR: &str = "dana@demo.example";
/// Who approves them: somebody else.
pub(crate) const APPROVER: &str = "ana@demo.example";

const SHOP: &str = include_str!("../assets/demo/src/shop.mjs");
const SERVER: &str = include_str!("../assets/demo/src/server.mjs");
const TEST: &str = include_str!("../assets/demo/test/shop.test.mjs");
const MANIFEST: &str = include_str!("../assets/demo/trimtab.toml");
const IGNORE: &str = include_str!("../assets/demo/gitignore");

/// What is wrong with the third release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One request in ten fails.
    Errors,
    /// Answers take much longer.
    Latency,
    /// The process ends as soon as it starts.
    Crash,
    /// The process never says that it is ready.
    NeverReady,
    /// Nothing is wrong, but no traffic comes: inconclusive, and not promoted.
    NoTraffic,
}

/// A change: a commit message, and a text that takes the place of another in a file.
pub(crate) struct Change {
    pub(crate) message: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

/// The second release, which is good.
pub(crate) const GOOD: Change = Change {
    message: "feat: tell the currency",
    file: "src/server.mjs",
    from: "items: cart.length, total: total(cart)",
    to: "items: cart.length, total: total(cart), currency: \"EUR\"",
};

impl Scenario {
    /// The third release.
    pub(crate) fn change(self) -> Change {
        match self {
            // The tests don't know of empty carts; one visitor in ten has one.
            Self::Errors => Change {
                message: "perf: start adding up with the first price",
                file: "src/shop.mjs",
                from: "return cart.reduce((sum, price) => sum + price * 100, 0);",
                to: "return cart.map((price) => price * 100).reduce((sum, price) => sum + price);",
            },
            Self::Latency => Change {
                message: "feat: ask the tax service for every cart",
                file: "src/server.mjs",
                from: "const cart = cartOf(visitor++);",
                to: "const cart = cartOf(visitor++);\n    await new Promise((resolve) => setTimeout(resolve, 60));",
            },
            Self::Crash => Change {
                message: "chore: read the port from the new setting",
                file: "src/server.mjs",
                from: "process.on(\"SIGTERM\"",
                to: "if (!process.env.SHOP_PORT) throw new Error(\"SHOP_PORT is not set\");\nprocess.on(\"SIGTERM\"",
            },
            Self::NeverReady => Change {
                message: "feat: check the tax service in the health check",
                file: "src/server.mjs",
                from: "response.end(\"ok\\n\");",
                to: "response.statusCode = 503;\n    response.end(\"the tax service does not answer\\n\");",
            },
            Self::NoTraffic => Change {
                message: "docs: explain the health check",
                file: "src/server.mjs",
                from: "// A small shop",
                to: "// The demo's small shop",
            },
        }
    }
}

/// The demo's repository.
pub(crate) struct Shop {
    root: Utf8PathBuf,
}

impl Shop {
    /// Makes the repository with its first commit.
    pub(crate) fn create(root: Utf8PathBuf) -> Result<Self, Problem> {
        let shop = Self { root };
        for (path, text) in [
            ("src/shop.mjs", SHOP),
            ("src/server.mjs", SERVER),
            ("test/shop.test.mjs", TEST),
            ("trimtab.toml", MANIFEST),
            (".gitignore", IGNORE),
        ] {
            shop.write(path, text)?;
        }
        shop.git(&["init", "--quiet", "--initial-branch=main"])?;
        shop.git(&["config", "user.name", "Dana Developer"])?;
        shop.git(&["config", "user.email", AUTHOR])?;
        shop.commit("feat: add up carts")?;
        Ok(shop)
    }

    /// Its folder.
    pub(crate) fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Makes a change and commits it.
    pub(crate) fn change(&self, change: &Change) -> Result<(), Problem> {
        let path = self.root.join(change.file);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| failed(&format!("{path} can't be read"), &error))?;
        debug_assert!(text.contains(change.from));
        self.write(change.file, &text.replace(change.from, change.to))?;
        self.commit(change.message)
    }

    fn write(&self, path: &str, text: &str) -> Result<(), Problem> {
        let path = self.root.join(path);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| failed(&format!("{path} can't be written"), &error))
    }

    fn commit(&self, message: &str) -> Result<(), Problem> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--no-gpg-sign", "--message", message])
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the demo writes a repository, which the repo crate never does"
    )]
    fn git(&self, arguments: &[&str]) -> Result<(), Problem> {
        let output = std::process::Command::new("git")
            .args(["-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Problem::new(Code::GitMissing, "git can't be started").because(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Problem::new(Code::GitFailed, format!("git {} failed: {}", arguments.join(" "), said.trim())))
    }
}

fn failed(message: &str, error: &std::io::Error) -> Problem {
    Problem::new(Code::DemoFailed, message).because(error)
}
