//! The log on stderr: for people by default, one JSON object a line for machines. `RUST_LOG` overrides the level.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::Flags;
use crate::progress;

/// Set the process's logger up, once.
pub(crate) fn begin(flags: &Flags) {
    let level = if flags.quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr);
    // A second logger is refused, which happens only where a test runs two binaries in one process: the first one stays.
    let _ = if flags.json_log {
        builder.json().flatten_event(true).try_init()
    } else {
        let colour = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(colour).with_target(false).without_time().try_init()
    };
    if flags.json_progress {
        progress::log();
    }
}

/// stderr, with the progress bars out of the way while a line is written.
struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self::Writer {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::bars().suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
