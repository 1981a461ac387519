//! `gro-preprocess`: the first stage, from ratings to sequences. The work is in the library beside this file.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let build = stage::Build::new(stage::commit!());
    stage::main(build, |cli: &preprocess::Cli| cli.flags().cloned(), preprocess::run)
}
