//! The data of one experiment: user sequences split into train, validation and test, and the tables that lead back to
//! the raw ids. `gro-preprocess` writes it, every other stage reads it.
//!
//! Four files in one directory: `sequences.parquet`, `items.parquet`, `users.parquet`, `stats.json`. Ids are dense and
//! start at 1; the id of a user or an item is its place in its table, so 0 is free for padding. In memory the sequences
//! are compressed rows (one flat vector and offsets): 20 million interactions are 80 MB.
//!
//! The fingerprint is a hash of the raw item ids in order. It is the identity of the item numbering: a model stores the
//! fingerprint it was trained under, and a model and a dataset that number items differently refuse to meet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{Array, ListArray, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::metrics;
use crate::table::{TableReader, TableWriter, column, list_column, list_of_u32, nullable_column, numbers};

/// Name of the table of user sequences.
pub const SEQUENCES: &str = "sequences.parquet";
/// Name of the table of items.
pub const ITEMS: &str = "items.parquet";
/// Name of the table of users.
pub const USERS: &str = "users.parquet";
/// Name of the summary.
pub const STATS: &str = "stats.json";

/// Rows of a row group of the item and user tables.
const GROUP_ROWS: usize = 65_536;
/// Item ids of a row group of `sequences.parquet`: about 4 MB, whatever the length of the sequences.
const GROUP_IDS: usize = 1 << 20;

/// The files of a dataset, in sorted order: what a stage that reads one declares as its inputs.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    [ITEMS, SEQUENCES, STATS, USERS].iter().map(|name| directory.join(name)).collect()
}

/// One user's items in order of time, split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSequence<'a> {
    /// All items before the one held out for validation.
    pub train: &'a [u32],
    /// The item after those.
    pub valid: u32,
    /// The item after that one; `None` for a user who has none from the point in time on at which everybody is split.
    pub test: Option<u32>,
}

impl UserSequence<'_> {
    /// All items, in order of time.
    fn ids(&self) -> impl Iterator<Item = u32> {
        self.train.iter().copied().chain([self.valid]).chain(self.test)
    }
}

/// `stats.json`: the size of a dataset. It holds no date and no path, so equal data give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Number of users.
    pub users: usize,
    /// Number of items, n.
    pub items: usize,
    /// Number of interactions: train, validation and test together.
    pub interactions: u64,
    /// Interactions per user.
    pub mean_length: f64,
    /// Length of the shortest sequence, validation and test included.
    pub shortest: usize,
    /// Length of the longest sequence, validation and test included.
    pub longest: usize,
    /// Interactions divided by users times items.
    pub density: f64,
    /// Users with a test item; absent where that is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_users: Option<usize>,
    /// Interactions in the raw file, before any filter; absent where nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_interactions: Option<u64>,
    /// Users in the raw file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_users: Option<u64>,
    /// Items in the raw file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_items: Option<u64>,
    /// BLAKE3 of the raw item ids in order, see [`fingerprint`].
    pub fingerprint: String,
}

impl Stats {
    /// Write the summary into `directory`.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        metrics::write(&directory.join(STATS), self)
    }

    /// Read the summary of `directory`.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        metrics::read(&directory.join(STATS))
    }
}

/// What [`write_sequences`] saw go past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceCounts {
    /// Number of users.
    pub users: usize,
    /// Number of users with a test item.
    pub tested: usize,
    /// Number of interactions: train, validation and test.
    pub interactions: u64,
    /// Length of the shortest sequence (0 without users).
    pub shortest: usize,
    /// Length of the longest sequence.
    pub longest: usize,
    /// Interactions of each item; index `id - 1`.
    pub item_counts: Vec<u64>,
}

