//! The settings as texts: a file with all defaults, a file with what holds now, a JSON Schema.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::Config;
use super::source::{Origin, Stated, default_of};
use super::table::{Kind, Reload, SECTIONS, Section, Setting, Shape, TENANT};
use super::value::Value;

/// A file that says what holds without one, with a word about each setting.
pub fn defaults() -> String {
    let mut out = String::from(
        "# Every setting of chinwag and its default. A setting marked [restart] changes with the next start, any other\n\
         # with a reload (SIGHUP).\n",
    );
    for section in SECTIONS {
        let doc = section.doc;
        // Sections that may be there more than once are not there at all by default.
        let margin = if section.shape == Shape::Once { "" } else { "# " };
        let _ = writeln!(out, "\n# {doc}.\n{margin}{}", heading(section, &section.name.replace(TENANT, "acme")));
        for setting in section.settings {
            let Setting { key, kind, doc, .. } = setting;
            let restart = if setting.reload == Reload::Restart { " [restart]" } else { "" };
            let _ = writeln!(out, "# {doc} ({}).{restart}", kind.takes());
            let _ = writeln!(out, "{margin}{key} = {}", default_of(setting));
        }
    }
    out
}

/// What holds, as a file; with `origins`, where each value comes from.
pub fn shown(config: &Config, origins: bool) -> String {
    let mut out = String::new();
    let mut within = "";
    // In the order of the table; what there may be several of, by name.
    let place = |name: &str| SECTIONS.iter().position(|section| is_of(section, name));
    let mut sections: Vec<_> = config.stated.keys().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
    sections.sort_by_key(|name| (place(name), *name));
    sections.dedup();
    for name in sections {
        let Some(section) = SECTIONS.iter().find(|section| is_of(section, name)) else { continue };
        if !within.is_empty() {
            out.push('\n');
        }
        within = name;
        let _ = writeln!(out, "{}", heading(section, name.split('[').next().unwrap_or(name)));
        for setting in section.settings {
            let Some(stated) = config.stated.get(&format!("{name}.{}", setting.key)) else { continue };
            let Stated { value, origin, .. } = stated;
            let _ = match origins {
                true => writeln!(out, "{} = {value}  # {}", setting.key, said(origin)),
                false => writeln!(out, "{} = {value}", setting.key),
            };
        }
    }
    out
}

fn said(origin: &Origin) -> String {
    origin.to_string().replace('\n', " ")
}

fn is_of(section: &Section, name: &str) -> bool {
    match section.name.split_once(TENANT) {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => name.split('[').next() == Some(section.name),
    }
}

fn heading(section: &Section, name: &str) -> String {
    match section.shape {
        Shape::Once | Shape::PerTenant => format!("[{name}]"),
        Shape::List => format!("[[{name}]]"),
    }
}

/// A JSON Schema (draft 2020-12) of the file, for editors.
pub fn schema() -> String {
    let mut root = object(Vec::new());
    for section in SECTIONS {
        let settings = section.settings.iter().map(|setting| (setting.key, of_setting(setting))).collect();
        let mut schema = object(settings);
        schema["description"] = json!(section.doc);
        if section.shape == Shape::List {
            schema = json!({ "type": "array", "items": schema });
        }
        put(&mut root, &section.name.split('.').collect::<Vec<_>>(), schema);
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("The configuration of chinwag");
    serde_json::to_string_pretty(&root).expect("a schema is JSON") + "\n"
}

fn object(properties: Vec<(&str, Json)>) -> Json {
    let properties: serde_json::Map<_, _> = properties.into_iter().map(|(key, of)| (key.to_owned(), of)).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// Puts the schema of what stands at `path` into that of what holds it.
fn put(parent: &mut Json, path: &[&str], schema: Json) {
    let [first, rest @ ..] = path else {
        // Another section may have been put in below it already.
        let below = parent.get("properties").and_then(Json::as_object).cloned().unwrap_or_default();
        *parent = schema;
        if let Some(properties) = parent.get_mut("properties").and_then(Json::as_object_mut) {
            properties.extend(below);
        }
        return;
    };
    let child = if *first == TENANT { &mut parent["additionalProperties"] } else { &mut parent["properties"][*first] };
    if !child.is_object() {
        *child = object(Vec::new());
    }
    let child = if child["type"] == "array" && !rest.is_empty() { &mut child["items"] } else { child };
    put(child, rest, schema);
}

fn of_setting(setting: &Setting) -> Json {
    let mut schema = of_kind(setting.kind);
    let restart = if setting.reload == Reload::Restart { " (changes with the next start)" } else { "" };
    schema["description"] = json!(format!("{}{restart}", setting.doc));
    schema["default"] = match default_of(setting) {
        Value::Flag(flag) => json!(flag),
        Value::Number(number) | Value::NumberOrOff(Some(number)) => json!(number),
        Value::Text(text) => json!(text),
        Value::Texts(texts) => json!(texts),
        Value::Networks(_) => json!([]),
        other @ (Value::NumberOrOff(None) | Value::Duration(_) | Value::Rate(_) | Value::Address(_)) => {
            json!(other.to_string().trim_matches('"'))
        }
    };
    schema
}

fn of_kind(kind: Kind) -> Json {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number { least, most, .. } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::NumberOrOff { least, most, .. } => json!({
            "oneOf": [{ "type": "integer", "minimum": least, "maximum": most }, { "const": "off" }]
        }),
        Kind::OneOf(names) => json!({ "enum": names }),
        Kind::Networks | Kind::Origins | Kind::Texts | Kind::Words | Kind::Hosts => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        Kind::Rate => json!({ "type": "string", "pattern": "^(off|[0-9]+/(s|min|h)( burst [0-9]+)?)$" }),
        Kind::Address
        | Kind::OptionalAddress
        | Kind::Path
        | Kind::OptionalPath
        | Kind::Text
        | Kind::Duration { .. } => {
            json!({ "type": "string" })
        }
    }
}
