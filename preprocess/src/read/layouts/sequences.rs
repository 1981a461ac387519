//! Whole histories: a user and then items on every line, as S3-Rec's authors publish them, or a user and one item, as
//! SASRec's do. A user may recur. There are no ratings and no timestamps: the order of the file is the order of time.

use stage::Refusal;

use super::{Head, Layout};
use crate::read::fault::shorten;
use crate::read::schema::{Schema, Syntax};
use crate::read::timestamps::TimeReader;

/// Histories, one or a part of one a line.
pub const SEQUENCES: Layout = Layout {
    name: "sequences",
    title: "a user and then items on every line, between blanks, in order of time",
    files: &["*.txt"],
    also: &["*.dat", "*.data", "*.seq"],
    example: "1 50 172 133",
    needs: Some("preprocess.format=sequences"),
    begins: |_| false,
    schema,
};

/// Seconds since 1970 of the years in which interactions were recorded: 1995 to 2045.
const SECONDS: std::ops::Range<f64> = 788_918_400.0..2_366_841_600.0;

fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    if let Some(found) = no_item(head) {
        let message = format!(
            "{}: its lines look like a table, not like a user and then items: {found}; read it with preprocess.columns, such \
             as --set 'preprocess.columns={{user: 1, item: 2}}'",
            head.path.display()
        );
        return Err(Refusal::new(message).into());
    }
    let is_text = |line: &&String| line.split_ascii_whitespace().all(|field| field.parse::<f64>().is_err());
    let mut filled = head.lines.iter().filter(|line| !line.trim().is_empty());
    let header = filled.next().is_some_and(|first| is_text(&first))
        && head.lines.len() > 1
        && filled.all(|line| line.split_ascii_whitespace().all(|field| field.parse::<f64>().is_ok()));
    if header {
        tracing::info!("{}:1 is taken for a header", head.path.display());
    }
    Ok(Schema { header, ..Schema::by_place(Syntax::Sequence, &["user", "item"]) })
}

/// What in the first lines can be no item: a date, a number with a fraction, or a last column of times.
fn no_item(head: &Head<'_>) -> Option<String> {
    let rows: Vec<Vec<&str>> = head
        .lines
        .iter()
        .map(|line| line.split_ascii_whitespace().collect())
        .filter(|row: &Vec<_>| !row.is_empty())
        .collect();
    let dates = TimeReader::new(None);
    let is_date = |text: &str| text.parse::<f64>().is_err() && dates.parse(text).is_some();
    let is_fraction =
        |text: &str| text.contains('.') && text.parse::<f64>().is_ok_and(|number| number.fract() != 0.0);
    for row in &rows {
        let items = row.get(1..).unwrap_or_default();
        if let Some(field) = items.iter().find(|field| is_date(field)) {
            return Some(format!("{} is a date", shorten(field)));
        }
        if let Some(field) = items.iter().find(|field| is_fraction(field)) {
            return Some(format!("{} is a number with a fraction", shorten(field)));
        }
        if let Some(field) =
            row.iter().find(|field| field.starts_with(['[', '{']) || field.ends_with([',', ']', '}']))
        {
            return Some(format!("{} is a part of a list or an object", shorten(field)));
        }
    }
    let count = rows.first()?.len();
    if count < 3 || rows.len() < 2 || rows.iter().any(|row| row.len() != count) {
        return None;
    }
    let is_time = |text: &str| {
        text.parse()
            .is_ok_and(|number: f64| SECONDS.contains(&number) || SECONDS.contains(&(number / 1000.0)))
    };
    let timed = |place: usize| rows.iter().all(|row| is_time(row[place]));
    let ordinal = |place: usize| {
        if place + 1 == count { "the last".to_owned() } else { format!("number {}", place + 1) }
    };
    // Ids may be as large as times; not all of them but in one column.
    if let Some(place) = (1..count).find(|&place| timed(place)).filter(|_| !(1..count).all(timed)) {
        return Some(format!("every line has {count} fields, of which {} is a time", ordinal(place)));
    }
    let is_rating = |text: &str| text.parse().is_ok_and(|number: u32| number <= 10);
    let mut users: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    users.sort_unstable();
    users.dedup();
    let recur = users.len() * 2 <= rows.len();
    (count == 3
        && recur
        && rows.iter().all(|row| is_rating(row[2]))
        && !rows.iter().all(|row| is_rating(row[1])))
    .then(|| "every line has 3 fields, of which the last looks like a rating".to_owned())
}
