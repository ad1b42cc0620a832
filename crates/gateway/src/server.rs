//! The server: routes on a listener, until shutdown. Running requests may end; then streams are ended and all is settled.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use accounting::Clock;
use axum::routing::{get, post};
use axum::{BoxError, Router, middleware};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use metering::{Meter, WayIn};
use metrics_exporter_prometheus::PrometheusHandle;
use storage::Database;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Listener;
use crate::bounds::{Bounds, Limits};
use crate::config::GatewayConfig;
use crate::connections::{Connection, Connections, Place};
use crate::errands::Errands;
use crate::hosts;
use crate::http2;
use crate::identity::Identity;
use crate::keys::Keys;
use crate::listener;
use crate::pages;
use crate::rarely::Rarely;
use crate::refused::RefusalLog;
use crate::routes::{
    chat_completions, completions, embeddings, health, ids, local, messages, metrics as metrics_route,
    models, responses, unknown,
};
use crate::servers::Servers;
use crate::watched::{Answering, Watched};

/// A client has so long to send the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// After all is settled, connections have so long to pass on the last bytes.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// After a failed `accept` (too many open files), the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What all routes share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
pub struct Inner {
    pub(crate) meter: Meter,
    pub(crate) keys: Keys,
    pub(crate) identity: Identity,
    pub(crate) bounds: Bounds,
    pub(crate) servers: Servers,
    pub(crate) errands: Errands,
    pub(crate) database: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: GatewayConfig,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) refusals: RefusalLog,
}

impl std::ops::Deref for Gateway {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Gateway {
    /// A gateway in front of that meter.
    pub fn new(
        config: GatewayConfig,
        meter: Meter,
        database: &Database,
        clock: Arc<dyn Clock>,
        metrics: Option<PrometheusHandle>,
    ) -> Self {
        let keys = Keys::new(config.key.as_ref(), database.clone(), Arc::clone(&clock));
        let identity = Identity::new(
            config.headers.clone(),
            &config.jwt_secrets,
            config.anonymous_user.clone(),
            Arc::clone(&clock),
        );
        let bounds = Bounds::new(Limits {
            body: config.body_limit,
            in_flight: config.bytes_in_flight,
            per_user: config.bytes_per_user,
            requests_per_user: config.requests_per_user,
            // By then, whoever takes nothing of theirs has been ended.
            patience: 2 * config.client_idle,
        });
        let (servers, errands) = (Servers::new(config.private, config.network.clone()), Errands::default());
        let database = database.clone();
        Self(Arc::new(Inner {
            meter,
            keys,
            identity,
            bounds,
            servers,
            errands,
            database,
            clock,
            config,
            metrics,
            refusals: RefusalLog::default(),
        }))
    }

    /// Whom users may ask for more credits.
    pub(crate) fn contact(&self) -> Option<&str> {
        self.config.contact.as_deref()
    }

    /// Whether it serves one process of Open WebUI's alone.
    pub(crate) fn is_private(&self) -> bool {
        self.config.private
    }

    /// The way in that the ledger notes.
    pub(crate) fn way_in(&self) -> WayIn {
        if self.is_private() { WayIn::Pipe } else { WayIn::Gateway }
    }

    fn router(&self) -> Router {
        let mut routes = Router::new()
            .route("/v1/chat/completions", post(chat_completions::handler))
            .route("/v1/completions", post(completions::handler))
            .route("/v1/responses", post(responses::handler))
            .route("/v1/responses/input_tokens", post(responses::count_tokens))
            .route("/v1/messages", post(messages::handler))
            .route("/v1/messages/count_tokens", post(messages::count_tokens))
            .route("/v1/embeddings", post(embeddings::handler))
            .route("/v1/models", get(models::handler))
            .route("/v1/models/{*id}", get(models::one))
            .fallback(unknown::not_found)
            .method_not_allowed_fallback(unknown::not_allowed);
        if !self.config.allowed_origins.is_empty() {
            routes = routes.layer(pages::layer(&self.config.allowed_origins));
        }
        let mut router = routes
            .route("/metrics", get(metrics_route::handler))
            .merge(local::router(self))
            .method_not_allowed_fallback(unknown::not_allowed);
        if self.config.key.is_none() {
            router = router.layer(middleware::from_fn_with_state(self.clone(), hosts::guard));
        }
        // Monitors ask by any name, and these say nothing about anyone.
        router
            .layer(middleware::map_response_with_state(self.clone(), ids::mark))
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
            .with_state(self.clone())
    }

