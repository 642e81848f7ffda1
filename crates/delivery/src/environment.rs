//! An environment and the rules of entering it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{EnvironmentName, GateName, ServiceName};
use crate::strategy::Strategy;

/// One place that releases are promoted through. Order in the manifest is the order of promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// Where its splitters listen.
    pub listen: Listen,
    /// How releases take over there.
    pub strategy: Strategy,
    /// Gates that must have passed for the release.
    pub gates: Vec<GateName>,
    /// Who must approve.
    pub approval: ApprovalRule,
    /// When nothing may be promoted.
    pub freezes: Vec<Freeze>,
    /// What must be measured for the release to enter.
    pub kpis: Vec<KpiRule>,
    /// The longest that taking a release back may take, in milliseconds. Reported against, and alarmed on.
    pub rollback_objective_ms: u64,
}

/// Where an environment's splitters listen, `address:port` each; port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "at")]
pub enum Listen {
    /// There is one service.
    One(String),
    /// Each service has its own.
    Each(BTreeMap<ServiceName, String>),
}

impl Listen {
    /// Where the service's splitter listens; `None` for a service that has no address here.
    pub fn of(&self, service: &ServiceName) -> Option<&str> {
        match self {
            Self::One(address) => Some(address),
            Self::Each(addresses) => addresses.get(service).map(String::as_str),
        }
    }
}

impl From<&str> for Listen {
    fn from(address: &str) -> Self {
        Self::One(address.to_owned())
    }
}

/// Who must approve a promotion. The release's authors never count (requirement D1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// How many different people.
    pub required: u32,
    /// E-mail addresses that may approve; empty means anyone but the authors.
    pub approvers: Vec<String>,
}

/// A weekly or dated window in which promotion is refused. Times are UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// What it is for, shown to who is blocked.
    pub reason: String,
    /// When it holds.
    pub window: FreezeWindow,
}

/// When a freeze holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FreezeWindow {
    /// From one instant to another.
    Dates {
        /// First frozen instant.
        from: jiff::Timestamp,
        /// First instant that is free again.
        until: jiff::Timestamp,
    },
    /// The same hours of each week. `from` > `until` wraps past the week's end.
    Weekly {
        /// Minutes since Monday 00:00 UTC, 0..10,080.
        from_minute: u32,
        /// Minutes since Monday 00:00 UTC, 0..10,080.
        until_minute: u32,
    },
}

/// What is measured for a KPI rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kpi {
    /// Minutes that this release has run in the environment before this one.
    SoakMinutes,
    /// Share of this service's last 20 promotions into the environment that were taken back, in percent.
    ChangeFailurePercent,
}

/// A threshold that must hold. Missing data is never taken for a zero: without a soak time, because the release does not serve in
/// the environment before, the rule does not hold; the share of failures is asked only once a promotion has ended there, so that
/// the first can enter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KpiRule {
    /// What is measured.
    pub kpi: Kpi,
    /// Must be at least this, where given.
    pub min: Option<f64>,
    /// Must be at most this, where given.
    pub max: Option<f64>,
}
