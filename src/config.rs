//! What the operator decides: raw in, checked out.
//!
//! Flags stand over the environment, that over the file, that over the defaults. [`Config::load`] reads them all and
//! returns either values that nobody has to check again, or every mistake it found. Knows the names of settings and
//! what they may be; the parts of the server receive the few values they use.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};
use tracing::Level;

/// Where `serve` and the commands beside it look for data unless told otherwise.
pub const DATA_DEFAULT: &str = "chinwag-data";

/// How a server is to run. Every value has been checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub server: Server,
    pub store: Store,
    pub limits: Limits,
    pub log: Log,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// For trying out: loopback only.
    pub dev: bool,
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
pub struct Limits {
    /// How often a connection is asked whether it lives.
    pub heartbeat: Duration,
    /// How long a connection may stay without a token.
    pub auth_timeout: Duration,
    pub frame_bytes_max: usize,
    /// How long a frame may take to arrive once it has begun.
    pub frame_deadline: Duration,
    /// How long a connection may take nothing of what waits for it.
    pub slow_consumer: Duration,
    pub follows_per_session: usize,
    pub in_flight_per_session: usize,
    pub in_flight_per_room: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub level: Level,
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
        let mut sources = Sources::default();
        if let Some(path) = file {
            sources.read_file(path);
        }
        sources.read_env(env);
        sources.read_flags(flags);
        sources.check()
    }
}

/// The settings as they are written. The field names are the settings' names.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    server: RawServer,
    store: RawStore,
    limits: RawLimits,
    log: RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    listen: String,
    data: String,
    dev: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    cache_mb: u64,
    free_mb_min: u64,
    ballast_mb: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    heartbeat: String,
    auth_timeout: String,
    frame_kb: u64,
    frame_deadline: String,
    slow_consumer: String,
    follows_per_session: u64,
    in_flight_per_session: u64,
    in_flight_per_room: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLog {
    level: String,
}

impl Default for RawServer {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7700".to_owned(), data: DATA_DEFAULT.to_owned(), dev: false }
    }
}

impl Default for RawStore {
    fn default() -> Self {
        Self { cache_mb: 64, free_mb_min: 256, ballast_mb: 64 }
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            heartbeat: "25s".to_owned(),
            auth_timeout: "10s".to_owned(),
            frame_kb: 64,
            frame_deadline: "10s".to_owned(),
            slow_consumer: "20s".to_owned(),
            follows_per_session: 200,
            in_flight_per_session: 64,
            in_flight_per_room: 1024,
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

/// The sources joined so far: what each setting says, and where that was said.
#[derive(Default)]
struct Sources {
    table: Table,
    origins: BTreeMap<(String, String), String>,
    mistakes: Vec<String>,
}

impl Sources {
    fn read_file(&mut self, path: &Path) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.mistakes.push(format!("cannot read {}: {error}", path.display())),
        };
        // Asked of the text and not of the table, so that the answer shows the line.
        if let Err(error) = toml::from_str::<Raw>(&text) {
            return self.mistakes.push(format!("{}: {error}", path.display()));
        }
        let table: Table = toml::from_str(&text).expect("what has been read as settings is a table");
        for (section, settings) in table {
            let Value::Table(settings) = settings else { continue };
            for (key, value) in settings {
                self.set(&section, &key, value, &path.display().to_string());
            }
        }
    }

    fn read_env(&mut self, env: impl IntoIterator<Item = (OsString, OsString)>) {
        // Sorted, so that the mistakes come in the same order every time.
        let env: BTreeMap<OsString, OsString> = env.into_iter().collect();
        for (name, value) in env {
            let Some(name) = name.to_str() else { continue };
            // A name without the double underscore is none of ours: CHINWAG_URL and CHINWAG_TOKEN belong to the client
            // commands, and orchestrators put things like CHINWAG_PORT beside a service called chinwag.
            let Some((section, key)) = name.strip_prefix("CHINWAG_").and_then(|name| name.split_once("__")) else {
                continue;
            };
            let Some(value) = value.to_str() else {
                self.mistakes.push(format!("{name}: the value is not UTF-8"));
                continue;
            };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            match typed(&section, &key, value) {
                Ok(value) => self.set(&section, &key, value, name),
                Err(mistake) => self.mistakes.push(format!("{name}: {mistake}")),
            }
        }
    }

