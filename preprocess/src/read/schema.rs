//! How the lines of one file are cut into fields, and which fields are user, item, rating and timestamp. A [`Schema`] is
//! all that the parser knows of a file: past it, all layouts are alike. (A Parquet table has no lines; [`columnar`] reads
//! it by the names of its columns.)
//!
//! [`columnar`]: crate::read::columnar

use std::collections::BTreeMap;
use std::path::Path;

use stage::Refusal;
use stage::settings::{Column, Columns, Values};

use crate::read::fault::shorten;
use crate::read::layouts::{Head, partitioned};
use crate::read::objects::Notation;
use crate::read::separator::Separator;

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
    /// Which column orders equal timestamps, if one does.
    pub tiebreak: Option<usize>,
    /// Which columns have to have which values for a row to be kept.
    pub conditions: Vec<(usize, Vec<String>)>,
    /// Whether rows that lack a value are passed over where the settings leave that to the layout.
    pub skips_incomplete: bool,
    /// Whether a text such as `NA` in place of an id is a missing value, as it is in tables, and not somebody's name; and blanks
    /// around an id are not its own.
    pub missing_texts: bool,
}

/// How a line is cut into fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// At every separator; a quotation mark is a character like any other.
    Delimited(Separator),
    /// At a character outside quotation marks (RFC 4180). A field in quotation marks may go on over several lines.
    Quoted(u8),
    /// A JSON object a line.
    Json,
    /// Objects over any number of lines, one after another or in one array.
    Objects(Notation),
    /// A Python dictionary literal a line.
    Python,
    /// A user and the items that follow, separated by blanks.
    Sequence,
}

/// Fields between tabs.
pub const TABS: Syntax = Syntax::Delimited(Separator::Byte(b'\t'));
/// Fields between commas, without quotation marks.
pub const COMMAS: Syntax = Syntax::Delimited(Separator::Byte(b','));

/// Columns of these names; an empty one stands for a column that is not there.
pub fn columns_named([user, item, rating, timestamp]: [&str; 4]) -> Columns {
    let name = |name: &str| (!name.is_empty()).then(|| Column::Name(name.to_owned()));
    Columns {
        user: name(user),
        item: name(item),
        rating: name(rating),
        timestamp: name(timestamp),
        tiebreak: None,
    }
}

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
            tiebreak: None,
            conditions: Vec::new(),
            skips_incomplete: false,
            missing_texts: true,
        }
    }

    /// As [`by_place`](Self::by_place) between `usual`, for files that others have rewritten: where the first line is not of as many
    /// fields between these, the separator under which all lines are; and a first line is a header where it names the user first
    /// and the time last, and they are numbers in the line below.
    pub fn by_place_told(head: &Head<'_>, usual: Separator, columns: &[&str]) -> Self {
        let count = |separator: &Separator| {
            separator.fields(head.first_line(), separator.quotes(head.first_line())).len()
        };
        let last = Column::Place(columns.len());
        let told = || Separator::of_lines(head.lines, &[&last]).filter(|told| count(told) == columns.len());
        let separator = if count(&usual) == columns.len() { usual } else { told().unwrap_or(usual) };
        let quoted = separator.is_quoted(head.first_line());
        let mut filled = head.lines.iter().filter(|line| !line.trim().is_empty());
        let mut next = || {
            let fields = separator.fields(filled.next().map_or("", String::as_str), quoted);
            fields.iter().map(|field| field.trim().to_lowercase()).collect::<Vec<_>>()
        };
        let (first, second) = (next(), next());
        let names = |place: usize, part: &str| first.get(place).is_some_and(|name| name.contains(part));
        let is_number = |field: &String| field.parse::<f64>().is_ok();
        let header = names(0, "user")
            && names(columns.len() - 1, "time")
            && second.last().is_some_and(is_number)
            && !first.iter().any(is_number);
        if header {
            tracing::info!("{}:1 is taken for a header", head.path.display());
        }
        let syntax = match separator {
            Separator::Byte(byte) if quoted => Syntax::Quoted(byte),
            separator => Syntax::Delimited(separator),
        };
        Self { header, ..Self::by_place(syntax, columns) }
    }

    /// Lines whose fields are those of `header`, or without one `fields` in number, in any order and with others among them;
    /// `columns` are those that are read.
    ///
    /// # Errors
    /// A refusal where a column is not there, or the header has its name twice.
    pub fn by_column(
        head: &Head<'_>,
        syntax: Syntax,
        header: Option<Vec<String>>,
        fields: usize,
        columns: &Columns,
    ) -> anyhow::Result<Self> {
        let named = header.is_some();
        let count = header.as_ref().map_or(fields, Vec::len);
        let names = header.unwrap_or_else(|| (1..=count).map(|place| format!("column {place}")).collect());
        let keep = &head.settings.keep;
        let all: Vec<String> =
            columns.all().into_iter().flatten().chain(keep.keys()).map(ToString::to_string).collect();
        let advice = if head.settings.columns.is_named() {
            ""
        } else {
            "; preprocess.columns names others, such as --set 'preprocess.columns={user: user_id, item: movie_id}'"
        };
        let expected = format!("the columns {}{advice}", all.join(", "));
        let find = |column: &Column| match column {
            Column::Place(place) => at_place(head, *place, count),
            Column::Name(name) if !named => match name.parse() {
                Ok(place) => at_place(head, place, count),
                Err(_) => Err(Refusal::new(format!(
                    "{}: no line names a column `{name}`; expected its number, counted from 1",
                    head.path.display()
                ))
                .into()),
            },
            Column::Name(name) => position(head.path, &names, name, &expected),
        };
        let find_if = |column: &Option<Column>| column.as_ref().map(find).transpose();
        let conditions = keep.iter().map(|(column, Values(values))| Ok((find(column)?, values.clone())));
        let schema = Self {
            syntax,
            header: named,
            user: find_if(&columns.user)?.unwrap_or_default(),
            item: find_if(&columns.item)?.unwrap_or_default(),
            rating: find_if(&columns.rating)?,
            timestamp: find_if(&columns.timestamp)?,
            tiebreak: find_if(&columns.tiebreak)?,
            conditions: conditions.collect::<anyhow::Result<_>>()?,
            columns: names,
            skips_incomplete: false,
            missing_texts: true,
        };
        Ok(schema)
    }

    /// Lines that name every field themselves; `columns` and `keep` are those that are read.
    ///
    /// # Errors
    /// A refusal of a column that is given by its number.
    pub fn by_key(
        path: &Path,
        syntax: Syntax,
        columns: &Columns,
        keep: &BTreeMap<Column, Values>,
    ) -> anyhow::Result<Self> {
        let mut names: Vec<String> = Vec::new();
        let mut place = |column: &Column| match column {
            Column::Name(name) => {
                let known = names.iter().position(|known| known == name);
                Ok(known.unwrap_or_else(|| {
                    names.push(name.clone());
                    names.len() - 1
                }))
            }
            Column::Place(place) => Err(Refusal::new(format!(
                "{}: its lines are objects, which have no column {place}; expected the name of a key",
                path.display()
            ))),
        };
        let mut find = |column: &Option<Column>| column.as_ref().map(&mut place).transpose();
        let (user, item) =
            (find(&columns.user)?.unwrap_or_default(), find(&columns.item)?.unwrap_or_default());
        let (rating, timestamp) = (find(&columns.rating)?, find(&columns.timestamp)?);
        let tiebreak = find(&columns.tiebreak)?;
        let mut conditions = Vec::new();
        for (column, Values(values)) in keep {
            conditions.push((place(column)?, values.clone()));
        }
        Ok(Self {
            syntax,
            header: false,
            columns: names,
            user,
            item,
            rating,
            timestamp,
            tiebreak,
            conditions,
            skips_incomplete: false,
            missing_texts: true,
        })
    }
}

