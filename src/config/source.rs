//! Where settings are said: the file, the environment, the flags. Joins what they say, the later over the earlier, and
//! remembers of each value where it comes from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Flags;
use super::table::{self, Kind, SECTIONS, Section, Setting, Shape, TENANT};
use super::value::{Raw, Value, listed};
use crate::domain::TenantId;

/// A value and where it was said.
#[derive(Clone, Debug)]
pub struct Stated {
    pub setting: &'static Setting,
    pub value: Value,
    pub origin: Origin,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    Default,
    File(Place),
    Env(String),
    Flag(&'static str),
}

/// A place in a file, with its line, so that it can be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    file: String,
    /// Both count from one.
    line: usize,
    column: usize,
    width: usize,
    text: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(Place { file, line, .. }) => write!(f, "{file}:{line}"),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Origin {
    /// A mistake that was made here.
    pub fn mistake(&self, what: &str) -> String {
        match self {
            Self::File(place) => place.mistake(what),
            Self::Default | Self::Env(_) | Self::Flag(_) => format!("{self}: {what}"),
        }
    }
}

impl Place {
    fn of(file: &str, text: &str, span: Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        Self {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            width: text[start..span.end.clamp(start, end)].chars().count().max(1),
            text: text[begin..end].trim_end().to_owned(),
        }
    }

    fn mistake(&self, what: &str) -> String {
        let Self { file, line, column, width, text } = self;
        let margin = " ".repeat(line.to_string().len());
        let (before, carets) = (" ".repeat(column - 1), "^".repeat(*width));
        format!("{file}:{line}:{column}: {what}\n  {line} | {text}\n  {margin} | {before}{carets}")
    }
}

/// The sources joined so far.
#[derive(Default)]
pub struct Sources {
    /// By the whole name, such as `limits.heartbeat`.
    pub stated: BTreeMap<String, Stated>,
    /// The places of those sections that there may be several of, in the order of a list.
    pub listed: Vec<(String, Origin)>,
    pub mistakes: Vec<String>,
}

impl Sources {
    /// Everything as it is when nobody says anything.
    pub fn of_defaults() -> Self {
        let mut sources = Self::default();
        let once = SECTIONS.iter().filter(|section| section.shape == Shape::Once);
        for section in once {
            sources.fill(section, section.name);
        }
        sources
    }

    /// Gives the settings of a section that says nothing about them their defaults.
    fn fill(&mut self, section: &'static Section, name: &str) {
        for setting in section.settings {
            let value = default_of(setting);
            self.stated.entry(format!("{name}.{}", setting.key)).or_insert(Stated {
                setting,
                value,
                origin: Origin::Default,
            });
        }
    }

