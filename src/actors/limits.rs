//! How much anybody may take, and how long anything may take.
//!
//! `docs/protocols/native.md` tells clients those limits that concern them. A server's limits may change while it
//! runs, so each is looked up where it is applied.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::channel::Admissions;
use crate::domain::{RoomKind, Rules, TenantId};

/// Times, sizes and rates that actors and edges keep to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Between two signs of life; a WebSocket not heard of for two of them is closed.
    pub heartbeat: Duration,
    /// Between two comments on an event stream, by which a client that has gone is noticed.
    pub comment: Duration,
    /// From the opening of a connection to a valid token.
    pub auth_timeout: Duration,
    /// From the first byte of a frame to its last.
    pub frame_deadline: Duration,
    /// How long a connection may leave what waits for it untouched.
    pub slow_consumer: Duration,
    /// How long a connection has to prove that it has taken everything that was meant for it before a removal. No
    /// setting: clients are told how long they have.
    pub proof: Duration,
    /// Between two looks at all connections of a thread; the times above are kept to this.
    pub sweep: Duration,
    /// After this long without a command a room goes to sleep.
    pub room_idle: Duration,
    /// How long an answer of a room may take.
    pub answer_timeout: Duration,
    /// How long a request may take that does not wait, and how long a connection is kept behind an answer until the next
    /// one begins.
    pub request: Duration,
    /// The longest that a long poll waits.
    pub poll_wait: Duration,
    pub frame_bytes_max: u64,
    /// From the head of a request to the end of its body.
    pub body_deadline: Duration,
    /// The largest body of a request.
    pub body_bytes_max: usize,
    pub follows_per_session: usize,
    pub in_flight_per_session: usize,
    pub in_flight_per_room: usize,
    pub connections: Connections,
    pub rates: Rates,
    pub files: Files,
    /// What holds for a tenant that is not named in `tenants`.
    pub tenant: TenantLimits,
    pub tenants: HashMap<TenantId, TenantLimits>,
    pub rules: TenantRules,
    /// Who may come into channels.
    pub channels: Channels,
    pub keep: Keeping,
}

/// How long rooms keep what is said in them, in milliseconds, whatever they decide themselves. `None` is for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keeping {
    /// In a tenant that is not named.
    pub others: Option<u64>,
    pub named: HashMap<TenantId, Option<u64>>,
    /// In audit rooms of all tenants, whatever holds for other rooms.
    pub evidence: Option<u64>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { others: None, named: HashMap::new(), evidence: Some(90 * 24 * 60 * 60 * 1000) }
    }
}

impl Keeping {
    /// In a room of this kind.
    pub fn of_room(&self, tenant: &TenantId, kind: RoomKind) -> Option<u64> {
        match kind {
            RoomKind::Audit => self.evidence,
            // Its documents are kept as long as nobody deletes them.
            RoomKind::Collection => None,
            RoomKind::Channel | RoomKind::Group | RoomKind::Direct | RoomKind::Box | RoomKind::Canvas => {
                self.of(tenant)
            }
        }
    }

    pub fn of(&self, tenant: &TenantId) -> Option<u64> {
        self.named.get(tenant).copied().unwrap_or(self.others)
    }
}

/// What may not be said in all rooms of tenants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TenantRules {
    /// In a tenant that is not named.
    pub others: Arc<Rules>,
    pub named: HashMap<TenantId, Arc<Rules>>,
}

impl TenantRules {
    pub fn of(&self, tenant: &TenantId) -> &Arc<Rules> {
        self.named.get(tenant).unwrap_or(&self.others)
    }
}

/// Who may come into the channels of each tenant, by their names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Channels {
    /// In a tenant that is not named.
    pub others: Arc<Admissions>,
    pub named: HashMap<TenantId, Arc<Admissions>>,
}

impl Channels {
    pub fn of(&self, tenant: &TenantId) -> &Arc<Admissions> {
        self.named.get(tenant).unwrap_or(&self.others)
    }
}

