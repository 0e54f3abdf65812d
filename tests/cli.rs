//! The binary as a person or a script meets it.
//!
//! Where a server is needed, it is a scripted one: lost connections, refusals for the moment and skipped records are
//! faults that a real server cannot easily be made to have.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use chinwag::auth::{Keyring, Secrets};
use chinwag::clock::{Clock, SystemClock};
use rstest::rstest;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

#[rstest]
#[case(&["--help"], &["chinwag serve --dev", "Exit codes:", "78  the configuration is wrong"])]
#[case(&["serve", "--help"], &["--listen <ADDR:PORT>", "CHINWAG_SECTION__KEY", "Examples:"])]
#[case(&["token", "create", "--help"], &["--user <ID>", "--ttl <TIME>", "Examples:"])]
#[case(&["pub", "--help"], &["--create", "CHINWAG_URL", "CHINWAG_TOKEN", "Examples:"])]
#[case(&["sub", "--help"], &["--since <start|now|CURSOR>", "--limit <N>", "Examples:"])]
#[case(&["data", "verify", "--help"], &["--data <DIR>", "Example:"])]
#[case(&["data", "compact", "--help"], &["--data <DIR>", "Uploaded files", "Example:"])]
fn help_teaches(#[case] args: &[&str], #[case] expected: &[&str]) {
    let output = chinwag(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for text in expected {
        assert!(help.contains(text), "{text:?} is not in\n{help}");
    }
}

#[test]
fn help_does_not_show_the_token() {
    let output = chinwag(&["pub", "--help"]).env("CHINWAG_TOKEN", "s3cret").output().unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains("s3cret"));
}

#[rstest]
#[case(&[])]
#[case(&["frobnicate"])]
#[case(&["sub"])]
#[case(&["sub", "lobby", "--limit", "0"])]
#[case(&["sub", "a b"])]
#[case(&["sub", "lobby", "ops", "--since", "cursor", "--token", "t"])]
#[case(&["pub", "42", "--create", "--token", "t"])]
#[case(&["pub", "lobby", "--token", "t", "--url", "ftp://chat.example"])]
#[case(&["token", "create"])]
#[case(&["token", "create", "--user", "ann bob"])]
#[case(&["token", "create", "--user", "ann", "--ttl", "24h 1s"])]
#[case(&["token", "create", "--user", "ann", "--ttl", "0s"])]
fn a_wrong_command_line_ends_with_64(#[case] args: &[&str]) {
    let output = chinwag(args).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(!output.stderr.is_empty());
}

#[test]
fn a_created_token_stands_alone_on_standard_output_and_is_accepted() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let create = |more: &[&str]| {
        let mut command = chinwag(&["token", "create", "--user", "ann", "--data"]);
        command.arg(&data).args(more).output().unwrap()
    };

    let first = create(&["--tenant", "harbour", "--ttl", "1h"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stderr).contains("made a new secret"));
    let stdout = String::from_utf8(first.stdout).unwrap();
    let token = stdout.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "{stdout:?}");

    let keyring = Keyring::new(&Secrets::open(&data).unwrap().token);
    let now = SystemClock.now();
    let principal = keyring.verify(token, now).unwrap();
    assert_eq!((principal.user.as_str(), principal.tenant.as_str()), ("ann", "harbour"));
    let life = principal.expires_at.0 - now.0;
    assert!((3_590_000..=3_606_000).contains(&life), "{life} ms");

    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("secrets")), 0o700);
    assert_eq!(mode(&data.join("secrets/token.key")), 0o600);

    let second = create(&[]);
    assert!(second.stderr.is_empty(), "{second:?}");
    let token = String::from_utf8(second.stdout).unwrap();
    assert_eq!(keyring.verify(token.trim_end(), SystemClock.now()).unwrap().tenant.as_str(), "default");
}

