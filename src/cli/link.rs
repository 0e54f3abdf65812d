//! A connection to a server that comes back when it is lost.
//!
//! [`Link`] connects, for as long as it takes, and says which troubles pass and which do not; [`Connection`] sends
//! commands and hears frames until one of these troubles ends it. What has to be said again on a new connection is the
//! caller's business.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::http::uri::Authority;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::backoff::{self, Backoff};
use super::failure::{Exit, Failure};
use super::frames::{Command, Heard, PROTOCOL, SUBPROTOCOL};
use super::trouble::{Trouble, close_trouble, handshake_trouble, passing, socket_trouble, stranger, token_refused};
use super::web::{Way, Web};

/// The server of the client commands unless told otherwise.
pub const URL_DEFAULT: &str = "http://127.0.0.1:7700";

/// How long connecting may take until it counts as failed: the server's own deadline for tokens.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a goodbye may take; nothing depends on it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Which server, and as whom.
#[derive(clap::Args)]
pub struct Options {
    /// The server
    #[arg(long, value_name = "URL", env = "CHINWAG_URL", default_value = URL_DEFAULT, value_parser = Target::parse)]
    url: Target,
    /// Who you are: what `chinwag token create` printed
    #[arg(long, value_name = "T", env = "CHINWAG_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Where a server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    host: String,
    port: u16,
    /// The address of the WebSocket.
    uri: Uri,
}

/// The way to one server.
pub struct Link {
    target: Target,
    token: String,
    transport: Transport,
    backoff: Backoff,
    /// When the last connection was made.
    connected_at: Option<Instant>,
    /// What the user was told of the trouble that lasts.
    told: Option<String>,
}

/// One connection, by whatever way.
pub enum Connection {
    /// Which the server has greeted.
    Socket(Box<Socket>),
    Web(Web),
}

/// How a client talks to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Transport {
    /// A WebSocket
    #[default]
    Ws,
    /// An event stream per room, and requests
    Sse,
    /// Long polls, and requests
    Poll,
}

/// A WebSocket.
pub struct Socket {
    frames: SplitStream<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    commands: mpsc::UnboundedSender<Message>,
    writer: JoinHandle<()>,
    heard_at: Instant,
    /// How long the server may say nothing, not even a ping, until it counts as gone.
    silence: Duration,
}

