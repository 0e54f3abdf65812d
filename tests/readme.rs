//! The README says what happens: its walk is walked, its configuration is loaded, its tables are those of the binary.
//!
//! A block that begins with `console` and a name is what one terminal shows. Every terminal is a shell of its own;
//! after a command's line come the lines it prints, and a block without a command goes on with what that terminal is
//! at. What differs from run to run (ids, cursors, tokens, times) is compared by its place only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chinwag::config::{Config, Flags, render};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a line may take that has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server listens that is told nothing else.
const DEFAULT: &str = "127.0.0.1:7700";

/// How the README starts the server, and how it is started here: what `cargo run` does first is not tested.
const START: (&str, &str) = ("cargo run --release --", "target/release/chinwag");

#[test]
fn the_walk_goes_as_it_is_printed() {
    let home = tempfile::tempdir().unwrap();
    let release = home.path().join("target/release");
    fs::create_dir_all(&release).unwrap();
    symlink(env!("CARGO_BIN_EXE_chinwag"), release.join("chinwag")).unwrap();
    let address = free_address();

    let mut terminals: Vec<(String, Terminal)> = Vec::new();
    for (name, lines) in walk() {
        if !terminals.iter().any(|(known, _)| *known == name) {
            terminals.push((name.clone(), Terminal::open(home.path(), &address)));
        }
        let (_, terminal) = terminals.iter_mut().find(|(known, _)| *known == name).unwrap();
        for line in lines {
            match line.strip_prefix("$ ") {
                Some(command) => terminal.type_in(&command.replace(START.0, START.1).replace(DEFAULT, &address)),
                None => assert_eq!(shape(&terminal.line(&line), &address), shape(&line, &address), "terminal {name}"),
            }
        }
    }
}

#[test]
fn the_configuration_file_is_that_of_the_defaults() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("chinwag.toml");
    let [example] = &blocks("toml")[..] else { panic!("one example") };
    fs::write(&file, example).unwrap();
    let written = Config::load(&Flags::default(), [], Some(&file)).unwrap();
    let plain = Config::load(&Flags::default(), [], None).unwrap();
    assert_eq!(render::shown(&written, false), render::shown(&plain, false));
    for setting in ["listen", "data", "dev", "cache_mb", "free_mb_min", "ballast_mb", "heartbeat", "level"] {
        assert!(example.contains(&format!("{setting} =")), "{setting}");
    }
}

#[test]
fn every_setting_in_the_environment_is_one() {
    let readme = readme();
    let words = readme.split(|c: char| c.is_whitespace() || c == '`');
    let settings: Vec<_> = words.filter_map(|word| word.strip_prefix("CHINWAG_")?.split_once('=')).collect();
    let settings: Vec<_> = settings.into_iter().filter(|(name, _)| name.contains("__")).collect();
    assert!(!settings.is_empty());
    for (name, value) in settings {
        let env = [(format!("CHINWAG_{name}").into(), value.into())];
        assert!(Config::load(&Flags::default(), env, None).is_ok(), "CHINWAG_{name}={value}");
    }
}

