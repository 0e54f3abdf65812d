//! The conversation of a [`Connection`](super::link::Connection) without a WebSocket: commands are requests, and rooms
//! are followed by event streams or by long polls.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frames::{Answer, Command, Heard, Hello, Refusal};

use super::room::escaped;
use super::trouble::{Trouble, close_trouble, http_trouble, passing, stranger};

/// How long the head of an answer may take; a long poll may take [`WAIT`] more.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a long poll waits for something new.
const WAIT: Duration = Duration::from_secs(25);

/// How many frames may wait to be heard.
const HEARD_MAX: usize = 256;

/// The longest event that is put together: twice the largest record.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// How rooms are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Events,
    Polls,
}

/// What commands go to and frames come from.
pub struct Web {
    requests: Requests,
    way: Way,
    frames: mpsc::Receiver<Result<Heard, Trouble>>,
    /// Dropped with the rest, and with them what is under way.
    under_way: JoinSet<()>,
}

/// What a request needs.
#[derive(Clone)]
struct Requests {
    client: reqwest::Client,
    /// `http://host:port/prefix`
    base: String,
    token: String,
    frames: mpsc::Sender<Result<Heard, Trouble>>,
}

impl Web {
    /// Talks to the server at `base`. Nothing is sent yet.
    pub fn new(client: reqwest::Client, base: String, token: String, way: Way) -> Self {
        let (sender, frames) = mpsc::channel(HEARD_MAX);
        Self { requests: Requests { client, base, token, frames: sender }, way, frames, under_way: JoinSet::new() }
    }

    /// Sends a command. Its reply, and what it leads to, is heard later.
    pub fn say(&mut self, command: &Command<'_>) {
        let requests = self.requests.clone();
        let room = |room: &str| format!("/v1/rooms/{}", escaped(room));
        let (id, path, body) = match command {
            Command::Create { id, kind, alias } => {
                (*id, "/v1/rooms".to_owned(), json!({ "kind": kind, "alias": alias }).to_string())
            }
            Command::Join { id, room: name } => (*id, room(name) + "/join", String::new()),
            Command::Post { id, room: name, client_id, content } => {
                let body = format!(r#"{{"client_id":{},"content":{content}}}"#, json!(client_id));
                (*id, room(name) + "/messages", body)
            }
            Command::Follow { id, room: name, from } => {
                let follow = Follow { id: (*id).to_owned(), path: room(name) + "/events", from: (*from).to_owned() };
                let way = self.way;
                self.under_way.spawn(async move {
                    let ended = match way {
                        Way::Events => requests.stream(follow).await,
                        Way::Polls => requests.poll(follow).await,
                    };
                    if let Err(trouble) = ended {
                        let _ = requests.frames.send(Err(trouble)).await;
                    }
                });
                return;
            }
        };
        let id = id.to_owned();
        self.under_way.spawn(async move {
            let heard = requests.post(&path, body).await.map(|outcome| Heard::Reply { id: Some(id), outcome });
            let _ = requests.frames.send(heard).await;
        });
    }

    /// The next frame. Nothing is lost when the future is dropped before it is ready.
    pub async fn hear(&mut self) -> Result<Heard, Trouble> {
        // Never closed: a sender is kept here.
        self.frames.recv().await.unwrap_or_else(|| Err(passing("the connection was closed".to_owned())))
    }
}

/// A room that is to be followed.
struct Follow {
    id: String,
    path: String,
    from: String,
}

impl Requests {
    async fn post(&self, path: &str, body: String) -> Result<Result<Answer, Refusal>, Trouble> {
        let mut request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let answer = send(request, ANSWER).await?;
        Ok(match refusal_of(answer).await? {
            Ok(answer) => Ok(Answer::new(text_of(answer).await?)),
            Err(refusal) => Err(refusal),
        })
    }

    fn events(&self, follow: &Follow) -> reqwest::RequestBuilder {
        let url = format!("{}{}?after={}", self.base, follow.path, escaped(&follow.from));
        self.client.get(url).bearer_auth(&self.token)
    }

    /// Follows by one stream until it ends.
    async fn stream(&self, follow: Follow) -> Result<(), Trouble> {
        let request = self.events(&follow).header("Accept", "text/event-stream");
        let answer = match refusal_of(send(request, ANSWER).await?).await? {
            Ok(answer) => answer,
            Err(refusal) => return self.replied(follow.id, Err(refusal)).await,
        };
        let mut silence = ANSWER;
        let mut chunks = answer.bytes_stream();
        let mut events = Events::default();
        loop {
            let Ok(chunk) = timeout(silence, chunks.next()).await else {
                return Err(passing(format!("the server has said nothing for {:.1} s", silence.as_secs_f64())));
            };
            let Some(chunk) = chunk else { return Err(passing("the stream has ended".to_owned())) };
            let chunk = chunk.map_err(|error| passing(format!("the stream broke: {error}")))?;
            events.take(&chunk).map_err(stranger)?;
            while let Some(event) = events.next() {
                let Event { name, data } = event.map_err(stranger)?;
                match &*name {
                    "hello" => {
                        let hello: Hello = serde_json::from_str(&data).map_err(|error| stranger(&error.to_string()))?;
                        silence = hello.patience();
                        self.replied(follow.id.clone(), Ok(Answer::new(data))).await?;
                    }
                    "close" => return Err(closed(&data)),
                    _ => self.heard(decoded(&data)?).await?,
                }
            }
        }
    }

    /// Follows by one request after another.
    async fn poll(&self, mut follow: Follow) -> Result<(), Trouble> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            records: Vec<&'a RawValue>,
            cursor: String,
        }

