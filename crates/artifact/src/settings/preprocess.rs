//! Ratings to dataset.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{at_least, number};

/// What the columns of a table are called that hold what is needed. A table is read by its columns' names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The user's raw id: text or an integer.
    pub user: Option<String>,
    /// The item's raw id: text or an integer.
    pub item: Option<String>,
    /// The time: an integer, a float, or an ISO date or date and time; `null` where the rows are in order of time.
    pub timestamp: Option<String>,
    /// The rating, a number; `null` where there is none.
    pub rating: Option<String>,
}

impl Columns {
    /// Whether any column is named.
    pub fn is_named(&self) -> bool {
        *self != Self::default()
    }
}

/// How often the filters run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Items, then users, once.
    #[default]
    Once,
    /// Again and again, until nothing changes.
    Core,
}

/// The order of a user's interactions with equal timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// By item id, the published rule.
    #[default]
    Item,
    /// As in the file.
    Input,
}

/// Settings of `gro-preprocess run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Layout of the ratings file: a name in the registry of layouts, or `auto` for whatever lies in the input directory.
    pub format: String,
    /// The columns of a table; naming any makes `format: auto` mean a table.
    pub columns: Columns,
    /// Ratings below are dropped before anything else.
    pub min_rating: f64,
    /// Items with fewer interactions are dropped.
    pub min_item_count: usize,
    /// Users with fewer interactions among the items left are dropped.
    pub min_user_count: usize,
    /// How often both filters run.
    pub filter: Filter,
    /// Order within equal timestamps.
    pub ties: Ties,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            format: "auto".to_owned(),
            columns: Columns::default(),
            min_rating: 0.0,
            min_item_count: 5,
            min_user_count: 5,
            filter: Filter::Once,
            ties: Ties::Item,
        }
    }
}

impl Preprocess {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_columns()?;
        number("preprocess.min_rating", self.min_rating, "a number", f64::is_finite)?;
        at_least("preprocess.min_user_count", self.min_user_count, 3).map_err(|invalid| {
            Invalid::new(format!(
                "{invalid}: a user needs an item to train on, one to validate and one to test"
            ))
        })?;
        Ok(())
    }

    /// The names of columns belong to tables, and a table is nothing without those of user and item.
    fn check_columns(&self) -> Result<(), Invalid> {
        let Preprocess { format, columns, .. } = self;
        match format.as_str() {
            "auto" | "table" => {}
            _ if columns.is_named() => {
                let message = "`preprocess.columns` names columns, expected only with `preprocess.format` auto or table";
                return Err(Invalid::new(message));
            }
            _ => return Ok(()),
        }
        if format == "auto" && !columns.is_named() {
            return Ok(());
        }
        for (key, name) in [("user", &columns.user), ("item", &columns.item)] {
            if name.is_none() {
                let message =
                    format!("`preprocess.columns.{key}` is null, expected the name of a column of the table");
                return Err(Invalid::new(message));
            }
        }
        let Columns { user, item, timestamp, rating } = columns;
        let names = [user, item, timestamp, rating].map(Option::as_ref);
        for (place, name) in names.iter().enumerate() {
            if let Some(name) = name
                && names[..place].contains(&Some(name))
            {
                let message = format!(
                    "`preprocess.columns` names `{name}` twice, expected a column of its own for each"
                );
                return Err(Invalid::new(message));
            }
        }
        Ok(())
    }
}
