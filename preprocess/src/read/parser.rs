//! From lines to rows: one [`Parser`] for every syntax of a [`Schema`]. A block is checked once to be UTF-8, and its fields
//! go into the columns straight from where they stand in it: nothing is copied but ids not seen before.
//!
//! Weighed for csv with quotation marks: arrow-csv takes 0.22 s a thread for a million rows, as the csv crate does here. Its
//! errors count records where a user needs lines, and a quoted field may span several.

use stage::settings::{Incomplete, Preprocess};

use crate::read::blocks::Lines;
use crate::read::encoding;
use crate::read::fault::{Fault, shorten};
use crate::read::interactions::{Block, TooMany, Unfit, trimmed};
use crate::read::literal::Fields;
use crate::read::objects::Notation;
use crate::read::schema::{Schema, Syntax};
use crate::read::separator::Separator;
use crate::read::timestamps::{TimeReader, Timestamp};
use crate::read::{json, literal, objects};

/// What a column is read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Nothing,
    User,
    Item,
    Rating,
    Timestamp,
    Tiebreak,
}

/// What one field of a row is read for.
#[derive(Clone, Debug, Default)]
struct Slot<'a> {
    role: Role,
    /// The values that keep the row, where others exclude it.
    values: Option<&'a [String]>,
}

/// The texts of a row that are read.
#[derive(Debug, Default)]
struct Row<'t> {
    user: &'t str,
    item: &'t str,
    rating: Option<&'t str>,
    timestamp: Option<&'t str>,
    tiebreak: Option<&'t str>,
    /// Whether a column has another value than `preprocess.keep` asks for.
    unwanted: bool,
}

impl<'t> Row<'t> {
    /// Takes a field for what its column is read for.
    #[inline]
    fn take(&mut self, slot: &Slot<'_>, field: &'t str) {
        match slot.role {
            Role::Nothing => {}
            Role::User => self.user = field,
            Role::Item => self.item = field,
            Role::Rating => self.rating = Some(field),
            Role::Timestamp => self.timestamp = Some(field),
            Role::Tiebreak => self.tiebreak = Some(field),
        }
        if let Some(values) = slot.values {
            self.unwanted |= !values.iter().any(|value| value == field);
        }
    }
}

/// Takes rows from lines.
#[derive(Debug)]
pub struct Parser<'a> {
    schema: &'a Schema,
    slots: Vec<Slot<'a>>,
    missing: Missing<'a>,
    skip_incomplete: bool,
    min_rating: Option<f64>,
    times: TimeReader,
    /// From which column on a value may be true or false.
    free: usize,
}

impl<'a> Parser<'a> {
    /// A parser of lines as `schema` has them, that keeps the rows that `settings` want.
    pub fn new(schema: &'a Schema, settings: &'a Preprocess) -> Self {
        let mut slots = vec![Slot::default(); schema.columns.len()];
        let roles = [
            (Some(schema.user), Role::User),
            (Some(schema.item), Role::Item),
            (schema.rating, Role::Rating),
            (schema.timestamp, Role::Timestamp),
            (schema.tiebreak, Role::Tiebreak),
        ];
        let mut free = 0;
        for (place, role) in roles {
            if let Some(place) = place {
                slots[place] = Slot { role, values: None };
                free = free.max(place + 1);
            }
        }
        for (place, values) in &schema.conditions {
            slots[*place].values = Some(values);
        }
        let missing = if schema.missing_texts { settings.missing.as_slice() } else { &[] };
        let skip_incomplete = match settings.incomplete {
            Some(incomplete) => incomplete == Incomplete::Skip,
            None => schema.skips_incomplete,
        };
        Self {
            schema,
            slots,
            missing: Missing::new(missing),
            skip_incomplete,
            min_rating: settings.min_rating,
            times: TimeReader::new(settings.time_format.as_deref()),
            free,
        }
    }

