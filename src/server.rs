//! The whole, put together: store, registry, threads, listener; and taken apart again in order.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::actors::accounts::{self, Accounts};
use crate::actors::auditing::wake_who_owes;
use crate::actors::files::{Collected, Files};
use crate::actors::profiles::{self, Introductions, ProfileSource};
use crate::actors::relay::{CloseAll, CountLinks, CutAll};
use crate::actors::retention::{Sweep, Trimmed};
use crate::actors::revoking::Watched;
use crate::actors::{Admission, Gate, Limits, Registry};
use crate::auth::codes;
use crate::auth::{AuthError, Identity, IdentityError, Keyring, Secrets, SecretsError};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Mistakes};
use crate::domain::account::Registration;
use crate::domain::{TenantId, Timestamp};
use crate::http::accounts::Reception;
use crate::http::listener::{self, Serving};
use crate::http::origin::Origins;
use crate::http::staticbackend::PublicKeys;
use crate::http::{self, Desk, Door, tickets};
use crate::logs::Logs;
use crate::platform::Platform;
use crate::reset_hook::{self, ResetHookOptions};
use crate::service;
use crate::store::files::FileStore;
use crate::store::sled::{OpenError, Options, SledStore};
use crate::store::{Health, Store};
use crate::tls::{Certificate, TlsError};
use crate::wire::{CloseReason, Refusal, Sealer};

/// How long connections have to take their last words when the server stops.
const FAREWELL: Duration = Duration::from_secs(4);

/// How long commands have to be answered when the server stops.
const ANSWERS: Duration = Duration::from_secs(3);

/// How long it may take to note when users were last seen who are there when the server stops.
const NOTING: Duration = Duration::from_millis(500);

/// How long stopping may take in all.
const STOP: Duration = Duration::from_secs(9);

/// How often the server looks, while it stops, whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// How often revocations are looked through for those that concern nothing any more.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// Between two rounds of collecting files where not all have been looked at: about a thousand each.
const ROUND: Duration = Duration::from_secs(1);

/// From one look at all rooms for what they keep for too long to the next; in between come rounds as for files.
const TRIM: Duration = Duration::from_secs(5 * 60);

/// The longest from one look at all files to the next.
const COLLECT: Duration = Duration::from_secs(10 * 60);

impl Gate for Identity {
    fn admit<'a>(&'a self, token: &'a str, now: Timestamp) -> Admission<'a> {
        Box::pin(async move { self.verify(token, now).await.map_err(refused) })
    }

    fn introductions(&self) -> Option<&Arc<Introductions>> {
        Some(Identity::introductions(self))
    }
}

fn refused(error: AuthError) -> Refusal {
    tracing::debug!(%error, "a token was refused");
    match error.code() {
        "token_expired" => Refusal::token_expired(),
        "unauthenticated" => Refusal::unauthenticated(),
        "unavailable" => Refusal::unavailable(),
        _ => Refusal::token_invalid(),
    }
}

/// What a server is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    /// Where the bytes of files are.
    pub files: FileStore,
    pub clock: Arc<dyn Clock>,
    pub gate: Arc<dyn Gate>,
    /// The web pages that may connect. The operator may change them while the server runs.
    pub origins: Arc<Origins>,
    /// By which StaticBackend's clients say which tenant's they are.
    pub public_keys: PublicKeys,
    pub limits: Limits,
    /// What signs the tokens of logins; without it nobody logs in here.
    pub keyring: Option<Keyring>,
    pub accounts: accounts::Options,
    /// What gives users codes that they ask for themselves, if anything does.
    pub reset_hook: Option<ResetHookOptions>,
    /// Whose word is taken for where a request comes from.
    pub proxies: Vec<IpNet>,
    /// Seals cursors; one that others do not have, and that stays the same.
    pub sealer: Sealer,
    /// Who knows, besides the users themselves, who they are.
    pub profiles: Option<Arc<dyn ProfileSource>>,
    /// Where the operator's socket is to be, if there is to be one.
    pub admin: Option<PathBuf>,
    /// Where monitoring reads the metrics, if anywhere but on the operator's socket.
    pub metrics: Option<TcpListener>,
    /// What clients are shown where TLS is spoken.
    pub tls: Option<Certificate>,
    /// Threads: each owns connections and hosts rooms.
    pub workers: usize,
}

/// A running server. Lives on the actix system in which it was started.
pub struct Server {
    address: SocketAddr,
    registry: Arc<Registry>,
    accounts: Arc<Accounts>,
    door: Door,
    handle: ServerHandle,
    served: JoinHandle<io::Result<()>>,
    admin: Option<Admin>,
    metrics: Option<ServerHandle>,
    forgetting: JoinHandle<()>,
    collecting: JoinHandle<()>,
    trimming: JoinHandle<()>,
    waking: JoinHandle<()>,
}

