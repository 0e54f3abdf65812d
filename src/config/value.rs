//! What a setting says: from what was written to a value that nobody has to check again.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::table::Kind;
use crate::actors::limits::Rate;
use crate::domain::Rules;
use crate::domain::rules::Links;

/// What was written, in a file or elsewhere, before anybody asked what it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Raw {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Raw>),
    /// Something that no setting takes; its name.
    Other(&'static str),
}

/// A checked value. Which of these a setting has, its [`Kind`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    NumberOrOff(Option<u64>),
    Duration(Duration),
    Rate(Option<Rate>),
    Address(Option<SocketAddr>),
    Networks(Vec<IpNet>),
    Texts(Vec<String>),
}

/// More than anybody can do in that time.
const RATE_MAX: u32 = 1_000_000;

/// The word for no limit.
const OFF: &str = "off";

impl Raw {
    /// A text from where there are only texts, such as the environment.
    pub fn of_text(kind: Kind, text: &str) -> Self {
        let as_text = || Self::Text(text.to_owned());
        match kind {
            Kind::Number { .. } | Kind::NumberOrOff { .. } => text.parse().map_or_else(|_| as_text(), Self::Integer),
            Kind::Flag => text.parse().map_or_else(|_| as_text(), Self::Flag),
            Kind::Networks | Kind::Origins | Kind::Texts | Kind::Words | Kind::Hosts => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Self::List(parts.map(|part| Self::Text(part.to_owned())).collect())
            }
            Kind::Address
            | Kind::OptionalAddress
            | Kind::Path
            | Kind::OptionalPath
            | Kind::Duration { .. }
            | Kind::Rate
            | Kind::OneOf(_)
            | Kind::Text => as_text(),
        }
    }

    fn text(&self, takes: Kind) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Integer(_) | Self::Flag(_) | Self::List(_) | Self::Other(_) => Err(self.wrong(takes)),
        }
    }

    fn texts(&self, takes: Kind) -> Result<Vec<&str>, String> {
        match self {
            Self::List(parts) => parts.iter().map(|part| part.text(takes)).collect(),
            Self::Text(_) | Self::Integer(_) | Self::Flag(_) | Self::Other(_) => Err(self.wrong(takes)),
        }
    }

    fn wrong(&self, takes: Kind) -> String {
        format!("{self} is not what it takes: {}", takes.takes())
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Value {
    /// Reads what a setting of this kind takes; the error says why that cannot be.
    pub fn read(kind: Kind, raw: &Raw) -> Result<Self, String> {
        match kind {
            Kind::Address => address(raw.text(kind)?).map(|address| Self::Address(Some(address))),
            Kind::OptionalAddress => match raw.text(kind)? {
                "" => Ok(Self::Address(None)),
                text => address(text).map(|address| Self::Address(Some(address))),
            },
            Kind::Path => match raw.text(kind)? {
                "" => Err("a path is needed".to_owned()),
                text => Ok(Self::Text(text.to_owned())),
            },
            Kind::OptionalPath | Kind::Text => Ok(Self::Text(raw.text(kind)?.to_owned())),
            Kind::Flag => match raw {
                Raw::Flag(flag) => Ok(Self::Flag(*flag)),
                Raw::Text(_) | Raw::Integer(_) | Raw::List(_) | Raw::Other(_) => Err(raw.wrong(kind)),
            },
            Kind::Number { least, most, .. } => match number(raw, least, most) {
                Some(number) => Ok(Self::Number(number)),
                None => Err(raw.wrong(kind)),
            },
            Kind::NumberOrOff { least, most, .. } => match number(raw, least, most) {
                Some(number) => Ok(Self::NumberOrOff(Some(number))),
                None if raw.text(kind) == Ok(OFF) => Ok(Self::NumberOrOff(None)),
                None => Err(raw.wrong(kind)),
            },
            Kind::Duration { least, most } => duration(raw.text(kind)?, least, most).map(Self::Duration),
            Kind::Rate => match raw.text(kind)? {
                OFF => Ok(Self::Rate(None)),
                text => rate(text).map(|rate| Self::Rate(Some(rate))).ok_or_else(|| raw.wrong(kind)),
            },
            Kind::OneOf(names) => match raw.text(kind)? {
                text if names.contains(&text) => Ok(Self::Text(text.to_owned())),
                text => Err(format!("{text:?} is none of {}", listed(names))),
            },
            Kind::Texts => {
                let texts = raw.texts(kind)?;
                Ok(Self::Texts(texts.into_iter().map(str::to_owned).collect()))
            }
            Kind::Words => {
                let texts: Vec<String> = raw.texts(kind)?.into_iter().map(str::to_owned).collect();
                let checked = Rules::new(texts.clone(), Links::Any, Vec::new());
                checked.map(|_| Self::Texts(texts)).map_err(|error| error.to_string())
            }
            Kind::Hosts => {
                let texts: Vec<String> = raw.texts(kind)?.into_iter().map(str::to_owned).collect();
                let checked = Rules::new(Vec::new(), Links::Any, texts.clone());
                checked.map(|_| Self::Texts(texts)).map_err(|error| error.to_string())
            }
            Kind::Networks => {
                let texts = raw.texts(kind)?;
                let networks: Result<_, _> = texts.into_iter().map(network).collect();
                networks.map(Self::Networks)
            }
            Kind::Origins => {
                let texts = raw.texts(kind)?;
                let origins: Result<_, _> = texts.into_iter().map(origin).collect();
                origins.map(Self::Texts)
            }
        }
    }
}

/// As it is written in TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) | Self::NumberOrOff(Some(number)) => write!(f, "{number}"),
            Self::NumberOrOff(None) | Self::Rate(None) => write!(f, "{OFF:?}"),
            Self::Duration(duration) => write!(f, "\"{}\"", humantime::format_duration(*duration)),
            Self::Rate(Some(Rate { count, per, burst })) => {
                let per = match per.as_secs() {
                    1 => "s",
                    60 => "min",
                    _ => "h",
                };
                let burst = if burst == count { String::new() } else { format!(" burst {burst}") };
                write!(f, "\"{count}/{per}{burst}\"")
            }
            Self::Address(None) => f.write_str("\"\""),
            Self::Address(Some(address)) => write!(f, "\"{address}\""),
            Self::Networks(networks) => put_list(f, networks.iter().map(|network| format!("\"{network}\""))),
            Self::Texts(texts) => put_list(f, texts.iter().map(|text| quoted(text))),
        }
    }
}