impl Target {
    /// Reads an address with the scheme http or https, or ws or wss. A path stands before that of the protocol, as behind a proxy.
    pub fn parse(text: &str) -> Result<Self, String> {
        let example = "write it like http://127.0.0.1:7700";
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {example}"))?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(_) | None => return Err(format!("the scheme has to be http or https; {example}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("there is no host in it; {example}"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(format!("neither a user nor a query belongs into it; {example}"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(format!("there is no host in it; {example}"));
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let scheme = if tls { "wss" } else { "ws" };
        let address = format!("{scheme}://{host}:{port}{}/v1/ws", uri.path().trim_end_matches('/'));
        let uri = address.parse().map_err(|error| format!("{error}; {example}"))?;
        Ok(Self { host: bare.to_owned(), port, uri })
    }
}

impl Target {
    /// Where its paths begin.
    fn base(&self) -> String {
        let socket = self.uri.to_string();
        let base = socket.strip_suffix("/v1/ws").unwrap_or(&socket);
        // Of ws and wss alike.
        base.replacen("ws", "http", 1)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.authority().map_or(&*self.host, Authority::as_str))
    }
}

impl Options {
    /// The link they describe. It is not connected.
    pub fn link(self, transport: Transport) -> Result<Link, Failure> {
        let token = self.token.filter(|token| !token.is_empty()).ok_or_else(|| {
            Failure::new(
                Exit::Token,
                "a token is needed: give it as --token or in CHINWAG_TOKEN; `chinwag token create --user ID` makes one",
            )
        })?;
        // A token from a file often ends with the file's newline.
        let token = token.trim().to_owned();
        Ok(Link { target: self.url, token, transport, backoff: Backoff::default(), connected_at: None, told: None })
    }
}

impl Link {
    /// Connects, and tries again for as long as the trouble may pass.
    pub async fn connect(&mut self) -> Result<Connection, Failure> {
        loop {
            let attempt = timeout(CONNECT_DEADLINE, self.attempt()).await;
            let trouble = match attempt {
                Ok(Ok(connection)) => {
                    self.connected_at = Some(Instant::now());
                    return Ok(connection);
                }
                Ok(Err(trouble)) => trouble,
                Err(_) => passing(format!("no answer within {} s", CONNECT_DEADLINE.as_secs())),
            };
            self.weather(trouble).await?;
        }
    }

    /// Waits until it makes sense to try again after `trouble`, or says that it never will.
    pub async fn weather(&mut self, trouble: Trouble) -> Result<(), Failure> {
        let (why, wait) = match trouble {
            Trouble::Passing { why, wait } => (why, wait),
            Trouble::Lasting(failure) => return Err(failure),
        };
        if self.told.as_ref() != Some(&why) {
            eprintln!("chinwag: {}: {why}; trying again until it works{}", self.target, how_to_stop());
            self.told = Some(why);
        }
        // A connection that was good for a while was not part of the trouble before it.
        if self.connected_at.take().is_some_and(|at| at.elapsed() > Backoff::MOST) {
            self.backoff.reset();
        }
        let drawn = self.backoff.after_failure(backoff::random());
        sleep(wait.unwrap_or_default().max(drawn)).await;
        Ok(())
    }

    /// The server does what it is asked: a trouble that the user was told of is over.
    pub fn works(&mut self) {
        if self.told.take().is_some() {
            eprintln!("chinwag: {}: connected again", self.target);
        }
    }

    /// There is progress: the next trouble is a new one, and the first wait a short one.
    pub fn progressed(&mut self) {
        self.works();
        self.backoff.reset();
    }

    async fn attempt(&self) -> Result<Connection, Trouble> {
        let way = match self.transport {
            Transport::Ws => return self.socket().await,
            Transport::Sse => Way::Events,
            Transport::Poll => Way::Polls,
        };
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_DEADLINE).build();
        let client = client
            .map_err(|error| Trouble::Lasting(Failure::new(Exit::Fault, format!("cannot make requests: {error}"))))?;
        Ok(Connection::Web(Web::new(client, self.target.base(), self.token.clone(), way)))
    }

    async fn socket(&self) -> Result<Connection, Trouble> {
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port))
            .await
            .map_err(|error| passing(format!("cannot connect: {error}")))?;
        // A command is one small segment that somebody waits for.
        stream.set_nodelay(true).map_err(|error| passing(format!("cannot connect: {error}")))?;
        let request = ClientRequestBuilder::new(self.target.uri.clone())
            .with_sub_protocol(SUBPROTOCOL)
            .with_header("Authorization", format!("Bearer {}", self.token));
        let (socket, _) = tokio_tungstenite::client_async_tls(request, stream).await.map_err(handshake_trouble)?;
        Socket::greeted(socket).await.map(|socket| Connection::Socket(Box::new(socket)))
    }
}

impl Connection {
    /// Sends a command, in the order of the calls where that matters to the server. Returns at once; that the
    /// connection is gone shows in [`Self::hear`].
    pub fn say(&mut self, command: &Command<'_>) {
        match self {
            Self::Socket(socket) => socket.say(command),
            Self::Web(web) => web.say(command),
        }
    }

    /// The next frame. Nothing is lost when the future is dropped before it is ready.
    pub async fn hear(&mut self) -> Result<Heard, Trouble> {
        match self {
            Self::Socket(socket) => socket.hear().await,
            Self::Web(web) => web.hear().await,
        }
    }

    /// Says goodbye, where that is done.
    pub async fn close(self) {
        match self {
            Self::Socket(socket) => socket.close().await,
            Self::Web(_) => {}
        }
    }
}

