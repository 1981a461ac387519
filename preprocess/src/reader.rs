//! From a ratings file to [`Interactions`]: blocks of lines are parsed side by side and joined in the order of the
//! file, so any number of threads reads the same table. Separators of one byte go through arrow's csv reader; the `::`
//! of MovieLens-1M, which no csv dialect has, through the line parser below. That parser also has the last word on a
//! bad line, because arrow counts records and a person counts lines.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indicatif::ProgressBar;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use stage::Refusal;
use stage::settings::Format;

use crate::blocks::{Blocks, Lines};
use crate::interactions::{Block, Interactions, TooManyIds};
use crate::layout::{Layout, shorten};
use crate::timestamps::Timestamp;

/// Rows that arrow decodes at once, within a block.
const BATCH_ROWS: usize = 8192;

/// Reads the interactions of a file. Rows rated below `min_rating` are counted and dropped. `progress` counts bytes.
pub fn read(
    path: &Path,
    format: Format,
    min_rating: f64,
    progress: &ProgressBar,
) -> anyhow::Result<Interactions> {
    let unreadable = |error: std::io::Error| Refusal::new(format!("cannot read {}: {error}", path.display()));
    let mut blocks = Blocks::open(path).map_err(unreadable)?;
    let first_line = String::from_utf8_lossy(blocks.peek_line().map_err(unreadable)?).into_owned();
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    progress.set_length(bytes);
    if bytes == 0 {
        let message = format!("{} is empty, expected one interaction a line", path.display());
        return Err(Refusal::new(message).into());
    }
    let layout = Layout::of(path, format, &first_line)?;
    tracing::debug!("{} is read as {}", path.display(), layout.name);
    if layout.header {
        blocks.skip_line().map_err(unreadable)?;
    }
    if layout.rating.is_none() && min_rating > 0.0 {
        let message = format!(
            "{} has no ratings, so preprocess.min_rating must be 0, not {min_rating}",
            path.display()
        );
        return Err(Refusal::new(message).into());
    }
    let parser = Parser::new(&layout, min_rating);

    let mut window = || -> anyhow::Result<Vec<Lines>> {
        let mut window = Vec::new();
        while window.len() < rayon::current_num_threads()
            && let Some(block) = blocks.next_block().map_err(unreadable)?
        {
            window.push(block);
        }
        Ok(window)
    };
    let parse = |lines: Lines| (lines.bytes.len(), parser.parse(&lines));
    let mut table = Interactions::default();
    let mut bytes_joined = 0;
    let mut parsed: Vec<_> = window()?.into_par_iter().map(parse).collect();
    while !parsed.is_empty() {
        let lines = window()?;
        // One window is joined while the next is parsed.
        let (next, joined) = rayon::join(
            || lines.into_par_iter().map(parse).collect::<Vec<_>>(),
            || -> Result<(), Fault> {
                for (length, block) in std::mem::take(&mut parsed) {
                    let block = block?;
                    if table.is_empty() && !block.is_empty() {
                        // A little more than the file would hold if all of it were like its first block.
                        let blocks = bytes as f64 / length as f64;
                        table.reserve((block.len() as f64 * blocks * 1.05) as usize);
                    }
                    table.append(block)?;
                    bytes_joined += length;
                    progress.set_position(bytes_joined as u64);
                }
                Ok(())
            },
        );
        joined.map_err(|fault| fault.refuse(path))?;
        parsed = next;
    }
    if table.rows_read == 0 {
        let message =
            format!("{} holds no rows after its header, expected one interaction a line", path.display());
        return Err(Refusal::new(message).into());
    }
    Ok(table)
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// A line breaks the layout.
    Line {
        /// Counted from 1.
        number: u64,
        message: String,
    },
    /// Something is wrong near no line in particular.
    Somewhere(String),
}

impl Fault {
    fn refuse(self, path: &Path) -> Refusal {
        match self {
            Self::Line { number, message } => Refusal::new(format!("{}:{number}: {message}", path.display())),
            Self::Somewhere(message) => Refusal::new(format!("{}: {message}", path.display())),
        }
    }
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
struct Parser<'a> {
    layout: &'a Layout,
    min_rating: f64,
    /// All columns as text: ids are text, and times and ratings are parsed here so that faults have their line.
    schema: SchemaRef,
}

impl<'a> Parser<'a> {
    fn new(layout: &'a Layout, min_rating: f64) -> Self {
        let fields: Vec<Field> =
            layout.columns.iter().map(|column| Field::new(column, DataType::Utf8, true)).collect();
        Self { layout, min_rating, schema: Arc::new(Schema::new(fields)) }
    }

