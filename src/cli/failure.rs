//! How a command ends when it does not end well: a code for scripts and a sentence for people.

use std::process::ExitCode;

/// The exit codes; the help text of the binary lists them. The numbers from 64 are those of sysexits.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Done,
    Unwell,
    EpochChanged,
    Usage,
    Refused,
    Unreachable,
    Fault,
    Io,
    Protocol,
    Token,
    Config,
    /// The server or the store says which.
    Of(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Unwell => 1,
            Exit::EpochChanged => 3,
            Exit::Usage => 64,
            Exit::Refused => 65,
            Exit::Unreachable => 69,
            Exit::Fault => 70,
            Exit::Io => 74,
            Exit::Protocol => 76,
            Exit::Token => 77,
            Exit::Config => 78,
            Exit::Of(code) => code,
        })
    }
}

/// Why a command ended early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Says what to do, where something can be done. `None` where nobody is left who would read it.
    pub message: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    pub fn silent(exit: Exit) -> Self {
        Self { exit, message: None }
    }
}