    /// The rows on some lines. Empty lines are passed over.
    ///
    /// # Errors
    /// The first line that is not as the schema has it.
    pub fn parse(&self, lines: &Lines) -> Result<Block, Fault> {
        match &self.schema.syntax {
            Syntax::Delimited(separator) => match separator {
                &Separator::Byte(byte) => {
                    self.parse_split(lines, separator, |line| Split { rest: Some(line), at: byte })
                }
                Separator::Text(text) => self.parse_split(lines, separator, |line| line.split(text.as_str())),
                Separator::Blanks => self.parse_split(lines, separator, str::split_ascii_whitespace),
            },
            &Syntax::Quoted(delimiter) => self.parse_quoted(lines, delimiter),
            Syntax::Json => parse_lines(lines, true, |block, line| self.push_json(block, line)),
            &Syntax::Objects(notation) => self.parse_objects(lines, notation),
            Syntax::Python => parse_lines(lines, true, |block, line| self.push_python(block, line)),
            Syntax::Sequence => parse_lines(lines, false, |block, line| self.push_sequence(block, line)),
        }
    }

    /// Rows whose fields `split` finds in a line.
    fn parse_split<'t, F: Iterator<Item = &'t str>>(
        &self,
        lines: &'t Lines,
        separator: &Separator,
        split: impl Fn(&'t str) -> F,
    ) -> Result<Block, Fault> {
        parse_lines(lines, false, |block, line| {
            let mut found = 0;
            let pushed = self.push_text(block, split(line).inspect(|_| found += 1));
            if found == self.schema.columns.len() {
                pushed
            } else {
                Err(self.wrong_count(separator, found, line).into())
            }
        })
    }

    /// Rows of csv whose fields may be in quotation marks.
    fn parse_quoted(&self, lines: &Lines, delimiter: u8) -> Result<Block, Fault> {
        let mut reader = csv::ReaderBuilder::new();
        let mut reader =
            reader.has_headers(false).flexible(true).delimiter(delimiter).from_reader(lines.bytes.as_slice());
        let mut record = csv::ByteRecord::new();
        let mut block = Block::new(0, false);
        block.counts().continued = lines.continued;
        while reader.read_byte_record(&mut record).map_err(|error| Fault::File(error.to_string()))? {
            let line = lines.first_line + record.position().map_or(1, csv::Position::line) - 1;
            let found = record.len();
            if found != self.schema.columns.len() {
                let text: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
                let separator = Separator::Byte(delimiter);
                let text = text.join(&char::from(delimiter).to_string());
                if text.trim().is_empty() {
                    continue;
                }
                return Err(Wrong::from(self.wrong_count(&separator, found, &text)).at(line));
            }
            // Checked as a whole, a record costs a third less than field by field.
            let text = csv::StringRecord::from_byte_record(record).map_err(|error| {
                let field = error.utf8_error().field();
                let record = error.into_byte_record();
                let message = text_of(&record[field], &lines.bytes).err().unwrap_or_default();
                Wrong::from(message).at(line)
            })?;
            self.push_text(&mut block, text.iter()).map_err(|error| error.at(line))?;
            record = text.into_byte_record();
        }
        Ok(block)
    }

    /// Rows of objects over any number of lines.
    fn parse_objects(&self, lines: &Lines, notation: Notation) -> Result<Block, Fault> {
        let mut block = Block::new(0, true);
        let mut number = lines.first_line;
        let text = std::str::from_utf8(&lines.bytes).map_err(|error| {
            let before = &lines.bytes[..error.valid_up_to()];
            let line = number + memchr::memchr_iter(b'\n', before).count() as u64;
            let rest = lines.bytes[before.len()..].split(|&byte| byte == b'\n').next().unwrap_or_default();
            Wrong::from(text_of(rest, &lines.bytes).err().unwrap_or_default()).at(line)
        })?;
        let mut counted = 0;
        for (place, object) in objects::split(text, notation) {
            number += memchr::memchr_iter(b'\n', &text.as_bytes()[counted..place]).count() as u64;
            counted = place;
            let pushed = match notation {
                Notation::Json => self.push_json(&mut block, object),
                Notation::Python => self.push_python(&mut block, object),
            };
            pushed.map_err(|error| error.at(number))?;
        }
        Ok(block)
    }

    fn wrong_count(&self, separator: &Separator, found: usize, line: &str) -> String {
        format!(
            "expected {} fields separated by {separator} ({}), found {found} in {}",
            self.schema.columns.len(),
            self.schema.columns.join(", "),
            shorten(line)
        )
    }

    /// Adds the row with these fields, one for every column, cut out of a text: blanks around them are not theirs.
    fn push_text<'t>(&self, block: &mut Block, fields: impl Iterator<Item = &'t str>) -> Result<(), Wrong> {
        let mut row = Row::default();
        let mut slots = self.slots.iter();
        for field in fields {
            let Some(slot) = slots.next() else { continue };
            let field = if is_trimmed(field) { field } else { trim(block, slot, field) };
            row.take(slot, field);
        }
        let schema = self.schema;
        if schema.header && row.user == schema.columns[schema.user] && row.item == schema.columns[schema.item]
        {
            let message = "the header stands here again, as where files were joined; take this line out";
            return Err(message.to_owned().into());
        }
        self.add(block, &row)
    }

