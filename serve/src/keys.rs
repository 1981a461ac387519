//! Keys of clients. A key stands for an account, or for a client that asks for many. A file holds a hash of each, so that whoever reads
//! the file cannot ask with it, and a key is compared with all of them in constant time.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use stage::Refusal;
use stage::output::claim_within;

use crate::limits::{Limit, Rates};
use crate::problem::Problem;

/// What hashes are made under.
const HASHED: &str = "gro-rs client key v1";

/// What a key begins with, so that it is recognised where it does not belong.
const PREFIX: &str = "gro_";

/// How long others that write the file are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom a key stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody who asks for many accounts: a shop, an app.
    #[default]
    Client,
    /// One account, of the name of the key.
    Account,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a key with name, kind and hash")]
struct Entry {
    name: String,
    kind: Kind,
    /// BLAKE3 of the key, 64 hexadecimal digits.
    hash: String,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "`keys:` and a list, as `gro-serve key` writes it")]
struct Written {
    keys: Vec<Entry>,
}

/// Somebody who may ask.
#[derive(Debug)]
pub struct Holder {
    /// The name of the key; nobody's where none is needed.
    pub name: String,
    /// Whom it stands for.
    pub kind: Kind,
    /// How much he may ask.
    pub limit: Limit,
    hash: Option<blake3::Hash>,
}

/// Everybody who may ask.
#[derive(Debug)]
pub struct Keys {
    holders: Vec<Arc<Holder>>,
    /// Who asks without a key, where none is needed.
    anyone: Option<Arc<Holder>>,
}

impl Keys {
    /// No key is needed, and all that is asked counts against one limit.
    pub fn open(rates: Rates) -> Self {
        let limit = Limit::new(rates);
        let anyone = Holder { name: "anyone".to_owned(), kind: Kind::Client, limit, hash: None };
        Self { holders: Vec::new(), anyone: Some(Arc::new(anyone)) }
    }

    /// The keys of a file; where one states no rates, `rates` hold. Somebody whose name was there `before` keeps the count of what he asked
    /// that day, and under the same key and rates that of the second.
    ///
    /// # Errors
    /// A refusal for a file that holds no keys, or two of one name.
    pub fn read(path: &Path, rates: Rates, before: Option<&Self>) -> Result<Self> {
        let refused = |message: String| Refusal::new(format!("{}: {message}", path.display()));
        let Written { keys } = read(path)?.ok_or_else(|| {
            refused("no such file; `gro-serve key --keys FILE --name NAME` makes one".to_owned())
        })?;
        let mut holders: Vec<Arc<Holder>> = Vec::with_capacity(keys.len());
        for Entry { name, kind, hash, rates: own } in keys {
            let hash = blake3::Hash::from_hex(&hash).map_err(|source| {
                refused(format!("the hash of {name}: {source}, expected 64 hexadecimal digits"))
            })?;
            if holders.iter().any(|holder| holder.name == name) {
                return Err(refused(format!("two keys are called {name}")).into());
            }
            let rates = own.or(rates);
            let hash = Some(hash);
            let earlier = before.into_iter().flat_map(|before| &before.holders);
            holders.push(match earlier.into_iter().find(|earlier| earlier.name == name) {
                Some(same) if same.hash == hash && same.kind == kind && same.limit.rates() == rates => {
                    Arc::clone(same)
                }
                Some(other) => Arc::new(Holder { name, kind, limit: other.limit.with_rates(rates), hash }),
                None => Arc::new(Holder { name, kind, limit: Limit::new(rates), hash }),
            });
        }
        if holders.is_empty() {
            return Err(refused("holds no key, so nobody could ask".to_owned()).into());
        }
        Ok(Self { holders, anyone: None })
    }

    /// Everybody who may ask, by name.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.holders.iter().chain(&self.anyone).map(|holder| &**holder)
    }

    /// Whether no key is needed.
    pub fn are_open(&self) -> bool {
        self.anyone.is_some()
    }

    /// Who asks with this header `Authorization`.
    ///
    /// # Errors
    /// A problem, the same for every key that is not here.
    pub fn who(&self, authorization: Option<&[u8]>) -> Result<Arc<Holder>, Problem> {
        if let Some(anyone) = &self.anyone {
            return Ok(Arc::clone(anyone));
        }
        let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        let given = authorization.ok_or_else(|| refused("a key is needed: Authorization: Bearer KEY"))?;
        let key = given
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, key)| key.trim_ascii())
            .ok_or_else(|| refused("expected the header Authorization: Bearer KEY"))?;
        let hash = hash(key);
        let mut found = None;
        for holder in &self.holders {
            // Hashes of this type are compared in constant time, and all of them are.
            if holder.hash == Some(hash) {
                found = Some(holder);
            }
        }
        found.cloned().ok_or_else(|| refused("this key is not known here"))
    }
}

fn hash(key: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key(HASHED);
    hasher.update(key);
    hasher.finalize()
}

