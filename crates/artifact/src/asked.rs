//! What a service was asked and answered: a folder of Parquet files of the form of [`queries.parquet`](crate::queries), with who
//! asked and when besides.
//!
//! A row is a run of questions of one account, of which each goes on from the one before by an item. A service need not have been asked
//! about all prefixes of a history: `first` is the length of the first one that it was, and `answers` holds the lists from there on. A file
//! in which every account began with its first item is a query log. An account whose questions stand in several files has a row in each, and
//! [`accounts`] joins them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, ListArray, StringArray, TimestampMillisecondArray, UInt32Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, TimeUnit};

use crate::Error;
use crate::queries::{GROUP_IDS, METADATA_KEY, QueryHeader, answers_type};
use crate::table::{TableReader, TableWriter, column, element, list_column, list_of_u32, numbers};

/// What the files of a service are called, before their numbers.
const PREFIX: &str = "queries-";

/// A run of questions of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asked.
    pub account: String,
    /// When the first of these questions was answered, in milliseconds since 1970 (UTC).
    pub at: i64,
    /// The items, oldest first; never empty.
    pub sequence: Vec<u32>,
    /// Length of the first prefix that was asked about, from 1.
    pub first: u32,
    /// `(sequence.len() - first + 1, k)`, last axis fastest.
    pub answers: Vec<u32>,
}

/// The file of this number in `directory`.
pub fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{PREFIX}{number:06}.parquet"))
}

/// The number of a file of a service, by its name.
pub fn number(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.strip_suffix(".parquet")?.parse().ok()
}