    /// Adds the row of a JSON object.
    fn push_json(&self, block: &mut Block, line: &str) -> Result<(), Wrong> {
        let fields = json::fields(line, &self.schema.columns, self.free)?;
        self.push_fields(block, &fields).map_err(|wrong| self.lacking(wrong, || json::keys(line)))
    }

    /// Adds the row of a Python dictionary.
    fn push_python(&self, block: &mut Block, line: &str) -> Result<(), Wrong> {
        let fields = literal::fields(line, &self.schema.columns, self.free)?;
        self.push_fields(block, &fields).map_err(|wrong| self.lacking(wrong, || literal::keys(line)))
    }

    /// What is wrong with an object, or that it lacks a key that it should have, and which it has instead.
    fn lacking(&self, wrong: Wrong, keys: impl Fn() -> Vec<String>) -> Wrong {
        let schema = self.schema;
        let keys = keys();
        let read = [Some(schema.user), Some(schema.item), schema.rating, schema.timestamp, schema.tiebreak];
        let mut read = read.into_iter().flatten().map(|place| &schema.columns[place]);
        match (wrong, read.find(|name| !keys.contains(name))) {
            (Wrong::Text(_), Some(name)) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
                let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
                let keys = keys
                    .char_indices()
                    .nth(300)
                    .map_or(keys.clone(), |(end, _)| format!("{}…", &keys[..end]));
                let message = format!(
                    "no key `{name}` in this object, whose keys are {keys}; preprocess.incomplete=skip passes over rows that \
                     lack one, and counts them"
                );
                message.into()
            }
            (wrong, _) => wrong,
        }
    }

    /// Adds a row of typed fields, of which those that are not there are missing.
    fn push_fields(&self, block: &mut Block, fields: &Fields<'_>) -> Result<(), Wrong> {
        let mut row = Row::default();
        for (slot, field) in self.slots.iter().zip(fields) {
            let field = field.as_deref().unwrap_or_default();
            let as_it_is = !self.schema.missing_texts || is_trimmed(field);
            row.take(slot, if as_it_is { field } else { trim(block, slot, field) });
        }
        self.add(block, &row)
    }

    /// Adds a row for every item of a line, whose first field is the user.
    fn push_sequence(&self, block: &mut Block, line: &str) -> Result<(), Wrong> {
        let mut fields = line.split_ascii_whitespace();
        let Some(user) = fields.next() else { return Ok(()) };
        let mut items = fields.peekable();
        if items.peek().is_none() {
            return Err(format!(
                "expected a user and at least one item, between blanks, found {}",
                shorten(line)
            )
            .into());
        }
        for item in items {
            let row = Row { user, item, ..Row::default() };
            self.add(block, &row)?;
        }
        Ok(())
    }

    /// Adds a row to the block, or counts it there as what it is.
    #[inline]
    fn add(&self, block: &mut Block, row: &Row<'_>) -> Result<(), Wrong> {
        let schema = self.schema;
        let is_missing = |field: &str| self.missing.is(field);
        if row.unwanted {
            // Of a row that nobody wants nothing is asked. What it has counts among what the file has.
            if !is_missing(row.user) && !is_missing(row.item) {
                block.note(row.user, row.item).map_err(|error| self.unfit(error, row))?;
            }
            block.counts().unwanted += 1;
            return Ok(());
        }
        if is_missing(row.user)
            || is_missing(row.item)
            || row.rating.is_some_and(is_missing)
            || row.timestamp.is_some_and(is_missing)
            || row.tiebreak.is_some_and(is_missing)
        {
            if self.skip_incomplete {
                block.counts().incomplete += 1;
                return Ok(());
            }
            return Err(self.incomplete(row).into());
        }
        let time = match row.timestamp {
            None => None,
            Some(field) => Some(self.time(schema.timestamp, field)?),
        };
        let tiebreak = match row.tiebreak {
            None => None,
            Some(field) => Some(self.time(schema.tiebreak, field)?),
        };
        if let Some(field) = row.rating {
            let rating = parse_rating(field).ok_or_else(|| self.wrong(schema.rating, field, "a number"))?;
            if self.min_rating.is_some_and(|least| rating < least) {
                block.counts().low_rated += 1;
                return block.note(row.user, row.item).map_err(|error| self.unfit(error, row));
            }
        }
        block.push(row.user, row.item, (time, tiebreak)).map_err(|error| self.unfit(error, row))
    }

    /// The time that a field stands for.
    #[inline]
    fn time(&self, place: Option<usize>, field: &str) -> Result<Timestamp, String> {
        self.times.parse(field).ok_or_else(|| self.wrong(place, field, &self.times.expected()))
    }

    /// The message of a field that is something else than `expected`.
    fn wrong(&self, place: Option<usize>, field: &str, expected: &str) -> String {
        let column = place.map_or("", |place| self.schema.columns[place].as_str());
        format!("column `{column}` is {}, expected {expected}", shorten(field))
    }

    /// The message of a row that lacks a value.
    fn incomplete(&self, row: &Row<'_>) -> String {
        let schema = self.schema;
        let needed = [
            (Some(row.user), Some(schema.user), "a raw id"),
            (Some(row.item), Some(schema.item), "a raw id"),
            (row.rating, schema.rating, "a number"),
            (row.timestamp, schema.timestamp, "a time"),
            (row.tiebreak, schema.tiebreak, "a number or a time"),
        ];
        let missing = needed.into_iter().find_map(|(field, place, expected)| {
            Some((field.filter(|field| self.missing.is(field))?, place?, expected))
        });
        let (field, place, expected) = missing.unwrap_or(("", schema.user, "a raw id"));
        let found = if field.is_empty() { "empty".to_owned() } else { shorten(field) };
        format!(
            "column `{}` is {found}, expected {expected}; preprocess.incomplete=skip passes over rows that lack one, and \
             counts them",
            schema.columns[place]
        )
    }

    /// The message of an id that cannot be one.
    fn unfit(&self, error: Unfit, row: &Row<'_>) -> Wrong {
        match error {
            Unfit::TooMany(error) => Wrong::Ids(error),
            Unfit::Id(fault) => {
                // The message begins with the id, so that it tells whose it is.
                let is_user = fault.starts_with(&shorten(row.user));
                let place = if is_user { self.schema.user } else { self.schema.item };
                format!("column `{}` is {fault}, expected a raw id", self.schema.columns[place]).into()
            }
        }
    }
}

