//! What was asked of a service, and what it answered, on disk: a question is written down before it goes out, and its answer as it
//! comes. So a budget holds across whatever may befall the attacker, and no answer that came is asked for again.
//!
//! Counted is a question that was or may have been answered: one whose answer was kept, and one that went out and whose answer never
//! came, because the attacker was killed, the connection was cut, time ran out, or the service failed halfway. Not counted is one that the
//! service said it would not answer (429, 503 with `Retry-After`, 4xx), and one for which no connection came about.
//!
//! The file begins with a line that says what it belongs to. Then come records, each with a checksum, little endian: `S` and a
//! number of questions about to be sent, `W` and a number of these that were not answered after all, `A` and an answer under
//! the digest of its question. Half a record at the end, which was being written when the attacker was killed, is cut off. A file that is damaged
//! otherwise is refused: what follows the damage was asked, and counts.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::{Error, Result};

/// Name of the ledger within the directory of a stage's state.
pub const LEDGER: &str = "asked.ledger";

/// Ids of an answer at most, for a reader that does not trust what it reads.
const LONGEST: u32 = 1 << 24;

/// Digest of a question: of the account, the history and the length of the list.
pub type Key = [u8; 16];

/// The digest of a question.
pub fn key(account: u64, history: &[u32], k: usize) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&account.to_le_bytes());
    hasher.update(&(k as u64).to_le_bytes());
    for item in history {
        hasher.update(&item.to_le_bytes());
    }
    let mut key = Key::default();
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions that were or may have been answered.
    pub asked: u64,
    /// Those whose answers are kept.
    pub answered: u64,
}

impl Counts {
    /// Questions whose answers nobody has.
    pub fn lost(self) -> u64 {
        self.asked.saturating_sub(self.answered)
    }
}

/// The ledger. Threads share one.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    budget: Option<u64>,
    /// Questions that count beside those written down here.
    before: u64,
    /// For flushing, while another thread writes; none where nothing is kept.
    disk: Option<File>,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    file: Option<File>,
    counts: Counts,
    /// Answers from before: where the ids begin, and how many there are.
    earlier: HashMap<Key, (u64, u32)>,
}

/// A record.
enum Record {
    Sent(u32),
    Withdrawn(u32),
    Answered(Key, Vec<u32>),
}

/// Refuses what needs more questions than a budget allows, before anything is written. `before` were asked for an output that is replaced, and
/// `what` is what needs the `needed`, for the message.
///
/// # Errors
/// A refusal that says how many would do.
pub fn check(budget: Option<u64>, before: u64, needed: u64, what: &str) -> Result<()> {
    let most = before.saturating_add(needed);
    match budget {
        Some(budget) if budget < most && before > 0 => Err(Error::refused(format!(
            "{before} questions were asked for this output before and count, {what} asks {needed} anew, and --budget is {budget}; allow {most} or \
             more, or choose another --out"
        ))),
        _ => Ok(()),
    }
}

impl Ledger {
    /// Takes up the ledger in `directory`, or begins one where there is none. `identity` says what the questions and answers depend
    /// on. At most `budget` questions are ever counted.
    ///
    /// # Errors
    /// A refusal for a ledger that is damaged, of another identity, or one that holds answers where `resume` is false: they were paid for. A directory
    /// that cannot be written.
    pub fn open(directory: &Path, identity: &str, resume: bool, budget: Option<u64>) -> Result<Self> {
        let path = directory.join(LEDGER);
        let state = |source| Error::State { path: path.clone(), source };
        let headline = format!("questions asked by {identity}\n");
        std::fs::create_dir_all(directory).map_err(state)?;
        let mut file = File::options().read(true).append(true).create(true).open(&path).map_err(state)?;
        let (counts, earlier, sound) = match read(&file, &headline).map_err(state)? {
            Found::Nothing => {
                file.set_len(0).and_then(|()| file.write_all(headline.as_bytes())).map_err(state)?;
                (Counts::default(), HashMap::new(), headline.len() as u64)
            }
            Found::Another => {
                return Err(Error::refused(format!(
                    "{} was begun by a run with other settings, inputs or another target, and holds what that was answered; choose another \
                     --out, or remove {} if those answers are not needed",
                    path.display(),
                    directory.display()
                )));
            }
            Found::Damaged { place } => {
                return Err(Error::refused(format!(
                    "{} is damaged at byte {place}, so what was asked cannot be counted; put back a copy of it, or remove {} if its answers are \
                     not needed, and count what was asked yourself",
                    path.display(),
                    directory.display()
                )));
            }
            Found::Records { counts, .. } if !resume && counts.asked > 0 => {
                return Err(Error::refused(format!(
                    "{} holds {} answers of an interrupted run ({} questions were asked); give --resume to go on from there, or remove {} to ask \
                     all of them again",
                    path.display(),
                    counts.answered,
                    counts.asked,
                    directory.display()
                )));
            }
            Found::Records { counts, answers, sound } => (counts, answers, sound),
        };
        let length = file.metadata().map_err(state)?.len();
        if length > sound {
            tracing::warn!("{}: what follows byte {sound} is not whole and was cut off", path.display());
            file.set_len(sound).map_err(state)?;
        }
        if counts.asked > 0 {
            tracing::info!("resuming from the {} answers in {}", counts.answered, path.display());
        }
        if counts.lost() > 0 {
            tracing::warn!(
                "{} questions were asked whose answers were lost; they count, and are asked again",
                counts.lost()
            );
        }
        let disk = file.try_clone().map_err(state)?;
        disk.sync_data().map_err(state)?;
        let pages = Mutex::new(Pages { file: Some(file), counts, earlier });
        Ok(Self { path, budget, before: 0, disk: Some(disk), pages })
    }