/// Write `sequences.parquet`, user ids 1.. by order of arrival, in row groups of bounded size. `items` is n; `all_tested` says
/// that every user has a test item, so that the column cannot be null.
///
/// # Errors
/// A write error, also for an item id outside 1..=n.
pub fn write_sequences<'a>(
    path: &Path,
    items: usize,
    all_tested: bool,
    sequences: impl IntoIterator<Item = UserSequence<'a>>,
) -> Result<SequenceCounts, Error> {
    let columns = vec![
        Field::new("user", DataType::UInt32, false),
        Field::new("train", list_of_u32(), false),
        Field::new("valid", DataType::UInt32, false),
        Field::new("test", DataType::UInt32, !all_tested),
    ];
    let mut writer = TableWriter::create(path, columns)?;
    let mut counts = SequenceCounts {
        users: 0,
        tested: 0,
        interactions: 0,
        shortest: 0,
        longest: 0,
        item_counts: vec![0; items],
    };
    let mut rows = Rows::default();
    for sequence in sequences {
        counts.users += 1;
        counts.tested += usize::from(sequence.test.is_some());
        for id in sequence.ids() {
            let count = (id as usize).checked_sub(1).and_then(|index| counts.item_counts.get_mut(index));
            let Some(count) = count else {
                let user = counts.users;
                return Err(Error::unwritable(
                    path,
                    format!("user {user} has item {id}, outside 1..={items}"),
                ));
            };
            *count += 1;
        }
        let length = sequence.ids().count();
        counts.interactions += length as u64;
        counts.shortest = if counts.users == 1 { length } else { counts.shortest.min(length) };
        counts.longest = counts.longest.max(length);
        rows.push(counts.users as u32, sequence);
        if rows.train.len() >= GROUP_IDS || rows.users.len() >= GROUP_ROWS {
            writer.group(std::mem::take(&mut rows).into_columns())?;
        }
    }
    if !rows.users.is_empty() {
        writer.group(rows.into_columns())?;
    }
    writer.finish(None)?;
    Ok(counts)
}

/// The rows of one row group of `sequences.parquet`.
#[derive(Default)]
struct Rows {
    users: Vec<u32>,
    train: Vec<u32>,
    lengths: Vec<usize>,
    valid: Vec<u32>,
    test: Vec<Option<u32>>,
}

impl Rows {
    fn push(&mut self, user: u32, sequence: UserSequence<'_>) {
        self.users.push(user);
        self.train.extend_from_slice(sequence.train);
        self.lengths.push(sequence.train.len());
        self.valid.push(sequence.valid);
        self.test.push(sequence.test);
    }

    fn into_columns(self) -> Vec<arrow_array::ArrayRef> {
        vec![
            Arc::new(UInt32Array::from(self.users)),
            list_column(self.train, self.lengths),
            Arc::new(UInt32Array::from(self.valid)),
            Arc::new(UInt32Array::from(self.test)),
        ]
    }
}

/// Write `items.parquet`: the raw ids in order of their dense ids, with their numbers of interactions (index `id - 1`).
/// Returns the fingerprint.
pub fn write_items<S: AsRef<str>>(path: &Path, raw_ids: &[S], counts: &[u64]) -> Result<String, Error> {
    if raw_ids.len() != counts.len() {
        let message = format!("{} raw ids and {} counts were given", raw_ids.len(), counts.len());
        return Err(Error::unwritable(path, message));
    }
    let columns = vec![
        Field::new("item", DataType::UInt32, false),
        Field::new("raw_id", DataType::Utf8, false),
        Field::new("count", DataType::UInt64, false),
    ];
    let mut writer = TableWriter::create(path, columns)?;
    for (group, (ids, counts)) in raw_ids.chunks(GROUP_ROWS).zip(counts.chunks(GROUP_ROWS)).enumerate() {
        let (dense, raw) = id_columns(group, ids);
        writer.group(vec![Arc::new(dense), Arc::new(raw), Arc::new(UInt64Array::from(counts.to_vec()))])?;
    }
    writer.finish(None)?;
    Ok(fingerprint(raw_ids))
}

