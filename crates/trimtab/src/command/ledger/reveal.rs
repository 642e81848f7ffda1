//! `trimtab ledger reveal`: shows somebody else who is behind a pseudonym, so that they need not take our word for it.

use delivery::Problem;
use delivery::code::Code;
use delivery::exit::Exit;
use serde::Serialize;
use store::Revealed;

use super::reader;
use crate::command;
use crate::output::Output;
use crate::project::{self, Project};

/// See the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The person, by pseudonym or by e-mail address.
    person: String,
}

#[derive(Debug, Serialize)]
struct Told {
    version: u32,
    pseudonym: String,
    salt: String,
    email: String,
}

pub(super) fn run(args: &Args, project: &Project, output: Output) -> command::Result {
    let person = reader(project)?.ledger().person(&args.person).map_err(project::problems)?;
    let Revealed { pseudonym, salt, email } = person.ok_or_else(|| vec![unknown(&args.person)])?;
    let salt = hex::encode(salt);
    output.line(format!("{pseudonym} {salt} {email}"));
    output.json(&Told { version: 1, pseudonym, salt, email });
    Ok(Exit::Success)
}

/// Nobody of that name is on record.
pub(super) fn unknown(person: &str) -> Problem {
    Problem::new(Code::ThingUnknown, format!("nobody known as {person:?} is on record here"))
        .hint("who was erased is not known any longer; 'trimtab ledger show' names those who are")
}
