//! How the lines of one file are cut into fields, and which fields are user, item, rating and timestamp. A [`Schema`] is
//! all that the parser knows of a file: past it, all layouts are alike. (A Parquet table has no lines; [`columnar`] reads
//! it by the names of its columns.)
//!
//! [`columnar`]: crate::read::columnar

use std::path::Path;

use stage::Refusal;
use stage::settings::Columns;

use crate::read::fault::shorten;

/// The names of the columns for user, item, rating and timestamp.
pub type Names<'a> = [Option<&'a str>; 4];

/// How the lines of one file are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// How a line is cut into fields.
    pub syntax: Syntax,
    /// Whether the first line names the columns.
    pub header: bool,
    /// The columns. Where a line has its fields by place, all of them, in the order of the file; where it names its
    /// fields, those that are read.
    pub columns: Vec<String>,
    /// Which column holds the user's raw id.
    pub user: usize,
    /// Which column holds the item's raw id.
    pub item: usize,
    /// Which column holds the rating, if there are ratings.
    pub rating: Option<usize>,
    /// Which column holds the timestamp, if there are timestamps.
    pub timestamp: Option<usize>,
}

/// How a line is cut into fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// At every delimiter; a quotation mark is a character like any other.
    Delimited {
        /// What stands between two fields.
        delimiter: &'static str,
        /// The delimiter in words, for messages.
        name: &'static str,
    },
    /// At commas outside quotation marks (RFC 4180). A field in quotation marks may go on over several lines.
    Csv,
    /// A JSON object.
    Json,
    /// A Python dictionary literal. A line that lacks one of the columns is passed over and counted.
    Python,
    /// A user and the items that follow, separated by blanks.
    Sequence,
}

/// Fields between tabs.
pub const TABS: Syntax = Syntax::Delimited { delimiter: "\t", name: "tabs" };
/// Fields between `::`.
pub const COLONS: Syntax = Syntax::Delimited { delimiter: "::", name: "`::`" };
/// Fields between commas, without quotation marks.
pub const COMMAS: Syntax = Syntax::Delimited { delimiter: ",", name: "commas" };

impl Schema {
    /// Lines without a header. `columns` names all their fields in order, among them `user` and `item`, and where there
    /// are any `rating` and `timestamp`.
    ///
    /// # Panics
    /// Where `columns` lacks `user` or `item`: that is a mistake in the layout, not in a file.
    pub fn by_place(syntax: Syntax, columns: &[&str]) -> Self {
        let place = |name| columns.iter().position(|column| *column == name);
        let (Some(user), Some(item)) = (place("user"), place("item")) else {
            panic!("a layout without user or item: {columns:?}")
        };
        Self {
            syntax,
            header: false,
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            user,
            item,
            rating: place("rating"),
            timestamp: place("timestamp"),
        }
    }

    /// Lines below a header, whose columns are `columns`, in any order and with others among them; `names` are those that
    /// are read.
    ///
    /// # Errors
    /// A refusal where the header lacks one of the names or has it twice.
    pub fn by_header(
        path: &Path,
        syntax: Syntax,
        columns: Vec<String>,
        names: Names<'_>,
    ) -> anyhow::Result<Self> {
        let all: Vec<&str> = names.into_iter().flatten().collect();
        let expected = format!("the columns {}", all.join(","));
        let find = |name: Option<&str>| {
            name.map(|name| position(path, &columns, |column| column == name, name, &expected)).transpose()
        };
        let [user, item, rating, timestamp] = names;
        Ok(Self {
            syntax,
            header: true,
            user: find(user)?.unwrap_or_default(),
            item: find(item)?.unwrap_or_default(),
            rating: find(rating)?,
            timestamp: find(timestamp)?,
            columns,
        })
    }

    /// Lines that name every field themselves; `names` are those that are read.
    pub fn by_key(syntax: Syntax, names: Names<'_>) -> Self {
        let [_, _, rating, timestamp] = names;
        let rating = rating.map(|_| 2);
        let timestamp = timestamp.map(|_| if rating.is_some() { 3 } else { 2 });
        let columns = names.into_iter().flatten().map(str::to_owned).collect();
        Self { syntax, header: false, columns, user: 0, item: 1, rating, timestamp }
    }
}

/// The names that the settings give the columns of a table. Their check has it that user and item are among them.
pub fn named_columns(columns: &Columns) -> Names<'_> {
    [&columns.user, &columns.item, &columns.rating, &columns.timestamp].map(Option::as_deref)
}

/// The place of the one column in the header of `path` that `is_it`; `name` and `expected` are for the message.
///
/// # Errors
/// A refusal where there is no such column, or more than one.
pub fn position(
    path: &Path,
    columns: &[String],
    is_it: impl Fn(&str) -> bool,
    name: &str,
    expected: &str,
) -> anyhow::Result<usize> {
    let places: Vec<usize> = (0..columns.len()).filter(|&place| is_it(&columns[place])).collect();
    let fault = match places.as_slice() {
        [only] => return Ok(*only),
        [] => format!("no column `{name}`"),
        _ => format!("more than one column `{name}`"),
    };
    let header = shorten(&columns.join(" "));
    Err(Refusal::new(format!("{}:1: {fault} in the header {header}, expected {expected}", path.display()))
        .into())
}
