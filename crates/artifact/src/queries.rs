//! `queries.parquet`: what an attacker asked and was answered. Sequences of item ids, and for every prefix of a sequence
//! the ids that the black box recommended, best first. Ids only: no score and no weight ever stands in this file.
//!
//! Sequences arrive one at a time and leave in row groups, and are read back one group at a time, so neither side's
//! memory grows with the budget of the attack: 600,000 queries of 100 ids are 240 MB, of which a row group of
//! about 4 MB a thread is held.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, ListArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::settings::checks::MOST;
use crate::table::{TableReader, TableWriter, column, element, list_column, list_of_u32, numbers, type_name};

/// Name of a query log inside the output directory of a stage.
pub const QUERIES: &str = "queries.parquet";

/// The metadata key that holds the [`QueryHeader`] as JSON.
pub(crate) const METADATA_KEY: &str = "gro";
/// Sequences of a row group at most.
const GROUP_SEQUENCES: usize = 64;
/// Answered ids after which a row group ends: 4 MB.
pub(crate) const GROUP_IDS: usize = 1 << 20;

/// What stands in the places of a list behind its last item, where it holds fewer than were asked for. No item has this id.
pub const NOTHING: u32 = 0;

/// The items of a list: what stands before the first [`NOTHING`].
pub fn listed(list: &[u32]) -> &[u32] {
    // Lists are full, but for those of a service that answers with fewer.
    if list.last() == Some(&NOTHING) { &list[..list.partition_point(|&item| item != NOTHING)] } else { list }
}

/// How the sequences of a log were chosen, for reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Where the items come from that no history gave.
    pub strategy: String,
    /// Share of the sequences that was to begin with the training history of a real user, 0 to 1.
    pub seed_sequences: f64,
    /// Number of sequences that do.
    pub seeded: u64,
    /// Items of a history that such a sequence begins with, at most; 0 where none does.
    pub seed_length: usize,
    /// Number of real users whose histories these are, where it is less than `seeded`: then some were used twice; else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub owned: u64,
    /// What else was chosen, in words of the settings (`pick`, `repeats`, a strategy's own); empty where nothing departs from
    /// the defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a thief paid for a log, or for the part of one that he learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Accounts opened: sequences, of which each is what one account asked about.
    pub accounts: u64,
    /// Questions asked: lists answered.
    pub questions: u64,
    /// Items in all these lists.
    pub items_listed: u64,
    /// Real users' histories that the thief owned to begin with.
    pub real_sequences: u64,
}

/// What the attacker knows of the black box, and how much was asked of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryHeader {
    /// Number of items, n; ids are 1..=n.
    pub items: usize,
    /// Length of every answered list.
    pub k: usize,
    /// Fingerprint of the item numbering, see [`crate::dataset::fingerprint`].
    pub fingerprint: String,
    /// The splits that the target learned from and real histories came from, as in
    /// [`Description::splits`](crate::checkpoint::Description::splits).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<String>,
    /// BLAKE3 of the checkpoint that answered; `None` where nobody recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Number of (prefix, list) pairs; counted by the writer.
    #[serde(default)]
    pub queries: u64,
    /// Number of sequences; counted by the writer.
    #[serde(default)]
    pub sequences: u64,
    /// Places of all lists together in which nothing stands, for a target that answers with fewer items than asked for; counted by the
    /// writer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub absent: u64,
    /// How the sequences were chosen; `None` where nobody said, as in logs from before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

impl QueryHeader {
    /// The header of an opened log, not yet held against its rows; `advice` is for a file that has none.
    pub(crate) fn of(path: &Path, table: &TableReader, advice: &str) -> Result<Self, Error> {
        let header = table
            .value_of(METADATA_KEY)
            .ok_or_else(|| Error::content(path, format!("has no metadata key `gro`; {advice}")))?;
        serde_json::from_str(header).map_err(|source| {
            Error::read(path, "expected a query header under the metadata key `gro`", source)
        })
    }

