//! What the operator decides: raw in, checked out.
//!
//! Flags stand over the environment, that over the file, that over the defaults. [`Config::load`] reads them all and
//! returns either values that nobody has to check again, or every mistake it found. [`table`] has the names of the
//! settings and what they may be; the parts of the server receive the few values they use.

mod identity;
pub mod render;
mod source;
pub mod table;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tracing::Level;

use crate::actors::Limits;
use crate::actors::accounts;
use crate::actors::limits::{Channels, Connections, Files, Keeping, Rate, Rates, TenantLimits, TenantRules};
use crate::auth::Secret;
use crate::auth::options::IdentityOptions;
use crate::domain::account::Registration;
use crate::domain::channel::Admissions;
use crate::domain::rules::Links;
use crate::domain::{Rules, TenantId};
use crate::http::staticbackend::PublicKeys;
use crate::outgoing;
use crate::platform::{Places, PlatformOptions};
use crate::reset_hook::ResetHookOptions;
use source::{Origin, Sources, Stated};
use table::{Reload, SECTIONS};
use value::Value;

/// Where `serve` and the commands beside it look for data unless told otherwise.
pub const DATA_DEFAULT: &str = "chinwag-data";

/// How a server is to run. Every value has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub tls: Option<Tls>,
    pub store: Store,
    pub limits: Limits,
    pub auth: IdentityOptions,
    pub profiles: Option<PlatformOptions>,
    pub accounts: accounts::Options,
    pub reset_hook: Option<ResetHookOptions>,
    pub public_keys: PublicKeys,
    pub metrics: Metrics,
    pub log: Log,
    /// What all this was read from, by the names of the settings.
    stated: BTreeMap<String, Stated>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// For trying out: loopback only.
    pub dev: bool,
    /// Whose word about a client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Web pages from elsewhere that may connect.
    pub origins: Vec<String>,
}

/// Two files in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The certificate and its chain.
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    pub cache_bytes: u64,
    /// Below this much free space publishes are refused.
    pub free_bytes_min: u64,
    /// Kept aside, so that a full disk can still be opened.
    pub ballast_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metrics {
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub level: Level,
    pub json: bool,
    /// Of the lines about single connections and requests one in so many is written; 0: none.
    pub sample: u64,
}

/// What was said on the command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    pub listen: Option<String>,
    pub data: Option<String>,
    pub dev: bool,
}

/// Everything that is wrong with a configuration, in the order of the sources.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(mistake.trim_end())?;
        }
        Ok(())
    }
}

impl Config {
    /// Joins the sources and checks the whole. `env` is the process's environment; of it, what is written
    /// `CHINWAG_SECTION__KEY` is configuration and has to be known.
    pub fn load(
        flags: &Flags,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
    ) -> Result<Self, Mistakes> {
        let mut sources = Sources::of_defaults();
        if let Some(path) = file {
            sources.read_file(path);
        }
        sources.read_env(env);
        sources.read_flags(flags);
        let Sources { stated, listed, mut mistakes } = sources;
        let settings = Settings { stated: &stated };
        settings.check_together(&mut mistakes);
        let auth = settings.auth(&listed, &mut mistakes);
        let profiles = settings.profiles(&mut mistakes);
        let reset_hook = settings.reset_hook(&mut mistakes);
        let public_keys = settings.public_keys(&mut mistakes);
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let (server, tls, store) = (settings.server(), settings.tls(), settings.store());
        let (limits, metrics, log) = (settings.limits(), settings.metrics(), settings.log());
        let accounts = settings.accounts(auth.lifetime_max);
        Ok(Self { server, tls, store, limits, auth, profiles, accounts, reset_hook, public_keys, metrics, log, stated })
    }

    /// The settings that `other` has differently and that a running server cannot change.
    pub fn fixed_and_different(&self, other: &Self) -> Vec<&str> {
        let differs =
            |name: &&String| self.stated.get(*name).map(|it| &it.value) != other.stated.get(*name).map(|it| &it.value);
        let fixed = self.stated.iter().filter(|(_, stated)| stated.setting.reload == Reload::Restart);
        fixed.map(|(name, _)| name).filter(differs).map(String::as_str).collect()
    }
}

/// Reads checked values by their names. That each name has the type that is asked for, the table decides and every
/// test that loads a configuration shows.
struct Settings<'a> {
    stated: &'a BTreeMap<String, Stated>,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What StaticBackend's own server takes in its development mode.
