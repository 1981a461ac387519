//! For tests: what a reader makes of inputs that were damaged. From valid inputs, the *seeds*, it draws others that are cut,
//! flipped, spliced and stuffed, and hands each to the reader, which may refuse it but must not panic, hang or take the process
//! down.
//!
//! A target is a test in `tests/fuzz.rs` of the crate whose reader it is:
//!
//! ```
//! use fuzzing::Target;
//!
//! Target::new("numbers", [b"12".to_vec()]).tokens(&["-", "e9"]).holds(|bytes| {
//!     let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
//!     // An answer or an error: both are fine. What must hold of either is asserted here.
//!     text.parse::<f64>().map(drop).map_err(|error| error.to_string())
//! });
//! ```
//!
//! `FUZZ_CASES` says how many inputs each target sees: few by default, so that every test run takes them; `make fuzz` gives a
//! million. `FUZZ_SEED` draws others: equal seeds, equal inputs. An input at fault is shrunk and printed. Where `FUZZ_KEEP`
//! names a directory, each input lies there while it is being read, for what no test can catch, such as an abort.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Inputs a target sees where nobody says how many.
const CASES: u32 = 2_000;
/// Changes of an input at most.
const CHANGES: usize = 5;

/// One change of an input. Places and lengths are shares of what is there.
#[derive(Clone, Debug)]
enum Change {
    /// One bit is another.
    Flip(Index, u8),
    /// One byte is another.
    Set(Index, u8),
    /// A number of this many bytes, little endian, is another.
    Number(Index, u64, usize),
    /// What is between two places is gone.
    Cut(Index, Index),
    /// What follows a place is gone.
    End(Index),
    /// Bytes are put in.
    Insert(Index, Vec<u8>),
    /// A word of the format is put in.
    Token(Index, Index),
    /// A piece is there twice, the second time elsewhere.
    Repeat(Index, Index, Index),
    /// From a place on it is another seed, from a place of that.
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let numbers = prop_oneof![
        Just(0_u64),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(u64::from(u32::MAX)),
        Just(1 << 31),
        any::<u64>()
    ];
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(place, bit)| Change::Flip(place, bit)),
        2 => (at(), any::<u8>()).prop_map(|(place, byte)| Change::Set(place, byte)),
        1 => (at(), numbers, prop_oneof![Just(1), Just(2), Just(4), Just(8)])
            .prop_map(|(place, number, size)| Change::Number(place, number, size)),
        1 => (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        1 => at().prop_map(Change::End),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(place, bytes)| Change::Insert(place, bytes)),
        2 => (at(), at()).prop_map(|(place, word)| Change::Token(place, word)),
        1 => (at(), at(), at()).prop_map(|(from, to, place)| Change::Repeat(from, to, place)),
        1 => (at(), at(), at()).prop_map(|(place, seed, from)| Change::Splice(place, seed, from)),
    ]
}

/// A reader to be tried, and what it is tried on.
pub struct Target {
    name: String,
    seeds: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
}

impl Target {
    /// A reader of that name, and valid inputs of it: small ones, that every change meets something.
    ///
    /// # Panics
    /// Without seeds.
    pub fn new(name: &str, seeds: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let seeds: Vec<Vec<u8>> = seeds.into_iter().collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        Self { name: name.to_owned(), seeds, tokens: Vec::new() }
    }

    /// Words of the format, to be put in anywhere.
    #[must_use]
    pub fn tokens(mut self, tokens: &[&str]) -> Self {
        self.tokens.extend(tokens.iter().map(|token| token.as_bytes().to_vec()));
        self
    }

    /// Gives the seeds, and then inputs made of them, to `read`, which says what the reader made of them and panics where that is
    /// wrong.
    ///
    /// # Panics
    /// Where `read` does, with the input, and where it refuses a seed.
    pub fn holds(&self, read: impl Fn(&[u8]) -> Result<(), String>) {
        for seed in &self.seeds {
            read(seed).unwrap_or_else(|refusal| panic!("{}: a valid input is refused: {refusal}", self.name));
        }
        let (cases, seed) =
            (number("FUZZ_CASES").unwrap_or(u64::from(CASES)), number("FUZZ_SEED").unwrap_or(0));
        let kept = std::env::var_os("FUZZ_KEEP").map(|directory| PathBuf::from(directory).join(&self.name));
        let (read_whole, refused) = (Cell::new(0_u64), Cell::new(0_u64));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: u32::try_from(cases).unwrap_or(u32::MAX),
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        // Half of them have a single change, and the better chance to get far.
        let changes =
            prop_oneof![prop::collection::vec(change(), 1), prop::collection::vec(change(), 1..=CHANGES)];
        let inputs = (any::<Index>(), changes);
        let outcome = runner.run(&inputs, |(seed, changes)| {
            let input = self.changed(&self.seeds[seed.index(self.seeds.len())], &changes);
            if let Some(path) = &kept {
                keep(path, &input).map_err(|error| TestCaseError::fail(error.to_string()))?;
            }
            match read(&input) {
                Ok(()) => read_whole.set(read_whole.get() + 1),
                Err(_) => refused.set(refused.get() + 1),
            }
            Ok(())
        });
        if let Err(TestError::Fail(reason, (seed, changes))) = outcome {
            let input = self.changed(&self.seeds[seed.index(self.seeds.len())], &changes);
            panic!("{}: {reason}\ninput: {}", self.name, shown(&input));
        }
        #[expect(clippy::print_stderr, reason = "what a test says")]
        {
            eprintln!("{}: {cases} inputs, {} read, {} refused", self.name, read_whole.get(), refused.get());
        }
    }

