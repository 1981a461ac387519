//! What was asked and answered, on disk: first as records of a journal, as they come, and now and then, when the journal is long or old,
//! as Parquet ([`artifact::asked`]), a file for each length of lists: `DIR/k-10/queries-000001.parquet`.
//!
//! A record reaches the operating system before its answer leaves, so that a service that is killed has written down all that it
//! answered. A thread of its own makes the journals Parquet, one after another, while the next is written, and removes each when its Parquet is
//! whole. What the journals of before hold becomes Parquet when the service starts again.
//!
//! The file begins with the header of the target as a line of JSON. A record is its length and a checksum (CRC-32C), four bytes each, and then, little
//! endian: the time in milliseconds (8), the account, the history and the list, each behind its length (4).

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use artifact::asked::{self, Asked};
use artifact::queries::QueryHeader;
use axum::http::StatusCode;
use stage::Refusal;
use tokio::sync::{mpsc, oneshot};

use crate::problem::Problem;

/// What journals are called, before their numbers.
const PREFIX: &str = "journal-";

/// Bytes after which a journal becomes Parquet.
const LONG: u64 = 64 << 20;

/// Bytes of a journal that is better begun to be made Parquet as soon as the service is told to end.
const MUCH: u64 = 4 << 20;

/// Journals that may wait to become Parquet; whoever asks when they are more waits for one.
const FOLDED_LATER: usize = 1;

/// Records that may wait to be written.
const WAITING: usize = 4096;

/// A question that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970 (UTC).
    pub at: u64,
    /// Who asked.
    pub account: String,
    /// About what, oldest first.
    pub history: Vec<u32>,
    /// What he was answered.
    pub list: Vec<u32>,
}

impl Record {
    /// A question answered now.
    pub fn now(account: String, history: Vec<u32>, list: Vec<u32>) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
        Self { at, account, history, list }
    }

    fn write(&self, into: &mut Vec<u8>) {
        let begin = into.len();
        into.extend([0; 8]);
        into.extend(self.at.to_le_bytes());
        let bytes = self.account.as_bytes();
        into.extend((bytes.len() as u32).to_le_bytes());
        into.extend(bytes);
        for ids in [&self.history, &self.list] {
            into.extend((ids.len() as u32).to_le_bytes());
            into.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        let length = (into.len() - begin - 8) as u32;
        let sum = crc32c::crc32c(&into[begin + 8..]);
        into[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        into[begin + 4..begin + 8].copy_from_slice(&sum.to_le_bytes());
    }

    /// None for bytes that are not the content of a record.
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let at = u64::from_le_bytes(bytes.split_off(..8)?.try_into().ok()?);
        let account = std::str::from_utf8(part(&mut bytes, 1)?).ok()?.to_owned();
        let mut ids = || -> Option<Vec<u32>> {
            Some(part(&mut bytes, 4)?.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect())
        };
        let (history, list) = (ids()?, ids()?);
        (bytes.is_empty() && !history.is_empty()).then_some(Self { at, account, history, list })
    }
}

/// What stands behind its length in elements of so many bytes.
fn part<'a>(bytes: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?) as usize;
    bytes.split_off(..length.checked_mul(size)?)
}

enum Message {
    /// Questions, and whom to tell that they are written.
    Answered(Vec<Record>, oneshot::Sender<()>),
    /// From now on another target answers.
    Target(QueryHeader),
    /// The service ends soon.
    Ending,
}

/// The way to the log. When the last one is dropped, what waits is written, and made Parquet.
#[derive(Clone)]
pub struct Journal {
    messages: mpsc::Sender<Message>,
}

