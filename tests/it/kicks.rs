//! Removals: what has been answered is a barrier, behind which nothing of the room leaves for who was removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chinwag::actors::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Client, Setup, TestServer, create_channel, eventually, follow, join, kick, patiently, post};

#[tokio::test]
async fn a_kicked_follower_sees_its_kick_and_nothing_after_it() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    bob.ask(follow("lobby", "start")).await;
    let id = ann.send(kick(&json!("lobby"), "bob")).await;
    let after = ann.send(post("lobby", "without bob")).await;
    let kicked = ann.reply(&id).await;
    ann.reply(&after).await;
    assert_eq!(bob.seqs_until(4).await, [1, 2, 3, 4]);
    assert_eq!(bob.notice("removed").await["reason"], "kicked");
    assert_eq!(kicked["seq"], 4);
    for command in [post("lobby", "hi"), follow("lobby", "start"), json!({ "type": "history", "room": "lobby" })] {
        assert_eq!(bob.refused(command).await, "not_member");
    }
    assert!(bob.take_aside().iter().all(|frame| frame["type"] != "record"));
}

#[tokio::test]
async fn leaving_ends_the_follows_of_the_users_other_connections() {
    let server = TestServer::start();
    let (mut ann, mut desk, mut phone) =
        (server.client("ann").await, server.client("bob").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    desk.ask(join("lobby")).await;
    desk.ask(follow("lobby", "now")).await;
    phone.ask(follow("lobby", "now")).await;
    phone.ask(json!({ "type": "leave", "room": "lobby" })).await;
    for client in [&mut desk, &mut phone] {
        assert_eq!(client.record().await["event"], "member_left");
        assert_eq!(client.notice("removed").await["reason"], "left");
    }
}

#[tokio::test]
async fn a_member_without_connections_is_kicked_at_once() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    {
        let mut bob = server.client("bob").await;
        bob.ask(join("lobby")).await;
    }
    let began = Instant::now();
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn nothing_leaves_for_a_kicked_client_that_had_stopped_reading() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    let mut stalled = stalled_follower(&server, "bob", "lobby").await;
    let text = "x".repeat(2_000);
    for _ in 0..2_000 {
        ann.ask(post("lobby", &text)).await;
    }
    let began = Instant::now();
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "a client that does not read delays a kick by half a second only"
    );
    // What its own kernel holds is beyond our reach; nothing may be added to it.
    let held = usize::try_from(rustix::io::ioctl_fionread(&stalled).unwrap()).unwrap();
    ann.ask(post("lobby", "after the kick")).await;
    let mut rest = Vec::new();
    let _ = patiently(stalled.read_to_end(&mut rest)).await;
    assert!(rest.len() <= held, "{} bytes came, {held} were there when the kick was answered", rest.len());
    assert!(!String::from_utf8_lossy(&rest).contains("after the kick"));
}

#[tokio::test]
async fn a_user_kicked_while_reading_an_old_page_gets_none_of_it_after_the_answer() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    for n in 0..500 {
        ann.ask(post("lobby", &n.to_string())).await;
    }
    for round in 0..40 {
        let mut bob = server.client("bob").await;
        bob.ask(join("lobby")).await;
        let joined = bob.ask(post("lobby", "here")).await["seq"].as_u64().unwrap() - 1;
        bob.send(follow("lobby", "start")).await;
        let history = bob.send(json!({ "type": "history", "room": "lobby" })).await;
        // Different moments of the reading, one per round.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let kicked = ann.ask(kick(&json!("lobby"), "bob")).await["seq"].as_u64().unwrap();
        ann.ask(post("lobby", "after")).await;
        let _ = bob.reply(&history).await;
        let seqs: Vec<_> = bob
            .take_aside()
            .iter()
            .filter(|frame| frame["type"] == "record")
            .map(|frame| frame["seq"].as_u64().unwrap())
            .collect();
        assert!(seqs.iter().zip(1..).all(|(seq, expected)| *seq == expected), "a gap: {seqs:?}");
        assert!(seqs.iter().all(|seq| *seq <= kicked), "joined at {joined}, kicked at {kicked}, got {seqs:?}");
    }
}