#[test]
fn a_secret_that_others_can_read_makes_no_token() {
    let home = tempfile::tempdir().unwrap();
    Secrets::open(home.path()).unwrap();
    fs::set_permissions(home.path().join("secrets/token.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = chinwag(&["token", "create", "--user", "ann", "--data"]).arg(home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("chmod 600"));
}

#[test]
fn no_secret_is_put_into_a_folder_of_somebody_elses() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("thesis.txt"), "mine").unwrap();
    let output = chinwag(&["token", "create", "--user", "ann", "--data"]).arg(home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(65));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a data directory of chinwag"), "{output:?}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_token_is_verified_with_the_directory_that_the_configuration_names() {
    let home = tempfile::tempdir().unwrap();
    let (data, file) = (home.path().join("data"), home.path().join("chinwag.toml"));
    fs::write(&file, format!("[server]\ndata = {:?}\n", data.to_str().unwrap())).unwrap();
    let made = chinwag(&["token", "create", "--user", "ann", "--data"]).arg(&data).output().unwrap();
    let token = String::from_utf8(made.stdout).unwrap();
    let verify = |more: &[&str]| {
        let mut command = chinwag(&["token", "verify", token.trim(), "--config"]);
        command.arg(&file).args(more).current_dir(home.path()).output().unwrap()
    };
    let verified = verify(&[]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stdout).contains("user: ann\n"));
    assert_eq!(verify(&["--data", "elsewhere"]).status.code(), Some(74));
}

#[test]
fn revoke_names_the_three_ways() {
    let output = chinwag(&["token", "revoke"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("<--id JTI | --user ID [--tenant T] | --tenant T>"), "{told}");
}

#[test]
fn the_manual_page_has_its_exit_codes_unbroken_and_the_environment() {
    let page = String::from_utf8(chinwag(&["man"]).output().unwrap().stdout).unwrap();
    assert!(page.contains(".SH \"EXIT STATUS\"\n"), "{page}");
    let line = "\n.TP\n\\fB69\\fR\nserve: the address is in use or not to be had; room, user, invite, token revoke: no server runs on the data directory\n";
    assert!(page.contains(line), "{page}");
    assert!(page.contains(".SH ENVIRONMENT\n") && page.contains("\n\\fBCHINWAG_TOKEN\\fR\n"), "{page}");
    assert!(!page.contains("EXTRA"), "{page}");
}

#[test]
fn all_mistakes_of_a_configuration_are_told() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, "[limits]\nheartbeat = \"soon\"\n").unwrap();
    let output = chinwag(&["serve", "--dev", "--listen", "0.0.0.0:1", "--config"])
        .arg(&file)
        .env("CHINWAG_SERVER__PORT", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    for text in ["limits.heartbeat", "dev mode is for this machine only", "CHINWAG_SERVER__PORT", "`listen`"] {
        assert!(stderr.contains(text), "{text:?} is not in\n{stderr}");
    }
}

#[test]
fn an_unknown_key_is_shown_where_it_stands() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, "[server]\nport = 1\n").unwrap();
    let output = chinwag(&["serve", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("chinwag.toml:2:1: ") && stderr.contains("^^^^"), "{stderr}");
}

#[test]
fn without_a_token_the_way_to_one_is_told() {
    let output = chinwag(&["sub", "lobby"]).output().unwrap();
    assert_eq!(output.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&output.stderr).contains("chinwag token create"));
}

#[test]
fn a_server_that_cannot_be_reached_is_told_and_tried_again() {
    // A port that is taken but not listened on refuses connections, and no other test is given it.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    taken.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let port = taken.local_addr().unwrap().as_socket().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let mut sub = start(&["sub", "lobby", "--token", "t", "--url", &url]);
    let mut stderr = BufReader::new(sub.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains(&format!("127.0.0.1:{port}: cannot connect: ")), "{line}");
    assert!(line.contains("trying again until it works"), "{line}");
    terminate(&sub);
    assert_eq!(sub.wait().unwrap().code(), Some(0));
}