impl Journal {
    /// Begins a log in `directory`, which holds nothing else, or goes on with one: what was left of it becomes Parquet first. A journal
    /// becomes Parquet after so long at the latest.
    ///
    /// # Errors
    /// A refusal for a directory in which another service writes, or that cannot be written.
    pub fn open(
        directory: &Path,
        header: QueryHeader,
        every: Duration,
    ) -> Result<(Self, JoinHandle<Result<()>>)> {
        let cannot = || Refusal::new(format!("{}: cannot be written", directory.display()));
        fs::create_dir_all(directory).with_context(cannot)?;
        let lock = File::create(directory.join("lock")).with_context(cannot)?;
        if lock.try_lock().is_err() {
            let message = format!(
                "{}: another gro-serve writes its log there; name another --log",
                directory.display()
            );
            return Err(Refusal::new(message).into());
        }
        let mut last = 0;
        for (number, path) in journals(directory)? {
            tracing::info!("{}: left by a service that was killed, becomes Parquet", path.display());
            fold(directory, number, &path)?;
            last = last.max(number);
        }
        for folder in folders(directory)? {
            for path in asked::files(&folder)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                last = last.max(asked::number(name).unwrap_or(0));
            }
        }
        let mut log = Log::begin(directory, last + 1, header, lock)?;
        let (messages, mut waiting) = mpsc::channel(WAITING);
        let work = move || {
            let (mut bytes, mut taken, mut told) = (Vec::new(), Vec::new(), Vec::new());
            while waiting.blocking_recv_many(&mut taken, WAITING) > 0 {
                for message in taken.drain(..) {
                    match message {
                        Message::Answered(records, written) => {
                            for record in &records {
                                record.write(&mut bytes);
                            }
                            told.push(written);
                        }
                        Message::Target(header) => {
                            log.append(&mut bytes)?;
                            log.turn(header)?;
                        }
                        Message::Ending => {
                            log.append(&mut bytes)?;
                            if log.written >= MUCH {
                                log.turn(log.header.clone())?;
                            }
                        }
                    }
                }
                // One write for all that came meanwhile.
                log.append(&mut bytes)?;
                for written in told.drain(..) {
                    // Whoever hung up wants no word of it.
                    _ = written.send(());
                }
                // A journal that is old while nobody asks becomes Parquet when somebody does.
                if log.written >= LONG || log.begun.elapsed() >= every {
                    log.turn(log.header.clone())?;
                }
            }
            log.end()
        };
        let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let done: Result<()> = work();
            if let Err(error) = &done {
                tracing::error!("the log cannot be written, so nothing more is answered: {error:#}");
            }
            done
        });
        Ok((Self { messages }, spawned.context("cannot start the log's thread")?))
    }

    /// Writes down what is about to be answered, and waits until the operating system has it.
    ///
    /// # Errors
    /// A problem where the log cannot be written: nobody is answered unseen.
    pub async fn answered(&self, records: Vec<Record>) -> Result<(), Problem> {
        let (told, written) = oneshot::channel();
        let failed = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written").after(60);
        self.messages.send(Message::Answered(records, told)).await.map_err(|_| failed())?;
        written.await.map_err(|_| failed())
    }

    /// From now on another target answers.
    pub async fn target(&self, header: QueryHeader) {
        // Where the log is gone, the next question is told so.
        _ = self.messages.send(Message::Target(header)).await;
    }

    /// The service ends soon: what is in a long journal becomes Parquet while it still answers.
    pub async fn ending(&self) {
        _ = self.messages.send(Message::Ending).await;
    }

    /// Whether the log is written.
    pub fn is_well(&self) -> bool {
        !self.messages.is_closed()
    }
}

/// The journal being written.
struct Log {
    directory: PathBuf,
    number: u32,
    path: PathBuf,
    file: File,
    header: QueryHeader,
    written: u64,
    begun: Instant,
    folding: Folding,
    /// Held as long as the log is written.
    _lock: File,
}

impl Log {
    fn begin(directory: &Path, number: u32, header: QueryHeader, lock: File) -> Result<Self> {
        let (path, file) = begin(directory, number, &header)?;
        Ok(Self {
            directory: directory.to_owned(),
            number,
            path,
            file,
            header,
            written: 0,
            begun: Instant::now(),
            folding: Folding::start(directory)?,
            _lock: lock,
        })
    }

    fn append(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let cannot = || format!("{}: cannot be written", self.path.display());
        self.file.write_all(bytes).with_context(cannot)?;
        // A file that was removed or moved takes what is written all the same, and nobody would find it.
        let (named, written) = (fs::metadata(&self.path).with_context(cannot)?, self.file.metadata()?);
        if (named.dev(), named.ino()) != (written.dev(), written.ino()) {
            anyhow::bail!("{}: another file took its place", self.path.display());
        }
        self.written += bytes.len() as u64;
        bytes.clear();
        Ok(())
    }

    /// Ends a journal and begins the next.
    fn turn(&mut self, header: QueryHeader) -> Result<()> {
        self.folding.fold(self.number, &self.path)?;
        self.number += 1;
        (self.path, self.file) = begin(&self.directory, self.number, &header)?;
        (self.header, self.written, self.begun) = (header, 0, Instant::now());
        Ok(())
    }

