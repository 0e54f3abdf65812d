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

/// One page for all commands: what each does, its options, and the exit codes.
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
    whole.render_extra_section(&mut page)?;
    Ok(page)
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
