//! Ctrl-C and a scheduler's SIGTERM leave nothing half written: the unfinished directory goes, the old output stays.
//!
//! State for `--resume` lies elsewhere, in `<out>.state/`, and survives. Work that keeps such a state holds an
//! [`Interruption`] and asks it between its steps: the first signal then waits for the step to end and the state to be
//! saved, and a second one does not.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// The directory being filled. Whoever holds the lock keeps the process from being interrupted.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Whether someone holds an [`Interruption`].
static ASKED_FOR: AtomicBool = AtomicBool::new(false);

/// What happens at the first signal, in words.
static SAID: Mutex<&str> = Mutex::new("");

/// The signal that work was left to end by; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Work that ends by itself, and soon, when a signal comes. Until this is dropped, the first signal only makes
/// [`Interruption::requested`] true.
#[derive(Debug)]
pub struct Interruption(());

impl Interruption {
    /// Begin to look out; one at a time in a process.
    pub fn watch() -> Self {
        Self::watch_saying("this step ends and the state is saved")
    }

    /// As [`Self::watch`], for work that ends in another way than a step of training does: what to say of it when the signal comes.
    pub fn watch_saying(what: &'static str) -> Self {
        *SAID.lock().unwrap_or_else(PoisonError::into_inner) = what;
        ASKED_FOR.store(true, Ordering::SeqCst);
        Self(())
    }

    /// The work was done when the signal came, as that of a service is, which nothing else ends: the process ends as one that nobody
    /// interrupted.
    pub fn done(self) {
        SIGNAL.store(0, Ordering::SeqCst);
    }

    /// True once SIGINT or SIGTERM came: to be asked between steps.
    pub fn requested(&self) -> bool {
        signal().is_some()
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        ASKED_FOR.store(false, Ordering::SeqCst);
    }
}

/// The signal that work was left to end by.
pub(crate) fn signal() -> Option<i32> {
    Some(SIGNAL.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
}

/// The code of a process ended by a signal, by custom.
pub(crate) fn code(signal: i32) -> u8 {
    (128 + signal) as u8
}

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begin to heed signals.
pub(crate) fn heed() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if ASKED_FOR.load(Ordering::SeqCst)
                && SIGNAL.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                let what = *SAID.lock().unwrap_or_else(PoisonError::into_inner);
                tracing::warn!("interrupted: {what}; interrupt again to stop at once");
                continue;
            }
            let directory = unfinished();
            if let Some(directory) = directory.as_ref() {
                // A worker may create a file while its directory is being removed, so once may not be enough.
                for _ in 0..10 {
                    if std::fs::remove_dir_all(directory).is_ok() || !directory.exists() {
                        break;
                    }
                }
            }
            // The lock is still held, so nothing moves on meanwhile.
            std::process::exit(i32::from(code(signal)));
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
