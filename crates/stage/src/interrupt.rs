//! Ctrl-C and a scheduler's SIGTERM leave nothing half written: the unfinished directory goes, the old output stays.
//!
//! State for `--resume` lies elsewhere, in `<out>.state/`, and survives.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// The directory being filled. Whoever holds the lock keeps the process from being interrupted.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begin to watch for signals.
pub(crate) fn watch() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let directory = unfinished();
            if let Some(directory) = directory.as_ref() {
                // A worker may create a file while its directory is being removed, so once may not be enough.
                for _ in 0..10 {
                    if std::fs::remove_dir_all(directory).is_ok() || !directory.exists() {
                        break;
                    }
                }
            }
            // By custom: 128 and the number of the signal. The lock is still held, so nothing moves on meanwhile.
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// A directory being filled: removed when dropped, and when a signal comes.
pub(crate) struct Unfinished(Option<TempDir>);

impl Unfinished {
    pub(crate) fn begin(directory: TempDir) -> Self {
        *unfinished() = Some(directory.path().to_owned());
        Self(Some(directory))
    }

    /// Do the last step, which no signal may split, with the directory.
    pub(crate) fn finish(mut self, step: impl FnOnce(TempDir) -> io::Result<()>) -> io::Result<()> {
        let mut path = unfinished();
        let result = self.0.take().map_or(Ok(()), step);
        *path = None;
        drop(path);
        result
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut path = unfinished();
        drop(self.0.take());
        *path = None;
    }
}
