//! Requests that the server makes itself, to addresses that the operator has written and nobody else.

use std::time::Duration;

use reqwest::{Client, Url, redirect};

/// Why an address did not give what was asked of it. Says nothing of the address, in which secrets may be.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    #[error("the address does not answer: {0}")]
    Request(String),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// Whether requests may go to `url`: over TLS, or to this machine itself.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let url = Url::parse(url).map_err(|_| "it is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a name or a password, which would be written into logs");
    }
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("it is not https: whoever stands between could put in words of their own"),
        _ => Err("it is not https"),
    }
}

/// A client whose requests take no longer than `time` in all. No redirects and no proxies of the environment: the address
/// is the one that the operator has written.
pub fn client(time: Duration) -> Result<Client, OutgoingError> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(time)
        .user_agent(concat!("chinwag/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)
}

/// What is at `url`, as JSON of at most `bytes_max` bytes.
pub async fn get_json(
    client: &Client,
    url: &str,
    bearer: Option<&str>,
    bytes_max: usize,
) -> Result<Vec<u8>, OutgoingError> {
    let request = client.get(url).header("accept", "application/json");
    let request = bearer.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    let mut answer = request.send().await.map_err(failed)?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(OutgoingError::Status(answer.status().as_u16()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if text.len() + chunk.len() > bytes_max {
            return Err(OutgoingError::TooLarge(bytes_max));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// Has `url` take `body`, which is JSON, with one more header. Whatever it answers beyond that it has taken it is not read.
pub async fn post_json(
    client: &Client,
    url: &str,
    (name, value): (&str, &str),
    body: &str,
) -> Result<(), OutgoingError> {
    let request = client.post(url).header("content-type", "application/json").header(name, value);
    let answer = request.body(body.to_owned()).send().await.map_err(failed)?;
    if answer.status().is_success() { Ok(()) } else { Err(OutgoingError::Status(answer.status().as_u16())) }
}

fn failed(error: reqwest::Error) -> OutgoingError {
    OutgoingError::Request(error.without_url().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_over_tls_or_to_this_machine() {
        for good in ["https://id.example/keys", "http://127.0.0.1:8080/keys", "http://[::1]/k", "http://localhost/k"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        let bad = [
            "http://id.example/keys",
            "http://127.0.0.1.example/keys",
            "file:///etc/passwd",
            "https://ann:secret@id.example/keys",
            "keys.json",
        ];
        for bad in bad {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
