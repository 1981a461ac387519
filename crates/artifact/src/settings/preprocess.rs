//! Ratings to dataset: how the file is to be read, which rows of it count, and how what is left is split.

use std::collections::BTreeMap;
use std::fmt;

use chrono::format::{Item, StrftimeItems};
use encoding_rs::Encoding;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{at_least, number};

/// How many columns `preprocess.keep` may look at.
pub const MOST_CONDITIONS: usize = 3;

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// The one whose place in the line this is, from 1.
    Place(usize),
    /// The one of this name.
    Name(String),
}

impl fmt::Display for Column {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(out, "{place}"),
            Self::Name(name) => out.write_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Column;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("the name of a column, or its number, counted from 1")
            }

            fn visit_u64<E: Error>(self, place: u64) -> Result<Column, E> {
                if place == 0 {
                    return Err(E::custom("columns are counted from 1, so there is no column 0"));
                }
                Ok(Column::Place(place as usize))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Column, E> {
                Ok(Column::Name(name.to_owned()))
            }
        }

        value.deserialize_any(Written)
    }
}

/// What the columns of a table are called that hold what is needed, or where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The user's raw id: text or an integer.
    pub user: Option<Column>,
    /// The item's raw id: text or an integer.
    pub item: Option<Column>,
    /// The time: an integer, a float, or a date or date and time; `null` where the rows are in order of time.
    pub timestamp: Option<Column>,
    /// What orders interactions with equal timestamps, such as a place within the session: of the kinds of `timestamp`.
    pub tiebreak: Option<Column>,
    /// The rating, a number; `null` where there is none.
    pub rating: Option<Column>,
}

impl Columns {
    /// Whether any column is named.
    pub fn is_named(&self) -> bool {
        *self != Self::default()
    }

    /// The columns in the order user, item, rating, timestamp, tiebreak.
    pub fn all(&self) -> [Option<&Column>; 5] {
        [&self.user, &self.item, &self.rating, &self.timestamp, &self.tiebreak].map(Option::as_ref)
    }
}

/// The values of a column that a row may have to be kept, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Values(pub Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Values;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value or a list of values")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![text.to_owned()]))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Values, E> {
                Ok(Values(vec![number.to_string()]))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Values, E> {
                Ok(Values(vec![number.to_string()]))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Values, E> {
                Ok(Values(vec![number.to_string()]))
            }

            fn visit_bool<E: Error>(self, truth: bool) -> Result<Values, E> {
                Ok(Values(vec![truth.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(Values(value)) = list.next_element()? {
                    values.extend(value);
                }
                Ok(Values(values))
            }
        }

        value.deserialize_any(Written)
    }
}

/// What becomes of a row that lacks its user, item, time or rating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Incomplete {
    /// The file is refused.
    Refuse,
    /// The row is passed over and counted.
    Skip,
}

/// What becomes of a user's interactions with an item that the user had before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeats {
    /// They stay.
    #[default]
    Keep,
    /// Those go that follow directly on one with the same item.
    Consecutive,
    /// All go but the first.
    All,
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

/// What is held out of every user's sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The last item for testing, the one before for validation.
    #[default]
    LeaveOneOut,
    /// One point in time for all: the first item from there on for testing, the last one before for validation.
    Time,
}

/// Settings of `gro-preprocess run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Layout of the ratings file: a name in the registry of layouts, or `auto` for whatever lies in the input directory.
    pub format: String,
    /// The columns of a table; naming any makes `format: auto` mean a table.
    pub columns: Columns,
    /// Whether the first line of a table names its columns; `null` where the file is to tell.
    pub header: Option<bool>,
    /// What stands between the fields of a table: `auto`, a name of one (`tab`, `comma`, `semicolon`, `pipe`, `blank`) or the
    /// text itself.
    pub separator: String,
    /// Whether a field may stand in quotation marks; `null`: yes between commas, semicolons and pipes, and elsewhere where the
    /// header does.
    pub quotes: Option<bool>,
    /// The encoding of the text by its name in the WHATWG standard; `auto` is UTF-8, or UTF-16 where a byte order mark says so.
    pub encoding: String,
    /// How times are written, in the notation of strftime; `null` for numbers and ISO dates.
    pub time_format: Option<String>,
    /// What stands where a value is missing, beside nothing at all.
    pub missing: Vec<String>,
    /// What becomes of rows that lack a value; `null` leaves it to the layout: Steam's are skipped, others refused.
    pub incomplete: Option<Incomplete>,
    /// Only rows count whose columns have these values: `{event: [view, cart]}`.
    pub keep: BTreeMap<Column, Values>,
    /// Ratings below are dropped before anything else; `null` drops none.
    pub min_rating: Option<f64>,
    /// What becomes of repeated interactions, before anything is counted.
    pub repeats: Repeats,
    /// Items with fewer interactions are dropped.
    pub min_item_count: usize,
    /// Users with fewer interactions among the items left are dropped.
    pub min_user_count: usize,
    /// How often both filters run.
    pub filter: Filter,
    /// Order within equal timestamps.
    pub ties: Ties,
    /// What is held out for validation and testing.
    pub split: Split,
    /// With `split: time`, the share of all interactions before that point.
    pub train_share: f64,
}

