//! Any table whose columns the settings name: text with a header or without, JSON objects, Python dictionaries, or Parquet.

use stage::Refusal;
use stage::settings::{Column, Columns};

use super::{Head, Layout, unpacked_name};
use crate::read::fault::shorten;
use crate::read::objects::Notation;
use crate::read::schema::{Schema, Syntax};
use crate::read::separator::Separator;
use crate::read::timestamps::TimeReader;
use crate::read::{json, literal, objects};

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
    if header {
        warn_of_histories(head, &fields, columns);
    }
    let count = fields.len();
    Schema::by_column(head, syntax, header.then_some(fields), count, columns)
}

/// Warns of a column with the history before each item, as RecBole's augmented files have it: their lines are no interactions of
/// their own, and what came first stands in that column alone.
fn warn_of_histories(head: &Head<'_>, header: &[String], columns: &Columns) {
    let item = columns.item.as_ref().map_or(String::new(), ToString::to_string);
    let list = header.iter().find(|field| field.split(':').next() == Some(&format!("{item}_list")));
    if let Some(list) = list {
        tracing::warn!(
            "{}:1: column `{list}` seems to hold histories, which are not read; the file they were made from, where each line is \
             one interaction, has them all",
            head.path.display()
        );
    }
}

/// How the objects are written, where the first line begins one.
pub(super) fn objects(head: &Head<'_>) -> Option<Syntax> {
    let first = head.first_line().trim_start();
    if !first.starts_with(['[', '{']) {
        return None;
    }
    let notation = notation(head);
    if first.starts_with('[') {
        return Some(Syntax::Objects(notation));
    }
    let behind = objects::split(first, notation).next().map(|(_, object)| first[object.len()..].trim());
    let goes_on = match behind {
        // Objects of one list, each on a line.
        Some(behind) => behind == ",",
        // An object goes on where no line begins another.
        None => head.lines.get(1).is_some_and(|second| !second.trim_start().starts_with('{')),
    };
    Some(match (goes_on, notation) {
        (true, notation) => Syntax::Objects(notation),
        (false, Notation::Json) => Syntax::Json,
        (false, Notation::Python) => Syntax::Python,
    })
}

/// The notation of the first object: where its keys stand in double quotation marks, the one in which it can be read.
fn notation(head: &Head<'_>) -> Notation {
    let text = head.lines.join("\n");
    if Notation::of(&text) == Notation::Python {
        return Notation::Python;
    }
    let begin = text.find('{').unwrap_or_default();
    let object = |notation| objects::split(&text[begin..], notation).next().map_or("", |(_, object)| object);
    let is_json = json::fields(object(Notation::Json), &[], 0).is_ok();
    let is_python = || literal::fields(object(Notation::Python), &[], 0).is_ok();
    if !is_json && !is_json_lines(head) && is_python() { Notation::Python } else { Notation::Json }
}

/// Whether the name of the file says that its objects are JSON.
fn is_json_lines(head: &Head<'_>) -> bool {
    let name = unpacked_name(head.path);
    matches!(name.rsplit_once('.'), Some((_, "jsonl" | "ndjson")))
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
