//! From lines to rows: one [`Parser`] for every syntax of a [`Schema`]. A block is checked once to be UTF-8, and its fields
//! go into the columns straight from where they stand in it: nothing is copied but ids not seen before.
//!
//! Weighed for csv with quotation marks: arrow-csv takes 0.22 s a thread for a million rows, as the csv crate does here. Its
//! errors count records where a user needs lines, and a quoted field may span several.

use std::borrow::Cow;

use crate::read::blocks::Lines;
use crate::read::fault::{Fault, shorten};
use crate::read::interactions::{Block, TooMany};
use crate::read::literal::Fields;
use crate::read::schema::{Schema, Syntax};
use crate::read::timestamps::{self, Timestamp};
use crate::read::{json, literal};

/// Raw user, raw item, and the time where there are times.
type Row<'t> = (&'t str, &'t str, Option<Timestamp>);

/// Takes rows from lines.
#[derive(Debug)]
pub struct Parser<'a> {
    schema: &'a Schema,
    min_rating: f64,
}

impl<'a> Parser<'a> {
    /// A parser that drops rows rated below `min_rating`.
    pub fn new(schema: &'a Schema, min_rating: f64) -> Self {
        Self { schema, min_rating }
    }

    /// The rows on some lines. Empty lines are passed over.
    ///
    /// # Errors
    /// The first line that is not as the schema has it.
    pub fn parse(&self, lines: &Lines) -> Result<Block, Fault> {
        match self.schema.syntax {
            Syntax::Delimited { delimiter, name } => match delimiter.as_bytes() {
                // Fields are short: comparing every character is faster than a search that has to be set up.
                &[byte] => {
                    self.parse_split(lines, name, |line| line.split(move |letter| letter == char::from(byte)))
                }
                _ => self.parse_split(lines, name, |line| line.split(delimiter)),
            },
            Syntax::Csv => self.parse_quoted(lines),
            Syntax::Json => parse_lines(lines, |block, line| self.push_json(block, line)),
            Syntax::Python => parse_lines(lines, |block, line| self.push_python(block, line)),
            Syntax::Sequence => parse_lines(lines, push_sequence),
        }
    }

    /// Rows whose fields `split` finds in a line; `name` is the delimiter in words.
    fn parse_split<'t, F: Iterator<Item = &'t str>>(
        &self,
        lines: &'t Lines,
        name: &str,
        split: impl Fn(&'t str) -> F,
    ) -> Result<Block, Fault> {
        parse_lines(lines, |block, line| {
            let mut found = 0;
            let pushed = self.push(block, split(line).inspect(|_| found += 1));
            if found == self.schema.columns.len() {
                pushed
            } else {
                Err(self.wrong_count(name, found, line).into())
            }
        })
    }

    /// Rows of csv whose fields may be in quotation marks.
    fn parse_quoted(&self, lines: &Lines) -> Result<Block, Fault> {
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.has_headers(false).flexible(true).from_reader(lines.bytes.as_slice());
        let mut record = csv::ByteRecord::new();
        let mut block = Block::default();
        while reader.read_byte_record(&mut record).map_err(|error| Fault::File(error.to_string()))? {
            let line = lines.first_line + record.position().map_or(1, csv::Position::line) - 1;
            let found = record.len();
            if found != self.schema.columns.len() {
                let text: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
                return Err(Wrong::from(self.wrong_count("commas", found, &text.join(","))).at(line));
            }
            // Checked as a whole, a record costs a third less than field by field.
            let text = csv::StringRecord::from_byte_record(record).map_err(|error| {
                let field = error.utf8_error().field();
                let record = error.into_byte_record();
                let message = text_of(&record[field]).err().unwrap_or_default();
                Wrong::from(message).at(line)
            })?;
            self.push(&mut block, text.iter()).map_err(|error| error.at(line))?;
            record = text.into_byte_record();
        }
        Ok(block)
    }

    fn wrong_count(&self, delimiters: &str, found: usize, line: &str) -> String {
        format!(
            "expected {} fields separated by {delimiters} ({}), found {found} in {}",
            self.schema.columns.len(),
            self.schema.columns.join(", "),
            shorten(line)
        )
    }

    /// Adds the row with these fields, one for every column.
    fn push<'t>(&self, block: &mut Block, fields: impl Iterator<Item = &'t str>) -> Result<(), Wrong> {
        let schema = self.schema;
        let (mut user, mut item, mut rating, mut timestamp) = ("", "", None, None);
        for (place, field) in fields.enumerate() {
            if place == schema.user {
                user = field;
            } else if place == schema.item {
                item = field;
            } else if Some(place) == schema.rating {
                rating = Some(field);
            } else if Some(place) == schema.timestamp {
                timestamp = Some(field);
            }
        }
        match self.row(user, item, rating, timestamp)? {
            Some((user, item, time)) => block.push(user, item, time)?,
            None => block.skip(),
        }
        Ok(())
    }

