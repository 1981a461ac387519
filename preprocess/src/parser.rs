//! From lines to rows: one [`Parser`] for every form of [`Layout`]. Separators of one byte go through arrow's csv
//! reader, which is the fastest there is; the `::` of MovieLens-1M, which no csv dialect has, through a split of the line.
//! That split also has the last word on a bad line, because arrow counts records and a person counts lines.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::blocks::Lines;
use crate::interactions::{Block, TooManyIds};
use crate::layout::{Form, Layout, shorten};
use crate::literal::Fields;
use crate::timestamps::{self, Timestamp};
use crate::{json, literal};

/// Rows that arrow decodes at once, within a block.
const BATCH_ROWS: usize = 8192;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A line breaks the layout.
    Line {
        /// Counted from 1.
        number: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// Something is wrong near no line in particular.
    Somewhere(String),
}

impl From<TooManyIds> for Fault {
    fn from(TooManyIds: TooManyIds) -> Self {
        Self::Somewhere(
            "more than 2^32 different users or items, which is more than ids are made for".to_owned(),
        )
    }
}

/// Raw user, raw item, and the time where there are times.
type Row<'t> = (&'t str, &'t str, Option<Timestamp>);

/// Turns lines into rows.
#[derive(Debug)]
pub struct Parser<'a> {
    layout: &'a Layout,
    min_rating: f64,
    /// All columns as text: ids are text, and times and ratings are parsed here so that faults have their line.
    schema: SchemaRef,
}

impl<'a> Parser<'a> {
    /// A parser that drops rows rated below `min_rating`.
    pub fn new(layout: &'a Layout, min_rating: f64) -> Self {
        let fields: Vec<Field> =
            layout.columns.iter().map(|column| Field::new(column, DataType::Utf8, true)).collect();
        Self { layout, min_rating, schema: Arc::new(Schema::new(fields)) }
    }

    /// The rows on some lines. Empty lines are passed over.
    ///
    /// # Errors
    /// The first line that is not as the layout has it.
    pub fn parse(&self, lines: &Lines) -> Result<Block, Fault> {
        match self.layout.form {
            Form::Separated { separator, name } => match separator.as_bytes() {
                [byte] => match self.parse_separated(lines, *byte) {
                    Ok(block) => Ok(block),
                    // Whatever arrow objected to, the split finds it again and knows the line.
                    Err(objection) => Err(self
                        .parse_split(lines, separator, name)
                        .err()
                        .unwrap_or(Fault::Somewhere(objection))),
                },
                _ => self.parse_split(lines, separator, name),
            },
            Form::Csv => self.parse_quoted(lines),
            Form::Json => parse_lines(lines, |block, line| self.push_json(block, line)),
            Form::Python => parse_lines(lines, |block, line| self.push_python(block, line)),
            Form::Sequence => parse_lines(lines, push_sequence),
        }
    }

    /// Parses with arrow; the error says what is wrong but not dependably where.
    fn parse_separated(&self, lines: &Lines, separator: u8) -> Result<Block, String> {
        let reader = ReaderBuilder::new(self.schema.clone())
            .with_delimiter(separator)
            // None of these layouts quotes; a quotation mark is a character like any other.
            .with_quote(0)
            .with_projection(self.layout.projection())
            .with_batch_size(BATCH_ROWS)
            .build_buffered(lines.bytes.as_slice())
            .map_err(|error| error.to_string())?;
        let mut block = Block::default();
        for batch in reader {
            let batch = batch.map_err(|error| error.to_string())?;
            let mut columns = batch.columns().iter().map(AsArray::as_string::<i32>);
            let (Some(users), Some(items)) = (columns.next(), columns.next()) else {
                return Err("a batch without columns".to_owned());
            };
            let ratings = self.layout.rating.and_then(|_| columns.next());
            let times = self.layout.timestamp.and_then(|_| columns.next());
            let text = |column: &StringArray, row: usize| -> String { column.value(row).to_owned() };
            if [Some(users), Some(items), ratings, times]
                .into_iter()
                .flatten()
                .any(|column| column.null_count() > 0)
            {
                return Err("an empty field".to_owned());
            }
            for row in 0..batch.num_rows() {
                let time = match times {
                    Some(times) => Some(Timestamp::parse(times.value(row)).ok_or_else(|| text(times, row))?),
                    None => None,
                };
                if let Some(ratings) = ratings {
                    let rating = parse_rating(ratings.value(row)).ok_or_else(|| text(ratings, row))?;
                    if rating < self.min_rating {
                        block.skip();
                        continue;
                    }
                }
                block
                    .push(users.value(row), items.value(row), time)
                    .map_err(|TooManyIds| "too many ids".to_owned())?;
            }
        }
        Ok(block)
    }

