//! How a command ends when it does not end well: a code for scripts and a sentence for people.

use std::process::ExitCode;

/// The exit codes; the help text of the binary lists them. The numbers from 64 are those of sysexits.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Done = 0,
    EpochChanged = 3,
    Usage = 64,
    Refused = 65,
    Fault = 70,
    Io = 74,
    Protocol = 76,
    Token = 77,
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
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
