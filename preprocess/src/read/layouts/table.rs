//! Any table whose columns the settings name: text with a header or without, JSON objects, Python dictionaries, or Parquet.

use stage::Refusal;
use stage::settings::{Column, Columns};

use super::{Head, Layout, unpacked_name};
use crate::read::fault::shorten;
use crate::read::schema::{Schema, Syntax};
use crate::read::separator::Separator;
use crate::read::timestamps::TimeReader;
use crate::read::{json, literal};

/// A table of the user's own.
pub const TABLE: Layout = Layout {
    name: "table",
    title: "a text table, JSON objects, Python dictionaries or Parquet, by the names or numbers of the columns",
    files: &["*.csv", "*.tsv", "*.psv", "*.jsonl", "*.ndjson", "*.parquet", "*.inter"],
    also: &["*.json", "*.txt", "*.dat", "*.data", "*.tab", "*.log", "*.pq"],
    example: "user,item,stars",
    needs: Some(
        "preprocess.columns.user and .item, and where there are any .timestamp and .rating: names, or numbers counted \
         from 1; without a timestamp the rows are in order of time",
    ),
    begins: |_| false,
    schema: |head| schema(head, &head.settings.columns),
};

/// The schema of a table with these columns.
///
/// # Errors
/// A refusal where the lines show no table, or lack a column.
pub(super) fn schema(head: &Head<'_>, columns: &Columns) -> anyhow::Result<Schema> {
    if let Some(syntax) = objects(head) {
        return Schema::by_key(head.path, syntax, columns, &head.settings.keep);
    }
    let first = head.first_line();
    let all: Vec<&Column> = columns.all().into_iter().flatten().chain(head.settings.keep.keys()).collect();
    // A name of digits alone is a number, unless there is a header that can have it.
    let names: Vec<&str> = all
        .iter()
        .filter_map(|column| match column {
            Column::Name(name) if head.settings.header == Some(true) || name.parse::<usize>().is_err() => {
                Some(name.as_str())
            }
            _ => None,
        })
        .collect();
    let separator = match Separator::named(&head.settings.separator) {
        Some(separator) => separator,
        None if !names.is_empty() => Separator::of_header(first, &names),
        None => Separator::of_lines(head.lines, &all).ok_or_else(|| {
            Refusal::new(format!(
                "{}: its first lines ({}, …) have no separator under which all have as many fields as \
                 preprocess.columns needs; set preprocess.separator",
                head.path.display(),
                shorten(first)
            ))
        })?,
    };
    let quoted = head.settings.quotes.unwrap_or_else(|| separator.quotes(first));
    let fields = separator.fields(first, quoted);
    let header = match head.settings.header {
        Some(header) => header,
        None if !names.is_empty() => true,
        None => is_header(head, &separator, quoted, columns),
    };
    let syntax = match (separator, quoted) {
        (Separator::Byte(byte), true) => Syntax::Quoted(byte),
        (separator, true) => {
            let message = format!(
                "`preprocess.quotes` is true, expected a separator of one character, not {separator}"
            );
            return Err(Refusal::new(message).into());
        }
        (separator, false) => Syntax::Delimited(separator),
    };
    let count = fields.len();
    Schema::by_column(head, syntax, header.then_some(fields), count, columns)
}

/// How the objects are written, where the first line begins one.
fn objects(head: &Head<'_>) -> Option<Syntax> {
    let first = head.first_line().trim_start();
    if first.starts_with('[') {
        return Some(Syntax::Objects);
    }
    if !first.starts_with('{') {
        return None;
    }
    let is_python =
        ["{'", "{u'", "{u\"", "{b'"].iter().any(|start| first.replace(' ', "").starts_with(start));
    if json::fields(first, &[], 0).is_ok() {
        Some(Syntax::Json)
    } else if is_python || !is_json_lines(head) && literal::fields(first, &[], 0).is_ok() {
        Some(Syntax::Python)
    } else if head.lines.get(1).is_some_and(|second| !second.trim_start().starts_with('{')) {
        // An object goes on where no line begins another.
        Some(Syntax::Objects)
    } else {
        Some(Syntax::Json)
    }
}

/// Whether the name of the file says that its objects are JSON.
fn is_json_lines(head: &Head<'_>) -> bool {
    let name = unpacked_name(head.path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    matches!(ending.as_deref(), Some("jsonl" | "ndjson"))
}

/// Whether the first line of a table, whose columns are given by their numbers, names them all the same: it has no number
/// where the lines below it have one.
fn is_header(head: &Head<'_>, separator: &Separator, quoted: bool, columns: &Columns) -> bool {
    let times = TimeReader::new(head.settings.time_format.as_deref());
    let is_number = |text: &str| text.trim().parse::<f64>().is_ok();
    let is_time = |text: &str| times.parse(text.trim()).is_some();
    let column = |column: &Option<Column>| match column {
        Some(Column::Place(place)) => Some(place - 1),
        Some(Column::Name(name)) => name.parse::<usize>().ok().and_then(|place| place.checked_sub(1)),
        None => None,
    };
    let rows: Vec<Vec<String>> = head
        .lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| separator.fields(line, quoted))
        .collect();
    let [first, others @ ..] = rows.as_slice() else { return false };
    let differs = |place: Option<usize>, holds: &dyn Fn(&str) -> bool| {
        let at = |row: &Vec<String>| place.and_then(|place| row.get(place)).is_some_and(|field| holds(field));
        place.is_some() && !others.is_empty() && !at(first) && others.iter().all(at)
    };
    let named = differs(column(&columns.timestamp), &is_time)
        || differs(column(&columns.rating), &is_number)
        || differs(column(&columns.user), &is_number)
        || differs(column(&columns.item), &is_number);
    if named {
        tracing::info!(
            "{}:1 is taken for a header; preprocess.header=false makes it a row",
            head.path.display()
        );
    }
    named
}
