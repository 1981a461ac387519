//! What each key has asked today, on disk, so that a day has its questions however often the service is started: a file in the directory of
//! the log, written anew each second in which anything was asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stage::Refusal;

use crate::journal::private;
use crate::keys::Keys;
use crate::limits::Day;

/// The file, in the directory of the log.
const FILE: &str = "asked-today.json";

/// How often it is written.
const EVERY: Duration = Duration::from_secs(1);

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// Days since 1970 (UTC).
    day: u64,
    /// Questions of that day, by the name of the key.
    asked: BTreeMap<String, u64>,
}

impl Counts {
    fn of(keys: &Keys) -> Self {
        let all = || keys.holders().map(|holder| (&holder.name, holder.limit.asked()));
        let day = all().map(|(_, day)| day.number).max().unwrap_or(0);
        let of_day = all().filter(|(_, of)| of.number == day && of.asked > 0);
        Self { day, asked: of_day.map(|(name, of)| (name.clone(), of.asked)).collect() }
    }

    fn read(path: &Path) -> Result<Self> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| Refusal::new(format!("{}: cannot be read", path.display())))?,
        };
        Ok(serde_json::from_slice(&text).map_err(|source| {
            let message = format!("{}: no counts of a day; remove it, and they begin anew", path.display());
            Refusal::because(message, source)
        })?)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_extension("unfinished");
        let written = || -> std::io::Result<()> {
            let mut file = private(&unfinished)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&unfinished, path)
        };
        written().with_context(|| format!("{}: cannot be written", path.display()))
    }
}

/// Looks whether what is kept in `directory` can be read, before anything else is written there.
///
/// # Errors
/// A refusal for a file of something else.
pub fn check(directory: &Path) -> Result<()> {
    Counts::read(&directory.join(FILE)).map(drop)
}

/// The thread that writes.
#[derive(Debug)]
pub struct Tally {
    end: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Tally {
    /// Lets `keys` go on from what was counted in `directory`, and keeps there what is counted of those that `now` returns.
    ///
    /// # Errors
    /// A refusal for a file of something else, or one that cannot be read or written.
    pub fn keep(directory: &Path, keys: &Keys, now: impl Fn() -> Arc<Keys> + Send + 'static) -> Result<Self> {
        let path = directory.join(FILE);
        let before = Counts::read(&path)?;
        for holder in keys.holders() {
            if let Some(&asked) = before.asked.get(&holder.name) {
                holder.limit.resume(Day { number: before.day, asked });
            }
        }
        before.write(&path).with_context(|| Refusal::new("the counts of the day cannot be kept"))?;
        let (end, ended) = mpsc::channel();
        let work = move || {
            follow(&path, before, &now, || ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout))
        };
        let thread = std::thread::Builder::new().name("tally".to_owned()).spawn(work);
        Ok(Self { end, thread: thread.context("cannot start the thread that counts")? })
    }

    /// Writes what was counted to the end.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn end(self) -> Result<()> {
        drop(self.end);
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread that counts panicked"))?
    }
}

/// Writes whenever something was counted, as long as there is more to come, and once more. What cannot be written is said once.
fn follow(
    path: &Path,
    mut written: Counts,
    now: &dyn Fn() -> Arc<Keys>,
    more: impl Fn() -> bool,
) -> Result<()> {
    let mut failed = false;
    loop {
        let more = more();
        let counts = Counts::of(&now());
        if counts != written {
            match counts.write(path) {
                Ok(()) => (written, failed) = (counts, false),
                Err(error) if !more => return Err(error),
                Err(error) if !failed => {
                    tracing::error!("a service that starts now would begin to count anew: {error:#}");
                    failed = true;
                }
                Err(_) => {}
            }
        }
        if !more {
            return Ok(());
        }
    }
}
