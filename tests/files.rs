//! Files of a server that is a process of its own: killed in the middle of uploads, and what a transfer costs it.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::broker::{self, Broker};
use support::random::Random;

/// How often the server is killed.
const KILLS: u64 = 12;

/// As many as a transfer may cost, in KiB, beside what the server takes anyway.
const TRANSFER_KIB: u64 = 1024;

#[test]
fn a_kill_leaves_nothing_an_upload_that_goes_on_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let content: Vec<u8> = (0..3 << 20).map(|index: u32| (index % 241) as u8).collect();
    let mut random = Random::seeded_by("CHINWAG_FILES_SEED");
    let mut acknowledged: Vec<(String, Vec<u8>)> = Vec::new();
    let mut parted: Option<(String, u64)> = None;
    for round in 0..KILLS {
        let mut server = Server::start(&data);
        for (id, content) in &acknowledged {
            assert!(server.get(&format!("/v1/files/{id}")).1 == *content, "{id} in round {round}");
        }
        // One in parts, that goes on where it was acknowledged, or behind that.
        let (place, offset) = match parted.take() {
            Some((place, acknowledged)) => {
                let offset = server.offset(&place);
                assert!(offset >= acknowledged, "{offset} of {acknowledged} in round {round}");
                (place, offset)
            }
            None => (server.create(content.len()), 0),
        };
        let part = usize::try_from(offset).unwrap();
        let next = content.len().min(part + (1 << 20));
        if part < next {
            assert_eq!(server.patch(&place, part, &content[part..next]), next as u64, "round {round}");
        }
        if next == content.len() {
            acknowledged.push((place.replace("/v1/uploads/", ""), content.clone()));
        } else {
            parted = Some((place, next as u64));
        }
        // One in one request, whose content is its own.
        let mut own = content[..200_000].to_vec();
        own[0] = u8::try_from(round).unwrap();
        acknowledged.push((server.upload(&own), own.clone()));
        // And two that the kill meets somewhere.
        own[0] = 200;
        own[1] = u8::try_from(round).unwrap();
        let whole = server.begin("POST", "/v1/files?room=lobby", "", &own);
        let more = parted.as_ref().map(|(place, came)| {
            let part = usize::try_from(*came).unwrap();
            server.begin("PATCH", place, &tus(part), &content[part..])
        });
        let until = Instant::now() + Duration::from_micros(random.below(20_000));
        while Instant::now() < until {
            std::thread::yield_now();
        }
        server.broker.kill();
        drop((whole, more));
        broker::verify(&data).unwrap_or_else(|damage| panic!("round {round}: {damage}"));
    }
    let server = Server::start(&data);
    for (id, content) in &acknowledged {
        assert!(server.get(&format!("/v1/files/{id}")).1 == *content, "{id}");
    }
    drop(server);
    let mut verify = Command::new(env!("CARGO_BIN_EXE_chinwag"));
    let checked = verify.args(["data", "verify", "--hashes", "--data"]).arg(&data).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn a_file_that_is_gone_or_changed_is_damage_and_what_is_left_over_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data);
    server.upload(b"hello");
    server.broker.terminate().unwrap();
    server.broker.wait();
    let verify = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chinwag"));
        let checked = command.args(["data", "verify", "--data"]).arg(&data).args(more).output().unwrap();
        (checked.status.code(), String::from_utf8_lossy(&checked.stdout).into_owned())
    };
    let content = data.join("files/content/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    fs::write(data.join("files/incoming/0192f0c1-2345-7abc-8def-0000000000f1"), b"half").unwrap();
    let (code, said) = verify(&["--hashes"]);
    assert!(code == Some(0) && said.contains(", 1 files\n") && said.contains("left over: upload 0192f0c1-"), "{said}");
    fs::write(&content, b"hallo").unwrap();
    assert_eq!(verify(&[]).0, Some(0), "as large as it was");
    let (code, said) = verify(&["--hashes"]);
    assert!(code == Some(74) && said.contains("is not what it was"), "{said}");
    fs::write(&content, b"hell").unwrap();
    assert!(verify(&[]).1.contains("has 4 bytes and should have 5"));
    fs::remove_file(&content).unwrap();
    let (code, said) = verify(&[]);
    assert!(code == Some(74) && said.contains("is missing"), "{said}");
}