/// The texts that stand where a value is missing; no text at all always does.
#[derive(Debug)]
struct Missing<'a> {
    texts: &'a [String],
    /// Whether one of them begins with this byte: nearly every id is told by that.
    begins: [bool; 256],
}

impl<'a> Missing<'a> {
    fn new(texts: &'a [String]) -> Self {
        let mut begins = [false; 256];
        for byte in texts.iter().filter_map(|text| text.as_bytes().first()) {
            begins[usize::from(*byte)] = true;
        }
        Self { texts, begins }
    }

    fn is(&self, field: &str) -> bool {
        match field.as_bytes().first() {
            None => true,
            Some(&byte) => self.begins[usize::from(byte)] && self.texts.iter().any(|text| text == field),
        }
    }
}

/// The fields of a line between ASCII characters. They are short: comparing every byte is faster than a search that has to be
/// set up, or than the characters that `str::split` decodes.
struct Split<'t> {
    rest: Option<&'t str>,
    at: u8,
}

impl<'t> Iterator for Split<'t> {
    type Item = &'t str;

    #[inline]
    fn next(&mut self) -> Option<&'t str> {
        let rest = self.rest?;
        let Some(end) = rest.as_bytes().iter().position(|&byte| byte == self.at) else {
            return self.rest.take();
        };
        self.rest = rest.get(end + 1..);
        rest.get(..end)
    }
}

