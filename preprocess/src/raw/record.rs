//! `source.json` beside a data set: where its file came from, and the checksum by which it is known again. Whatever takes a
//! place in the directory appears whole or not at all.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use md5::Digest;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stage::Refusal;

/// What lies beside the data and says where they came from.
pub const RECORD: &str = "source.json";

/// Where a file came from and what it was then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// In words: a URL, a wheel, or a person's hand.
    pub source: String,
    /// The file in the same directory.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl Record {
    /// The record in a directory, if there is one.
    ///
    /// # Errors
    /// A refusal where the file is not as this program writes it.
    pub fn read(directory: &Path) -> anyhow::Result<Option<Self>> {
        let path = directory.join(RECORD);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let record = serde_json::from_str(&text).map_err(|error| {
            Refusal::new(format!("{}: {error}; delete it to fetch the data again", path.display()))
        })?;
        Ok(Some(record))
    }

    /// Writes down where the file `name`, which is in place, came from.
    pub fn write(directory: &Path, name: &str, source: &str) -> anyhow::Result<()> {
        let path = directory.join(name);
        let record = Self {
            source: source.to_owned(),
            file: name.to_owned(),
            bytes: fs::metadata(&path)?.len(),
            sha256: digest::<Sha256>(&path)?,
        };
        let text = serde_json::to_string_pretty(&record)? + "\n";
        place(directory, RECORD, None, |file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", directory.join(RECORD).display()))?;
        tracing::info!("{} is in place and verified (from {source})", path.display());
        Ok(())
    }

    /// Writes down a file of which the publisher gives no checksum.
    pub fn pin(directory: &Path, name: &str) -> anyhow::Result<()> {
        tracing::warn!(
            "no checksum is published for {name} itself; it is used as it is and pinned in {RECORD}"
        );
        Self::write(directory, name, &format!("{name} placed by hand, pinned as first seen"))
    }

    /// Refuses the file at `path` to be used as `name` in `directory`, where this record is of another file of that name.
    pub fn check(&self, path: &Path, name: &str, directory: &Path) -> anyhow::Result<()> {
        if self.file != name {
            return Ok(());
        }
        let found = digest::<Sha256>(path)?;
        if found == self.sha256 {
            return Ok(());
        }
        let message = format!(
            "{} has the SHA-256 {found}, not {} as when {name} was first seen (from {}); put that file back, or delete {} \
             to go on with another",
            path.display(),
            self.sha256,
            self.source,
            directory.join(RECORD).display()
        );
        Err(Refusal::new(message).into())
    }
}

/// Writes `<directory>/<name>` so that it is there as a whole, and with the SHA-256 that is given, or not at all.
pub(super) fn place(
    directory: &Path,
    name: &str,
    sha256: Option<&str>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> anyhow::Result<()> {
    let beside = directory.join(format!(".{name}.unfinished"));
    let finish = || -> anyhow::Result<()> {
        let mut file = File::create(&beside)?;
        write(&mut file)?;
        file.sync_all()?;
        if let Some(sha256) = sha256 {
            check::<Sha256>(&beside, sha256, "SHA-256")?;
        }
        fs::rename(&beside, directory.join(name))?;
        Ok(())
    };
    finish().inspect_err(|_| {
        // The first error is the one to tell; what cannot be removed is overwritten next time.
        fs::remove_file(&beside).ok();
    })
}

/// Refuses a file whose digest is not the expected one.
pub(super) fn check<D: Digest>(path: &Path, expected: &str, algorithm: &str) -> anyhow::Result<()> {
    let found = digest::<D>(path)?;
    if found != expected {
        let message = format!(
            "{} has the {algorithm} {found}, expected {expected}; it is damaged or another version, so replace it",
            path.display()
        );
        return Err(Refusal::new(message).into());
    }
    Ok(())
}

/// The digest of a file in hexadecimal.
pub(super) fn digest<D: Digest>(path: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(context)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let mut text = String::new();
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