#[test]
fn pub_joins_and_acknowledges_each_line_in_the_order_of_the_input() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby"], "hello\n\n{\"text\":\"x\",\"n\":1.50}\n42");
    let mut peer = server.accept();
    assert_eq!(peer.authorization, "Bearer t");
    assert_eq!(peer.subprotocol, "chinwag.v1.json");
    peer.hello();
    peer.let_join();
    let posts: Vec<Value> = (0..3).map(|_| peer.hear("post")).collect();
    let contents: Vec<&Value> = posts.iter().map(|post| &post["content"]).collect();
    assert_eq!(contents, [&json!({"text": "hello"}), &json!({"text": "x", "n": 1.5}), &json!({"text": "42"})]);
    assert!(posts.iter().all(|post| post["room"] == ROOM));
    // The answers may come in any order.
    for (post, seq) in posts.iter().zip([2, 3, 4]).rev() {
        peer.acknowledge(post, seq);
    }
    peer.hear_goodbye();

    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let acknowledged = lines(&output);
    for (at, line) in acknowledged.iter().enumerate() {
        let seq = at + 2;
        let client_id = &posts[at]["client_id"];
        let expected =
            format!("{{\"seq\":{seq},\"id\":\"record-{seq}\",\"num\":{seq},\"at\":7,\"client_id\":{client_id}}}");
        assert_eq!(*line, expected);
    }
    assert_eq!(acknowledged.len(), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("skipped 1 empty lines"));
}

#[test]
fn pub_makes_a_channel_when_it_is_asked_to() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby", "--create"], "hello\n");
    let mut peer = server.accept();
    peer.hello();
    let create = peer.hear("create");
    assert_eq!((&create["kind"], &create["alias"]), (&json!("channel"), &json!("lobby")));
    peer.answer(&create, json!({"room": ROOM, "num": 1, "alias": "lobby", "seq": 1, "cursor": "c1", "at": 7}));
    let post = peer.hear("post");
    peer.acknowledge(&post, 2);
    peer.hear_goodbye();
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn pub_create_is_content_with_a_channel_that_exists() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby", "--create"], "hello\n");
    let mut peer = server.accept();
    peer.hello();
    let create = peer.hear("create");
    peer.refuse(&create, "room_exists", "no");
    let join = peer.hear("join");
    peer.refuse(&join, "already_member", "no");
    let post = peer.hear("post");
    assert_eq!(post["room"], "lobby");
    peer.acknowledge(&post, 2);
    peer.hear_goodbye();
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn pub_sends_again_with_the_same_client_ids_what_was_not_acknowledged() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby"], "a\nb\nc\n");
    let mut peer = server.accept();
    peer.hello();
    peer.let_join();
    let posts: Vec<Value> = (0..3).map(|_| peer.hear("post")).collect();
    peer.acknowledge(&posts[1], 3);
    peer.finish();
    drop(peer);

    let mut peer = server.accept();
    peer.hello();
    let again: Vec<Value> = (0..2).map(|_| peer.hear("post")).collect();
    for (again, first) in [(&again[0], &posts[0]), (&again[1], &posts[2])] {
        assert_eq!((&again["client_id"], &again["content"]), (&first["client_id"], &first["content"]));
    }
    peer.acknowledge(&again[0], 2);
    peer.acknowledge(&again[1], 4);
    peer.hear_goodbye();

    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(2), json!(3), json!(4)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("trying again") && stderr.contains("connected again"), "{stderr}");
}

#[test]
fn pub_keeps_the_order_when_the_server_is_busy() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby"], "a\nb\nc\n");
    let mut peer = server.accept();
    peer.hello();
    peer.let_join();
    let posts: Vec<Value> = (0..3).map(|_| peer.hear("post")).collect();
    peer.acknowledge(&posts[0], 2);
    peer.refuse(&posts[1], "busy", "later");
    peer.refuse(&posts[2], "storage_full", "later");
    for (post, seq) in posts[1..].iter().zip(3..) {
        let again = peer.hear("post");
        assert_eq!(again["client_id"], post["client_id"]);
        peer.acknowledge(&again, seq);
    }
    peer.hear_goodbye();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(2), json!(3), json!(4)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the server cannot now: told so (busy); trying again until it can"), "{stderr}");
}

