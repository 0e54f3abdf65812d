//! The native protocol over WebSocket, command by command.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::harness::{TestServer, create_channel, follow, join, kick, masked, post, raw_frame};

#[tokio::test]
async fn two_clients_talk_and_see_the_same_order() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let created = ann.ask(create_channel("lobby")).await;
    assert_eq!(created["seq"], 1);
    bob.ask(join("lobby")).await;
    for client in [&mut ann, &mut bob] {
        client.ask(follow("lobby", "start")).await;
    }
    let reply = bob.ask(post("lobby", "hello")).await;
    assert_eq!(reply["seq"], 4);
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.seqs_until(3).await, [1, 2, 3]);
        let record = client.record().await;
        assert_eq!(record["seq"], 4);
        assert_eq!(record["event"], "message_posted");
        assert_eq!(record["content"], json!({ "text": "hello" }));
        assert_eq!(record["author"], "bob");
        assert_eq!((&record["id"], &record["cursor"]), (&reply["record"], &reply["cursor"]));
    }
}

#[tokio::test]
async fn json_and_messagepack_clients_share_rooms() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let mut bob = server.client_with(&server.token("bob"), Some("chinwag.v1.msgpack")).await;
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    ann.ask(follow("lobby", "now")).await;
    bob.ask(follow("lobby", "now")).await;
    let content = json!({ "text": "hi", "n": 1, "deep": { "list": [1.5, null, true, "é"] } });
    bob.ask(json!({ "type": "post", "room": "lobby", "content": content })).await;
    ann.ask(json!({ "type": "post", "room": "lobby", "content": content })).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.record().await["content"], content);
        assert_eq!(client.record().await["content"], content);
    }
}

#[tokio::test]
async fn a_follow_is_answered_with_its_position_before_any_record() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.notice("room_gained").await;
    let id = ann.send(follow("lobby", "start")).await;
    let reply = ann.next().await;
    assert_eq!((&reply["type"], &reply["id"]), (&json!("reply"), &json!(id)));
    assert!(reply["cursor"].is_string());
    assert_eq!(reply["head"], 2);
    assert_eq!(ann.next().await["seq"], 1);
}

#[tokio::test]
async fn a_cursor_resumes_behind_the_record_it_came_with() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut cursors = vec![ann.ask(follow("lobby", "start")).await["cursor"].clone()];
    for n in 0..20 {
        ann.ask(post("lobby", &n.to_string())).await;
    }
    for _ in 0..22 {
        cursors.push(ann.record().await["cursor"].clone());
    }
    for (seq, cursor) in cursors.iter().enumerate() {
        let mut again = server.client("ann").await;
        again.ask(follow("lobby", cursor.as_str().unwrap())).await;
        if seq < 22 {
            assert_eq!(again.seqs_until(22).await.first(), Some(&(seq as u64 + 1)));
        }
        ann.ask(json!({ "type": "rooms" })).await;
        assert!(again.take_aside().is_empty());
    }
}

#[tokio::test]
async fn a_long_history_is_paged_into_the_live_tail() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let mut sent = Vec::new();
    for n in 0..3_000 {
        sent.push(ann.send(post("lobby", &n.to_string())).await);
        if sent.len() == 50 {
            for id in sent.drain(..) {
                assert_eq!(ann.reply(&id).await["ok"], true);
            }
        }
        if n == 1_000 {
            bob.ask(follow("lobby", "start")).await;
        }
    }
    for id in sent {
        ann.reply(&id).await;
    }
    let seqs = bob.seqs_until(3_003).await;
    assert_eq!(seqs, (1..=3_003).collect::<Vec<_>>());
}

#[tokio::test]
async fn history_is_paged_backwards_to_the_first_record() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    for n in 0..25 {
        ann.ask(post("lobby", &n.to_string())).await;
    }
    let mut seen = Vec::new();
    let mut before = json!(null);
    loop {
        let mut command = json!({ "type": "history", "room": "lobby", "limit": 10 });
        if !before.is_null() {
            command["before"] = before;
        }
        let page = ann.ask(command).await;
        let seqs: Vec<_> = page["records"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect();
        seen.splice(0..0, seqs);
        before = page["before"].clone();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(seen, (1..=27).collect::<Vec<_>>());
}

#[tokio::test]
async fn several_rooms_are_followed_on_one_connection() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    for room in ["red", "green", "blue"] {
        ann.ask(create_channel(room)).await;
        ann.ask(follow(room, "now")).await;
    }
    let green = ann.ask(post("green", "hi")).await["room"].clone();
    let blue = ann.ask(post("blue", "ho")).await["room"].clone();
    assert_eq!(ann.record().await["room"], green);
    assert_eq!(ann.record().await["room"], blue);
    ann.ask(json!({ "type": "unfollow", "room": "green" })).await;
    assert_eq!(ann.refused(json!({ "type": "unfollow", "room": "green" })).await, "not_following");
    ann.ask(post("green", "unheard")).await;
    ann.ask(post("blue", "heard")).await;
    assert_eq!(ann.record().await["content"]["text"], "heard");
}