    fn read_flags(&mut self, flags: &Flags) {
        if let Some(listen) = &flags.listen {
            self.set("server", "listen", Value::String(listen.clone()), "--listen");
        }
        if let Some(data) = &flags.data {
            self.set("server", "data", Value::String(data.clone()), "--data");
        }
        if flags.dev {
            self.set("server", "dev", Value::Boolean(true), "--dev");
        }
    }

    fn set(&mut self, section: &str, key: &str, value: Value, origin: &str) {
        let settings = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        settings.as_table_mut().expect("a section is a table").insert(key.to_owned(), value);
        self.origins.insert((section.to_owned(), key.to_owned()), origin.to_owned());
    }

    fn check(mut self) -> Result<Config, Mistakes> {
        let table = std::mem::take(&mut self.table);
        let raw: Raw = table.try_into().expect("each setting was read as what it has to be");
        let Raw { server, store, limits, log } = raw;

        let listen = self.listen(&server);
        let data = self.data(&server);
        let cache_bytes = self.size("store", "cache_mb", store.cache_mb, MIB, 1..=64 * 1024);
        let free_bytes_min = self.size("store", "free_mb_min", store.free_mb_min, MIB, 0..=1024 * 1024);
        let ballast_bytes = self.size("store", "ballast_mb", store.ballast_mb, MIB, 0..=64 * 1024);
        let heartbeat = self.duration("limits", "heartbeat", &limits.heartbeat);
        let auth_timeout = self.duration("limits", "auth_timeout", &limits.auth_timeout);
        let frame_bytes_max = self.size("limits", "frame_kb", limits.frame_kb, KIB, 1..=256);
        let frame_deadline = self.duration("limits", "frame_deadline", &limits.frame_deadline);
        let slow_consumer = self.duration("limits", "slow_consumer", &limits.slow_consumer);
        let follows_per_session = self.count("limits", "follows_per_session", limits.follows_per_session);
        let in_flight_per_session = self.count("limits", "in_flight_per_session", limits.in_flight_per_session);
        let in_flight_per_room = self.count("limits", "in_flight_per_room", limits.in_flight_per_room);
        let level = self.level(&log.level);

        if !self.mistakes.is_empty() {
            return Err(Mistakes(self.mistakes));
        }
        let proven = "without a mistake every value is there";
        Ok(Config {
            server: Server { listen: listen.expect(proven), data: data.expect(proven), dev: server.dev },
            store: Store {
                cache_bytes: cache_bytes.expect(proven),
                free_bytes_min: free_bytes_min.expect(proven),
                ballast_bytes: ballast_bytes.expect(proven),
            },
            limits: Limits {
                heartbeat: heartbeat.expect(proven),
                auth_timeout: auth_timeout.expect(proven),
                frame_bytes_max: usize::try_from(frame_bytes_max.expect(proven)).expect("256 KiB fit into memory"),
                frame_deadline: frame_deadline.expect(proven),
                slow_consumer: slow_consumer.expect(proven),
                follows_per_session: follows_per_session.expect(proven),
                in_flight_per_session: in_flight_per_session.expect(proven),
                in_flight_per_room: in_flight_per_room.expect(proven),
            },
            log: Log { level: level.expect(proven) },
        })
    }