    /// The same where so many questions were asked before for an output that is replaced: they count against the budget too.
    #[must_use]
    pub fn after(self, before: u64) -> Self {
        if before > 0 {
            tracing::warn!(
                "{before} questions were asked for this output before, and what it needs now is asked anew; they count against --budget"
            );
        }
        Self { before, ..self }
    }

    /// Questions ever counted for the output: those [before](Self::after) and those written down here.
    pub fn ever_asked(&self) -> u64 {
        self.before + self.counts().asked
    }

    /// A ledger that counts and keeps nothing: of a service that asks another as long as it runs, and has a log of its own.
    pub fn unkept() -> Self {
        let pages = Pages { file: None, counts: Counts::default(), earlier: HashMap::new() };
        Self { path: PathBuf::new(), budget: None, before: 0, disk: None, pages: Mutex::new(pages) }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::State { path: self.path.clone(), source }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was counted so far, before an interruption too.
    pub fn counts(&self) -> Counts {
        self.pages().counts
    }

    /// What was answered to a question before.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn recall(&self, key: &Key) -> Result<Option<Vec<u32>>> {
        let mut pages = self.pages();
        let Some(&(place, count)) = pages.earlier.get(key) else { return Ok(None) };
        let Some(file) = &mut pages.file else { return Ok(None) };
        let mut bytes = vec![0; 4 * count as usize];
        let read = file.seek(SeekFrom::Start(place)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| self.failed(source))?;
        Ok(Some(ids(&bytes)))
    }

    /// Writes down that some questions are about to be sent; when this returns it is on disk. Returns how many of them the budget
    /// allows, one at least.
    ///
    /// # Errors
    /// [`Error::Budget`] where it allows none; a disk that cannot be written.
    pub fn reserve(&self, questions: usize) -> Result<usize> {
        let allowed = {
            let mut pages = self.pages();
            let counts = pages.counts;
            let left =
                self.budget.map_or(u64::MAX, |budget| budget.saturating_sub(self.before + counts.asked));
            if left == 0 {
                return Err(Error::Budget {
                    budget: self.budget.unwrap_or(0),
                    answered: counts.answered,
                    lost: counts.lost(),
                    ledger: self.path.clone(),
                });
            }
            let allowed = (questions as u64).min(left);
            pages.append(&[Record::Sent(allowed as u32)]).map_err(|source| self.failed(source))?;
            allowed as usize
        };
        self.flush()?;
        Ok(allowed)
    }

    /// Writes down that so many of the questions sent were answered to nobody.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn withdraw(&self, questions: usize) -> Result<()> {
        let written = self.pages().append(&[Record::Withdrawn(questions as u32)]);
        written.map_err(|source| self.failed(source))
    }

    /// Keeps answers.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn keep(&self, answers: &[(Key, Vec<u32>)]) -> Result<()> {
        let records: Vec<Record> =
            answers.iter().map(|(key, ids)| Record::Answered(*key, ids.clone())).collect();
        self.pages().append(&records).map_err(|source| self.failed(source))
    }

    /// Brings all that was written to the disk itself.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn flush(&self) -> Result<()> {
        match &self.disk {
            Some(disk) => disk.sync_data().map_err(|source| self.failed(source)),
            None => Ok(()),
        }
    }
}

impl Pages {
    fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            record.write(&mut bytes);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&bytes)?;
        }
        for record in records {
            record.count(&mut self.counts);
        }
        Ok(())
    }
}

