//! All interactions in memory, as columns of codes: eight bytes for user and item and eight for the time, whatever
//! the raw ids look like. Blocks of a file are read in parallel, each into a [`Block`] with codes of its own, and
//! appended in the order of the file.

use std::ops::AddAssign;

use crate::read::fault::shorten;
use crate::read::interner::Interner;
use crate::read::timestamps::{Timestamp, Timestamps, retain};

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
    /// What orders rows of equal times, where a column of the file does.
    pub tiebreaks: Option<Timestamps>,
    /// What was read and did not become a row.
    pub counts: Counts,
}

/// How many rows of a file are not among its interactions, or not as they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that lack a user, an item, a time or a rating. The other counts, and [`Interactions::rows_read`], leave them out.
    pub incomplete: u64,
    /// Rows that another value of a column excludes.
    pub unwanted: u64,
    /// Rows with too low a rating.
    pub low_rated: u64,
    /// Ids with blanks around them, which were cut.
    pub trimmed: u64,
    /// Rows of csv that go on over several lines.
    pub continued: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.incomplete += other.incomplete;
        self.unwanted += other.unwanted;
        self.low_rated += other.low_rated;
        self.trimmed += other.trimmed;
        self.continued += other.continued;
    }
}

/// More rows, or more distinct ids in one column, than 32 bits can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Why a row is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// One more than can be numbered.
    TooMany(TooMany),
    /// A raw id that cannot be one; the message begins with it.
    Id(String),
}

impl From<TooMany> for Unfit {
    fn from(error: TooMany) -> Self {
        Self::TooMany(error)
    }
}

/// An id without the blanks around it, which nobody sees: those of Unicode, and the marks of no width that editors leave.
#[inline]
pub fn trimmed(id: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    match id.as_bytes() {
        [first, .., last] if is_plain(*first) && is_plain(*last) => id,
        _ => id
            .trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '\u{FEFF}' | '\u{200B}')),
    }
}

/// Interactions of one block of a file.
#[derive(Debug, Default)]
pub struct Block {
    table: Interactions,
    /// Whether ids are typed values, which may hold any character but NUL, and not cut out of a text.
    typed: bool,
}

/// The times of a row, that which orders equal ones included.
pub type Times = (Option<Timestamp>, Option<Timestamp>);

impl Block {
    /// An empty block with room for `rows`, whose ids are `typed` values or cut out of a text.
    pub fn new(rows: usize, typed: bool) -> Self {
        let mut block = Self { typed, ..Self::default() };
        block.table.reserve(rows);
        block
    }

    /// Adds a row. All rows of a file have the same times, or none has any.
    ///
    /// # Errors
    /// An id that cannot be one, or one too many.
    #[inline]
    pub fn push(&mut self, user: &str, item: &str, (time, tiebreak): Times) -> Result<(), Unfit> {
        let typed = self.typed;
        let table = &mut self.table;
        table.user_codes.push(code(&mut table.users, user, typed)?);
        table.item_codes.push(code(&mut table.items, item, typed)?);
        let rows = table.user_codes.capacity();
        if let Some(time) = time {
            table.times.get_or_insert_with(|| Timestamps::with_capacity(rows)).push(time);
        }
        if let Some(tiebreak) = tiebreak {
            table.tiebreaks.get_or_insert_with(|| Timestamps::with_capacity(rows)).push(tiebreak);
        }
        Ok(())
    }

    /// Notes the user and the item of a row that is read but not taken: they count among those of the file.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn note(&mut self, user: &str, item: &str) -> Result<(), Unfit> {
        code(&mut self.table.users, user, self.typed)?;
        code(&mut self.table.items, item, self.typed)?;
        Ok(())
    }

    /// What is counted beside the rows.
    pub fn counts(&mut self) -> &mut Counts {
        &mut self.table.counts
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
        if let Some(tiebreaks) = block.tiebreaks {
            self.tiebreaks.get_or_insert_default().append(tiebreaks);
        }
        self.counts += block.counts;
        u32::try_from(self.len()).map(drop).map_err(|_| TooMany)
    }

    /// Makes room for `rows` more, with times where there are any. Growing by doubling would hold old and new columns at once.
    pub fn reserve(&mut self, rows: usize) {
        self.user_codes.reserve(rows);
        self.item_codes.reserve(rows);
        for times in self.times.iter_mut().chain(&mut self.tiebreaks) {
            times.reserve(rows);
        }
    }

    /// Drops the rows that are not `kept`. Their users and items stay known.
    pub fn retain(&mut self, kept: &[bool]) {
        retain(&mut self.user_codes, kept);
        retain(&mut self.item_codes, kept);
        for times in self.times.iter_mut().chain(&mut self.tiebreaks) {
            times.retain(kept);
        }
    }

    /// Rows of the file that have a user and an item, those left out by a filter included.
    pub fn rows_read(&self) -> u64 {
        self.len() as u64 + self.counts.unwanted + self.counts.low_rated
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

/// The code of an id, which is looked at where it was not seen before.
#[inline]
fn code(names: &mut Interner, id: &str, typed: bool) -> Result<u32, Unfit> {
    let before = names.len();
    let code = names.code(id).ok_or(TooMany)?;
    if names.len() > before
        && let Some(fault) = fault_of(id, typed)
    {
        return Err(Unfit::Id(fault));
    }
    Ok(code)
}

/// What is wrong with a raw id that no program writes on purpose.
fn fault_of(id: &str, typed: bool) -> Option<String> {
    let control = |letter: char| if typed { letter == '\0' } else { letter.is_control() };
    if let Some(letter) = id.chars().find(|&letter| control(letter)) {
        return Some(format!("{}, with the control character {letter:?} in it", shorten(id)));
    }
    is_shortened(id).then(|| {
        format!(
            "{}, a number that a spreadsheet or a float shortened, so that several ids may have become one",
            shorten(id)
        )
    })
}

/// Whether this is a number in scientific notation with a sign behind the E: `1.2346E+15`. Ids of letters and digits, such as
/// `12e5`, have none.
fn is_shortened(id: &str) -> bool {
    let Some((mantissa, exponent)) = id.split_once(['e', 'E']) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
    exponent.strip_prefix('+').is_some_and(digits) && digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_cannot_be_one_is_refused_where_it_is_seen_first() {
        let push = |id: &str, typed| Block::new(1, typed).push(id, "1", (None, None));
        for id in ["1.23457E+15", "1e+16", "-1,5E+3"] {
            assert!(
                matches!(push(id, true), Err(Unfit::Id(message)) if message.contains("shortened")),
                "{id}"
            );
        }
        for id in ["12e5", "1E15", "e+5", "1E+", "a1E+5", "7.5", "é", "a b"] {
            assert_eq!(push(id, false), Ok(()), "{id}");
        }
        assert!(matches!(push("a\0b", true), Err(Unfit::Id(message)) if message.contains("'\\0'")));
        assert!(push("a\tb", false).is_err() && push("a\tb", true).is_ok());
    }

    #[test]
    fn what_is_noted_counts_without_being_a_row() {
        let mut block = Block::new(0, false);
        block.push("u", "1", (None, None)).unwrap();
        block.note("v", "2").unwrap();
        block.counts().low_rated += 1;
        let mut table = Interactions::default();
        table.append(block).unwrap();
        assert_eq!((table.len(), table.rows_read(), table.users.len(), table.items.len()), (1, 2, 2, 2));
    }
}
