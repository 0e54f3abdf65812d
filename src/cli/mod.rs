//! The command line: what a person at a terminal, or a script, can ask of the binary.
//!
//! Each command is a file. `publish` and `subscribe` are clients like any other: they speak the native protocol over
//! [`link`] and know nothing of the server's inside. Called by `main` alone.

mod account;
mod admin;
mod backoff;
mod config;
mod data;
mod failure;
mod frames;
mod health;
mod input;
mod link;
mod output;
mod publish;
mod room;
mod serve;
mod shell;
mod subscribe;
mod token;
mod trouble;
mod web;
mod window;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::{Exit, Failure};

/// A realtime chat and message broker in one binary.
#[derive(Parser)]
#[command(name = "chinwag", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it out, with the server in a terminal of its own:
  chinwag serve --dev
  export CHINWAG_TOKEN=$(chinwag token create --user ann)
  echo hello | chinwag pub lobby --create
  chinwag sub lobby --since start

Exit codes:
   0  done
   1  health: the server does not take commands
   3  sub: the history of the room has begun a new epoch, and the cursor belongs to an old one
  64  the command line is wrong
  65  the server refused a line, a room or a command; or a line of the input cannot be sent;
      serve, token create: the data directory is not ours, or of a newer version
  66  data verify, data compact: there is no data
  69  serve: the address is in use or not to be had; room, user, invite, token revoke: no server runs on the
      data directory
  70  a fault of chinwag's own
  71  the operating system refused something
  73  serve: the disk is too full to open the data directory; data compact: it has no room for another log
  74  reading or writing failed; serve: the data directory is damaged
  75  the data directory is in use by another process
  76  the other side does not speak chinwag.v1
  77  the token is missing, refused or has expired; serve: a secret could be read by others
  78  the configuration is wrong";

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    /// Work with tokens: who a client is.
    #[command(subcommand)]
    Token(token::Command),
    Pub(publish::Args),
    Sub(subscribe::Args),
    /// Look at the rooms of a running server.
    #[command(subcommand)]
    Room(room::Command),
    /// Decide who may log in to a running server.
    #[command(subcommand)]
    User(account::User),
    /// Let others make accounts on a running server.
    #[command(subcommand)]
    Invite(account::Invite),
    /// Work with a data directory while no server uses it.
    #[command(subcommand)]
    Data(data::Command),
    /// Look at the configuration: check it, show it, begin one.
    #[command(subcommand)]
    Config(config::Command),
    Health(health::Args),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Carries out the command line of this process and returns its exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes. Nobody is left to be told when this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Token(command) => token::run(command),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => subscribe::run(args),
        Command::Room(command) => room::run(command),
        Command::User(command) => account::user(command),
        Command::Invite(command) => account::invite(command),
        Command::Data(data::Command::Verify(args)) => data::verify(&args),
        Command::Data(data::Command::Compact(args)) => data::compact(&args),
        Command::Config(command) => config::run(&command),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => shell::completions(&args, &mut Cli::command()),
        Command::Man(_) => shell::man(Cli::command()),
    };
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(Failure { exit, message }) => {
            if let Some(message) = message {
                eprintln!("chinwag: {message}");
            }
            exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
