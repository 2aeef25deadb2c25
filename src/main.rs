//! The `flotilla` binary: arguments → [`flotilla::cli`] → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla::cli::Cli::main()
}
