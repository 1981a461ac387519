//! The frame of a binary: parse, log, run, exit code. It is the only place that prints an error.

use std::error::Error;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use artifact::names::UnknownName;
use clap::Parser;

use crate::{Build, Flags, Refusal, completions, interrupt, logging, manual, progress};

/// Done, or already up to date.
const DONE: u8 = 0;
/// The run failed.
const FAILED: u8 = 1;
/// Bad usage, settings or input.
const REFUSED: u8 = 2;

/// Threads a core at most; more only wait for each other.
const THREADS_A_CORE: usize = 4;
/// Threads at most where there are few cores.
const THREADS_ANYWHERE: usize = 32;

/// Bytes of a thread's stack: what a main thread has, since a stage works on one of the pool ([`in_pool`]).
const STACK: usize = 8 << 20;

/// Run a binary: say what it is, a `build`, where that is asked; parse its command line into `C`, set up log, threads and signals as its [`Flags`] say (`flags_of` finds
/// them; a subcommand may have none), and call `run`. An error is printed once, as a chain.
///
/// Returns 0 when done or up to date, 1 when the run failed, 2 for bad usage, settings or input; 130 or 143 when SIGINT or
/// SIGTERM came.
pub fn main<C: Parser>(
    build: Build,
    flags_of: fn(&C) -> Option<Flags>,
    run: fn(C) -> anyhow::Result<()>,
) -> ExitCode {
    main_where(build, |_| false, flags_of, run)
}

/// As [`main`], for a stage with errors of another library's: those for which `is_input` is true, anywhere in a chain,
/// are laid to usage, settings or input as well.
pub fn main_where<C: Parser>(
    build: Build,
    is_input: fn(&(dyn Error + 'static)) -> bool,
    flags_of: fn(&C) -> Option<Flags>,
    run: fn(C) -> anyhow::Result<()>,
) -> ExitCode {
    let command = C::command().after_help(
        "Shell completions: give `completions` and the name of a shell. Manual pages: `man` and a directory.",
    );
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match completions::requested(&words, &command) {
        None => {}
        Some(Ok(script)) => {
            return ExitCode::from(if completions::print(&script).is_ok() { DONE } else { FAILED });
        }
        Some(Err(refusal)) => return report(&refusal.into(), is_input, false),
    }
    match manual::requested(&arguments) {
        None => {}
        Some(Ok(directory)) => {
            return match manual::write(command, &directory) {
                Ok(()) => ExitCode::from(DONE),
                Err(error) => report(&error, is_input, false),
            };
        }
        Some(Err(refusal)) => return report(&refusal.into(), is_input, false),
    }
    // clap keeps the text as long as the program runs; there is one.
    let command = command.version(&*build.long().leak());
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| C::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; clap knows the stream and the code for each.
            let code = error.exit_code();
            return ExitCode::from(if error.print().is_ok() { code as u8 } else { FAILED });
        }
    };
    let flags = flags_of(&cli).unwrap_or_default();
    let (threads, warning) = bounded(flags.threads);
    // SAFETY: neither the logger, nor the signal watcher, nor a thread pool exists yet, and nothing before this (clap) starts
    // a thread.
    let pool = unsafe { set_threads(threads) };
    logging::begin(&flags);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    let heeding = || interrupt::heed().map_err(anyhow::Error::from);
    let outcome = pool.map_err(anyhow::Error::from).and_then(|()| heeding()).and_then(|()| run(cli));
    let code = match outcome {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => report(&error, is_input, flags.json_log),
    };
    // However it ended: whoever sent the signal wants to see it heeded, and the next stage not begun.
    interrupt::signal().map_or(code, |signal| ExitCode::from(interrupt::code(signal)))
}

/// Size the thread pool, once, by default one thread a core; and leave candle without one of its own: it would spin beside
/// ours, on the same cores, for the few sums that are not our operations'.
///
/// # Safety
/// This changes the environment: no other thread may read it meanwhile. To be called in `main` before any thread begins.
///
/// # Errors
/// A refusal where the system does not start so many threads.
pub unsafe fn set_threads(threads: Option<NonZeroUsize>) -> Result<(), Refusal> {
    let ours = threads.map(|threads| ("RAYON_NUM_THREADS", threads.to_string()));
    for (name, value) in ours.into_iter().chain([("CANDLE_NUM_THREADS", "1".to_owned())]) {
        // SAFETY: changing the environment is unsound only while another thread may read it; the caller sees to that.
        unsafe { std::env::set_var(name, value) };
    }
    let builder =
        rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, NonZeroUsize::get)).stack_size(STACK);
    match builder.build_global() {
        Err(error) if error.source().is_some() => {
            let count =
                threads.map_or_else(|| "one thread a core".to_owned(), |count| format!("{count} threads"));
            Err(Refusal::because(format!("cannot start {count}; give a smaller --threads"), error))
        }
        // Without a source the pool was there: it can be built once in a process, and a test harness that calls `main` twice
        // keeps its first.
        _ => Ok(()),
    }
}

