//! Where we are: the checkout, the folder for build results, the folder for what is installed.
//!
//! The only module of xtask that reads the environment.

use camino::{Utf8Path, Utf8PathBuf};

/// The folders that the commands work with. All absolute.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The checkout.
    pub(crate) root: Utf8PathBuf,
    /// Cargo's target folder for the commands that we start: `CARGO_TARGET_DIR`, or one that every clone of this user
    /// shares, so that a clean clone does not rebuild the world.
    pub(crate) target: Utf8PathBuf,
    /// What we install that is not the system's and not cargo's. Never inside the checkout.
    pub(crate) cache: Utf8PathBuf,
    /// The folders that programs are looked up in.
    pub(crate) path: Vec<Utf8PathBuf>,
}

impl Place {
    /// Finds the checkout from the working directory upwards.
    pub(crate) fn find() -> Result<Self, String> {
        let here = std::env::current_dir().map_err(|error| format!("no working directory: {error}"))?;
        let here =
            Utf8PathBuf::from_path_buf(here).map_err(|path| format!("{} is not UTF-8", path.display()))?;
        let root = checkout(&here).ok_or("run this inside a checkout of Trimtab")?;
        let cache = match (variable("XDG_CACHE_HOME"), variable("HOME")) {
            (Some(cache), _) => Utf8PathBuf::from(cache).join("trimtab"),
            (None, Some(home)) => Utf8PathBuf::from(home).join(".cache/trimtab"),
            (None, None) => return Err("neither XDG_CACHE_HOME nor HOME is set".into()),
        };
        let target = variable("CARGO_TARGET_DIR").map_or_else(|| cache.join("target"), |set| root.join(set));
        let path = variable("PATH").unwrap_or_default().split(':').map(Utf8PathBuf::from).collect();
        Ok(Self { root, target, cache, path })
    }

    /// Where the program of one of these names is, in the order given.
    pub(crate) fn program(&self, names: &[&str]) -> Option<Utf8PathBuf> {
        names
            .iter()
            .find_map(|name| self.path.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
    }
}

/// The nearest folder upwards that holds this workspace.
fn checkout(from: &Utf8Path) -> Option<Utf8PathBuf> {
    from.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file()).map(Utf8Path::to_path_buf)
}

#[expect(clippy::disallowed_methods, reason = "this module owns xtask's environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_found_from_below_and_not_from_outside() {
        let place = Place::find().unwrap();
        assert_eq!(checkout(&place.root.join("xtask/src")), Some(place.root.clone()));
        assert_eq!(checkout(Utf8Path::new("/")), None);
        assert!(!place.cache.starts_with(&place.root));
    }

    #[test]
    fn programs_are_found_by_the_first_name_that_exists() {
        let place = Place::find().unwrap();
        assert!(place.program(&["no-such-program", "sh"]).is_some_and(|file| file.ends_with("sh")));
        assert_eq!(place.program(&["no-such-program"]), None);
    }
}
