//! `gro`: see the library for what it does and [`stage::main`] for how a binary runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main(gro::Cli::flags, gro::run)
}