    pub fn read_file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.mistakes.push(format!("cannot read {file}: {error}")),
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            // What could be read of it is not what was meant.
            let place = |span: Option<Range<usize>>| Place::of(&file, &text, span.unwrap_or_default());
            self.mistakes.extend(errors.iter().map(|error| place(error.span()).mistake(error.message())));
            return;
        }
        let mut reader = FileReader { file: &file, text: &text, sources: self, mistakes: Vec::new() };
        reader.table(&mut Vec::new(), table.get_ref());
        let mut mistakes = reader.mistakes;
        mistakes.sort_by_key(|(at, _)| *at);
        self.mistakes.extend(mistakes.into_iter().map(|(_, mistake)| mistake));
    }

    pub fn read_env(&mut self, env: impl IntoIterator<Item = (OsString, OsString)>) {
        // Sorted, so that the mistakes come in the same order every time.
        let env: BTreeMap<OsString, OsString> = env.into_iter().collect();
        for (name, value) in env {
            let Some(name) = name.to_str() else { continue };
            // A name without the double underscore is none of ours: CHINWAG_URL and CHINWAG_TOKEN belong to the client
            // commands, and orchestrators put things like CHINWAG_PORT beside a service called chinwag.
            let Some((section, key)) = name.strip_prefix("CHINWAG_").and_then(|name| name.rsplit_once("__")) else {
                continue;
            };
            let origin = Origin::Env(name.to_owned());
            let section = section.replace("__", ".").to_ascii_lowercase();
            match find(&section, &key.to_ascii_lowercase()) {
                Err(mistake) => self.mistakes.push(origin.mistake(&mistake)),
                Ok(setting) => match value.to_str() {
                    Some(text)
                        if matches!(
                            setting.kind,
                            Kind::Networks | Kind::Origins | Kind::Texts | Kind::Words | Kind::Hosts
                        ) && text.trim_start().starts_with('[') =>
                    {
                        let form = "in the environment a list is separated by commas, without brackets and quotation \
                                    marks";
                        self.mistakes.push(origin.mistake(&format!("{section}.{}: {form}", setting.key)));
                    }
                    Some(text) => self.set(&section, setting, &Raw::of_text(setting.kind, text), origin),
                    None => self.mistakes.push(origin.mistake("the value is not UTF-8")),
                },
            }
        }
    }

    pub fn read_flags(&mut self, flags: &Flags) {
        let mut set = |key, raw, flag| {
            let setting = find("server", key).expect("the flags stand for settings of the server");
            self.set("server", setting, &raw, Origin::Flag(flag));
        };
        if let Some(listen) = &flags.listen {
            set("listen", Raw::Text(listen.clone()), "--listen");
        }
        if let Some(data) = &flags.data {
            set("data", Raw::Text(data.clone()), "--data");
        }
        if flags.dev {
            set("dev", Raw::Flag(true), "--dev");
        }
    }

    fn set(&mut self, section: &str, setting: &'static Setting, raw: &Raw, origin: Origin) {
        let name = format!("{section}.{}", setting.key);
        match Value::read(setting.kind, raw) {
            Ok(value) => drop(self.stated.insert(name, Stated { setting, value, origin })),
            Err(why) => self.mistakes.push(origin.mistake(&format!("{name}: {why}"))),
        }
    }
}

/// What the table says that a setting is by itself.
pub fn default_of(setting: &Setting) -> Value {
    let value = DeValue::parse(setting.default).expect("a default of the table is TOML");
    Value::read(setting.kind, &raw(value.get_ref())).expect("a default of the table is what the setting takes")
}

/// The setting of a section that there is once; a mistake names those that there are.
fn find(section: &str, key: &str) -> Result<&'static Setting, String> {
    let once = |section: &&Section| section.shape == Shape::Once;
    let Some(found) = table::section(section).filter(once) else {
        let names: Vec<_> = SECTIONS.iter().filter(once).map(|section| section.name).collect();
        return Err(unknown("section", section, &names));
    };
    let names: Vec<_> = found.settings.iter().map(|setting| setting.key).collect();
    found.setting(key).ok_or_else(|| unknown("setting", key, &names))
}

fn unknown(what: &str, name: &str, valid: &[&str]) -> String {
    let near = nearest(name, valid).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("unknown {what} `{name}`{near}; there are {}", listed(valid))
}

/// Reads a file that is TOML.
struct FileReader<'a> {
    file: &'a str,
    text: &'a str,
    sources: &'a mut Sources,
    /// With where they stand, because tables come in the order of their names.
    mistakes: Vec<(usize, String)>,
}

