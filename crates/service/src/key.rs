//! The secret of a service whose answers depend on one. Whoever has it can tell the decoys from the true lists, and only who
//! has it can prove a theft by them, so it stands in a file of its own, which nobody but its owner may read, and never in a
//! model, a log or a report.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result};

/// Name of a key inside the directory of a protected target.
pub const KEY: &str = "answer.key";

/// Bytes of a key.
const BYTES: usize = 32;

/// What a fingerprint is made under, so that it is the hash of nothing else.
const FINGERPRINT: &str = "gro-rs answer key fingerprint v1";

/// What public keys are made under.
const PUBLIC: &str = "gro-rs public key v1";

/// What a key of a seed is made under.
const OF_SEED: &str = "gro-rs answer key of a seed v1";

/// A secret key of 256 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; BYTES]);

/// Shows the fingerprint only, so that no log ever holds a key.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.fingerprint())
    }
}

impl Key {
    /// A key from the randomness of the operating system.
    ///
    /// # Errors
    /// [`Error::Key`] where the system gives none.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; BYTES];
        let path = Path::new("the operating system's randomness");
        getrandom::fill(&mut bytes)
            .map_err(|source| Error::key(path, format!("no key can be drawn: {source}")))?;
        Ok(Self(bytes))
    }

    /// The key that belongs to a seed, for experiments that are to be repeated: whoever knows the seed knows it.
    pub fn of_seed(seed: u64) -> Self {
        Self(blake3::derive_key(OF_SEED, &seed.to_le_bytes()))
    }

    /// A key that is nobody's, known to everybody by its number: what the key of a service is compared with in a proof. Under a model that
    /// never saw the service's answers, each of them is as likely to fit as that one.
    pub fn public(number: u64) -> Self {
        Self(blake3::derive_key(PUBLIC, &number.to_le_bytes()))
    }

    /// What names a key without telling it: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        blake3::Hasher::new_derive_key(FINGERPRINT).update(&self.0).finalize().to_hex()[..16].to_owned()
    }

    /// A stream of draws that nobody without the key can foresee, for `purpose` at `place`: a history, or nothing.
    pub(crate) fn stream(&self, purpose: &str, place: &[u32]) -> ChaCha8Rng {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose.as_bytes()).update(&[0]);
        for item in place {
            hasher.update(&item.to_le_bytes());
        }
        ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
    }

    /// The stream for `purpose` after a history, of which its first and last item and its length are taken: one look-up, however long it is.
    pub(crate) fn stream_after(&self, purpose: &str, history: &[u32]) -> ChaCha8Rng {
        let [first, last] = [history.first(), history.last()].map(|item| item.copied().unwrap_or(0));
        self.stream(purpose, &[first, history.len() as u32, last])
    }

    /// Reads a key of 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Key`] for a file that is missing or holds something else. That others may read it is said aloud.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => {
                Error::key(path, "no such file; the answers of a guarded target depend on its key")
            }
            _ => Error::key(path, source.to_string()),
        };
        let file = File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                // Caches and checkouts lose the mode, so it is said and not refused.
                tracing::warn!("{}: others can read this key (mode {mode:o}); chmod 600 it", path.display());
            }
        }
        let mut text = String::new();
        file.take(4096).read_to_string(&mut text).map_err(failed)?;
        let digits = text.trim_end().as_bytes();
        let mut bytes = [0; BYTES];
        let read = digits.len() == 2 * BYTES && digits.is_ascii();
        let read = read
            && bytes.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| {
                let pair = std::str::from_utf8(pair).unwrap_or_default();
                u8::from_str_radix(pair, 16).is_ok_and(|value| {
                    *byte = value;
                    pair.bytes().all(|digit| digit.is_ascii_hexdigit())
                })
            });
        if !read {
            return Err(Error::key(path, format!("holds no key, expected {} hexadecimal digits", 2 * BYTES)));
        }
        Ok(Self(bytes))
    }

    /// Writes the key to a new file that its owner alone may read.
    ///
    /// # Errors
    /// [`Error::Key`] where the file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let digits = blake3::Hash::from_bytes(self.0).to_hex();
        let written =
            options.open(path).and_then(|mut file| file.write_all(format!("{digits}\n").as_bytes()));
        written.map_err(|source| Error::key(path, source.to_string()))
    }
}

/// Where the key of the target in `directory` lies unless somebody says otherwise.
pub fn key_path(directory: &Path) -> PathBuf {
    directory.join(KEY)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = key_path(directory.path());
        let key = Key::random().unwrap();
        key.write(&path).unwrap();
        assert_eq!(Key::read(&path).unwrap(), key);
        assert!(key.write(&path).unwrap_err().to_string().contains("exists"), "no key is overwritten");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "abc", &"g".repeat(64), &"0".repeat(63), &"+1".repeat(32)] {
            let path = directory.path().join("key");
            _ = std::fs::remove_file(&path);
            Key::of_seed(1).write(&path).unwrap();
            std::fs::write(&path, text).unwrap();
            assert!(Key::read(&path).unwrap_err().to_string().contains("64 hexadecimal digits"), "{text}");
        }
    }

    #[test]
    fn keys_differ_and_show_nothing_of_themselves() {
        let key = Key::of_seed(1);
        assert_ne!(key, Key::of_seed(2));
        assert_ne!(Key::public(0), Key::public(1));
        assert_eq!(format!("{key:?}"), format!("Key({})", key.fingerprint()));
        let draw = |key: &Key, purpose, place: &[u32]| key.stream(purpose, place).next_u64();
        assert_eq!(draw(&key, "decoys", &[1, 2]), draw(&key, "decoys", &[1, 2]));
        let others = [
            draw(&key, "canaries", &[1, 2]),
            draw(&key, "decoys", &[2, 1]),
            draw(&Key::public(0), "decoys", &[1, 2]),
        ];
        assert!(others.iter().all(|other| *other != draw(&key, "decoys", &[1, 2])));
    }
}
