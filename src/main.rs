//! The binary: hands the command line over to the library and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    chinwag::cli::run()
}