/// The place, from 0, of the column with the number `place`, from 1, among `count`.
fn at_place(head: &Head<'_>, place: usize, count: usize) -> anyhow::Result<usize> {
    if (1..=count).contains(&place) {
        return Ok(place - 1);
    }
    let message = format!(
        "{}: no column {place}, for its first line has {count} ({}); columns are counted from 1",
        head.path.display(),
        shorten(head.first_line())
    );
    Err(Refusal::new(message).into())
}

/// The place of the one column called `name` in the header of `path`; `expected` is for the message. A name counts
/// without blanks around it, and without the type that RecBole writes behind it, where none is exactly as asked for.
///
/// # Errors
/// A refusal where there is no such column, or more than one.
pub fn position(path: &Path, columns: &[String], name: &str, expected: &str) -> anyhow::Result<usize> {
    let places = |is_it: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..columns.len()).filter(|&place| is_it(&columns[place])).collect()
    };
    let header: Vec<String> = columns.iter().map(|column| format!("{column:?}")).collect();
    let header = header.join(", ");
    let mut found = places(&|column| column == name);
    if found.is_empty() {
        found = places(&|column| column.split(':').next() == Some(name));
    }
    if found.is_empty() {
        found = places(&|column| column.trim() == name);
        if !found.is_empty() {
            tracing::warn!(
                "{}:1: `{name}` has blanks around it in the header {}, which are cut",
                path.display(),
                cut(&header)
            );
        }
    }
    let fault = match found.as_slice() {
        [only] => return Ok(*only),
        [] => format!("no column `{name}`"),
        _ => format!("more than one column `{name}`"),
    };
    Err(Refusal::new(format!(
        "{}:1: {fault} in the header {}, expected {expected}{}",
        path.display(),
        cut(&header),
        partitioned(path, name)
    ))
    .into())
}

/// A header in a length that fits a message.
fn cut(header: &str) -> String {
    match header.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &header[..end]),
        None => header.to_owned(),
    }
}