/// How many connections may be open at once. `None`: as many as there are file descriptors for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    pub total: Option<usize>,
    pub per_address: Option<usize>,
    /// Without a whole head of a request yet: each byte of a head has what came of it read again.
    pub opening_per_address: Option<usize>,
    pub per_user: Option<usize>,
    /// How many in a hundred of `total` may be without a token.
    pub unauthenticated_percent: Option<u8>,
}

/// How often something may be done. `None`: as often as anybody likes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    pub connects_per_address: Option<Rate>,
    /// Tokens that are no good; an address beyond it is refused for `auth_penalty`.
    pub auth_failures_per_address: Option<Rate>,
    pub auth_penalty: Duration,
    /// Wrong passwords and codes for one account, from wherever they come.
    pub auth_failures_per_account: Option<Rate>,
    /// Codes that somebody asks for himself, for one account.
    pub resets_per_account: Option<Rate>,
    /// Log-ins, registrations and codes that are asked for.
    pub logins_per_address: Option<Rate>,
    pub messages_per_session: Option<Rate>,
    pub messages_per_user: Option<Rate>,
    pub messages_per_room: Option<Rate>,
    /// Users looked for by their contacts, each hash for itself: what is guessed is a telephone number.
    pub contacts_per_user: Option<Rate>,
    /// Rooms asked for that are not there, or may not be known to be.
    pub failed_joins_per_user: Option<Rate>,
    pub reports_per_user: Option<Rate>,
}

/// So many in that time, evenly, with so many at once (a generic cell rate, ITU-T I.371, section A).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// At least one.
    pub count: u32,
    pub per: Duration,
    /// At least one.
    pub burst: u32,
}

/// How large files may be, how many may come at once, and how long they are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Files {
    pub bytes_max: u64,
    /// For how long a file is kept that nothing refers to.
    pub keep_unreferenced: Duration,
    /// For how long an upload is kept that does not go on.
    pub keep_unfinished: Duration,
    /// Uploads that come in at once.
    pub uploads: usize,
    /// Uploads of one user that come in or are unfinished.
    pub uploads_per_user: usize,
}

/// What one tenant may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TenantLimits {
    pub connections: Option<usize>,
    pub rooms: Option<u64>,
    /// All its files together, each counted for every upload of it.
    pub file_bytes: Option<u64>,
    /// All its messages together.
    pub messages: Option<Rate>,
}

/// What clients and operators are told that each limit is called: as in the configuration.
pub mod names {
    pub const CONNECTIONS: &str = "connections.total";
    pub const CONNECTIONS_PER_ADDRESS: &str = "connections.per_address";
    pub const OPENING_PER_ADDRESS: &str = "connections.opening_per_address";
    pub const CONNECTIONS_PER_USER: &str = "connections.per_user";
    pub const CONNECTIONS_PER_TENANT: &str = "tenant.connections";
    pub const UNAUTHENTICATED_PERCENT: &str = "connections.unauthenticated_percent";
    pub const CONNECTS_PER_ADDRESS: &str = "rates.connects_per_address";
    pub const AUTH_FAILURES_PER_ADDRESS: &str = "rates.auth_failures_per_address";
    pub const AUTH_FAILURES_PER_ACCOUNT: &str = "rates.auth_failures_per_account";
    pub const RESETS_PER_ACCOUNT: &str = "rates.resets_per_account";
    pub const LOGINS_PER_ADDRESS: &str = "rates.logins_per_address";
    pub const MESSAGES_PER_SESSION: &str = "rates.messages_per_session";
    pub const MESSAGES_PER_USER: &str = "rates.messages_per_user";
    pub const MESSAGES_PER_ROOM: &str = "rates.messages_per_room";
    pub const MESSAGES_PER_TENANT: &str = "tenant.messages";
    pub const CONTACTS_PER_USER: &str = "rates.contacts_per_user";
    pub const FAILED_JOINS_PER_USER: &str = "rates.failed_joins_per_user";
    pub const REPORTS_PER_USER: &str = "rates.reports_per_user";
    pub const ROOMS_PER_TENANT: &str = "tenant.rooms";
    pub const FILE_BYTES: &str = "files.size_mb";
    pub const UPLOADS: &str = "files.uploads";
    pub const UPLOADS_PER_USER: &str = "files.uploads_per_user";
    pub const FILES_PER_TENANT: &str = "tenant.files_mb";