/// The files of a service in `directory`, oldest first; none where it holds none.
///
/// # Errors
/// A directory that cannot be read.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = || -> std::io::Result<Vec<(u32, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(number) {
                found.push((number, entry.path()));
            }
        }
        Ok(found)
    };
    let mut found = listed().map_err(|source| Error::read(directory, "expected a directory", source))?;
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Writes a file: all rows at once. The header's counts are those of the rows.
///
/// # Errors
/// A write error; also for rows that do not fit the header.
pub fn write(path: &Path, header: &QueryHeader, rows: &[Asked]) -> Result<(), Error> {
    let k = header.k;
    let lists = |row: &Asked| row.answers.len() / k;
    for (number, row) in (1..).zip(rows) {
        let asked = row.sequence.len() as u64 + 1;
        if row.first == 0
            || lists(row) as u64 + u64::from(row.first) != asked
            || lists(row) * k != row.answers.len()
        {
            let message = format!(
                "row {number} has {} items, {} answered ids from question {} on, and lists of {k}",
                row.sequence.len(),
                row.answers.len(),
                row.first
            );
            return Err(Error::unwritable(path, message));
        }
    }
    let columns = vec![
        Field::new("sequence", list_of_u32(), false),
        Field::new("answers", answers_type(k), false),
        Field::new("account", DataType::Utf8, false),
        Field::new("first", DataType::UInt32, false),
        Field::new("asked", instant(), false),
    ];
    let mut table = TableWriter::create(path, columns)?;
    let mut rest = rows;
    while !rest.is_empty() {
        let mut ids = 0;
        let until = rest.iter().take_while(|row| {
            ids += row.answers.len();
            ids <= GROUP_IDS
        });
        let (group, others) = rest.split_at(until.count().max(1));
        rest = others;
        let answers: Vec<u32> = group.iter().flat_map(|row| row.answers.iter().copied()).collect();
        let answers: ArrayRef = Arc::new(UInt32Array::from(answers));
        let answers = FixedSizeListArray::new(element(DataType::UInt32), k as i32, answers, None);
        let answers = ListArray::new(
            element(answers.data_type().clone()),
            OffsetBuffer::from_lengths(group.iter().map(lists)),
            Arc::new(answers),
            None,
        );
        let sequences: Vec<u32> = group.iter().flat_map(|row| row.sequence.iter().copied()).collect();
        table.group(vec![
            list_column(sequences, group.iter().map(|row| row.sequence.len())),
            Arc::new(answers),
            Arc::new(StringArray::from_iter_values(group.iter().map(|row| &row.account))),
            Arc::new(group.iter().map(|row| row.first).collect::<UInt32Array>()),
            Arc::new(
                TimestampMillisecondArray::from_iter_values(group.iter().map(|row| row.at))
                    .with_timezone("UTC"),
            ),
        ])?;
    }
    let queries = rows.iter().map(|row| lists(row) as u64).sum();
    let header = QueryHeader { queries, sequences: rows.len() as u64, ..header.clone() };
    let header = serde_json::to_string(&header).map_err(|source| Error::write(path, source))?;
    table.finish(Some((METADATA_KEY, header)))
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The sequences of all accounts in the files of a service, in the order of their first questions, and the header of the latest file with the
/// counts of all. A row that goes on from another of the same account is joined to it.
///
/// # Errors
/// An input error: no files, damaged ones, or files of different catalogues.
pub fn accounts(directory: &Path) -> Result<(QueryHeader, Vec<Vec<u32>>), Error> {
    let mut header: Option<QueryHeader> = None;
    let mut sequences: Vec<Vec<u32>> = Vec::new();
    let mut of: HashMap<String, Vec<usize>> = HashMap::new();
    for path in files(directory)? {
        let found = read(&path, |account, first, sequence| {
            let own = of.entry(account.to_owned()).or_default();
            let goes_on = |&place: &usize| {
                let before = &sequences[place];
                before.len() as u32 + 1 == first && sequence.starts_with(before)
            };
            if let Some(place) = own.iter().rev().copied().find(goes_on) {
                sequences[place] = sequence.to_vec();
            } else {
                own.push(sequences.len());
                sequences.push(sequence.to_vec());
            }
        })?;
        header = Some(match header {
            None => found,
            Some(before) if before.fingerprint == found.fingerprint && before.k == found.k => {
                QueryHeader { queries: before.queries + found.queries, ..found }
            }
            Some(_) => {
                let message = "is of another catalogue, or of lists of another length, than the files before it; keep them apart";
                return Err(Error::content(&path, message));
            }
        });
    }
    let Some(mut header) = header else {
        return Err(Error::content(
            directory,
            "holds no queries-*.parquet, which `gro-serve http --log` writes",
        ));
    };
    header.sequences = sequences.len() as u64;
    Ok((header, sequences))
}

/// Shows every row of a file: account, first question, sequence. Returns its header.
fn read(path: &Path, mut visit: impl FnMut(&str, u32, &[u32])) -> Result<QueryHeader, Error> {
    let table = TableReader::open(path, true)?;
    let header = QueryHeader::of(path, &table, "expected a log of `gro-serve http`")?;
    table.require(&[
        ("sequence", list_of_u32()),
        ("account", DataType::Utf8),
        ("first", DataType::UInt32),
        ("answers", answers_type(header.k)),
    ])?;
    header.check(path, &table)?;
    for batch in table.batches(None)? {
        let batch = batch?;
        let sequences: &ListArray = column(path, &batch, "sequence")?;
        let accounts: &StringArray = column(path, &batch, "account")?;
        let firsts: &UInt32Array = column(path, &batch, "first")?;
        let items = numbers(path, sequences.values(), "sequence")?.values();
        for row in 0..batch.num_rows() {
            let range = sequences.value_offsets()[row] as usize..sequences.value_offsets()[row + 1] as usize;
            let sequence = &items[range];
            if sequence.is_empty() || sequence.iter().any(|&item| item == 0 || item as usize > header.items) {
                let message = format!("row {} has no items, or one outside 1..={}", row + 1, header.items);
                return Err(Error::content(path, message));
            }
            visit(accounts.value(row), firsts.value(row), sequence);
        }
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::{Query, QueryLog};

    fn header() -> QueryHeader {
        QueryHeader { items: 9, k: 2, fingerprint: "f".to_owned(), ..QueryHeader::default() }
    }

    fn asked(account: &str, first: u32, sequence: &[u32]) -> Asked {
        let lists = sequence.len() + 1 - first as usize;
        let answers = (0..2 * lists as u32).map(|place| 1 + place % 9).collect();
        Asked { account: account.to_owned(), at: 1000, sequence: sequence.to_vec(), first, answers }
    }

    #[test]
    fn accounts_are_joined_over_files() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        write(&path(directory, 1), &header(), &[asked("a", 1, &[3, 4]), asked("b", 2, &[5, 6])]).unwrap();
        let second = [
            asked("b", 3, &[5, 6, 7, 8]),
            asked("a", 3, &[3, 9, 1]),
            asked("c", 1, &[1]),
            asked("a", 3, &[3, 4, 4]),
        ];
        write(&path(directory, 2), &header(), &second).unwrap();
        let (found, sequences) = accounts(directory).unwrap();
        assert_eq!(sequences, [vec![3, 4, 4], vec![5, 6, 7, 8], vec![3, 9, 1], vec![1]]);
        assert_eq!((found.queries, found.sequences, found.k), (8, 4, 2));
    }

    #[test]
    fn whole_accounts_are_a_query_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path(), 1);
        let row = asked("a", 1, &[3, 4]);
        write(&path, &header(), std::slice::from_ref(&row)).unwrap();
        let log = QueryLog::open(&path).unwrap();
        assert_eq!(log.read_group(0).unwrap(), [Query { sequence: row.sequence, answers: row.answers }]);
        write(&path, &header(), &[asked("a", 2, &[3, 4])]).unwrap();
        let message = QueryLog::open(&path).unwrap().read_group(0).unwrap_err().to_string();
        assert!(message.contains("2 items and 1 answered lists"), "{message}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert!(accounts(directory).unwrap_err().to_string().contains("holds no queries-*.parquet"));
        let short = Asked { answers: vec![1, 2], ..asked("a", 1, &[3, 4]) };
        assert!(write(&path(directory, 1), &header(), &[short]).is_err());
        write(&path(directory, 1), &header(), &[asked("a", 1, &[3])]).unwrap();
        let other = QueryHeader { fingerprint: "g".to_owned(), ..header() };
        write(&path(directory, 2), &other, &[asked("a", 1, &[3])]).unwrap();
        assert!(accounts(directory).unwrap_err().to_string().contains("another catalogue"));
    }
}
