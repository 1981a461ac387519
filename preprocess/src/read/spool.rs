//! What can be read only once, such as standard input and named pipes, is copied to a file first: its hash has to be known
//! before the work, and its layout is told by looking at it. Messages and the lock name the source, not the copy.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use stage::Refusal;
use tempfile::TempDir;

/// What messages and the lock call standard input.
const STANDARD_INPUT: &str = "standard input";
/// What leads to it.
const STANDARD: [&str; 4] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// A file with what came from a source that can be read only once. It goes with this value.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    source: PathBuf,
    _directory: TempDir,
}

impl Spool {
    /// Reads `input` to its end where it is `-`, for standard input, or no file or directory that can be read again; `None`
    /// where it is one.
    ///
    /// # Errors
    /// A refusal of what cannot be read; what cannot be copied.
    pub fn of(input: &Path) -> anyhow::Result<Option<Self>> {
        let is_dash = input == Path::new("-");
        let again = std::fs::metadata(input).map(|found| found.is_file() || found.is_dir());
        // What does not exist is for others to say.
        if !is_dash && again.unwrap_or(true) {
            return Ok(None);
        }
        let is_standard = STANDARD.iter().any(|name| input == Path::new(name));
        let source = if is_standard { PathBuf::from(STANDARD_INPUT) } else { input.to_owned() };
        let shown = source.display();
        let unreadable = |error| Refusal::because(format!("cannot read {shown}, expected a table"), error);
        let mut from: Box<dyn io::Read> = if is_dash {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(input).map_err(unreadable)?)
        };
        // The first bytes apart, so that what cannot be read is not taken for what cannot be written.
        let mut start = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut from, 1), &mut start).map_err(unreadable)?;
        let context = || format!("cannot copy {shown} to a temporary file");
        let directory = tempfile::tempdir().with_context(context)?;
        let path = directory.path().join("copy");
        let mut file = File::create(&path).with_context(context)?;
        let mut whole = io::Read::chain(start.as_slice(), from);
        io::copy(&mut whole, &mut file).with_context(context)?;
        Ok(Some(Self { path, source, _directory: directory }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What messages call it: standard input, or the path that was given.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// What the lock calls it. The path of a pipe that a shell makes is another each time.
    pub fn name(&self) -> &str {
        if self.source == Path::new(STANDARD_INPUT) { STANDARD_INPUT } else { "a pipe" }
    }
}
