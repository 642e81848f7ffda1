//! `cargo xtask tamper`: changes a ledger's file at random and sees that every change is found.
//!
//! The drill itself is the `tamper` example of the store, which knows the ledger's tables. Invariant: a change that was missed, or an
//! alarm about nothing, fails it.

use crate::place::Place;
use crate::shell::Call;

/// Changes in the quick form.
const QUICK: &str = "300";

/// `cargo xtask tamper [--rounds N] [--seed N]`.
pub(crate) fn run(place: &Place, options: &[&str]) -> Result<bool, String> {
    let fixed = ["run", "--quiet", "--release", "-p", "store", "--example", "tamper", "--"];
    Call::new(place, "cargo", &[&fixed, options].concat()).run().map(|()| true)
}

/// A few hundred changes for the test command. Gives a remark.
pub(crate) fn quick(place: &Place) -> Result<String, String> {
    let arguments = ["run", "--quiet", "-p", "store", "--example", "tamper", "--", "--rounds", QUICK];
    Call::new(place, "cargo", &arguments).run().map(|()| format!("{QUICK} tamperings"))
}
