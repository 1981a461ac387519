//! Amazon's ratings by category, as McAuley's group published them: <https://snap.stanford.edu/data/amazon/productGraph/>.
//! The lines of 2014 begin with the user, those of 2018 with the item, and nothing but the ids tells which: a user's begins
//! with an A, an item's hardly ever does. The benchmark files of 2023 have a header.

use stage::Refusal;

use super::{Head, Layout};
use crate::read::schema::{COMMAS, Schema, columns_named};

/// Amazon's `ratings_*.csv`.
pub const AMAZON: Layout = Layout {
    name: "amazon",
    title: "Amazon's ratings: user, item (2018: item, user), rating and timestamp between commas, without a header",
    files: &["ratings_*.csv"],
    also: &[],
    example: "A1,B1,5.0,1369699200",
    needs: None,
    // Other tables look the same and mean something else.
    begins: |line| line.starts_with("user_id,parent_asin,rating,timestamp"),
    schema,
};

/// The share of one column's ids, in the first lines, from which on they are plainly users, or not.
const PLAIN: f64 = 0.9;

fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    let first: Vec<String> = head.first_line().split(',').map(|field| field.trim().to_owned()).collect();
    if first.iter().any(|field| field == "user_id") {
        let item = if first.iter().any(|field| field == "parent_asin") { "parent_asin" } else { "asin" };
        let columns = columns_named(["user_id", item, "rating", "timestamp"]);
        return Schema::by_column(head, COMMAS, Some(first), 0, &columns);
    }
    let rows = || head.lines.iter().filter(|line| !line.trim().is_empty());
    let share = |place: usize| {
        let users =
            rows().filter(|line| line.split(',').nth(place).is_some_and(|id| id.trim().starts_with('A')));
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
    Ok(Schema::by_place(COMMAS, &order))
}
