//! Who is asking.

use super::{TenantId, Timestamp, UserId};

/// Who a session is, as a verified token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    pub tenant: TenantId,
    pub user: UserId,
    /// When the token ends, and with it everything that stands on it.
    pub expires_at: Timestamp,
}
