//! One connection, used from code that is not asynchronous.
//!
//! The ledger's calls block their thread for about one commit, and some of them come from within a runtime, where nothing
//! may block on a future. So connections live on a small runtime of their own, and a call hands its future over and waits.
//!
//! Invariant: a call ends after [`ANSWER_TIMEOUT`] at the latest, whatever the server or the network does.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::{Handle, Runtime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};

use super::address::Address;
use super::failure::meaning;
use crate::error::Error;

/// The longest wait for an answer. Longer than the server's own limits, so that the server's word comes first.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that is restarting is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait between two attempts to connect.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// A value for a statement, with its type.
pub(crate) type Value = (Box<dyn ToSql + Sync + Send>, Type);

/// The runtime that connections live on.
#[derive(Debug)]
pub(crate) struct Background {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Background {
    /// Starts its thread.
    pub(crate) fn start(place: &Utf8Path) -> Result<Arc<Self>, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgresql")
            .enable_all()
            .build()
            .map_err(|error| Error::from_io(place, &error))?;
        Ok(Arc::new(Self { runtime: Some(runtime) }))
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }

    /// Runs the future there and waits for it. `None` when the runtime is gone.
    fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = sync_channel(1);
        self.handle()?.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver.recv().ok()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not waited for: the last owner may be dropped within another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    client: Arc<Client>,
    background: Arc<Background>,
    place: Utf8PathBuf,
}

impl Link {
    /// Connects and runs `settings`, waiting for a server that is starting or restarting. [`Error::Unavailable`] when it did not
    /// come.
    pub(crate) fn open(
        address: &Address,
        background: &Arc<Background>,
        settings: &'static str,
    ) -> Result<Self, Error> {
        let whither = address.clone();
        let connected = background.wait(async move { connect(&whither, settings).await });
        let client = connected.unwrap_or(Err(Error::Stopped))?;
        Ok(Self {
            client: Arc::new(client),
            background: Arc::clone(background),
            place: address.name().to_owned(),
        })
    }

    /// [`Link::open`] for code that runs on the background itself. Tries once.
    pub(crate) async fn open_there(
        address: &Address,
        background: &Arc<Background>,
        settings: &'static str,
    ) -> Result<Self, Error> {
        let attempt = attempt(address, settings);
        let client = tokio::time::timeout(ANSWER_TIMEOUT, attempt)
            .await
            .unwrap_or_else(|_| Err(silent(address.name())))?;
        Ok(Self {
            client: Arc::new(client),
            background: Arc::clone(background),
            place: address.name().to_owned(),
        })
    }

    /// Whether the connection is known to be gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without values and without answers.
    pub(crate) fn run(&self, statements: &'static str) -> Result<(), Error> {
        let client = Arc::clone(&self.client);
        self.call(async move { client.batch_execute(statements).await })
    }

    /// Runs a statement and returns its rows.
    pub(crate) fn query(&self, statement: &'static str, values: Vec<Value>) -> Result<Vec<Row>, Error> {
        let client = Arc::clone(&self.client);
        self.call(async move { query(&client, statement, &values).await })
    }

    /// [`Link::query`] for code that runs on the background itself.
    pub(crate) async fn query_there(
        &self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        answer(&self.place, query(&self.client, statement, &values)).await
    }

    fn call<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.place.clone();
        self.background.wait(async move { answer(&place, future).await }).unwrap_or(Err(Error::Stopped))
    }
}

async fn query(
    client: &Client,
    statement: &str,
    values: &[Value],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let values: Vec<(&(dyn ToSql + Sync), Type)> =
        values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
    client.query_typed(statement, &values).await
}

async fn answer<T>(
    place: &Utf8Path,
    future: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, future).await {
        Ok(answer) => answer.map_err(|error| meaning(place, &error)),
        Err(_) => Err(silent(place)),
    }
}

fn silent(place: &Utf8Path) -> Error {
    let detail = format!("the server did not answer within {} s", ANSWER_TIMEOUT.as_secs());
    Error::Interrupted { path: place.to_owned(), detail }
}

async fn attempt(address: &Address, settings: &str) -> Result<Client, Error> {
    let (place, config) = (address.name(), address.config());
    let unavailable = |detail| Error::Unavailable { path: place.to_owned(), detail };
    let failed = |error: tokio_postgres::Error| match address.encryption().complaint(&error) {
        Some(detail) => unavailable(detail),
        None => meaning(place, &error),
    };
    // A connection ends with its client.
    let client = match address.encryption().connector().map_err(unavailable)? {
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            Handle::current().spawn(connection);
            client
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            Handle::current().spawn(connection);
            client
        }
    };
    client.batch_execute(settings).await.map_err(|error| meaning(place, &error))?;
    Ok(client)
}

async fn connect(address: &Address, settings: &str) -> Result<Client, Error> {
    let start = tokio::time::Instant::now();
    loop {
        let tried = tokio::time::timeout(ANSWER_TIMEOUT, attempt(address, settings)).await;
        match tried.unwrap_or_else(|_| Err(silent(address.name()))) {
            Err(Error::Interrupted { .. }) if start.elapsed() < PATIENCE => {
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            Err(Error::Interrupted { path, detail }) => return Err(Error::Unavailable { path, detail }),
            other => return other,
        }
    }
}
