//! Manifest and history to a plan, and the plan to a run: task graph, cache, execution.
