//! The reviews on Steam that McAuley's group published with SASRec: a Python dictionary a line, as `print` wrote it.
//! <https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data>

use super::Layout;
use crate::read::schema::{Schema, Syntax};

/// The keys that are read: user, item, timestamp.
const KEYS: [&str; 3] = ["username", "product_id", "date"];

/// Steam's reviews.
pub const STEAM: Layout = Layout {
    name: "steam",
    title: "Steam's reviews: a Python dictionary a line, with username, product_id and date",
    files: &["steam_reviews.json"],
    example: "{u'username': u'Ann', u'product_id': u'725280', u'date': u'2017-12-17'}",
    needs: None,
    begins: |line| line.starts_with('{') && KEYS.iter().any(|key| line.contains(&format!("'{key}'"))),
    schema: |_| {
        let [user, item, timestamp] = KEYS.map(Some);
        Ok(Schema::by_key(Syntax::Python, [user, item, None, timestamp]))
    },
};