    /// Adds the row of a JSON object, which must have every column.
    fn push_json(&self, block: &mut Block, line: &str) -> Result<(), Wrong> {
        let names = &self.schema.columns;
        let fields: Fields<'_> = json::fields(line, names)?;
        if let Some(place) = (0..names.len()).find(|&place| fields[place].is_none()) {
            return Err(format!("no `{}` in {}, or null", names[place], shorten(line)).into());
        }
        self.push(block, fields[..names.len()].iter().map(|field| field.as_deref().unwrap_or_default()))
    }

    /// Adds the row of a Python dictionary, or counts it as incomplete.
    fn push_python(&self, block: &mut Block, line: &str) -> Result<(), Wrong> {
        let names = &self.schema.columns;
        let fields: Fields<'_> = literal::fields(line, names)?;
        let given = |field: &Option<Cow<'_, str>>| field.as_deref().is_some_and(|text| !text.is_empty());
        if !fields[..names.len()].iter().all(given) {
            block.skip_incomplete();
            return Ok(());
        }
        self.push(block, fields[..names.len()].iter().map(|field| field.as_deref().unwrap_or_default()))
    }

    /// Checks the texts of a row; `None` where the rating is too low.
    fn row<'t>(
        &self,
        user: &'t str,
        item: &'t str,
        rating: Option<&str>,
        timestamp: Option<&str>,
    ) -> Result<Option<Row<'t>>, String> {
        let schema = self.schema;
        for (field, place) in [(user, schema.user), (item, schema.item)] {
            if field.is_empty() {
                return Err(format!("column `{}` is empty, expected a raw id", schema.columns[place]));
            }
        }
        let wrong = |place: Option<usize>, field: &str, expected: &str| {
            let column = place.map_or("", |place| schema.columns[place].as_str());
            format!("column `{column}` is {}, expected {expected}", shorten(field))
        };
        let parse_time = |field: &str| {
            Timestamp::parse(field).ok_or_else(|| wrong(schema.timestamp, field, timestamps::EXPECTED))
        };
        let time = timestamp.map(parse_time).transpose()?;
        if let Some(field) = rating {
            let rating = parse_rating(field).ok_or_else(|| wrong(schema.rating, field, "a number"))?;
            if rating < self.min_rating {
                return Ok(None);
            }
        }
        Ok(Some((user, item, time)))
    }
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

/// Parses line by line, where `push` adds what a line holds.
fn parse_lines<'t>(
    lines: &'t Lines,
    push: impl Fn(&mut Block, &'t str) -> Result<(), Wrong>,
) -> Result<Block, Fault> {
    let text = text_before_fault(&lines.bytes);
    let mut block = Block::with_capacity(1 + memchr::memchr_iter(b'\n', &lines.bytes).count());
    let mut number = lines.first_line;
    for line in text.lines() {
        // `lines` strips CR LF, but the file may end in a CR alone.
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !line.is_empty() {
            push(&mut block, line).map_err(|error| error.at(number))?;
        }
        number += 1;
    }
    // What follows the text is the line that is not UTF-8, or nothing.
    let rest = lines.bytes[text.len()..].split(|&byte| byte == b'\n').next().unwrap_or_default();
    text_of(rest).map_err(|message| Wrong::from(message).at(number))?;
    Ok(block)
}

/// All of `bytes` as text; where a line is not UTF-8, the lines before it.
fn text_before_fault(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|fault| {
        let end = memchr::memrchr(b'\n', &bytes[..fault.valid_up_to()]).map_or(0, |end| end + 1);
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    })
}

/// Adds a row for every item of a line, whose first field is the user.
fn push_sequence(block: &mut Block, line: &str) -> Result<(), Wrong> {
    let mut fields = line.split_ascii_whitespace();
    let Some(user) = fields.next() else { return Ok(()) };
    let mut items = fields.peekable();
    if items.peek().is_none() {
        return Err(format!("expected a user and at least one item, found {}", shorten(line)).into());
    }
    for item in items {
        block.push(user, item, None)?;
    }
    Ok(())
}

fn text_of(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes)
        .map_err(|_| format!("{} is not UTF-8", shorten(&String::from_utf8_lossy(bytes))))
}

/// A finite rating.
fn parse_rating(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rating: &f64| rating.is_finite())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stage::settings::Columns;

    use super::*;
    use crate::read::interactions::Interactions;
    use crate::read::layouts::{Head, Layout};

    fn schema(name: &str, first_line: &str) -> Schema {
        let head = Head { path: Path::new("a"), first_line, columns: &Columns::default() };
        (Layout::named(name).unwrap().schema)(&head).unwrap()
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
            let parser = Parser::new(&schema, if schema.rating.is_some() { 1.0 } else { 0.0 });
            let lines = Lines { bytes: body.into(), first_line: 2 };
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
                let lines = Lines { bytes: body.replace(' ', delimiter).into(), first_line: 3 };
                let fault = Parser::new(schema, 0.0).parse(&lines).unwrap_err();
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
            let lines = Lines { bytes: body.to_vec(), first_line: 1 };
            let fault = Parser::new(&tabs, 0.0).parse(&lines).unwrap_err();
            let Fault::Line { number: found, message } = fault else { panic!("{fault:?}") };
            assert!(found == number && message.contains(part), "{found}: {message}");
        }
    }
}
