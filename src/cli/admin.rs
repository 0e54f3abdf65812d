//! Asks a running server over the operator's socket in its data directory.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::failure::{Exit, Failure};
use crate::http::admin::SOCKET;

/// How long an answer may take: a revocation waits two seconds for the slowest thread.
const ANSWER: Duration = Duration::from_secs(10);

/// What to do.
pub enum Ask<'a> {
    /// Tell what is there.
    Read,
    /// Do something.
    Do(&'a Value),
}

/// Asks the server that uses the data directory `data`, and returns what it answers.
pub fn ask(data: &Path, path: &str, ask: &Ask<'_>) -> Result<Value, Failure> {
    let socket = data.join(SOCKET);
    let fault = |what: String| Failure::new(Exit::Fault, what);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fault(format!("cannot start: {error}")))?;
    let client = reqwest::Client::builder().unix_socket(socket.as_path()).no_proxy().timeout(ANSWER).build();
    let client = client.map_err(|error| fault(format!("cannot start: {error}")))?;
    let url = format!("http://localhost{path}");
    let request = match ask {
        Ask::Read => client.get(url),
        Ask::Do(body) => client.post(url).json(body),
    };
    let (status, body) = runtime.block_on(async {
        let answer = request.send().await.map_err(|error| not_reached(data, &error))?;
        let status = answer.status();
        let body = answer.json::<Value>().await;
        Ok::<_, Failure>((status, body.map_err(|_| Failure::new(Exit::Protocol, "the answer is not understood"))?))
    })?;
    if status.is_success() {
        return Ok(body);
    }
    let text = |name: &str| body[name].as_str().unwrap_or("nothing is said of why").to_owned();
    let exit = if status.is_client_error() { Exit::Refused } else { Exit::Io };
    Err(Failure::new(exit, format!("the server refused: {} ({})", text("detail"), text("code"))))
}

fn not_reached(data: &Path, error: &reqwest::Error) -> Failure {
    let shown = data.display();
    if error.is_connect() {
        let what = format!(
            "no server runs on {shown}, or this user may not read its socket {SOCKET}: start it with `chinwag serve \
             --data {shown}`, or run this as the user that it runs as"
        );
        return Failure::new(Exit::Unavailable, what);
    }
    if error.is_timeout() {
        return Failure::new(Exit::Io, "the server did not answer in time; whether it did what was asked is not known");
    }
    Failure::new(Exit::Io, format!("the server could not be asked: {error}"))
}