#[test]
fn the_table_of_commands_is_that_of_the_help() {
    let rows = table("| command | what it does | options |");
    let commands: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let expected = [
        "serve",
        "token create",
        "token inspect TOKEN",
        "token verify TOKEN",
        "token revoke",
        "pub ROOM",
        "sub ROOM...",
        "room list",
        "room show ROOM",
        "room archive ROOM",
        "room audit [ROOM]",
        "user add NAME",
        "user list",
        "user reset NAME",
        "user disable NAME",
        "user rank NAME RANK",
        "user ban USER",
        "user unban USER",
        "user bans",
        "invite create",
        "invite list",
        "invite revoke ID",
        "config check",
        "config show",
        "config default",
        "config schema",
        "health",
        "completions SHELL",
        "man",
        "data verify",
        "data compact",
    ];
    assert_eq!(commands, expected.map(|command| format!("chinwag {command}")));
    for row in &rows {
        let words = row[0].trim_matches('`').split(' ').skip(1).filter(|word| word.starts_with(char::is_lowercase));
        let help = help(&words.collect::<Vec<_>>());
        let (_, options) = help.split_once("\nOptions:\n").unwrap();
        let options = options.lines().take_while(|line| line.is_empty() || line.starts_with(' ')).map(str::trim_start);
        let listed = options.filter(|line| line.starts_with("--"));
        let mut listed: Vec<_> = listed.filter_map(|line| line.split(' ').next()).collect();
        let mut told: Vec<_> = row[2].split('`').filter(|word| word.starts_with("--")).collect();
        listed.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, listed, "{}", row[0]);
    }
    let subcommands = help(&[]);
    for command in
        ["serve", "token", "pub", "sub", "room", "user", "invite", "data", "config", "health", "completions", "man"]
    {
        assert!(subcommands.contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn every_exit_code_of_serve_is_one_that_the_help_lists() {
    let help = help(&[]);
    let rows = table("| exit code of `serve` | meaning |");
    assert!(rows.len() > 5);
    for row in rows {
        assert!(help.contains(&format!("\n  {:>2}  ", row[0])), "{}", row[0]);
    }
}

#[test]
fn commands_in_the_text_have_the_options_that_are_shown() {
    for block in blocks("sh") {
        for line in block.lines().filter_map(|line| line.strip_prefix("chinwag ")) {
            let words: Vec<_> = line.split([' ', '|', ')']).collect();
            let depth =
                if matches!(words[0], "token" | "data" | "config" | "room" | "user" | "invite") { 2 } else { 1 };
            let help = help(&words[..depth]);
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(&format!("{option} ")), "{line}");
            }
        }
    }
}

/// A shell as somebody would have opened it in the repository's folder.
struct Terminal {
    shell: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Terminal {
    fn open(home: &Path, address: &str) -> Self {
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHINWAG_")) {
            command.env_remove(name);
        }
        // The README uses the default address, and a test takes one that is free.
        command.env("CHINWAG_SERVER__LISTEN", address).env("CHINWAG_URL", format!("http://{address}"));
        command.args(["--noprofile", "--norc"]).current_dir(home).process_group(0);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = shell.stdin.take().unwrap();
        writeln!(input, "exec 2>&1").unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap());
        let (line, lines) = channel();
        std::thread::spawn(move || {
            for text in output.lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        Self { shell, input, lines }
    }

    fn type_in(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    fn line(&self, expected: &str) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing came where this is printed: {expected}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its own group: the shell and what runs in it.
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        let _ = self.shell.wait();
    }
}

/// A line without what differs from run to run.
fn shape(line: &str, address: &str) -> String {
    if line.starts_with("eyJ") {
        return "a token".to_owned();
    }
    // What a shell says of a command that was killed depends on whether somebody sits before it.
    if line.contains("Killed") {
        return "Killed".to_owned();
    }
    let line = line.replace(address, "127.0.0.1:7700").replace(" (Ctrl-C ends it)", "");
    if let Some((link, _)) = line.split_once("/setup#") {
        return format!("{link}/setup#CODE");
    }
    if !line.starts_with('{') {
        let words = line.split(' ').map(|word| if word.ends_with('Z') && word.contains("T") { "TIME" } else { word });
        return words.collect::<Vec<_>>().join(" ");
    }
    ["room", "cursor", "id", "record", "at", "client_id"].iter().fold(line, |line, member| without_value(&line, member))
}

/// `line`, an object in JSON, without the value of one member, which is a text without escapes or a number.
fn without_value(line: &str, member: &str) -> String {
    let name = format!("\"{member}\":");
    let Some(begin) = line.find(&name).map(|at| at + name.len()) else { return line.to_owned() };
    let end = line[begin..].find([',', '}']).map_or(line.len(), |at| begin + at);
    format!("{}_{}", &line[..begin], &line[end..])
}

/// The terminals' blocks: which terminal, and its lines.
fn walk() -> Vec<(String, Vec<String>)> {
    let readme = readme();
    let blocks = readme.split("```console ").skip(1).map(|block| {
        let (name, rest) = block.split_once('\n').unwrap();
        let lines = rest.split("```").next().unwrap().lines().map(str::to_owned).collect();
        (name.to_owned(), lines)
    });
    let blocks: Vec<_> = blocks.collect();
    assert!(blocks.len() > 5, "a walk");
    blocks
}

fn blocks(language: &str) -> Vec<String> {
    let (readme, fence) = (readme(), format!("```{language}\n"));
    let blocks = readme.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The cells of the table that begins with `heading`, row by row.
fn table(heading: &str) -> Vec<Vec<String>> {
    let readme = readme();
    let rows = readme.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_chinwag")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
