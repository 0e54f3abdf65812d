//! `examples/browser.html` in a browser: over a WebSocket, and over an event stream where none gets through.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::broker::{self, Broker};
use crate::browser::{Browser, Tab};
use crate::{free_port, root};

#[tokio::test]
#[ignore = "needs Chromium"]
async fn the_page_talks_over_a_web_socket_and_comes_back_after_a_kill() {
    talk(Door::Open, "connected over a WebSocket").await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn the_page_falls_back_to_an_event_stream_where_no_web_socket_gets_through() {
    talk(Door::NoSockets, "connected over an event stream").await;
}

/// What stands between the page and the server.
enum Door {
    Open,
    /// A proxy that lets no WebSocket through.
    NoSockets,
}

async fn talk(door: Door, status: &str) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let port = free_port();
    let page = serve_page().await;
    let config = home.path().join("chinwag.toml");
    fs::write(&config, format!("[server]\norigins = [\"http://{page}\"]\n")).unwrap();
    let start = || Broker::start_with(&data, port, &["--config".as_ref(), config.as_os_str()]);
    let mut server = start();
    server.ready().unwrap();
    let token = broker::token(&data, "ann").unwrap();
    let address = match door {
        Door::Open => SocketAddr::from(([127, 0, 0, 1], port)),
        Door::NoSockets => proxy_without_sockets(port).await,
    };

    let browser = Browser::start();
    let mut tab = browser.open(&format!("http://{page}/")).await;
    for (field, value) in [("server", format!("http://{address}")), ("token", token), ("room", "lobby".to_owned())] {
        tab.value(&format!("document.getElementById('{field}').value = {}", json!(value))).await;
    }
    tab.value("document.getElementById('connect').requestSubmit()").await;
    let connected = format!("document.getElementById('status').textContent === {}", json!(status));
    tab.until(&connected).await;

    say(&mut tab, "hello").await;
    said(&mut tab, &["hello"]).await;
    // Markup is text.
    say(&mut tab, "<img src=x onerror=alert(1)>").await;
    said(&mut tab, &["hello", "<img src=x onerror=alert(1)>"]).await;
    server.kill();
    tab.until(&format!("!({connected})")).await;
    say(&mut tab, "is anybody there?").await;
    let mut server = start();
    server.ready().unwrap();
    tab.until(&connected).await;
    said(&mut tab, &["hello", "<img src=x onerror=alert(1)>", "is anybody there?"]).await;
    let seqs = tab.value("[...document.querySelectorAll('#log li')].map((line) => Number(line.dataset.seq))").await;
    assert_eq!(seqs, json!([1, 2, 3, 4, 5]), "each record once, in order");
}

async fn say(tab: &mut Tab, text: &str) {
    tab.value(&format!("document.getElementById('text').value = {}", json!(text))).await;
    tab.value("document.getElementById('say').requestSubmit()").await;
}

/// Waits until the page shows these messages and no others.
async fn said(tab: &mut Tab, texts: &[&str]) {
    let shown = "[...document.querySelectorAll('#log .said')].map((line) => line.lastChild.textContent)";
    tab.until(&format!("JSON.stringify({shown}) === JSON.stringify({})", Value::from(texts.to_vec()))).await;
}

/// Serves the page, whatever is asked for; returns where.
async fn serve_page() -> SocketAddr {
    let page = fs::read_to_string(root().join("examples/browser.html")).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = page.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let answer = head + &page;
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// Hands everything on to `port` but WebSocket handshakes, as some companies' proxies do.
async fn proxy_without_sockets(port: u16) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_head(&mut client).await;
                if String::from_utf8_lossy(&head).to_ascii_lowercase().contains("upgrade: websocket") {
                    let _ = client
                        .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        .await;
                    return;
                }
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                if server.write_all(&head).await.is_ok() {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    head
}