const PUBLIC_KEY_DEV: &str = "dev_memory_pk";

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Settings<'_> {
    /// What one setting cannot know of another.
    fn check_together(&self, mistakes: &mut Vec<String>) {
        if self.flag("server.dev") {
            for name in ["server.listen", "metrics.listen"] {
                if let Some(address) = self.address(name).filter(|address| !address.ip().is_loopback()) {
                    let why = format!(
                        "{name}: {address} can be reached from other machines, and dev mode is for this machine only: \
                         listen on 127.0.0.1, or leave --dev away"
                    );
                    mistakes.push(self.origin(name).mistake(&why));
                }
            }
        }
        for (one, other) in [("tls.cert", "tls.key"), ("tls.key", "tls.cert")] {
            if !self.text(one).is_empty() && self.text(other).is_empty() {
                mistakes.push(self.origin(one).mistake(&format!("{one}: without {other} it is of no use")));
            }
        }
    }

    fn server(&self) -> Server {
        Server {
            listen: self.address("server.listen").expect("an address is needed there"),
            data: PathBuf::from(self.text("server.data")),
            dev: self.flag("server.dev"),
            trusted_proxies: match self.value("server.trusted_proxies") {
                Value::Networks(networks) => networks.clone(),
                other => mistyped("server.trusted_proxies", other),
            },
            origins: self.texts("server.origins"),
        }
    }

    fn tls(&self) -> Option<Tls> {
        let (cert, key) = (self.text("tls.cert"), self.text("tls.key"));
        (!cert.is_empty()).then(|| Tls { cert: cert.into(), key: key.into() })
    }

    fn store(&self) -> Store {
        Store {
            cache_bytes: self.number("store.cache_mb") * MIB,
            free_bytes_min: self.number("store.free_mb_min") * MIB,
            ballast_bytes: self.number("store.ballast_mb") * MIB,
        }
    }

    fn limits(&self) -> Limits {
        let connections = |name| self.unless_dev(name).then(|| self.count_or_off(name)).flatten();
        let rate = |name| self.unless_dev(name).then(|| self.rate(name)).flatten();
        let percent = connections("limits.connections.unauthenticated_percent");
        Limits {
            heartbeat: self.duration("limits.heartbeat"),
            comment: self.duration("limits.comment"),
            auth_timeout: self.duration("limits.auth_timeout"),
            frame_deadline: self.duration("limits.frame_deadline"),
            slow_consumer: self.duration("limits.slow_consumer"),
            proof: Limits::default().proof,
            sweep: self.duration("limits.sweep"),
            room_idle: self.duration("limits.room_idle"),
            answer_timeout: self.duration("limits.answer_timeout"),
            request: self.duration("limits.request"),
            poll_wait: self.duration("limits.poll_wait"),
            body_deadline: self.duration("limits.body_deadline"),
            frame_bytes_max: self.number("limits.frame_kb") * KIB,
            body_bytes_max: size(self.number("limits.body_kb") * KIB),
            follows_per_session: size(self.number("limits.follows_per_session")),
            in_flight_per_session: size(self.number("limits.in_flight_per_session")),
            in_flight_per_room: size(self.number("limits.in_flight_per_room")),
            connections: Connections {
                total: connections("limits.connections.total"),
                per_address: connections("limits.connections.per_address"),
                opening_per_address: connections("limits.connections.opening_per_address"),
                per_user: connections("limits.connections.per_user"),
                unauthenticated_percent: percent.map(|percent| u8::try_from(percent).expect("a hundred at most")),
            },
            rates: Rates {
                connects_per_address: rate("limits.rates.connects_per_address"),
                auth_failures_per_address: rate("limits.rates.auth_failures_per_address"),
                auth_penalty: self.duration("limits.rates.auth_penalty"),
                auth_failures_per_account: rate("limits.rates.auth_failures_per_account"),
                resets_per_account: rate("limits.rates.resets_per_account"),
                logins_per_address: rate("limits.rates.logins_per_address"),
                messages_per_session: rate("limits.rates.messages_per_session"),
                messages_per_user: rate("limits.rates.messages_per_user"),
                messages_per_room: rate("limits.rates.messages_per_room"),
                contacts_per_user: rate("limits.rates.contacts_per_user"),
                failed_joins_per_user: rate("limits.rates.failed_joins_per_user"),
                reports_per_user: rate("limits.rates.reports_per_user"),
            },
            files: Files {
                bytes_max: self.number("files.size_mb") * MIB,
                keep_unreferenced: self.duration("files.keep_unreferenced"),
                keep_unfinished: self.duration("files.keep_unfinished"),
                uploads: size(self.number("files.uploads")),
                uploads_per_user: size(self.number("files.uploads_per_user")),
            },
            tenant: self.tenant("default").unwrap_or_default(),
            tenants: self.named(".limits.rooms").filter_map(|(id, name)| Some((id, self.tenant(name)?))).collect(),
            rules: TenantRules {
                others: self.rules("default").unwrap_or_default(),
                named: self.named(".rules.links").filter_map(|(id, name)| Some((id, self.rules(name)?))).collect(),
            },
            channels: Channels {
                others: self.admissions("default").unwrap_or_default(),
                named: self
                    .named(".channels.closed")
                    .filter_map(|(id, name)| Some((id, self.admissions(name)?)))
                    .collect(),
            },
            keep: Keeping {
                others: self.keep_ms("default").unwrap_or_default(),
                named: self
                    .named(".rooms.keep_days")
                    .filter_map(|(id, name)| Some((id, self.keep_ms(name)?)))
                    .collect(),
                evidence: self.count_or_off("moderation.evidence_days").map(|days| days as u64 * DAY_MS),
            },
        }
    }

    /// Whose clients of StaticBackend show which public key. In dev mode there is the one that these have by default.
    fn public_keys(&self, mistakes: &mut Vec<String>) -> PublicKeys {
        let name = "staticbackend.public_keys";
        let texts = self.texts(name);
        if texts.is_empty() && self.flag("server.dev") {
            return PublicKeys::new([(PUBLIC_KEY_DEV.to_owned(), TenantId::default_tenant())]);
        }
        let keys = texts.iter().filter_map(|text| {
            let (key, tenant) = text.split_once('=').unwrap_or((text, "default"));
            let tenant = TenantId::new(tenant).ok().filter(|_| !key.is_empty());
            if tenant.is_none() {
                let why = format!("{name}: {text:?} is not a public key, `=` and the name of its tenant");
                mistakes.push(self.origin(name).mistake(&why));
            }
            Some((key.to_owned(), tenant?))
        });
        PublicKeys::new(keys)
    }

    /// The tenants that are named and have a section with this setting.
    fn named<'a>(&'a self, setting: &'a str) -> impl Iterator<Item = (TenantId, &'a str)> {
        let written = self.stated.keys().filter_map(move |name| name.strip_prefix("tenants.")?.strip_suffix(setting));
        let named = written.map(|name| name.trim_matches('"')).filter(|name| *name != "default");
        named.map(|name| (TenantId::new(name).expect("the name of a tenant is checked when it is read"), name))
    }

    fn rules(&self, name: &str) -> Option<Arc<Rules>> {
        let section = source::joined(&["tenants".to_owned(), name.to_owned(), "rules".to_owned()]);
        let setting = |key| format!("{section}.{key}");
        self.stated.get(&setting("links"))?;
        let links = self.text(&setting("links"));
        let links = Links::ALL.into_iter().find(|known| known.as_str() == links);
        let links = links.expect("the table has the names of what links may do");
        let texts = |key| self.texts(&setting(key));
        let rules = Rules::new(texts("words"), links, texts("hosts"));
        Some(Arc::new(rules.expect("words and hosts are checked when they are read")))
    }

    fn admissions(&self, name: &str) -> Option<Arc<Admissions>> {
        let section = source::joined(&["tenants".to_owned(), name.to_owned(), "channels".to_owned()]);
        let setting = |key| format!("{section}.{key}");
        self.stated.get(&setting("closed"))?;
        let texts = |key| self.texts(&setting(key));
        Some(Arc::new(Admissions { closed: texts("closed"), read_only: texts("read_only") }))
    }

    /// How long the rooms of a tenant keep what was said; an outer `None` where nothing is said of that.
    fn keep_ms(&self, name: &str) -> Option<Option<u64>> {
        let section = source::joined(&["tenants".to_owned(), name.to_owned(), "rooms".to_owned()]);
        let setting = format!("{section}.keep_days");
        self.stated.get(&setting)?;
        Some(self.count_or_off(&setting).map(|days| days as u64 * DAY_MS))
    }

    fn tenant(&self, name: &str) -> Option<TenantLimits> {
        let section = source::joined(&["tenants".to_owned(), name.to_owned(), "limits".to_owned()]);
        let setting = |key| format!("{section}.{key}");
        self.stated.get(&setting("rooms"))?;
        let rooms = self.count_or_off(&setting("rooms"));
        let files_mb = self.count_or_off(&setting("files_mb"));
        Some(TenantLimits {
            connections: self.count_or_off(&setting("connections")),
            rooms: rooms.map(|rooms| rooms as u64),
            file_bytes: files_mb.map(|files_mb| files_mb as u64 * MIB),
            messages: self.rate(&setting("messages")),
        })
    }

    fn profiles(&self, mistakes: &mut Vec<String>) -> Option<PlatformOptions> {
        let text = |key: &str| self.text(&format!("profiles.{key}")).to_owned();
        let mut wrong = |key: &str, why: &str| {
            mistakes.push(self.origin(&format!("profiles.{key}")).mistake(&format!("profiles.{key}: {why}")));
        };
        let url = text("url");
        if url.is_empty() {
            return None;
        }
        if let Err(why) = PlatformOptions::check_url(&url) {
            wrong("url", why);
        }
        for key in ["list", "id", "name", "avatar", "about", "email", "telephone"] {
            if !text(key).is_empty() && !text(key).starts_with('/') {
                wrong(key, "a JSON pointer begins with a slash");
            }
        }
        let file = text("token_file");
        let token = (!file.is_empty()).then(|| std::fs::read_to_string(&file)).transpose().unwrap_or_else(|error| {
            wrong("token_file", &format!("{file}: {error}"));
            None
        });
        Some(PlatformOptions {
            url,
            token: token.map(|token| token.trim().to_owned()),
            list: text("list"),
            places: Places {
                id: text("id"),
                name: text("name"),
                avatar: text("avatar"),
                about: text("about"),
                email: text("email"),
                telephone: text("telephone"),
            },
            fresh: self.duration("profiles.fresh"),
            stale: self.duration("profiles.stale"),
        })
    }

    fn accounts(&self, token_life_max: Duration) -> accounts::Options {
        accounts::Options {
            registration: match self.text("accounts.registration") {
                "off" => Registration::Off,
                "open" => Registration::Open,
                // Whoever tries it out on the own machine invites nobody.
                _ if !self.unless_dev("accounts.registration") => Registration::Open,
                _ => Registration::Invited,
            },
            token_life: self.duration("accounts.token_life").min(token_life_max),
            login_life: self.duration("accounts.login_life"),
        }
    }

    fn reset_hook(&self, mistakes: &mut Vec<String>) -> Option<ResetHookOptions> {
        let (url, file) = (self.text("accounts.reset_hook.url"), self.text("accounts.reset_hook.secret_file"));
        let mut wrong = |key: &str, why: &str| {
            let key = format!("accounts.reset_hook.{key}");
            mistakes.push(self.origin(&key).mistake(&format!("{key}: {why}")));
        };
        if url.is_empty() {
            return None;
        }
        if let Err(why) = outgoing::check_url(url) {
            wrong("url", why);
        }
        let secret = std::fs::read(file)
            .map_err(|error| format!("{file}: {error}"))
            .and_then(|bytes| Secret::new(bytes.trim_ascii().to_vec()).map_err(|error| format!("{file}: {error}")));
        match secret {
            Ok(secret) => Some(ResetHookOptions { url: url.to_owned(), secret }),
            Err(why) => {
                wrong("secret_file", &why);
                None
            }
        }
    }

    fn metrics(&self) -> Metrics {
        Metrics { listen: self.address("metrics.listen") }
    }

    fn log(&self) -> Log {
        let level = self.text("log.level");
        Log {
            level: level.parse().expect("the table has the names of tracing's levels"),
            json: self.text("log.format") == "json",
            sample: self.number("log.sample"),
        }
    }

    /// Whether what keeps strangers in check holds: in dev mode, where there are none, only if it was asked for.
    fn unless_dev(&self, name: &str) -> bool {
        !self.flag("server.dev") || *self.origin(name) != Origin::Default
    }

    fn origin(&self, name: &str) -> &Origin {
        &self.stated.get(name).unwrap_or_else(|| panic!("the table has {name}")).origin
    }

    fn value(&self, name: &str) -> &Value {
        &self.stated.get(name).unwrap_or_else(|| panic!("the table has {name}")).value
    }

    fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            other => mistyped(name, other),
        }
    }

    fn texts(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::Texts(texts) => texts.clone(),
            other => mistyped(name, other),
        }
    }

    fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Flag(flag) => *flag,
            other => mistyped(name, other),
        }
    }

    fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Number(number) => *number,
            other => mistyped(name, other),
        }
    }

    fn count_or_off(&self, name: &str) -> Option<usize> {
        match self.value(name) {
            Value::NumberOrOff(number) => number.map(size),
            other => mistyped(name, other),
        }
    }

    fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Duration(duration) => *duration,
            other => mistyped(name, other),
        }
    }

    fn rate(&self, name: &str) -> Option<Rate> {
        match self.value(name) {
            Value::Rate(rate) => *rate,
            other => mistyped(name, other),
        }
    }

    fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.value(name) {
            Value::Address(address) => *address,
            other => mistyped(name, other),
        }
    }
}

