//! Commands as plain requests: every route with what it answers and refuses, and the description that it keeps to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::store::memory::MemoryStore;
use chinwag::wire::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Setup, TestServer, create_channel, eventually, follow, join, patiently, post};
use crate::requests::{Answer, Request};

#[tokio::test]
async fn every_route_of_a_command_does_what_the_command_does_and_answers_as_described() {
    let server = TestServer::start();
    let mut walk = Walk::new(&server).await;
    let (ann, bob, eve) = (server.token("ann"), server.token("bob"), server.token("eve"));

    let me = walk.ok(&ann, "auth", &[], None).await;
    assert_eq!((&me["user"], &me["tenant"]), (&json!("ann"), &json!("default")));

    let made = walk.answer(&ann, "create", &[], Some(json!({ "kind": "group", "name": "Us" }))).await;
    let room = made.json()["room"].as_str().unwrap().to_owned();
    assert_eq!((made.status, made.header("location")), (201, format!("/v1/rooms/{room}").as_str()));
    let room = room.as_str();

    let about = walk.ok(&ann, "room", &[("room", room)], None).await;
    let expected = json!({
        "kind": "group", "alias": null, "name": "Us", "archived": false, "role": "owner", "standing": "member", "head": 2,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&about[name], value, "{name} of {about}");
    }

    walk.ok(&ann, "update", &[("room", room)], Some(json!({ "name": null }))).await;
    assert_eq!(walk.ok(&ann, "room", &[("room", room)], None).await["name"], Value::Null);

    walk.ok(&ann, "invite", &[("room", room), ("user", "bob")], Some(json!({ "role": "guest" }))).await;
    walk.ok(&ann, "invite", &[("room", room), ("user", "eve")], None).await;
    let invited = walk.ok(&bob, "room", &[("room", room)], None).await;
    assert_eq!((&invited["role"], &invited["standing"]), (&json!("guest"), &json!("invited")));
    assert_eq!((&invited["head"], &invited["cursor"]), (&Value::Null, &Value::Null), "where it stands is for members");
    walk.ok(&bob, "join", &[("room", room)], None).await;
    walk.ok(&eve, "join", &[("room", room)], None).await;

    let first = walk.ok(&ann, "members", &[("room", room), ("limit", "2")], None).await;
    let who = |page: &Value| -> Vec<(Value, Value)> {
        let members = page["members"].as_array().unwrap().iter();
        members.map(|member| (member["user"].clone(), member["role"].clone())).collect()
    };
    assert_eq!(who(&first), [(json!("ann"), json!("owner")), (json!("bob"), json!("guest"))]);
    assert_eq!(first["after"], "bob");
    let rest = walk.ok(&ann, "members", &[("room", room), ("after", "bob")], None).await;
    assert_eq!((who(&rest), &rest["after"]), (vec![(json!("eve"), json!("member"))], &Value::Null));

    let rights = json!({ "allow": ["pin"], "deny": ["react"] });
    walk.ok(&ann, "rights", &[("room", room), ("user", "bob")], Some(rights.clone())).await;
    let may = walk.ok(&bob, "room", &[("room", room)], None).await["capabilities"].clone();
    assert_eq!(may, json!(["post", "pin"]));
    let listed = walk.ok(&bob, "members", &[("room", room)], None).await["members"][1].clone();
    assert_eq!(
        (&listed["user"], &listed["allow"], &listed["deny"]),
        (&json!("bob"), &rights["allow"], &rights["deny"])
    );
    walk.ok(&ann, "rights", &[("room", room), ("user", "bob")], Some(json!({}))).await;

    walk.ok(&ann, "role", &[("room", room), ("user", "bob")], Some(json!({ "role": "admin" }))).await;
    let raised = walk.ok(&bob, "room", &[("room", room)], None).await;
    assert_eq!(raised["role"], "admin");

    let content = json!({ "content": { "text": "hello", "mood": "fine" }, "client_id": "c-1" });
    let posted = walk.answer(&bob, "post", &[("room", room)], Some(content.clone())).await;
    assert_eq!(posted.status, 201);
    let posted = posted.json();
    let again = walk.answer(&bob, "post", &[("room", room)], Some(content)).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!((&again.json()["record"], &again.json()["seq"]), (&posted["record"], &posted["seq"]));

    let message = posted["record"].as_str().unwrap();
    let places = [("room", room), ("message", message)];
    walk.ok(&bob, "edit", &places, Some(json!({ "content": { "text": "hello all" } }))).await;
    walk.ok(&ann, "update", &[("room", room)], Some(json!({ "edit_history": true }))).await;
    let versions = walk.ok(&bob, "edits", &places, None).await["versions"].clone();
    let said: Vec<_> = versions.as_array().unwrap().iter().map(|version| &version["content"]["text"]).collect();
    assert_eq!(said, ["hello", "hello all"]);
    let answer = json!({ "content": { "text": "and to you" }, "reply_to": message, "mentions": ["bob"] });
    let answered = walk.answer(&ann, "post", &[("room", room)], Some(answer)).await.json();
    let thread = walk.ok(&bob, "thread", &places, None).await;
    assert_eq!(thread["records"][0]["id"], answered["record"]);
    assert_eq!(thread["records"][0]["reply_to"], json!({ "message": message, "by": "bob", "thread": message }));
    assert_eq!(thread["records"][0]["mentions"], json!(["bob"]));
    let liked = [("room", room), ("message", message), ("emoji", "%F0%9F%91%8D")];
    walk.ok(&ann, "react", &liked, None).await;
    walk.ok(&bob, "react", &liked, None).await;
    let who = walk.ok(&ann, "reactions", &liked, None).await;
    assert_eq!((&who["users"], &who["count"], &who["after"]), (&json!(["ann", "bob"]), &json!(2), &Value::Null));
    walk.ok(&bob, "unreact", &liked, None).await;
    let before = [("room", room), ("before", thread["records"][0]["cursor"].as_str().unwrap())];
    let page = walk.ok(&bob, "history", &before, None).await;
    let tally = json!([{ "message": message, "emoji": "👍", "count": 1, "mine": false }]);
    assert_eq!(page["reactions"], tally);
    let said = walk.ok(&bob, "presence", &[], Some(json!({ "presence": "online" }))).await;
    assert_eq!(said["presence"], "online");
    let reported = [("room", room), ("message", answered["record"].as_str().unwrap())];
    let report = walk.ok(&bob, "report", &reported, Some(json!({ "reason": "spam" }))).await;
    assert_eq!(report["message"], answered["record"]);
    let about = walk.ok(&ann, "room", &[("room", room)], None).await;
    let audit = about["audit"].as_str().unwrap();
    let log = walk.ok(&ann, "history", &[("room", audit)], None).await;
    let report = log["records"].as_array().unwrap().iter().find(|record| record["event"] == "reported").unwrap();
    assert_eq!((&report["author"], &report["reason"]), (&json!("bob"), &json!("spam")));
    let seen = [("room", audit), ("report", report["id"].as_str().unwrap())];
    walk.ok(&ann, "resolve_report", &seen, Some(json!({ "note": "it was a joke" }))).await;
    let hidden = [("room", room), ("message", answered["record"].as_str().unwrap())];
    assert_eq!(walk.ok(&bob, "hide", &hidden, None).await["messages"], json!([answered["record"]]));
    assert_eq!(walk.ok(&bob, "hidden", &hidden[..1], None).await["messages"], json!([answered["record"]]));
    walk.ok(&bob, "unhide", &hidden, None).await;
    assert_eq!(walk.ok(&bob, "hidden", &hidden[..1], None).await["messages"], json!([]));
    let settings = walk.ok(&bob, "settings_update", &[], Some(json!({ "private_reading": false }))).await;
    assert_eq!(settings, walk.ok(&bob, "settings", &[], None).await);
    let named = walk.ok(&bob, "profile_update", &[], Some(json!({ "name": "Bob", "email": "bob@b" }))).await;
    assert_eq!((&named["user"], &named["name"]), (&json!("bob"), &json!("Bob")));
    let found = walk.ok(&ann, "users", &[("users", "zoe,bob")], None).await;
    assert_eq!(found["users"], json!([{ "user": "zoe", "name": null }, { "user": "bob", "name": "Bob" }]));
    let hash = named["email_hash"].clone();
    walk.ok(&bob, "settings_update", &[], Some(json!({ "contacts": "everybody" }))).await;
    let found = walk.ok(&ann, "find_users", &[], Some(json!({ "hashes": [hash] }))).await;
    assert_eq!((&found["users"][0]["user"], &found["users"][0]["hash"]), (&json!("bob"), &hash));
    let zoe = [("user", "zoe")];
    assert_eq!(walk.ok(&ann, "block", &zoe, None).await, json!({ "user": "zoe", "blocked": true }));
    assert_eq!(walk.ok(&ann, "blocks", &[("limit", "1")], None).await["users"], json!(["zoe"]));
    assert_eq!(walk.ok(&ann, "unblock", &zoe, None).await["blocked"], false);
    let there = walk.ok(&ann, "presences", &[("room", room)], None).await;
    assert_eq!((&there["online"], &there["members"]), (&json!(1), &json!(3)));
    let typing = walk.ok(&bob, "typing", &[("room", room)], Some(json!({ "typing": false }))).await;
    assert_eq!(typing["room"], room);
    let inbox = walk.ok(&bob, "inbox", &[("limit", "5000"), ("archived", "false")], None).await;
    assert_eq!((&inbox["rooms"][0]["room"], &inbox["unread"]), (&json!(room), &json!(1)));
    let read = json!({ "read_to": answered["seq"], "pinned": true });
    let updated = walk.ok(&bob, "inbox_update", &[("room", room)], Some(read)).await;
    assert_eq!((&updated["unread"], &updated["pinned"]), (&json!(0), &json!(true)));
    let since = [("since", inbox["cursor"].as_str().unwrap())];
    let changes = walk.ok(&bob, "inbox_changes", &since, None).await;
    assert_eq!((&changes["changes"][0]["read_to"], &changes["cursor"]), (&answered["seq"], &updated["cursor"]));
    let answer = answered["record"].as_str().unwrap();
    let readers = walk.ok(&ann, "readers", &[("room", room), ("message", answer)], None).await;
    assert_eq!((&readers["members"], &readers["read"]), (&json!(2), &json!(1)));
    let forward = json!({ "forward": { "room": room, "message": message } });
    let forwarded = walk.answer(&ann, "post", &[("room", room)], Some(forward)).await;
    assert_eq!(forwarded.status, 201);
    walk.ok(&ann, "pin", &places, None).await;
    let pins = walk.ok(&bob, "pins", &[("room", room)], None).await;
    assert_eq!((&pins["records"][0]["id"], &pins["pins"][0]["by"]), (&json!(message), &json!("ann")));
    assert_eq!(pins["reactions"], tally);
    walk.ok(&ann, "unpin", &places, None).await;
    walk.ok(&bob, "delete", &places, None).await;
    let quiet = [("room", room), ("user", "eve")];
    walk.ok(&ann, "mute", &quiet, Some(json!({ "until": 4_102_444_800_000_i64 }))).await;
    let rules = json!({ "words": ["spam"], "links": "listed", "hosts": ["Example.org"] });
    walk.ok(&ann, "rules_update", &[("room", room)], Some(rules)).await;
    let rules = walk.ok(&ann, "rules", &[("room", room)], None).await;
    let expected = json!({ "room": rules["room"], "words": ["spam"], "links": "listed", "hosts": ["example.org"] });
    assert_eq!(rules, expected);
    let mutes = walk.ok(&ann, "mutes", &[("room", room)], None).await;
    assert_eq!((&mutes["mutes"][0]["user"], &mutes["mutes"][0]["by"]), (&json!("eve"), &json!("ann")));
    let members = walk.ok(&bob, "members", &[("room", room)], None).await;
    assert_eq!(members["members"][2]["muted"], json!({ "until": 4_102_444_800_000_i64 }));
    walk.ok(&ann, "unmute", &quiet, None).await;
    walk.ok(&ann, "kick", &[("room", room), ("user", "eve"), ("reason", "so it goes")], None).await;
    let eve_banned = [("room", room), ("user", "eve")];
    walk.ok(&ann, "ban", &eve_banned, Some(json!({ "until": 4_102_444_800_000_i64 }))).await;
    let bans = walk.ok(&ann, "bans", &[("room", room)], None).await;
    assert_eq!((&bans["bans"][0]["user"], &bans["bans"][0]["until"]), (&json!("eve"), &json!(4_102_444_800_000_i64)));
    walk.ok(&ann, "unban", &eve_banned, None).await;
    walk.ok(&bob, "leave", &[("room", room)], None).await;
    walk.ok(&ann, "archive", &[("room", room)], None).await;
    let about = walk.ok(&ann, "room", &[("room", room)], None).await;
    assert_eq!((&about["archived"], &about["head"]), (&json!(true), &json!(29)));
    let rooms = walk.ok(&ann, "rooms", &[("limit", "1")], None).await;
    // Which of the two is first follows from their ids.
    let own = [&json!(room), &about["audit"]];
    assert!(
        rooms["rooms"].as_array().is_some_and(|rooms| rooms.len() == 1 && own.contains(&&rooms[0]["room"])),
        "{rooms}"
    );

    let mut reader = server.client("ann").await;
    let page = reader.ask(json!({ "type": "history", "room": room })).await;
    let events: Vec<_> = page["records"].as_array().unwrap().iter().map(|record| &record["event"]).collect();
    let expected = [
        "room_created",
        "member_joined",
        "room_updated",
        "member_invited",
        "member_invited",
        "member_joined",
        "member_joined",
        "rights_changed",
        "rights_changed",
        "role_changed",
        "message_erased",
        "message_erased",
        "room_updated",
        "message_posted",
        "reaction_added",
        "reaction_added",
        "reaction_removed",
        "message_posted",
        "message_pinned",
        "message_unpinned",
        "message_deleted",
        "member_muted",
        "rules_changed",
        "member_unmuted",
        "member_kicked",
        "member_banned",
        "member_unbanned",
        "member_left",
        "room_archived",
    ];
    assert_eq!(events, expected);
    assert_eq!(page["records"][24]["reason"], "so it goes");

    let page = walk.ok(&ann, "history", &[("room", room), ("limit", "1")], None).await;
    assert_eq!(page["records"][0]["event"], "room_created");

    let page = walk.ok(&ann, "follow_all", &[("after", "start"), ("limit", "2")], None).await;
    assert_eq!(page["records"].as_array().map(Vec::len), Some(2), "{page}");
    assert_eq!(page["complete"], false);

    let all: BTreeSet<_> = walk.document.commands().into_values().collect();
    assert_eq!(walk.walked, all, "a route has not been walked");
}