    fn parse(&self, lines: &Lines) -> Result<Block, Fault> {
        match self.layout.separator.as_bytes() {
            [separator] => match self.parse_csv(lines, *separator) {
                Ok(block) => Ok(block),
                // Whatever arrow objected to, the line parser finds it again and knows the line.
                Err(objection) => Err(self.parse_lines(lines).err().unwrap_or(Fault::Somewhere(objection))),
            },
            _ => self.parse_lines(lines),
        }
    }

    /// Parses with arrow; the error says what is wrong but not dependably where.
    fn parse_csv(&self, lines: &Lines, separator: u8) -> Result<Block, String> {
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

    /// Parses line by line; empty lines are passed over, as arrow does.
    fn parse_lines(&self, lines: &Lines) -> Result<Block, Fault> {
        let mut block = Block::default();
        for (number, line) in (lines.first_line..).zip(lines.bytes.split(|&byte| byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            match self.parse_line(line) {
                Ok(Some((user, item, time))) => block.push(user, item, time)?,
                Ok(None) => block.skip(),
                Err(message) => return Err(Fault::Line { number, message }),
            }
        }
        Ok(block)
    }

    /// One line: user, item and time; `None` where the rating is too low.
    fn parse_line<'t>(&self, line: &'t [u8]) -> Result<Option<Row<'t>>, String> {
        let layout = self.layout;
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("{} is not UTF-8", shorten(&String::from_utf8_lossy(line))))?;
        let (mut user, mut item, mut rating, mut timestamp, mut found) = ("", "", None, None, 0);
        for (place, field) in line.split(layout.separator).enumerate() {
            if place == layout.user {
                user = field;
            } else if place == layout.item {
                item = field;
            } else if Some(place) == layout.rating {
                rating = Some(field);
            } else if Some(place) == layout.timestamp {
                timestamp = Some(field);
            }
            found += 1;
        }
        if found != layout.columns.len() {
            return Err(format!(
                "expected {} fields separated by {} ({}), found {found} in {}",
                layout.columns.len(),
                layout.separator_name,
                layout.columns.join(", "),
                shorten(line)
            ));
        }
        for (field, place) in [(user, layout.user), (item, layout.item)] {
            if field.is_empty() {
                return Err(format!("column `{}` is empty, expected a raw id", layout.columns[place]));
            }
        }
        let wrong = |place: Option<usize>, field: &str, expected: &str| {
            let column = place.map_or("", |place| layout.columns[place].as_str());
            format!("column `{column}` is {}, expected {expected}", shorten(field))
        };
        let time = match timestamp {
            Some(field) => Some(
                Timestamp::parse(field)
                    .ok_or_else(|| wrong(layout.timestamp, field, "a number, such as seconds since 1970"))?,
            ),
            None => None,
        };
        if let Some(field) = rating {
            let rating = parse_rating(field).ok_or_else(|| wrong(layout.rating, field, "a number"))?;
            if rating < self.min_rating {
                return Ok(None);
            }
        }
        Ok(Some((user, item, time)))
    }
}

/// A finite rating.
fn parse_rating(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rating: &f64| rating.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn arrow_and_the_line_parser_read_the_same() {
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
            let layout = Layout::of(path, Format::Inter, header).unwrap();
            let parser = Parser::new(&layout, if layout.rating.is_some() { 1.0 } else { 0.0 });
            let lines = Lines { bytes: body.into(), first_line: 2 };
            let by_line = rows(parser.parse_lines(&lines).unwrap());
            assert_eq!(by_line.len(), 2);
            assert_eq!(rows(parser.parse_csv(&lines, b'\t').unwrap()), by_line);
        }
    }

    #[test]
    fn a_fault_has_its_line_and_says_what_was_expected() {
        let tabs = Layout::of(Path::new("u.data"), Format::Auto, "").unwrap();
        let colons = Layout::of(Path::new("ratings.dat"), Format::Auto, "").unwrap();
        for (body, number, part) in [
            ("1 2 3 4\n\n1 2 3\n", 5, "expected 4 fields"),
            ("1 2 3 4 5\n", 3, "found 5 in"),
            ("1 2 x 4\n", 3, "column `rating` is \"x\", expected a number"),
            ("1 2 3 4\n1 2 3 4\r\n1 2 3 soon", 5, "column `timestamp` is \"soon\""),
            ("1 2 nan 4\n", 3, "column `rating` is \"nan\""),
            (" 2 3 4\n", 3, "column `user` is empty"),
            ("1  3 4\n", 3, "column `item` is empty"),
        ] {
            for layout in [&tabs, &colons] {
                let lines = Lines { bytes: body.replace(' ', layout.separator).into(), first_line: 3 };
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