    fn listen(&mut self, server: &RawServer) -> Option<SocketAddr> {
        let text = &server.listen;
        let Ok(address) = text.parse::<SocketAddr>() else {
            return self.mistake(
                "server",
                "listen",
                &format!("{text:?} is not an address and a port, such as 127.0.0.1:7700"),
            );
        };
        if server.dev && !address.ip().is_loopback() {
            let why = format!(
                "{address} can be reached from other machines, and dev mode is for this machine only: listen on \
                 127.0.0.1, or leave --dev away"
            );
            return self.mistake("server", "listen", &why);
        }
        Some(address)
    }

    fn data(&mut self, server: &RawServer) -> Option<PathBuf> {
        if server.data.is_empty() {
            return self.mistake("server", "data", "a directory is needed");
        }
        Some(PathBuf::from(&server.data))
    }

    fn size(
        &mut self,
        section: &str,
        key: &str,
        units: u64,
        unit: u64,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        if !allowed.contains(&units) {
            let why = format!("{units} is not between {} and {}", allowed.start(), allowed.end());
            return self.mistake(section, key, &why);
        }
        Some(units * unit)
    }

    fn count(&mut self, section: &str, key: &str, count: u64) -> Option<usize> {
        let most = 1_000_000;
        let checked = self.size(section, key, count, 1, 1..=most)?;
        Some(usize::try_from(checked).expect("a million fits into a usize"))
    }