#[tokio::test]
async fn every_refusal_has_its_status_and_its_code_and_both_are_described() {
    let server = TestServer::start();
    let walk = Walk::new(&server).await;
    let (ann, bob) = (server.token("ann"), server.token("bob"));
    let mut client = server.client("ann").await;
    client.ask(create_channel("lobby")).await;
    let private = client.ask(json!({ "type": "create", "kind": "group" })).await["room"].clone();
    let private = private.as_str().unwrap();
    let message = client.ask(post("lobby", "hi")).await["record"].clone();
    let message = message.as_str().unwrap();
    server.client("bob").await.ask(join("lobby")).await;
    let gone = uuid::Uuid::new_v4().to_string();
    let say = || Some(json!({ "content": { "text": "x" } }));
    let unreadable = || Some(json!({ "forward": { "room": private, "message": message } }));
    let by_nobody = server.token_in("default", "ann", Duration::from_secs(3600)) + "x";
    type Case<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, Option<Value>, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("", "auth", vec![], None, 401, "unauthenticated"),
        (&by_nobody, "auth", vec![], None, 401, "token_invalid"),
        (&ann, "room", vec![("room", "nowhere")], None, 404, "room_not_found"),
        (&bob, "room", vec![("room", private)], None, 404, "room_not_found"),
        (&bob, "members", vec![("room", private)], None, 404, "room_not_found"),
        (&bob, "post", vec![("room", private)], say(), 404, "room_not_found"),
        (&ann, "room", vec![("room", "no room")], None, 400, "bad_request"),
        (&ann, "members", vec![("room", "lobby"), ("limit", "101")], None, 400, "bad_request"),
        (&ann, "members", vec![("room", "lobby"), ("after", "no user")], None, 400, "bad_request"),
        (&ann, "create", vec![], Some(json!({ "kind": "channel" })), 422, "alias_required"),
        (&ann, "create", vec![], Some(json!({ "kind": "channel", "alias": "lobby" })), 409, "room_exists"),
        (&ann, "create", vec![], Some(json!({ "kind": "direct" })), 422, "not_a_pair"),
        (&ann, "create", vec![], Some(json!({ "kind": "castle" })), 400, "bad_request"),
        (&bob, "update", vec![("room", "lobby")], Some(json!({ "name": "x" })), 403, "forbidden"),
        (&ann, "update", vec![("room", "lobby")], Some(json!({})), 400, "bad_request"),
        (&bob, "archive", vec![("room", "lobby")], None, 403, "forbidden"),
        (&ann, "edits", vec![("room", "lobby"), ("message", message)], None, 403, "edits_hidden"),
        (&bob, "join", vec![("room", "lobby")], None, 409, "already_member"),
        (&ann, "leave", vec![("room", "lobby")], None, 409, "last_owner"),
        (&ann, "kick", vec![("room", "lobby"), ("user", "eve")], None, 404, "no_such_member"),
        (&ann, "invite", vec![("room", "lobby"), ("user", "bob")], None, 409, "already_member"),
        (&bob, "role", vec![("room", "lobby"), ("user", "ann")], Some(json!({ "role": "guest" })), 403, "forbidden"),
        (&ann, "post", vec![("room", "lobby")], Some(json!({ "content": {} })), 413, "content_size"),
        (&bob, "post", vec![("room", "lobby")], unreadable(), 404, "message_not_found"),
        (&bob, "edit", vec![("room", "lobby"), ("message", message)], say(), 403, "not_author"),
        (&ann, "edit", vec![("room", "lobby"), ("message", &gone)], say(), 404, "message_not_found"),
        (&ann, "delete", vec![("room", "lobby"), ("message", &gone)], None, 404, "message_not_found"),
        (&ann, "delete", vec![("room", "lobby"), ("message", "x")], None, 400, "bad_request"),
    ];
    for (token, command, members, body, status, code) in cases {
        let (verb, target) = walk.document.request(command, &members);
        let answer = sent(&server, token, &verb, &target, body.as_ref()).await;
        let called = answer.code();
        assert_eq!((answer.status, called.as_str()), (status, code), "{command} {target}: {answer:?}");
        let described = &walk.document.operation(command)["responses"][status.to_string()]["description"];
        assert!(described.as_str().unwrap_or_default().contains(&format!("`{code}`")), "{command}: {code}");
    }

    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Setup::default() });
    let me = Request::new("GET", "/v1/me").token(&server.token_in("default", "ann", Duration::from_secs(60)));
    assert_eq!(me.clone().send(&server).await.status, 200);
    clock.advance(Duration::from_secs(66));
    let answer = me.send(&server).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "token_expired"));
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn a_body_is_json_whole_and_within_its_bounds() {
    let limits = Limits { body_bytes_max: 2048, body_deadline: Duration::from_millis(200), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    server.client("ann").await.ask(create_channel("lobby")).await;
    let token = server.token("ann");
    let request = |verb: &str, target: &str| Request::new(verb, target).token(&token);
    let to_post = || request("POST", "/v1/rooms/lobby/messages");
    let say = json!({ "content": { "text": "x" } });
    let deep = format!(r#"{{"content":{{"a":{}{}}}}}"#, "[".repeat(31), "]".repeat(31));
    let long = json!({ "content": { "text": "x".repeat(2048) } });
    let chunked = |request: Request, size: &str| {
        request.header("Content-Type", "application/json").header("Transfer-Encoding", size)
    };
    let cases = [
        (to_post().body(say.to_string()), 415, "media_type_unsupported"),
        (to_post().header("Content-Type", "text/plain").body(say.to_string()), 415, "media_type_unsupported"),
        (to_post().header("Content-Encoding", "gzip").json(&say), 415, "media_type_unsupported"),
        (to_post().json(&long), 413, "body_too_large"),
        (to_post().header("Content-Type", "application/json").body(format!("{say} x")), 400, "bad_request"),
        (to_post().header("Content-Type", "application/json").body("{\"content\":"), 400, "bad_request"),
        (to_post().header("Content-Type", "application/json").body(b"\xff".to_vec()), 400, "bad_request"),
        (to_post().header("Content-Type", "application/json").body(deep), 400, "too_deep"),
        (to_post().json(&json!([say])), 400, "bad_request"),
        (to_post().json(&json!({ "room": "attic", "content": { "text": "x" } })), 400, "bad_request"),
        (to_post(), 400, "bad_request"),
        (to_post().header("Content-Type", "application/json").body(""), 400, "bad_request"),
        (request("POST", "/v1/rooms/lobby/join").json(&json!({})), 400, "bad_request"),
        (request("GET", "/v1/me").json(&json!({})), 400, "bad_request"),
        (chunked(request("GET", "/v1/rooms"), "chunked"), 400, "bad_request"),
        // Announced and never sent.
        (chunked(to_post(), "chunked"), 408, "body_too_slow"),
    ];
    for (request, status, code) in cases {
        let shown = format!("{request:?}");
        let answer = request.send(&server).await;
        assert_eq!((answer.code().as_str(), answer.status), (code, status), "{shown}");
    }
    let more = json!({ "content": { "text": "x" }, "type": "kick", "id": 7, "unknown": { "a": [1] } });
    assert_eq!(to_post().json(&more).send(&server).await.status, 201, "unknown members are ignored");

    // A body that grows beyond its bound without having said so is not taken to its end.
    let head = format!(
        "POST /v1/rooms/lobby/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut stream = server.raw(&head).await;
    let _ = stream.write_all(format!("1000\r\n{}\r\n", " ".repeat(4096)).as_bytes()).await;
    let mut answer = Vec::new();
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    assert_eq!(Answer::parse(&answer).expect("an answer").code(), "body_too_large");
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_answered_with_a_problem() {
    let server = TestServer::start();
    server.client("ann").await.ask(create_channel("lobby")).await;
    let token = server.token("ann");
    for (target, status, code) in [
        ("/v1/rooms/%", 400, "bad_request"),
        ("/v1/rooms/%zz", 400, "bad_request"),
        ("/v1/rooms/%ff", 400, "bad_request"),
        ("/v1/rooms/a%00b", 400, "bad_request"),
        ("/v1/rooms/alias%3Alobby%2Fx", 404, "room_not_found"),
        ("/v1/rooms?limit=%", 400, "bad_request"),
        ("/v1/rooms?limit=1&limit=2", 400, "bad_request"),
        ("/v1/rooms?limit=ten", 400, "bad_request"),
        ("/v1/rooms?after=x", 400, "bad_request"),
        ("/v1/rooms/", 404, "route_not_found"),
        ("/v1/rooms//members", 404, "route_not_found"),
        ("/v2", 404, "route_not_found"),
    ] {
        let answer = Request::new("GET", target).token(&token).send(&server).await;
        assert_eq!((answer.code().as_str(), answer.status), (code, status), "{target}");
    }
    for target in ["/v1/rooms/lobby", "/v1/rooms/alias:lobby", "/v1/rooms/alias%3Alobby", "/v1/%72ooms/l%6fbby?x=%41"] {
        let answer = Request::new("GET", target).token(&token).send(&server).await;
        assert_eq!(answer.json()["alias"], "lobby", "{target}");
    }
}

#[tokio::test]
async fn the_header_idempotency_key_is_a_client_id_and_outlasts_a_restart() {
    let store = MemoryStore::new();
    let mut server = TestServer::with(Setup { store: Arc::new(store.clone()), ..Setup::default() });
    server.client("ann").await.ask(create_channel("lobby")).await;
    let token = server.token("ann");
    let say = json!({ "content": { "text": "once" } });
    let with = |key: &str, body: &Value| {
        let request = Request::new("POST", "/v1/rooms/lobby/messages").token(&token);
        request.header("Idempotency-Key", key).json(body)
    };
    let first = with("\"k-1\"", &say).send(&server).await;
    assert_eq!(first.status, 201);
    let first = first.json();
    let bare = with("k-1", &say).send(&server).await;
    assert_eq!((bare.status, &bare.json()["record"]), (200, &first["record"]));
    let both = json!({ "content": { "text": "once" }, "client_id": "k-1" });
    assert_eq!(with("k-1", &both).send(&server).await.json()["duplicate"], true);
    let another = json!({ "content": { "text": "twice" }, "client_id": "k-1" });
    for (request, code) in [
        (with("k-2", &both), "bad_request"),
        (with("\"k-1", &say), "bad_request"),
        (with("", &say), "bad_request"),
        (with("k 1", &say), "bad_request"),
        (with("k-1", &say).header("Idempotency-Key", "k-1"), "bad_request"),
        (with("k-1", &another), "client_id_reused"),
    ] {
        assert_eq!(request.send(&server).await.code(), code);
    }

    server.stop();
    let again = Arc::new(store.in_epoch(MemoryStore::EPOCH));
    let server = TestServer::with(Setup { store: again, ..Setup::default() });
    let after = with("\"k-1\"", &say).send(&server).await;
    assert_eq!((after.status, &after.json()["duplicate"]), (200, &json!(true)));
    assert_eq!(after.json()["record"], first["record"]);
    let message = first["record"].as_str().unwrap();
    for (verb, body) in [("PUT", Some(json!({ "content": { "text": "other" } }))), ("DELETE", None)] {
        let target = format!("/v1/rooms/lobby/messages/{message}");
        let mut request = Request::new(verb, &target).token(&token).header("Idempotency-Key", verb);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let (once, twice) = (request.clone().send(&server).await, request.send(&server).await);
        assert_eq!((once.status, &once.json()["duplicate"]), (200, &Value::Null), "{verb}");
        assert_eq!((twice.status, &twice.json()["duplicate"]), (200, &json!(true)), "{verb}");
        assert_eq!(once.json()["seq"], twice.json()["seq"], "{verb}");
    }
}

#[tokio::test]
async fn what_one_transport_says_the_other_hears() {
    let server = TestServer::start();
    let token = server.token("bob");
    for subprotocol in ["chinwag.v1.json", "chinwag.v1.msgpack"] {
        let mut ann = server.client_with(&server.token("ann"), Some(subprotocol)).await;
        let made = Request::new("POST", "/v1/rooms").token(&token).json(&json!({
            "kind": "group", "members": [{ "user": "ann" }],
        }));
        let made = made.send(&server).await.json();
        let room = made["room"].as_str().unwrap();
        ann.ask(join(room)).await;
        ann.ask(follow(room, made["cursor"].as_str().unwrap())).await;
        let target = format!("/v1/rooms/{room}/messages");
        let say = json!({ "content": { "text": "by REST", "n": [1, 2.5, null] }, "client_id": "r-1" });
        let posted = Request::new("POST", &target).token(&token).json(&say).send(&server).await.json();
        let heard = loop {
            let record = ann.record().await;
            if record["event"] == "message_posted" {
                break record;
            }
        };
        assert_eq!(heard["content"], say["content"]);
        for (record, reply) in [("id", "record"), ("seq", "seq"), ("num", "num"), ("cursor", "cursor"), ("at", "at")] {
            assert_eq!(heard[record], posted[reply], "{record}");
        }
        let spoken = ann.ask(post(room, "by WebSocket")).await;
        let about = Request::new("GET", &format!("/v1/rooms/{room}")).token(&token).send(&server).await.json();
        assert_eq!((&about["head"], &about["cursor"]), (&spoken["seq"], &spoken["cursor"]));
        let kick = Request::new("DELETE", &format!("/v1/rooms/{room}/members/ann")).token(&token);
        assert_eq!(kick.send(&server).await.status, 200);
        assert_eq!(ann.notice("removed").await["reason"], "kicked");
    }
}

#[tokio::test]
async fn who_has_been_removed_reads_nothing_more() {
    let server = TestServer::start();
    let (ann, bob) = (server.token("ann"), server.token("bob"));
    let made = Request::new("POST", "/v1/rooms").token(&ann).json(&json!({ "kind": "group" }));
    let room = made.send(&server).await.json()["room"].as_str().unwrap().to_owned();
    let members = format!("/v1/rooms/{room}/members");
    for _ in 0..3 {
        let invite = Request::new("PUT", &format!("{members}/bob")).token(&ann).send(&server).await;
        assert_eq!(invite.status, 200);
        assert_eq!(Request::new("POST", &format!("/v1/rooms/{room}/join")).token(&bob).send(&server).await.status, 200);
        let kicked = Request::new("DELETE", &format!("{members}/bob")).token(&ann).send(&server).await;
        assert_eq!(kicked.status, 200, "{kicked:?}");
        for target in [members.clone(), format!("/v1/rooms/{room}")] {
            let answer = Request::new("GET", &target).token(&bob).send(&server).await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "room_not_found"), "{target}");
        }
    }
}

#[tokio::test]
async fn nothing_leaves_for_who_was_removed_and_has_not_read_the_answer() {
    let server = TestServer::start();
    let (ann, bob) = (server.token("ann"), server.token("bob"));
    let crowd: Vec<_> = (0..99).map(|n| json!({ "user": format!("{n:0128}") })).collect();
    let members: Vec<_> = crowd.into_iter().chain([json!({ "user": "bob" })]).collect();
    let made = Request::new("POST", "/v1/rooms").token(&ann).json(&json!({ "kind": "canvas", "members": members }));
    let room = made.send(&server).await.json()["room"].as_str().unwrap().to_owned();
    let target = format!("/v1/rooms/{room}/members");
    let page = Request::new("GET", &target).token(&bob).send(&server).await.body.len();

    // Its kernel takes a part of the answer only, so the rest waits in ours.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stalled = socket.connect(server.address).await.unwrap();
    let get = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bob}\r\n\r\n");
    stalled.write_all(get.as_bytes()).await.unwrap();
    let held = || usize::try_from(rustix::io::ioctl_fionread(&stalled).unwrap()).unwrap();
    eventually("the answer", || held() > 1000).await;
    assert!(held() < page, "{} of {page} bytes came at once: this shows nothing", held());

    let kick = Request::new("DELETE", &format!("{target}/bob")).token(&ann).send(&server).await;
    assert_eq!(kick.status, 200, "{kick:?}");
    let held = held();
    let mut came = Vec::new();
    let _ = patiently(stalled.read_to_end(&mut came)).await;
    assert!(came.len() <= held, "{} bytes came, {held} were there when the kick was answered", came.len());
}

#[tokio::test]
async fn who_has_read_a_room_may_leave_it_on_the_same_connection() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(create_channel("attic")).await;
    let bob = server.token("bob");
    let mut stream = server.raw("").await;
    let request = |verb: &str, target: &str| {
        format!("{verb} /v1/rooms/{target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bob}\r\n\r\n")
    };
    for target in ["lobby", "attic"] {
        for (verb, what) in [("POST", "join"), ("GET", "members"), ("POST", "leave")] {
            stream.write_all(request(verb, &format!("{target}/{what}")).as_bytes()).await.unwrap();
            assert!(next_answer(&mut stream).await.starts_with("HTTP/1.1 200"), "{verb} {target}/{what}");
        }
    }
    // What the connection was shown of another room stays within reach of a removal from that.
    stream.write_all(request("POST", "lobby/join").as_bytes()).await.unwrap();
    next_answer(&mut stream).await;
    stream.write_all(request("GET", "lobby/members").as_bytes()).await.unwrap();
    next_answer(&mut stream).await;
    ann.ask(json!({ "type": "kick", "room": "lobby", "user": "bob" })).await;
    assert_eq!(patiently(stream.read(&mut [0; 1])).await.unwrap_or(0), 0, "the connection has been cut");
}