    /// The same for a reader of files: every input is written to `file`, whose path `read` is given.
    ///
    /// # Panics
    /// As [`Target::holds`], and where the file cannot be written.
    pub fn holds_in(&self, file: &Path, read: impl Fn(&Path) -> Result<(), String>) {
        self.holds(|input| {
            std::fs::write(file, input).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            read(file)
        });
    }

    fn changed(&self, seed: &[u8], changes: &[Change]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for change in changes {
            let length = bytes.len();
            // A place between two bytes, and one on a byte.
            let between = |place: &Index| place.index(length + 1);
            let on = |place: &Index| if length == 0 { None } else { Some(place.index(length)) };
            let span = |from: &Index, to: &Index| {
                let (from, to) = (between(from), between(to));
                from.min(to)..from.max(to)
            };
            match change {
                Change::Flip(place, bit) => {
                    if let Some(place) = on(place) {
                        bytes[place] ^= 1 << bit;
                    }
                }
                Change::Set(place, byte) => {
                    if let Some(place) = on(place) {
                        bytes[place] = *byte;
                    }
                }
                Change::Number(place, number, size) => {
                    if let Some(place) = on(place) {
                        let end = length.min(place + size);
                        bytes[place..end].copy_from_slice(&number.to_le_bytes()[..end - place]);
                    }
                }
                Change::Cut(from, to) => drop(bytes.drain(span(from, to))),
                Change::End(place) => bytes.truncate(between(place)),
                Change::Insert(place, more) => {
                    let place = between(place);
                    bytes.splice(place..place, more.iter().copied());
                }
                Change::Token(place, word) => {
                    if !self.tokens.is_empty() {
                        let place = between(place);
                        bytes
                            .splice(place..place, self.tokens[word.index(self.tokens.len())].iter().copied());
                    }
                }
                Change::Repeat(from, to, place) => {
                    let piece = bytes[span(from, to)].to_vec();
                    let place = between(place);
                    bytes.splice(place..place, piece);
                }
                Change::Splice(place, seed, from) => {
                    let other = &self.seeds[seed.index(self.seeds.len())];
                    bytes.truncate(between(place));
                    bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
                }
            }
        }
        bytes
    }
}

fn keep(path: &Path, input: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, input)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text}, expected a whole number")))
}

/// A directory in memory where there is one: a million files are written to it.
///
/// # Panics
/// Where none can be made.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap_or_else(|error| panic!("no temporary directory: {error}"))
}

/// Text as it is, other bytes as Rust writes them.
fn shown(input: &[u8]) -> String {
    let mut text = String::from("b\"");
    for &byte in input {
        // Writing to a string cannot fail.
        write!(text, "{}", byte.escape_ascii()).ok();
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_changed_seeds_and_a_panic_is_told_with_its_input() {
        let target = Target::new("letters", [b"abcdef".to_vec(), b"ghijkl".to_vec()]).tokens(&["<token>"]);
        let (same, tokens, spliced) = (Cell::new(0), Cell::new(0), Cell::new(0));
        target.holds(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let count = |cell: &Cell<u32>, counts: bool| cell.set(cell.get() + u32::from(counts));
            count(&same, text == "abcdef");
            count(&tokens, text.contains("<token>"));
            count(&spliced, text.contains('a') && text.contains('k'));
            Ok(())
        });
        assert!(
            same.get() < 100 && tokens.get() > 200 && spliced.get() > 50,
            "{same:?} {tokens:?} {spliced:?}"
        );
        let fails = std::panic::catch_unwind(|| {
            target.holds(|bytes| {
                assert!(!bytes.ends_with(b"<token>"), "it ends so");
                Ok(())
            });
        });
        let message = *fails.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("it ends so") && message.contains("<token>\""), "{message}");
    }
}