    fn duration(&mut self, section: &str, key: &str, text: &str) -> Option<Duration> {
        let duration = match humantime::parse_duration(text) {
            Ok(duration) => duration,
            Err(error) => {
                return self.mistake(section, key, &format!("{text:?} is not a duration, such as 25s: {error}"));
            }
        };
        // Below, timers would only get in the way of the work; above, they are as good as none.
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(60 * 60));
        if duration < least || duration > most {
            return self.mistake(section, key, &format!("{text} is not between 10ms and 1h"));
        }
        Some(duration)
    }

    fn level(&mut self, text: &str) -> Option<Level> {
        match text {
            "error" => Some(Level::ERROR),
            "warn" => Some(Level::WARN),
            "info" => Some(Level::INFO),
            "debug" => Some(Level::DEBUG),
            "trace" => Some(Level::TRACE),
            _ => {
                self.mistake("log", "level", &format!("{text:?} is none of `error`, `warn`, `info`, `debug`, `trace`"))
            }
        }
    }

    fn mistake<T>(&mut self, section: &str, key: &str, why: &str) -> Option<T> {
        let origin = self.origins.get(&(section.to_owned(), key.to_owned()));
        let origin = origin.map_or("the default", String::as_str);
        self.mistakes.push(format!("{section}.{key} ({origin}): {why}"));
        None
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What a text from the environment is for this setting: a text, an integer or a boolean, whichever it takes.
fn typed(section: &str, key: &str, text: &str) -> Result<Value, String> {
    let alone = |value: &Value| {
        let settings = Table::from_iter([(key.to_owned(), value.clone())]);
        Table::from_iter([(section.to_owned(), Value::Table(settings))]).try_into::<Raw>()
    };
    let as_text = Value::String(text.to_owned());
    // The mistake is told of the text: what was written is what has to be changed.
    let Err(mistake) = alone(&as_text) else { return Ok(as_text) };
    let others = [text.parse().ok().map(Value::Integer), text.parse().ok().map(Value::Boolean)];
    let fitting = others.into_iter().flatten().find(|value| alone(value).is_ok());
    fitting.ok_or_else(|| mistake.message().to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn without_a_word_the_defaults_hold() {
        let config = load(&[], None).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:7700".parse().unwrap());
        assert_eq!(config.server.data, Path::new("chinwag-data"));
        assert!(!config.server.dev);
        assert_eq!(config.store.cache_bytes, 64 << 20);
        assert_eq!(config.store.free_bytes_min, 256 << 20);
        assert_eq!(config.store.ballast_bytes, 64 << 20);
        assert_eq!(config.limits.heartbeat, Duration::from_secs(25));
        assert_eq!(config.limits.auth_timeout, Duration::from_secs(10));
        assert_eq!(config.limits.frame_bytes_max, 64 << 10);
        assert_eq!(config.limits.frame_deadline, Duration::from_secs(10));
        assert_eq!(config.limits.slow_consumer, Duration::from_secs(20));
        assert_eq!(config.limits.follows_per_session, 200);
        assert_eq!(config.limits.in_flight_per_session, 64);
        assert_eq!(config.limits.in_flight_per_room, 1024);
        assert_eq!(config.log.level, Level::INFO);
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

    #[rstest]
    #[case("[server]\nlisten = \"127.0.0.1:7\"\ndata = \"d\"\ndev = true\n")]
    #[case("[store]\ncache_mb = 1\nfree_mb_min = 0\nballast_mb = 0\n")]
    #[case("[limits]\nheartbeat = \"1m 30s\"\nauth_timeout = \"500ms\"\nframe_kb = 1\nframe_deadline = \"1h\"\n")]
    #[case("[limits]\nslow_consumer = \"1s\"\nfollows_per_session = 1\n")]
    #[case("[limits]\nin_flight_per_session = 1\nin_flight_per_room = 1\n[log]\nlevel = \"trace\"\n")]
    fn every_setting_can_be_written(#[case] file: &str) {
        assert!(load(&[], Some(file)).is_ok());
    }

    #[rstest]
    #[case("[server]\nlisten = \"7700\"\n", "server.listen", "an address and a port")]
    #[case("[server]\nlisten = \"localhost:7700\"\n", "server.listen", "an address and a port")]
    #[case("[server]\ndata = \"\"\n", "server.data", "a directory is needed")]
    #[case("[store]\ncache_mb = 0\n", "store.cache_mb", "0 is not between 1 and 65536")]
    #[case("[store]\nfree_mb_min = 1048577\n", "store.free_mb_min", "is not between")]
    #[case("[store]\nballast_mb = 9999999\n", "store.ballast_mb", "is not between")]
    #[case("[limits]\nheartbeat = \"25\"\n", "limits.heartbeat", "\"25\" is not a duration")]
    #[case("[limits]\nauth_timeout = \"0s\"\n", "limits.auth_timeout", "between 10ms and 1h")]
    #[case("[limits]\nframe_kb = 0\n", "limits.frame_kb", "is not between")]
    #[case("[limits]\nframe_deadline = \"2h\"\n", "limits.frame_deadline", "between 10ms and 1h")]
    #[case("[limits]\nslow_consumer = \"soon\"\n", "limits.slow_consumer", "\"soon\" is not a duration")]
    #[case("[limits]\nfollows_per_session = 0\n", "limits.follows_per_session", "is not between")]
    #[case("[limits]\nin_flight_per_session = 0\n", "limits.in_flight_per_session", "is not between")]
    #[case("[limits]\nin_flight_per_room = 9999999\n", "limits.in_flight_per_room", "is not between")]
    #[case("[log]\nlevel = \"loud\"\n", "log.level", "\"loud\" is none of `error`")]
    fn a_value_that_cannot_be_is_a_mistake(#[case] file: &str, #[case] setting: &str, #[case] why: &str) {
        let Mistakes(mistakes) = load(&[], Some(file)).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with(setting) && mistakes[0].contains(why), "{mistakes:?}");
    }

    #[test]
    fn an_unknown_key_in_the_file_is_shown_with_its_line_and_the_valid_names() {
        let mistakes = load(&[], Some("[server]\nlisten = \"127.0.0.1:1\"\nport = 7700\n")).unwrap_err().to_string();
        assert!(mistakes.contains("line 3, column 1"), "{mistakes}");
        assert!(mistakes.contains("^^^^"), "{mistakes}");
        assert!(mistakes.contains("unknown field `port`, expected one of `listen`, `data`, `dev`"), "{mistakes}");
    }

    #[rstest]
    #[case("[sever]\n", "unknown field `sever`, expected one of `server`, `store`, `limits`, `log`")]
    #[case("[store]\ncache_mb = \"64\"\n", "invalid type: string \"64\", expected u64")]
    #[case("[store]\ncache_mb = -1\n", "invalid value: integer `-1`, expected u64")]
    #[case("[store]\ncache_mb = 1\ncache_mb = 2\n", "duplicate key")]
    #[case("server = 1\n", "invalid type: integer `1`")]
    #[case("[server\n", "line 1")]
    fn a_file_that_is_not_a_configuration_is_a_mistake(#[case] file: &str, #[case] why: &str) {
        let mistakes = load(&[], Some(file)).unwrap_err().to_string();
        assert!(mistakes.contains(why), "{mistakes}");
    }

    #[test]
    fn a_file_that_is_not_there_is_a_mistake() {
        let mistakes = Config::load(&Flags::default(), [], Some(Path::new("/nowhere/chinwag.toml"))).unwrap_err();
        assert!(mistakes.to_string().contains("cannot read /nowhere/chinwag.toml"), "{mistakes}");
    }

    #[test]
    fn an_unknown_name_in_the_environment_is_shown_with_the_valid_ones() {
        let mistakes = load(&[("CHINWAG_SERVER__PORT", "1")], None).unwrap_err().to_string();
        assert!(
            mistakes.starts_with("CHINWAG_SERVER__PORT: unknown field `port`, expected one of `listen`"),
            "{mistakes}"
        );
        let mistakes = load(&[("CHINWAG_SEVER__PORT", "1")], None).unwrap_err().to_string();
        assert!(mistakes.contains("unknown field `sever`, expected one of `server`"), "{mistakes}");
    }

    #[test]
    fn a_value_of_the_wrong_type_in_the_environment_is_a_mistake() {
        let mistakes = load(&[("CHINWAG_STORE__CACHE_MB", "much")], None).unwrap_err().to_string();
        assert!(mistakes.contains("CHINWAG_STORE__CACHE_MB: invalid type: string \"much\""), "{mistakes}");
        let mistakes = load(&[("CHINWAG_SERVER__DEV", "yes")], None).unwrap_err().to_string();
        assert!(mistakes.contains("CHINWAG_SERVER__DEV: invalid type: string \"yes\""), "{mistakes}");
    }

    #[test]
    fn a_text_setting_takes_a_text_that_looks_like_a_number() {
        let config = load(&[("CHINWAG_SERVER__DATA", "2026"), ("CHINWAG_SERVER__DEV", "true")], None).unwrap();
        assert_eq!(config.server.data, Path::new("2026"));
        assert!(config.server.dev);
    }

    #[test]
    fn what_belongs_to_others_in_the_environment_is_left_alone() {
        let env = [
            ("CHINWAG_URL", "http://x"),
            ("CHINWAG_TOKEN", "x"),
            ("CHINWAG_PORT", "tcp://10.0.0.1:80"),
            ("CHINWAG_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ];
        assert!(load(&env, None).is_ok());
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_where_they_were_made() {
        let file = "[limits]\nheartbeat = \"soon\"\n[store]\ncache_mb = 0\n";
        let env = [("CHINWAG_LOG__LEVEL", "loud"), ("CHINWAG_LOG__COLOUR", "red")];
        let flags = Flags { listen: Some("here".to_owned()), ..Flags::default() };
        let Mistakes(mistakes) = load_with(&flags, &env, Some(file)).unwrap_err();
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert!(mistakes[0].starts_with("CHINWAG_LOG__COLOUR: "));
        assert!(mistakes[1].starts_with("server.listen (--listen): "));
        assert!(mistakes[2].starts_with("store.cache_mb (") && mistakes[2].contains("chinwag.toml"));
        assert!(mistakes[3].starts_with("limits.heartbeat ("));
        assert!(mistakes[4].starts_with("log.level (CHINWAG_LOG__LEVEL): "));
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