    /// Refuses a header that does not fit the rows of its log, or that no log can have.
    pub(crate) fn check(&self, path: &Path, table: &TableReader) -> Result<(), Error> {
        let Self { items, k, queries, sequences, absent, .. } = *self;
        let wrong =
            |what: String| Err(Error::content(path, format!("{what}; copy it again, or make it anew")));
        // Beside the items are padding and the mask.
        if items == 0 || items >= MOST {
            return wrong(format!("its header says {items} items, expected from 1 to {}", MOST - 1));
        }
        if k == 0 || k > items {
            return wrong(format!("its header says lists of {k} of {items} items"));
        }
        if table.rows() as u64 != sequences {
            return wrong(format!("holds {} sequences, but its header says {sequences}", table.rows()));
        }
        let (listed, said) = (table.values_of("answers"), u128::from(queries) * k as u128);
        if said != u128::from(listed) {
            return wrong(format!("holds {listed} answered ids, but its header says {queries} lists of {k}"));
        }
        if absent > listed {
            return wrong(format!(
                "holds {listed} answered ids, but its header says that {absent} are absent"
            ));
        }
        match &self.generation {
            Some(Generation { seeded, owned, .. }) if *seeded > sequences || *owned > *seeded => {
                wrong(format!(
                    "holds {sequences} sequences, but its header says that {seeded} began with the histories of {owned} users"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The header of the first `queries` of the log, in its first `sequences`, which may end within the last of them. What is absent is taken to
    /// be spread evenly.
    #[must_use]
    pub fn first(&self, queries: u64, sequences: u64) -> Self {
        let share = u128::from(self.absent) * u128::from(queries);
        let absent = share.checked_div(u128::from(self.queries)).unwrap_or(0) as u64;
        let mut header = Self { queries, sequences, absent, ..self.clone() };
        if let Some(chosen) = &mut header.generation {
            // Those begun with a real history lie at equal distances.
            chosen.seeded = (chosen.seeded * sequences).checked_div(self.sequences).unwrap_or(0);
            chosen.owned = chosen.owned.min(chosen.seeded);
        }
        header
    }

    /// What it cost. Logs of every version tell.
    pub fn price(&self) -> Price {
        let owned = self.generation.as_ref().map_or(0, |chosen| match chosen.owned {
            0 => chosen.seeded,
            owned => owned.min(self.sequences),
        });
        Price {
            accounts: self.sequences,
            questions: self.queries,
            items_listed: (self.queries * self.k as u64).saturating_sub(self.absent),
            real_sequences: owned.min(self.sequences),
        }
    }
}

/// A sequence and what was answered to each of its prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The item ids asked with, oldest first; never empty.
    pub sequence: Vec<u32>,
    /// `(sequence.len(), k)`, last axis fastest: row i answers the prefix of i + 1 items, best first; [`NOTHING`] behind the last item of a list
    /// that holds fewer than k.
    pub answers: Vec<u32>,
}

/// The first id that is none of the catalogue's: of a list, what stands behind its end may be [`NOTHING`], but for its first place.
fn outside(sequence: &[u32], answers: &[u32], k: usize, items: usize) -> Option<u32> {
    let wrong = |ids: &[u32]| ids.iter().copied().find(|&id| id == NOTHING || id as usize > items);
    let of_list = |list: &[u32]| match listed(list) {
        [] => list.first().copied(),
        listed => wrong(listed).or_else(|| list[listed.len()..].iter().copied().find(|&id| id != NOTHING)),
    };
    wrong(sequence).or_else(|| answers.chunks_exact(k).find_map(of_list))
}

/// `list<fixed_size_list<uint32, k>>`.
pub(crate) fn answers_type(k: usize) -> DataType {
    DataType::List(element(DataType::FixedSizeList(element(DataType::UInt32), k as i32)))
}

/// Writes a query log, sequence by sequence.
pub struct QueryWriter {
    path: PathBuf,
    table: TableWriter,
    header: QueryHeader,
    items: Vec<u32>,
    lengths: Vec<usize>,
    answers: Vec<u32>,
}

impl QueryWriter {
    /// Begin the file at `path`. The header's counts are ignored: the writer keeps its own.
    ///
    /// # Errors
    /// A write error; also for a k of 0 or above the number of items.
    pub fn create(path: &Path, header: QueryHeader) -> Result<Self, Error> {
        if header.k == 0 || header.k > header.items {
            let message = format!("lists of {} cannot be answered from {} items", header.k, header.items);
            return Err(Error::unwritable(path, message));
        }
        let columns = vec![
            Field::new("sequence", list_of_u32(), false),
            Field::new("answers", answers_type(header.k), false),
        ];
        Ok(Self {
            path: path.to_owned(),
            table: TableWriter::create(path, columns)?,
            header: QueryHeader { queries: 0, sequences: 0, absent: 0, ..header },
            items: Vec::new(),
            lengths: Vec::new(),
            answers: Vec::new(),
        })
    }

    /// Add a sequence with its answers, `(sequence.len(), k)` row by row.
    ///
    /// # Errors
    /// A write error; also when the lengths do not fit or an id lies outside 1..=n.
    pub fn push(&mut self, sequence: &[u32], answers: &[u32]) -> Result<(), Error> {
        let QueryHeader { items, k, .. } = self.header;
        let number = self.header.sequences + 1;
        if sequence.is_empty() || answers.len() != sequence.len() * k {
            let message = format!(
                "sequence {number} has {} items and {} answered ids, expected {k} ids for each of at least one item",
                sequence.len(),
                answers.len()
            );
            return Err(Error::unwritable(&self.path, message));
        }
        if let Some(id) = outside(sequence, answers, k, items) {
            let message = format!("sequence {number} has item {id}, outside 1..={items}");
            return Err(Error::unwritable(&self.path, message));
        }
        self.header.absent += answers.iter().filter(|&&id| id == NOTHING).count() as u64;
        self.items.extend_from_slice(sequence);
        self.lengths.push(sequence.len());
        self.answers.extend_from_slice(answers);
        self.header.sequences += 1;
        self.header.queries += sequence.len() as u64;
        if self.lengths.len() >= GROUP_SEQUENCES || self.answers.len() >= GROUP_IDS {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), Error> {
        let lengths = std::mem::take(&mut self.lengths);
        let answers: ArrayRef = Arc::new(UInt32Array::from(std::mem::take(&mut self.answers)));
        let lists = FixedSizeListArray::new(element(DataType::UInt32), self.header.k as i32, answers, None);
        let lists = ListArray::new(
            element(lists.data_type().clone()),
            OffsetBuffer::from_lengths(lengths.iter().copied()),
            Arc::new(lists),
            None,
        );
        self.table.group(vec![list_column(std::mem::take(&mut self.items), lengths), Arc::new(lists)])
    }

    /// Write what is left and end the file. Returns the header with its counts.
    pub fn finish(mut self) -> Result<QueryHeader, Error> {
        if !self.lengths.is_empty() {
            self.end_group()?;
        }
        let header =
            serde_json::to_string(&self.header).map_err(|source| Error::write(&self.path, source))?;
        self.table.finish(Some((METADATA_KEY, header)))?;
        Ok(self.header)
    }
}

/// A query log opened for reading. Groups may be read in any order and from several threads.
#[derive(Debug)]
pub struct QueryLog {
    path: PathBuf,
    table: TableReader,
    header: QueryHeader,
}

impl QueryLog {
    /// Open the log at `path` and check its columns against its header.
    ///
    /// # Errors
    /// An input error.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let table = TableReader::open(path, true)?;
        let header = QueryHeader::of(path, &table, "make the query log with `gro-attack generate`")?;
        table.require(&[("sequence", list_of_u32())])?;
        let expected = answers_type(header.k);
        let found = type_name(table.column_type("answers")?);
        if found != type_name(&expected) {
            let message = format!("column `answers` is {found}, expected {}", type_name(&expected));
            return Err(Error::content(path, message));
        }
        header.check(path, &table)?;
        Ok(Self { path: path.to_owned(), table, header })
    }

    /// What is known of the black box.
    pub fn header(&self) -> &QueryHeader {
        &self.header
    }

    /// Length of every answered list.
    pub fn k(&self) -> usize {
        self.header.k
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.table.rows()
    }

    /// Number of row groups.
    pub fn groups(&self) -> usize {
        self.table.groups()
    }

    /// Items of the longest sequence, 0 where there is none: as many as the longest history that was asked about holds.
    ///
    /// # Errors
    /// An input error.
    pub fn longest_sequence(&self) -> Result<usize, Error> {
        let mut longest = 0;
        for batch in self.table.batches(None)? {
            let batch = batch?;
            let sequences: &ListArray = column(&self.path, &batch, "sequence")?;
            let lengths = sequences.value_offsets().windows(2).map(|ends| (ends[1] - ends[0]) as usize);
            longest = lengths.fold(longest, usize::max);
        }
        Ok(longest)
    }

    /// The sequences of row group `group`, in the order of the file.
    ///
    /// # Errors
    /// An input error; `group` must be less than [`Self::groups`].
    pub fn read_group(&self, group: usize) -> Result<Vec<Query>, Error> {
        if group >= self.groups() {
            let message = format!("has {} row groups, so group {group} does not exist", self.groups());
            return Err(Error::content(&self.path, message));
        }
        let k = self.k();
        let mut queries = Vec::new();
        for batch in self.table.batches(Some(group))? {
            let batch = batch?;
            let sequences: &ListArray = column(&self.path, &batch, "sequence")?;
            let answers: &ListArray = column(&self.path, &batch, "answers")?;
            let lists = answers.values().as_any().downcast_ref::<FixedSizeListArray>();
            let lists = lists.filter(|lists| lists.null_count() == 0).ok_or_else(|| {
                Error::content(
                    &self.path,
                    "column `answers` holds a missing list, expected one for every prefix",
                )
            })?;
            let items = numbers(&self.path, sequences.values(), "sequence")?.values();
            let ids = numbers(&self.path, lists.values(), "answers")?.values();
            for row in 0..batch.num_rows() {
                let asked =
                    sequences.value_offsets()[row] as usize..sequences.value_offsets()[row + 1] as usize;
                let answered =
                    answers.value_offsets()[row] as usize..answers.value_offsets()[row + 1] as usize;
                let query = Query {
                    sequence: items[asked].to_vec(),
                    answers: ids[answered.start * k..answered.end * k].to_vec(),
                };
                self.check(group, row, &query)?;
                queries.push(query);
            }
        }
        Ok(queries)
    }

    fn check(&self, group: usize, row: usize, query: &Query) -> Result<(), Error> {
        let QueryHeader { items, k, .. } = self.header;
        let place = format!("row {row} of group {group}");
        if query.sequence.is_empty() || query.answers.len() != query.sequence.len() * k {
            let message = format!(
                "{place} has {} items and {} answered lists, expected one list for each of at least one item",
                query.sequence.len(),
                query.answers.len() / k
            );
            return Err(Error::content(&self.path, message));
        }
        if let Some(id) = outside(&query.sequence, &query.answers, k, items) {
            return Err(Error::content(&self.path, format!("{place}: item {id} lies outside 1..={items}")));
        }
        let mut sorted = Vec::with_capacity(k);
        for (question, list) in (1..).zip(query.answers.chunks_exact(k)) {
            sorted.clear();
            sorted.extend_from_slice(listed(list));
            sorted.sort_unstable();
            if let Some([item, ..]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                let message = format!("{place}: the answer to question {question} lists item {item} twice");
                return Err(Error::content(&self.path, message));
            }
        }
        Ok(())
    }
}
