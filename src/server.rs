//! The whole, put together: store, registry, threads, listener; and taken apart again in order.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use actix_web::dev::ServerHandle;
use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::actors::relay::{CloseAll, CountLinks, CutAll};
use crate::actors::{Admission, Gate, Limits, Registry, Worker};
use crate::auth::{Keyring, Secrets, SecretsError};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::Timestamp;
use crate::http::admin::Desk;
use crate::http::{self, Edge};
use crate::store::sled::{OpenError, Options, SledStore};
use crate::store::{Health, Store};
use crate::wire::{CloseReason, Refusal, Sealer};

/// How long connections have to take their last words when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long commands have to be answered when the server stops.
const ANSWERS: Duration = Duration::from_secs(5);

/// How long stopping may take in all.
const STOP: Duration = Duration::from_secs(15);

/// How often the server looks, while it stops, whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

impl Gate for Keyring {
    fn admit<'a>(&'a self, token: &'a str, now: Timestamp) -> Admission<'a> {
        let admitted = self.verify(token, now).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            match error.code() {
                "token_expired" => Refusal::token_expired(),
                "unauthenticated" => Refusal::unauthenticated(),
                _ => Refusal::token_invalid(),
            }
        });
        Box::pin(std::future::ready(admitted))
    }
}

/// What a server is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub gate: Arc<dyn Gate>,
    pub limits: Limits,
    /// Seals cursors; one that others do not have, and that stays the same.
    pub sealer: Sealer,
    /// Where the operator's socket is to be, if there is to be one.
    pub admin: Option<PathBuf>,
    /// Threads that own connections.
    pub workers: usize,
    /// Threads that host rooms.
    pub room_threads: usize,
}

/// A running server. Lives on the actix system in which it was started.
pub struct Server {
    address: SocketAddr,
    registry: Arc<Registry>,
    handle: ServerHandle,
    served: JoinHandle<io::Result<()>>,
    admin: Option<Admin>,
    arbiters: Vec<Arbiter>,
}

impl Server {
    /// Serves what connects to `listener`.
    pub fn start(listener: TcpListener, parts: Parts) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let arbiters: Vec<_> = (0..parts.room_threads.max(1)).map(|_| Arbiter::new()).collect();
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let registry = Registry::new(parts.store, parts.clock, parts.limits, handles);
        registry.seal_with(parts.sealer);

        let (its_registry, gate) = (Arc::clone(&registry), parts.gate);
        let server = HttpServer::new(move || {
            let edge = Edge { worker: Worker::start(Arc::clone(&its_registry)), gate: Arc::clone(&gate) };
            App::new().app_data(web::ThinData(edge)).wrap(from_fn(http::timed)).configure(http::mount)
        })
        .workers(parts.workers.max(1))
        .on_connect(http::on_connect(Arc::clone(&registry)))
        .client_request_timeout(http::REQUEST_HEAD)
        .keep_alive(KeepAlive::Timeout(registry.limits().request))
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        let served = actix_web::rt::spawn(server);
        let admin = parts.admin.map(|path| Admin::start(path, &registry)).transpose()?;
        Ok(Self { address, registry, handle, served, admin, arbiters })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Stops in order: no new connections and commands, the answers of those under way, a word to every connection
    /// when to come back, the end of those that do not listen, and last the store. Nothing acknowledged is lost, and
    /// it takes at most a little more than ten seconds.
    pub async fn stop(self) {
        self.handle.pause().await;
        self.registry.drain();
        within(ANSWERS, async || self.registry.commands_in_flight() == 0).await;
        self.tell(|| CloseAll(CloseReason::Restarting)).await;
        within(FAREWELL, async || self.connections().await == 0).await;
        self.tell(|| CutAll).await;
        self.handle.stop(false).await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        if let Ok(Err(error)) = self.served.await {
            tracing::warn!(%error, "the listener ended badly");
        }
        self.registry.store().close().await;
        for arbiter in self.arbiters {
            arbiter.stop();
        }
    }

    /// How many connections are open.
    pub async fn connections(&self) -> usize {
        let mut count = 0;
        for relay in self.relays() {
            count += relay.send(CountLinks).await.unwrap_or(0);
        }
        count
    }

    async fn tell<M>(&self, message: impl Fn() -> M)
    where
        M: actix::Message<Result = ()> + Send + 'static,
        crate::actors::relay::RelayActor: actix::Handler<M>,
        <crate::actors::relay::RelayActor as actix::Actor>::Context:
            actix::dev::ToEnvelope<crate::actors::relay::RelayActor, M>,
    {
        for relay in self.relays() {
            // A relay that is gone has no connections any more.
            let _ = relay.send(message()).await;
        }
    }