/// The table and the code disagree.
fn mistyped(name: &str, value: &Value) -> ! {
    panic!("{name} is {value}, which is not what is asked for")
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("the table lets in what fits into memory")
}

/// The whole names of all settings; for a section that may be there more than once, as it stands in the table.
pub fn names() -> impl Iterator<Item = String> {
    SECTIONS
        .iter()
        .flat_map(|section| section.settings.iter().map(|setting| format!("{}.{}", section.name, setting.key)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::table::{Section, Setting, Shape};
    use super::*;

    #[test]
    fn without_a_word_the_defaults_hold() {
        let config = load(&[], None).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:7700".parse().unwrap());
        assert_eq!(config.server.data, Path::new(DATA_DEFAULT));
        assert!(!config.server.dev && config.server.origins.is_empty() && config.tls.is_none());
        assert_eq!(config.store.cache_bytes, 64 << 20);
        assert_eq!(config.store.free_bytes_min, 256 << 20);
        assert_eq!(config.store.ballast_bytes, 64 << 20);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.auth, IdentityOptions::default());
        assert_eq!(config.profiles, None);
        assert_eq!(config.accounts, accounts::Options::default());
        assert_eq!(config.metrics.listen, None);
        assert_eq!(config.log, Log { level: Level::INFO, json: false, sample: 0 });
    }

    #[test]
    fn flags_stand_over_the_environment_over_the_file_over_the_defaults() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\ndata = \"from-file\"\n[store]\ncache_mb = 1\nballast_mb = 1\n";
        let env = [
            ("CHINWAG_SERVER__LISTEN", "127.0.0.1:2"),
            ("CHINWAG_SERVER__DATA", "from-env"),
            ("CHINWAG_STORE__CACHE_MB", "2"),
        ];
        let flags = Flags { listen: Some("127.0.0.1:3".to_owned()), ..Flags::default() };
        let config = load_with(&flags, &env, Some(file)).unwrap();
        assert_eq!(config.server.listen.port(), 3);
        assert_eq!(config.server.data, Path::new("from-env"));
        assert_eq!(config.store.cache_bytes, 2 << 20);
        assert_eq!(config.store.ballast_bytes, 1 << 20);
        assert_eq!(config.store.free_bytes_min, 256 << 20);
    }

    /// Another value than the default, for each kind of setting.
    fn another(setting: &Setting) -> &'static str {
        match setting.kind {
            table::Kind::Address | table::Kind::OptionalAddress => "127.0.0.1:9",
            table::Kind::Path | table::Kind::OptionalPath | table::Kind::Text | table::Kind::Texts => "elsewhere",
            table::Kind::Words => "spam",
            table::Kind::Hosts => "example.org",
            table::Kind::Flag if setting.default == "true" => "false",
            table::Kind::Flag => "true",
            table::Kind::Number { .. } | table::Kind::NumberOrOff { .. } => "7",
            table::Kind::Duration { .. } => "7s",
            table::Kind::Rate => "7/h burst 9",
            table::Kind::OneOf(names) => names.iter().find(|name| !setting.default.contains(**name)).unwrap(),
            table::Kind::Networks => "10.0.0.0/8",
            table::Kind::Origins => "https://chat.example",
        }
    }

    #[test]
    fn every_setting_can_be_written_in_the_file_and_in_the_environment_and_is_heeded() {
        let plain = load(&[], None).unwrap();
        let values = |section: &Section, setting: &Setting| {
            let raw = value::Raw::of_text(setting.kind, another(setting));
            format!("[{}]\n{} = {}\n", section.name, setting.key, Value::read(setting.kind, &raw).unwrap())
        };
        // What makes sense only together has tests of its own.
        for section in SECTIONS.iter().filter(|section| !makes_sense_only_together(section)) {
            for setting in section.settings {
                let file = values(section, setting);
                let from_file = load(&[], Some(&file)).unwrap_or_else(|mistakes| panic!("{file}: {mistakes}"));
                assert_ne!(differing(&from_file), differing(&plain), "{file}");
                if section.shape == Shape::Once {
                    let name = format!("CHINWAG_{}__{}", section.name.replace('.', "__"), setting.key).to_uppercase();
                    let from_env = load(&[(&name, another(setting))], None).unwrap();
                    assert_eq!(differing(&from_env), differing(&from_file), "{name}");
                }
            }
        }
        let tls = load(&[], Some("[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n")).unwrap().tls;
        assert_eq!(tls, Some(Tls { cert: "c.pem".into(), key: "k.pem".into() }));
    }

    fn makes_sense_only_together(section: &Section) -> bool {
        section.shape == Shape::List || ["tls", "profiles", "accounts.reset_hook"].contains(&section.name)
    }

    #[test]
    fn a_platform_is_asked_as_it_is_written_down() {
        let mut token = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut token, b"t-1\n").unwrap();
        let token = token.path().display();
        let file = format!(
            "[profiles]\nurl = \"https://p.example/users?ids={{users}}\"\ntoken_file = \"{token}\"\nlist = \
             \"/entries\"\nid = \"/uid\"\nname = \"/n\"\navatar = \"/a\"\nabout = \"/b\"\nemail = \
             \"/e\"\ntelephone = \"/t\"\nfresh = \"1m\"\nstale = \"2h\"\n"
        );
        let places = Places {
            id: "/uid".to_owned(),
            name: "/n".to_owned(),
            avatar: "/a".to_owned(),
            about: "/b".to_owned(),
            email: "/e".to_owned(),
            telephone: "/t".to_owned(),
        };
        let expected = PlatformOptions {
            url: "https://p.example/users?ids={users}".to_owned(),
            token: Some("t-1".to_owned()),
            list: "/entries".to_owned(),
            places,
            fresh: Duration::from_secs(60),
            stale: Duration::from_secs(7200),
        };
        assert_eq!(load(&[], Some(&file)).unwrap().profiles, Some(expected));
        let url = "[profiles]\nurl = \"https://p.example/{user}\"\n";
        for (more, why) in [
            ("token_file = \"/nowhere/at/all\"\n", "profiles.token_file"),
            ("id = \"id\"\n", "profiles.id: a JSON pointer begins with a slash"),
        ] {
            let mistakes = load(&[], Some(&format!("{url}{more}"))).unwrap_err().to_string();
            assert!(mistakes.contains(why), "{mistakes}");
        }
        let mistakes = load(&[], Some("[profiles]\nurl = \"http://p.example/{user}\"\n")).unwrap_err().to_string();
        assert!(mistakes.contains("it is not https"), "{mistakes}");
    }

    #[test]
    fn a_hook_for_codes_has_an_address_and_a_secret() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut secret, &[b's'; 32]).unwrap();
        let with = |url: &str, secret: &str| {
            let file = format!("[accounts.reset_hook]\nurl = \"{url}\"\nsecret_file = \"{secret}\"\n");
            load(&[], Some(&file)).map(|config| config.reset_hook.map(|hook| hook.url))
        };
        let (file, url) = (secret.path().to_str().unwrap(), "https://p.example/codes");
        assert_eq!(with(url, file).unwrap().as_deref(), Some(url));
        assert_eq!(with("", file).unwrap(), None);
        for (url, file, why) in [
            ("http://p.example/codes", file, "accounts.reset_hook.url: it is not https"),
            (url, "", "accounts.reset_hook.secret_file"),
            (url, "/nowhere/at/all", "accounts.reset_hook.secret_file: /nowhere/at/all"),
        ] {
            let mistakes = with(url, file).unwrap_err().to_string();
            assert!(mistakes.contains(why), "{mistakes}");
        }
        std::io::Write::write_all(&mut secret.reopen().unwrap(), b"\n\n\n\n").unwrap();
        let mistakes = with(url, file).unwrap_err().to_string();
        assert!(mistakes.contains("it has 28 bytes"), "{mistakes}");
    }

    /// What the parts of the server are given.
    fn differing(config: &Config) -> String {
        let Config {
            server,
            tls,
            store,
            limits,
            auth,
            accounts,
            reset_hook,
            profiles,
            public_keys,
            metrics,
            log,
            stated: _,
        } = config;
        format!(
            "{server:?} {tls:?} {store:?} {limits:?} {auth:?} {accounts:?} {reset_hook:?} {profiles:?} {public_keys:?} {metrics:?} {log:?}"
        )
    }

    #[rstest]
    #[case("[server]\nlisten = \"7700\"\n", "server.listen: \"7700\" is not an address and a port")]
    #[case("[server]\nlisten = \"localhost:7700\"\n", "an address and a port")]
    #[case("[server]\ndata = \"\"\n", "server.data: a path is needed")]
    #[case("[server]\ntrusted_proxies = [\"10.0.0.0/99\"]\n", "is not a network")]
    #[case("[server]\norigins = [\"chat.example\"]\n", "is not an origin")]
    #[case("[store]\ncache_mb = 0\n", "store.cache_mb: 0 is not what it takes: 1 to 65536 MiB")]
    #[case("[store]\ncache_mb = -1\n", "-1 is not what it takes")]
    #[case("[store]\ncache_mb = \"64\"\n", "\"64\" is not what it takes")]
    #[case("[store]\nfree_mb_min = 1048577\n", "is not what it takes")]
    #[case("[limits]\nheartbeat = \"25\"\n", "\"25\" is not a duration")]
    #[case("[limits]\nheartbeat = 25\n", "25 is not what it takes: a time from 10ms to 1h")]
    #[case("[limits]\nauth_timeout = \"0s\"\n", "between 10ms and 1h")]
    #[case("[limits]\nframe_kb = 0\n", "is not what it takes")]
    #[case("[limits]\nframe_deadline = \"2h\"\n", "between 10ms and 1h")]
    #[case("[limits]\nin_flight_per_room = 9999999\n", "is not what it takes")]
    #[case("[limits.connections]\nper_user = \"none\"\n", "is not what it takes: 1 to 1000000, or \"off\"")]
    #[case("[limits.rates]\nmessages_per_user = \"many\"\n", "\"many\" is not what it takes: COUNT/s")]
    #[case("[tls]\ncert = \"c.pem\"\n", "tls.cert: without tls.key it is of no use")]
    #[case("[tenants.\"no tenant\".limits]\nrooms = 1\n", "this cannot be a tenant")]
    #[case("[tenants.acme]\nkeep = 1\n", "unknown key `keep`; there are `limits`, `rooms`, `channels`, `rules`")]
    #[case("[log]\nlevel = \"loud\"\n", "\"loud\" is none of `error`")]
    #[case("[sever]\n", "unknown key `sever`; did you mean `server`?; there are `server`, `tls`, `store`")]
    #[case("[store]\ncache_mb = 1\ncache_mb = 2\n", "duplicate key")]
    #[case("server = 1\n", "[server] is a section and takes no value")]
    #[case("[server\n", "chinwag.toml:1:")]
    fn what_cannot_be_is_a_mistake(#[case] file: &str, #[case] why: &str) {
        let mistakes = load(&[], Some(file)).unwrap_err();
        assert_eq!(mistakes.0.len(), 1, "{mistakes}");
        assert!(mistakes.to_string().contains(why), "{mistakes}");
        assert!(mistakes.to_string().contains('^'), "{mistakes}");
    }

    #[test]
    fn an_unknown_key_in_the_file_is_shown_with_its_line_and_the_valid_names() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\nlisen = \"127.0.0.1:7700\"\n";
        let mistakes = load(&[], Some(file)).unwrap_err().to_string();
        let told = "chinwag.toml:3:1: unknown key `lisen`; did you mean `listen`?; there are `listen`, `data`, `dev`, \
                    `trusted_proxies`, `origins`\n  3 | lisen = \"127.0.0.1:7700\"\n    | ^^^^^";
        assert!(mistakes.ends_with(told), "{mistakes}");
    }

    #[test]
    fn a_file_that_is_not_there_is_a_mistake() {
        let mistakes = Config::load(&Flags::default(), [], Some(Path::new("/nowhere/chinwag.toml"))).unwrap_err();
        assert!(mistakes.to_string().contains("cannot read /nowhere/chinwag.toml"), "{mistakes}");
    }

    #[rstest]
    #[case("CHINWAG_SERVER__PORT", "7700", "unknown setting `port`; there are `listen`, `data`, `dev`")]
    #[case("CHINWAG_STORE__CACHE_MB", "much", "store.cache_mb: \"much\" is not what it takes")]
    #[case("CHINWAG_SERVER__ORIGINS", "[\"http://localhost:8000\"]", "server.origins: in the environment a list is")]
    #[case("CHINWAG_SERVER__DEV", "yes", "server.dev: \"yes\" is not what it takes: true or false")]
    #[case("CHINWAG_LIMIT__HEARTBEAT", "5s", "unknown section `limit`; did you mean `limits`?")]
    #[case("CHINWAG_TENANTS__ACME__LIMITS__ROOMS", "5", "unknown section `tenants.acme.limits`")]
    fn a_mistake_in_the_environment_names_its_variable(#[case] name: &str, #[case] value: &str, #[case] why: &str) {
        let mistakes = load(&[(name, value)], None).unwrap_err().to_string();
        assert!(mistakes.starts_with(&format!("{name}: ")) && mistakes.contains(why), "{mistakes}");
    }

    #[test]
    fn what_is_not_ours_in_the_environment_is_left_alone() {
        let env = [("CHINWAG_URL", "x"), ("CHINWAG_TOKEN", "x"), ("CHINWAG_PORT", "x"), ("PATH", "x")];
        assert!(load(&env, None).is_ok());
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_those_of_a_file_in_its_order() {
        let file = "[store]\ncache_mb = 0\n[limits]\nheartbeat = \"x\"\n[log]\nlevle = \"info\"\n";
        let env = [("CHINWAG_LOG__COLOUR", "red"), ("CHINWAG_LOG__LEVEL", "loud")];
        let flags = Flags { listen: Some("nowhere".to_owned()), ..Flags::default() };
        let Mistakes(mistakes) = load_with(&flags, &env, Some(file)).unwrap_err();
        let begins = ["store.cache_mb", "limits.heartbeat", "levle", "CHINWAG_LOG__COLOUR", "log.level", "--listen"];
        assert_eq!(mistakes.len(), begins.len(), "{mistakes:#?}");
        for (mistake, part) in mistakes.iter().zip(begins) {
            assert!(mistake.contains(part), "{mistake}");
        }
    }

    #[rstest]
    #[case("0.0.0.0:7700", false)]
    #[case("192.168.1.2:7700", false)]
    #[case("[::]:7700", false)]
    #[case("127.0.0.1:7700", true)]
    #[case("127.9.9.9:0", true)]
    #[case("[::1]:7700", true)]
    fn dev_mode_listens_on_loopback_only(#[case] listen: &str, #[case] allowed: bool) {
        let flags = Flags { listen: Some(listen.to_owned()), dev: true, ..Flags::default() };
        let loaded = load_with(&flags, &[], None);
        assert_eq!(loaded.is_ok(), allowed);
        if let Err(mistakes) = loaded {
            assert!(mistakes.to_string().contains("dev mode is for this machine only"), "{mistakes}");
        }
        let flags = Flags { listen: Some(listen.to_owned()), ..Flags::default() };
        assert!(load_with(&flags, &[], None).is_ok(), "without dev mode any address will do");
    }

    #[test]
    fn dev_mode_lifts_what_keeps_strangers_in_check_unless_it_is_set() {
        let flags = Flags { dev: true, ..Flags::default() };
        let lifted = load_with(&flags, &[], None).unwrap().limits;
        let penalty = Rates { auth_penalty: lifted.rates.auth_penalty, ..Rates::default() };
        assert_eq!(lifted, Limits { rates: penalty, ..Limits::lifted() });
        let file = "[limits.rates]\nmessages_per_user = \"3/s\"\n[limits.connections]\nper_user = 2\n";
        let set = load_with(&flags, &[], Some(file)).unwrap().limits;
        assert_eq!(set.rates.messages_per_user, Some(Rate::per_second(3, 3)));
        assert_eq!(set.connections, Connections { per_user: Some(2), ..Connections::default() });
    }

    #[test]
    fn tenants_have_limits_of_their_own_and_one_default() {
        let file = "[tenants.default.limits]\nrooms = 10\n[tenants.acme.limits]\nmessages = \"5/s\"\n[tenants.\"a.b\".limits]\nconnections = 3\n";
        let limits = load(&[], Some(file)).unwrap().limits;
        let tenant = |name| limits.of_tenant(&TenantId::new(name).unwrap());
        assert_eq!(*tenant("whoever"), TenantLimits { rooms: Some(10), ..TenantLimits::default() });
        let messages = Some(Rate::per_second(5, 5));
        assert_eq!(*tenant("acme"), TenantLimits { messages, ..TenantLimits::default() });
        assert_eq!(*tenant("a.b"), TenantLimits { connections: Some(3), ..TenantLimits::default() });
    }

    #[test]
    fn the_rooms_of_a_tenant_keep_for_as_long_as_is_said_of_it_or_of_all() {
        let day = Some(24 * 60 * 60 * 1000);
        let file = "[tenants.default.rooms]\nkeep_days = 1\n[tenants.acme.rooms]\nkeep_days = \"off\"\n";
        let keep = load(&[], Some(file)).unwrap().limits.keep;
        let of = |name| keep.of(&TenantId::new(name).unwrap());
        assert_eq!((of("acme"), of("other")), (None, day));
        let keep = load(&[], Some("[tenants.acme.rooms]\nkeep_days = 1\n")).unwrap().limits.keep;
        let of = |name| keep.of(&TenantId::new(name).unwrap());
        assert_eq!((of("acme"), of("other")), (day, None));
        assert!(load(&[], Some("[tenants.acme.rooms]\nkeep_days = 0\n")).is_err());
    }

    #[test]
    fn tenants_have_rules_of_their_own_and_one_default() {
        let file = "[tenants.default.rules]\nwords = [\"spam\"]\n[tenants.\"a.b\".rules]\nlinks = \"listed\"\nhosts = [\"Example.org\"]\n[tenants.acme.limits]\nrooms = 3\n";
        let rules = load(&[], Some(file)).unwrap().limits.rules;
        let of = |name| Arc::clone(rules.of(&TenantId::new(name).unwrap()));
        let spam = Rules::new(vec!["spam".to_owned()], Links::Any, Vec::new()).unwrap();
        assert_eq!((&*of("whoever"), &*of("acme")), (&spam, &spam));
        let listed = Rules::new(Vec::new(), Links::Listed, vec!["example.org".to_owned()]).unwrap();
        assert_eq!(*of("a.b"), listed);
        for bad in ["words = [\"!\"]", "hosts = [\"https://a\"]", "links = \"some\""] {
            assert!(load(&[], Some(&format!("[tenants.acme.rules]\n{bad}\n"))).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_that_a_refusal_names_is_a_setting() {
        for limit in crate::actors::limits::names::ALL {
            let setting = match limit.strip_prefix("tenant.") {
                Some(of_tenant) => format!("tenants.NAME.limits.{of_tenant}"),
                None if limit.starts_with("files.") => limit.to_owned(),
                None => format!("limits.{limit}"),
            };
            assert!(names().any(|name| name == setting), "{setting}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_named_when_it_differs() {
        let one = load(&[], None).unwrap();
        let file = "[server]\ndata = \"other\"\norigins = [\"https://a.example\"]\n[store]\ncache_mb = 65\n[limits]\nframe_kb = 1\n";
        let other = load(&[], Some(file)).unwrap();
        assert_eq!(one.fixed_and_different(&other), ["server.data", "store.cache_mb"]);
        assert_eq!(one.fixed_and_different(&one), Vec::<&str>::new());
    }

    #[test]
    fn the_file_of_defaults_says_what_holds_without_it_and_names_everything() {
        let text = render::defaults();
        let config = load(&[], Some(&text)).unwrap();
        assert_eq!(differing(&config), differing(&load(&[], None).unwrap()));
        for name in names() {
            let (section, key) = name.rsplit_once('.').unwrap();
            let heading = format!("[{}]", section.replace(table::TENANT, "acme"));
            let at = text.find(&heading).unwrap_or_else(|| panic!("{heading} is not there"));
            let rest = &text[at + heading.len()..];
            let its = rest.find("\n\n").map_or(rest, |end| &rest[..end]);
            assert!(its.contains(&format!("{key} = ")), "{name}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again_and_says_where_it_comes_from() {
        let file = "[limits]\nheartbeat = \"5s\"\n[tenants.\"a.b\".limits]\nrooms = 3\n";
        let config = load(&[("CHINWAG_LOG__LEVEL", "debug")], Some(file)).unwrap();
        let shown = render::shown(&config, true);
        assert_eq!(differing(&load(&[], Some(&shown)).unwrap()), differing(&config), "{shown}");
        for line in ["level = \"debug\"  # CHINWAG_LOG__LEVEL\n", "dev = false  # default\n", "chinwag.toml:2\n"] {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(!render::shown(&config, false).contains('#'));
    }

    #[test]
    fn the_schema_has_every_setting_with_its_default() {
        let schema: serde_json::Value = serde_json::from_str(&render::schema()).unwrap();
        for section in SECTIONS {
            let mut at = &schema;
            for part in section.name.split('.') {
                at = if part == table::TENANT { &at["additionalProperties"] } else { &at["properties"][part] };
                // A list of lists has its schema below that of what it holds.
                at = if at["type"] == "array" { &at["items"] } else { at };
            }
            for setting in section.settings {
                let of = &at["properties"][setting.key];
                assert!(of["description"].as_str().is_some_and(|doc| doc.starts_with(setting.doc)), "{}", setting.key);
                assert!(!of["default"].is_null(), "{}", setting.key);
            }
        }
    }

    fn load(env: &[(&str, &str)], file: Option<&str>) -> Result<Config, Mistakes> {
        load_with(&Flags::default(), env, file)
    }

    fn load_with(flags: &Flags, env: &[(&str, &str)], file: Option<&str>) -> Result<Config, Mistakes> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chinwag.toml");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::load(flags, env, file.map(|_| path.as_path()))
    }
}