#[tokio::test]
async fn members_come_go_and_follow_in_tight_loops_and_nothing_is_missed_doubled_or_leaked() {
    const MEMBERS: usize = 6;
    const ROUNDS: usize = 40;
    // On a busy machine these clients answer late; that those who do are cut is shown elsewhere.
    let limits = Limits { proof: Duration::from_secs(10), ..Setup::default().limits };
    let server = Arc::new(TestServer::with(Setup { limits, ..Setup::default() }));
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut watcher = server.client("ann").await;
    watcher.ask(follow("lobby", "start")).await;
    let over = Arc::new(AtomicBool::new(false));

    let poster = tokio::spawn({
        let (server, over) = (Arc::clone(&server), Arc::clone(&over));
        async move {
            let mut client = server.client("ann").await;
            let mut posted = 0;
            while !over.load(Ordering::Relaxed) {
                client.ask(post("lobby", &posted.to_string())).await;
                posted += 1;
            }
        }
    });
    let kicker = tokio::spawn({
        let (server, over) = (Arc::clone(&server), Arc::clone(&over));
        async move {
            let mut client = server.client("ann").await;
            for member in (0..MEMBERS).cycle() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                client.try_ask(kick(&json!("lobby"), &format!("user-{member}"))).await;
            }
        }
    });
    let members = (0..MEMBERS).map(|member| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let mut client = server.client(&format!("user-{member}")).await;
            for _ in 0..ROUNDS {
                come_and_follow(&mut client, &format!("user-{member}")).await;
            }
        })
    });
    for member in members.collect::<Vec<_>>() {
        member.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    poster.await.unwrap();
    kicker.await.unwrap();
    let head = ann.ask(post("lobby", "the end")).await["seq"].as_u64().unwrap();
    assert_eq!(watcher.seqs_until(head).await, (1..=head).collect::<Vec<_>>());
}

/// Joins, follows from the start, and reads until the kick; every record has to come once and in order, up to the
/// kick that ends this very membership and not beyond.
async fn come_and_follow(client: &mut Client, user: &str) {
    client.take_aside();
    let joined = client.try_ask(join("lobby")).await;
    let joined = joined["seq"].as_u64().expect("a channel can be joined by who was kicked");
    let followed = client.try_ask(follow("lobby", "start")).await;
    if followed["ok"] == false {
        assert_eq!(followed["error"]["code"], "not_member");
        return;
    }
    let mut at = 0;
    loop {
        let frame = client.next().await;
        match frame["type"].as_str() {
            Some("record") => {
                at += 1;
                assert_eq!(frame["seq"], at, "{user}: missed or doubled");
                let mine = frame["event"] == "member_kicked" && frame["user"] == *user;
                if mine && at > joined {
                    assert_eq!(client.next_of(&["record", "removed"]).await["type"], "removed", "{user}: leaked");
                    return;
                }
            }
            // Kicked while it was still catching up: what is left is read after it has come back.
            Some("removed") => return,
            _ => {}
        }
    }
}

/// A connection that follows a room and never reads what comes.
pub async fn stalled_follower(server: &TestServer, user: &str, room: &str) -> TcpStream {
    let mut stalled = server.raw_socket(Some(&server.token(user))).await;
    start_following(server, &mut stalled, room).await;
    stalled
}

/// Follows a room over a bare socket, and waits until the server has noted it.
pub async fn start_following(server: &TestServer, socket: &mut TcpStream, room: &str) {
    let command = json!({ "type": "follow", "id": "1", "room": room, "from": "now" });
    socket.write_all(&masked(&command)).await.unwrap();
    let room = room.to_owned();
    let registry = Arc::clone(&server.registry);
    let tenant = chinwag::domain::TenantId::default_tenant();
    let name = chinwag::domain::RoomName::parse(&room).unwrap();
    let key = registry.resolve(&tenant, &name).await.unwrap();
    eventually("the follow", || !registry.interest(&key).is_empty()).await;
}

/// A text frame as a client sends it, with a mask of zeros.
fn masked(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let length = u8::try_from(text.len()).expect("a short command");
    assert!(length < 126);
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}
