//! `gro`: see the library for what it does and [`stage::main`] for how a binary runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    let build = stage::Build::new(stage::commit!());
    stage::main(build, |cli: &gro::Cli| cli.flags().cloned(), gro::run)
}
