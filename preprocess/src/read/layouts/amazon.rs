//! Amazon's ratings by category, as McAuley's group published them: <https://snap.stanford.edu/data/amazon/productGraph/>.
//! The lines of 2014 begin with the user, those of 2018 with the item, and nothing but the ids tells which: a user's begins
//! with an A, an item's hardly ever does. The benchmark files of 2023 have a header.

use stage::Refusal;

use super::{Head, Layout};
use crate::read::schema::{Schema, Syntax, columns_named};
use crate::read::separator::Separator;

/// Amazon's `ratings_*.csv`.
pub const AMAZON: Layout = Layout {
    name: "amazon",
    title: "Amazon's ratings: user, item (2018: item, user), rating and timestamp between commas, without a header",
    files: &["ratings_*.csv"],
    also: &[],
    example: "A1,B1,5.0,1369699200",
    needs: None,
    // Other tables look the same and mean something else.
    begins: |line| {
        ["user_id,parent_asin,rating,timestamp", "user_id,asin,rating,timestamp"]
            .iter()
            .any(|header| line.starts_with(header))
    },
    schema,
};

/// The share of one column's ids, in the first lines, from which on they are plainly users, or not.
const PLAIN: f64 = 0.9;

/// What the columns are called where a header names them, in lower case: those of 2023, of the reviews, and of copies.
const NAMES: [&[&str]; 4] = [
    &["user_id", "userid", "reviewerid"],
    &["parent_asin", "asin", "productid", "product_id", "itemid", "item_id"],
    &["rating", "ratings", "overall"],
    &["timestamp", "unixreviewtime"],
];

fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    let columns = |separator: &Separator| separator.cut(head.first_line()).count();
    let mut others = [b',', b'\t', b';', b'|'].map(Separator::Byte).into_iter();
    let separator = others.find(|other| columns(other) >= NAMES.len()).unwrap_or(Separator::Byte(b','));
    let quoted = separator.is_quoted(head.first_line());
    let cut = |line: &str| separator.fields(line, quoted);
    let first = cut(head.first_line());
    let syntax = match &separator {
        &Separator::Byte(byte) if quoted => Syntax::Quoted(byte),
        other => Syntax::Delimited(other.clone()),
    };
    if first.iter().rev().take(2).all(|field| field.trim().parse::<f64>().is_err()) {
        let named = |names: &[&str]| {
            let of = |name: &&str| first.iter().find(|field| field.trim().eq_ignore_ascii_case(name));
            names.iter().find_map(of).cloned()
        };
        let [user, item, rating, timestamp] =
            NAMES.map(|names| named(names).unwrap_or_else(|| names[0].to_owned()));
        let columns = columns_named([&user, &item, &rating, &timestamp]);
        return Schema::by_column(head, syntax, Some(first), 0, &columns);
    }
    let rows = || head.lines.iter().filter(|line| !line.trim().is_empty());
    let share = |place: usize| {
        let users = rows().filter(|line| cut(line).get(place).is_some_and(|id| id.trim().starts_with('A')));
        users.count() as f64 / rows().count().max(1) as f64
    };
    let order = match [share(0), share(1)] {
        [first, second] if first >= PLAIN && second <= 1.0 - PLAIN => ["user", "item", "rating", "timestamp"],
        [first, second] if second >= PLAIN && first <= 1.0 - PLAIN => {
            tracing::info!("{} has the item before the user, as the ratings of 2018 do", head.path.display());
            ["item", "user", "rating", "timestamp"]
        }
        _ => {
            let message = format!(
                "{}: the ids in its first lines do not tell whether the user or the item comes first (2014 and 2018 \
                 differ); say it with --set 'preprocess.columns={{user: 1, item: 2, rating: 3, timestamp: 4}}' or \
                 with user 2 and item 1",
                head.path.display()
            );
            return Err(Refusal::new(message).into());
        }
    };
    Ok(Schema::by_place(syntax, &order))
}
