//! HTTP API, live updates and the dashboard of one project, over its ledger.
//!
//! [`start`] listens on this machine only, folds the ledger once and follows it from there; every page, every answer of
//! the API and every live stream is made from that fold. What a page asks to be done goes through [`Operations`], which the
//! binary implements with the code of its commands. Reports from outside are the one thing that is recorded without
//! them (`intake`). Left out on purpose: accounts and roles, and controllers.
//!
//! Invariant: nothing changes unless `guard` let the request through, which every route names a policy for (`routes`).

mod admission;
mod api;
mod app;
mod assets;
mod bulk;
mod cdevents;
mod chart;
mod chronicle;
mod guard;
mod icon;
mod intake;
mod limits;
mod listen;
mod live;
mod operations;
mod pages;
mod refusal;
mod routes;
mod stall;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use delivery::code::Code;
use delivery::{Clock, Problem};
use tokio::sync::watch;

use app::App;
use bulk::Bulk;
use intake::Intake;
pub use limits::Limits;
pub use operations::{Approval, Operations, Rules};

/// How long answers under way may take once the server is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What is served, and how.
pub struct Config {
    /// The project's name.
    pub project: String,
    /// Where to listen; only an address of this machine.
    pub listen: SocketAddr,
    /// The record that everything is read from.
    pub ledger: store::Ledger,
    /// What a request that changes something must carry.
    pub token: String,
    /// What a report from outside must carry. Good for nothing else.
    pub report_token: String,
    /// Where it is kept which reports are on record. Made anew when it is gone.
    pub recall: Utf8PathBuf,
    /// Who acts when a page asks for something: an e-mail address.
    pub identity: String,
    /// Does what pages ask for.
    pub operations: Arc<dyn Operations>,
    /// What it takes on at once.
    pub limits: Limits,
    /// The present.
    pub clock: Arc<dyn Clock>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not of this machine.
    #[error("{address} can't be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Other machines could reach the address.
    #[error("{address} is not an address of this machine alone")]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// The ledger can't be read.
    #[error("the ledger can't be read")]
    Ledger(#[from] store::Error),
}

impl Error {
    /// The problem as a person is told it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Listen { source, .. } => Problem::new(Code::AddressTaken, self.to_string()).because(source),
            Self::NotLocal { address } => Problem::new(Code::AddressNotLocal, self.to_string())
                .hint(format!("listen on 127.0.0.1:{}", address.port())),
            Self::Ledger(error) => error.problem(),
        }
    }
}

/// A server at work.
pub struct Running {
    address: SocketAddr,
    url: String,
    stop: watch::Sender<bool>,
    serve: tokio::task::JoinHandle<()>,
    follow: tokio::task::JoinHandle<()>,
    intake: tokio::task::JoinHandle<()>,
    bulk: Arc<Bulk>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that signs a browser in, under the host name that only this server's own pages have.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it: live streams end at once, other answers may finish within two seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let mut serve = self.serve;
        if tokio::time::timeout(STOP_WITHIN, &mut serve).await.is_err() {
            serve.abort();
            let _ = serve.await;
        }
        let _ = self.follow.await;
        let _ = self.intake.await;
        drop(self.bulk);
    }
}

/// Starts serving. Folds the whole ledger before it returns.
pub async fn start(config: Config) -> Result<Running, Error> {
    let asked = config.listen;
    if !asked.ip().is_loopback() {
        return Err(Error::NotLocal { address: asked });
    }
    let problem = |source| Error::Listen { address: asked, source };
    let listener = tokio::net::TcpListener::bind(asked).await.map_err(problem)?;
    let address = listener.local_addr().map_err(problem)?;
    let bulk = Arc::new(Bulk::start().map_err(problem)?);
    let (stop, stopped) = watch::channel(false);
    let limits = config.limits;
    let (intake, waiting) = Intake::new(limits.reports_waiting);
    let opened = tokio::task::spawn_blocking({
        let stopped = stopped.clone();
        move || App::open(config, address, intake, stopped)
    });
    let app = Arc::new(opened.await.map_err(|error| problem(std::io::Error::other(error)))??);
    let url = app.guard.url();
    let follow = tokio::spawn(app::follow(app.clone()));
    let recording = intake::run(app.clone(), waiting);
    let intake = match bulk.handle() {
        Some(bulk) => bulk.spawn(recording),
        None => tokio::spawn(recording),
    };
    let router = routes::router(app);
    let serve = tokio::spawn(listen::serve(listener, router, limits, stopped, bulk.clone()));
    Ok(Running { address, url, stop, serve, follow, intake, bulk })
}
