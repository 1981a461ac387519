//! The reviews on Steam that McAuley's group published with SASRec: a Python dictionary a line, as `print` wrote it.
//! <https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data>

use std::collections::BTreeMap;

use super::table::objects;
use super::{Head, Layout};
use crate::read::schema::{Schema, Syntax, columns_named};

/// The keys that are read: user, item, no rating, timestamp.
const KEYS: [&str; 4] = ["username", "product_id", "", "date"];

/// Steam's reviews.
pub const STEAM: Layout = Layout {
    name: "steam",
    title: "Steam's reviews: a Python dictionary a line, with username, product_id and date",
    files: &["steam_reviews.json"],
    also: &[],
    example: "{u'username': u'Ann', u'product_id': u'725280', u'date': u'2017-12-17'}",
    needs: None,
    begins: |line| {
        line.starts_with('{') && KEYS.iter().any(|key| !key.is_empty() && line.contains(&format!("'{key}'")))
    },
    schema,
};

/// Some reviews lack their user; and somebody there may well be called None, or have a blank behind the name. Copies have the
/// dictionaries over several lines, in a list, or as JSON.
fn schema(head: &Head<'_>) -> anyhow::Result<Schema> {
    let syntax = objects(head).unwrap_or(Syntax::Python);
    let schema = Schema::by_key(head.path, syntax, &columns_named(KEYS), &BTreeMap::new())?;
    Ok(Schema { skips_incomplete: true, missing_texts: false, ..schema })
}
