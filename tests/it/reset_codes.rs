//! Codes that users ask for themselves, given to them by what the operator runs besides.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use chinwag::actors::Limits;
use chinwag::actors::limits::Rate;
use chinwag::auth::Secret;
use chinwag::reset_hook::ResetHookOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::accounts::{PASSWORD, anybody, log_in, now, open, owner, refused, register, send, text};
use crate::harness::{Setup, TestServer, create_channel, patiently, post};

const SECRET: [u8; 32] = [b'h'; 32];

/// What gives users their codes: notes what it is told, and fails or hangs when it is to.
#[derive(Default)]
struct Hook {
    told: Mutex<Vec<(String, String)>>,
    status: AtomicU16,
    /// How often it answers with that status.
    failures: AtomicU16,
    hangs: AtomicBool,
}

impl Hook {
    async fn start() -> (Arc<Self>, ResetHookOptions) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/codes", listener.local_addr().unwrap());
        let hook = Arc::new(Self::default());
        let its = Arc::clone(&hook);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let hook = Arc::clone(&its);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    let head = String::from_utf8(head).ok()?.to_lowercase();
                    let header = |name: &str| {
                        let line = head.lines().find(|line| line.starts_with(&format!("{name}: ")));
                        line.map(|line| line[name.len() + 2..].to_owned()).unwrap_or_default()
                    };
                    let mut body = vec![0; header("content-length").parse().ok()?];
                    stream.read_exact(&mut body).await.ok()?;
                    let status = hook.status_for(header("chinwag-signature"), String::from_utf8(body).ok()?).await;
                    let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.ok()
                });
            }
        });
        (hook, ResetHookOptions { url, secret: Secret::new(SECRET.to_vec()).unwrap() })
    }

    async fn status_for(&self, signature: String, body: String) -> u16 {
        self.told.lock().unwrap().push((signature, body));
        if self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let fails = |left: u16| left.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails) {
            Ok(_) => self.status.load(Ordering::SeqCst),
            Err(_) => 204,
        }
    }

    fn fails_once_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
        self.failures.store(1, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// The last that it was told, when it has been told so often.
    async fn told(&self, count: usize) -> (String, Value) {
        let told = async {
            while self.count() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        patiently(told).await;
        let told = self.told.lock().unwrap();
        assert_eq!(told.len(), count, "{told:?}");
        let (signature, body) = told.last().unwrap();
        let fields: Vec<_> = signature.split(',').collect();
        let (time, tag) = (fields[0].strip_prefix("t=").unwrap(), fields[1].strip_prefix("v1=").unwrap());
        assert!((now().0 / 1000 - time.parse::<i64>().unwrap()).abs() < 60, "{signature}");
        let tag: Vec<u8> =
            (0..tag.len()).step_by(2).map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap()).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
        hmac::verify(&key, format!("{time}.{body}").as_bytes(), &tag).expect("it is signed");
        (signature.clone(), serde_json::from_str(body).unwrap())
    }
}

async fn stage(limits: Limits) -> (TestServer, Arc<Hook>) {
    let (hook, options) = Hook::start().await;
    let setup = Setup { accounts: anybody(), reset_hook: Some(options), limits, ..Setup::default() };
    (TestServer::with(setup), hook)
}

async fn ask(server: &TestServer, name: &str) -> (u16, Value) {
    send(server, "POST", "/v1/resets/codes", None, &json!({ "name": name })).await
}

#[tokio::test]
async fn who_asks_is_sent_a_code_that_sets_another_password() {
    let (server, hook) = stage(Limits::lifted()).await;
    let ann = register(&server, "ann").await;
    let mut client = server.client_with(text(&ann["token"]), None).await;
    client.ask(json!({ "type": "profile_update", "email": "ann@example.org", "telephone": "+4930123456" })).await;
    assert_eq!(ask(&server, "ann").await, (202, json!({})));
    let (_, told) = hook.told(1).await;
    let keys: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "email", "expires_at", "id", "telephone", "tenant", "type", "user"]);
    assert_eq!(
        (&told["type"], &told["tenant"], &told["user"]),
        (&json!("reset_code"), &json!("default"), &json!("ann"))
    );
    assert_eq!((&told["email"], &told["telephone"]), (&json!("ann@example.org"), &json!("+4930123456")));
    let left = told["expires_at"].as_i64().unwrap() - now().0;
    assert!((14 * 60_000..=15 * 60_000).contains(&left), "{left}");
    let body = json!({ "name": "ann", "code": told["code"], "password": "another password" });
    assert_eq!(send(&server, "POST", "/v1/resets", None, &body).await.0, 200);
    log_in(&server, "ann", "another password").await;
}

