//! The items as clients name them. Outside a service an item is a text, its raw id; inside, a number from 1 to n.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use artifact::dataset;
use stage::Refusal;

use crate::titles;

/// The items of a target, by both their names.
#[derive(Debug)]
pub struct Catalogue {
    /// Raw ids; that of item `id` at `id - 1`.
    ids: Vec<String>,
    /// The same as JSON.
    quoted: Vec<String>,
    /// Titles, where they are known.
    titles: Vec<Option<String>>,
    numbers: HashMap<String, u32>,
}

impl Catalogue {
    /// Items that are named by these raw ids.
    pub fn new(ids: Vec<String>) -> Self {
        let quoted = ids.iter().map(|id| quote(id)).collect();
        let numbers = (1..).zip(&ids).map(|(number, id)| (id.clone(), number)).collect();
        Self { titles: vec![None; ids.len()], quoted, numbers, ids }
    }

    /// The items of the dataset in `data`, or without one, items named by their numbers.
    ///
    /// # Errors
    /// A dataset that cannot be read; one of other items than `items` with this fingerprint.
    pub fn of(data: Option<&Path>, items: usize, fingerprint: &str, model: &Path) -> Result<Self> {
        let Some(data) = data else {
            return Ok(Self::new((1..=items).map(|item| item.to_string()).collect()));
        };
        let ids = dataset::read_raw_items(data)?;
        let found = dataset::fingerprint(&ids);
        if found != fingerprint {
            let message = format!(
                "{} was trained on other items than those of {}: fingerprint {fingerprint} ({items} items) against {found} ({}); give \
                 the data it was trained on",
                model.display(),
                data.display(),
                ids.len()
            );
            return Err(Refusal::new(message).into());
        }
        Ok(Self::new(ids))
    }

    /// The same with the titles of a table. Says how many items have none.
    ///
    /// # Errors
    /// Those of [`titles::read`]; a table that has none of the items.
    pub fn with_titles(mut self, path: &Path) -> Result<Self> {
        let titles = titles::read(path)?;
        self.titles = self.ids.iter().map(|id| titles.get(id).cloned()).collect();
        let without = self.titles.iter().filter(|title| title.is_none()).count();
        if without == self.ids.len() {
            let message = format!(
                "{}: no id in its first column is one of the {without} items, whose first is {}; give the table of this catalogue",
                path.display(),
                self.ids.first().map_or("", String::as_str)
            );
            return Err(Refusal::new(message).into());
        }
        if without > 0 {
            tracing::warn!("{} of {} items have no title in {}", without, self.ids.len(), path.display());
        }
        Ok(self)
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.ids.len()
    }

    /// The raw id of an item, which must be of the catalogue.
    pub fn id(&self, item: u32) -> &str {
        &self.ids[item as usize - 1]
    }

    /// The raw id as JSON.
    pub fn quoted(&self, item: u32) -> &str {
        &self.quoted[item as usize - 1]
    }

    /// The title of an item.
    pub fn title(&self, item: u32) -> Option<&str> {
        self.titles[item as usize - 1].as_deref()
    }

    /// The item with this raw id.
    pub fn number(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The items as JSON, `[{"id": …, "title": …}, …]` in the order of their numbers.
    pub fn json(&self) -> String {
        let mut json = String::from("[");
        for (place, (id, title)) in self.quoted.iter().zip(&self.titles).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            // Writing to a String does not fail.
            _ = match title {
                None => write!(json, "{comma}{{\"id\":{id}}}"),
                Some(title) => write!(json, "{comma}{{\"id\":{id},\"title\":{}}}", quote(title)),
            };
        }
        json.push(']');
        json
    }
}

/// A text as JSON.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_two_names() {
        let catalogue = Catalogue::new(vec!["b\"7".to_owned(), "50".to_owned()]);
        assert_eq!((catalogue.number("50"), catalogue.number("1")), (Some(2), None));
        assert_eq!((catalogue.id(1), catalogue.quoted(1)), ("b\"7", "\"b\\\"7\""));
        assert_eq!(catalogue.json(), r#"[{"id":"b\"7"},{"id":"50"}]"#);
    }
}