        // The first one does not wait: from its answer on, the place is known.
        let mut wait = None;
        loop {
            let mut request = self.events(&follow).header("Accept", "application/json").query(&[("limit", "100")]);
            if let Some(wait) = wait {
                request = request.query(&[("wait", format!("{}s", Duration::as_secs(&wait)))]);
            }
            let answer = match refusal_of(send(request, ANSWER + wait.unwrap_or_default()).await?).await? {
                Ok(answer) => answer,
                Err(refusal) if wait.is_none() => return self.replied(follow.id, Err(refusal)).await,
                Err(refusal) if refusal.is_passing() => {
                    return Err(Trouble::Passing { why: refusal.to_string(), wait: refusal.retry_after() });
                }
                Err(refusal) => return self.replied(follow.id, Err(refusal)).await,
            };
            let text = text_of(answer).await?;
            if wait.is_none() {
                self.replied(follow.id.clone(), Ok(Answer::new(text.clone()))).await?;
            }
            let page: Page<'_> = serde_json::from_str(&text).map_err(|error| stranger(&error.to_string()))?;
            for record in page.records {
                self.heard(decoded(record.get())?).await?;
            }
            follow.from = page.cursor;
            wait = Some(WAIT);
        }
    }

    async fn replied(&self, id: String, outcome: Result<Answer, Refusal>) -> Result<(), Trouble> {
        self.heard(Heard::Reply { id: Some(id), outcome }).await
    }

    async fn heard(&self, heard: Heard) -> Result<(), Trouble> {
        self.frames.send(Ok(heard)).await.map_err(|_| passing("nobody listens".to_owned()))
    }
}

async fn send(request: reqwest::RequestBuilder, time: Duration) -> Result<Response, Trouble> {
    match timeout(time, request.send()).await {
        Ok(answer) => answer.map_err(|error| passing(format!("cannot connect: {}", innermost(&error)))),
        Err(_) => Err(passing(format!("no answer within {} s", time.as_secs()))),
    }
}

/// The answer, or the refusal that it is.
async fn refusal_of(answer: Response) -> Result<Result<Response, Refusal>, Trouble> {
    let status = answer.status();
    if status.is_success() {
        return Ok(Ok(answer));
    }
    let body = text_of(answer).await?;
    // Of a token that is no good, and of a server that cannot now, the connection is what is wrong.
    let of_the_connection = status == StatusCode::UNAUTHORIZED || status.is_server_error();
    match serde_json::from_str::<Refusal>(&body) {
        Ok(refusal) if !of_the_connection => Ok(Err(refusal)),
        Ok(_) | Err(_) => Err(http_trouble(status.as_u16(), body.as_bytes())),
    }
}

async fn text_of(answer: Response) -> Result<String, Trouble> {
    match timeout(ANSWER, answer.text()).await {
        Ok(text) => text.map_err(|error| passing(format!("the answer broke off: {error}"))),
        Err(_) => Err(passing("the answer does not come to its end".to_owned())),
    }
}

fn decoded(text: &str) -> Result<Heard, Trouble> {
    Heard::decode(text).map_err(|error| stranger(&format!("it sent an event with {error}")))
}

/// What the last event of a stream says.
fn closed(data: &str) -> Trouble {
    #[derive(Deserialize)]
    struct Close {
        code: u16,
        name: String,
        retry_after_ms: Option<u64>,
    }

    match serde_json::from_str::<Close>(data) {
        Ok(Close { code, name, retry_after_ms }) => match close_trouble(Some((code, &name))) {
            Trouble::Passing { why, wait } => {
                Trouble::Passing { why, wait: retry_after_ms.map(Duration::from_millis).or(wait) }
            }
            lasting @ Trouble::Lasting(_) => lasting,
        },
        Err(error) => stranger(&format!("its last event is not one: {error}")),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// An event of a stream, and the kind it is of.
#[derive(PartialEq, Eq, Debug)]
struct Event {
    name: String,
    data: String,
}

/// Puts events together from the pieces in which they come (WHATWG HTML, section 9.2.6).
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    /// Up to where no line ends.
    looked: usize,
    name: String,
    data: Option<String>,
}

impl Events {
    fn take(&mut self, chunk: &[u8]) -> Result<(), &'static str> {
        self.rest.extend_from_slice(chunk);
        if self.rest.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
            return Err("it sent an event without an end");
        }
        Ok(())
    }

    /// The next whole event, if one has come.
    fn next(&mut self) -> Option<Result<Event, &'static str>> {
        loop {
            let end = self.rest[self.looked..].iter().position(|&byte| byte == b'\n');
            let Some(end) = end.map(|end| end + self.looked) else {
                self.looked = self.rest.len();
                return None;
            };
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.looked = 0;
            let Ok(line) = str::from_utf8(&line) else { return Some(Err("its stream is not UTF-8")) };
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let name = std::mem::take(&mut self.name);
                match self.data.take() {
                    Some(data) => return Some(Ok(Event { name, data })),
                    None => continue,
                }
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.name),
                "data" => match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => self.data = Some(value.to_owned()),
                },
                // Records say their cursors themselves; comments and what is unknown is passed over.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_pieces_of_any_size() {
        let stream =
            ":\n\nid: a\nevent: record\ndata: {\"ü\":\ndata: 1}\n\nretry: 5\r\nevent: close\r\ndata: {}\r\n\r\n";
        let expected = [("record", "{\"ü\":\n1}"), ("close", "{}")];
        for size in 1..stream.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                events.take(piece).unwrap();
                while let Some(event) = events.next() {
                    found.push(event.unwrap());
                }
            }
            let found: Vec<_> = found.iter().map(|event| (&*event.name, &*event.data)).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut events = Events::default();
        let taken = (0..=EVENT_BYTES_MAX / 4096).try_for_each(|_| events.take(&[b'x'; 4096]));
        assert!(taken.is_err());
    }
}