#[tokio::test]
async fn who_is_not_there_or_may_not_come_in_is_answered_alike_and_nobody_is_told() {
    let (server, hook) = stage(Limits::lifted()).await;
    let owner = owner(&server).await;
    for user in ["ann", "disabled", "banned"] {
        register(&server, user).await;
    }
    let disabled = json!({ "disabled": true });
    assert_eq!(send(&server, "PATCH", "/v1/accounts/disabled", Some(&owner), &disabled).await.0, 200);
    assert_eq!(send(&server, "POST", "/v1/bans", Some(&owner), &json!({ "user": "banned" })).await.0, 201);
    for user in ["nobody", "disabled", "banned", "chinwag:operator"] {
        assert_eq!(ask(&server, user).await, (202, json!({})), "{user}");
    }
    // Those before have been looked at when this one has been sent.
    assert_eq!(ask(&server, "ann").await, (202, json!({})));
    assert_eq!(hook.told(1).await.1["user"], "ann");
    let (status, refusal) = send(&server, "POST", "/v1/resets/codes", None, &json!({ "name": "no name" })).await;
    assert_eq!((status, &refusal["code"]), (400, &json!("bad_request")));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_id_and_what_may_not_is_not() {
    let (server, hook) = stage(Limits::lifted()).await;
    register(&server, "ann").await;
    hook.fails_once_with(503);
    ask(&server, "ann").await;
    let first = hook.told(1).await.1;
    let began = Instant::now();
    let second = hook.told(2).await.1;
    assert!(began.elapsed() > Duration::from_millis(900), "it was not waited for");
    assert_eq!(first, second);
    hook.fails_once_with(404);
    ask(&server, "ann").await;
    hook.told(3).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(hook.count(), 3, "it was tried again");
    let body = json!({ "name": "ann", "code": second["code"], "password": "another password" });
    refused(&server, "POST", "/v1/resets", None, &body, "code_invalid").await;
}

#[tokio::test]
async fn a_hook_that_hangs_keeps_nobody_waiting_and_only_so_many_in_mind() {
    let (server, hook) = stage(Limits::lifted()).await;
    for number in 0..4 {
        register(&server, &format!("user-{number}")).await;
    }
    hook.hangs.store(true, Ordering::SeqCst);
    for number in 0..4 {
        assert_eq!(ask(&server, &format!("user-{number}")).await.0, 202);
    }
    hook.told(4).await;
    let mut bob = server.client("bob").await;
    bob.ask(create_channel("lobby")).await;
    let (mut taken, began) = (0, Instant::now());
    let refusal = loop {
        match ask(&server, "user-0").await {
            (202, _) => taken += 1,
            (status, refusal) => break (status, refusal["code"].clone()),
        }
        bob.ask(post("lobby", "meanwhile")).await;
        assert!(taken <= 300, "there is no bound");
    };
    assert_eq!((refusal, taken), ((503, json!("busy")), 256));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // After its five seconds it is tried again, and with that the same four.
    hook.hangs.store(false, Ordering::SeqCst);
    let later = async {
        while hook.count() < 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(later).await;
}

#[tokio::test]
async fn codes_are_asked_for_so_often_for_one_account_and_from_one_address() {
    let code = |refusal: (u16, Value)| (refusal.0, refusal.1["limit"].as_str().map(str::to_owned));
    let mut limits = Limits::lifted();
    limits.rates.resets_per_account = Some(Rate::per_minute(2, 2));
    let (server, _hook) = stage(limits).await;
    register(&server, "ann").await;
    for user in ["ann", "nobody"] {
        assert_eq!((ask(&server, user).await.0, ask(&server, user).await.0), (202, 202));
        let refused = code(ask(&server, user).await);
        assert_eq!(refused, (429, Some("rates.resets_per_account".to_owned())), "{user}");
    }
    let mut limits = Limits::lifted();
    limits.rates.logins_per_address = Some(Rate::per_minute(2, 2));
    let (server, _hook) = stage(limits).await;
    assert_eq!((ask(&server, "a").await.0, ask(&server, "b").await.0), (202, 202));
    assert_eq!(code(ask(&server, "c").await), (429, Some("rates.logins_per_address".to_owned())));
}

#[tokio::test]
async fn without_a_hook_only_administrators_give_codes() {
    let server = open();
    register(&server, "ann").await;
    refused(&server, "POST", "/v1/resets/codes", None, &json!({ "name": "ann" }), "resets_off").await;
    log_in(&server, "ann", PASSWORD).await;
}