#[test]
fn pub_ends_at_a_line_that_is_refused_and_names_it() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby"], "a\n\nb\nc\n");
    let mut peer = server.accept();
    peer.hello();
    peer.let_join();
    let posts: Vec<Value> = (0..3).map(|_| peer.hear("post")).collect();
    peer.acknowledge(&posts[0], 2);
    peer.refuse(&posts[1], "content_size", "no");
    peer.acknowledge(&posts[2], 3);
    peer.hear_goodbye();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(2), json!(3)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 3 was refused: told so (content_size)"));
}

#[test]
fn pub_publishes_what_comes_before_a_line_that_cannot_be_sent() {
    let server = FakeServer::start();
    let mut client = server.client_with_input(&["pub", "lobby"]);
    client.stdin.take().unwrap().write_all(b"a\n\xff\nb\n").unwrap();
    let mut peer = server.accept();
    peer.hello();
    peer.let_join();
    let post = peer.hear("post");
    peer.acknowledge(&post, 2);
    peer.hear_goodbye();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(2)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 2 cannot be sent: it is not UTF-8"));
}

#[test]
fn when_the_token_expires_pub_says_where_to_go_on() {
    let server = FakeServer::start();
    let client = server.client(&["pub", "lobby"], "a\nb\nc\n");
    let mut peer = server.accept();
    peer.hello();
    peer.let_join();
    let posts: Vec<Value> = (0..3).map(|_| peer.hear("post")).collect();
    peer.acknowledge(&posts[0], 2);
    peer.acknowledge(&posts[2], 4);
    peer.close(4403);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(2), json!(4)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("has expired") && stderr.contains("line 2 is the first without"), "{stderr}");
}

#[test]
fn a_refused_handshake_ends_with_what_to_do() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby"], "");
    server.refuse(401, r#"{"code":"token_invalid","detail":"the token comes from another issuer"}"#);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("chinwag token create"), "{stderr}");
    assert!(!stderr.contains("trying again"), "{stderr}");
}

#[test]
fn what_is_no_chinwag_server_is_told() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby"], "");
    server.refuse(404, "not here");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(76), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is --url that of a chinwag server?"));
}

#[test]
fn sub_prints_records_and_goes_on_after_a_lost_connection() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby", "--since", "start", "--limit", "4"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    assert_eq!((&follow["room"], &follow["from"]), (&json!("lobby"), &json!("start")));
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 2}));
    peer.record(1);
    peer.record(2);
    peer.close(1012);

    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    assert_eq!((&follow["room"], &follow["from"]), (&json!(ROOM), &json!("c2")));
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c2", "head": 4}));
    // A record that comes again is not printed again.
    [2, 3, 3, 4].into_iter().for_each(|seq| peer.record(seq));
    peer.hear_goodbye();

    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(1), json!(2), json!(3), json!(4)]);
    let expected = format!(
        "{{\"seq\":1,\"author\":\"ann\",\"content\":{{\"text\":\"1\"}},\"cursor\":\"c1\",\"event\":\"message_posted\",\"room\":\"{ROOM}\"}}"
    );
    assert_eq!(lines(&output)[0], expected);
}

#[test]
fn sub_follows_again_when_records_are_missing() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby", "--limit", "2"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    assert_eq!(follow["from"], "now");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c5", "head": 5}));
    peer.record(7);

    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    assert_eq!(follow["from"], "c5");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c5", "head": 7}));
    peer.record(6);
    peer.record(7);
    peer.hear_goodbye();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(6), json!(7)]);
}

#[test]
fn sub_notices_a_server_that_says_nothing_any_more() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby", "--since", "start", "--limit", "1"], "");
    let mut silent = server.accept();
    silent.hello_with(json!({"heartbeat_ms": 100}));
    let follow = silent.hear("follow");
    silent.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 0}));

    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 1}));
    peer.record(1);
    peer.hear_goodbye();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has said nothing"));
}

