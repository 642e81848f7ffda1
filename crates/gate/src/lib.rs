//! Task results and reports become findings; gates turn findings into verdicts with reasons.
