use std::process::ExitCode;

fn main() -> ExitCode {
    chinwag::cli::run()
}
