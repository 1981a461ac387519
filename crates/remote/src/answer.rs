//! What a service answers, and whether it is a list that can be learned from: items of the catalogue, none twice, as many as asked, or
//! fewer where the service says that it may answer so.

use std::fmt;

use compact_str::{CompactString, ToCompactString};
use metrics::NOTHING;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::catalogue::shown;
use crate::{Catalogue, Error, Result};

/// An id, of an item or an account: text, or an integer, which is read as its decimal text. Short ones, as ids are, take no memory of their
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(pub CompactString);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Id;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an id, text or an integer")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Id, E> {
                Ok(Id(text.into()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Id, E> {
                Ok(Id(number.to_compact_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<Id, E> {
                Ok(Id(number.to_compact_string()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Holds an answered list against the catalogue and the `k` that was asked for. Returns the numbers of the first `k`, and [`NOTHING`] in the
/// places of a list that may be [shorter](Catalogue::shorter).
///
/// `setting` is the key that says how long lists are, for the message.
///
/// # Errors
/// A refusal for a list that is shorter, an item that the catalogue lacks, or one that stands there twice.
pub fn check(
    answered: &[Id],
    catalogue: &Catalogue,
    k: usize,
    setting: &str,
    origin: &str,
) -> Result<Vec<u32>> {
    let least = if catalogue.shorter { 1 } else { k };
    if answered.len() < least {
        let found = answered.len();
        let remedy = match found {
            0 => "it has to answer every history".to_owned(),
            _ => format!("set {setting} to {found} or less"),
        };
        return Err(Error::refused(format!(
            "{origin} answered a list of {found} items where {k} were asked for; {remedy}"
        )));
    }
    let mut ids = Vec::with_capacity(k);
    for Id(id) in answered.iter().take(k) {
        let number = catalogue.number(id).ok_or_else(|| {
            Error::refused(format!(
                "{origin} answered item {}, which is none of the {} of its catalogue; give the whole with --catalogue",
                shown(id),
                catalogue.items()
            ))
        })?;
        ids.push(number);
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::refused(format!(
            "{origin} answered item {} twice in one list, expected each once",
            shown(catalogue.id(twice[0]))
        )));
    }
    ids.resize(k, NOTHING);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(ids: &[&str], k: usize) -> Result<Vec<u32>> {
        let catalogue = Catalogue::of(["a", "b", "c", "d"].map(str::to_owned).into(), "it").unwrap();
        let answered: Vec<Id> = ids.iter().map(|&id| Id(id.into())).collect();
        check(&answered, &catalogue, k, "generate.top_k", "it")
    }

    #[test]
    fn the_first_k_are_taken_in_their_order() {
        assert_eq!(checked(&["c", "a", "b"], 2).unwrap(), [3, 1]);
        assert_eq!(
            checked(&["c", "a", "unknown"], 2).unwrap(),
            [3, 1],
            "what was not asked for is nobody's concern"
        );
    }

    #[test]
    fn a_service_that_says_so_may_answer_with_fewer_items() {
        let ids = ["a", "b", "c", "d"].map(str::to_owned);
        let mut catalogue = Catalogue::of(ids.into(), "it").unwrap();
        catalogue.shorter = true;
        let checked = |ids: &[&str]| {
            let answered: Vec<Id> = ids.iter().map(|&id| Id(id.into())).collect();
            check(&answered, &catalogue, 3, "generate.top_k", "it")
        };
        assert_eq!(checked(&["c", "a"]).unwrap(), [3, 1, NOTHING]);
        assert!(checked(&[]).unwrap_err().to_string().contains("a list of 0 items"));
        assert!(checked(&["a", "a"]).unwrap_err().to_string().contains("answered item \"a\" twice"));
    }

    #[test]
    fn lists_that_cannot_be_learned_from_are_refused() {
        for (ids, expected) in [
            (&["a", "b"][..], "a list of 2 items where 3 were asked for; set generate.top_k to 2 or less"),
            (&[], "a list of 0 items"),
            (&["a", "x", "b"], "answered item \"x\", which is none of the 4"),
            (&["a", "b", "a"], "answered item \"a\" twice"),
        ] {
            let message = checked(ids, 3).unwrap_err().to_string();
            assert!(message.contains(expected), "{ids:?}: {message}");
        }
    }
}