/// Reads one answer of a connection that is kept.
async fn next_answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.len() >= length.unwrap_or(0)
        {
            return text;
        }
        let mut some = [0; 4096];
        let count = patiently(stream.read(&mut some)).await.expect("the connection is open");
        assert!(count > 0, "the connection ended after {text:?}");
        text += std::str::from_utf8(&some[..count]).unwrap();
    }
}

#[tokio::test]
async fn every_answer_says_that_nobody_is_to_keep_it() {
    let server = TestServer::start();
    let token = server.token("ann");
    let socket = Request::new("GET", "/v1/ws").header("Upgrade", "h2c");
    for request in [
        Request::new("GET", "/v1/me").token(&token),
        Request::new("GET", "/v1/me"),
        Request::new("GET", "/v1/rooms/nowhere").token(&token),
        Request::new("GET", "/nowhere"),
        Request::new("POST", "/healthz"),
        Request::new("OPTIONS", "/v1/rooms"),
        Request::new("GET", "/healthz"),
        Request::new("GET", "/v1/openapi.json"),
        socket,
    ] {
        let shown = format!("{request:?}");
        let answer = request.send(&server).await;
        for (name, value) in
            [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(answer.header(name), value, "{name} of {shown}");
        }
    }
}

#[tokio::test]
async fn every_address_that_is_described_is_served_and_takes_what_it_says() {
    let server = TestServer::start();
    let document = Document::of(&server).await;
    for (path, operations) in &document.paths() {
        let target = path.replace(['{', '}'], "");
        let mut allowed: BTreeSet<_> = operations.iter().map(|verb| verb.to_uppercase()).collect();
        if allowed.contains("GET") && !lasts(path) {
            allowed.insert("HEAD".to_owned());
        }
        allowed.insert("OPTIONS".to_owned());
        let listed = |answer: &Answer| answer.header("allow").split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
        for verb in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = Request::new(verb, &target).send(&server).await;
            if !allowed.contains(verb) {
                assert_eq!((answer.status, listed(&answer)), (405, allowed.clone()), "{verb} {path}");
                assert!(verb == "HEAD" || answer.code() == "method_not_allowed", "{verb} {path}");
            } else if verb == "OPTIONS" {
                assert_eq!((answer.status, listed(&answer)), (204, allowed.clone()), "{path}");
            } else {
                assert!(![404, 405].contains(&answer.status), "{verb} {path} was answered {answer:?}");
                let operation = &document.0["paths"][path][verb.to_lowercase().replace("head", "get")];
                let described = operation["responses"].as_object().expect("every operation has answers");
                assert!(described.contains_key(&answer.status.to_string()), "{verb} {path}: {}", answer.status);
                assert_eq!(verb == "HEAD", answer.body.is_empty(), "{verb} {path}");
            }
        }
    }
    let (get, head) = (Request::new("GET", "/v1/openapi.json"), Request::new("HEAD", "/v1/openapi.json"));
    let (get, head) = (get.send(&server).await, head.send(&server).await);
    assert_eq!(get.header("content-length"), head.header("content-length"));
}