    pub const ALL: [&str; 23] = [
        CONNECTIONS,
        CONNECTIONS_PER_ADDRESS,
        OPENING_PER_ADDRESS,
        CONNECTIONS_PER_USER,
        CONNECTIONS_PER_TENANT,
        UNAUTHENTICATED_PERCENT,
        CONNECTS_PER_ADDRESS,
        AUTH_FAILURES_PER_ADDRESS,
        AUTH_FAILURES_PER_ACCOUNT,
        RESETS_PER_ACCOUNT,
        LOGINS_PER_ADDRESS,
        MESSAGES_PER_SESSION,
        MESSAGES_PER_USER,
        MESSAGES_PER_ROOM,
        MESSAGES_PER_TENANT,
        CONTACTS_PER_USER,
        FAILED_JOINS_PER_USER,
        REPORTS_PER_USER,
        ROOMS_PER_TENANT,
        FILE_BYTES,
        UPLOADS,
        UPLOADS_PER_USER,
        FILES_PER_TENANT,
    ];
}

impl Rate {
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self { count, per: Duration::from_secs(1), burst }
    }

    pub const fn per_minute(count: u32, burst: u32) -> Self {
        Self { count, per: Duration::from_secs(60), burst }
    }
}

impl Limits {
    /// What holds for `tenant`.
    pub fn of_tenant(&self, tenant: &TenantId) -> &TenantLimits {
        self.tenants.get(tenant).unwrap_or(&self.tenant)
    }

    /// The defaults without those that are there to keep strangers in check: for trying out, and for tests.
    pub fn lifted() -> Self {
        Self { connections: Connections::default(), rates: Rates::default(), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(25),
            comment: Duration::from_secs(15),
            auth_timeout: Duration::from_secs(10),
            frame_deadline: Duration::from_secs(10),
            slow_consumer: Duration::from_secs(20),
            proof: Duration::from_millis(500),
            sweep: Duration::from_secs(1),
            room_idle: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(30),
            request: Duration::from_secs(10),
            poll_wait: Duration::from_secs(55),
            frame_bytes_max: 64 * 1024,
            body_deadline: Duration::from_secs(30),
            body_bytes_max: 256 * 1024,
            follows_per_session: 200,
            in_flight_per_session: 64,
            in_flight_per_room: 1024,
            connections: Connections {
                total: None,
                per_address: Some(200),
                opening_per_address: Some(16),
                per_user: Some(20),
                unauthenticated_percent: Some(10),
            },
            rates: Rates {
                connects_per_address: Some(Rate::per_second(20, 50)),
                auth_failures_per_address: Some(Rate::per_minute(10, 10)),
                auth_penalty: Duration::from_secs(60),
                auth_failures_per_account: Some(Rate::per_minute(10, 10)),
                resets_per_account: Some(Rate { count: 3, per: Duration::from_secs(3600), burst: 3 }),
                logins_per_address: Some(Rate::per_minute(30, 60)),
                messages_per_session: Some(Rate::per_second(50, 100)),
                messages_per_user: Some(Rate::per_second(100, 200)),
                messages_per_room: Some(Rate::per_second(1_000, 2_000)),
                contacts_per_user: Some(Rate { count: 1_000, per: Duration::from_secs(3600), burst: 2_000 }),
                failed_joins_per_user: Some(Rate::per_minute(10, 10)),
                reports_per_user: Some(Rate::per_minute(10, 20)),
            },
            files: Files {
                bytes_max: 64 * 1024 * 1024,
                keep_unreferenced: Duration::from_secs(24 * 60 * 60),
                keep_unfinished: Duration::from_secs(24 * 60 * 60),
                uploads: 64,
                uploads_per_user: 8,
            },
            tenant: TenantLimits::default(),
            tenants: HashMap::new(),
            rules: TenantRules::default(),
            channels: Channels::default(),
            keep: Keeping::default(),
        }
    }
}
