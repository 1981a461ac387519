//! The items of a service, which every customer can see: the text by which it knows each, and the number by which the laboratory does; for
//! whoever asks a service, and for the service itself.
//!
//! A service of the laboratory's own protocol says it at `/v1/items`, a program in its first line, and for any other it is in a file:
//! such an object as JSON (`.json`), a dataset made by `gro-preprocess run` (its directory or `items.parquet`), or text with one
//! id a line. The order of the items is their numbering, from 1.

use std::path::Path;

use artifact::dataset::{self, ITEMS};
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Id;
use crate::{Error, Result};

/// What a service says of itself.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    ids: Vec<String>,
    /// Titles, where any is known.
    titles: Vec<Option<String>>,
    /// Whether ids stand in JSON as they are, between quotation marks.
    plain: bool,
    numbers: HashMap<String, u32>,
    /// Identity of the numbering, as [`dataset::fingerprint`].
    pub fingerprint: String,
    /// The splits that the target learned from; empty where nobody says.
    pub splits: Vec<String>,
    /// BLAKE3 of the checkpoint that answers, where there is one and it is told.
    pub target: Option<String>,
    /// Items of a history that the target reads, where it says so.
    pub max_len: Option<usize>,
    /// Length of the longest list that it answers, where it says so.
    pub max_k: Option<usize>,
    /// Whether it says that its lists may hold fewer items than are asked for.
    pub shorter: bool,
    /// Most questions a second that it lets be asked, and at once, where it says so.
    pub per_second: Option<u32>,
}

/// The object of `/v1/items`. Other keys are let pass.
#[derive(Deserialize)]
#[serde(expecting = "an object with `items`")]
struct Written {
    items: Vec<Item>,
    #[serde(default)]
    fingerprint: Option<String>,
    #[serde(default)]
    splits: Vec<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    max_len: Option<usize>,
    #[serde(default)]
    max_k: Option<usize>,
    #[serde(default)]
    shorter: bool,
    #[serde(default)]
    per_second: Option<u32>,
}

/// An item. That it is an object tells the line of a catalogue from that of an answer.
#[derive(Deserialize)]
#[serde(expecting = "an item as an object with its `id`")]
struct Item {
    id: Id,
    /// Whatever it is: only a text is taken.
    #[serde(default)]
    title: Value,
}

impl Catalogue {
    /// The catalogue of some ids, in their order. `origin` is where they come from, for messages.
    ///
    /// # Errors
    /// A refusal for fewer than two items, an empty id, or one that stands there twice.
    pub fn of(ids: Vec<String>, origin: &str) -> Result<Self> {
        let refused = |message: String| Err(Error::refused(format!("the catalogue of {origin} {message}")));
        if ids.len() < 2 {
            return refused(format!("has {} items, expected two at least", ids.len()));
        }
        if u32::try_from(ids.len()).is_err() {
            return refused(format!("has {} items, more than can be numbered", ids.len()));
        }
        let mut numbers = HashMap::with_capacity(ids.len());
        for (number, id) in (1..).zip(&ids) {
            if id.is_empty() {
                return refused(format!("has no id for item {number}, expected some text"));
            }
            if let Some(first) = numbers.insert(id.clone(), number) {
                return refused(format!("has the id {} twice, for items {first} and {number}", shown(id)));
            }
        }
        let plain = ids.iter().all(|id| id.bytes().all(|byte| byte >= b' ' && !b"\"\\".contains(&byte)));
        Ok(Self { fingerprint: dataset::fingerprint(&ids), ids, plain, numbers, ..Self::default() })
    }

