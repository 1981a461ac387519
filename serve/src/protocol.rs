//! What clients send. An item is a text, its raw id; a whole number is read as its digits. What a request does not know is refused, so
//! that a misspelled key is not passed over.

use std::fmt;
use std::marker::PhantomData;

use remote::Catalogue;
use remote::answer::Id;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::problem::Problem;

/// Most questions of a batch.
pub const BATCH: usize = 256;

/// Bytes of an account's name at most.
const NAME: usize = 128;

/// A value that is written as an object, and not as a list of its fields, which the reader of JSON would take as well.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A list of objects.
fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Whose history it is.
    pub account: Option<Id>,
    /// What the account has taken, oldest first.
    pub history: Vec<Id>,
    /// Length of the list.
    #[serde(default = "ten")]
    pub k: usize,
    /// Whether items of the history are left out of the list.
    #[serde(default)]
    pub exclude_seen: bool,
}

fn ten() -> usize {
    10
}

/// Several questions.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asks {
    /// The questions.
    #[serde(deserialize_with = "objects")]
    pub requests: Vec<Ask>,
}

/// What a service lets be asked.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest list.
    pub k: usize,
    /// Longest history.
    pub history: usize,
}

/// A question that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Dense ids, oldest first; at least one.
    pub history: Vec<u32>,
    /// Length of the list that the client gets.
    pub k: usize,
    /// Whether items of the history are left out of it.
    pub exclude_seen: bool,
}

/// Lists from which seen items are left out are asked for in steps of this length, so that an account's lists keep their length, and
/// what is kept of it its use, while its history grows.
const STEP: usize = 64;

impl Question {
    /// Length of the list that the target is asked for: long enough that `k` are left of it, in a catalogue of `items`.
    pub fn asked(&self, items: usize) -> usize {
        if self.exclude_seen {
            (self.k + self.history.len().next_multiple_of(STEP)).min(items)
        } else {
            self.k
        }
    }

    /// What the client gets of the list.
    pub fn shown(&self, mut list: Vec<u32>) -> Vec<u32> {
        if self.exclude_seen {
            list.retain(|item| !self.history.contains(item));
            list.truncate(self.k);
        }
        list
    }
}

impl Ask {
    /// Holds a question against the catalogue and what the service lets be asked.
    ///
    /// # Errors
    /// A problem that names the field.
    pub fn understood(&self, catalogue: &Catalogue, bounds: Bounds) -> Result<Question, Problem> {
        if let Some(Id(account)) = &self.account
            && (account.is_empty() || account.len() > NAME || account.chars().any(char::is_control))
        {
            return Err(Problem::bad(format!(
                "account: expected a name of 1 to {NAME} bytes without control characters"
            )));
        }
        let most = bounds.k.min(catalogue.items());
        if self.k == 0 || self.k > most {
            return Err(Problem::bad(format!("k is {}, expected 1 to {most}", self.k)));
        }
        if self.history.is_empty() {
            return Err(Problem::bad("history is empty, expected at least one item"));
        }
        if self.history.len() > bounds.history {
            return Err(Problem::bad(format!(
                "history has {} items, at most {} are read: send the latest",
                self.history.len(),
                bounds.history
            )));
        }
        let item = |(place, Id(id)): (usize, &Id)| {
            catalogue.number(id).ok_or_else(|| {
                let id: String = id.chars().take(64).collect();
                Problem::bad(format!(
                    "history[{place}] is {id:?}, which is no item of this catalogue (GET /v1/items)"
                ))
            })
        };
        let history = self.history.iter().enumerate().map(item).collect::<Result<_, _>>()?;
        Ok(Question { history, k: self.k, exclude_seen: self.exclude_seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { k: 3, history: 4 };

    fn asked(json: &str) -> Result<Question, String> {
        let ids = ["a", "50", "c", "d", "e"].map(str::to_owned).to_vec();
        let catalogue = Catalogue::of(ids, "it").unwrap();
        let Object(ask): Object<Ask> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        ask.understood(&catalogue, BOUNDS).map_err(|problem| problem.detail)
    }

    #[test]
    fn questions_name_items_by_text_or_number() {
        let question = asked(r#"{"account": 7, "history": [50, "a"], "k": 2}"#).unwrap();
        assert_eq!(question, Question { history: vec![2, 1], k: 2, exclude_seen: false });
    }

    #[test]
    fn what_cannot_be_answered_is_named() {
        for (json, expected) in [
            (r#"{"history": []}"#, "k is 10, expected 1 to 3"),
            (r#"{"history": [], "k": 1}"#, "history is empty"),
            (r#"{"history": ["a", "x\n"], "k": 1}"#, r#"history[1] is "x\n", which is no item"#),
            (r#"{"history": ["a","a","a","a","a"], "k": 1}"#, "history has 5 items, at most 4"),
            (r#"{"history": ["a"], "k": 0}"#, "k is 0"),
            (r#"{"history": ["a"], "k": -1}"#, "invalid value"),
            (r#"{"history": [1.5], "k": 1}"#, "expected an id, text or an integer"),
            (r#"{"histori": ["a"]}"#, "unknown field `histori`"),
            (r#"[7, ["a"], 2, false]"#, "invalid type: sequence, expected an object"),
            ("7", "invalid type: integer `7`, expected an object"),
            (r#"{"account": "", "history": ["a"], "k": 1}"#, "account: expected a name"),
        ] {
            let found = asked(json).unwrap_err();
            assert!(found.contains(expected), "{json}: {found}");
        }
    }

    #[test]
    fn a_batch_is_of_objects() {
        let batch =
            |json: &str| serde_json::from_str::<Object<Asks>>(json).map(|Object(asks)| asks.requests.len());
        assert_eq!(batch(r#"{"requests": [{"history": ["a"]}, {"history": []}]}"#).unwrap(), 2);
        for json in [r#"[[{"history": ["a"]}]]"#, r#"{"requests": [[7, ["a"], 2, false]]}"#] {
            let found = batch(json).unwrap_err().to_string();
            assert!(found.contains("invalid type: sequence, expected an object"), "{json}: {found}");
        }
    }

    #[test]
    fn seen_items_are_left_out_of_a_list_that_is_long_enough() {
        let question = Question { history: vec![3, 1, 3], k: 2, exclude_seen: true };
        assert_eq!((question.asked(1000), question.asked(5)), (66, 5));
        assert_eq!(question.shown(vec![1, 5, 3, 2, 4]), [5, 2]);
        let all = Question { exclude_seen: false, ..question };
        assert_eq!((all.asked(1000), all.shown(vec![1, 5])), (2, vec![1, 5]));
    }
}