    fn end(self) -> Result<()> {
        // Where the thread has failed, it says why.
        let told = self.folding.fold(self.number, &self.path);
        self.folding.end()?;
        told
    }
}

/// Begins a journal.
fn begin(directory: &Path, number: u32, header: &QueryHeader) -> Result<(PathBuf, File)> {
    let path = directory.join(format!("{PREFIX}{number:06}"));
    let line = serde_json::to_string(header)?;
    let begun = || -> std::io::Result<File> {
        let mut file = private(&path)?;
        writeln!(file, "{line}")?;
        Ok(file)
    };
    let file = begun().with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok((path, file))
}

/// An empty file that its owner alone can read: histories are nobody else's business.
pub(crate) fn private(path: &Path) -> std::io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there keeps its mode otherwise.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The thread that makes journals Parquet.
struct Folding {
    journals: SyncSender<(u32, PathBuf)>,
    thread: JoinHandle<Result<()>>,
}

impl Folding {
    fn start(directory: &Path) -> Result<Self> {
        let (journals, waiting) = sync_channel::<(u32, PathBuf)>(FOLDED_LATER);
        let directory = directory.to_owned();
        let work = move || {
            for (number, path) in waiting {
                if let Err(error) = fold(&directory, number, &path) {
                    tracing::error!(
                        "{} is kept, for it could not be made Parquet: {error:#}",
                        path.display()
                    );
                    return Err(error);
                }
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("parquet".to_owned()).spawn(work);
        Ok(Self { journals, thread: thread.context("cannot start the thread that makes Parquet")? })
    }

    /// Lets a journal become Parquet after those before it.
    fn fold(&self, number: u32, path: &Path) -> Result<()> {
        let failed = |_| anyhow::anyhow!("a journal before {} could not be made Parquet", path.display());
        self.journals.send((number, path.to_owned())).map_err(failed)
    }

    /// Waits until all of them are.
    fn end(self) -> Result<()> {
        drop(self.journals);
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread that makes Parquet panicked"))?
    }
}

fn journals(directory: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn folders(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with("k-") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Makes a journal Parquet, and removes it. Done again after it was cut off, it ends the same.
fn fold(directory: &Path, number: u32, path: &Path) -> Result<()> {
    let Some((header, records)) = read(path)? else {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        return Ok(());
    };
    for (k, rows) in rows(records) {
        let folder = directory.join(format!("k-{k}"));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (whole, unfinished) = (asked::path(&folder, number), folder.join(".unfinished"));
        private(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        asked::write(&unfinished, &QueryHeader { k, ..header.clone() }, &rows)?;
        File::open(&unfinished)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&unfinished, &whole))
            .with_context(|| format!("cannot write {}", whole.display()))?;
    }
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// What a journal holds; None where it has not even a header. What a service was writing when it was killed is passed over.
///
/// # Errors
/// A refusal for a journal that is damaged before its end: what follows was answered, and is not to be lost.
fn read(path: &Path) -> Result<Option<(QueryHeader, Vec<Record>)>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let damaged = |what: String| {
        Refusal::new(format!(
            "{}: {what}; put back a copy of the file, or move it elsewhere to go on without what it holds",
            path.display()
        ))
    };
    let line = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    let header: QueryHeader = match serde_json::from_slice(line) {
        Ok(header) => header,
        Err(error) if error.is_eof() && !line.ends_with(b"\n") => return Ok(None),
        Err(error) => {
            return Err(
                damaged(format!("its first line is damaged, expected a header as JSON: {error}")).into()
            );
        }
    };
    let mut records = Vec::new();
    let mut rest = &bytes[line.len()..];
    while !rest.is_empty() {
        let Some((record, size)) = first(rest) else {
            let (number, place) = (records.len() + 1, bytes.len() - rest.len());
            if (1..rest.len()).any(|begin| first(&rest[begin..]).is_some()) {
                return Err(damaged(format!(
                    "record {number}, at byte {place}, is damaged, and whole ones follow"
                ))
                .into());
            }
            tracing::warn!(
                "{}: record {number}, at byte {place}, is not whole, and the last: a service was killed as it wrote",
                path.display()
            );
            break;
        };
        records.push(record);
        rest = &rest[size..];
    }
    Ok(Some((header, records)))
}

/// The record with which bytes begin, and its size; None where they begin with no whole one.
fn first(bytes: &[u8]) -> Option<(Record, usize)> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let [length, sum] = [&head[..4], &head[4..]]
        .map(|half| half.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)));
    let content = rest.get(..length as usize)?;
    // The form first: where a record is sought at every byte, it is seldom right.
    let record = Record::read(content)?;
    (crc32c::crc32c(content) == sum).then_some((record, 8 + content.len()))
}

