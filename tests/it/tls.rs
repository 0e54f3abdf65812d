//! TLS: who speaks it is served as anybody, who does not is sent away, and the certificate can be changed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use chinwag::actors::Limits;
use chinwag::actors::limits::Connections;
use chinwag::config::Tls;
use chinwag::tls::Certificate;
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{Setup, TestServer, create_channel, eventually, patiently, post};

#[tokio::test]
async fn a_websocket_over_tls_is_one_like_any_other_and_can_be_cut() {
    let dir = tempfile::tempdir().unwrap();
    let files = pair(dir.path(), "one");
    let certificate = Certificate::load(&files).unwrap();
    let server = TestServer::with(Setup { tls: Some(certificate), ..Setup::default() });
    let mut ann = Encrypted::open(&server, &files, "ann").await;
    assert_eq!(ann.tls_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    ann.ask(create_channel("lobby")).await;
    assert_eq!(ann.ask(post("lobby", "hello")).await["seq"], 3);
    // Without the second handle on the socket it could not have been opened; that it is the right one shows here.
    let relays = server.registry.relays();
    for relay in relays.into_iter().filter_map(|id| server.registry.relay(id)) {
        relay.send(chinwag::actors::relay::CutAll).await.unwrap();
    }
    assert!(patiently(ann.socket.next()).await.is_none_or(|read| read.is_err()), "it ends without a word");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_and_those_who_are_there_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (pair(dir.path(), "one"), pair(dir.path(), "other"));
    let certificate = Certificate::load(&one).unwrap();
    let server = TestServer::with(Setup { tls: Some(certificate.clone()), ..Setup::default() });
    let mut ann = Encrypted::open(&server, &one, "ann").await;
    assert!(connect(&server, &other).await.is_err(), "the other certificate is not shown yet");
    certificate.replace(&Certificate::load(&other).unwrap());
    assert!(connect(&server, &one).await.is_err(), "the first certificate is not shown any more");
    Encrypted::open(&server, &other, "bob").await.ask(create_channel("bobs")).await;
    ann.ask(create_channel("anns")).await;
}

#[tokio::test]
async fn http_is_spoken_and_nothing_else_is_agreed_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = pair(dir.path(), "one");
    let server = TestServer::with(Setup { tls: Some(Certificate::load(&files).unwrap()), ..Setup::default() });
    let mut stream = connect(&server, &files).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Some servers close without a goodbye of TLS; what came before it counts.
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn who_does_not_speak_tls_is_sent_away_and_who_says_nothing_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = pair(dir.path(), "one");
    let server = TestServer::with(Setup { tls: Some(Certificate::load(&files).unwrap()), ..Setup::default() });
    let mut silent = server.raw("").await;
    let mut plain = server.raw("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    for stream in [&mut plain, &mut silent] {
        let mut answer = Vec::new();
        let _ = patiently(stream.read_to_end(&mut answer)).await;
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
    }
    let mut ann = Encrypted::open(&server, &files, "ann").await;
    ann.ask(create_channel("lobby")).await;
    eventually("one connection", || server.registry.rooms_awake() == 1).await;
}

#[tokio::test]
async fn who_has_not_finished_a_handshake_counts_as_opening() {
    let dir = tempfile::tempdir().unwrap();
    let files = pair(dir.path(), "one");
    let connections = Connections { opening_per_address: Some(2), ..Connections::default() };
    let limits = Limits { connections, ..Limits::default() };
    let tls = Some(Certificate::load(&files).unwrap());
    let server = TestServer::with(Setup { limits, tls, ..Setup::default() });
    let silent = [server.raw("").await, server.raw("").await];
    let opening = || server.registry.connections().opening(IpAddr::from(Ipv4Addr::LOCALHOST).into());
    eventually("both count", || opening() == 2).await;
    assert!(connect(&server, &files).await.is_err(), "a third is one too many");
    drop(silent);
    eventually("they are gone", || opening() == 0).await;
    connect(&server, &files).await.unwrap();
}

/// A certificate of its own for `localhost`.
fn pair(dir: &Path, name: &str) -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = Tls { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
    fs::write(&files.cert, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

/// A connection that trusts nobody but the owner of `files`.
async fn connect(server: &TestServer, files: &Tls) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    patiently(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

struct Encrypted {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Encrypted {
    async fn open(server: &TestServer, files: &Tls, user: &str) -> Self {
        let stream = connect(server, files).await.unwrap();
        let mut request = format!("wss://localhost:{}/v1/ws", server.address.port()).into_client_request().unwrap();
        let token = format!("Bearer {}", server.token(user));
        request.headers_mut().insert("Authorization", token.parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let mut client = Self { socket };
        assert_eq!(client.next().await["type"], "hello");
        client
    }

    fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        self.socket.get_ref().get_ref().1.protocol_version()
    }

    async fn ask(&mut self, mut command: Value) -> Value {
        command["id"] = json!("1");
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        loop {
            let value = self.next().await;
            if value["type"] == "reply" {
                assert_eq!(value["ok"], true, "{value}");
                return value;
            }
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = patiently(self.socket.next()).await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}