/// Write `users.parquet`: the raw ids in order of their dense ids.
pub fn write_users<S: AsRef<str>>(path: &Path, raw_ids: &[S]) -> Result<(), Error> {
    let columns =
        vec![Field::new("user", DataType::UInt32, false), Field::new("raw_id", DataType::Utf8, false)];
    let mut writer = TableWriter::create(path, columns)?;
    for (group, ids) in raw_ids.chunks(GROUP_ROWS).enumerate() {
        let (dense, raw) = id_columns(group, ids);
        writer.group(vec![Arc::new(dense), Arc::new(raw)])?;
    }
    writer.finish(None)
}

/// The dense and the raw ids of one row group.
fn id_columns<S: AsRef<str>>(group: usize, raw_ids: &[S]) -> (UInt32Array, StringArray) {
    let first = (group * GROUP_ROWS) as u32 + 1;
    let mut raw = StringBuilder::new();
    for id in raw_ids {
        raw.append_value(id.as_ref());
    }
    (UInt32Array::from_iter_values(first..first + raw_ids.len() as u32), raw.finish())
}

/// Write all four files into an existing directory. Users and items are numbered by their place in `raw_users` and
/// `raw_items`; the sequences come in the order of `raw_users`.
///
/// # Errors
/// A write error; also when the numbers of users and sequences differ or an item id lies outside 1..=n.
pub fn write<'a, I: AsRef<str>, U: AsRef<str>>(
    directory: &Path,
    raw_items: &[I],
    raw_users: &[U],
    sequences: impl IntoIterator<Item = UserSequence<'a>>,
) -> Result<Stats, Error> {
    let stats = write_tables(directory, raw_items, raw_users, true, sequences)?;
    stats.write(directory)?;
    Ok(stats)
}

/// As [`write()`], all but `stats.json`: for a caller who has more to say there. Unless `all_tested`, users may lack a test item.
///
/// # Errors
/// Those of [`write()`].
pub fn write_tables<'a, I: AsRef<str>, U: AsRef<str>>(
    directory: &Path,
    raw_items: &[I],
    raw_users: &[U],
    all_tested: bool,
    sequences: impl IntoIterator<Item = UserSequence<'a>>,
) -> Result<Stats, Error> {
    let path = directory.join(SEQUENCES);
    let counts = write_sequences(&path, raw_items.len(), all_tested, sequences)?;
    if counts.users != raw_users.len() {
        let message = format!("{} sequences came for {} users", counts.users, raw_users.len());
        return Err(Error::unwritable(&path, message));
    }
    let fingerprint = write_items(&directory.join(ITEMS), raw_items, &counts.item_counts)?;
    write_users(&directory.join(USERS), raw_users)?;
    Ok(Stats::new(&counts, fingerprint))
}

impl Stats {
    /// The summary of written sequences; the raw counts are left for the caller to fill in.
    pub fn new(counts: &SequenceCounts, fingerprint: String) -> Self {
        let interactions = counts.interactions as f64;
        let (users, items) = (counts.users, counts.item_counts.len());
        Self {
            users,
            items,
            interactions: counts.interactions,
            mean_length: if users == 0 { 0.0 } else { interactions / users as f64 },
            shortest: counts.shortest,
            longest: counts.longest,
            density: if users * items == 0 { 0.0 } else { interactions / (users as f64 * items as f64) },
            tested_users: (counts.tested < users).then_some(counts.tested),
            raw_interactions: None,
            raw_users: None,
            raw_items: None,
            fingerprint,
        }
    }
}

