//! All interactions in memory, as columns of codes: eight bytes for user and item and eight for the time, whatever
//! the raw ids look like. Blocks of a file are read in parallel, each into a [`Block`] with codes of its own, and
//! appended in the order of the file.

use crate::read::interner::Interner;
use crate::read::timestamps::{Timestamp, Timestamps};

/// The interactions of a file, in its order.
#[derive(Debug, Default)]
pub struct Interactions {
    /// Raw user ids.
    pub users: Interner,
    /// Raw item ids.
    pub items: Interner,
    /// The user of each row, a code of `users`.
    pub user_codes: Vec<u32>,
    /// The item of each row, a code of `items`.
    pub item_codes: Vec<u32>,
    /// The time of each row, where the file has times.
    pub times: Option<Timestamps>,
    /// Rows of the file, those with too low a rating included.
    pub rows_read: u64,
    /// Lines that lack one of the columns; `rows_read` does not count them.
    pub incomplete: u64,
}

/// More rows, or more distinct ids in one column, than 32 bits can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Interactions of one block of a file.
#[derive(Debug, Default)]
pub struct Block {
    table: Interactions,
}

impl Block {
    /// An empty block with room for `rows`.
    pub fn with_capacity(rows: usize) -> Self {
        let mut block = Self::default();
        block.table.reserve(rows);
        block
    }

    /// Adds a row. All rows of a file have a time, or none has.
    pub fn push(&mut self, user: &str, item: &str, time: Option<Timestamp>) -> Result<(), TooMany> {
        let table = &mut self.table;
        table.user_codes.push(table.users.code(user).ok_or(TooMany)?);
        table.item_codes.push(table.items.code(item).ok_or(TooMany)?);
        if let Some(time) = time {
            let rows = table.user_codes.capacity();
            table.times.get_or_insert_with(|| Timestamps::with_capacity(rows)).push(time);
        }
        table.rows_read += 1;
        Ok(())
    }

    /// Counts a row that was read but is not wanted.
    pub fn skip(&mut self) {
        self.table.rows_read += 1;
    }

    /// Counts a line that lacks one of the columns.
    pub fn skip_incomplete(&mut self) {
        self.table.incomplete += 1;
    }

    /// How many rows were kept.
    pub fn len(&self) -> usize {
        self.table.user_codes.len()
    }

    /// Whether no row was kept.
    pub fn is_empty(&self) -> bool {
        self.table.user_codes.is_empty()
    }
}

impl Interactions {
    /// Adds the rows of `block` after these.
    pub fn append(&mut self, block: Block) -> Result<(), TooMany> {
        let block = block.table;
        let users = self.users.absorb(&block.users).ok_or(TooMany)?;
        let items = self.items.absorb(&block.items).ok_or(TooMany)?;
        self.user_codes.extend(block.user_codes.iter().map(|&code| users[code as usize]));
        self.item_codes.extend(block.item_codes.iter().map(|&code| items[code as usize]));
        if let Some(times) = block.times {
            self.times.get_or_insert_default().append(times);
        }
        self.rows_read += block.rows_read;
        self.incomplete += block.incomplete;
        u32::try_from(self.len()).map(drop).map_err(|_| TooMany)
    }

    /// Makes room for `rows` more, with times where there are any. Growing by doubling would hold old and new columns at once.
    pub fn reserve(&mut self, rows: usize) {
        self.user_codes.reserve(rows);
        self.item_codes.reserve(rows);
        if let Some(times) = &mut self.times {
            times.reserve(rows);
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.user_codes.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.user_codes.is_empty()
    }
}
