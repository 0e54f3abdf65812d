//! Chinwag in one screen of Rust: prints a room, and says what comes on standard input.
//!
//! ```sh
//! CHINWAG_TOKEN=$(chinwag token create --user ann) cargo run --example client -- lobby
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let room = std::env::args().nth(1).expect("usage: client ROOM");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    // What has not been acknowledged is sent again after a break; its client id makes sure that it is published once.
    let (mut cursor, mut unsaid) = ("start".to_owned(), VecDeque::new());
    loop {
        let lost = talk(&room, &mut lines, &mut cursor, &mut unsaid).await;
        eprintln!("{lost:?}; coming back");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn talk(
    room: &str,
    lines: &mut tokio::io::Lines<BufReader<tokio::io::Stdin>>,
    cursor: &mut String,
    unsaid: &mut VecDeque<Value>,
) -> Result<(), Error> {
    let address = std::env::var("CHINWAG_ADDRESS").unwrap_or_else(|_| "127.0.0.1:7700".to_owned());
    let token = std::env::var("CHINWAG_TOKEN").expect("CHINWAG_TOKEN is needed; see chinwag token create");
    let mut request = format!("ws://{address}/v1/ws").into_client_request()?;
    request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().expect("a token is ASCII"));
    let (mut socket, _) = tokio_tungstenite::client_async(request, TcpStream::connect(&address).await?).await?;

    let create = json!({ "type": "create", "id": "create", "kind": "channel", "alias": room });
    let join = json!({ "type": "join", "id": "join", "room": room });
    let follow = json!({ "type": "follow", "id": "follow", "room": room, "from": cursor });
    for command in [&create, &join, &follow].into_iter().chain(&*unsaid) {
        socket.send(Message::text(command.to_string())).await?;
    }
    let mut typing = true;
    loop {
        tokio::select! {
            frame = socket.next() => match frame.transpose()? {
                Some(Message::Text(text)) => {
                    let frame: Value = serde_json::from_str(&text).expect("the server sends JSON");
                    if frame["type"] == "record" {
                        println!("{} {} {} {}", frame["seq"], frame["author"], frame["event"], frame["content"]);
                        frame["cursor"].as_str().unwrap_or_default().clone_into(cursor);
                    } else if frame["type"] == "reply" {
                        let refused = &frame["error"];
                        if frame["ok"] == true || refused["retry"] == "no" {
                            unsaid.retain(|post| post["id"] != frame["id"]);
                        }
                        if refused["retry"] == "no" && refused["code"] != "room_exists" && refused["code"] != "already_member" {
                            eprintln!("refused: {refused}");
                        }
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
            line = lines.next_line(), if typing => match line? {
                Some(text) => {
                    let id = uuid::Uuid::new_v4().to_string();
                    let post = json!({ "type": "post", "id": id, "client_id": id, "room": room, "content": { "text": text } });
                    unsaid.push_back(post.clone());
                    socket.send(Message::text(post.to_string())).await?;
                }
                None => typing = false,
            },
        }
    }
}
