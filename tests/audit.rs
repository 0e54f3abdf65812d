//! What is decided and what is written down of it, in a server that is killed in between.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::broker::{self, Broker};
use support::random::Random;

/// How often the server is killed.
const KILLS: u64 = 16;

#[test]
fn a_kill_leaves_each_decision_written_down_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut random = Random::seeded_by("CHINWAG_AUDIT_SEED");
    let mut answered = 0;
    for round in 0..KILLS {
        let mut server = Server::start(&data);
        let until = Instant::now() + Duration::from_micros(random.below(60_000));
        // One decision after the other, for the kill to meet anywhere between two steps of one.
        let deciding = std::thread::spawn({
            let (port, token) = (server.port, server.token.clone());
            move || {
                let decisions = (0..).map(|n| json!({ "name": format!("{round}-{n}") }).to_string());
                decisions.map_while(|name| ask(port, &token, "PATCH", "/v1/rooms/lobby", &name)).count()
            }
        });
        while Instant::now() < until {
            std::thread::yield_now();
        }
        server.broker.kill();
        answered += deciding.join().unwrap();
        broker::verify(&data).unwrap_or_else(|damage| panic!("round {round}: {damage}"));
    }
    assert!(answered > 0, "a kill is to meet something");
    let server = Server::start(&data);
    let about = server.get("/v1/rooms/lobby");
    let audit = about["audit"].as_str().unwrap();
    let decided: Vec<_> = server.log("lobby").into_iter().filter(|record| record["event"] == "room_updated").collect();
    assert!(decided.len() >= answered, "{} of {answered}", decided.len());
    // Nothing is asked of the lobby: it wakes because it owes something.
    let mut entries;
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        entries = server.log(audit);
        entries.retain(|record| record["event"] == "audited");
        if entries.len() >= decided.len() || Instant::now() > patience {
            break;
        }
        std::thread::yield_now();
    }
    let seqs = |records: Vec<Value>, seq: &str| -> Vec<u64> {
        records.iter().map(|record| record.pointer(seq).unwrap().as_u64().unwrap()).collect()
    };
    println!("{} decisions, {answered} answered, {KILLS} kills", decided.len());
    assert_eq!(seqs(entries, "/decided/seq"), seqs(decided, "/seq"));
}

#[test]
fn a_kill_leaves_what_was_decided_about_an_account_and_its_entry_or_neither() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut random = Random::seeded_by("CHINWAG_AUDIT_SEED");
    let mut server = Server::start(&data);
    chinwag(&data, &["user", "add", "ann", "--rank", "owner"]);
    chinwag(&data, &["user", "add", "bob"]);
    let (mut decided, mut answered) = (0, 0);
    for round in 0..KILLS {
        let until = Instant::now() + Duration::from_micros(random.below(60_000));
        let deciding = std::thread::spawn({
            let (port, token) = (server.port, server.token.clone());
            move || {
                let ranks = (decided..).map(|n| json!({ "rank": rank(n) }).to_string());
                ranks.map_while(|rank| ask(port, &token, "PATCH", "/v1/accounts/bob", &rank)).count()
            }
        });
        while Instant::now() < until {
            std::thread::yield_now();
        }
        server.broker.kill();
        let here = deciding.join().unwrap();
        broker::verify(&data).unwrap_or_else(|damage| panic!("round {round}: {damage}"));
        server = Server::start(&data);
        let there = entries(&server, &data);
        // What was on its way may be there, and may not.
        assert!(
            (decided + here..=decided + here + 1).contains(&there),
            "round {round}: {there} of {decided} and {here}"
        );
        (decided, answered) = (there, answered + here);
    }
    println!("{decided} decisions, {answered} answered, {KILLS} kills");
    assert!(answered > 0, "a kill is to meet something");
    assert_eq!(chinwag(&data, &["room", "audit", "--tenant", "hill"]), "", "of another tenant there is nothing");
}

/// What bob is made by which decision.
fn rank(n: usize) -> &'static str {
    if n.is_multiple_of(2) { "admin" } else { "member" }
}

/// How many entries there are of what was decided about bob: each once, the last of them says what he is, and by that he
/// reads them.
fn entries(server: &Server, data: &Path) -> usize {
    let printed = chinwag(data, &["room", "audit"]);
    let entries = printed.lines().filter(|line| line.contains("\taccount_changed\tbob\t"));
    let shown: Vec<_> = entries.map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(shown, (0..shown.len()).map(rank).collect::<Vec<_>>(), "{printed}");
    let listed = chinwag(data, &["user", "list"]);
    let is = listed.lines().find_map(|line| line.strip_prefix("bob\t")).unwrap().split('\t').next().unwrap();
    assert_eq!(is, shown.last().copied().unwrap_or("member"), "{printed}");
    let rooms = server.get("/v1/rooms");
    let audit = rooms["rooms"].as_array().unwrap().iter().find(|room| room["kind"] == "audit").unwrap();
    let members = server.get(&format!("/v1/rooms/{}/members", audit["room"].as_str().unwrap()));
    let reads = members["members"].as_array().unwrap().iter().any(|member| member["user"] == "bob");
    assert_eq!(reads, is == "admin", "{printed}");
    shown.len()
}

/// What the command line prints that is asked of the server on `data`.
fn chinwag(data: &Path, args: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_chinwag")).args(args).arg("--data").arg(data).output().unwrap();
    assert!(done.status.success(), "{args:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

struct Server {
    broker: Broker,
    port: u16,
    token: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut broker = Broker::start_with(data, 0, &[]);
        let (port, _) = broker.ready().unwrap();
        let token = broker::token(data, "ann").unwrap();
        ask(port, &token, "POST", "/v1/rooms", r#"{"kind":"channel","alias":"lobby"}"#);
        Self { broker, port, token }
    }

    fn get(&self, path: &str) -> Value {
        request(self.port, &self.token, "GET", path, "").expect("the server answers").1
    }

    /// Every record of a room.
    fn log(&self, room: &str) -> Vec<Value> {
        let mut records = BTreeMap::new();
        let mut after = "start".to_owned();
        loop {
            let page = self.get(&format!("/v1/rooms/{room}/events?after={after}&limit=100"));
            for record in page["records"].as_array().unwrap() {
                records.insert(record["seq"].as_u64().unwrap(), record.clone());
            }
            if page["complete"] == true {
                return records.into_values().collect();
            }
            page["cursor"].as_str().unwrap().clone_into(&mut after);
        }
    }
}

/// Whether something was asked and answered with success; `None` where the server has gone.
fn ask(port: u16, token: &str, method: &str, path: &str, body: &str) -> Option<()> {
    let (status, _) = request(port, token, method, path, body)?;
    (status < 300).then_some(())
}

fn request(port: u16, token: &str, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut line, mut length) = (0, String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        if status == 0 {
            status = line.get(9..12)?.parse().ok()?;
        }
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = bytes.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((status, serde_json::from_slice(&body).ok()?))
}
