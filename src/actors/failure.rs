//! What a failure of the store is to a client. What it is to the operator goes to the log.

use crate::domain::Rejection;
use crate::store::{CommitError, StoreError};
use crate::wire::Refusal;

/// What a failed commit is to a client.
pub fn commit_failed(error: CommitError) -> Refusal {
    match error {
        CommitError::Full => Refusal::storage_full(),
        CommitError::TooLarge => Refusal::from(Rejection::ContentSize),
        CommitError::Conflict | CommitError::Failed | CommitError::Unknown => Refusal::unavailable(),
    }
}

/// What a failed read is to a client; what it is to the operator goes to the log.
pub fn read_failed(error: &StoreError) -> Refusal {
    tracing::error!(%error, "a read failed");
    Refusal::unavailable()
}