fn put_list(f: &mut fmt::Formatter<'_>, parts: impl Iterator<Item = String>) -> fmt::Result {
    write!(f, "[{}]", parts.collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Names in backquotes, for a sentence.
pub fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn number(raw: &Raw, least: u64, most: u64) -> Option<u64> {
    match raw {
        Raw::Integer(number) => u64::try_from(*number).ok().filter(|number| (least..=most).contains(number)),
        Raw::Text(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_) => None,
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address and a port, such as 127.0.0.1:7700"))
}

fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a duration, such as \"25s\": {error}"))?;
    if duration < least || duration > most {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        return Err(format!("{text} is not between {least} and {most}"));
    }
    Ok(duration)
}

/// `COUNT/UNIT`, and ` burst COUNT` where more than that may come at once.
fn rate(text: &str) -> Option<Rate> {
    let mut words = text.split_ascii_whitespace();
    let (count, unit) = words.next()?.split_once('/')?;
    let counted = |text: &str| text.parse().ok().filter(|count| (1..=RATE_MAX).contains(count));
    let count = counted(count)?;
    let per = Duration::from_secs(match unit {
        "s" => 1,
        "min" => 60,
        "h" => 60 * 60,
        _ => return None,
    });
    let burst = match (words.next(), words.next()) {
        (None, _) => count,
        (Some("burst"), Some(burst)) => counted(burst)?,
        (Some(_), _) => return None,
    };
    words.next().is_none().then_some(Rate { count, per, burst })
}

fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let network = text.parse().ok().or_else(alone);
    network.ok_or_else(|| format!("{text:?} is not a network, such as 10.0.0.0/8 or 10.1.2.3"))
}

/// The scheme, the host and, where it is not the scheme's own, the port: as a browser writes it.
fn origin(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{text:?} is not an origin, such as https://chat.example: {why}"));
    let Some((scheme, authority)) = text.split_once("://") else { return wrong("it has no scheme") };
    if !["http", "https"].contains(&scheme) {
        return wrong("its scheme is neither http nor https");
    }
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', '*', ' ']) {
        return wrong("after the scheme comes a host, a port perhaps, and nothing else");
    }
    if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong("browsers write it in small letters");
    }
    let own = if scheme == "http" { ":80" } else { ":443" };
    if authority.ends_with(own) {
        return wrong("browsers leave the scheme's own port away");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("50/s burst 100", Rate::per_second(50, 100))]
    #[case("10/min", Rate::per_minute(10, 10))]
    #[case("3/h burst 1", Rate { count: 3, per: Duration::from_secs(3600), burst: 1 })]
    fn a_rate_is_read_and_written(#[case] text: &str, #[case] rate: Rate) {
        let value = Value::read(Kind::Rate, &Raw::Text(text.to_owned())).unwrap();
        assert_eq!(value, Value::Rate(Some(rate)));
        assert_eq!(value.to_string(), format!("{text:?}"));
    }

    #[rstest]
    #[case("50")]
    #[case("0/s")]
    #[case("50/day")]
    #[case("50/s burst")]
    #[case("50/s burst 0")]
    #[case("50/s at 9")]
    #[case("50/s burst 9 9")]
    #[case("1000001/s")]
    #[case("")]
    fn what_is_no_rate_is_refused(#[case] text: &str) {
        assert!(Value::read(Kind::Rate, &Raw::Text(text.to_owned())).is_err());
    }

    #[rstest]
    #[case("https://chat.example", true)]
    #[case("http://localhost:5173", true)]
    #[case("https://chat.example/", false)]
    #[case("https://*.example", false)]
    #[case("https://Chat.example", false)]
    #[case("https://chat.example:443", false)]
    #[case("chat.example", false)]
    #[case("null", false)]
    fn an_origin_is_written_as_browsers_do(#[case] text: &str, #[case] good: bool) {
        let list = Raw::List(vec![Raw::Text(text.to_owned())]);
        assert_eq!(Value::read(Kind::Origins, &list).is_ok(), good);
    }

    #[test]
    fn a_network_may_be_one_address() {
        let list = Raw::of_text(Kind::Networks, "10.0.0.0/8, ::1");
        assert_eq!(Value::read(Kind::Networks, &list).unwrap().to_string(), r#"["10.0.0.0/8", "::1/128"]"#);
        assert!(Value::read(Kind::Networks, &Raw::of_text(Kind::Networks, "10.0.0.0/33")).is_err());
    }
}
