//! `gro-attack`: see the library for what it does and [`stage::main`] for how a stage runs.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stage::main_where(
        |error| training::is_input(error) || service::is_input(error),
        attack::Cli::flags,
        attack::run,
    )
}
