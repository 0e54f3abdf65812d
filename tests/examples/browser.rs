//! A headless Chromium, driven over its DevTools protocol.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::PATIENCE;

/// A browser with a profile of its own; ended when dropped.
pub struct Browser {
    child: Child,
    /// Where it listens for its driver.
    address: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts the first of the known names that is installed.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let started = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
            Command::new(name)
                .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
                .args(["--disable-background-networking", "--remote-debugging-port=0"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg("about:blank")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .ok()
        });
        let mut child = started.expect("Chromium is installed: apt-get install chromium");
        let stderr = child.stderr.take().expect("it is a pipe");
        let (found, address) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("DevTools listening on ws://") {
                    let _ = found.send(rest.split('/').next().unwrap_or_default().to_owned());
                }
            }
        });
        let address = address.recv_timeout(PATIENCE).expect("the browser says where it listens");
        Self { child, address, _profile: profile }
    }

    /// Opens `url` in a tab of its own.
    pub async fn open(&self, url: &str) -> Tab {
        let made = reqwest::Client::new().put(format!("http://{}/json/new?{url}", self.address)).send().await.unwrap();
        let made: Value = made.json().await.unwrap();
        let driver = made["webSocketDebuggerUrl"].as_str().expect("a new tab has a driver");
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(driver, stream).await.unwrap();
        let mut tab = Tab { socket, asked: 0 };
        tab.until("document.readyState === 'complete' && location.href !== 'about:blank'").await;
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One page.
pub struct Tab {
    socket: WebSocketStream<TcpStream>,
    asked: u64,
}

impl Tab {
    /// The value of an expression in the page.
    pub async fn value(&mut self, expression: &str) -> Value {
        self.asked += 1;
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let ask = json!({ "id": self.asked, "method": "Runtime.evaluate", "params": params });
        self.socket.send(Message::text(ask.to_string())).await.unwrap();
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the browser answers");
            let frame = frame.expect("the browser lives").unwrap();
            let Message::Text(text) = frame else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.asked {
                let failed = &answer["result"]["exceptionDetails"];
                assert!(failed.is_null(), "{expression}: {failed}");
                return answer["result"]["result"]["value"].clone();
            }
        }
    }

    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str) {
        let wait = async {
            while self.value(expression).await != true {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let page = self.value("document.body.innerText").await;
            panic!("not in time: {expression}; the page shows:\n{page}");
        }
    }
}