impl Record {
    fn write(&self, bytes: &mut Vec<u8>) {
        let begun = bytes.len();
        match self {
            Self::Sent(count) => {
                bytes.push(b'S');
                bytes.extend(count.to_le_bytes());
            }
            Self::Withdrawn(count) => {
                bytes.push(b'W');
                bytes.extend(count.to_le_bytes());
            }
            Self::Answered(key, ids) => {
                bytes.push(b'A');
                bytes.extend((ids.len() as u32).to_le_bytes());
                bytes.extend(key);
                bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
            }
        }
        let sum = crc32c::crc32c(&bytes[begun..]);
        bytes.extend(sum.to_le_bytes());
    }

    fn count(&self, counts: &mut Counts) {
        match self {
            Self::Sent(count) => counts.asked += u64::from(*count),
            Self::Withdrawn(count) => counts.asked = counts.asked.saturating_sub(u64::from(*count)),
            Self::Answered(..) => counts.answered += 1,
        }
    }
}

/// What is in a file.
enum Found {
    /// Nothing, or not even a whole first line.
    Nothing,
    /// What belongs to something else.
    Another,
    /// Bytes at `place` that are no record, nor the beginning of one that the file ends in.
    Damaged { place: u64 },
    /// Records, and how far they go.
    Records { counts: Counts, answers: HashMap<Key, (u64, u32)>, sound: u64 },
}

fn read(file: &File, headline: &str) -> std::io::Result<Found> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let mut found = Vec::new();
    reader.by_ref().take(headline.len() as u64).read_to_end(&mut found)?;
    if found != headline.as_bytes() {
        return Ok(if headline.as_bytes().starts_with(&found) { Found::Nothing } else { Found::Another });
    }
    let (mut counts, mut answers, mut sound) = (Counts::default(), HashMap::new(), headline.len() as u64);
    loop {
        let (record, size) = match next(&mut reader)? {
            Next::Sound(record, size) => (record, size),
            Next::End => break,
            Next::Cut => {
                // A wrong number of ids asks for more than there is, too: then sound records follow.
                let mut rest = Vec::new();
                reader.seek(SeekFrom::Start(sound))?;
                reader.read_to_end(&mut rest)?;
                let begins_one = |begin| matches!(next(&mut &rest[begin..]), Ok(Next::Sound(..)));
                if (1..rest.len()).any(begins_one) {
                    return Ok(Found::Damaged { place: sound });
                }
                break;
            }
            Next::Unsound => return Ok(Found::Damaged { place: sound }),
        };
        record.count(&mut counts);
        if let Record::Answered(key, ids) = &record {
            // Behind the tag, the number of ids and the key.
            answers.insert(*key, (sound + 1 + 4 + size_of::<Key>() as u64, ids.len() as u32));
        }
        sound += size;
    }
    // A key that stands there twice was answered twice.
    Ok(Found::Records { counts, answers, sound })
}

/// What stands next in a file.
enum Next {
    /// A record and its size.
    Sound(Record, u64),
    /// Nothing.
    End,
    /// Less than a record has.
    Cut,
    /// What is no record.
    Unsound,
}

fn next(reader: &mut impl Read) -> std::io::Result<Next> {
    let mut bytes = Vec::new();
    let mut more = |bytes: &mut Vec<u8>, count: u64| -> std::io::Result<bool> {
        Ok(reader.by_ref().take(count).read_to_end(bytes)? as u64 == count)
    };
    let begun = more(&mut bytes, 5)?;
    match bytes.first() {
        None => return Ok(Next::End),
        Some(b'S' | b'W' | b'A') if !begun => return Ok(Next::Cut),
        Some(_) if !begun => return Ok(Next::Unsound),
        Some(_) => {}
    }
    let number = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    let rest = match bytes[0] {
        b'S' | b'W' => 0,
        b'A' if number <= LONGEST => size_of::<Key>() as u64 + 4 * u64::from(number),
        _ => return Ok(Next::Unsound),
    };
    if !more(&mut bytes, rest + 4)? {
        return Ok(Next::Cut);
    }
    let (content, sum) = bytes.split_at(bytes.len() - 4);
    if sum != crc32c::crc32c(content).to_le_bytes() {
        return Ok(Next::Unsound);
    }
    let record = match content[0] {
        b'S' => Record::Sent(number),
        b'W' => Record::Withdrawn(number),
        _ => {
            let (key, answered) = content[5..].split_at(size_of::<Key>());
            let mut digest = Key::default();
            digest.copy_from_slice(key);
            Record::Answered(digest, ids(answered))
        }
    };
    Ok(Next::Sound(record, bytes.len() as u64))
}

