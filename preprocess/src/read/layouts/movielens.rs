//! MovieLens' ratings, as GroupLens published them over the years: <https://grouplens.org/datasets/movielens/>.

use super::Layout;
use crate::read::schema::{COLONS, COMMAS, Schema, TABS};

/// The columns of the releases before MovieLens-20M, which have no header.
const COLUMNS: &[&str] = &["user", "item", "rating", "timestamp"];

/// The header of `ratings.csv`.
const HEADER: [&str; 4] = ["userId", "movieId", "rating", "timestamp"];

/// MovieLens-100K.
pub const ML_100K: Layout = Layout {
    name: "movielens-100k",
    title: "user, item, rating and timestamp between tabs, without a header",
    files: &["u.data"],
    example: "1\t50\t5\t881250949",
    needs: None,
    begins: |line| !super::inter::is_header(line) && line.split('\t').count() == COLUMNS.len(),
    schema: |_| Ok(Schema::by_place(TABS, COLUMNS)),
};

/// MovieLens-1M and 10M.
pub const ML_1M: Layout = Layout {
    name: "movielens-1m",
    title: "user, item, rating and timestamp between `::`, without a header",
    files: &["ratings.dat"],
    example: "1::50::5::978300760",
    needs: None,
    // A dictionary may well hold `::` in its texts.
    begins: |line| !line.starts_with('{') && line.split("::").count() == COLUMNS.len(),
    schema: |_| Ok(Schema::by_place(COLONS, COLUMNS)),
};

/// MovieLens-20M and later.
pub const ML_20M: Layout = Layout {
    name: "movielens-20m",
    title: "commas and the header userId,movieId,rating,timestamp",
    files: &["ratings.csv"],
    example: "userId,movieId,rating,timestamp",
    needs: None,
    begins: |line| line.starts_with("userId,"),
    schema: |head| {
        let columns = head.first_line.split(',').map(str::to_owned).collect();
        Schema::by_header(head.path, COMMAS, columns, HEADER.map(Some))
    },
};
