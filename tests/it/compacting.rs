//! What users have taken back, and what becomes of it when the data directory is compacted.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::retention::Sweep;
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::store::sled::{Options, SledStore, compact};
use serde_json::{Value, json};

use crate::harness::{Client, Setup, TestServer, create_channel, join, post};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn what_was_taken_back_is_in_no_file_and_all_else_reads_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let mut server = start(dir.path(), &clock);
    let (mut ann, mut bob) = (client(&server, &clock, "ann").await, client(&server, &clock, "bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    ann.ask(create_channel("attic")).await;
    ann.ask(json!({ "type": "update", "room": "attic", "keep_ms": 86_400_000 })).await;
    ann.ask(post("attic", "gone-by-time-5d1c")).await;
    let message = ann.ask(post("lobby", "gone-posted-c0de")).await["record"].clone();
    let edit = |text: &str| json!({ "type": "edit", "room": "lobby", "message": message, "content": { "text": text } });
    ann.ask(edit("gone-edited-77aa")).await;
    ann.ask(edit("gone-edited-again-31bb")).await;
    ann.ask(json!({ "type": "delete", "room": "lobby", "message": message })).await;
    for text in ["draft of long ago gone-draft-0f0f", ""] {
        ann.ask(json!({ "type": "inbox_update", "room": "lobby", "draft": text })).await;
    }
    for email in ["gone-contact-4e4e@example.org", "ann@example.org"] {
        ann.ask(json!({ "type": "profile_update", "email": email, "about": format!("about {email}") })).await;
    }
    let kept = ann.ask(post("lobby", "kept-1234")).await["record"].clone();
    bob.ask(json!({ "type": "react", "room": "lobby", "message": kept, "emoji": "👍" })).await;
    let place = bob.ask(json!({ "type": "follow_all", "from": "now" })).await["cursor"].as_str().unwrap().to_owned();
    let cursor = ann.ask(post("lobby", "kept-5678")).await["cursor"].as_str().unwrap().to_owned();
    ann.ask(post("lobby", "kept-9abc")).await;
    clock.advance(DAY);
    assert!(Sweep::default().round(&server.registry).await.unwrap().records > 0);
    let before = everything(&server, &clock, &cursor, &place).await;
    server.stop();
    drop(server);

    let words = ["by-time-5d1c", "posted-c0de", "edited-77aa", "again-31bb", "draft-0f0f", "contact-4e4e"];
    assert!(words.iter().all(|word| holds(dir.path(), word)), "sled keeps what was there before");
    let compacted = compact(&dir.path().join("data"), options(), |_| ()).unwrap();
    for word in words {
        assert!(!holds(dir.path(), word), "{word}");
    }
    assert!(holds(dir.path(), "kept-1234") && compacted.after < compacted.before);
    let server = start(dir.path(), &clock);
    assert_eq!(everything(&server, &clock, &cursor, &place).await, before);
}

/// What ann and bob see, and where their cursors go on.
async fn everything(server: &TestServer, clock: &ManualClock, cursor: &str, place: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    for user in ["ann", "bob"] {
        let mut client = client(server, clock, user).await;
        for ask in [
            json!({ "type": "history", "room": "lobby" }),
            json!({ "type": "room", "room": "lobby" }),
            json!({ "type": "inbox" }),
            json!({ "type": "rooms" }),
            json!({ "type": "users", "users": ["ann", "bob"] }),
        ] {
            let mut answer = client.ask(ask).await;
            answer["id"] = Value::Null;
            seen.push(answer);
        }
    }
    let mut bob = client(server, clock, "bob").await;
    bob.ask(json!({ "type": "follow", "room": "lobby", "from": cursor })).await;
    seen.push(bob.record().await["content"].clone());
    bob.ask(json!({ "type": "unfollow", "room": "lobby" })).await;
    bob.ask(json!({ "type": "follow_all", "from": place })).await;
    for _ in 0..2 {
        seen.push(bob.record().await["content"].clone());
    }
    seen
}

fn options() -> Options {
    Options { ballast_bytes: 0, free_bytes_min: 0, ..Options::default() }
}

fn start(dir: &Path, clock: &Arc<ManualClock>) -> TestServer {
    let store = SledStore::open(&dir.join("data"), options()).unwrap();
    TestServer::with(Setup { store: Arc::new(store), clock: Arc::clone(clock) as _, ..Setup::default() })
}

async fn client(server: &TestServer, clock: &ManualClock, user: &str) -> Client {
    let token = server.token_of("default", user, clock.now(), Duration::from_secs(3600));
    server.client_with(&token, Some("chinwag.v1.json")).await
}

/// Whether any file of the directory has these bytes in it.
fn holds(path: &Path, text: &str) -> bool {
    fs::read_dir(path).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}