    fn metrics_router(&self) -> Router {
        Router::new().route("/metrics", get(metrics_route::open)).with_state(self.clone())
    }
}

/// Serves until `shutdown`, then ends in order: no new connections, running requests drain, the rest is settled.
pub async fn serve(
    listener: Listener,
    metrics: Option<Listener>,
    gateway: Gateway,
    shutdown: CancellationToken,
) {
    let config = &gateway.config;
    let connections = Connections::new(config.connections, config.connections_per_address);
    let serving =
        Serving { tasks: TaskTracker::new(), client_idle: config.client_idle, gateway: gateway.clone() };
    let graceful = GracefulShutdown::new();
    let metrics_connections = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, gateway.router(), &connections, &serving, &graceful) => {}
        () = async {
            match &metrics {
                Some(listener) => {
                    let router = gateway.metrics_router();
                    accept(listener, router, &connections, &serving, &metrics_connections).await;
                }
                None => std::future::pending().await,
            }
        } => {}
        () = gateway.errands.end_silent_ones() => {}
        () = shutdown.cancelled() => {}
    }
    drop((listener, metrics));
    serving.tasks.close();
    // Whoever sends these by itself can't end them here any more.
    gateway.errands.end_all();
    let (ended, drain) = (graceful.shutdown(), gateway.config.drain);
    tokio::pin!(ended);
    let settled = async {
        tokio::select! {
            () = gateway.meter.shutdown(drain) => {}
            // Connections end first where nothing was running; the meter still has to sign off.
            () = &mut ended => gateway.meter.shutdown(drain).await,
        }
    };
    tokio::select! {
        () = settled => {}
        () = cut(&connections, drain) => {}
    }
    if tokio::time::timeout(LAST_BYTES, serving.tasks.wait()).await.is_err() {
        connections.cut(|_| true);
        serving.tasks.wait().await;
    }
}

/// Whoever sends or takes nothing at the end of the process is cut: first those without a request, after the time for running
/// requests all others too. An answer that nobody takes would never learn that it has to end, and be charged.
async fn cut(connections: &Connections, drain: Duration) {
    tokio::time::sleep(LAST_BYTES).await;
    connections.cut(Connection::is_idle);
    tokio::time::sleep(drain).await;
    connections.cut(|_| true);
    std::future::pending().await
}

async fn accept(
    listener: &Listener,
    router: Router,
    connections: &Connections,
    serving: &Serving,
    graceful: &GracefulShutdown,
) {
    let (mut failed, mut refused) = (Rarely::default(), Rarely::default());
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(times) = failed.say(Instant::now()) {
                    tracing::warn!(%error, times, "connections were not accepted");
                }
                connections.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.place(address) else {
            if let Some(times) = refused.say(Instant::now()) {
                tracing::warn!(times, "connections were refused: there are too many, and none is idle");
            }
            continue;
        };
        let stream = Watched::new(stream, serving.client_idle);
        let served = serving.clone().connection(stream, place, router.clone(), graceful.watcher());
        serving.tasks.spawn(served);
    }
}

impl Serving {
    /// Serves a connection until its end, as its client speaks.
    async fn connection(self, mut stream: Stream, place: Place, router: Router, graceful: Watcher) {
        let connection = &place.connection;
        let served = async {
            let begun = tokio::time::timeout(HEAD, stream.begins_http2());
            if begun.await?? {
                self.http2(stream, connection, router, graceful).await
            } else {
                self.http1(stream, connection, router, graceful).await
            }
        };
        tokio::select! {
            ended = served => if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
                if let Some(error) = error.downcast_ref() {
                    self.gateway.refusals.note_unread(error);
                }
            },
            () = connection.cut.cancelled() => {}
        }
    }

    async fn http1(
        &self,
        stream: Stream,
        connection: &Arc<Connection>,
        router: Router,
        graceful: Watcher,
    ) -> Result<(), BoxError> {
        let (service, connection) = (TowerToHyperService::new(router), Arc::clone(connection));
        let service = service_fn(move |request| {
            let (answered, busy) = (service.call(request), connection.busy());
            async move {
                let answer = answered.await?;
                Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        Ok(graceful.watch(served).await?)
    }

    async fn http2(
        &self,
        stream: Stream,
        connection: &Arc<Connection>,
        router: Router,
        graceful: Watcher,
    ) -> Result<(), BoxError> {
        let (service, of_request) = (TowerToHyperService::new(router), Arc::clone(connection));
        let service = service_fn(move |request| {
            let (answered, busy) = (service.call(request), of_request.busy());
            async move {
                let answer = answered.await?;
                // Given at once, it keeps no place: whoever asks without a key and takes nothing keeps nobody out.
                let busy = (!http2::is_short(answer.body())).then_some(busy);
                http2::answer(answer.map(|body| Answering { body, _busy: busy }))
            }
        });
        let served =
            http2::server(self.client_idle, &self.tasks).serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            ended = graceful.watch(served) => Ok(ended?),
            () = http2::idles(connection) => Ok(()),
        }
    }
}

/// A connection as it is accepted.
type Stream = Watched<Box<dyn listener::Connection>>;

/// What all connections are served with.
#[derive(Debug, Clone)]
struct Serving {
    tasks: TaskTracker,
    client_idle: Duration,
    gateway: Gateway,
}