/// Questions as rows, by the length of their lists. A question that goes on by one item from the latest of its account belongs to
/// the same row.
fn rows(records: Vec<Record>) -> BTreeMap<usize, Vec<Asked>> {
    let mut rows: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
    let mut latest: HashMap<(usize, String), usize> = HashMap::new();
    for Record { at, account, history, list } in records {
        let k = list.len();
        // A catalogue may be used up by what was seen; then there was nothing to answer.
        if k == 0 {
            continue;
        }
        let rows = rows.entry(k).or_default();
        let place = latest.entry((k, account.clone())).or_insert(usize::MAX);
        match rows.get_mut(*place) {
            Some(row) if history.split_last().is_some_and(|(_, before)| before == row.sequence) => {
                row.sequence = history;
                row.answers.extend(list);
            }
            _ => {
                *place = rows.len();
                rows.push(Asked {
                    account,
                    at: at as i64,
                    first: history.len() as u32,
                    sequence: history,
                    answers: list,
                });
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> QueryHeader {
        QueryHeader { items: 9, k: 0, fingerprint: "f".to_owned(), ..QueryHeader::default() }
    }

    fn record(account: &str, history: &[u32], list: &[u32]) -> Record {
        Record { at: 5, account: account.to_owned(), history: history.to_vec(), list: list.to_vec() }
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let mut bytes = format!("{}\n", serde_json::to_string(&header()).unwrap()).into_bytes();
        for record in records {
            record.write(&mut bytes);
        }
        bytes
    }

    #[test]
    fn a_journal_ends_at_its_first_unsound_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal-000001");
        let records = [
            record("a", &[1], &[2, 3]),
            record("\u{e9}", &[1, 2], &[3]),
            record("c", &[4, 5, 6], &[7, 8, 9]),
        ];
        let whole = written(&records);
        let begin = written(&records[..2]).len();
        for end in begin..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let expected = if end == whole.len() { &records[..] } else { &records[..2] };
            assert_eq!(read(&path).unwrap().unwrap().1, expected, "{end}");
        }
        for place in begin..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x40;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&path).unwrap().unwrap().1, records[..2], "{place}");
        }
        for end in 0..written(&[]).len() {
            fs::write(&path, &whole[..end]).unwrap();
            // The end of the line is all that the longest lacks.
            let found = read(&path).unwrap();
            assert!(found.is_none_or(|(_, records)| records.is_empty()), "{end}");
        }
    }

    #[test]
    fn a_journal_that_is_damaged_before_its_end_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal-000001");
        let records = [record("a", &[1], &[2, 3]), record("b", &[1, 2], &[3]), record("c", &[4], &[7])];
        let whole = written(&records);
        let (begin, last) = (written(&[]).len(), written(&records[..2]).len());
        let second = written(&records[..1]).len();
        for place in begin..last {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x40;
            fs::write(&path, &damaged).unwrap();
            let (number, byte) = if place < second { (1, begin) } else { (2, second) };
            let error = Journal::open(directory.path(), header(), Duration::from_secs(3600)).err().unwrap();
            let expected = format!(
                "record {number}, at byte {byte}, is damaged, and whole ones follow; put back a copy"
            );
            assert!(format!("{error:#}").contains(&expected), "{place}: {error:#}");
            assert!(error.downcast_ref::<Refusal>().is_some(), "{place}: {error:#}");
            assert_eq!(fs::read(&path).unwrap(), damaged, "{place}");
        }
        // Of the header, what makes it no JSON, no UTF-8, or not end.
        for (place, byte) in [(0, b'x'), (3, 0xff), (begin - 1, b'x')] {
            let mut damaged = whole.clone();
            damaged[place] = byte;
            fs::write(&path, &damaged).unwrap();
            let error = Journal::open(directory.path(), header(), Duration::from_secs(3600)).err().unwrap();
            assert!(format!("{error:#}").contains("its first line is damaged"), "{place}: {error:#}");
            assert!(error.downcast_ref::<Refusal>().is_some(), "{place}: {error:#}");
            assert_eq!(fs::read(&path).unwrap(), damaged, "{place}");
        }
    }

    #[test]
    fn questions_that_go_on_are_a_row() {
        let rows = rows(vec![
            record("a", &[1], &[2, 3]),
            record("b", &[1], &[2, 3]),
            record("a", &[1, 3], &[4, 5]),
            record("a", &[1], &[2]),
            record("a", &[1, 3, 5], &[6, 7]),
            record("b", &[1, 2, 3], &[6, 7]),
            record("b", &[1, 2, 3], &[6, 7]),
        ]);
        let row = |account: &str, first, sequence: &[u32], answers: &[u32]| Asked {
            account: account.to_owned(),
            at: 5,
            first,
            sequence: sequence.to_vec(),
            answers: answers.to_vec(),
        };
        assert_eq!(rows[&1], [row("a", 1, &[1], &[2])]);
        assert_eq!(
            rows[&2],
            [
                row("a", 1, &[1, 3, 5], &[2, 3, 4, 5, 6, 7]),
                row("b", 1, &[1], &[2, 3]),
                row("b", 3, &[1, 2, 3], &[6, 7]),
                row("b", 3, &[1, 2, 3], &[6, 7]),
            ]
        );
    }

    #[test]
    fn what_was_left_becomes_parquet_and_numbers_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(directory.join("journal-000004"), written(&[record("a", &[1], &[2, 3])])).unwrap();
        let (journal, thread) = Journal::open(directory, header(), Duration::from_secs(3600)).unwrap();
        let refused = Journal::open(directory, header(), Duration::ZERO).err().unwrap().to_string();
        assert!(refused.contains("another gro-serve"), "{refused}");
        assert_eq!(asked::files(&directory.join("k-2")).unwrap().len(), 1);
        let asked = Message::Answered(vec![record("a", &[1, 3], &[4, 5])], oneshot::channel().0);
        journal.messages.blocking_send(asked).unwrap();
        drop(journal);
        thread.join().unwrap().unwrap();
        let (header, sequences) = asked::accounts(&directory.join("k-2")).unwrap();
        assert_eq!((header.queries, header.k, sequences), (2, 2, vec![vec![1, 3]]));
        assert_eq!(
            asked::files(&directory.join("k-2")).unwrap()[1],
            directory.join("k-2/queries-000005.parquet")
        );
        assert!(journals(directory).unwrap().is_empty());
    }

    /// A pipe stands where the Parquet is to be written, so that whoever writes it waits.
    #[test]
    fn a_journal_that_becomes_parquet_holds_nobody_up_and_is_kept_until_it_is() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("log");
        let pipe = directory.join("k-2/.unfinished");
        fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (journal, thread) = Journal::open(&directory, header(), Duration::from_secs(3600)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ask = |item: u32| {
            runtime.block_on(async {
                let told = journal.answered(vec![record("a", &[item], &[2, 3])]);
                tokio::time::timeout(Duration::from_secs(20), told).await.unwrap().unwrap();
            });
        };
        ask(1);
        runtime.block_on(journal.target(QueryHeader { target: Some("other".to_owned()), ..header() }));
        ask(4);
        ask(5);
        // What a service that is killed now leaves, and one that starts then makes of it.
        let left = root.path().join("left");
        fs::create_dir(&left).unwrap();
        for (_, path) in journals(&directory).unwrap() {
            fs::copy(&path, left.join(path.file_name().unwrap())).unwrap();
        }
        assert_eq!(journals(&left).unwrap().len(), 2, "the one that becomes Parquet is there still");
        let (again, ended) = Journal::open(&left, header(), Duration::from_secs(3600)).unwrap();
        drop(again);
        ended.join().unwrap().unwrap();
        let files = asked::files(&left.join("k-2")).unwrap();
        let asked = |path| -> Vec<Vec<u32>> {
            let log = artifact::queries::QueryLog::open(path).unwrap();
            log.read_group(0).unwrap().into_iter().map(|query| query.sequence).collect()
        };
        let found: Vec<_> = files.iter().map(|path| asked(path)).collect();
        assert_eq!(found, [vec![vec![1]], vec![vec![4], vec![5]]]);
        // A pipe is no file of a disk: the journals stay, and it is told.
        let open = File::options().read(true).write(true).open(&pipe).unwrap();
        drop(journal);
        assert!(thread.join().unwrap().is_err());
        assert_eq!(journals(&directory).unwrap().len(), 2);
        drop(open);
    }
}