/// The identity of an item numbering: BLAKE3, as 64 hexadecimal digits, over every raw id in order, each preceded by its
/// length in bytes (eight bytes, little endian) so that no two lists of ids run into the same bytes.
pub fn fingerprint<S: AsRef<str>>(raw_ids: &[S]) -> String {
    let mut hasher = blake3::Hasher::new();
    for id in raw_ids {
        let bytes = id.as_ref().as_bytes();
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// A dataset in memory, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// All train items, user after user.
    train_items: Vec<u32>,
    /// Where each user's train items begin; `users + 1` offsets.
    train_offsets: Vec<usize>,
    valid: Vec<u32>,
    /// By user; 0, which is no item, where there is none.
    test: Vec<u32>,
    item_counts: Vec<u64>,
    fingerprint: String,
}

impl Dataset {
    /// Read the dataset in `directory` and check it: columns by name and type, ids within 1..=n, users and items
    /// numbered by place, fingerprint and sizes as `stats.json` says.
    ///
    /// # Errors
    /// An input error that names the file and the column, row or key.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let stats = Stats::read(directory)?;
        let (fingerprint, item_counts) = read_items(&directory.join(ITEMS))?;
        let stats_path = directory.join(STATS);
        if stats.fingerprint != fingerprint {
            let message = format!(
                "fingerprint {} is not that of the items in {ITEMS} ({fingerprint}); the files come from two runs, so make \
                 them again with `gro-preprocess run`",
                stats.fingerprint
            );
            return Err(Error::content(&stats_path, message));
        }
        let path = directory.join(SEQUENCES);
        let mut dataset = Self {
            train_items: Vec::new(),
            train_offsets: vec![0],
            valid: Vec::new(),
            test: Vec::new(),
            item_counts,
            fingerprint,
        };
        dataset.read_sequences(&path)?;
        let interactions = dataset.interactions();
        if (stats.users, stats.interactions) != (dataset.users(), interactions) {
            let message = format!(
                "says {} users and {} interactions, but {SEQUENCES} holds {} and {interactions}; make both again with \
                 `gro-preprocess run`",
                stats.users,
                stats.interactions,
                dataset.users()
            );
            return Err(Error::content(&stats_path, message));
        }
        Ok(dataset)
    }

    /// A dataset made in memory, item counts included; for trials and tests that need no files.
    ///
    /// # Errors
    /// The first item id outside 1..=n, as a message.
    pub fn from_sequences<'a, S: AsRef<str>>(
        raw_items: &[S],
        sequences: impl IntoIterator<Item = UserSequence<'a>>,
    ) -> Result<Self, String> {
        let mut dataset = Self {
            train_items: Vec::new(),
            train_offsets: vec![0],
            valid: Vec::new(),
            test: Vec::new(),
            item_counts: vec![0; raw_items.len()],
            fingerprint: fingerprint(raw_items),
        };
        for sequence in sequences {
            for id in sequence.ids() {
                let count = (id as usize).checked_sub(1).and_then(|index| dataset.item_counts.get_mut(index));
                *count.ok_or_else(|| format!("item {id} lies outside 1..={}", raw_items.len()))? += 1;
            }
            dataset.train_items.extend_from_slice(sequence.train);
            dataset.train_offsets.push(dataset.train_items.len());
            dataset.valid.push(sequence.valid);
            dataset.test.push(sequence.test.unwrap_or(0));
        }
        Ok(dataset)
    }

    fn read_sequences(&mut self, path: &Path) -> Result<(), Error> {
        let table = TableReader::open(path, false)?;
        table.require(&[
            ("user", DataType::UInt32),
            ("train", list_of_u32()),
            ("valid", DataType::UInt32),
            ("test", DataType::UInt32),
        ])?;
        for batch in table.batches(None)? {
            let batch = batch?;
            let users: &UInt32Array = column(path, &batch, "user")?;
            let train: &ListArray = column(path, &batch, "train")?;
            let valid: &UInt32Array = column(path, &batch, "valid")?;
            let test: &UInt32Array = nullable_column(path, &batch, "test")?;
            let ids = numbers(path, train.values(), "train")?.values();
            for row in 0..batch.num_rows() {
                let user = self.users() as u32 + 1;
                if users.value(row) != user {
                    let message = format!("row {user} is user {}, expected user {user}", users.value(row));
                    return Err(Error::content(path, message));
                }
                let range = train.value_offsets()[row] as usize..train.value_offsets()[row + 1] as usize;
                self.check_ids(path, "train", user, &ids[range.clone()])?;
                self.check_ids(path, "valid", user, &[valid.value(row)])?;
                let test = test.is_valid(row).then(|| test.value(row));
                self.check_ids(path, "test", user, test.as_slice())?;
                self.train_items.extend_from_slice(&ids[range]);
                self.train_offsets.push(self.train_items.len());
                self.valid.push(valid.value(row));
                self.test.push(test.unwrap_or(0));
            }
        }
        Ok(())
    }

    fn check_ids(&self, path: &Path, column: &str, user: u32, ids: &[u32]) -> Result<(), Error> {
        let items = self.items() as u32;
        match ids.iter().find(|&&id| id == 0 || id > items) {
            None => Ok(()),
            Some(id) => {
                let message =
                    format!("column `{column}`, user {user}: item {id} lies outside 1..={items} ({ITEMS})");
                Err(Error::content(path, message))
            }
        }
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.valid.len()
    }

    /// Number of items, n; item ids are 1..=n.
    pub fn items(&self) -> usize {
        self.item_counts.len()
    }

    /// The train items of the user at `index` (user id minus 1), in order of time.
    pub fn train(&self, index: usize) -> &[u32] {
        &self.train_items[self.train_offsets[index]..self.train_offsets[index + 1]]
    }

    /// The validation item of the user at `index`.
    pub fn valid(&self, index: usize) -> u32 {
        self.valid[index]
    }

    /// The test item of the user at `index`; `None` where there is none.
    pub fn test(&self, index: usize) -> Option<u32> {
        Some(self.test[index]).filter(|&item| item != 0)
    }

    /// The users with a test item, as indices in ascending order.
    pub fn tested(&self) -> Vec<usize> {
        (0..self.users()).filter(|&index| self.test[index] != 0).collect()
    }

    /// Interactions of each item in train, validation and test together; index `id - 1`.
    pub fn item_counts(&self) -> &[u64] {
        &self.item_counts
    }

    /// Interactions of train, validation and test together.
    pub fn interactions(&self) -> u64 {
        (self.train_items.len() + self.users() + self.tested().len()) as u64
    }

    /// Identity of the item numbering, see [`fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Fingerprint and counts from `items.parquet`.