#[test]
fn sub_joins_a_channel_on_the_way() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby", "--limit", "1"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.refuse(&follow, "not_member", "no");
    peer.let_join();
    let follow = peer.hear("follow");
    assert_eq!(follow["from"], "now");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c2", "head": 2}));
    peer.record(3);
    peer.hear_goodbye();
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn sub_does_not_join_again_a_room_it_was_removed_from() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 0}));
    peer.close(1012);

    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.refuse(&follow, "not_member", "no");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no member of room lobby any more"), "{output:?}");
}

#[test]
fn sub_follows_several_rooms_on_one_connection() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby", "ops", "--since", "start", "--limit", "3"], "");
    let mut peer = server.accept();
    peer.hello();
    for room in ["lobby", "ops"] {
        let follow = peer.hear("follow");
        assert_eq!(follow["room"], room);
        peer.answer(&follow, json!({"room": format!("{room}-id"), "cursor": "c0", "head": 9}));
    }
    for (room, seq) in [("lobby", 1), ("ops", 1), ("lobby", 2)] {
        peer.record_in(&format!("{room}-id"), seq);
    }
    peer.hear_goodbye();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(members(&output, "room"), [json!("lobby-id"), json!("ops-id"), json!("lobby-id")]);
}

#[rstest]
#[case("epoch_changed", 3, "begin anew with --since start")]
#[case("room_not_found", 65, "room lobby: told so (room_not_found); `chinwag pub ROOM --create` makes a channel")]
#[case("cursor_foreign", 65, "a cursor serves for the room it was made in")]
fn sub_ends_when_a_room_cannot_be_followed(#[case] refusal: &str, #[case] exit: i32, #[case] told: &str) {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby", "--since", "cursor"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    assert_eq!(follow["from"], "cursor");
    peer.refuse(&follow, refusal, "no");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{output:?}");
}