/// What is mounted otherwise than by the tables of routes would be served and not described.
#[test]
fn nothing_is_mounted_but_what_is_described() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    // The operator's socket and that of the metrics have no clients to describe anything to, and those of other systems
    // know what they find; their pages list it.
    let undescribed = ["admin", "metrics.rs", "misakey", "misakey.rs", "staticbackend", "staticbackend.rs"]
        .map(|name| http.join(name));
    let mut looked_at = 0;
    let mut folders = vec![http];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if undescribed.contains(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap();
                for mounting in [".route(\"", "resource(\"", "scope(\""] {
                    assert!(!code.contains(mounting), "{} mounts something beside the tables", path.display());
                }
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 10);
}

#[tokio::test]
async fn the_description_is_openapi_3_1_whose_references_lead_somewhere() {
    let server = TestServer::start();
    let document = Document::of(&server).await;
    assert!(document.0["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document.0["info"]["title"].is_string() && document.0["info"]["version"].is_string());
    let mut names = BTreeSet::new();
    for (path, verbs) in document.paths() {
        let places: BTreeSet<_> =
            path.split('/').filter_map(|place| place.strip_prefix('{')?.strip_suffix('}')).map(str::to_owned).collect();
        for verb in verbs {
            let operation = &document.0["paths"][&path][&verb];
            let id = operation["operationId"].as_str().expect("every operation has a name").to_owned();
            assert!(names.insert(id.clone()), "{id} is there twice");
            let mut in_path = BTreeSet::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap().to_owned();
                assert!(parameter["schema"]["type"].is_string(), "{id}: {name}");
                match parameter["in"].as_str().unwrap() {
                    "path" => assert!(parameter["required"] == true && in_path.insert(name), "{id}"),
                    "query" => assert_eq!(parameter["required"], false, "{id}: {name}"),
                    "header" => assert!(parameter["required"].is_boolean(), "{id}: {name}"),
                    other => panic!("{id}: {name} is in {other}"),
                }
            }
            assert_eq!(in_path, places, "{id}");
            for (status, answer) in operation["responses"].as_object().expect("answers") {
                assert!(status.parse::<u16>().is_ok() && answer["description"].is_string(), "{id}: {status}");
                let refused = status.parse::<u16>().unwrap() >= 400;
                assert_eq!(answer["content"].get("application/problem+json").is_some(), refused, "{id}: {status}");
            }
            let body = operation.get("requestBody").map(|body| &body["content"]);
            if let Some(content) = body.and_then(|body| body.get("application/json")) {
                document.check(&content["schema"], &content["example"], &id);
            }
        }
    }
    document.follow_references(&document.0);
    let codes: Vec<_> = chinwag::wire::refusal::CODES.iter().map(|info| json!(info.code)).collect();
    assert_eq!(document.0["components"]["schemas"]["Problem"]["properties"]["code"]["enum"], json!(codes));
}

#[tokio::test]
async fn every_command_has_a_route_and_every_route_of_a_command_has_a_command() {
    let server = TestServer::start();
    let routes: BTreeSet<_> = Document::of(&server).await.commands().into_keys().collect();
    let commands: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(routes, commands);
}

/// Whether what is there may last, so that there is no beginning to be asked for alone.
fn lasts(path: &str) -> bool {
    path == "/v1/ws" || path.ends_with("/events")
}

/// The description of all routes.
pub struct Document(pub Value);

impl Document {
    pub async fn of(server: &TestServer) -> Self {
        let answer = Request::new("GET", "/v1/openapi.json").send(server).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        Self(answer.json())
    }

    /// The methods of each address.
    pub fn paths(&self) -> BTreeMap<String, Vec<String>> {
        let paths = self.0["paths"].as_object().expect("a document has paths");
        paths.iter().map(|(path, item)| (path.clone(), item.as_object().unwrap().keys().cloned().collect())).collect()
    }

    /// Where each command is: its method and its address.
    pub fn commands(&self) -> BTreeMap<String, (String, String)> {
        let mut commands = BTreeMap::new();
        for (path, verbs) in self.paths() {
            for verb in verbs {
                let listed = &self.0["paths"][&path][&verb]["x-commands"];
                for command in listed.as_array().into_iter().flatten() {
                    let command = command.as_str().expect("a command is a word").to_owned();
                    assert!(commands.insert(command, (verb.clone(), path.clone())).is_none(), "one route each");
                }
            }
        }
        commands
    }

    fn operation(&self, command: &str) -> &Value {
        let (verb, path) = &self.commands()[command];
        &self.0["paths"][path][verb]
    }

    /// The method and the target of a command; members that the path has no place for go into the query.
    fn request(&self, command: &str, members: &[(&str, &str)]) -> (String, String) {
        let (verb, mut target) = self.commands().remove(command).expect("the command has a route");
        let mut query = Vec::new();
        for (name, value) in members {
            let value = value.replace(' ', "%20");
            let place = format!("{{{name}}}");
            if target.contains(&place) {
                target = target.replace(&place, &value);
            } else {
                query.push(format!("{name}={value}"));
            }
        }
        if !query.is_empty() {
            target = format!("{target}?{}", query.join("&"));
        }
        (verb.to_uppercase(), target)
    }

    /// Holds a value against a schema of those that the description uses. Members that are not described are wrong.
    fn check(&self, schema: &Value, value: &Value, of: &str) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(&reference[1..]).expect("references lead somewhere"),
            None => schema,
        };
        let is_a = |kind: &Value| match kind.as_str().expect("a type is a word") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("{other} of {of}"),
        };
        let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        assert!(kinds.iter().any(is_a), "{of}: {value} is no {kinds:?}");
        if let Some(values) = schema["enum"].as_array() {
            assert!(values.contains(value), "{of}: {value} is none of {values:?}");
        }
        if schema["format"] == "uuid" && !value.is_null() {
            assert!(uuid::Uuid::parse_str(value.as_str().unwrap()).is_ok(), "{of}: {value}");
        }
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], item, of);
        }
        let Some(members) = value.as_object().filter(|_| schema["additionalProperties"] != true) else { return };
        for (name, value) in members {
            let member = schema["properties"].get(name);
            self.check(member.unwrap_or_else(|| panic!("{of} has {name}")), value, &format!("{of}.{name}"));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(members.contains_key(name.as_str().unwrap()), "{of} lacks {name}");
        }
    }

    fn follow_references(&self, within: &Value) {
        match within {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    let there = reference.strip_prefix('#').and_then(|pointer| self.0.pointer(pointer));
                    assert!(there.is_some(), "{reference} leads nowhere");
                }
                members.values().for_each(|value| self.follow_references(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.follow_references(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Commands as requests, each held against the description.
struct Walk<'a> {
    server: &'a TestServer,
    document: Document,
    walked: BTreeSet<(String, String)>,
}

impl<'a> Walk<'a> {
    async fn new(server: &'a TestServer) -> Self {
        Self { server, document: Document::of(server).await, walked: BTreeSet::new() }
    }

    async fn ok(&mut self, token: &str, command: &str, members: &[(&str, &str)], body: Option<Value>) -> Value {
        let answer = self.answer(token, command, members, body).await;
        assert_eq!(answer.status, 200, "{command}");
        answer.json()
    }

    async fn answer(&mut self, token: &str, command: &str, members: &[(&str, &str)], body: Option<Value>) -> Answer {
        let (verb, target) = self.document.request(command, members);
        let answer = sent(self.server, token, &verb, &target, body.as_ref()).await;
        assert!(answer.status < 300, "{command} {target}: {}", answer.json());
        assert_eq!(answer.header("content-type"), "application/json");
        let described = &self.document.operation(command)["responses"][answer.status.to_string()];
        let schema = &described["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{command}: {} is not described", answer.status);
        self.document.check(schema, &answer.json(), command);
        self.walked.insert(self.document.commands().remove(command).expect("it was found above"));
        answer
    }
}

async fn sent(server: &TestServer, token: &str, verb: &str, target: &str, body: Option<&Value>) -> Answer {
    let mut request = Request::new(verb, target);
    if !token.is_empty() {
        request = request.token(token);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    request.send(server).await
}
