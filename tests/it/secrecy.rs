//! No token, ticket or secret in any log, however much is logged and whoever logs it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chinwag::actors::Gate;
use chinwag::auth::options::{
    Algorithm, IssuerOptions, JwksOptions, JwksSource, KeyOptions, KeySource, ProfileClaims, TenantSource,
};
use chinwag::auth::{Identity, IdentityOptions, Secret};
use chinwag::clock::{Clock, SystemClock};
use chinwag::domain::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::harness::{Setup, TestServer, create_channel, handshake, patiently, post};

/// What everybody has logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // The test's own client, which is no part of a server.
        if record.target().starts_with("tungstenite") || record.target().starts_with("tokio_tungstenite") {
            return;
        }
        let _ = writeln!(self.clone(), "{} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn no_log_holds_a_token_a_ticket_or_a_secret() {
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false).with_writer(lines.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).expect("nobody else writes logs in these tests");
    log::set_logger(Box::leak(Box::new(lines.clone()))).expect("nobody else writes logs in these tests");
    log::set_max_level(log::LevelFilter::Trace);

    let dir = tempfile::tempdir().unwrap();
    let shared = URL_SAFE_NO_PAD.encode([0x5a; 40]);
    std::fs::write(dir.path().join("shared.key"), &shared).unwrap();
    let options = IdentityOptions { issuers: issuers(dir.path()), ..IdentityOptions::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let identity = Identity::new(&options, Secret::new(vec![7; 32]).unwrap(), clock).unwrap();
    let gate: Arc<dyn Gate> = Arc::new(identity);
    let admin = dir.path().join("admin.sock");
    let server = TestServer::with(Setup { gate: Some(gate), admin: Some(admin.clone()), ..Setup::default() });

    let good = server.token("ann");
    let refreshed = server.token_in("default", "ann", Duration::from_secs(1800));
    let expired = server.token_of("default", "ann", Timestamp(1_000_000), Duration::from_secs(60));
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    let now = SystemClock.now().0 / 1000;
    let foreign = |iss: &str| {
        let claims = json!({ "iss": iss, "aud": "chat", "sub": "eve", "iat": now, "exp": now + 60 });
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(&[0x5a; 40])).unwrap()
    };
    let (others, unknown) = (foreign("https://shared.example"), foreign("https://keys.example"));
    let mut tickets = Vec::new();

    for token in [&good, &expired, &forged, &others, &unknown] {
        for headers in [
            format!("Authorization: Bearer {token}\r\n"),
            format!("X-Auth-Token: {token}\r\n"),
            format!("Sec-WebSocket-Protocol: chinwag.v1.json, bearer.{token}\r\n"),
            // By mistake: as if it were a password, and as two lines.
            format!("Authorization: Basic {token}\r\n"),
            format!("Authorization: Bearer {token}\r\nX-Auth-Token: {good}\r\n"),
            format!("Cookie: token={token}\r\n"),
        ] {
            send(&server, &handshake(&headers)).await;
            let plain = format!("POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{headers}\r\n");
            let answer = send(&server, &plain).await;
            if let Some((_, ticket)) = answer.split_once("\"ticket\":\"") {
                tickets.push(ticket.split('"').next().unwrap().to_owned());
            }
        }
        for path in ["/v1/ws?access_token=", "/v1/ws?ticket=", "/v1/rooms/1/events?token=", "/nowhere?token="] {
            send(&server, &handshake("").replace("/v1/ws", &format!("{path}{token}"))).await;
            send(&server, &format!("GET {path}{token} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        }
        // Where a token is taken in the address.
        let path = "/misakey/boxes/7eea6625-54c1-41eb-8296-d6c19976ae8a/events/ws?access_token=";
        send(&server, &handshake("").replace("/v1/ws", &format!("{path}{token}"))).await;
        let mut client = server.open(None, None).await;
        client.next().await;
        client.try_ask(json!({ "type": "auth", "token": token })).await;
        // And where none belongs.
        let mut stream = server.raw(&format!("{token}\r\n\r\n")).await;
        let _ = patiently(stream.read_to_end(&mut Vec::new())).await;
    }
    assert!(tickets.len() > 3, "{tickets:?}");
    for ticket in &tickets {
        for path in ["/v1/ws?ticket=", "/v1/rooms/1/events?ticket="] {
            send(&server, &handshake("").replace("/v1/ws", &format!("{path}{ticket}"))).await;
        }
    }
    let mut ann = server.client_with(&good, None).await;
    ann.ask(create_channel("harbour")).await;
    ann.ask(post("harbour", "a secret between friends")).await;
    ann.ask(json!({ "type": "auth", "token": refreshed })).await;
    let id = claims(&good)["jti"].as_str().unwrap().to_owned();
    let revoke = reqwest::Client::builder().unix_socket(admin.as_path()).build().unwrap();
    let revoke = revoke.post("http://localhost/revocations").json(&json!({ "user": "ann" })).send();
    assert!(patiently(revoke).await.unwrap().status().is_success());
    assert_eq!(ann.closed().await, Some(4401));
    drop(server);

    let logged = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(logged.contains("a token was refused"), "the refusals were logged");
    for target in ["actix", "hyper", "reqwest"] {
        assert!(logged.contains(target), "{target} was logged, too");
    }
    let mut secrets = vec![shared, URL_SAFE_NO_PAD.encode([7; 32]), "a secret between friends".to_owned()];
    for token in [&good, &refreshed, &expired, &forged, &others, &unknown] {
        // Also in parts: a claim set or a signature alone.
        secrets.extend(token.split('.').skip(1).map(str::to_owned));
    }
    secrets.extend(tickets);
    secrets.extend(["access_token=", "ticket=", "?token="].map(str::to_owned));
    for secret in &secrets {
        if let Some(line) = logged.lines().find(|line| line.contains(secret.as_str())) {
            panic!("{secret} is in a log: {line}");
        }
    }
    assert!(!id.is_empty());
}

/// One with a shared secret, and one whose keys cannot be read.
fn issuers(dir: &std::path::Path) -> Vec<IssuerOptions> {
    let issuer = |iss: &str| IssuerOptions {
        name: iss.to_owned(),
        iss: iss.to_owned(),
        audiences: vec!["chat".to_owned()],
        typ: IssuerOptions::typ_default(),
        user_claim: IssuerOptions::USER_CLAIM_DEFAULT.to_owned(),
        tenant: TenantSource::Fixed("default".to_owned()),
        profile: ProfileClaims::default(),
        required: Vec::new(),
        keys: Vec::new(),
        jwks: None,
    };
    let source = KeySource::SecretFile(dir.join("shared.key"));
    let keys = vec![KeyOptions { kid: None, algorithm: Algorithm::Hs256, source }];
    let jwks = Some(JwksOptions::of(JwksSource::Url("http://127.0.0.1:9/keys?token=abc".to_owned())));
    vec![
        IssuerOptions { keys, ..issuer("https://shared.example") },
        IssuerOptions { jwks, ..issuer("https://keys.example") },
    ]
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// Sends a request and reads what comes at once.
async fn send(server: &TestServer, request: &str) -> String {
    let mut stream = server.raw(request).await;
    let mut bytes = vec![0; 16 * 1024];
    let count = patiently(stream.read(&mut bytes)).await.unwrap_or(0);
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}