    /// Fields between separators of any length; `name` is the separator in words.
    fn parse_split(&self, lines: &Lines, separator: &str, name: &str) -> Result<Block, Fault> {
        parse_lines(lines, |block, line| {
            let fields = line.split(separator);
            let found = fields.clone().count();
            if found != self.layout.columns.len() {
                return Err(self.wrong_count(name, found, line).into());
            }
            self.push(block, fields)
        })
    }

    /// Csv whose fields may be in quotation marks.
    fn parse_quoted(&self, lines: &Lines) -> Result<Block, Fault> {
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.has_headers(false).flexible(true).from_reader(lines.bytes.as_slice());
        let mut record = csv::ByteRecord::new();
        let mut block = Block::default();
        while reader.read_byte_record(&mut record).map_err(|error| Fault::Somewhere(error.to_string()))? {
            let fault = |error: Wrong| {
                let line = record.position().map_or(1, csv::Position::line);
                error.at(lines.first_line + line - 1)
            };
            let found = record.len();
            if found != self.layout.columns.len() {
                let text: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
                return Err(fault(self.wrong_count("commas", found, &text.join(",")).into()));
            }
            let fields: Result<Vec<&str>, String> = record.iter().map(text_of).collect();
            let pushed =
                fields.map_err(Wrong::from).and_then(|fields| self.push(&mut block, fields.into_iter()));
            pushed.map_err(fault)?;
        }
        Ok(block)
    }

    fn wrong_count(&self, separators: &str, found: usize, line: &str) -> String {
        format!(
            "expected {} fields separated by {separators} ({}), found {found} in {}",
            self.layout.columns.len(),
            self.layout.columns.join(", "),
            shorten(line)
        )
    }

