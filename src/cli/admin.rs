//! A running server, asked through the operator's socket in its data directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::failure::{Exit, Failure};
use crate::http::admin::SOCKET;

/// How long an answer may take: longer than the server lets a command take.
const ANSWER: Duration = Duration::from_secs(40);

/// The way to the server of one data directory.
pub struct Desk {
    client: reqwest::Client,
    data: PathBuf,
}

impl Desk {
    pub fn of(data: &Path) -> Result<Self, Failure> {
        let client = reqwest::Client::builder().unix_socket(data.join(SOCKET)).no_proxy().timeout(ANSWER).build();
        let client = client.map_err(|error| Failure::new(Exit::Fault, format!("cannot start: {error}")))?;
        Ok(Self { client, data: data.to_owned() })
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.client.get(url(path))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.answer(self.client.post(url(path)).json(body)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body: Value = answer
            .json()
            .await
            .map_err(|error| Failure::new(Exit::Protocol, format!("the server's answer is not one: {error}")))?;
        if status.is_success() {
            return Ok(body);
        }
        let said = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        Err(Failure::new(Exit::Refused, format!("{} ({})", said("detail"), said("code"))))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let data = self.data.display();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::PermissionDenied) => {
                    let why =
                        format!("the server's socket in {data} may only be used by the user that the server runs as");
                    return Failure::new(Exit::Token, why);
                }
                Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    let why = format!("no server runs on {data}; start it, or name its directory with --data");
                    return Failure::new(Exit::Unreachable, why);
                }
                Some(_) | None => source = cause.source(),
            }
        }
        Failure::new(Exit::Unreachable, format!("the server of {data} does not answer: {error}"))
    }
}

/// The socket says which server; the host is there because HTTP wants one.
fn url(path: &str) -> String {
    format!("http://localhost{path}")
}

/// Runs one command's questions.
pub fn ask<T>(questions: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Fault, format!("cannot start: {error}")))?.block_on(questions)
}