/// Whether a field has no blank around it, as nearly all have none.
#[inline]
fn is_trimmed(field: &str) -> bool {
    matches!(field.as_bytes(), [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic())
}

/// A field without the blanks around it, which are counted where it is an id.
fn trim<'t>(block: &mut Block, slot: &Slot<'_>, field: &'t str) -> &'t str {
    let trimmed = trimmed(field);
    if trimmed.len() < field.len() && matches!(slot.role, Role::User | Role::Item) {
        block.counts().trimmed += 1;
    }
    trimmed
}

/// What is wrong with a line, before its number is known.
enum Wrong {
    Text(String),
    Ids(TooMany),
}

impl Wrong {
    fn at(self, number: u64) -> Fault {
        match self {
            Self::Text(message) => Fault::Line { number, message },
            Self::Ids(error) => error.into(),
        }
    }
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self::Text(message)
    }
}

impl From<TooMany> for Wrong {
    fn from(error: TooMany) -> Self {
        Self::Ids(error)
    }
}

/// Parses line by line, where `push` adds what a line holds, whose values are `typed` or cut out of a text.
fn parse_lines<'t>(
    lines: &'t Lines,
    typed: bool,
    push: impl Fn(&mut Block, &'t str) -> Result<(), Wrong>,
) -> Result<Block, Fault> {
    let text = text_before_fault(&lines.bytes);
    let mut block = Block::new(1 + memchr::memchr_iter(b'\n', &lines.bytes).count(), typed);
    let mut number = lines.first_line;
    for line in text.lines() {
        // `lines` strips CR LF, but the file may end in a CR alone.
        let line = if line.ends_with('\r') { line.trim_end_matches('\r') } else { line };
        if !line.is_empty() {
            push(&mut block, line).map_err(|error| error.at(number))?;
        }
        number += 1;
    }
    // What follows the text is the line that is not UTF-8, or nothing.
    let rest = lines.bytes[text.len()..].split(|&byte| byte == b'\n').next().unwrap_or_default();
    text_of(rest, &lines.bytes).map_err(|message| Wrong::from(message).at(number))?;
    Ok(block)
}

/// All of `bytes` as text; where a line is not UTF-8, the lines before it.
fn text_before_fault(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|fault| {
        let end = memchr::memrchr(b'\n', &bytes[..fault.valid_up_to()]).map_or(0, |end| end + 1);
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    })
}

/// `bytes` as text; of what is not UTF-8, a message with a guess, from all of `around`, at what it is.
fn text_of<'t>(bytes: &'t [u8], around: &[u8]) -> Result<&'t str, String> {
    std::str::from_utf8(bytes).map_err(|_| {
        let guess = encoding::guess(around);
        format!(
            "{} is not UTF-8; it looks like {guess}, which preprocess.encoding={} reads",
            shorten(&String::from_utf8_lossy(bytes)),
            guess.to_lowercase()
        )
    })
}

