//! Amazon's ratings by category, as McAuley's group published them in 2014:
//! <https://snap.stanford.edu/data/amazon/productGraph/>. Later releases have the item first.

use super::Layout;
use crate::read::schema::{COMMAS, Schema};

/// Amazon's `ratings_*.csv`.
pub const AMAZON: Layout = Layout {
    name: "amazon",
    title: "Amazon's ratings of 2014: user, item, rating and timestamp between commas, without a header",
    files: &["ratings_*.csv"],
    example: "A1,B1,5.0,1369699200",
    needs: None,
    // A line of a later release looks the same and means something else.
    begins: |_| false,
    schema: |_| Ok(Schema::by_place(COMMAS, &["user", "item", "rating", "timestamp"])),
};