    /// Adds the row with these fields, one for every column.
    fn push<'t>(&self, block: &mut Block, fields: impl Iterator<Item = &'t str>) -> Result<(), Wrong> {
        let layout = self.layout;
        let (mut user, mut item, mut rating, mut timestamp) = ("", "", None, None);
        for (place, field) in fields.enumerate() {
            if place == layout.user {
                user = field;
            } else if place == layout.item {
                item = field;
            } else if Some(place) == layout.rating {
                rating = Some(field);
            } else if Some(place) == layout.timestamp {
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
        let names = &self.layout.columns;
        let fields: Fields<'_> = json::fields(line, names)?;
        if let Some(place) = (0..names.len()).find(|&place| fields[place].is_none()) {
            return Err(format!("no `{}` in {}, or null", names[place], shorten(line)).into());
        }
        self.push(block, fields[..names.len()].iter().map(|field| field.as_deref().unwrap_or_default()))
    }

    /// Adds the row of a Python dictionary, or counts it as incomplete.
    fn push_python(&self, block: &mut Block, line: &str) -> Result<(), Wrong> {
        let names = &self.layout.columns;
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
        let layout = self.layout;
        for (field, place) in [(user, layout.user), (item, layout.item)] {
            if field.is_empty() {
                return Err(format!("column `{}` is empty, expected a raw id", layout.columns[place]));
            }
        }
        let wrong = |place: Option<usize>, field: &str, expected: &str| {
            let column = place.map_or("", |place| layout.columns[place].as_str());
            format!("column `{column}` is {}, expected {expected}", shorten(field))
        };
        let parse_time = |field: &str| {
            Timestamp::parse(field).ok_or_else(|| wrong(layout.timestamp, field, timestamps::EXPECTED))
        };
        let time = timestamp.map(parse_time).transpose()?;
        if let Some(field) = rating {
            let rating = parse_rating(field).ok_or_else(|| wrong(layout.rating, field, "a number"))?;
            if rating < self.min_rating {
                return Ok(None);
            }
        }
        Ok(Some((user, item, time)))
    }
}

/// What is wrong with a line, before anyone says which.
enum Wrong {
    Text(String),
    Ids(TooManyIds),
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

impl From<TooManyIds> for Wrong {
    fn from(error: TooManyIds) -> Self {
        Self::Ids(error)
    }
}

/// Parses line by line, where `push` adds what a line holds.
fn parse_lines(lines: &Lines, push: impl Fn(&mut Block, &str) -> Result<(), Wrong>) -> Result<Block, Fault> {
    let mut block = Block::default();
    for (number, line) in (lines.first_line..).zip(lines.bytes.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let pushed = text_of(line).map_err(Wrong::from).and_then(|line| push(&mut block, line));
        pushed.map_err(|error| error.at(number))?;
    }
    Ok(block)
}

/// Adds a row for every item behind the user that a line begins with.
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

    use stage::settings::{Columns, Format};

    use super::*;
    use crate::interactions::Interactions;

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
    fn arrow_and_the_split_read_the_same() {
        let path = Path::new("a.inter");
        for (header, body) in [
            (
                "user_id:token\titem_id:token\trating:float\ttimestamp:float",
                "a\t\"b\t1\t10\r\n\nc\td\t0.5\t11\ne\tf\t4\t12",
            ),
            (
                "timestamp:float\tname:token_seq\titem_id:token\tuser_id:token",
                "7\tthe x\té 1\tu\n-8\t\ti\tu\n",
            ),
            ("item_id:token\tuser_id:token", "1\t2\n3\t4"),
        ] {
            let layout = Layout::of(path, Format::Inter, &Columns::default(), header).unwrap();
            let parser = Parser::new(&layout, if layout.rating.is_some() { 1.0 } else { 0.0 });
            let lines = Lines { bytes: body.into(), first_line: 2 };
            let by_line = rows(parser.parse_split(&lines, "\t", "tabs").unwrap());
            assert_eq!(by_line.len(), 2);
            assert_eq!(rows(parser.parse_separated(&lines, b'\t').unwrap()), by_line);
        }
    }

    #[test]
    fn a_fault_has_its_line_and_says_what_was_expected() {
        let tabs = Layout::of(Path::new("u.data"), Format::Auto, &Columns::default(), "").unwrap();
        let colons = Layout::of(Path::new("ratings.dat"), Format::Auto, &Columns::default(), "").unwrap();
        for (body, number, part) in [
            ("1 2 3 4\n\n1 2 3\n", 5, "expected 4 fields"),
            ("1 2 3 4 5\n", 3, "found 5 in"),
            ("1 2 x 4\n", 3, "column `rating` is \"x\", expected a number"),
            ("1 2 3 4\n1 2 3 4\r\n1 2 3 soon", 5, "column `timestamp` is \"soon\""),
            ("1 2 nan 4\n", 3, "column `rating` is \"nan\""),
            (" 2 3 4\n", 3, "column `user` is empty"),
            ("1  3 4\n", 3, "column `item` is empty"),
        ] {
            for (layout, separator) in [(&tabs, "\t"), (&colons, "::")] {
                let lines = Lines { bytes: body.replace(' ', separator).into(), first_line: 3 };
                let fault = Parser::new(layout, 0.0).parse(&lines).unwrap_err();
                let Fault::Line { number: found, message } = fault else { panic!("{fault:?}") };
                assert_eq!(found, number, "{message}");
                assert!(message.contains(part), "{message}");
            }
        }
        let lines = Lines { bytes: b"1\t2\t3\t4\n\xFF\t2\t3\t4\n".to_vec(), first_line: 1 };
        let fault = Parser::new(&tabs, 0.0).parse(&lines).unwrap_err();
        assert!(
            matches!(&fault, Fault::Line { number: 2, message } if message.contains("UTF-8")),
            "{fault:?}"
        );
    }
}
