//! Who is asking.

use super::{LoginId, TenantId, Timestamp, TokenId, UserId};

/// Who a session is, as a verified token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    pub tenant: TenantId,
    pub user: UserId,
    /// The token by which it was proved, where that has an id: to deny that one.
    pub token: Option<TokenId>,
    /// The login that the token is of, where it is of one: to deny all of a device.
    pub login: Option<LoginId>,
    /// When the token was issued: to deny those from before a time.
    pub issued_at: Timestamp,
    /// When the token ends, and with it everything that stands on it.
    pub expires_at: Timestamp,
}