/// What stands in the file at `path`; None where there is none. A file that others may read is refused.
fn read(path: &Path) -> Result<Option<Written>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => {
            text.map_err(|source| Refusal::because(format!("{}: cannot be read", path.display()), source))?
        }
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message =
                format!("{}: others can read this file (mode {mode:o}); chmod 600 it", path.display());
            return Err(Refusal::new(message).into());
        }
    }
    let written = serde_yaml::from_str(&text)
        .map_err(|source| Refusal::because(format!("{}: no file of keys", path.display()), source))?;
    Ok(Some(written))
}

/// What `gro-serve key` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// File that holds the hashes of keys; made where there is none
    #[arg(long, value_name = "FILE")]
    pub keys: PathBuf,
    /// What the key is called, in the file and in logs; the name of the account, where it stands for one
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Whom it stands for
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Kind::Client)]
    pub kind: Kind,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub rates: Rates,
    /// Give the name a new key, and let the old one be known no more
    #[arg(long)]
    pub replace: bool,
}

/// Makes a key, prints it, and keeps its hash in the file.
///
/// # Errors
/// A refusal for a name that has a key, or a file of something else; a key that cannot be printed.
pub fn make(arguments: &Arguments) -> Result<()> {
    let Arguments { keys: path, name, kind, rates, replace } = arguments;
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err(Refusal::new("--name: expected 1 to 128 bytes without control characters").into());
    }
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !beside.is_dir() {
        let message = format!("{}: there is no folder {}; make it first", path.display(), beside.display());
        return Err(Refusal::new(message).into());
    }
    // The file is read and replaced: of two that did so at once, the key of one would be lost.
    let _alone = claim_within(beside, PATIENCE).map_err(|_| {
        Refusal::new(format!("{}: another run is writing it or beside it; wait for it", path.display()))
    })?;
    let mut written = read(path)?.unwrap_or_default();
    let before = written.keys.len();
    written.keys.retain(|entry| !replace || entry.name != *name);
    if *replace && written.keys.len() == before {
        let message = format!("{}: no key is called {name}, so there is none to replace", path.display());
        return Err(Refusal::new(message).into());
    }
    if written.keys.iter().any(|entry| entry.name == *name) {
        let message = format!("{}: {name} has a key; --replace gives it a new one", path.display());
        return Err(Refusal::new(message).into());
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|source| anyhow::anyhow!("no key can be drawn: {source}"))?;
    let key = format!("{PREFIX}{}", blake3::Hash::from_bytes(bytes).to_hex());
    let hash = hash(key.as_bytes()).to_hex().to_string();
    written.keys.push(Entry { name: name.clone(), kind: *kind, hash, rates: *rates });
    let text = serde_yaml::to_string(&written)?;
    let cannot = || format!("{}: cannot be written", path.display());
    // A new file is its owner's alone.
    let mut file = tempfile::NamedTempFile::new_in(beside).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    // A key that nobody saw is not kept.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{key}")
        .and_then(|()| stdout.flush())
        .with_context(|| format!("the key cannot be printed, so {} does not know it", path.display()))?;
    file.persist(path).with_context(|| {
        format!("{}: cannot be written, so the key that was printed is of no use", path.display())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::private;

    fn keys(text: &str, before: Option<&Keys>) -> Result<Keys> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.yaml");
        private(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Keys::read(&path, Rates::default(), before)
    }

    fn file_of(names: &[(&str, &str)]) -> String {
        let entry = |(name, key): &(&str, &str)| {
            format!("- name: {name}\n  kind: client\n  hash: {}\n", hash(key.as_bytes()).to_hex())
        };
        format!("keys:\n{}", names.iter().map(entry).collect::<String>())
    }

    #[test]
    fn a_key_is_known_by_its_hash() {
        let keys = keys(&file_of(&[("a", "gro_1"), ("b", "gro_2")]), None).unwrap();
        assert_eq!(keys.who(Some(b"Bearer gro_2")).unwrap().name, "b");
        assert_eq!(keys.who(Some(b"bearer  gro_1 ")).unwrap().name, "a");
        for given in [None, Some(&b"Bearer gro_3"[..]), Some(b"Basic gro_1"), Some(b"gro_1"), Some(b"")] {
            assert_eq!(keys.who(given).unwrap_err().status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(Keys::open(Rates::default()).who(None).unwrap().name, "anyone");
    }

    #[test]
    fn who_stays_keeps_his_count() {
        let text = file_of(&[("a", "gro_1")]);
        let before = keys(&text, None).unwrap();
        let again = keys(&text, Some(&before)).unwrap();
        assert!(Arc::ptr_eq(&before.holders[0], &again.holders[0]));
        let other = keys(&file_of(&[("a", "gro_2")]), Some(&before)).unwrap();
        assert!(!Arc::ptr_eq(&before.holders[0], &other.holders[0]));
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused() {
        for (text, expected) in [
            ("keys: []", "holds no key"),
            ("garbage", "expected `keys:` and a list, as `gro-serve key` writes it"),
            ("keys:\n- name: a\n  kind: client\n  hash: 12\n", "64 hexadecimal digits"),
            ("keys:\n- name: a\n  kind: thief\n  hash: 12\n", "no file of keys"),
            (&file_of(&[("a", "1"), ("a", "2")]), "two keys are called a"),
        ] {
            let error = format!("{:#}", keys(text, None).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