#[tokio::test]
async fn a_publish_with_a_client_id_can_be_repeated() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut post = post("lobby", "once");
    post["client_id"] = json!("c-1");
    let first = ann.ask(post.clone()).await;
    let again = ann.ask(post.clone()).await;
    assert_eq!((&first["seq"], &first["record"], &first["at"]), (&again["seq"], &again["record"], &again["at"]));
    assert_eq!((first.get("duplicate"), &again["duplicate"]), (None, &json!(true)));
    post["content"]["text"] = json!("something else");
    assert_eq!(ann.refused(post).await, "client_id_reused");
    let mut bob = server.client("bob").await;
    bob.ask(join("lobby")).await;
    let mut his = crate::harness::post("lobby", "once");
    his["client_id"] = json!("c-1");
    assert_ne!(bob.ask(his).await["seq"], first["seq"], "a client id is its author's own");
}

#[tokio::test]
async fn commands_of_one_connection_are_carried_out_in_their_order() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    let ids = [
        bob.send(join("lobby")).await,
        bob.send(post("lobby", "1")).await,
        bob.send(follow("lobby", "start")).await,
        bob.send(post("lobby", "2")).await,
        bob.send(json!({ "type": "leave", "room": "lobby" })).await,
        bob.send(post("lobby", "3")).await,
    ];
    let mut answers = Vec::new();
    for id in ids {
        let reply = bob.reply(&id).await;
        answers.push(reply["error"]["code"].as_str().map_or_else(|| "ok".to_owned(), str::to_owned));
    }
    assert_eq!(answers, ["ok", "ok", "ok", "ok", "ok", "not_member"]);
}

#[tokio::test]
async fn a_room_is_named_by_uuid_num_or_alias() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let created = ann.ask(create_channel("lobby")).await;
    let names =
        [created["room"].clone(), created["num"].clone(), json!(created["num"].to_string()), json!("alias:lobby")];
    for name in names {
        let reply = ann.ask(json!({ "type": "post", "room": name, "content": { "text": "hi" } })).await;
        assert_eq!(reply["room"], created["room"], "{name}");
    }
}

#[tokio::test]
async fn a_first_frame_may_carry_the_token() {
    let server = TestServer::start();
    let mut ann = server.open(None, None).await;
    assert_eq!(ann.next().await["authenticated"], false);
    assert_eq!(ann.refused(join("lobby")).await, "unauthenticated");
    let reply = ann.ask(json!({ "type": "auth", "token": server.token("ann") })).await;
    assert_eq!((&reply["user"], &reply["tenant"]), (&json!("ann"), &json!("default")));
    ann.ask(create_channel("lobby")).await;
    assert_eq!(ann.refused(json!({ "type": "auth", "token": server.token("bob") })).await, "already_authenticated");
}

#[tokio::test]
async fn a_sub_protocol_may_carry_the_token() {
    let server = TestServer::start();
    let offered = format!("bearer.{}, chinwag.v1.json", server.token("ann"));
    let mut ann = server.open(None, Some(&offered)).await;
    assert_eq!(ann.next().await["authenticated"], true);
    ann.ask(create_channel("lobby")).await;
}

#[tokio::test]
async fn tenants_do_not_see_each_others_rooms() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    let token = server.token_in("other", "ann", Duration::from_secs(60));
    let mut other = server.client_with(&token, None).await;
    let room = ann.ask(create_channel("lobby")).await["room"].clone();
    for name in [room, json!("lobby"), json!(1)] {
        for kind in ["join", "follow", "history", "leave"] {
            assert_eq!(other.refused(json!({ "type": kind, "room": name })).await, "room_not_found");
        }
    }
    assert_eq!(other.ask(create_channel("lobby")).await["seq"], 1);
}

#[tokio::test]
async fn a_users_live_sessions_hear_when_a_room_is_gained_or_lost() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    bob.ask(json!({ "type": "rooms" })).await;
    let create = json!({ "type": "create", "kind": "group", "members": [{ "user": "bob" }] });
    let room = ann.ask(create).await["room"].clone();
    let invited = bob.notice("room_gained").await;
    assert_eq!((&invited["room"], &invited["standing"]), (&room, &json!("invited")));
    bob.ask(json!({ "type": "join", "room": room })).await;
    assert_eq!(bob.notice("room_gained").await["standing"], "member");
    ann.ask(json!({ "type": "role", "room": room, "user": "bob", "role": "admin" })).await;
    assert_eq!(bob.notice("room_gained").await["role"], "admin");
    let audit = bob.notice("room_gained").await;
    assert_eq!(audit["role"], "viewer");
    ann.ask(json!({ "type": "role", "room": room, "user": "bob", "role": "member" })).await;
    assert_eq!(bob.notice("room_lost").await["room"], audit["room"]);
    let listed = bob.ask(json!({ "type": "rooms" })).await["rooms"].clone();
    assert_eq!(listed, json!([{ "room": room, "kind": "group", "role": "member", "standing": "member" }]));
    ann.ask(kick(&room, "bob")).await;
    assert_eq!(bob.notice("room_lost").await["room"], room);
    assert_eq!(bob.ask(json!({ "type": "rooms" })).await["rooms"], json!([]));
}

