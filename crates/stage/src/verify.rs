//! Is a tree of outputs what its stages wrote? Every directory with a lock in it is compared with that lock: its files,
//! and the inputs that are at hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use artifact::digest;

use crate::Refusal;
use crate::lock::{Entry, LOCK, Lock};
use crate::output::{files, is_declared};

/// What became of an output directory since a stage wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The directory.
    pub directory: PathBuf,
    /// The command that wrote it; `None` where the lock itself is damaged.
    pub command: Option<String>,
    /// Files that the lock lists.
    pub listed: usize,
    /// What is wrong with it, file by file; empty for a directory as it was written.
    pub damage: Vec<String>,
    /// Inputs that have changed since, so that the stage would do its work again. An input that is not at hand, as where an
    /// output was copied alone, is not among them.
    pub outdated: Vec<String>,
}

/// Compares every directory at or below `root` that has a lock, in the order of their names.
///
/// # Errors
/// A refusal where there is none; a directory that cannot be read.
pub fn tree(root: &Path) -> anyhow::Result<Vec<Verdict>> {
    let mut directories = Vec::new();
    locked(root, &mut directories).with_context(|| format!("cannot read {}", root.display()))?;
    if directories.is_empty() {
        let message =
            format!("{} holds no {LOCK}, expected the output of a stage, or several", root.display());
        return Err(Refusal::new(message).into());
    }
    directories.into_iter().map(directory).collect()
}

fn locked(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if directory.join(LOCK).is_file() {
        found.push(directory.to_owned());
    }
    let mut entries = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // What is being written, or was by a run that was killed, is no output yet.
        let unfinished = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type()?.is_dir() && !unfinished {
            locked(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn directory(directory: PathBuf) -> anyhow::Result<Verdict> {
    let lock = match Lock::read(&directory) {
        Ok(Some(lock)) => lock,
        Ok(None) => anyhow::bail!("{} is gone", directory.join(LOCK).display()),
        Err(damaged) => {
            let damage = vec![damaged.to_string()];
            return Ok(Verdict { directory, command: None, listed: 0, damage, outdated: Vec::new() });
        }
    };
    let mut damage: Vec<String> =
        lock.outputs.iter().filter_map(|entry| difference(&directory, entry)).collect();
    for path in files(&directory)? {
        // A directory within that has a lock of its own is judged by that.
        let beneath =
            path.rsplit_once('/').is_some_and(|(inner, _)| directory.join(inner).join(LOCK).exists());
        if is_declared(&path) && !beneath && !lock.outputs.iter().any(|entry| entry.path == path) {
            damage.push(format!("{path} is not in {LOCK}"));
        }
    }
    let inputs = lock.cause.inputs.iter().filter(|entry| directory.join(&entry.path).exists());
    let outdated = inputs.filter_map(|entry| difference(&directory, entry)).collect();
    Ok(Verdict { command: Some(lock.cause.command), listed: lock.outputs.len(), damage, outdated, directory })
}

/// How a file differs from its entry.
fn difference(directory: &Path, entry: &Entry) -> Option<String> {
    let path = &entry.path;
    match digest::file(&directory.join(path)) {
        Ok(found) if found == entry.digest => None,
        Ok(found) if found.size == entry.digest.size => Some(format!("{path} was edited: its hash differs")),
        Ok(found) => Some(format!("{path} has {} bytes, expected {}", found.size, entry.digest.size)),
        Err(_) if directory.join(path).exists() => Some(format!("{path} cannot be read")),
        Err(_) => Some(format!("{path} is missing")),
    }
}