fn ids(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path, resume: bool, budget: Option<u64>) -> Result<Ledger> {
        Ledger::open(directory, "this", resume, budget)
    }

    #[test]
    fn answers_come_back_and_what_was_lost_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (key(0, &[1], 3), key(1, &[1], 3));
        let ledger = open(directory.path(), false, None).unwrap();
        assert_eq!(ledger.reserve(5).unwrap(), 5);
        ledger.keep(&[(first, vec![1, 2, 3]), (second, vec![3, 2, 1])]).unwrap();
        ledger.withdraw(2).unwrap();
        drop(ledger);
        let ledger = open(directory.path(), true, None).unwrap();
        assert_eq!(ledger.counts(), Counts { asked: 3, answered: 2 });
        assert_eq!(ledger.counts().lost(), 1);
        assert_eq!(ledger.recall(&second).unwrap().unwrap(), [3, 2, 1]);
        assert_eq!(ledger.recall(&first).unwrap().unwrap(), [1, 2, 3]);
        for other in [key(2, &[1], 3), key(0, &[2], 3), key(0, &[1], 2), key(0, &[1, 1], 3)] {
            assert_eq!(ledger.recall(&other).unwrap(), None);
        }
    }

    #[test]
    fn a_budget_holds_across_runs() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(directory.path(), false, Some(10)).unwrap();
        assert_eq!(ledger.reserve(7).unwrap(), 7);
        drop(ledger);
        let ledger = open(directory.path(), true, Some(10)).unwrap();
        assert_eq!(ledger.reserve(7).unwrap(), 3, "what was sent before a kill counts");
        let message = ledger.reserve(1).unwrap_err().to_string();
        assert!(message.contains("budget of 10 questions is spent: 0 are answered"), "{message}");
        assert!(message.contains("10 were asked and their answers lost"), "{message}");
        ledger.withdraw(1).unwrap();
        assert_eq!(ledger.reserve(2).unwrap(), 1, "what was answered to nobody does not");
        drop(ledger);
        assert_eq!(open(directory.path(), true, Some(12)).unwrap().reserve(5).unwrap(), 2);
    }

    #[test]
    fn half_a_record_is_cut_off_at_every_byte() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(directory.path(), false, None).unwrap();
        ledger.reserve(1).unwrap();
        ledger.keep(&[(key(0, &[1], 2), vec![4, 5])]).unwrap();
        drop(ledger);
        let path = directory.path().join(LEDGER);
        let whole = std::fs::read(&path).unwrap();
        let headline = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for end in headline..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let ledger = open(directory.path(), true, None).unwrap();
            let asked = u64::from(end >= headline + 9);
            assert_eq!(ledger.counts(), Counts { asked, answered: 0 }, "cut at {end}");
            ledger.reserve(3).unwrap();
            drop(ledger);
            let counts = open(directory.path(), true, None).unwrap().counts();
            assert_eq!(counts, Counts { asked: asked + 3, answered: 0 }, "cut at {end} and gone on");
        }
    }

    #[test]
    fn a_ledger_that_is_damaged_before_its_end_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(directory.path(), false, None).unwrap();
        for account in 0..3 {
            ledger.reserve(2).unwrap();
            ledger.keep(&[(key(account, &[1], 2), vec![4, 5])]).unwrap();
        }
        ledger.reserve(1).unwrap();
        drop(ledger);
        let path = directory.path().join(LEDGER);
        let whole = std::fs::read(&path).unwrap();
        let headline = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for place in headline..whole.len() {
            for bit in [0x01, 0x40] {
                let mut damaged = whole.clone();
                damaged[place] ^= bit;
                std::fs::write(&path, &damaged).unwrap();
                let error = open(directory.path(), true, None).unwrap_err();
                let message = error.to_string();
                assert!(matches!(error, Error::Refused(_)), "{message}");
                assert!(message.contains("asked.ledger is damaged at byte "), "{place}: {message}");
                assert_eq!(std::fs::read(&path).unwrap(), damaged, "{place}");
            }
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(open(directory.path(), true, None).unwrap().counts(), Counts { asked: 7, answered: 3 });
    }

    #[test]
    fn what_was_paid_for_is_not_thrown_away() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path(), false, None).unwrap();
        let ledger = open(directory.path(), false, None).unwrap();
        ledger.reserve(1).unwrap();
        drop(ledger);
        let message = open(directory.path(), false, None).unwrap_err().to_string();
        assert!(message.contains("give --resume"), "{message}");
        let message = Ledger::open(directory.path(), "that", true, None).unwrap_err().to_string();
        assert!(message.contains("other settings"), "{message}");
        assert_eq!(open(directory.path(), true, None).unwrap().counts().asked, 1);
    }
}
