//! The control API's server: HTTP/1.1 and JSON on the unix socket.
//!
//! The socket's folder admits this user alone, so whoever connects may command. Commands go to the desk in the order of their
//! arrival and are carried to their end even if the caller goes away; everything else is answered at once. Invariant: no body
//! above `REQUEST_BODY_BYTES_MAX` is taken.

use std::convert::Infallible;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use camino::Utf8Path;
use delivery::effect::Outcome;
use delivery::limits::REQUEST_BODY_BYTES_MAX;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::host::Host;
use super::wire::{ApplyRequest, Failure, LowerRequest, RenewRequest};
use super::{Error, SOCKET_PATH_BYTES_MAX};

/// How often the socket's file is looked for.
const SOCKET_LOOK: Duration = Duration::from_secs(1);

/// A command on its way to the desk.
pub(super) struct Job {
    pub(super) request: ApplyRequest,
    pub(super) answer: oneshot::Sender<Result<Outcome, String>>,
}

/// What a request can reach.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) host: Arc<Host>,
    pub(super) desk: mpsc::Sender<Job>,
    pub(super) stop: watch::Sender<bool>,
}

/// Binds the control socket in a folder that only this user may enter; a dead edge's socket is replaced. The caller holds the
/// state directory's lock, so nobody living has it.
pub(crate) fn bind(path: &Utf8Path) -> Result<UnixListener, Error> {
    let refuse = |reason: String| Error::Socket { socket: path.to_owned(), reason };
    if path.as_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(refuse(format!("it is longer than {SOCKET_PATH_BYTES_MAX} bytes")));
    }
    let folder = path.parent().ok_or_else(|| refuse("it has no folder".into()))?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(Error::file("create", folder))?;
    let metadata = std::fs::symlink_metadata(folder).map_err(Error::file("read", folder))?;
    let own = rustix::process::getuid().as_raw();
    if !metadata.is_dir() || metadata.uid() != own || metadata.mode() & 0o077 != 0 {
        return Err(refuse(format!("other users may enter {folder}; it must be ours, with mode 0700")));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(Error::file("listen on", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(Error::file("protect", path))?;
    Ok(listener)
}

/// Serves for ever.
pub(super) async fn serve(listener: UnixListener, reach: Reach) {
    let path = reach.host.config.control_socket.clone();
    serve_socket(listener, &path, move |request| answer(request, reach.clone())).await;
}

/// Answers requests for ever. A socket whose file was removed (cleaners of temporary folders do that) is bound again.
pub(crate) async fn serve_socket<F>(
    mut listener: UnixListener,
    path: &Utf8Path,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut look = tokio::time::interval(SOCKET_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = look.tick() => {
                if !path.exists() && let Ok(again) = bind(path) {
                    listener = again;
                }
                continue;
            }
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: give others time to close some.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // A caller that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// An answer on a control socket.
pub(crate) type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, reach: Reach) -> Answer {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/v1/status") => json(StatusCode::OK, &reach.host.status()),
        (&Method::GET, "/v1/sample") => match reach.host.sample().await {
            Ok(sample) => json(StatusCode::OK, &sample),
            Err(problem) => failure(StatusCode::SERVICE_UNAVAILABLE, problem),
        },
        (&Method::POST, "/v1/apply") => match take(body).await {
            Ok(request) => apply(request, &reach).await,
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/renew") => match take(body).await {
            Ok(request) => renew(&request, &reach).await,
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/lower") => match take::<LowerRequest>(body).await {
            Ok(request) => lower(request, &reach.host).await,
            Err(refusal) => refusal,
        },
        (&Method::POST, "/v1/shutdown") => {
            reach.stop.send_replace(true);
            json(StatusCode::OK, &serde_json::Value::Null)
        }
        (method, path) => failure(StatusCode::NOT_FOUND, format!("there is no {method} {path}")),
    }
}

async fn lower(request: LowerRequest, host: &Arc<Host>) -> Answer {
    let lowered = host.lower(request.weight, request.requested);
    let saving = Arc::clone(host);
    // What was decided is in force or on its way; the record must not hold the answer up.
    tokio::spawn(async move { saving.save().await });
    match host.front.settled().await {
        Ok(()) => json(StatusCode::OK, &lowered),
        Err(problem) => failure(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}; it is tried again")),
    }
}

async fn apply(request: ApplyRequest, reach: &Reach) -> Answer {
    let (answer, outcome) = oneshot::channel();
    let ending = || failure(StatusCode::SERVICE_UNAVAILABLE, "the edge is shutting down".to_owned());
    if reach.desk.send(Job { request, answer }).await.is_err() {
        return ending();
    }
    match outcome.await {
        Ok(Ok(outcome)) => json(StatusCode::OK, &outcome),
        Ok(Err(problem)) => failure(StatusCode::SERVICE_UNAVAILABLE, problem),
        Err(_) => ending(),
    }
}

async fn renew(request: &RenewRequest, reach: &Reach) -> Answer {
    if let Err(problem) = reach.host.renew_at_guard(&request.rollout, request.epoch).await {
        return failure(StatusCode::SERVICE_UNAVAILABLE, problem);
    }
    let (renewal, must_save) = reach.host.renew(&request.rollout, request.epoch);
    if must_save && let Err(problem) = reach.host.save().await {
        return failure(StatusCode::SERVICE_UNAVAILABLE, problem);
    }
    json(StatusCode::OK, &renewal)
}

/// A request's body.
pub(crate) async fn take<T: DeserializeOwned>(body: Incoming) -> Result<T, Answer> {
    let bytes = Limited::new(body, REQUEST_BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| failure(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| failure(StatusCode::BAD_REQUEST, error.to_string()))
}

/// An answer with a body.
pub(crate) fn json<T: Serialize>(status: StatusCode, answer: &T) -> Answer {
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// An answer that says why not.
pub(crate) fn failure(status: StatusCode, message: String) -> Answer {
    json(status, &Failure { message })
}
