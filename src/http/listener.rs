//! What is accepted, on its way to HTTP: counted before a byte of it is read, then TLS where that is spoken.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::accounts::Reception;
use super::kill::{self, KillSwitch, REQUEST_HEAD, Watch};
use super::origin::{self, Origins};
use super::socket::{Io, Lent, Socket};
use super::staticbackend::PublicKeys;
use super::tickets::Tickets;
use super::visit::Visitors;
use super::{Door, Edge, access, headers, mount, timed};
use crate::actors::{Gate, Registry, Seat, Worker};

/// How long a client has to take the end of an answer whose request it has not sent whole.
const DISCONNECT: Duration = Duration::from_secs(1);

/// How long a handshake may take (OWASP ASVS asks for a limit; a round trip around the world takes a third of a second,
/// and a handshake two of them).
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What is known of the connection by which a request comes.
#[derive(Clone)]
pub struct Connection {
    pub kill: KillSwitch,
    pub visitors: Visitors,
    pub seat: Rc<Seat>,
}

/// What the connections of all threads share.
#[derive(Clone)]
pub struct Serving {
    pub registry: Arc<Registry>,
    pub gate: Arc<dyn Gate>,
    pub door: Door,
    pub tickets: Arc<Tickets>,
    pub origins: Arc<Origins>,
    pub public_keys: Arc<PublicKeys>,
    pub reception: Option<Arc<Reception>>,
    /// Where TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Serves what connects to `listener` with so many threads, each with at most so many connections that are HTTP's.
pub fn serve(
    listener: TcpListener,
    serving: Serving,
    workers: usize,
    connections_per_worker: usize,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    kill::prepare(&listener)?;
    let tls = serving.tls.clone().map(TlsAcceptor::from);
    let request = serving.registry.limits().request;
    let service = move || {
        let Serving { registry, gate, door, tickets, origins, public_keys, reception, .. } = serving.clone();
        registry.host_here();
        let worker = Worker::start(registry);
        let edge = Edge { worker, gate, door: door.clone(), tickets, origins, public_keys, reception };
        let app = App::new()
            .app_data(web::ThinData(edge))
            .wrap(from_fn(origin::guard))
            // The last is the first that a request meets.
            .wrap(headers())
            .wrap(from_fn(access::log))
            .wrap(from_fn(timed))
            .configure(mount)
            .into_factory()
            .map_err(|error: actix_web::Error| error.error_response());
        let http = HttpService::build()
            .local_addr(address)
            .client_request_timeout(REQUEST_HEAD)
            .client_disconnect_timeout(DISCONNECT)
            .keep_alive(KeepAlive::Timeout(request))
            .on_connect_ext(|lent: &Lent, extensions| {
                extensions.insert(lent.connection().clone());
            })
            .h1(map_config(app, |()| AppConfig::default()));
        let (tls, watch) = (tls.clone(), Watch::start());
        fn_service(move |stream: TcpStream| {
            let (door, tls, watch) = (door.clone(), tls.clone(), watch.clone());
            async move { accept(stream, &door, tls, &watch).await.map_err(DispatchError::Io) }
        })
        .and_then(http)
    };
    Ok(Server::build()
        .workers(workers)
        .max_concurrent_connections(connections_per_worker)
        .shutdown_timeout(1)
        .disable_signals()
        .listen("chinwag", listener, service)?
        .run())
}

/// Counts an accepted connection, for as long as it is there. One that is not let in ends here, before
/// a byte of it is read.
async fn accept(
    stream: TcpStream,
    door: &Door,
    tls: Option<TlsAcceptor>,
    watch: &Watch,
) -> io::Result<(Lent, Option<SocketAddr>)> {
    let peer = stream.peer_addr().ok();
    let Some(seat) = door.accept(peer) else {
        kill::refuse(&stream);
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let io = match tls {
        Some(tls) => {
            let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
            Io::Tls(Box::new(handshake.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
        }
        None => Io::Plain(stream),
    };
    let kill = KillSwitch::new(Socket::new(io), door.time_to_ask(), watch);
    Ok((Lent::new(Connection { kill, visitors: Visitors::default(), seat }), peer))
}
