//! `gro-defend`: see the library for what it does and [`stage::main`] for how a stage runs.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let build = stage::Build::new(stage::commit!()).with_cuda(cfg!(feature = "cuda"));
    stage::main_where(
        build,
        |error| training::is_input(error) || service::is_input(error),
        |cli: &defend::Cli| cli.flags().cloned(),
        |cli| stage::in_pool(|| defend::run(&cli)),
    )
}
