//! Holds the doors between the folders shut, and a few promises about the text of the repository.
//!
//! Reads sources as text: paths in `use` and in code, without comments and strings. What it cannot see is a type that
//! comes through a door inside another; reviewers can.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a folder of `src` may name, besides itself and `std`.
struct Door {
    folder: &'static str,
    crates: &'static [&'static str],
    /// Modules of this crate, by their first name.
    modules: &'static [&'static str],
    /// Paths that stay shut although what stands above them is open.
    shut: &'static [&'static str],
}

/// The table of `ARCHITECTURE.md`.
const DOORS: [Door; 5] = [
    Door { folder: "domain", crates: &["thiserror", "uuid"], modules: &[], shut: &[] },
    Door {
        folder: "wire",
        crates: &[
            "aes",
            "aes_siv",
            "aws_lc_rs",
            "base64",
            "bytes",
            "bytestring",
            "crc32c",
            "itoa",
            "rmp_serde",
            "serde",
            "serde_json",
            "thiserror",
            "uuid",
        ],
        modules: &["domain"],
        shut: &[],
    },
    Door {
        folder: "store",
        crates: &[
            "aws_lc_rs",
            "bytes",
            "crc32c",
            "getrandom",
            "infer",
            "quick_cache",
            "rmp_serde",
            "rustix",
            "serde",
            "sled",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
        modules: &["domain"],
        // Of tokio the channels: the store has threads of its own and needs no runtime.
        shut: &["tokio::fs", "tokio::net", "tokio::runtime", "tokio::spawn", "tokio::task", "tokio::time"],
    },
    Door {
        folder: "actors",
        crates: &[
            "actix",
            "arc_swap",
            "bytes",
            "bytestring",
            "futures_util",
            "getrandom",
            "governor",
            "quick_cache",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
            "uuid",
        ],
        modules: &["clock", "domain", "metrics", "store", "wire"],
        shut: &["crate::store::codec", "crate::store::memory", "crate::store::sled"],
    },
    Door {
        folder: "http",
        crates: &[
            "actix",
            "actix_cors",
            "actix_http",
            "actix_server",
            "actix_service",
            "tokio_rustls",
            "actix_web",
            "actix_web_actors",
            "arc_swap",
            "aws_lc_rs",
            "base64",
            "bytes",
            "bytestring",
            "futures_util",
            "getrandom",
            "ipnet",
            "rustix",
            "rustls",
            "serde",
            "serde_json",
            "socket2",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
            "utoipa",
            "uuid",
        ],
        modules: &["actors", "auth", "clock", "config", "domain", "metrics", "wire"],
        shut: &["crate::domain::room", "crate::domain::Room"],
    },
];

#[test]
fn the_doors_between_the_folders_are_shut() {
    let crates = dependencies(&read(&root().join("Cargo.toml")));
    let mut wrong = Vec::new();
    for door in &DOORS {
        let files = files(&root().join("src").join(door.folder), "rs");
        for file in files.into_iter().filter(|file| !file.ends_with("tests.rs")) {
            let module = module_of(file.strip_prefix(root().join("src")).expect("the file is below src"));
            let trespasses = trespasses(door, &crates, &module, &read(&file));
            wrong.extend(trespasses.into_iter().map(|path| format!("{}: {path}", shown(&file))));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn nothing_is_left_half_done() {
    for file in sources() {
        let code = code_only(&read(&file));
        for left in ["todo!", "unimplemented!", "dbg!"] {
            assert!(!has_word(&code, left), "{}: {left}", shown(&file));
        }
    }
}

#[test]
fn no_test_sleeps() {
    for file in sources().into_iter().filter(|file| !file.starts_with(root().join("src"))) {
        assert!(!has_word(&code_only(&read(&file)), "thread::sleep"), "{}: waits for time to pass", shown(&file));
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for file in files(&root().join("src"), "rs") {
        assert!(read(&file).starts_with("//! "), "{}: does not begin with a doc comment", shown(&file));
    }
}

#[test]
fn no_merge_is_left_half_done() {
    let marks = ["<", "|", ">"].map(|mark| format!("{} ", mark.repeat(7)));
    for file in ["rs", "md", "toml", "sh", "mjs", "py"].iter().flat_map(|extension| files(&root(), extension)) {
        let marked = read(&file).lines().any(|line| marks.iter().any(|mark| line.starts_with(mark)));
        assert!(!marked, "{}", shown(&file));
    }
}

#[test]
fn no_path_of_anybodys_machine_is_in_the_repository() {
    // In halves, so that this file is not its own finding.
    let places = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"]].map(|halves| halves.concat());
    for extension in ["rs", "md", "toml", "sh", "yaml", "yml", "json", "txt"] {
        for file in files(&root(), extension) {
            let text = read(&file);
            for place in &places {
                assert!(!text.contains(place.as_str()), "{}: {place}", shown(&file));
            }
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files(&root(), "md") {
        let folder = page.parent().expect("a page is in a folder");
        for target in links(&read(&page)) {
            let target = target.split('#').next().unwrap_or_default();
            let path = target.strip_prefix('/').map_or_else(|| folder.join(target), |path| root().join(path));
            if !target.is_empty() && !path.exists() {
                broken.push(format!("{}: {target}", shown(&page)));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

// ---- the checker itself

#[test]
fn a_crate_behind_a_shut_door_is_found_in_a_use_and_in_a_path() {
    let found = |source| trespasses(&DOORS[0], &known(), &["domain".to_owned()], source);
    assert_eq!(found("use serde::Serialize;"), ["serde::Serialize"]);
    assert_eq!(found("fn f() -> tokio::time::Instant { x }"), ["tokio::time::Instant"]);
    assert_eq!(found("use std::{fmt, sync::Arc};\nuse uuid::Uuid;"), Vec::<String>::new());
}

#[test]
fn every_branch_of_a_nested_use_is_looked_at() {
    let found = trespasses(
        &DOORS[0],
        &known(),
        &["domain".to_owned()],
        "use {std::fmt, tokio::{sync::{mpsc, watch as w}, time}};\npub(crate) use crate::{domain::Seq, store::Page};",
    );
    let expected = ["crate::store::Page", "tokio::sync::mpsc", "tokio::sync::watch", "tokio::time"];
    assert_eq!(found, expected);
}

#[test]
fn a_module_reached_through_super_is_found() {
    let module = ["wire".to_owned(), "native".to_owned()];
    let found = trespasses(&DOORS[1], &known(), &module, "use super::super::store::Store;\nuse super::cursor;");
    assert_eq!(found, ["crate::store::Store"]);
    let grouped = trespasses(&DOORS[1], &known(), &module, "use super::{cursor, super::actors::Registry};");
    assert_eq!(grouped, ["crate::actors::Registry"]);
}

#[test]
fn a_path_that_stays_shut_behind_an_open_door_is_found() {
    let module = ["actors".to_owned(), "room".to_owned()];
    let found = |source| trespasses(&DOORS[3], &known(), &module, source);
    assert_eq!(found("use crate::store::{Store, rows::Row, sled::Sled};"), ["crate::store::sled::Sled"]);
    assert_eq!(found("use crate::store::sledge;"), Vec::<String>::new());
}

#[test]
fn comments_strings_and_the_tests_of_a_module_do_not_count() {
    let source = r##"
//! Not [`serde::Serialize`].
/* tokio::spawn /* nested */ tokio::spawn */
const TEXT: &str = "tokio::spawn \" tokio::spawn";
const RAW: &str = r#"tokio::spawn" tokio::spawn"#;
const QUOTE: char = '"'; fn life<'a>(x: &'a str) {}
#[cfg(test)]
mod tests { use proptest::prelude::*; use tokio::time; }
"##;
    assert_eq!(trespasses(&DOORS[0], &known(), &["domain".to_owned()], source), Vec::<String>::new());
    let after = source.replace("mod tests {", "mod fakes; mod more {");
    assert_eq!(
        trespasses(&DOORS[0], &known(), &["domain".to_owned()], &after),
        ["proptest::prelude::*", "tokio::time"]
    );
}

#[test]
fn dependencies_are_read_from_the_manifest() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nactix-web = \"4\"\nserde = { version = \"1\" }\n\n[dev-dependencies]\nrstest = \"1\"\n";
    assert_eq!(dependencies(manifest).into_iter().collect::<Vec<_>>(), ["actix_web", "rstest", "serde"]);
}

#[test]
fn a_file_gives_its_module() {
    assert_eq!(module_of(Path::new("store/mod.rs")), ["store"]);
    assert_eq!(module_of(Path::new("store/sled.rs")), ["store", "sled"]);
    assert_eq!(module_of(Path::new("store/sled/tail.rs")), ["store", "sled", "tail"]);
}

#[test]
fn links_are_found_outside_of_code() {
    let page = "See [a](docs/a.md), [b](b.md#part \"t\") and [c](https://example.org).\n```\n[d](d.md)\n```\n`[e](e.md)`\n![f](f.png)";
    assert_eq!(links(page), ["docs/a.md", "b.md#part", "f.png"]);
}

#[test]
fn a_word_is_found_whole() {
    assert!(has_word("x; todo!()", "todo!"));
    assert!(!has_word("my_todo!()", "todo!"));
}

fn known() -> BTreeSet<String> {
    ["actix", "proptest", "serde", "thiserror", "tokio", "uuid"].map(str::to_owned).into()
}

// ---- helpers

/// The paths in `source`, the text of `module`, that `door` does not let through.
fn trespasses(door: &Door, crates: &BTreeSet<String>, module: &[String], source: &str) -> Vec<String> {
    let code = code_only(source);
    let mut found = BTreeSet::new();
    for path in paths(without_tests(&code)) {
        let path = from_the_crate(&path, module);
        let first = path[0].as_str();
        let whole = path.join("::");
        let open = match first {
            "crate" => {
                let to = path.get(1).map_or("", String::as_str);
                to == door.folder || door.modules.contains(&to)
            }
            _ if crates.contains(first) => door.crates.contains(&first),
            _ => true,
        };
        let shut = door.shut.iter().any(|shut| whole == *shut || whole.starts_with(&format!("{shut}::")));
        if !open || shut {
            found.insert(whole);
        }
    }
    found.into_iter().collect()
}

/// `code` up to its module of tests, which stands last in a file and may use what it likes.
fn without_tests(code: &str) -> &str {
    let attribute = "#[cfg(test)]";
    let tests = code.match_indices(attribute).find(|(at, _)| {
        let item = code[at + attribute.len()..].trim_start();
        item.starts_with("mod ") && item.find('{') < item.find(';').or(Some(item.len()))
    });
    tests.map_or(code, |(at, _)| &code[..at])
}

/// `path` with `self` and `super` resolved against `module`.
fn from_the_crate(path: &[String], module: &[String]) -> Vec<String> {
    if !matches!(path[0].as_str(), "self" | "super") {
        return path.to_vec();
    }
    let ups = path.iter().filter(|part| *part == "super").count();
    let base = &module[..module.len().saturating_sub(ups)];
    let rest = path.iter().filter(|part| *part != "super" && *part != "self");
    std::iter::once("crate".to_owned()).chain(base.iter().cloned()).chain(rest.cloned()).collect()
}

/// Every path of two or more names in `code`, those of `use` with their groups taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let tokens = tokens(code);
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i] == "use" {
            let end = tokens[i..].iter().position(|t| *t == ";").map_or(tokens.len(), |n| i + n);
            use_tree(&tokens[i + 1..end], &[], &mut paths);
            i = end;
        } else if is_name(tokens[i]) {
            let mut path = vec![tokens[i].to_owned()];
            while tokens.get(i + 1) == Some(&"::") && tokens.get(i + 2).is_some_and(|t| is_name(t)) {
                path.push(tokens[i + 2].to_owned());
                i += 2;
            }
            if path.len() > 1 {
                paths.push(path);
            }
        }
        i += 1;
    }
    paths
}

/// Adds every leaf of the use tree that `tokens` are, with `above` before it.
fn use_tree(tokens: &[&str], above: &[String], paths: &mut Vec<Vec<String>>) {
    let mut depth = 0;
    let branches = tokens.split(|token| {
        depth += i32::from(*token == "{") - i32::from(*token == "}");
        depth == 0 && *token == ","
    });
    for branch in branches {
        let mut path = above.to_vec();
        let mut rest = branch;
        while let [first, after @ ..] = rest {
            match *first {
                "{" => {
                    use_tree(&after[..after.len().saturating_sub(1)], &path, paths);
                    path.clear();
                    break;
                }
                "as" => break,
                "::" => {}
                name => path.push(name.to_owned()),
            }
            rest = after;
        }
        if !path.is_empty() {
            paths.push(path);
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// `source` without comments and without what stands in strings.
fn code_only(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|r| r.trim_start_matches('#')).filter(|r| r.starts_with('"'));
        let after_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = &rest[block_comment(rest)..];
        } else if let Some(body) = raw.filter(|_| !after_name || code.ends_with('b')) {
            let hashes = rest.len() - 1 - body.len();
            let close = format!("\"{}", "#".repeat(hashes));
            rest = body[1..].split_once(close.as_str()).map_or("", |(_, after)| after);
        } else if first == '"' {
            rest = &rest[1 + string(&rest[1..])..];
        } else if first == '\''
            && let Some(length) = char_literal(rest)
        {
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a string's rest, its closing quote included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The length of the character literal that `text` begins with; `None` for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        return text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 3);
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(at + 1)
}

/// `word` where no name continues to its left.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Where the links of a page lead that are not addresses of the web.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split([')', ' ']).next().unwrap_or_default();
            if !target.contains(':') {
                links.push(target.to_owned());
            }
        }
    }
    links
}

/// The names of all dependencies, as code writes them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names
}

/// The module of a file, by its place below `src`.
fn module_of(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let mut parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

fn sources() -> Vec<PathBuf> {
    ["src", "tests", "benches"].into_iter().flat_map(|folder| files(&root().join(folder), "rs")).collect()
}

/// Every file below `folder` with this extension, but for what is built or hidden.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if path.is_dir() && name != "target" && name != "chinwag-data" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