    fn relays(&self) -> Vec<crate::actors::relay::RelayAddr> {
        let ids = self.registry.relays();
        ids.into_iter().filter_map(|id| self.registry.relay(id)).collect()
    }
}

/// The operator's socket while it is served.
struct Admin {
    path: PathBuf,
    handle: ServerHandle,
}

impl Admin {
    fn start(path: PathBuf, registry: &Arc<Registry>) -> io::Result<Self> {
        // One that a killed process has left. The directory's lock says that nobody else serves it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let desk = Desk { registry: Arc::clone(registry) };
        let server =
            HttpServer::new(move || App::new().app_data(web::ThinData(desk.clone())).configure(http::admin::mount))
                .workers(1)
                .client_request_timeout(http::REQUEST_HEAD)
                .shutdown_timeout(1)
                .disable_signals()
                .listen_uds(listener)?
                .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { path, handle })
    }

    async fn stop(self) {
        self.handle.stop(false).await;
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the operator's socket could not be removed");
        }
    }
}

/// Why a server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}; stop what uses it, or choose another with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the storage failed: {reason}; nothing is acknowledged any more; look at the disk, then start again")]
    Broken { reason: String },
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

impl ServeError {
    /// The exit code of a process that ends for this reason, after BSD's `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Listen { .. } => 69,
            Self::Secrets(_) => 77,
            Self::Open(error) => error.exit_code(),
            Self::Broken { .. } => 74,
            Self::System(_) => 71,
        }
    }
}

/// Runs a server on its data directory until a signal asks it to end or its storage fails. Calls `ready` when it
/// listens. `accept_data_loss` starts on a log that holds less than was acknowledged, in a new epoch.
pub fn run(config: &Config, accept_data_loss: bool, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    let address = config.server.listen;
    let listener = TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source })?;
    raise_file_limit();
    let options = Options { accept_data_loss, ..options(config) };
    // First, because it looks whether the directory is ours.
    let store = SledStore::open(&config.server.data, options)?;
    let secrets = Secrets::open(&config.server.data)?;
    let mut health = store.watch();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts = Parts {
        store: Arc::new(store),
        clock: Arc::new(SystemClock),
        gate: Arc::new(Keyring::new(&secrets.token)),
        limits: limits(config),
        sealer: Sealer::new(secrets.cursor.bytes()).expect("a secret is long enough for a key"),
        admin: Some(config.server.data.join(http::admin::SOCKET)),
        workers: threads,
        room_threads: threads.saturating_sub(1).max(1),
    };
    actix_web::rt::System::new().block_on(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(listener, parts)?;
        ready(server.address());
        let broken = health.wait_for(|health| matches!(health, Health::Broken { .. }));
        let outcome = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            health = broken => Err(match health.as_deref() {
                Ok(Health::Broken { reason }) => reason.clone(),
                Ok(Health::Good | Health::Full) | Err(_) => "its thread is gone".to_owned(),
            }),
        };
        tracing::info!("stopping");
        let stopped = tokio::select! {
            stopped = tokio::time::timeout(STOP, server.stop()) => stopped.is_ok(),
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
        };
        if !stopped {
            tracing::warn!("stopped without waiting for everybody; what was acknowledged is on disk");
        }
        outcome.map_err(|reason| ServeError::Broken { reason })
    })
}

fn options(config: &Config) -> Options {
    let store = &config.store;
    Options {
        cache_bytes: store.cache_bytes,
        free_bytes_min: store.free_bytes_min,
        ballast_bytes: store.ballast_bytes,
        ..Options::default()
    }
}

fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        heartbeat: limits.heartbeat,
        auth_timeout: limits.auth_timeout,
        frame_deadline: limits.frame_deadline,
        slow_consumer: limits.slow_consumer,
        frame_bytes_max: limits.frame_bytes_max as u64,
        follows_per_session: limits.follows_per_session,
        in_flight_per_session: limits.in_flight_per_session,
        in_flight_per_room: limits.in_flight_per_room,
        ..Limits::default()
    }
}

/// Lets the process have as many connections as the system allows it: each takes two file descriptors.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Waits until `done`, at most for `time`.
async fn within(time: Duration, done: impl AsyncFn() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(time, wait).await.is_err() {
        tracing::warn!(seconds = time.as_secs(), "stopping goes on without waiting any longer");
    }
}