impl FileReader<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        let section = SECTIONS.iter().find(|section| matches(section, path) == Some(true));
        if let Some(section) = section {
            self.sources.fill(section, &joined(path));
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            if let Some(setting) = section.and_then(|section| section.setting(name)) {
                self.value(&joined(path), setting, value);
                continue;
            }
            path.push(name.to_owned());
            self.below(path, key.span(), value);
            path.pop();
        }
    }

    /// What stands at `path`, which is no setting.
    fn below(&mut self, path: &mut Vec<String>, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let (name, above) = path.split_last().expect("a key has been put in");
        // A bracket belongs to the place in a list, and to no name.
        if name.contains('[') || !SECTIONS.iter().any(|section| matches(section, path).is_some()) {
            let mistake = unknown("key", name, &names_below(above));
            return self.mistake(key, &mistake);
        }
        let list = SECTIONS.iter().any(|section| section.shape == Shape::List && matches(section, path) == Some(true));
        match value.get_ref() {
            DeValue::Table(table) if !list => {
                let tenant = path.len() == 2 && path[0] == "tenants";
                match TenantId::new(&path[path.len() - 1]) {
                    Err(error) if tenant => self.mistake(key, &format!("this cannot be a tenant: {error}")),
                    Ok(_) | Err(_) => self.table(path, table),
                }
            }
            DeValue::Array(items) if list => {
                for (at, item) in items.iter().enumerate() {
                    let DeValue::Table(table) = item.get_ref() else {
                        self.mistake(item.span(), "each of these is a table");
                        continue;
                    };
                    let name = path.last_mut().expect("a list has a name");
                    let alone = std::mem::replace(name, format!("{name}[{at}]"));
                    let origin = Origin::File(self.place(item.span()));
                    self.sources.listed.push((joined(path), origin));
                    self.table(path, table);
                    *path.last_mut().expect("as before") = alone;
                }
            }
            DeValue::Table(_) => self.mistake(key, &format!("write [[{}]], once for each", path.join("."))),
            DeValue::Array(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                self.mistake(value.span(), &format!("[{}] is a section and takes no value", path.join(".")));
            }
        }
    }

    fn value(&mut self, section: &str, setting: &'static Setting, value: &Spanned<DeValue<'_>>) {
        let origin = Origin::File(self.place(value.span()));
        let before = self.sources.mistakes.len();
        self.sources.set(section, setting, &raw(value.get_ref()), origin);
        let mistakes = self.sources.mistakes.split_off(before);
        self.mistakes.extend(mistakes.into_iter().map(|mistake| (value.span().start, mistake)));
    }

    fn mistake(&mut self, span: Range<usize>, what: &str) {
        self.mistakes.push((span.start, self.place(span).mistake(what)));
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::of(self.file, self.text, span)
    }
}

/// A path as TOML writes it, so that a name with a dot in it is one name.
pub fn joined(path: &[String]) -> String {
    let bare = |name: &String| name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-[]".contains(&it));
    let written = |name: &String| if bare(name) { name.clone() } else { format!("\"{name}\"") };
    path.iter().map(written).collect::<Vec<_>>().join(".")
}

/// Whether `path` leads to a section (`Some(false)`) or is one (`Some(true)`).
fn matches(section: &Section, path: &[String]) -> Option<bool> {
    let parts: Vec<_> = section.name.split('.').collect();
    // One of a list is called by its place.
    let bare = |part: &'_ str| part.split('[').next().map(str::to_owned);
    let fits = |(part, name): (&&str, &String)| *part == TENANT || bare(name).as_deref() == Some(*part);
    let is = path.len() <= parts.len() && parts.iter().zip(path).all(fits);
    is.then_some(path.len() == parts.len())
}

/// What may stand right below `path`.
fn names_below(path: &[String]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for section in SECTIONS {
        match matches(section, path) {
            Some(true) => names.extend(section.settings.iter().map(|setting| setting.key)),
            Some(false) => names.extend(section.name.split('.').nth(path.len())),
            None => {}
        }
    }
    names.dedup();
    names
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number beyond all limits"), Raw::Integer),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// The name that was probably meant: the nearest, if it is not far.
fn nearest<'a>(name: &str, valid: &[&'a str]) -> Option<&'a str> {
    let far = (name.chars().count() / 3).max(1);
    let near = valid.iter().map(|valid| (distance(name, valid), *valid)).min()?;
    (near.0 <= far).then_some(near.1)
}

/// How many letters have to be put in, taken out or changed (Levenshtein 1966).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<_> = other.chars().collect();
    let mut row: Vec<_> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, its) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *its);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_shows_its_line() {
        let text = "[server]\nlistën = 7\n";
        let at = text.find('7').unwrap();
        let shown = Place::of("chinwag.toml", text, at..at + 1).mistake("no");
        assert_eq!(shown, "chinwag.toml:2:10: no\n  2 | listën = 7\n    |          ^");
    }

    #[test]
    fn a_name_that_is_nearly_right_is_recognised() {
        let valid = ["listen", "data", "heartbeat"];
        assert_eq!(nearest("lisen", &valid), Some("listen"));
        assert_eq!(nearest("hartbeet", &valid), Some("heartbeat"));
        assert_eq!(nearest("port", &valid), None);
    }
}