#[tokio::test]
async fn every_command_has_exactly_one_reply() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let commands = [
        post("lobby", "hi"),
        post("nowhere", "hi"),
        join("lobby"),
        follow("lobby", "start"),
        follow("lobby", "no cursor"),
        json!({ "type": "history", "room": "lobby", "limit": 3 }),
        json!({ "type": "rooms" }),
        json!({ "type": "unfollow", "room": "lobby" }),
        json!({ "type": "delete", "room": "lobby", "message": uuid::Uuid::nil().to_string() }),
        json!({ "type": "kick", "room": "lobby", "user": "nobody" }),
        json!({ "type": "nonsense" }),
        json!({ "type": "post", "room": "lobby" }),
        create_channel("lobby"),
    ];
    let mut asked = Vec::new();
    for round in 0..10 {
        // As many as there are may be under way at once; where it is too many, that is the one reply.
        for command in commands.iter().cycle().skip(round).take(40) {
            asked.push(ann.send(command.clone()).await);
        }
    }
    // Everything before it has been answered when this is.
    while ann.try_ask(json!({ "type": "rooms" })).await["ok"] != true {}
    let mut replied: Vec<_> = asked.iter().map(|_| String::new()).collect();
    for reply in &mut replied {
        let frame = ann.next_of(&["reply"]).await;
        *reply = frame["id"].as_str().expect("every one of them had an id").to_owned();
    }
    assert!(ann.take_aside().iter().all(|frame| frame["type"] != "reply"), "a second reply");
    asked.sort();
    replied.sort();
    assert_eq!(asked, replied);
}

#[tokio::test]
async fn commands_for_one_room_that_come_together_are_answered_in_their_order() {
    let server = TestServer::start();
    server.client("ann").await.ask(create_channel("lobby")).await;
    let mut stream = server.raw_socket(Some(&server.token("ann"))).await;
    let post = |id: u32| json!({"id": id.to_string(), "type": "post", "room": "lobby", "content": {"text": "so"}});
    let frames: Vec<_> = (0..40).map(|id| masked(0x81, post(id).to_string().as_bytes())).collect();
    stream.write_all(&frames.concat()).await.unwrap();
    let mut answered = Vec::new();
    while answered.len() < 40 {
        let (_, payload) = raw_frame(&mut stream).await.expect("it goes on");
        let message: Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] == "reply" {
            answered.push((message["id"].as_str().unwrap().parse::<u32>().unwrap(), message["seq"].as_u64().unwrap()));
        }
    }
    assert_eq!(answered, (0..40).map(|id| (id, 3 + u64::from(id))).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_posts_behind_a_kick_does_not_wait_for_its_proof_and_who_kicks_again_does() {
    let server = TestServer::start();
    server.client("ann").await.ask(create_channel("lobby")).await;
    server.client("bob").await.ask(join("lobby")).await;
    let asks = |id: &str, mut command: Value| {
        command["id"] = json!(id);
        masked(0x81, command.to_string().as_bytes())
    };
    // Nobody reads this one, and so nobody answers the ping behind the kick.
    let mut bob = server.raw_socket(Some(&server.token("bob"))).await;
    bob.write_all(&asks("follow", follow("lobby", "now"))).await.unwrap();
    while !String::from_utf8_lossy(&raw_frame(&mut bob).await.expect("it goes on").1).contains("\"follow\"") {}
    let mut ann = server.raw_socket(Some(&server.token("ann"))).await;
    let kicked = |id: &str| asks(id, kick(&json!("lobby"), "bob"));
    ann.write_all(&[kicked("kick"), asks("post", post("lobby", "so"))].concat()).await.unwrap();
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let (_, payload) = raw_frame(&mut ann).await.expect("it goes on");
        let message: Value = serde_json::from_slice(&payload).unwrap_or_default();
        if message["type"] == "reply" {
            answered.push(message["id"].as_str().unwrap().to_owned());
            if answered.len() == 1 {
                // Finds him gone already, and says so no sooner than the other.
                ann.write_all(&kicked("again")).await.unwrap();
            }
        }
    }
    assert_eq!(answered, ["post", "kick", "again"]);
}
