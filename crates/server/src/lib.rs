//! HTTP API, identity, live updates and the dashboard.
