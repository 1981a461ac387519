//! MovieLens' ratings, as GroupLens published them over the years: <https://grouplens.org/datasets/movielens/>.

use super::{Head, Layout};
use crate::read::schema::{Schema, Syntax, columns_named};
use crate::read::separator::Separator;

/// The columns of the releases before MovieLens-20M, which have no header.
const COLUMNS: &[&str] = &["user", "item", "rating", "timestamp"];

/// The header of `ratings.csv`.
const HEADER: [&str; 4] = ["userId", "movieId", "rating", "timestamp"];

/// MovieLens-100K.
pub const ML_100K: Layout = Layout {
    name: "movielens-100k",
    title: "user, item, rating and timestamp between tabs, without a header",
    files: &["u.data"],
    also: &[],
    example: "1\t50\t5\t881250949",
    needs: None,
    begins: |line| !super::inter::is_header(line) && is_row(line, "\t"),
    schema: |head| Ok(Schema::by_place_told(head, Separator::Byte(b'\t'), COLUMNS)),
};

/// MovieLens-1M and 10M.
pub const ML_1M: Layout = Layout {
    name: "movielens-1m",
    title: "user, item, rating and timestamp between `::`, without a header",
    files: &["ratings.dat"],
    also: &[],
    example: "1::50::5::978300760",
    needs: None,
    // A dictionary may well hold `::` in its texts.
    begins: |line| !line.starts_with('{') && is_row(line, "::"),
    schema: |head| Ok(Schema::by_place_told(head, Separator::Text("::".to_owned()), COLUMNS)),
};

/// MovieLens-20M and later.
pub const ML_20M: Layout = Layout {
    name: "movielens-20m",
    title: "commas and the header userId,movieId,rating,timestamp",
    files: &["ratings.csv"],
    also: &["rating.csv", "ratings_small.csv"],
    example: "userId,movieId,rating,timestamp",
    needs: None,
    begins: |line| {
        let names = line.replace('"', "");
        let names: Vec<&str> = names.split([',', ';', '|', '\t']).map(str::trim).collect();
        HEADER.iter().all(|name| names.contains(name))
    },
    schema: csv,
};

/// Whether the fields of a line are those of a rating: nothing but the user's and the item's id may be text.
fn is_row(line: &str, separator: &str) -> bool {
    let fields: Vec<&str> = line.split(separator).collect();
    fields.len() == COLUMNS.len() && fields[2].trim().parse::<f64>().is_ok()
}

/// GroupLens' file has commas and no quotation marks, its copies may have others.
fn csv(head: &Head<'_>) -> anyhow::Result<Schema> {
    let quoted = head.lines.iter().any(|line| line.contains('"'));
    let separator = Separator::of_header(head.first_line(), &HEADER);
    let quoted = quoted && matches!(separator, Separator::Byte(_));
    let names = separator.fields(head.first_line(), quoted);
    let syntax = match separator {
        Separator::Byte(byte) if quoted => Syntax::Quoted(byte),
        separator => Syntax::Delimited(separator),
    };
    Schema::by_column(head, syntax, Some(names), 0, &columns_named(HEADER))
}
