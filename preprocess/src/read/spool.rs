//! What can be read only once, such as standard input and named pipes, is copied to a file first: its hash has to be known
//! before the work, and its layout is told by looking at it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// A file with what came from a source that can be read only once. It goes with this value.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    _directory: TempDir,
}

impl Spool {
    /// Reads `input` to its end where it is `-`, for standard input, or no file or directory that can be read again; `None`
    /// where it is one.
    ///
    /// # Errors
    /// What cannot be read, or copied.
    pub fn of(input: &Path) -> anyhow::Result<Option<Self>> {
        let is_standard = input == Path::new("-");
        let again = std::fs::metadata(input).map(|found| found.is_file() || found.is_dir());
        // What does not exist is for others to say.
        if !is_standard && again.unwrap_or(true) {
            return Ok(None);
        }
        let context = || format!("cannot copy {} to a temporary file", input.display());
        let directory = tempfile::tempdir().with_context(context)?;
        let path = directory.path().join("standard-input");
        let mut file = File::create(&path).with_context(context)?;
        if is_standard {
            io::copy(&mut io::stdin().lock(), &mut file).with_context(context)?;
        } else {
            io::copy(&mut File::open(input).with_context(context)?, &mut file).with_context(context)?;
        }
        Ok(Some(Self { path, _directory: directory }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