impl Default for Preprocess {
    fn default() -> Self {
        let missing =
            ["NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NULL", "Null", "null", "None", "\\N"];
        Self {
            format: "auto".to_owned(),
            columns: Columns::default(),
            header: None,
            separator: "auto".to_owned(),
            quotes: None,
            encoding: "auto".to_owned(),
            time_format: None,
            missing: missing.map(str::to_owned).to_vec(),
            incomplete: None,
            keep: BTreeMap::new(),
            min_rating: None,
            repeats: Repeats::Keep,
            min_item_count: 5,
            min_user_count: 5,
            filter: Filter::Once,
            ties: Ties::Item,
            split: Split::LeaveOneOut,
            train_share: 0.9,
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
        self.check_text()?;
        if let Some(least) = self.min_rating {
            number("preprocess.min_rating", least, "a number", f64::is_finite)?;
        }
        let (least, why) = match self.split {
            Split::LeaveOneOut => (3, "an item to train on, one to validate and one to test"),
            Split::Time => (2, "an item to train on and one to validate"),
        };
        at_least("preprocess.min_user_count", self.min_user_count, least)
            .map_err(|invalid| Invalid::new(format!("{invalid}: a user needs {why}")))?;
        number("preprocess.train_share", self.train_share, "more than 0 and less than 1", |share| {
            share > 0.0 && share < 1.0
        })
    }

    /// The encoding of the text; `None` where the text is to tell.
    ///
    /// # Errors
    /// A name that the standard does not know.
    pub fn text_encoding(&self) -> Result<Option<&'static Encoding>, Invalid> {
        if self.encoding == "auto" {
            return Ok(None);
        }
        // The standard's own names have no dash in latin1 and one in utf-8; people write both both ways.
        let plain = self.encoding.replace(['-', '_', ' '], "");
        let names = [self.encoding.clone(), plain.clone(), plain.to_lowercase().replacen("utf", "utf-", 1)];
        names.iter().find_map(|name| Encoding::for_label(name.as_bytes())).map(Some).ok_or_else(|| {
            Invalid::new(format!(
                "`preprocess.encoding` is \"{}\", expected auto or an encoding such as utf-8, utf-16le, latin1, gb18030 or \
                 shift_jis",
                self.encoding
            ))
        })
    }

    /// How the text is written: its encoding, separator and times.
    fn check_text(&self) -> Result<(), Invalid> {
        self.text_encoding()?;
        if self.separator.is_empty() || self.separator.contains(['"', '\n', '\r']) {
            return Err(Invalid::new(format!(
                "`preprocess.separator` is {:?}, expected auto, tab, comma, semicolon, pipe, blank, or the text between two \
                 fields",
                self.separator
            )));
        }
        let Some(format) = &self.time_format else { return Ok(()) };
        let mut parts = StrftimeItems::new(format);
        let known = !parts.clone().any(|part| matches!(part, Item::Error));
        let says_something = parts.any(|part| matches!(part, Item::Numeric(..) | Item::Fixed(_)));
        if known && says_something {
            return Ok(());
        }
        Err(Invalid::new(format!(
            "`preprocess.time_format` is {format:?}, expected times in the notation of strftime, such as %d/%m/%Y %H:%M:%S"
        )))
    }

    /// The names of columns belong to tables, and a table is nothing without those of user and item.
    fn check_columns(&self) -> Result<(), Invalid> {
        let Preprocess { format, columns, .. } = self;
        if self.keep.len() > MOST_CONDITIONS {
            let found = self.keep.len();
            let message =
                format!("`preprocess.keep` names {found} columns, expected at most {MOST_CONDITIONS}");
            return Err(Invalid::new(message));
        }
        if let Some((column, _)) = self.keep.iter().find(|(_, Values(values))| values.is_empty()) {
            let message = format!("`preprocess.keep.{column}` is empty, expected the values of rows to keep");
            return Err(Invalid::new(message));
        }
        if !matches!(format.as_str(), "auto" | "table" | "inter")
            && (columns.is_named() || !self.keep.is_empty())
        {
            let message = "`preprocess.columns` and `preprocess.keep` name columns, expected only with \
                           `preprocess.format` auto, table or inter";
            return Err(Invalid::new(message));
        }
        if !columns.is_named() {
            if format == "table" {
                return Err(unnamed("user"));
            }
            return Ok(());
        }
        if format != "inter" {
            for (key, column) in [("user", &columns.user), ("item", &columns.item)] {
                if column.is_none() {
                    return Err(unnamed(key));
                }
            }
        }
        if columns.tiebreak.is_some() && columns.timestamp.is_none() {
            let message =
                "`preprocess.columns.tiebreak` orders equal timestamps, expected `timestamp` beside it";
            return Err(Invalid::new(message));
        }
        let all = columns.all();
        for (place, column) in all.iter().enumerate() {
            if let Some(column) = column
                && all[..place].contains(&Some(column))
            {
                let message = format!(
                    "`preprocess.columns` names `{column}` twice, expected a column of its own for each"
                );
                return Err(Invalid::new(message));
            }
        }
        let named = all.into_iter().flatten().chain(self.keep.keys()).find_map(|column| match column {
            // On the command line a number in a key, as in `keep.3=view`, is text.
            Column::Name(name) if name.parse::<usize>().is_err() => Some(name),
            Column::Name(_) | Column::Place(_) => None,
        });
        match named {
            Some(name) if self.header == Some(false) => Err(Invalid::new(format!(
                "`preprocess.header` is false, so no line names a column `{name}`; expected its number, counted from 1"
            ))),
            _ => Ok(()),
        }
    }
}

fn unnamed(key: &str) -> Invalid {
    Invalid::new(format!(
        "`preprocess.columns.{key}` is null, expected the name of a column of the table, or its number, counted from 1"
    ))
}
