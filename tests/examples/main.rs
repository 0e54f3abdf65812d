//! The examples, run against the binary: each says something, hears the others, and loses and doubles nothing when the
//! server is killed under it. The page runs in a real browser.

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod page;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::broker::{self, Broker};

/// How long anything may take that has to come: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_python_client_says_and_hears_and_comes_back() {
    let mut python = Command::new("python3");
    python.arg(root().join("examples/client.py"));
    says_and_hears_and_comes_back(python);
}

#[test]
fn the_python_client_says_in_a_sentence_what_it_lacks() {
    let said = |token: Option<&str>, rooms: &[&str]| {
        let mut python = Command::new("python3");
        python.arg(root().join("examples/client.py")).args(rooms).env_remove("CHINWAG_TOKEN");
        python.envs(token.map(|token| ("CHINWAG_TOKEN", token)));
        let address = format!("http://127.0.0.1:{}", free_port());
        let output = python.env("CHINWAG_URL", address).stdin(Stdio::null()).output().expect("python3 is there");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("a sentence")
    };
    for (told, sentence) in [
        (said(None, &["lobby"]), "set CHINWAG_TOKEN"),
        (said(Some("t"), &[]), "name one room"),
        (said(Some("t"), &["lobby"]), "cannot reach http://127.0.0.1:"),
    ] {
        assert!(told.starts_with(sentence) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn the_rust_client_says_and_hears_and_comes_back() {
    // Built with the tests, beside the folder in which they lie.
    let tests = std::env::current_exe().expect("a test knows where it is");
    let built = tests.parent().and_then(Path::parent).expect("target/debug/deps").join("examples/client");
    says_and_hears_and_comes_back(Command::new(built));
}

fn says_and_hears_and_comes_back(client: Command) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let port = free_port();
    let mut server = Broker::start(&data, port);
    server.ready().unwrap();
    let token = broker::token(&data, "ann").unwrap();
    let mut client = Talker::start(client, port, &token);

    assert_eq!(client.events(2), ["1 room_created null", "2 member_joined null"]);
    client.say("hello");
    assert_eq!(client.events(1), [r#"3 message_posted {"text":"hello"}"#]);
    server.kill();
    // Said while nobody listens.
    client.say("is anybody there?");
    let mut server = Broker::start(&data, port);
    server.ready().unwrap();
    assert_eq!(client.events(1), [r#"4 message_posted {"text":"is anybody there?"}"#]);
    client.say("good");
    assert_eq!(client.events(1), [r#"5 message_posted {"text":"good"}"#]);
}

/// A client that prints `SEQ AUTHOR EVENT CONTENT` and says what it reads.
struct Talker {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Talker {
    fn start(mut program: Command, port: u16, token: &str) -> Self {
        let address = format!("127.0.0.1:{port}");
        let mut child = program
            .arg("lobby")
            .env("CHINWAG_URL", format!("http://{address}"))
            .env("CHINWAG_ADDRESS", address)
            .env("CHINWAG_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let stdout = child.stdout.take().expect("it is a pipe");
        let (line, lines) = channel();
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        Self { stdin: child.stdin.take().expect("it is a pipe"), child, lines }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.stdin, "{text}").expect("the example reads");
    }

    /// The next lines, without the author and without the spaces of this and that language's JSON.
    fn events(&self, count: usize) -> Vec<String> {
        let line = || self.lines.recv_timeout(PATIENCE).expect("a line in time");
        let short = |line: String| {
            let mut words = line.splitn(4, ' ');
            let (seq, author) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            assert_eq!(author.trim_matches('"'), "ann", "{line}");
            let event = words.next().unwrap_or_default().trim_matches('"');
            format!("{seq} {event} {}", words.next().unwrap_or_default().replace(": ", ":"))
        };
        (0..count).map(|_| short(line())).collect()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A port that was free a moment ago, so that a server can be started on it again.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