#[test]
fn a_transfer_costs_little_memory_however_large_the_file_and_slow_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("chinwag.toml");
    fs::write(&config, "[files]\nsize_mb = 512\n").unwrap();
    let server = Server::start_with(&dir.path().join("data"), &config);
    // What is set up once is set up before measuring.
    let small = server.upload(b"hello");
    server.get(&format!("/v1/files/{small}"));
    let before = server.resident_kib();
    let size: usize = 200 << 20;
    let mut sending = server.begin("POST", "/v1/files?room=lobby", "", &[]);
    drop(sending);
    sending = server.open(&server.head("POST", "/v1/files?room=lobby", &format!("Content-Length: {size}\r\n")));
    let (piece, mut most) = (vec![7; 1 << 20], 0);
    for _ in 0..size >> 20 {
        sending.write_all(&piece).unwrap();
        most = most.max(server.resident_kib().saturating_sub(before));
    }
    let id = answer(&mut sending).json()["id"].as_str().unwrap().to_owned();
    println!("{most} KiB more while 200 MiB came");
    assert!(most <= TRANSFER_KIB, "{most} KiB more while 200 MiB came");

    let before = server.resident_kib();
    let readers: u64 = 8;
    let mut slow: Vec<_> =
        (0..readers).map(|_| server.open(&server.head("GET", &format!("/v1/files/{id}"), ""))).collect();
    let mut most = 0;
    for _ in 0..50 {
        for reader in &mut slow {
            let mut some = vec![0; 64 * 1024];
            reader.read_exact(&mut some).unwrap();
        }
        most = most.max(server.resident_kib().saturating_sub(before));
    }
    println!("{most} KiB more while {readers} readers had 3 of 200 MiB each");
    assert!(most / readers <= TRANSFER_KIB, "{most} KiB more for {readers} readers");
}

struct Server {
    broker: Broker,
    port: u16,
    token: String,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.head))
    }

    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name}: {}", self.head))
    }
}

impl Server {
    fn start(data: &Path) -> Self {
        Self::ready(Broker::start_with(data, 0, &[]), data)
    }

    fn start_with(data: &Path, config: &Path) -> Self {
        Self::ready(Broker::start_with(data, 0, &["--config".as_ref(), config.as_ref()]), data)
    }

    fn ready(mut broker: Broker, data: &Path) -> Self {
        let (port, _) = broker.ready().unwrap();
        let token = broker::token(data, "ann").unwrap();
        let server = Self { broker, port, token };
        let channel = br#"{"kind":"channel","alias":"lobby"}"#;
        server.ask("POST", "/v1/rooms", "Content-Type: application/json\r\n", channel);
        server
    }

    fn head(&self, method: &str, path: &str, headers: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{headers}\r\n", self.token)
    }

    fn open(&self, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Sends a request, and does not wait for what comes of it.
    fn begin(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let headers = format!("{headers}Content-Length: {}\r\n", body.len());
        let mut stream = self.open(&self.head(method, path, &headers));
        let _ = stream.write_all(body);
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        answer(&mut self.begin(method, path, headers, body))
    }

    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let Answer { status, body, .. } = answer(&mut self.open(&self.head("GET", path, "")));
        (status, body)
    }

    fn upload(&self, content: &[u8]) -> String {
        let made = self.ask("POST", "/v1/files?room=lobby", "", content);
        assert_eq!(made.status, 201, "{}", made.head);
        made.json()["id"].as_str().unwrap().to_owned()
    }

    fn create(&self, bytes: usize) -> String {
        // `lobby` in base64.
        let headers = format!("Tus-Resumable: 1.0.0\r\nUpload-Length: {bytes}\r\nUpload-Metadata: room bG9iYnk=\r\n");
        let made = self.ask("POST", "/v1/uploads", &headers, b"");
        assert_eq!(made.status, 201, "{}", made.head);
        made.header("location").to_owned()
    }

    fn offset(&self, place: &str) -> u64 {
        let asked = answer(&mut self.open(&self.head("GET", place, "Tus-Resumable: 1.0.0\r\n")));
        assert_eq!(asked.status, 200, "{}", asked.head);
        asked.header("upload-offset").parse().unwrap()
    }

    fn patch(&self, place: &str, offset: usize, part: &[u8]) -> u64 {
        let answer = self.ask("PATCH", place, &tus(offset), part);
        assert_eq!(answer.status, 204, "{}", answer.head);
        answer.header("upload-offset").parse().unwrap()
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.broker.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

fn tus(offset: usize) -> String {
    format!("Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n")
}

/// Reads one answer on a connection that stays open.
fn answer(stream: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => panic!("{other:?}: {}", head.escape_ascii()),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap_or_else(|error: io::Error| panic!("{error}: {head}"));
    Answer { status, head, body }
}
