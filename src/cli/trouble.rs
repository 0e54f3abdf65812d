//! Why a conversation with a server ends: whether trying again helps, and what to tell the user.

use std::time::Duration;

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::failure::{Exit, Failure};
use super::frames::{PROTOCOL, Refusal};

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum Trouble {
    /// Another connection may do, after `wait` if that is known.
    Passing { why: String, wait: Option<Duration> },
    /// Trying again leads to the same.
    Lasting(Failure),
}

pub fn passing(why: String) -> Trouble {
    Trouble::Passing { why, wait: None }
}

pub fn stranger(why: &str) -> Trouble {
    Trouble::Lasting(Failure::new(
        Exit::Protocol,
        format!("the other side does not speak {PROTOCOL}: {why}; is --url that of a chinwag server?"),
    ))
}

pub fn token_refused(why: &str) -> Failure {
    Failure::new(
        Exit::Token,
        format!(
            "the server refuses the token: {why}; make one with `chinwag token create --user ID`, with the --data of \
             that server"
        ),
    )
}

pub fn handshake_trouble(error: Error) -> Trouble {
    match error {
        Error::Http(response) => {
            http_trouble(response.status().as_u16(), response.body().as_deref().unwrap_or_default())
        }
        Error::HttpFormat(_) => {
            Trouble::Lasting(Failure::new(Exit::Token, "the token has characters that no token has"))
        }
        // What rustls says of a certificate, or of something that is no TLS, comes as this kind.
        Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Trouble::Lasting(Failure::new(
            Exit::Protocol,
            format!("{error}; SSL_CERT_FILE names a file with an authority of your own"),
        )),
        Error::Io(error) => passing(format!("cannot connect: {error}")),
        Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed => {
            passing("the connection was closed in the handshake".to_owned())
        }
        // The library's enum is open; what is left are answers that are no WebSocket handshake.
        other => stranger(&other.to_string()),
    }
}

/// What an answer of this status means, beside what its body says.
pub fn http_trouble(status: u16, body: &[u8]) -> Trouble {
    let Ok(status) = StatusCode::from_u16(status) else { return stranger(&format!("it answers {status}")) };
    let said = said(body);
    if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
        return passing(format!("the server answers {status}{said}"));
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Lasting(token_refused(&format!("{status}{said}"))),
        StatusCode::BAD_REQUEST => Trouble::Lasting(Failure::new(
            Exit::Protocol,
            format!(
                "the server does not take the handshake: {status}{said}; client and server may be of different versions"
            ),
        )),
        _ => stranger(&format!("it answers {status}{said}")),
    }
}

/// The sentence of a problem document (RFC 9457), if there is one.
fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        #[serde(default)]
        detail: Option<String>,
        #[serde(default)]
        title: Option<String>,
        #[serde(default)]
        code: Option<String>,
    }

    let Ok(problem) = serde_json::from_slice::<Problem>(body) else { return String::new() };
    let sentence = problem.detail.or(problem.title).map(|sentence| format!(": {sentence}")).unwrap_or_default();
    let code = problem.code.map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{sentence}{code}")
}

/// Why the server ends a connection, by code and name.
pub fn close_trouble(close: Option<(u16, &str)>) -> Trouble {
    let Some((code, reason)) = close else {
        return passing("the server closed the connection".to_owned());
    };
    let reason = if reason.is_empty() { String::new() } else { format!(" {reason}") };
    match code {
        4401 => Trouble::Lasting(token_refused(&format!("close {code}{reason}"))),
        4403 => Trouble::Lasting(Failure::new(
            Exit::Token,
            "the token has expired; make another with `chinwag token create --user ID` and start again",
        )),
        // What we said was wrong, and would be again.
        1002 | 1003 | 1007 | 1009 | 1010 | 4400 => Trouble::Lasting(Failure::new(
            Exit::Protocol,
            format!("the server closed the connection: close {code}{reason}"),
        )),
        _ => passing(format!("the server closed the connection: close {code}{reason}")),
    }
}

pub fn socket_trouble(error: &Error) -> Trouble {
    match error {
        Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => passing(format!("connection lost: {error}")),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            passing("connection lost without a goodbye".to_owned())
        }
        // The library's enum is open; what is left are frames that are against the protocol.
        _ => stranger(&error.to_string()),
    }
}

/// What it means for the connection that a command was refused: another one later, or the end.
pub fn refusal_trouble(what: &str, refusal: &Refusal) -> Trouble {
    if refusal.is_passing() {
        return Trouble::Passing { why: format!("{what}: {refusal}"), wait: refusal.retry_after() };
    }
    let hint = match &*refusal.code {
        "room_not_found" => "; `chinwag pub ROOM --create` makes a channel",
        "cursor_invalid" | "cursor_foreign" => "; a cursor serves for the room it was made in",
        _ => "",
    };
    Trouble::Lasting(Failure::new(Exit::Refused, format!("{what}: {refusal}{hint}")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn some_close_codes_say_come_again(
        #[values(1000, 1001, 1005, 1006, 1011, 1012, 1013, 4408, 4409, 4429)] code: u16,
    ) {
        assert!(matches!(close_trouble(Some((code, ""))), Trouble::Passing { .. }));
        assert!(matches!(close_trouble(None), Trouble::Passing { .. }));
    }

    #[rstest]
    #[case(4401, Exit::Token)]
    #[case(4403, Exit::Token)]
    #[case(1002, Exit::Protocol)]
    #[case(1003, Exit::Protocol)]
    #[case(1007, Exit::Protocol)]
    #[case(1009, Exit::Protocol)]
    #[case(4400, Exit::Protocol)]
    fn other_close_codes_end_it(#[case] code: u16, #[case] exit: Exit) {
        assert!(matches!(close_trouble(Some((code, ""))), Trouble::Lasting(failure) if failure.exit == exit));
    }

    #[rstest]
    #[case(401, Some(Exit::Token))]
    #[case(403, Some(Exit::Token))]
    #[case(400, Some(Exit::Protocol))]
    #[case(404, Some(Exit::Protocol))]
    #[case(301, Some(Exit::Protocol))]
    #[case(429, None)]
    #[case(503, None)]
    fn an_answer_that_is_no_handshake_ends_it_unless_it_may_change(#[case] status: u16, #[case] exit: Option<Exit>) {
        let body = br#"{"code":"token_invalid","detail":"the token is not valid yet"}"#;
        match (http_trouble(status, body), exit) {
            (Trouble::Lasting(failure), Some(exit)) => {
                assert_eq!(failure.exit, exit);
                assert!(failure.message.unwrap().contains(": the token is not valid yet (token_invalid)"));
            }
            (Trouble::Passing { .. }, None) => {}
            (trouble, _) => panic!("{trouble:?}"),
        }
    }
}
