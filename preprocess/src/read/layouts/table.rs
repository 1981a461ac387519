//! Any table whose columns the settings name: csv with a header, tab-separated text with a header, JSON lines, or
//! Parquet.

use std::path::Path;

use stage::Refusal;

use super::{Head, Layout, unpacked_name};
use crate::read::fault::shorten;
use crate::read::schema::{Schema, Syntax, TABS, named_columns};

/// A table of the user's own.
pub const TABLE: Layout = Layout {
    name: "table",
    title: "csv or tsv with a header, JSON lines, or Parquet, by the names of their columns",
    files: &["*.csv", "*.tsv", "*.jsonl", "*.ndjson", "*.parquet"],
    example: "user,item,stars",
    needs: Some(
        "preprocess.columns.user and .item, and where there are any .timestamp and .rating; without a timestamp the \
         rows are in order of time",
    ),
    begins: |_| false,
    schema,
};

fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    let names = named_columns(head.columns);
    match syntax(head)? {
        Syntax::Json => Ok(Schema::by_key(Syntax::Json, names)),
        Syntax::Csv => Schema::by_header(head.path, Syntax::Csv, csv_header(head.first_line)?, names),
        syntax => {
            let columns = head.first_line.split('\t').map(str::to_owned).collect();
            Schema::by_header(head.path, syntax, columns, names)
        }
    }
}

/// How the lines are cut, by the file's name or else by its first line.
fn syntax(head: &Head<'_>) -> anyhow::Result<Syntax> {
    let name = unpacked_name(head.path);
    let extension = Path::new(&name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "csv" => Ok(Syntax::Csv),
        "tsv" => Ok(TABS),
        "jsonl" | "ndjson" => Ok(Syntax::Json),
        _ if head.first_line.starts_with('{') => Ok(Syntax::Json),
        _ if head.first_line.contains('\t') => Ok(TABS),
        _ if head.first_line.contains(',') => Ok(Syntax::Csv),
        _ => Err(Refusal::new(format!(
            "{}: neither its name nor its first line ({}) tells what table it is; call it .csv, .tsv, .jsonl or .parquet",
            head.path.display(),
            shorten(head.first_line)
        ))
        .into()),
    }
}

/// The columns that the first line of a csv table names.
fn csv_header(first_line: &str) -> anyhow::Result<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(first_line.as_bytes());
    let mut header = csv::StringRecord::new();
    reader.read_record(&mut header)?;
    Ok(header.iter().map(str::to_owned).collect())
}
