//! Every setting there is: its name, what it takes, its default, and one sentence about it.
//!
//! The one place for all of these. Reading, checking, `config default`, `config show`, `config schema` and the tests of
//! `docs/configuration.md` go by it; only [`Config`](super::Config) names the settings again, to hand them on.

use std::time::Duration;

use crate::auth::options::{IdentityOptions, JwksOptions};

/// A section of the file.
pub struct Section {
    /// As it stands between the brackets; [`TENANT`] stands for the name of a tenant.
    pub name: &'static str,
    pub shape: Shape,
    pub doc: &'static str,
    pub settings: &'static [Setting],
}

/// How often a section may be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Once,
    /// Once for each tenant.
    PerTenant,
    /// As often as wanted, as `[[name]]`.
    List,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    pub key: &'static str,
    pub kind: Kind,
    /// As it is written in TOML.
    pub default: &'static str,
    /// One sentence without its full stop.
    pub doc: &'static str,
    pub reload: Reload,
}

/// Whether a change takes effect in a server that is running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// With the next SIGHUP.
    Live,
    /// With the next start.
    Restart,
}

/// What a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An address and a port.
    Address,
    /// The same, or nothing.
    OptionalAddress,
    /// The name of a file or a directory.
    Path,
    /// The same, or nothing.
    OptionalPath,
    Flag,
    Number {
        least: u64,
        most: u64,
        unit: &'static str,
    },
    /// A number, or `"off"`: without a limit.
    NumberOrOff {
        least: u64,
        most: u64,
        unit: &'static str,
    },
    /// A time such as `"25s"`.
    Duration {
        least: Duration,
        most: Duration,
    },
    /// How often, such as `"50/s burst 100"`, or `"off"`.
    Rate,
    OneOf(&'static [&'static str]),
    /// Any text, or nothing.
    Text,
    /// A list of texts.
    Texts,
    /// A list of words that are not allowed.
    Words,
    /// A list of names of hosts.
    Hosts,
    /// A list of networks in CIDR notation (RFC 4632).
    Networks,
    /// A list of the origins of web pages (RFC 6454).
    Origins,
}

/// In the name of a section: the tenant it is about.
pub const TENANT: &str = "NAME";

use Kind::{
    Address, Flag, Hosts, Networks, Number, NumberOrOff, OneOf, OptionalAddress, OptionalPath, Origins, Path, Rate,
    Text, Texts, Words,
};
use Reload::{Live, Restart};

/// Below, timers would only get in the way of the work; above, they are as good as none.
const TIME: Kind = time(Duration::from_millis(10), Duration::from_secs(60 * 60));

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As humantime counts it.
const YEAR: Duration = Duration::from_secs(31_557_600);

const MIB_MAX: u64 = 64 * 1024;

/// As many of anything as anybody has use for.
const COUNT_MAX: u64 = 1_000_000;