#[test]
fn sub_ends_when_it_is_removed_from_its_last_room() {
    let server = FakeServer::start();
    let client = server.client(&["sub", "lobby"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 0}));
    peer.record(1);
    peer.say(json!({"type": "removed", "room": ROOM, "reason": "kicked"}));
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert_eq!(members(&output, "seq"), [json!(1)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no member of room lobby any more (kicked)"));
}

#[test]
fn sub_ends_well_when_it_is_told_to_and_has_printed_what_came() {
    let server = FakeServer::start();
    let mut client = server.client(&["sub", "lobby"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 0}));
    peer.record(1);
    let mut line = String::new();
    BufReader::new(client.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"seq\":1,"), "a record is printed before the next one comes: {line}");
    terminate(&client);
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn sub_can_be_ended_while_nobody_reads_its_output() {
    let server = FakeServer::start();
    let mut client = server.client(&["sub", "lobby", "--since", "start"], "");
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 0}));
    // More than a pipe and all buffers on the way hold: in the end the client has stopped reading.
    peer.socket.get_mut().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let padding = "x".repeat(60_000);
    let mut seqs = 1..;
    while peer.say_or_stall(json!({
        "type": "record", "room": ROOM, "seq": seqs.next(), "cursor": "c", "event": "message_posted", "content": padding,
    })) {}
    terminate(&client);
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn sub_ends_quietly_when_nobody_reads_any_more() {
    let server = FakeServer::start();
    let mut client = server.client(&["sub", "lobby"], "");
    drop(client.stdout.take());
    let mut peer = server.accept();
    peer.hello();
    let follow = peer.hear("follow");
    peer.answer(&follow, json!({"room": ROOM, "cursor": "c0", "head": 0}));
    peer.record(1);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

const ROOM: &str = "0192f0c1-2345-7abc-8def-0123456789ab";

/// How long a scripted server waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, in an environment without configuration.
fn chinwag(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chinwag"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHINWAG_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn start(args: &[&str]) -> Child {
    chinwag(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn lines(output: &Output) -> Vec<&str> {
    str::from_utf8(&output.stdout).unwrap().lines().collect()
}

fn members(output: &Output, name: &str) -> Vec<Value> {
    let member = |line: &&str| serde_json::from_str::<Value>(line).unwrap()[name].take();
    lines(output).iter().map(member).collect()
}

/// A server that does what a test tells it to, one connection after the other.
struct FakeServer {
    listener: TcpListener,
    url: String,
}

impl FakeServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    fn client(&self, args: &[&str], input: &str) -> Child {
        let mut client = self.client_with_input(args);
        client.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        client
    }

    fn client_with_input(&self, args: &[&str]) -> Child {
        start(&[args, &["--token", "t", "--url", &self.url]].concat())
    }

    fn stream(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn accept(&self) -> Peer {
        let (mut authorization, mut subprotocol) = (String::new(), String::new());
        #[expect(clippy::result_large_err, reason = "the library asks for this type")]
        let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/v1/ws");
            let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
            authorization = header("authorization");
            subprotocol = header("sec-websocket-protocol");
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chinwag.v1.json"));
            Ok(response)
        };
        let socket = accept_hdr(self.stream(), look).unwrap();
        Peer { socket, authorization, subprotocol }
    }

    /// Answers a handshake with an error.
    fn refuse(&self, status: u16, body: &str) {
        let mut stream = self.stream();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    }
}

/// The server's end of one connection.
struct Peer {
    socket: WebSocket<TcpStream>,
    authorization: String,
    subprotocol: String,
}

impl Peer {
    fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).unwrap();
    }

    /// Says `frame`, or returns false when the client does not take it.
    fn say_or_stall(&mut self, frame: Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).is_ok()
    }

    fn hello(&mut self) {
        self.hello_with(json!({}));
    }

    fn hello_with(&mut self, more: Value) {
        let mut hello = json!({
            "type": "hello", "protocol": "chinwag.v1", "epoch": "0a", "heartbeat_ms": 25000, "authenticated": true,
            "durability": "synced",
        });
        hello.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.say(hello);
    }

    fn hear(&mut self, kind: &str) -> Value {
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(frame["type"], kind, "{frame}");
            return frame;
        }
    }

    fn hear_goodbye(&mut self) {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => {
                    assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1000));
                    return self.finish();
                }
                Ok(Message::Text(text)) => panic!("{text} instead of a goodbye"),
                Ok(_) => {}
                Err(error) => panic!("{error} instead of a goodbye"),
            }
        }
    }

    fn answer(&mut self, command: &Value, result: Value) {
        let mut reply = json!({"type": "reply", "id": command["id"], "ok": true});
        reply.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
        self.say(reply);
    }

    fn acknowledge(&mut self, post: &Value, seq: u64) {
        let record = format!("record-{seq}");
        self.answer(post, json!({"room": ROOM, "seq": seq, "cursor": "c", "record": record, "num": seq, "at": 7}));
    }

    fn refuse(&mut self, command: &Value, code: &str, retry: &str) {
        let error = json!({"code": code, "message": "told so", "retry": retry, "retry_after_ms": 1});
        self.say(json!({"type": "reply", "id": command["id"], "ok": false, "error": error}));
    }

    fn let_join(&mut self) {
        let join = self.hear("join");
        assert_eq!(join["room"], "lobby");
        self.answer(&join, json!({"room": ROOM, "seq": 1, "cursor": "c1", "at": 7}));
    }

    fn record(&mut self, seq: u64) {
        self.record_in(ROOM, seq);
    }

    fn record_in(&mut self, room: &str, seq: u64) {
        self.say(json!({
            "type": "record", "room": room, "seq": seq, "cursor": format!("c{seq}"), "author": "ann",
            "event": "message_posted", "content": {"text": seq.to_string()},
        }));
    }

    fn close(&mut self, code: u16) {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).unwrap();
        self.finish();
    }

    /// Sends what is left and lets the client read it before the connection goes.
    fn finish(&mut self) {
        let _ = self.socket.flush();
    }
}
