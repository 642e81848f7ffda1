//! `trimtab load`: open-loop HTTP load against an address on this machine.

use std::time::Duration;

use delivery::Problem;
use delivery::code::Code;
use delivery::exit::Exit;

use crate::load::Load;
use crate::output::Output;

/// Sends a steady rate of requests, however slow the answers are, and reports what came back.
///
///   trimtab load http://127.0.0.1:8080/ --rate 100 --seconds 30
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where to; only addresses on this machine.
    url: http::Uri,
    /// Requests a second, at most 20,000.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// For how long, at most 3,600.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub(crate) async fn run(args: &Args, output: Output) -> super::Result {
    let loopback = matches!(args.url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if !loopback || args.url.scheme_str() != Some("http") {
        let message = format!("{} is not an http address on this machine", args.url);
        return Err(vec![Problem::new(Code::ThingUnknown, message).hint("such as http://127.0.0.1:8080/")]);
    }
    let load = Load::start(args.url.clone(), args.rate.clamp(0.1, 20_000.0));
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(args.seconds.min(3_600))) => {}
        () = crate::interrupt::stopped() => {}
    }
    let report = load.stop();
    output.line(format!(
        "{} requests, {} failed, {} dropped; latency p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        report.requests, report.failures, report.dropped, report.p50_ms, report.p99_ms, report.max_ms
    ));
    output.json(&report);
    Ok(Exit::Success)
}