/// All settings, in the order in which they are shown.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "server",
        shape: Shape::Once,
        doc: "Where the server listens and keeps its data",
        settings: &[
            setting("listen", Address, r#""127.0.0.1:7700""#, "Where clients connect", Restart),
            setting("data", Path, r#""chinwag-data""#, "The data directory; it is made when it is not there", Restart),
            setting(
                "dev",
                Flag,
                "false",
                "For trying out: loopback addresses only, and no rates or numbers of connections unless they are set",
                Restart,
            ),
            setting(
                "trusted_proxies",
                Networks,
                "[]",
                "Networks of the reverse proxies whose word about a client's address is taken",
                Live,
            ),
            setting(
                "origins",
                Origins,
                "[]",
                "Web pages that may connect, as scheme://host or scheme://host:port; empty: those of the same host",
                Live,
            ),
        ],
    },
    Section {
        name: "tls",
        shape: Shape::Once,
        doc: "With both files the server speaks TLS, and nothing else, on its address",
        settings: &[
            setting("cert", OptionalPath, r#""""#, "The certificate and those that lead to its root, as PEM", Live),
            setting("key", OptionalPath, r#""""#, "The certificate's private key, as PEM", Live),
        ],
    },
    Section {
        name: "store",
        shape: Shape::Once,
        doc: "The log on disk",
        settings: &[
            setting(
                "cache_mb",
                number(1, MIB_MAX, "MiB"),
                "64",
                "The cache of the log engine; the process takes more than that",
                Restart,
            ),
            setting(
                "free_mb_min",
                number(0, 1024 * 1024, "MiB"),
                "256",
                "With less free space commands are refused, and reading goes on",
                Restart,
            ),
            setting(
                "ballast_mb",
                number(0, MIB_MAX, "MiB"),
                "64",
                "A file kept in reserve, so that a full disk can still be opened",
                Restart,
            ),
        ],
    },
    Section {
        name: "limits",
        shape: Shape::Once,
        doc: "How much anybody may take, and how long anything may take",
        settings: &[
            setting("heartbeat", TIME, r#""25s""#, "Between two pings; who is silent for two is closed", Live),
            setting("comment", TIME, r#""15s""#, "Between two signs of life on an event stream", Live),
            setting("auth_timeout", TIME, r#""10s""#, "From the opening of a connection to its token", Live),
            setting("frame_deadline", TIME, r#""10s""#, "From the first byte of a frame to its last", Live),
            setting(
                "slow_consumer",
                TIME,
                r#""20s""#,
                "For how long a client may leave untouched what waits for it",
                Live,
            ),
            setting("sweep", TIME, r#""1s""#, "Between two looks at all connections; times are kept to this", Restart),
            setting("room_idle", TIME, r#""1m""#, "After this long without a command a room goes to sleep", Live),
            setting("answer_timeout", TIME, r#""30s""#, "How long an answer of a room may take", Live),
            setting(
                "request",
                TIME,
                r#""10s""#,
                "How long a request may take that does not wait, and a connection between two of them",
                Live,
            ),
            setting("body_deadline", TIME, r#""30s""#, "From the head of a request to the end of its body", Live),
            setting("poll_wait", TIME, r#""55s""#, "The longest that a long poll waits", Live),
            setting("frame_kb", number(1, 256, "KiB"), "64", "The largest frame of a client", Live),
            setting("body_kb", number(1, MIB_MAX, "KiB"), "256", "The largest body of a request", Live),
            setting("follows_per_session", count(), "200", "Rooms that one connection follows", Live),
            setting("in_flight_per_session", count(), "64", "Commands of one connection without an answer", Live),
            setting("in_flight_per_room", count(), "1024", "Commands of one room without an answer", Live),
        ],
    },
    Section {
        name: "limits.connections",
        shape: Shape::Once,
        doc: "How many connections may be open at once",
        settings: &[
            setting(
                "total",
                connections(),
                r#""off""#,
                "All of them; off: as many as there are file descriptors for",
                Live,
            ),
            setting("per_address", connections(), "200", "Those from one address", Live),
            setting(
                "opening_per_address",
                connections(),
                "16",
                "Those from one address that have not sent the whole head of a request yet",
                Live,
            ),
            setting("per_user", connections(), "20", "Those of one user", Live),
            setting(
                "unauthenticated_percent",
                NumberOrOff { least: 1, most: 100, unit: "percent" },
                "10",
                "How many in a hundred of all may be without a token",
                Live,
            ),
        ],
    },
    Section {
        name: "limits.rates",
        shape: Shape::Once,
        doc: "How often something may be done",
        settings: &[
            setting("connects_per_address", Rate, r#""20/s burst 50""#, "New connections from one address", Live),
            setting("auth_failures_per_address", Rate, r#""10/min""#, "Tokens from one address that are no good", Live),
            setting(
                "auth_penalty",
                TIME,
                r#""1m""#,
                "For how long an address is refused that has shown too many of them",
                Live,
            ),
            setting(
                "auth_failures_per_account",
                Rate,
                r#""10/min""#,
                "Wrong passwords and codes for one account, from all addresses",
                Live,
            ),
            setting(
                "resets_per_account",
                Rate,
                r#""3/h""#,
                "Codes that are asked for without a login, for one account",
                Live,
            ),
            setting(
                "logins_per_address",
                Rate,
                r#""30/min burst 60""#,
                "Log-ins, registrations and codes asked for from one address",
                Live,
            ),
            setting("messages_per_session", Rate, r#""50/s burst 100""#, "Messages of one connection", Live),
            setting("messages_per_user", Rate, r#""100/s burst 200""#, "Messages of one user", Live),
            setting("messages_per_room", Rate, r#""1000/s burst 2000""#, "Messages in one room", Live),
            setting(
                "contacts_per_user",
                Rate,
                r#""1000/h burst 2000""#,
                "Users that one user looks for by their e-mail addresses and telephone numbers",
                Live,
            ),
            setting(
                "failed_joins_per_user",
                Rate,
                r#""10/min""#,
                "Rooms asked for that are not there, or may not be known to be",
                Live,
            ),
            setting("reports_per_user", Rate, r#""10/min burst 20""#, "Messages that one user reports", Live),
        ],
    },
    Section {
        name: "files",
        shape: Shape::Once,
        doc: "Files that are attached to messages, and avatars",
        settings: &[
            setting("size_mb", number(1, MIB_MAX, "MiB"), "64", "The largest file", Live),
            setting(
                "keep_unreferenced",
                time(Duration::from_secs(1), YEAR),
                r#""1day""#,
                "For how long a file is kept that nothing refers to",
                Live,
            ),
            setting(
                "keep_unfinished",
                time(Duration::from_secs(1), YEAR),
                r#""1day""#,
                "For how long an upload is kept that does not go on",
                Live,
            ),
            setting("uploads", count(), "64", "Uploads that come in at once", Live),
            setting("uploads_per_user", count(), "8", "Uploads of one user that come in or are unfinished", Live),
        ],
    },
    Section {
        name: "tenants.NAME.limits",
        shape: Shape::PerTenant,
        doc: "What one tenant may take; `default` stands for every tenant that is not named",
        settings: &[
            setting("connections", connections(), r#""off""#, "Connections of all its users", Live),
            setting(
                "rooms",
                NumberOrOff { least: 1, most: 1_000_000_000, unit: "rooms" },
                r#""off""#,
                "Rooms that it may have",
                Live,
            ),
            setting("messages", Rate, r#""off""#, "All its messages together", Live),
            setting(
                "files_mb",
                NumberOrOff { least: 1, most: 1_000_000_000, unit: "MiB" },
                r#""off""#,
                "All its files together, each counted for every upload of it",
                Live,
            ),
        ],
    },
    Section {
        name: "tenants.NAME.rooms",
        shape: Shape::PerTenant,
        doc: "What holds for all rooms of a tenant; `default` stands for every tenant that is not named",
        settings: &[setting(
            "keep_days",
            NumberOrOff { least: 1, most: 36_500, unit: "days" },
            r#""off""#,
            "For how long what happens in a room is kept, where the room itself does not keep it for a shorter time",
            Live,
        )],
    },
    Section {
        name: "tenants.NAME.channels",
        shape: Shape::PerTenant,
        doc: "Who joins the channels of a tenant, by their names, in which `*` stands for anything; `default` stands for every \
              tenant that is not named",
        settings: &[
            setting("closed", Texts, "[]", "Channels that only who is invited joins", Live),
            setting("read_only", Texts, "[]", "Channels that whoever is not invited joins as a viewer", Live),
        ],
    },
    Section {
        name: "moderation",
        shape: Shape::Once,
        doc: "What is written down of what moderators do, and of what is reported to them",
        settings: &[setting(
            "evidence_days",
            NumberOrOff { least: 1, most: 36_500, unit: "days" },
            "90",
            "For how long audit rooms keep what was decided, and reports with their evidence",
            Live,
        )],
    },
    Section {
        name: "tenants.NAME.rules",
        shape: Shape::PerTenant,
        doc: "What may not be said in the rooms of a tenant; `default` stands for every tenant that is not named",
        settings: &[
            setting("words", Words, "[]", "Words that are not allowed, each of one or several", Live),
            setting("links", OneOf(&["any", "none", "listed"]), r#""any""#, "Where links may lead", Live),
            setting("hosts", Hosts, "[]", "The hosts that are listed; what is below them is, too", Live),
        ],
    },
    Section {
        name: "auth",
        shape: Shape::Once,
        doc: "Who may come in",
        settings: &[
            setting("own_issuer", Flag, "true", "Whether tokens of `chinwag token create` are taken", Live),
            setting(
                "leeway",
                time(Duration::ZERO, IdentityOptions::LEEWAY_MAX),
                r#""5s""#,
                "How far the clocks of an issuer and of this server may be apart",
                Live,
            ),
            setting(
                "lifetime_max",
                time(Duration::from_secs(1), DAY),
                r#""1day""#,
                "The longest life of a token, from its `iat` to its `exp`",
                Live,
            ),
        ],
    },
    Section {
        name: "auth.issuers",
        shape: Shape::List,
        doc: "Somebody else whose tokens are taken",
        settings: &[
            setting("name", Text, r#""""#, "What the log calls it; needed", Live),
            setting("iss", Text, r#""""#, "The claim `iss` of its tokens; needed", Live),
            setting("audiences", Texts, "[]", "One of these has to be among a token's `aud`; one is needed", Live),
            setting("typ", Texts, r#"["JWT"]"#, "What the header's `typ` may be", Live),
            setting("user_claim", Text, r#""sub""#, "Which claim names the user", Live),
            setting("tenant", Text, r#""default""#, "The tenant of its users, unless `tenant_claim` is set", Live),
            setting("tenant_claim", Text, r#""""#, "Which claim names the tenant; empty: `tenant` does", Live),
            setting("name_claim", Text, r#""""#, "Which claim has the user's name for the profile; empty: none", Live),
            setting("avatar_claim", Text, r#""""#, "The same of the address of a picture", Live),
            setting("about_claim", Text, r#""""#, "The same of a line about the user", Live),
            setting("email_claim", Text, r#""""#, "The same of the e-mail address", Live),
            setting("telephone_claim", Text, r#""""#, "The same of the telephone number, as E.164 has it", Live),
            setting(
                "claims_win",
                Flag,
                "false",
                "Whether these claims stand before what users say of themselves",
                Live,
            ),
            setting("jwks_url", Text, r#""""#, "Where its public keys are, as a set (RFC 7517)", Live),
            setting("jwks_file", OptionalPath, r#""""#, "A file with such a set", Live),
            setting(
                "jwks_refresh_every",
                time(JwksOptions::MIN_REFRESH, DAY),
                r#""10m""#,
                "Between two looks at the set",
                Live,
            ),
            setting(
                "jwks_min_refresh",
                time(JwksOptions::MIN_REFRESH, DAY),
                r#""30s""#,
                "Between two looks that tokens with an unknown key may cause",
                Live,
            ),
            setting(
                "jwks_keep_old",
                time(Duration::ZERO, DAY),
                r#""1day""#,
                "For how long a key that has left the set is still taken",
                Live,
            ),
        ],
    },
    Section {
        name: "auth.issuers.keys",
        shape: Shape::List,
        doc: "One key of the issuer above; of the last three settings one is needed",
        settings: &[
            setting("kid", Text, r#""""#, "The `kid` of the tokens it checks; empty: those without", Live),
            setting("algorithm", OneOf(ALGORITHMS), r#""ES256""#, "How it signs, whatever a token says", Live),
            setting("secret_file", OptionalPath, r#""""#, "A file with a shared secret as base64url text", Live),
            setting("pem_file", OptionalPath, r#""""#, "A file with a public key as PEM", Live),
            setting("env", Text, r#""""#, "An environment variable that holds what either file would", Live),
        ],
    },
    Section {
        name: "auth.issuers.required",
        shape: Shape::List,
        doc: "A claim that the tokens of the issuer above have to bring",
        settings: &[
            setting("claim", Text, r#""""#, "Its name; needed", Live),
            setting("any_of", Texts, "[]", "Its value, one of its words or one of its list is one of these", Live),
        ],
    },
    Section {
        name: "staticbackend",
        shape: Shape::Once,
        doc: "Clients of StaticBackend, under /staticbackend",
        settings: &[setting(
            "public_keys",
            Texts,
            "[]",
            "Public keys, each as `KEY=TENANT`, or alone for the tenant `default`; in dev mode, where there are none, `dev_memory_pk`",
            Restart,
        )],
    },
    Section {
        name: "profiles",
        shape: Shape::Once,
        doc: "Who users are, as a platform of yours says over HTTP; what it says stands before what they say",
        settings: &[
            setting(
                "url",
                Text,
                r#""""#,
                "What is asked, with `{users}` where the ids are to be, or `{user}` for one at a time; empty: nobody",
                Restart,
            ),
            setting("token_file", OptionalPath, r#""""#, "A file with the bearer token that is sent", Restart),
            setting("list", Text, r#""""#, "Where in the answer the users are, as a JSON pointer (RFC 6901)", Restart),
            setting("id", Text, r#""/id""#, "Where in a user the id is", Restart),
            setting("name", Text, r#""/name""#, "The same of the name; empty: nowhere, as of the next four", Restart),
            setting("avatar", Text, r#""/avatar""#, "The address of a picture", Restart),
            setting("about", Text, r#""""#, "A line about the user", Restart),
            setting("email", Text, r#""""#, "The e-mail address", Restart),
            setting("telephone", Text, r#""""#, "The telephone number, as E.164 has it", Restart),
            setting("fresh", TIME, r#""5m""#, "For how long an answer is not asked for again", Restart),
            setting(
                "stale",
                time(Duration::ZERO, Duration::from_secs(7 * 24 * 60 * 60)),
                r#""1day""#,
                "For how long an answer is used where the platform does not give a newer one",
                Restart,
            ),
        ],
    },
    Section {
        name: "accounts",
        shape: Shape::Once,
        doc: "Accounts that the server keeps itself, for users without an issuer",
        settings: &[
            setting(
                "registration",
                OneOf(&["off", "invited", "open"]),
                r#""invited""#,
                "Who may make an account: nobody but the operator, who has an invite, anybody",
                Restart,
            ),
            setting(
                "token_life",
                time(Duration::from_secs(1), DAY),
                r#""1h""#,
                "How long a token lives that a login is given; never longer than `auth.lifetime_max`",
                Restart,
            ),
            setting(
                "login_life",
                time(Duration::from_secs(1), Duration::from_secs(31_557_600)),
                r#""30days""#,
                "After this long without use a login is over",
                Restart,
            ),
        ],
    },
    Section {
        name: "accounts.reset_hook",
        shape: Shape::Once,
        doc: "What gives users the codes that they ask for themselves, to set another password: by mail, by SMS",
        settings: &[
            setting("url", Text, r#""""#, "Where codes are handed to; empty: only administrators give codes", Restart),
            setting(
                "secret_file",
                OptionalPath,
                r#""""#,
                "A file with the secret that signs what is sent, of 32 bytes or more; needed",
                Restart,
            ),
        ],
    },
    Section {
        name: "metrics",
        shape: Shape::Once,
        doc: "Numbers for Prometheus, on an address of their own",
        settings: &[setting("listen", OptionalAddress, r#""""#, "Where `/metrics` is served; empty: nowhere", Restart)],
    },
    Section {
        name: "log",
        shape: Shape::Once,
        doc: "What is written to standard error",
        settings: &[
            setting(
                "level",
                OneOf(&["error", "warn", "info", "debug", "trace"]),
                r#""info""#,
                "What is worth a line",
                Live,
            ),
            setting("format", OneOf(&["text", "json"]), r#""text""#, "Lines for people, or an object a line", Restart),
            setting(
                "sample",
                number(0, COUNT_MAX, "lines"),
                "0",
                "Of the lines about single connections and requests one in so many is written; 0: none",
                Live,
            ),
        ],
    },
];

/// As tokens name them (RFC 7518, section 3.1; RFC 8037, section 3.1).
const ALGORITHMS: &[&str] =
    &["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

const fn setting(key: &'static str, kind: Kind, default: &'static str, doc: &'static str, reload: Reload) -> Setting {
    Setting { key, kind, default, doc, reload }
}

const fn number(least: u64, most: u64, unit: &'static str) -> Kind {
    Number { least, most, unit }
}

const fn time(least: Duration, most: Duration) -> Kind {
    Kind::Duration { least, most }
}

const fn count() -> Kind {
    number(1, COUNT_MAX, "")
}

const fn connections() -> Kind {
    NumberOrOff { least: 1, most: COUNT_MAX, unit: "" }
}

impl Section {
    pub fn setting(&self, key: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

/// The section of this name, as it stands in the table.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

impl Kind {
    /// What it takes, in words.
    pub fn takes(self) -> String {
        let unit = |unit: &str| if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match self {
            Address => "an address and a port".to_owned(),
            OptionalAddress => "an address and a port, or nothing".to_owned(),
            Path => "a path".to_owned(),
            OptionalPath => "a path, or nothing".to_owned(),
            Flag => "true or false".to_owned(),
            Number { least, most, unit: name } => format!("{least} to {most}{}", unit(name)),
            NumberOrOff { least, most, unit: name } => format!("{least} to {most}{}, or \"off\"", unit(name)),
            Kind::Duration { least, most } => {
                format!("a time from {} to {}", humantime::format_duration(least), humantime::format_duration(most))
            }
            Text => "a text".to_owned(),
            Texts => "a list of texts".to_owned(),
            Words => "a list of words of 1 to 64 bytes, at most 200".to_owned(),
            Hosts => "a list of names of hosts such as \"example.org\", at most 100".to_owned(),
            Rate => "COUNT/s, /min or /h, with `burst COUNT` or without, or \"off\"".to_owned(),
            OneOf(names) => names.join(", "),
            Networks => "a list of networks such as \"10.0.0.0/8\"".to_owned(),
            Origins => "a list of origins such as \"https://chat.example\"".to_owned(),
        }
    }
}