/// A finite rating.
fn parse_rating(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rating: &f64| rating.is_finite())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::read::interactions::Interactions;
    use crate::read::layouts::{Head, LAYOUTS};

    fn schema(name: &str, first_line: &str) -> Schema {
        let lines = [first_line.to_owned()];
        let head = Head { path: Path::new("a"), lines: &lines, settings: &Preprocess::default() };
        (LAYOUTS.find(name).unwrap().schema)(&head).unwrap()
    }

    fn rows(block: Block) -> Vec<(String, String, Option<i64>)> {
        let mut table = Interactions::default();
        table.append(block).unwrap();
        (0..table.len())
            .map(|row| {
                let user = table.users.text(table.user_codes[row]).to_owned();
                let item = table.items.text(table.item_codes[row]).to_owned();
                (user, item, table.times.as_ref().map(|times| times.keys()[row]))
            })
            .collect()
    }

    #[test]
    fn fields_stand_where_the_header_says() {
        for (header, body, expected) in [
            (
                "user_id:token\titem_id:token\trating:float\ttimestamp:float",
                "a\t\"b\t1\t10\r\n\nc\td\t0.5\t11\ne\tf\t4\t12\r",
                [("a", "\"b", Some(10)), ("e", "f", Some(12))],
            ),
            (
                "timestamp:float\tname:token_seq\titem_id:token\tuser_id:token",
                "7\tthe x\té 1\tu\n-8\t\ti\tu\n",
                [("u", "é 1", Some(7)), ("u", "i", Some(-8))],
            ),
            ("item_id:token\tuser_id:token", "1\t2\n3\t4", [("2", "1", None), ("4", "3", None)]),
        ] {
            let schema = schema("inter", header);
            let settings = Preprocess { min_rating: schema.rating.map(|_| 1.0), ..Preprocess::default() };
            let parser = Parser::new(&schema, &settings);
            let lines = Lines { bytes: body.into(), first_line: 2, continued: 0 };
            let expected = expected.map(|(user, item, time)| (user.to_owned(), item.to_owned(), time));
            assert_eq!(rows(parser.parse(&lines).unwrap()), expected);
        }
    }

    #[test]
    fn a_fault_has_its_line_and_says_what_was_expected() {
        let [tabs, colons] = ["movielens-100k", "movielens-1m"].map(|name| schema(name, ""));
        for (body, number, part) in [
            ("1 2 3 4\n\n1 2 3\n", 5, "expected 4 fields"),
            ("1 2 3 4 5\n", 3, "found 5 in"),
            ("1 2 x 4\n", 3, "column `rating` is \"x\", expected a number"),
            ("1 2 3 4\n1 2 3 4\r\n1 2 3 soon", 5, "column `timestamp` is \"soon\""),
            ("1 2 nan 4\n", 3, "column `rating` is \"nan\""),
            (" 2 3 4\n", 3, "column `user` is empty"),
            ("1  3 4\n", 3, "column `item` is empty"),
        ] {
            for (schema, delimiter) in [(&tabs, "\t"), (&colons, "::")] {
                let lines = Lines { bytes: body.replace(' ', delimiter).into(), first_line: 3, continued: 0 };
                let fault = Parser::new(schema, &Preprocess::default()).parse(&lines).unwrap_err();
                let Fault::Line { number: found, message } = fault else { panic!("{fault:?}") };
                assert_eq!(found, number, "{message}");
                assert!(message.contains(part), "{message}");
            }
        }
        // The first of two faults is the one told.
        for (body, number, part) in [
            (&b"1\t2\t3\t4\n1\t2\t3\t\xFF\n1\t2\n"[..], 2, "UTF-8"),
            (b"\xFF\t2\t3\t4\n", 1, "UTF-8"),
            (b"1\t2\t3\n\xFF\t2\t3\t4\n", 1, "4 fields"),
        ] {
            let lines = Lines { bytes: body.to_vec(), first_line: 1, continued: 0 };
            let fault = Parser::new(&tabs, &Preprocess::default()).parse(&lines).unwrap_err();
            let Fault::Line { number: found, message } = fault else { panic!("{fault:?}") };
            assert!(found == number && message.contains(part), "{found}: {message}");
        }
    }
}