fn read_items(path: &Path) -> Result<(String, Vec<u64>), Error> {
    let raw_ids = read_raw_ids(path, "item")?;
    let table = TableReader::open(path, false)?;
    table.require(&[("count", DataType::UInt64)])?;
    let mut counts = Vec::with_capacity(table.rows());
    for batch in table.batches(None)? {
        let batch = batch?;
        let count: &UInt64Array = column(path, &batch, "count")?;
        counts.extend_from_slice(count.values());
    }
    Ok((fingerprint(&raw_ids), counts))
}

/// The raw item ids of the dataset in `directory`; that of item `id` stands at `id - 1`.
pub fn read_raw_items(directory: &Path) -> Result<Vec<String>, Error> {
    read_raw_ids(&directory.join(ITEMS), "item")
}

/// The raw user ids of the dataset in `directory`; that of user `id` stands at `id - 1`.
pub fn read_raw_users(directory: &Path) -> Result<Vec<String>, Error> {
    read_raw_ids(&directory.join(USERS), "user")
}

/// The raw ids of a table whose dense ids, each the number of its row, stand in the column `dense`.
fn read_raw_ids(path: &Path, dense: &str) -> Result<Vec<String>, Error> {
    let table = TableReader::open(path, false)?;
    table.require(&[(dense, DataType::UInt32), ("raw_id", DataType::Utf8)])?;
    let mut raw_ids = Vec::with_capacity(table.rows());
    for batch in table.batches(None)? {
        let batch = batch?;
        let ids: &UInt32Array = column(path, &batch, dense)?;
        let raw: &StringArray = column(path, &batch, "raw_id")?;
        for row in 0..batch.num_rows() {
            let expected = raw_ids.len() as u32 + 1;
            if ids.value(row) != expected {
                let message =
                    format!("row {expected} is {dense} {}, expected {dense} {expected}", ids.value(row));
                return Err(Error::content(path, message));
            }
            raw_ids.push(raw.value(row).to_owned());
        }
    }
    Ok(raw_ids)
}