impl Server {
    /// Serves what connects to `listener`, once it is known whose tokens are revoked.
    pub async fn start(listener: TcpListener, parts: Parts) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let registry = Registry::new(Arc::clone(&parts.store), parts.clock, parts.limits);
        registry.seal_with(parts.sealer);
        if let Some(source) = parts.profiles {
            if let Some(changes) = source.changes() {
                actix_web::rt::spawn(profiles::tell_changes(Arc::clone(&registry), changes));
            }
            registry.ask_for_profiles(source);
        }
        if let Some(introductions) = parts.gate.introductions() {
            actix_web::rt::spawn(Arc::clone(introductions).serve(Arc::clone(&registry)));
        }

        let capacity = connections_max();
        registry.connections().set_capacity(capacity);

        registry.load_revocations().await.map_err(io::Error::other)?;
        registry.load_exclusions().await.map_err(io::Error::other)?;
        registry.keep_files(Files::open(parts.store, parts.files).await.map_err(io::Error::other)?);

        let gate: Arc<dyn Gate> = Arc::new(Watched { inner: parts.gate, registry: Arc::clone(&registry) });
        let door = Door::new(Arc::clone(&registry), Arc::clone(&gate), &parts.proxies);
        let tls = parts.tls.map(|certificate| certificate.server_config().map(Arc::new));
        let accounts = Accounts::new(Arc::clone(&registry), parts.accounts);
        if let Some(options) = parts.reset_hook {
            reset_hook::start(options, &accounts).map_err(io::Error::other)?;
        }
        let reception = parts.keyring.map(|keyring| Arc::new(Reception::new(Arc::clone(&accounts), keyring)));
        let serving = Serving {
            reception,
            registry: Arc::clone(&registry),
            gate,
            door: door.clone(),
            tickets: tickets::shared(),
            origins: parts.origins,
            public_keys: Arc::new(parts.public_keys),
            tls: tls.transpose().map_err(io::Error::other)?,
        };
        let workers = parts.workers.max(1);
        // More than are let in, so that who is one too many is told so.
        let connections_per_worker = (capacity + capacity / 8).div_ceil(workers);
        let server = listener::serve(listener, serving, workers, connections_per_worker)?;
        let handle = server.handle();
        let served = actix_web::rt::spawn(server);
        let desk = Desk { registry: Arc::clone(&registry), accounts: Arc::clone(&accounts) };
        let admin = parts.admin.and_then(|path| Admin::start_or_warn(path, &desk));
        let metrics = parts.metrics.map(|listener| serve_metrics(listener, &desk)).transpose()?;
        let forgetting = actix_web::rt::spawn(forget(Arc::clone(&registry), Arc::clone(&accounts)));
        let collecting = actix_web::rt::spawn(collect_files(Arc::clone(&registry)));
        let trimming = actix_web::rt::spawn(trim_rooms(Arc::clone(&registry)));
        let waking = actix_web::rt::spawn(wake_who_owes(Arc::clone(&registry)));
        Ok(Self {
            address,
            registry,
            accounts,
            door,
            handle,
            served,
            admin,
            metrics,
            forgetting,
            collecting,
            trimming,
            waking,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// Stops in order: no new connections and commands, the answers of those under way, a word to every connection
    /// when to come back, the end of those that do not listen, and last the store. Nothing acknowledged is lost, and
    /// the waits together are less than ten seconds.
    pub async fn stop(self) {
        self.handle.pause().await;
        self.registry.drain();
        within(ANSWERS, async || self.registry.commands_in_flight() == 0).await;
        if tokio::time::timeout(NOTING, self.registry.note_who_is_there()).await.is_err() {
            tracing::warn!("when some users were last seen could not be noted in time");
        }
        self.tell(|| CloseAll(CloseReason::Restarting)).await;
        within(FAREWELL, async || self.connections().await == 0).await;
        self.tell(|| CutAll).await;
        self.handle.stop(false).await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        if let Some(metrics) = self.metrics {
            metrics.stop(false).await;
        }
        if let Ok(Err(error)) = self.served.await {
            tracing::warn!(%error, "the listener ended badly");
        }
        self.forgetting.abort();
        self.collecting.abort();
        self.trimming.abort();
        self.waking.abort();
        self.registry.store().close().await;
    }

    /// Whether the process does its work: every thread with connections answers, and the log has not failed.
    pub async fn is_well(&self) -> bool {
        let counting = async {
            for relay in self.relays() {
                relay.send(CountLinks).await?;
            }
            Ok::<_, actix::MailboxError>(())
        };
        let answered = tokio::time::timeout(ANSWERS, counting).await;
        matches!(answered, Ok(Ok(()))) && !matches!(self.registry.store().health(), Health::Broken { .. })
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

/// Serves the metrics and nothing else, by a thread of their own.
fn serve_metrics(listener: TcpListener, desk: &Desk) -> io::Result<ServerHandle> {
    let desk = desk.clone();
    let server =
        HttpServer::new(move || App::new().app_data(web::ThinData(desk.clone())).configure(http::metrics::mount))
            .workers(1)
            .client_request_timeout(http::REQUEST_HEAD)
            .shutdown_timeout(1)
            .disable_signals()
            .listen(listener)?
            .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(handle)
}

/// Forgets now and then what is revoked and has expired, and the bans that have ended.
async fn forget(registry: Arc<Registry>, accounts: Arc<Accounts>) {
    loop {
        tokio::time::sleep(FORGET).await;
        if let Err(refusal) = registry.forget_revocations().await {
            tracing::warn!(%refusal, "revocations that concern nothing any more could not be removed");
        }
        if let Err(refusal) = accounts.forget_bans().await {
            tracing::warn!(%refusal, "bans that have ended could not be removed");
        }
    }
}

/// Collects the files that nothing refers to, and the uploads that do not go on.
async fn collect_files(registry: Arc<Registry>) {
    let mut more = false;
    loop {
        let limits = registry.limits().files;
        let kept = limits.keep_unreferenced.min(limits.keep_unfinished);
        let pause = if more { ROUND } else { (kept / 24).clamp(ROUND, COLLECT) };
        tokio::time::sleep(pause).await;
        let Ok(files) = registry.files() else { return };
        let round = files.collect(limits, registry.now()).await;
        more = round.as_ref().is_ok_and(|collected| collected.more);
        match round {
            Ok(Collected { files: 0, uploads: 0, leftovers: 0, .. }) => {}
            Ok(Collected { files, uploads, leftovers, .. }) => {
                registry.metrics().files_collected.inc_by(files as u64);
                tracing::info!(files, uploads, leftovers, "files that nothing refers to were collected");
            }
            Err(refusal) => tracing::warn!(%refusal, "files could not be collected"),
        }
    }
}

/// Has rooms let go of what they have kept for long enough.
async fn trim_rooms(registry: Arc<Registry>) {
    let sweep = Sweep::default();
    let mut more = false;
    loop {
        tokio::time::sleep(if more { ROUND } else { TRIM }).await;
        let round = sweep.round(&registry).await;
        more = round.as_ref().is_ok_and(|trimmed| trimmed.more);
        match round {
            Ok(Trimmed { rooms: 0, .. }) => {}
            Ok(Trimmed { rooms, records, .. }) => {
                tracing::info!(rooms, records, "what rooms have kept for long enough was trimmed");
            }
            Err(refusal) => tracing::warn!(%refusal, "rooms could not be looked at"),
        }
    }
}

/// The operator's socket while it is served.
struct Admin {
    path: PathBuf,
    handle: ServerHandle,
}

impl Admin {
    /// A server without it serves its clients as well as any other.
    fn start_or_warn(path: PathBuf, desk: &Desk) -> Option<Self> {
        let shown = path.display().to_string();
        let started = Self::start(path, desk);
        started
            .inspect_err(|error| {
                tracing::warn!(
                    path = shown,
                    %error,
                    "no socket for the operator: commands that ask a running server by its data directory, such as \
                     `chinwag health --data`, will not work"
                );
            })
            .ok()
    }

    fn start(path: PathBuf, desk: &Desk) -> io::Result<Self> {
        // One that a killed process has left. The directory's lock says that nobody else serves it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let desk = desk.clone();
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
    #[error("cannot listen on {address}: {source}; stop what uses it, or choose another with {setting}")]
    Listen { address: SocketAddr, setting: &'static str, source: io::Error },
    #[error(
        "the socket that was handed over listens on {0}, which other machines can reach, and dev mode is for this \
         machine only"
    )]
    NotForDev(SocketAddr),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error("the configuration of issuers is wrong: {0}")]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the storage failed: {reason}; nothing is acknowledged any more; look at the disk, then start again")]
    Broken { reason: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

impl ServeError {
    /// The exit code of a process that ends for this reason, after BSD's `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Listen { .. } => 69,
            Self::Secrets(_) => 77,
            Self::Identity(_) => 78,
            Self::Open(error) => error.exit_code(),
            Self::Broken { .. } => 74,
            Self::Tls(_) | Self::NotForDev(_) => 78,
            Self::System(_) => 71,
        }
    }
}

/// What a process brings along besides its configuration.
pub struct Process<'a> {
    /// Start on a log that holds less than was acknowledged, in a new epoch.
    pub accept_data_loss: bool,
    pub logs: Logs,
    /// Reads the configuration again, from where it was read.
    pub read_again: &'a dyn Fn() -> Result<Config, Mistakes>,
}

/// What whoever started a server is told.
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the first owner makes an account, once and within [`OWNER_LINK`]; at the first start on a directory.
    pub owner: Option<String>,
}

/// How long the link of the first owner is good.
pub const OWNER_LINK: Duration = Duration::from_secs(30 * 60);

impl Server {
    /// A link by which somebody becomes the owner of the tenant that is there from the start.
    async fn owner_link(&self, scheme: &str, registration: Registration) -> Option<String> {
        if registration == Registration::Off {
            return None;
        }
        let (id, code, digest) = codes::invite().ok()?;
        let tenant = TenantId::default_tenant();
        let life_ms = i64::try_from(OWNER_LINK.as_millis()).expect("half an hour");
        let made = self.accounts.invite_first(tenant, (id, digest), life_ms).await;
        if let Err(refusal) = made {
            tracing::warn!(%refusal, "there is no link for the first owner; `chinwag invite create --rank owner` makes one");
            return None;
        }
        Some(format!("{scheme}://{}/setup#{code}", self.address))
    }
}

/// Runs a server on its data directory until a signal asks it to end or its storage fails. Calls `ready` when it
/// listens. SIGHUP has it read its configuration again.
pub fn run(config: &Config, process: &Process<'_>, ready: impl FnOnce(&Started)) -> Result<(), ServeError> {
    let address = config.server.listen;
    let listener = match service::listener()? {
        Some(listener) => listener,
        None => bind(address, "--listen")?,
    };
    let listening = listener.local_addr()?;
    if config.server.dev && !listening.ip().is_loopback() {
        return Err(ServeError::NotForDev(listening));
    }
    let metrics = config.metrics.listen.map(|address| bind(address, "metrics.listen")).transpose()?;
    let certificate = config.tls.as_ref().map(Certificate::load).transpose()?;
    raise_file_limit();
    let options = Options { accept_data_loss: process.accept_data_loss, ..options(config) };
    let first = fs::read_dir(&config.server.data).map_or(true, |mut entries| entries.next().is_none());
    // First, because it looks whether the directory is ours.
    let store = SledStore::open(&config.server.data, options)?;
    let secrets = Secrets::open(&config.server.data)?;
    let keyring = config.auth.own_issuer.then(|| Keyring::new(&secrets.token));
    let identity = Arc::new(Identity::new(&config.auth, secrets.token, Arc::new(SystemClock))?);
    let origins = Arc::new(Origins::new(&config.server.origins).map_err(io::Error::other)?);
    let files = FileStore::open(&config.server.data, config.store.free_bytes_min)?;
    let mut health = store.watch();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let platform = config.profiles.clone().map(|options| Platform::start(options, Arc::new(SystemClock)));
    let profiles = platform.transpose()?.map(|platform| platform as Arc<dyn ProfileSource>);
    let parts = Parts {
        store: Arc::new(store),
        files,
        clock: Arc::new(SystemClock),
        gate: Arc::clone(&identity) as Arc<dyn Gate>,
        origins: Arc::clone(&origins),
        public_keys: config.public_keys.clone(),
        limits: config.limits.clone(),
        keyring,
        accounts: config.accounts.clone(),
        reset_hook: config.reset_hook.clone(),
        proxies: config.server.trusted_proxies.clone(),
        sealer: Sealer::new(secrets.cursor.bytes()).expect("a secret is long enough for a key"),
        profiles,
        admin: Some(config.server.data.join(http::admin::SOCKET)),
        metrics,
        tls: certificate.clone(),
        workers: threads,
    };
    actix_web::rt::System::new().block_on(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let server = Server::start(listener, parts).await?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        if certificate.is_none() && !server.address().ip().is_loopback() {
            tracing::warn!("others can reach this server and it speaks no TLS: a proxy in front of it must");
        }
        let first = first && config.auth.own_issuer;
        let owner = if first { server.owner_link(scheme, config.accounts.registration).await } else { None };
        ready(&Started { address: server.address(), owner });
        let status = format!("listening on {scheme}://{}", server.address());
        service::ready(&status);
        let logs = &process.logs;
        let reload = Reload { started: config, certificate, identity, origins, server: &server, logs };
        let mut watchdog = tokio::time::interval(service::watchdog().unwrap_or(MINUTE));
        let mut minute = tokio::time::interval(MINUTE);
        let broken = health.wait_for(|health| matches!(health, Health::Broken { .. }));
        tokio::pin!(broken);
        let outcome = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                _ = hangup.recv() => {
                    service::reloading();
                    reload.carry_out(process.read_again);
                    service::ready(&status);
                }
                _ = watchdog.tick() => {
                    if server.is_well().await {
                        service::alive();
                    } else {
                        tracing::error!("the process does not do its work; the service manager is not told that it does");
                    }
                }
                _ = minute.tick() => count_left_out(&process.logs),
                health = &mut broken => break Err(match health.as_deref() {
                    Ok(Health::Broken { reason }) => reason.clone(),
                    Ok(Health::Good | Health::Full) | Err(_) => "its thread is gone".to_owned(),
                }),
            }
        };
        tracing::info!("stopping");
        service::stopping();
        count_left_out(&process.logs);
        let stopped = tokio::select! {
            stopped = tokio::time::timeout(STOP, server.stop()) => stopped.is_ok(),
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
        };
        if stopped {
            tracing::info!("stopped");
        } else {
            tracing::warn!("stopped without waiting for everybody; what was acknowledged is on disk");
        }
        outcome.map_err(|reason| ServeError::Broken { reason })
    })
}

fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address);
    // At once: it may be connected to long before it is served.
    let prepared = listener.and_then(|listener| http::prepare(&listener).map(|()| listener));
    prepared.map_err(|source| ServeError::Listen { address, setting, source })
}

const MINUTE: Duration = Duration::from_secs(60);

fn count_left_out(logs: &Logs) {
    let left_out = logs.take_left_out();
    if left_out > 0 {
        tracing::info!(left_out, "lines about traffic were not written, because log.sample says so");
    }
}

/// What a server that is running takes over from a configuration that is read again.
struct Reload<'a> {
    /// The configuration it was started with: what needs a restart stays as it was there.
    started: &'a Config,
    certificate: Option<Certificate>,
    identity: Arc<Identity>,
    origins: Arc<Origins>,
    server: &'a Server,
    logs: &'a Logs,
}

impl Reload<'_> {
    /// All of it or nothing: a configuration that is no good leaves everything as it was.
    fn carry_out(&self, read_again: &dyn Fn() -> Result<Config, Mistakes>) {
        let config = match read_again() {
            Ok(config) => config,
            Err(Mistakes(mistakes)) => {
                for mistake in mistakes {
                    tracing::error!(mistake, "a mistake in the configuration");
                }
                return tracing::error!("the configuration was not taken over; everything stays as it was");
            }
        };
        let certificate = match &config.tls {
            Some(files) if self.certificate.is_some() => match Certificate::load(files) {
                Ok(certificate) => Some(certificate),
                Err(error) => {
                    return tracing::error!(%error, "the configuration was not taken over; everything stays as it was");
                }
            },
            Some(_) | None => None,
        };
        // Each of these takes all of it or nothing, and the first to fail is the last to be asked.
        let taken = Origins::new(&config.server.origins).map_err(|error| error.to_string());
        let taken = taken.and_then(|_| self.identity.reload(&config.auth).map_err(|error| error.to_string()));
        let taken = taken.and_then(|()| self.origins.set(&config.server.origins).map_err(|error| error.to_string()));
        if let Err(error) = taken {
            return tracing::error!(error, "the configuration was not taken over; everything stays as it was");
        }
        // From here on nothing fails.
        for setting in self.started.fixed_and_different(&config) {
            tracing::warn!(setting, "this changes with the next start; until then it stays as it was");
        }
        match (&self.certificate, certificate) {
            (Some(shown), Some(certificate)) => shown.replace(&certificate),
            (Some(_), None) | (None, _) if config.tls.is_some() != self.certificate.is_some() => {
                tracing::warn!(setting = "tls", "TLS is begun or given up with the next start");
            }
            (Some(_) | None, _) => {}
        }
        self.server.registry.set_limits(config.limits);
        self.server.door.trust(&config.server.trusted_proxies);
        self.logs.set(&config.log);
        tracing::info!("the configuration was read again and taken over");
    }
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

/// Lets the process have as many connections as the system allows it.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// For how many connections there are file descriptors: one for each, and a fifth of all for what else is open.
fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(usize::MAX / 16, |files| usize::try_from(files / 5 * 4).unwrap_or(usize::MAX / 16))
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