    /// The catalogue in an object as at `/v1/items`.
    ///
    /// # Errors
    /// As [`Self::of`]; a refusal for what is no such object, or a fingerprint that is not that of the items.
    pub fn from_json(bytes: &[u8], origin: &str) -> Result<Self> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let written: Written = serde_path_to_error::deserialize(&mut reader)
            .and_then(|written| match reader.end() {
                Ok(()) => Ok(written),
                Err(error) => {
                    Err(serde_path_to_error::Error::new(serde_path_to_error::Track::new().path(), error))
                }
            })
            .map_err(|error| {
                Error::refused(format!(
                    "the catalogue of {origin} is not {{\"items\": [{{\"id\": \"…\"}}, …], …}}: {error}"
                ))
            })?;
        let title = |item: &Item| item.title.as_str().map(str::to_owned);
        let titles = written.items.iter().map(title).collect();
        let ids = written.items.into_iter().map(|item| item.id.0.into()).collect();
        let catalogue = Self::of(ids, origin)?.titled(titles);
        if written.fingerprint.as_ref().is_some_and(|said| *said != catalogue.fingerprint) {
            return Err(Error::refused(format!(
                "the catalogue of {origin} has a `fingerprint` that is not that of its items in their order; leave the key out, or send \
                 the items as they were numbered"
            )));
        }
        let positive = |number: Option<usize>| number.filter(|&number| number > 0);
        Ok(Self {
            splits: written.splits,
            target: written.target,
            max_len: positive(written.max_len),
            max_k: positive(written.max_k),
            shorter: written.shorter,
            per_second: written.per_second.filter(|&most| most > 0),
            ..catalogue
        })
    }

    /// The catalogue in a file: `.json`, a dataset's directory or `items.parquet`, or text with an id a line.
    ///
    /// # Errors
    /// As [`Self::from_json`]; a refusal or an input error for a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        if path.is_dir() {
            return Self::of(dataset::read_raw_items(path)?, &origin);
        }
        if path.file_name().is_some_and(|name| name == ITEMS) {
            return Self::of(dataset::read_raw_items(path.parent().unwrap_or(Path::new("")))?, &origin);
        }
        let bytes =
            std::fs::read(path).map_err(|error| Error::refused(format!("--catalogue {origin}: {error}")))?;
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return Self::from_json(&bytes, &origin);
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            Error::refused(format!("the catalogue of {origin} is no text in UTF-8: {error}"))
        })?;
        Self::of(text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect(), &origin)
    }

    /// How many items there are.
    pub fn items(&self) -> usize {
        self.ids.len()
    }

    /// The ids, in the order of their numbers.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The number of an item, from 1.
    pub fn number(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The id of an item by its number; empty for a number that no item has.
    pub fn id(&self, number: u32) -> &str {
        (number as usize).checked_sub(1).and_then(|place| self.ids.get(place)).map_or("", String::as_str)
    }

    /// The same items with their titles, one for each.
    #[must_use]
    pub fn titled(mut self, titles: Vec<Option<String>>) -> Self {
        self.titles = if titles.iter().any(Option::is_some) { titles } else { Vec::new() };
        self
    }

    /// The title of an item by its number, where it is known.
    pub fn title(&self, number: u32) -> Option<&str> {
        self.titles.get((number as usize).checked_sub(1)?)?.as_deref()
    }

    /// Writes the id of an item as JSON.
    pub fn write_id(&self, number: u32, into: &mut String) {
        let id = self.id(number);
        if self.plain {
            into.push('"');
            into.push_str(id);
            into.push('"');
        } else {
            into.push_str(&json(id));
        }
    }

    /// What [`Self::from_json`] reads: the object of `/v1/items`.
    pub fn to_json(&self) -> String {
        let mut text = String::from("{\"items\":[");
        for number in 1..=self.ids.len() as u32 {
            text.push_str(if number == 1 { "{\"id\":" } else { ",{\"id\":" });
            self.write_id(number, &mut text);
            if let Some(title) = self.title(number) {
                text.push_str(",\"title\":");
                text.push_str(&json(title));
            }
            text.push('}');
        }
        let Self { fingerprint, splits, target, max_len, max_k, .. } = self;
        let mut about = serde_json::json!({
            "fingerprint": fingerprint, "splits": splits, "target": target, "max_len": max_len, "max_k": max_k,
        });
        if self.shorter {
            about["shorter"] = true.into();
        }
        text.push_str("],");
        text.push_str(&about.to_string()[1..]);
        text
    }

    /// A digest of all that is known of the service but titles, and how much it lets be asked.
    pub fn digest(&self) -> String {
        let Self { fingerprint, splits, target, max_len, max_k, shorter, .. } = self;
        let known = format!("{fingerprint} {splits:?} {target:?} {max_len:?} {max_k:?} {shorter}");
        blake3::hash(known.as_bytes()).to_hex().to_string()
    }

    /// These items in the order of `ids`, which are to be the same: the numbering of a dataset, for a service that was met under another.
    ///
    /// # Errors
    /// A refusal that names an item of the one that the other lacks. `given` is what `ids` are of, for the message.
    pub fn renumbered(self, ids: Vec<String>, origin: &str, given: &str) -> Result<Self> {
        let other = |id: &str, has: &str, lacks: &str| {
            Err(Error::refused(format!(
                "{origin} has another catalogue than {given}: item {} of {has} is not in {lacks}",
                shown(id)
            )))
        };
        let numbered = Self::of(ids, given)?;
        if let Some(missing) = self.ids.iter().find(|id| numbered.number(id).is_none()) {
            return other(missing, origin, given);
        }
        if let Some(missing) = numbered.ids.iter().find(|id| self.number(id).is_none()) {
            return other(missing, given, origin);
        }
        let title = |id: &String| self.title(self.number(id)?).map(str::to_owned);
        let titles = numbered.ids.iter().map(title).collect();
        let Self { splits, target, max_len, max_k, per_second, .. } = self;
        Ok(Self { splits, target, max_len, max_k, per_second, ..numbered }.titled(titles))
    }
}

/// A text as JSON.
fn json(text: &str) -> String {
    Value::from(text).to_string()
}

