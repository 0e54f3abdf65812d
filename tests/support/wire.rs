//! One native WebSocket connection, spoken in JSON: just enough of it to post, to follow and to ask for a room.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use super::ledger::{Key, Seen, What};

/// Longer than any answer may take while the server lives; when it dies, the socket says so at once.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Why a connection is of no more use. Whoever gets this connects again.
#[derive(Debug)]
pub struct Gone(pub String);

/// A connection after its handshake and its hello.
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
    pub epoch: String,
    asked: u64,
}

/// What the server sent.
pub enum Frame {
    /// The reply to the command with this id, or a refusal of it.
    Reply {
        id: String,
        answer: Result<Value, Refusal>,
    },
    Record {
        room: Uuid,
        cursor: String,
        seen: Seen,
    },
    /// A follow ended that nobody ended here.
    FollowEnded,
    Notice,
}

#[derive(Debug)]
pub struct Refusal {
    pub code: String,
    pub retry: String,
}

impl Connection {
    pub async fn open(address: SocketAddr, token: &str) -> Result<Self, Gone> {
        let opened = tokio::time::timeout(ANSWER_MAX, Self::handshake(address, token));
        opened.await.map_err(|_| Gone("no handshake".to_owned()))?
    }

    async fn handshake(address: SocketAddr, token: &str) -> Result<Self, Gone> {
        let stream = TcpStream::connect(address).await.map_err(gone)?;
        stream.set_nodelay(true).map_err(gone)?;
        let mut request = format!("ws://{address}/v1/ws").into_client_request().map_err(gone)?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {token}").parse().map_err(gone)?);
        headers.insert("sec-websocket-protocol", "chinwag.v1.json".parse().map_err(gone)?);
        let (socket, _) = client_async(request, stream).await.map_err(gone)?;
        let mut connection = Self { socket, epoch: String::new(), asked: 0 };
        let hello = connection.value().await?;
        if hello["type"] != "hello" || hello["authenticated"] != true {
            return Err(Gone(format!("no hello: {hello}")));
        }
        connection.epoch = hello["epoch"].as_str().ok_or_else(|| Gone(format!("no epoch: {hello}")))?.to_owned();
        Ok(connection)
    }

    /// Queues `key`'s message; its reply comes under its client id.
    pub async fn post(&mut self, room: Uuid, key: Key) -> Result<(), Gone> {
        let client_id = key.client_id();
        let content = json!({ "text": key.text() });
        self.feed(json!({ "type": "post", "id": client_id, "room": room.to_string(), "content": content, "client_id": client_id }))
            .await
    }

    /// Asks and waits for the reply; for connections on which nothing else is under way.
    pub async fn ask(&mut self, mut command: Value) -> Result<Result<Value, Refusal>, Gone> {
        self.asked += 1;
        let asked = format!("ask-{}", self.asked);
        command["id"] = json!(asked);
        self.feed(command).await?;
        self.flush().await?;
        loop {
            if let Frame::Reply { id, answer } = self.next().await?
                && id == asked
            {
                return Ok(answer);
            }
        }
    }

    /// Follows `room` from `from`; the reply comes as a frame under [`follow_id`].
    pub async fn follow(&mut self, room: Uuid, from: &str) -> Result<(), Gone> {
        self.feed(json!({ "type": "follow", "id": follow_id(room), "room": room.to_string(), "from": from })).await
    }

    /// Everything in `room`, from its start to the head it had when asked.
    pub async fn read_all(&mut self, room: Uuid) -> Result<Vec<Seen>, Gone> {
        self.follow(room, "start").await?;
        self.flush().await?;
        let mut head = None;
        let mut log: Vec<Seen> = Vec::new();
        while head.is_none_or(|head| log.last().map_or(0, |seen| seen.seq) < head) {
            match self.next().await? {
                Frame::Reply { id, answer } if id == follow_id(room) => {
                    let reply = answer.map_err(|refusal| Gone(format!("follow: {refusal:?}")))?;
                    head = Some(reply["head"].as_u64().ok_or_else(|| Gone(format!("no head: {reply}")))?);
                }
                Frame::Record { room: of, seen, .. } if of == room => {
                    if head.is_none() {
                        return Err(Gone("a record before the reply to its follow".to_owned()));
                    }
                    log.push(seen);
                }
                Frame::FollowEnded => return Err(Gone("the follow ended".to_owned())),
                Frame::Record { .. } | Frame::Reply { .. } | Frame::Notice => {}
            }
        }
        let _ = self.ask(json!({ "type": "unfollow", "room": room.to_string() })).await?;
        Ok(log)
    }

    pub async fn flush(&mut self) -> Result<(), Gone> {
        self.socket.flush().await.map_err(gone)
    }

    /// The next frame. Safe to abandon: nothing that was read is lost by that.
    pub async fn next(&mut self) -> Result<Frame, Gone> {
        let value = self.value().await?;
        match value["type"].as_str() {
            Some("reply") => {
                let id = value["id"].as_str().unwrap_or_default().to_owned();
                if value["ok"] == true {
                    return Ok(Frame::Reply { id, answer: Ok(value) });
                }
                let member = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
                Ok(Frame::Reply { id, answer: Err(Refusal { code: member("code"), retry: member("retry") }) })
            }
            Some("record") => record(&value).ok_or_else(|| Gone(format!("not a record: {value}"))),
            Some("removed" | "follow_failed") => Ok(Frame::FollowEnded),
            _ => Ok(Frame::Notice),
        }
    }

    async fn feed(&mut self, command: Value) -> Result<(), Gone> {
        self.socket.feed(Message::text(command.to_string())).await.map_err(gone)
    }

    async fn value(&mut self) -> Result<Value, Gone> {
        loop {
            let message = tokio::time::timeout(ANSWER_MAX, self.socket.next()).await;
            match message.map_err(|_| Gone("silence".to_owned()))? {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).map_err(gone),
                Some(Ok(Message::Close(frame))) => return Err(Gone(format!("closed: {frame:?}"))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(gone(error)),
                None => return Err(Gone("end of stream".to_owned())),
            }
        }
    }
}

/// The command id of a room's follow.
pub fn follow_id(room: Uuid) -> String {
    format!("follow-{room}")
}

fn record(value: &Value) -> Option<Frame> {
    let what = if value["event"] == "message_posted" {
        match value["client_id"].as_str().and_then(Key::parse) {
            Some(key) if value["content"]["text"] == key.text() && value["author"] == key.author() => {
                What::Message(key)
            }
            Some(_) | None => What::Altered,
        }
    } else {
        What::Other
    };
    let seen = Seen { seq: value["seq"].as_u64()?, id: id(&value["id"])?, what };
    Some(Frame::Record { room: id(&value["room"])?, cursor: value["cursor"].as_str()?.to_owned(), seen })
}

/// The place and the id that an acknowledgement names.
pub fn acknowledged(reply: &Value) -> Option<(u64, Uuid, bool)> {
    Some((reply["seq"].as_u64()?, id(&reply["record"])?, reply["duplicate"] == true))
}

pub fn id(value: &Value) -> Option<Uuid> {
    Uuid::try_parse(value.as_str()?).ok()
}

fn gone(error: impl std::fmt::Display) -> Gone {
    Gone(error.to_string())
}
