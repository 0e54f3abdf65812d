//! Clients over plain HTTP: one that asks on a connection that it keeps, and one that listens to an event stream.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// How long anything may take before a test fails: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer that is no refusal.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The status and code of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        (self.status, problem["code"].as_str().expect("every problem has a code").to_owned())
    }
}

/// A connection that is kept from one request to the next.
pub struct Http {
    stream: BufReader<TcpStream>,
    authorization: String,
}

impl Http {
    pub async fn connect(address: SocketAddr, token: &str) -> std::io::Result<Self> {
        let stream = BufReader::new(TcpStream::connect(address).await?);
        Ok(Self { stream, authorization: format!("Authorization: Bearer {token}\r\n") })
    }

    /// The same, with little space of its own for what comes.
    pub async fn connect_narrow(address: SocketAddr, token: &str) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 * 1024)?;
        let stream = BufReader::new(socket.connect(address).await?);
        Ok(Self { stream, authorization: format!("Authorization: Bearer {token}\r\n") })
    }

    /// Says from here on who it is only where a request does.
    pub fn anonymous(&mut self) {
        self.authorization.clear();
    }

    /// Asks and waits for the answer, which is whole. Fails where the connection breaks.
    pub async fn try_get(&mut self, path: &str) -> std::io::Result<Answer> {
        self.send(path, "").await?;
        self.answer().await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        patiently(self.try_get(path)).await.expect("the connection is open")
    }

    /// Asks with whichever method, and a body in JSON where there is one.
    pub async fn request(&mut self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let about = match body.len() {
            0 => String::new(),
            bytes => format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{}{about}\r\n{body}", self.authorization);
        self.stream.get_mut().write_all(head.as_bytes()).await?;
        self.answer().await
    }

    /// Sends a request with more headers, each ended by CR LF.
    pub async fn send(&mut self, path: &str, more: &str) -> std::io::Result<()> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}{more}\r\n", self.authorization);
        self.stream.get_mut().write_all(head.as_bytes()).await
    }

    pub async fn answer(&mut self) -> std::io::Result<Answer> {
        let (status, headers) = head(&mut self.stream).await?;
        let mut answer = Answer { status, headers, body: String::new() };
        let bytes = answer.header("content-length").expect("the answer has a length").parse().unwrap();
        let mut body = vec![0; bytes];
        self.stream.read_exact(&mut body).await?;
        answer.body = String::from_utf8(body).expect("answers are text");
        Ok(answer)
    }

    /// Whether the server ends the connection without another word.
    pub async fn is_ended(&mut self) -> bool {
        patiently(self.stream.read_u8()).await.is_err()
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// The connection; what has been read and not looked at is lost.
    pub fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
    pub retry: Option<u64>,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A client that reads an event stream as browsers do.
pub struct Events {
    stream: BufReader<TcpStream>,
    pub headers: Vec<(String, String)>,
    /// What has come of the body and is no whole line yet.
    text: Vec<u8>,
    pub comments: usize,
}

impl Events {
    /// Opens a stream, or is refused.
    pub async fn open(address: SocketAddr, token: &str, path: &str, last: Option<&str>) -> Result<Self, Answer> {
        patiently(Self::try_open(address, token, path, last)).await.expect("the server answers")
    }

    pub async fn try_open(
        address: SocketAddr,
        token: &str,
        path: &str,
        last: Option<&str>,
    ) -> std::io::Result<Result<Self, Answer>> {
        let mut http = Http::connect(address, token).await?;
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        http.send(path, &format!("Accept: text/event-stream\r\n{last}")).await?;
        let (status, headers) = head(&mut http.stream).await?;
        if status == 200 {
            return Ok(Ok(Self { stream: http.stream, headers, text: Vec::new(), comments: 0 }));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let bytes = answer.header("content-length").expect("the answer has a length").parse().unwrap();
        let mut body = vec![0; bytes];
        http.stream.read_exact(&mut body).await?;
        answer.body = String::from_utf8(body).expect("answers are text");
        Ok(Err(answer))
    }

    /// A stream whose client has little space of its own for what comes.
    pub async fn open_narrow(address: SocketAddr, token: &str, path: &str) -> Self {
        let mut http = patiently(Http::connect_narrow(address, token)).await.unwrap();
        http.send(path, "Accept: text/event-stream\r\n").await.unwrap();
        let (status, headers) = patiently(head(&mut http.stream)).await.unwrap();
        assert_eq!(status, 200);
        Self { stream: http.stream, headers, text: Vec::new(), comments: 0 }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        patiently(self.try_next()).await
    }

    /// As [`Http::into_inner`].
    pub fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// As [`Events::next`], for as long as its caller waits.
    pub async fn try_next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut data: Option<String> = None;
        loop {
            let line = self.line().await?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    if let Some(data) = data.take() {
                        return Some(Event { data, ..event });
                    }
                    event = Event::default();
                }
                "" => self.comments += 1,
                "id" => event.id = Some(value.to_owned()),
                "event" => event.name = value.to_owned(),
                "data" => match &mut data {
                    Some(data) => *data = format!("{data}\n{value}"),
                    None => data = Some(value.to_owned()),
                },
                "retry" => event.retry = Some(value.parse().expect("a retry is a number")),
                _ => panic!("{line}"),
            }
        }
    }

    /// The next record.
    pub async fn record(&mut self) -> Value {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, "record", "{event:?}");
        let record = event.json();
        assert_eq!(event.id.as_deref(), record["cursor"].as_str());
        record
    }

    /// A line ends with CR LF, LF or CR; ours end with LF, and a CR in one would end it for browsers too. The body ends
    /// with the connection (RFC 9112, section 6.3).
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let line = self.text.drain(..=end).take(end).collect();
                return Some(String::from_utf8(line).expect("a stream is text"));
            }
            let bytes = self.stream.fill_buf().await.ok().filter(|bytes| !bytes.is_empty())?;
            self.text.extend_from_slice(bytes);
            let bytes = bytes.len();
            self.stream.consume(bytes);
        }
    }
}

async fn head(stream: &mut BufReader<TcpStream>) -> std::io::Result<(u16, Vec<(String, String)>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    Ok((status, headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect()))
}

async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this does not take so long")
}
