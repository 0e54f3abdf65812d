//! `chinwag completions` and `chinwag man`: what packages install beside the binary.

use std::io::{self, Write};

use clap_complete::Shell;

use super::failure::Failure;
use super::output;

/// Print what makes a shell complete this command line.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  chinwag completions bash > /etc/bash_completion.d/chinwag")]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

/// Print the manual page, for man(1).
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  chinwag man > /usr/share/man/man1/chinwag.1")]
pub struct Man {}

pub fn completions(args: &Completions, command: &mut clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "chinwag", &mut script);
    print(&script)
}

/// One page for all commands: what each does, its options, the exit codes and the environment.
pub fn man(mut command: clap::Command) -> Result<(), Failure> {
    command.build();
    print(&page(&command).map_err(output::failed)?)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let whole = clap_mangen::Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    for part in command.get_subcommands().filter(|part| part.get_name() != "help") {
        describe(part, &mut page)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (example, exits) = after.split_once("Exit codes:\n").unwrap_or((&after, ""));
    section(&mut page, "EXIT STATUS", &exit_codes(exits))?;
    section(&mut page, "ENVIRONMENT", &ENVIRONMENT.map(|(name, what)| (name.to_owned(), what.to_owned())))?;
    writeln!(page, ".SH EXAMPLES\n.nf\n{}\n.fi", escaped(example.trim_end()))?;
    Ok(page)
}

const ENVIRONMENT: [(&str, &str); 4] = [
    ("CHINWAG_SECTION__KEY", "any setting of the server: CHINWAG_SERVER__DATA is `data` of the section `[server]`"),
    ("CHINWAG_URL", "pub, sub: the server, where --url does not say it"),
    ("CHINWAG_TOKEN", "pub, sub: who you are, where --token does not say it"),
    ("RUST_BACKTRACE", "1: a fault is logged with how it came to it"),
];

/// The codes of the help, each with its sentence on one line.
fn exit_codes(text: &str) -> Vec<(String, String)> {
    let mut codes: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let (code, rest) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        match codes.last_mut() {
            _ if code.parse::<u8>().is_ok() => codes.push((code.to_owned(), rest.trim_start().to_owned())),
            Some((_, sentence)) => {
                sentence.push(' ');
                sentence.push_str(line.trim());
            }
            None => {}
        }
    }
    codes
}

/// A list of words and what they mean (man(7), `TP`).
fn section(page: &mut Vec<u8>, heading: &str, items: &[(String, String)]) -> io::Result<()> {
    let heading = if heading.contains(' ') { format!("\"{heading}\"") } else { heading.to_owned() };
    writeln!(page, ".SH {heading}")?;
    for (word, meaning) in items {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(word), escaped(meaning))?;
    }
    Ok(())
}

/// Text as roff takes it. A hyphen that is typed is `\-` (man(7)).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// What a command does and takes, and those below it.
fn describe(command: &clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    if command.has_subcommands() {
        for part in command.get_subcommands().filter(|part| part.get_name() != "help") {
            describe(part, page)?;
        }
        return Ok(());
    }
    writeln!(page, ".SH \"{name}\"")?;
    let man = clap_mangen::Man::new(command.clone());
    let mut part = Vec::new();
    man.render_description_section(&mut part)?;
    man.render_options_section(&mut part)?;
    let text = String::from_utf8_lossy(&part);
    // Its own sections are parts of this one.
    page.extend(text.lines().flat_map(|line| [line.replace(".SH ", ".SS "), "\n".to_owned()].concat().into_bytes()));
    Ok(())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    io::stdout().write_all(bytes).map_err(output::failed)
}