/// Does `work` on a thread of the pool that [`set_threads`] sized, and waits for it. From a thread outside, each of a step's hundred parallel
/// operations would wake the pool and wait for it; from within, the thread at work takes its own part, and a small operation wakes nobody.
///
/// Not for a program whose other threads use the same pool while this one waits for them: of a pool of one thread, none would be left.
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// As many threads as were asked for by the flag or, as rayon reads it, by the environment; but no more than a machine with so
/// many cores has any use for, and what to say where that is less.
fn bounded(asked: Option<NonZeroUsize>) -> (Option<NonZeroUsize>, Option<String>) {
    let variable = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let Some(asked) = asked.or_else(variable) else { return (None, None) };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let most = cores.saturating_mul(THREADS_A_CORE).max(THREADS_ANYWHERE);
    match NonZeroUsize::new(most) {
        Some(most) if most < asked => {
            let warning = format!("--threads is {asked}, far above the {cores} cores here: {most} are used");
            (Some(most), Some(warning))
        }
        _ => (Some(asked), None),
    }
}

/// Print the error and everything behind it as one message, and say which code it means.
fn report(error: &anyhow::Error, is_input: fn(&(dyn Error + 'static)) -> bool, json: bool) -> ExitCode {
    let message = chain(error);
    if json {
        tracing::error!("{message}");
    } else {
        progress::bars().suspend(|| {
            #[expect(clippy::print_stderr, reason = "the one place that prints an error")]
            {
                eprintln!("error: {message}");
            }
        });
    }
    ExitCode::from(if is_refusal(error) || error.chain().any(is_input) { REFUSED } else { FAILED })
}

/// The messages of a chain, outermost first. A cause that repeats the end of what was said before it is left out: some
/// libraries put their cause into their own message as well.
fn chain(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if message.is_empty() {
            message = text;
        } else if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
    }
    message
}

/// True where the chain says that usage, settings or input are to blame.
fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some()
        || error.downcast_ref::<UnknownName>().is_some()
        || error.downcast_ref::<artifact::Error>().is_some_and(artifact::Error::is_input)
        || error.chain().any(|cause| {
            cause.is::<Refusal>()
                || cause.downcast_ref::<artifact::Error>().is_some_and(artifact::Error::is_input)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_far_above_the_cores_are_not_started() {
        let of = |count| bounded(NonZeroUsize::new(count));
        assert_eq!(of(3), (NonZeroUsize::new(3), None));
        let (most, warning) = of(100_000);
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(most.unwrap().get(), (4 * cores).max(32));
        assert!(warning.unwrap().starts_with("--threads is 100000, far above the "));
    }

    fn input_error() -> artifact::Error {
        artifact::Error::content(std::path::Path::new("model.safetensors"), "tensor `a` is F64, expected F32")
    }

    #[test]
    fn only_the_callers_faults_are_refusals() {
        let refused: anyhow::Error = Refusal::new("no").into();
        assert!(is_refusal(&refused));
        assert!(is_refusal(&refused.context("outer")));
        assert!(is_refusal(&anyhow::Error::new(input_error()).context("outer").context("more")));
        assert!(is_refusal(&anyhow::anyhow!("disk full").context(Refusal::new("no"))));
        assert!(!is_refusal(&anyhow::anyhow!("disk full").context("outer")));
        let path = std::path::Path::new("model.safetensors");
        let unwritable: anyhow::Error = artifact::Error::write(path, "disk full").into();
        assert!(!is_refusal(&unwritable));
    }

    #[test]
    fn a_chain_is_one_message_without_repetition() {
        let error = anyhow::Error::new(input_error()).context("cannot load the target");
        assert_eq!(
            chain(&error),
            "cannot load the target: model.safetensors: tensor `a` is F64, expected F32"
        );
        let repeated = anyhow::anyhow!("end").context("begin: end");
        assert_eq!(chain(&repeated), "begin: end");
    }
}
