//! Codes that reset a password, handed to what the operator runs besides, which gives them to the users: by mail, by SMS.
//!
//! Who asks is answered before anybody looks whether there is such an account, so nobody learns that from the answer or
//! from how long it takes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use crate::actors::accounts::{Accounts, CodeAsked};
use crate::actors::profiles;
use crate::auth::{Secret, codes};
use crate::domain::{Profile, Timestamp};
use crate::outgoing::{self, OutgoingError};
use crate::wire::Refusal;

/// How long the hook may take for an answer.
const TIME: Duration = Duration::from_secs(5);

/// How many codes are handed over at once.
const AT_ONCE_MAX: usize = 4;

/// How many wait for their turn.
const WAITING_MAX: usize = 256;

/// How long it is waited after each try that has failed, before the next one.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];

/// Signs the body; see [`signature`].
const SIGNATURE: &str = "chinwag-signature";

/// Where codes are handed to.
#[derive(Clone)]
pub struct ResetHookOptions {
    pub url: String,
    /// What signs the bodies.
    pub secret: Secret,
}

impl fmt::Debug for ResetHookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetHookOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

struct Hook {
    url: String,
    key: hmac::Key,
    client: reqwest::Client,
    accounts: Arc<Accounts>,
}

/// Hands over the codes that users of `accounts` ask for, for as long as the system lives on which this is called.
pub fn start(options: ResetHookOptions, accounts: &Arc<Accounts>) -> Result<(), OutgoingError> {
    let (asks, waiting) = mpsc::channel(WAITING_MAX);
    let key = hmac::Key::new(hmac::HMAC_SHA256, options.secret.bytes());
    let client = outgoing::client(TIME)?;
    let hook = Hook { url: options.url, key, client, accounts: Arc::clone(accounts) };
    actix::spawn(serve(Arc::new(hook), waiting));
    accounts.send_codes_by(asks);
    Ok(())
}

async fn serve(hook: Arc<Hook>, mut waiting: mpsc::Receiver<CodeAsked>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE_MAX));
    loop {
        // First the turn, so that who waits does so in the channel, which has a bound, and for a code that is not made yet.
        let turn = Arc::clone(&turns).acquire_owned().await.expect("turns are never closed");
        let Some(asked) = waiting.recv().await else { return };
        let hook = Arc::clone(&hook);
        actix::spawn(async move {
            if let Err(refusal) = hook.hand_over(asked).await {
                tracing::warn!(%refusal, "a code that resets a password could not be made");
            }
            drop(turn);
        });
    }
}

impl Hook {
    async fn hand_over(&self, asked: CodeAsked) -> Result<(), Refusal> {
        let (code, digest) = codes::reset().map_err(|_| Refusal::unavailable())?;
        let CodeAsked { tenant, user } = &asked;
        let Some(until) = self.accounts.own_reset(tenant.clone(), user.clone(), digest).await? else {
            return Ok(());
        };
        let profile = profiles::known_of(self.accounts.registry(), tenant, user).await?;
        let body = body(&asked, &code, until, &profile);
        for pause in PAUSES.map(Some).into_iter().chain([None]) {
            match self.post(&body).await {
                Ok(()) => return Ok(()),
                Err(error) => match pause.filter(|_| may_pass(&error)) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        tracing::warn!(%error, "the hook has not taken a code that resets a password");
                        break;
                    }
                },
            }
        }
        Ok(())
    }

    async fn post(&self, body: &str) -> Result<(), OutgoingError> {
        let signed = signature(&self.key, self.accounts.registry().now(), body);
        outgoing::post_json(&self.client, &self.url, (SIGNATURE, &signed), body).await
    }
}

/// What the hook is told. The id is the same at each try.
fn body(asked: &CodeAsked, code: &str, until: Timestamp, profile: &Profile) -> String {
    let mut body = json!({
        "type": "reset_code",
        "id": Uuid::new_v4().to_string(),
        "tenant": asked.tenant.as_str(),
        "user": asked.user.as_str(),
        "code": code,
        "expires_at": until.0,
    });
    if let Some(email) = &profile.email {
        body["email"] = email.as_str().into();
    }
    if let Some(telephone) = &profile.telephone {
        body["telephone"] = telephone.as_str().into();
    }
    body.to_string()
}

/// When the body was signed, in seconds since 1970, and the HMAC-SHA256 of that time, a dot and the body, in hexadecimal.
fn signature(key: &hmac::Key, now: Timestamp, body: &str) -> String {
    let seconds = now.0.div_euclid(1000);
    let tag = hmac::sign(key, format!("{seconds}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

/// Whether trying again may help.
fn may_pass(error: &OutgoingError) -> bool {
    match error {
        OutgoingError::Request(_) => true,
        OutgoingError::Status(status) => matches!(status, 408 | 429 | 500..),
        OutgoingError::TooLarge(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac "$(printf 'k%.0s' $(seq 32))"`
    #[test]
    fn a_body_is_signed_as_the_page_says() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[b'k'; 32]);
        let signed = signature(&key, Timestamp(1_700_000_000_999), r#"{"a":1}"#);
        assert_eq!(signed, "t=1700000000,v1=6935b796c0fec66e5dee52c86c7fd1218a424c32f1adb239ff2893c31e54f033");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408, 429, 500, 503] {
            assert!(may_pass(&OutgoingError::Status(status)), "{status}");
        }
        for status in [301, 400, 401, 404, 410] {
            assert!(!may_pass(&OutgoingError::Status(status)), "{status}");
        }
    }
}
