//! The hash of a file's bytes. Locks compare outputs and inputs by it, so it is streamed: a file of any size is hashed in
//! a fixed amount of memory.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Size and BLAKE3 hash of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 in 64 lower-case hexadecimal digits, as `b3sum` prints it.
    pub blake3: String,
}

/// Hash the file at `path`.
///
/// # Errors
/// An input error when the file is missing or unreadable.
pub fn file(path: &Path) -> Result<Digest, Error> {
    let refuse = |source: std::io::Error| Error::read(path, "expected a readable file", source);
    let opened = File::open(path).map_err(refuse)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(opened).map_err(refuse)?;
    Ok(Digest { size: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
}

/// BLAKE3 of `bytes`, in 64 lower-case hexadecimal digits.
pub fn bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