impl Socket {
    async fn greeted(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<Self, Trouble> {
        let (sink, frames) = socket.split();
        // Unbounded, and bounded all the same: callers keep count of what is in flight.
        let (commands, queue) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write(sink, queue));
        let mut connection = Self { frames, commands, writer, heard_at: Instant::now(), silence: CONNECT_DEADLINE };
        let hello = match connection.hear().await? {
            Heard::Hello(hello) => hello,
            Heard::Reply { .. } | Heard::Record(_) | Heard::Removed(_) | Heard::FollowFailed(_) | Heard::Other => {
                return Err(stranger("its first frame is not a hello"));
            }
        };
        connection.silence = hello.patience();
        if hello.protocol != PROTOCOL {
            return Err(stranger(&format!("it speaks {:?}", hello.protocol)));
        }
        if !hello.authenticated {
            return Err(Trouble::Lasting(token_refused("it did not take the token")));
        }
        Ok(connection)
    }

    fn say(&self, command: &Command<'_>) {
        let _ = self.commands.send(Message::text(command.encode()));
    }

    async fn hear(&mut self) -> Result<Heard, Trouble> {
        loop {
            let Ok(message) = timeout_at(self.heard_at + self.silence, self.frames.next()).await else {
                return Err(passing(format!("the server has said nothing for {:.1} s", self.silence.as_secs_f64())));
            };
            self.heard_at = Instant::now();
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Heard::decode(&text).map_err(|error| stranger(&format!("it sent a frame with {error}")));
                }
                Some(Ok(Message::Binary(_))) => return Err(stranger("it sent a binary frame")),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    return Err(close_trouble(frame.as_ref().map(|frame| (frame.code.into(), &*frame.reason))));
                }
                Some(Err(error)) => return Err(socket_trouble(&error)),
                None => return Err(passing("the connection was closed".to_owned())),
            }
        }
    }

    async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = self.commands.send(Message::Close(Some(frame)));
        // What was on its way to us may still come before the answer.
        let goodbye = async { while let Some(Ok(Message::Text(_) | Message::Ping(_))) = self.frames.next().await {} };
        let _ = timeout(CLOSE_DEADLINE, goodbye).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Writes what is queued, as many commands at once as there are.
async fn write(
    mut sink: SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, Message>,
    mut queue: mpsc::UnboundedReceiver<Message>,
) {
    while let Some(message) = queue.recv().await {
        if sink.feed(message).await.is_err() {
            return;
        }
        while let Ok(message) = queue.try_recv() {
            if sink.feed(message).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

fn how_to_stop() -> &'static str {
    if std::io::stderr().is_terminal() { " (Ctrl-C ends it)" } else { "" }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://127.0.0.1:7700", "127.0.0.1", 7700, "ws://127.0.0.1:7700/v1/ws")]
    #[case("ws://chat.example:80/", "chat.example", 80, "ws://chat.example:80/v1/ws")]
    #[case("http://chat.example", "chat.example", 80, "ws://chat.example:80/v1/ws")]
    #[case("https://chat.example", "chat.example", 443, "wss://chat.example:443/v1/ws")]
    #[case("http://[::1]:7700/chat/", "::1", 7700, "ws://[::1]:7700/chat/v1/ws")]
    fn a_url_names_a_server(#[case] url: &str, #[case] host: &str, #[case] port: u16, #[case] uri: &str) {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.uri.to_string().as_str()), (host, port, uri));
    }

    #[rstest]
    #[case("127.0.0.1:7700", "http://127.0.0.1:7700")]
    #[case("localhost", "the scheme has to be http or https")]
    #[case("ftp://chat.example", "the scheme has to be http or https")]
    #[case("http://ann@chat.example", "neither a user nor a query")]
    #[case("http://chat.example/?a=b", "neither a user nor a query")]
    #[case("", "http://127.0.0.1:7700")]
    fn a_url_that_names_none_is_refused(#[case] url: &str, #[case] why: &str) {
        let refusal = Target::parse(url).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
}
