//! The environment that tasks get: a short list of names from ours, what the manifest declares, and nothing else.
//!
//! Pure. The list holds what tools need to find themselves, their caches, the user, the language and the way to the network; it
//! holds nothing that commonly carries a secret. These variables are not part of a task's key, since they differ between
//! machines that should share results; a task whose result depends on one declares or passes it.
//! Invariant: a variable that is neither in the list nor in the manifest never reaches a task.

use std::collections::BTreeMap;

use manifest::Task;

/// Names that are taken over from Trimtab's own environment where they are set.
pub const BASE_VARIABLES: &[&str] = &[
    // The user and the system.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TMP",
    "TEMP",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    // The way to the network.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    // Homes and caches of tool chains.
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "MISE_DATA_DIR",
    "SDKMAN_DIR",
    "NIX_PATH",
    "NIX_PROFILES",
    "LD_LIBRARY_PATH",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SCCACHE_DIR",
    "CCACHE_DIR",
    "GOROOT",
    "GOPATH",
    "GOCACHE",
    "GOMODCACHE",
    "GOPROXY",
    "GOTOOLCHAIN",
    "JAVA_HOME",
    "JDK_HOME",
    "M2_HOME",
    "MAVEN_HOME",
    "GRADLE_HOME",
    "GRADLE_USER_HOME",
    "ANDROID_HOME",
    "ANDROID_SDK_ROOT",
    "KOTLIN_HOME",
    "NVM_DIR",
    "NVM_BIN",
    "FNM_DIR",
    "VOLTA_HOME",
    "COREPACK_HOME",
    "PNPM_HOME",
    "BUN_INSTALL",
    "DENO_DIR",
    "PYENV_ROOT",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PIPX_HOME",
    "PIP_CACHE_DIR",
    "UV_CACHE_DIR",
    "POETRY_HOME",
    "RBENV_ROOT",
    "GEM_HOME",
    "GEM_PATH",
    "BUNDLE_PATH",
    "DOTNET_ROOT",
    "NUGET_PACKAGES",
    "COMPOSER_HOME",
    "COMPOSER_CACHE_DIR",
];

/// What is set in every task.
const FIXED: [(&str, &str); 2] = [("TERM", "dumb"), ("TRIMTAB", "1")];

/// The base that all tasks of a run share.
pub(crate) fn base(lookup: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let taken = BASE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), lookup(name)?)));
    taken.chain(FIXED.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

/// The values of the variables that the task passes, by name; `None` for one that is not set.
pub(crate) fn passed(
    task: &Task,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<String, Option<String>> {
    task.pass.iter().map(|name| (name.clone(), lookup(name))).collect()
}

/// All of one task's variables: what it declares wins over what it passes, and that over the base.
pub(crate) fn of_task(
    base: &BTreeMap<String, String>,
    task: &Task,
    passed: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, String> {
    let mut all = base.clone();
    all.extend(passed.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))));
    all.extend(task.environment.clone());
    all
}
