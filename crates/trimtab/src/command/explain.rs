//! `trimtab explain`: the page of an error code, offline.

use delivery::code::Code;
use delivery::exit::Exit;
use serde::Serialize;

use crate::output::Output;

/// Explains an error code: what it means, why it happens, what to do.
///
///   trimtab explain TRM-0804
///   trimtab explain            lists all codes
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The code, as it was printed. Without one, all codes are listed.
    code: Option<String>,
}

#[derive(Debug, Serialize)]
struct Explanation {
    code: &'static str,
    title: &'static str,
    exit: u8,
    page: Option<&'static str>,
}

pub(crate) fn run(args: &Args, output: Output) -> super::Result {
    let Some(text) = &args.code else {
        for code in Code::ALL {
            output.line(format!("{code}  {}", code.title()));
            output.json(&Explanation {
                code: code.id(),
                title: code.title(),
                exit: code.exit() as u8,
                page: None,
            });
        }
        return Ok(Exit::Success);
    };
    let Some(code) = Code::parse(text) else {
        let known = Code::ALL.iter().map(|code| code.id());
        let message = format!("there is no code {text:?}");
        return Err(vec![
            crate::project::unknown(Code::CodeUnknown, message, text, known)
                .hint("list all with: trimtab explain"),
        ]);
    };
    let page = code.page();
    output.line(page);
    output.json(&Explanation {
        code: code.id(),
        title: code.title(),
        exit: code.exit() as u8,
        page: Some(page),
    });
    Ok(Exit::Success)
}
