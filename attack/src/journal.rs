//! The answers of a black box on disk, as they come: an attacker pays for each of them, and an attack that was cut off
//! need ask for none twice.
//!
//! A [`Journal`] is a black box itself. Taken up again, it first answers from what was written, and then asks. Generation
//! is run again from its beginning and grows the same sequences from the same answers, so that it ends in the same bytes.
//!
//! The file begins with a line that says what it belongs to. Then comes a record for every call: the answered ids, and a
//! checksum over the questions and these, little endian, four bytes each. Whatever follows the last sound record, such as
//! the half of one that was being written, is cut off.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use metrics::Answers;
use service::Error;
use service::black_box::BlackBox;
use service::guard::clients::Asker;
use stage::Refusal;

const JOURNAL: &str = "answers.journal";

/// How long an answer may take to reach the disk itself; a process that is killed loses none.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// A black box whose answers are kept.
pub struct Journal<'a> {
    target: &'a mut dyn BlackBox,
    interrupted: &'a dyn Fn() -> bool,
    path: PathBuf,
    pages: Pages,
    /// Bytes of what is known to be sound.
    sound: u64,
    flushed: Instant,
    queries: u64,
    accounts: u64,
}

enum Pages {
    /// Answers from before, not all given yet.
    Read(BufReader<File>),
    /// Answers are added.
    Write(File),
}

impl<'a> Journal<'a> {
    /// Takes up the journal in `directory`, or begins a new one where there is none or `resume` is false. `identity` says
    /// what the questions and answers depend on. After a question for which `interrupted` is true, no other is asked.
    ///
    /// # Errors
    /// A refusal for a journal of another identity; a directory that cannot be written.
    pub fn open(
        target: &'a mut dyn BlackBox,
        directory: &Path,
        identity: &str,
        resume: bool,
        interrupted: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        let path = directory.join(JOURNAL);
        let headline = format!("gro-attack generate {identity}\n");
        let pages = match if resume { taken_up(&path, &headline)? } else { None } {
            Some(earlier) => Pages::Read(earlier),
            None => Pages::Write(
                begun(&path, &headline).map_err(|source| Error::State { path: path.clone(), source })?,
            ),
        };
        let sound = headline.len() as u64;
        Ok(Self { target, interrupted, path, pages, sound, flushed: Instant::now(), queries: 0, accounts: 0 })
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::State { path: self.path.clone(), source }
    }

    /// What was answered to these questions before. Where there is nothing, or nothing sound, what follows is cut off, and
    /// answers are added from there on.
    fn recall(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Option<Answers>> {
        let Pages::Read(reader) = &mut self.pages else { return Ok(None) };
        let size = 4 * (histories.len() * k + 1);
        let mut record = Vec::with_capacity(size);
        let read = reader.by_ref().take(size as u64).read_to_end(&mut record);
        read.map_err(|source| Error::State { path: self.path.clone(), source })?;
        if record.len() == size {
            let (answers, sum) = record.split_at(size - 4);
            if sum == checksum(histories, answers).to_le_bytes() {
                self.sound += size as u64;
                let ids = answers.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
                return Ok(Some(Answers { k, ids }));
            }
        }
        if !record.is_empty() {
            tracing::warn!(
                "{}: what follows byte {} is not whole and is asked anew",
                self.path.display(),
                self.sound
            );
        }
        let continued = reader.get_ref().try_clone().and_then(|mut file| {
            file.set_len(self.sound)?;
            file.seek(SeekFrom::Start(self.sound))?;
            Ok(file)
        });
        self.pages = Pages::Write(continued.map_err(|source| self.failed(source))?);
        Ok(None)
    }
}

/// A journal that is there, behind its first line. None where there is none, or not even that line.
fn taken_up(path: &Path, headline: &str) -> Result<Option<BufReader<File>>> {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return Ok(None) };
    let (mut reader, mut found) = (BufReader::new(file), Vec::new());
    let read = reader.by_ref().take(headline.len() as u64).read_to_end(&mut found);
    read.map_err(|source| Error::State { path: path.to_owned(), source })?;
    if found == headline.as_bytes() {
        tracing::info!("resuming from the answers in {}", path.display());
        return Ok(Some(reader));
    }
    if headline.as_bytes().starts_with(&found) {
        return Ok(None);
    }
    let message = format!(
        "{} was begun by a run with other settings or inputs; run without --resume to begin anew",
        path.display()
    );
    Err(Refusal::new(message).into())
}

/// An empty journal.
fn begun(path: &Path, headline: &str) -> std::io::Result<File> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut file = File::create(path)?;
    file.write_all(headline.as_bytes())?;
    Ok(file)
}

impl BlackBox for Journal<'_> {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        self.kept(histories, k, &mut |target| target.top_k(histories, k))
    }

    fn top_k_for(&mut self, accounts: &[u64], histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        self.kept(histories, k, &mut |target| target.top_k_for(accounts, histories, k))
    }

    fn remembers(&self) -> bool {
        matches!(self.pages, Pages::Read(_))
    }

    fn top_k_of(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        self.kept(histories, k, &mut |target| target.top_k_of(askers, histories, k))
    }

    /// Told to the target whether or not it was asked: what was answered before an interruption it has not seen.
    fn close(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> service::Result<()> {
        self.target.close(askers, histories, k)
    }

    fn items(&self) -> usize {
        self.target.items()
    }

    /// Those answered before the interruption too.
    fn queries(&self) -> u64 {
        self.queries
    }

    /// Those from before the interruption too.
    fn accounts(&self) -> u64 {
        self.accounts
    }
}

impl Journal<'_> {
    /// What was answered before or, where nothing was, what `ask` brings, which is kept.
    fn kept(
        &mut self,
        histories: &[&[u32]],
        k: usize,
        ask: &mut dyn FnMut(&mut dyn BlackBox) -> service::Result<Answers>,
    ) -> service::Result<Answers> {
        self.accounts += histories.iter().filter(|history| history.len() == 1).count() as u64;
        if let Some(answers) = self.recall(histories, k)? {
            self.queries += histories.len() as u64;
            return Ok(answers);
        }
        let answers = ask(self.target)?;
        self.queries += histories.len() as u64;
        let mut record: Vec<u8> = answers.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        record.extend(checksum(histories, &record).to_le_bytes());
        let interrupted = (self.interrupted)();
        let flush = interrupted || self.flushed.elapsed() >= FLUSH_EVERY;
        if let Pages::Write(file) = &mut self.pages {
            let written =
                file.write_all(&record).and_then(|()| if flush { file.sync_data() } else { Ok(()) });
            written.map_err(|source| self.failed(source))?;
        }
        if flush {
            self.flushed = Instant::now();
        }
        if interrupted {
            return Err(Error::Interrupted(self.path.clone()));
        }
        Ok(answers)
    }
}

fn checksum(histories: &[&[u32]], answers: &[u8]) -> u32 {
    let mut sum = 0;
    for history in histories {
        let question: Vec<u8> = history.iter().flat_map(|item| item.to_le_bytes()).collect();
        sum = crc32c::crc32c_append(sum, &(history.len() as u64).to_le_bytes());
        sum = crc32c::crc32c_append(sum, &question);
    }
    crc32c::crc32c_append(sum, answers)
}
