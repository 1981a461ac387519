//! `stage.lock`: what an output directory was made from and what it holds, in the manner of dvc.lock.
//!
//! It serves two readers. The stage that wrote it finds in it whether its work is still up to date; the next stage finds
//! in it whether its input arrived whole. It holds no time, no host and no absolute path, so equal runs leave equal locks.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use artifact::digest::{self, Digest};
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use crate::Refusal;

/// Name of the lock inside an output directory.
pub(crate) const LOCK: &str = "stage.lock";

/// A file with its size and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Relative to the directory of the lock, with `/` between its parts.
    pub(crate) path: String,
    /// Size and hash.
    #[serde(flatten)]
    pub(crate) digest: Digest,
}

/// Everything that decides what a stage writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// Binary and subcommand.
    pub(crate) command: String,
    /// Version of this workspace.
    pub(crate) version: String,
    /// Arguments that choose what is done, such as `method`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) arguments: BTreeMap<String, String>,
    /// The seed.
    pub(crate) seed: u64,
    /// The sections of the settings that the stage depends on, resolved.
    pub(crate) settings: Value,
    /// What it read.
    pub(crate) inputs: Vec<Entry>,
}

/// The file as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lock {
    #[serde(flatten)]
    pub(crate) cause: Cause,
    /// What it wrote.
    pub(crate) outputs: Vec<Entry>,
}

impl Lock {
    /// The lock in `directory`, or `None` without one.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, Refusal> {
        let path = directory.join(LOCK);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Refusal::because(format!("cannot read {}", path.display()), error)),
        };
        serde_yaml::from_str(&text).map(Some).map_err(|source| {
            let message = format!(
                "{} is damaged; run the stage that wrote {} again with --force",
                path.display(),
                directory.display()
            );
            Refusal::because(message, source)
        })
    }

    /// The lock as text.
    pub(crate) fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// True when every output is still there as it was written.
    pub(crate) fn outputs_are_whole(&self, directory: &Path) -> bool {
        self.outputs.iter().all(|entry| {
            let path = directory.join(&entry.path);
            let size = std::fs::metadata(&path).map(|metadata| metadata.len());
            // The size first: a missing or truncated file needs no hash.
            size.is_ok_and(|size| size == entry.digest.size)
                && digest::file(&path).is_ok_and(|digest| digest == entry.digest)
        })
    }
}

/// Refuse an input that is not as the lock beside it says.
pub(crate) fn check_against_neighbour(input: &Path, found: &Digest) -> Result<(), Refusal> {
    let (Some(directory), Some(name)) = (input.parent(), input.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(());
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Some(lock) = Lock::read(directory)? else { return Ok(()) };
    let Some(entry) = lock.outputs.iter().find(|entry| entry.path == name) else { return Ok(()) };
    if entry.digest == *found {
        return Ok(());
    }
    let difference = if entry.digest.size == found.size {
        "its hash differs from".to_owned()
    } else {
        format!("it has {} bytes, not the {} of", found.size, entry.digest.size)
    };
    Err(Refusal::new(format!(
        "{} was truncated, edited or replaced after `{}` wrote it: {difference} {LOCK} beside it; copy it again or rerun that stage",
        input.display(),
        lock.cause.command
    )))
}

/// `path` as seen from `directory`; both are absolute and without `.` or `..`.
pub(crate) fn relative(path: &Path, directory: &Path) -> String {
    let (path, directory): (Vec<_>, Vec<_>) = (path.components().collect(), directory.components().collect());
    let shared = path.iter().zip(&directory).take_while(|(left, right)| left == right).count();
    let up = std::iter::repeat_n(Component::ParentDir, directory.len() - shared);
    let route: PathBuf = up.chain(path[shared..].iter().copied()).collect();
    route.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::relative;
    use std::path::Path;

    #[test]
    fn paths_are_seen_from_the_output() {
        let cases = [
            ("/a/data/x", "/a/out", "../data/x"),
            ("/a/out/x", "/a/out", "x"),
            ("/x", "/a/b", "../../x"),
            ("/a/b/c/x", "/a/d/e", "../../b/c/x"),
        ];
        for (path, directory, expected) in cases {
            assert_eq!(relative(Path::new(path), Path::new(directory)), expected);
        }
    }
}