/// An id in a message: quoted, and not at any length.
pub(crate) fn shown(id: &str) -> String {
    const MOST: usize = 60;
    match id.char_indices().nth(MOST) {
        None => format!("{id:?}"),
        Some((end, _)) => format!("{:?}…", &id[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Catalogue> {
        Catalogue::from_json(text.as_bytes(), "it")
    }

    #[test]
    fn items_are_numbered_in_their_order_and_ids_are_text() {
        let found = read(r#"{"items": [{"id": "50", "title": "Star Wars"}, {"id": 7, "title": 8}, {"id": "x"}], "max_len": 9, "max_k": 2, "more": 1}"#).unwrap();
        assert_eq!((found.title(1), found.title(2)), (Some("Star Wars"), None));
        assert_eq!(found.ids(), ["50", "7", "x"]);
        assert_eq!(
            (found.number("7"), found.number("8"), found.id(3), found.id(0), found.id(4)),
            (Some(2), None, "x", "", "")
        );
        assert_eq!((found.max_len, found.max_k, found.target.as_deref()), (Some(9), Some(2), None));
        assert_eq!(found.fingerprint, dataset::fingerprint(&["50", "7", "x"]));
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        let ids = ["50", "b\"7", "\u{1}\u{e9}"].map(str::to_owned).to_vec();
        let titles = vec![None, Some("\"It\"\n".to_owned()), None];
        let written = Catalogue {
            splits: vec!["train".to_owned()],
            max_k: Some(2),
            ..Catalogue::of(ids, "it").unwrap().titled(titles)
        };
        let found = read(&written.to_json()).unwrap();
        assert_eq!((found.ids(), &found.fingerprint), (written.ids(), &written.fingerprint));
        assert_eq!((found.title(1), found.title(2), found.title(9)), (None, Some("\"It\"\n"), None));
        assert_eq!((found.digest(), found.splits), (written.digest(), written.splits));
        let plain = Catalogue::of(vec!["a".to_owned(), "\u{e9} 7".to_owned()], "it").unwrap();
        assert!(
            plain.to_json().starts_with("{\"items\":[{\"id\":\"a\"},{\"id\":\"\u{e9} 7\"}],\"fingerprint\":")
        );
    }

    #[test]
    fn what_is_no_catalogue_is_refused() {
        for (text, expected) in [
            ("[]", "is not {\"items\""),
            (r#"{"items": [{"id": "a"}, {"id": "b"}]} x"#, "trailing"),
            (r#"{"items": [{"name": "a"}, {"id": "b"}]}"#, "missing field `id`"),
            (r#"{"items": ["a", "b"]}"#, "items[0]"),
            (r#"{"items": [50, 181]}"#, "expected an item as an object with its `id`"),
            (r#"{"items": [{"id": 1.5}, {"id": "b"}]}"#, "items[0].id"),
            (r#"{"items": [{"id": "a"}]}"#, "has 1 items"),
            (
                r#"{"items": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}"#,
                "the id \"a\" twice, for items 1 and 3",
            ),
            (r#"{"items": [{"id": "a"}, {"id": ""}]}"#, "no id for item 2"),
            (r#"{"items": [{"id": "a"}, {"id": "b"}], "fingerprint": "beef"}"#, "`fingerprint`"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_file_is_json_or_a_line_an_id() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("items.json"), r#"{"items": [{"id": "a"}, {"id": "b"}]}"#).unwrap();
        std::fs::write(at("items.txt"), "\u{feff}a\r\nb\r\n").unwrap();
        let (json, text) =
            (Catalogue::read(&at("items.json")).unwrap(), Catalogue::read(&at("items.txt")).unwrap());
        assert_eq!((json.ids(), json.fingerprint.as_str()), (text.ids(), text.fingerprint.as_str()));
        std::fs::write(at("gap.txt"), "a\n\nb\n").unwrap();
        assert!(Catalogue::read(&at("gap.txt")).unwrap_err().to_string().contains("no id for item 2"));
        assert!(Catalogue::read(&at("none.txt")).unwrap_err().to_string().contains("--catalogue"));
    }

    #[test]
    fn another_order_is_the_same_catalogue_and_other_items_are_not() {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        let found =
            read(r#"{"items": [{"id": "a", "title": "A"}, {"id": "b"}, {"id": "c"}], "max_k": 2}"#).unwrap();
        let renumbered = found.clone().renumbered(ids(&["c", "a", "b"]), "it", "data").unwrap();
        assert_eq!((renumbered.title(1), renumbered.title(2)), (None, Some("A")));
        assert_eq!((renumbered.number("c"), renumbered.max_k), (Some(1), Some(2)));
        let message =
            |other: &[&str]| found.clone().renumbered(ids(other), "it", "data").unwrap_err().to_string();
        assert!(message(&["a", "b", "d"]).contains("item \"c\" of it is not in data"));
        assert!(message(&["a", "b", "c", "d"]).contains("item \"d\" of data is not in it"));
    }
}
