//! JSON objects, one a line (jsonl). Of each the few wanted keys are picked out; everything else is skipped.
//!
//! Weighed: arrow-json takes 0.45 s a thread for a million rows where serde_json takes 0.48. But it reads a number as it is
//! spelt, so that `1` and `1.0` are two ids; it takes `true` and `{"u": 1,}`; and its errors do not say which line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::read::literal::{FIELDS, Fields};

/// Beyond this a float does not tell neighbouring integers apart, so two ids could become one.
const LARGEST_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// The values of the object on `line` under the keys `names` (at most [`FIELDS`]). Those from place `free` on may be true or false.
///
/// # Errors
/// Where the line is no JSON object, or a wanted value is neither a string nor a number nor null, a message.
pub fn fields<'t>(line: &'t str, names: &[String], free: usize) -> Result<Fields<'t>, String> {
    strict(line, names, free).or_else(|message| {
        // Python's `json.dumps` and pandas write NaN where a value is missing, which is no JSON.
        let without = without_nan(line).ok_or_else(|| message.clone())?;
        let fields = strict(&without, names, free).map_err(|_| message)?;
        Ok(fields.map(|field| field.map(|text| Cow::Owned(text.into_owned()))))
    })
}

/// The keys of the object on `line`, sorted; none where it is no object.
pub fn keys(line: &str) -> Vec<String> {
    let line = without_nan(line).map_or(Cow::Borrowed(line), Cow::Owned);
    let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&line).ok();
    let mut keys: Vec<String> = object.into_iter().flatten().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys
}

/// The line with null in place of NaN and of the infinities, as far as these stand outside strings; `None` where none does.
fn without_nan(line: &str) -> Option<String> {
    const NAMES: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !["NaN", "Infinity"].iter().any(|name| line.contains(name)) {
        return None;
    }
    let mut text = String::with_capacity(line.len() + 16);
    let (mut rest, mut quoted, mut found) = (line, false, false);
    while let Some(letter) = rest.chars().next() {
        let name = NAMES.iter().find(|name| !quoted && rest.starts_with(**name));
        let length = match (name, letter) {
            (Some(name), _) => name.len(),
            // The character behind a backslash ends nothing.
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, letter) => letter.len_utf8(),
        };
        quoted ^= letter == '"';
        found |= name.is_some();
        text.push_str(if name.is_some() { "null" } else { &rest[..length] });
        rest = &rest[length..];
    }
    found.then_some(text)
}

/// [`fields`] of a line that is JSON.
fn strict<'t>(line: &'t str, names: &[String], free: usize) -> Result<Fields<'t>, String> {
    let mut json = serde_json::Deserializer::from_str(line);
    let fields = Wanted { names, free }.deserialize(&mut json).and_then(|fields| json.end().map(|()| fields));
    fields.map_err(|error| {
        // serde_json counts lines within the text it was given, which here is one line.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        format!("expected a JSON object; {message} (character {})", error.column())
    })
}

struct Wanted<'n> {
    names: &'n [String],
    free: usize,
}

impl<'t> DeserializeSeed<'t> for Wanted<'_> {
    type Value = Fields<'t>;

    fn deserialize<D: Deserializer<'t>>(self, json: D) -> Result<Fields<'t>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'t> Visitor<'t> for Wanted<'_> {
    type Value = Fields<'t>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut object: A) -> Result<Fields<'t>, A::Error> {
        let mut fields = Fields::default();
        let mut found = [false; FIELDS];
        while let Some(place) = object.next_key_seed(Key(self.names))? {
            match place {
                Some(place) if std::mem::replace(&mut found[place], true) => {
                    return Err(A::Error::custom(format!(
                        "the key `{}` stands in it twice",
                        self.names[place]
                    )));
                }
                Some(place) => {
                    let scalar = Scalar { name: &self.names[place], free: place >= self.free };
                    fields[place] = object.next_value_seed(scalar)?;
                }
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// A key: its place among the wanted ones, if it is one.
struct Key<'n>(&'n [String]);

impl<'t> DeserializeSeed<'t> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'t>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().take(FIELDS).position(|name| name == key))
    }
}

/// A wanted value, as text.
struct Scalar<'n> {
    /// The key that it stands under.
    name: &'n str,
    /// Whether it may be true or false.
    free: bool,
}

impl<'t> DeserializeSeed<'t> for Scalar<'_> {
    type Value = Option<Cow<'t, str>>;

    fn deserialize<D: Deserializer<'t>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Scalar<'_> {
    type Value = Option<Cow<'t, str>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string or a number")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'t str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(itoa::Buffer::new().format(number).to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(itoa::Buffer::new().format(number).to_owned())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        if number.abs() >= LARGEST_WHOLE_FLOAT {
            return Err(E::custom(format!("{number} is too large to be exact, expected it as a string")));
        }
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Self::Value, E> {
        if !self.free {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self));
        }
        Ok(Some(Cow::Borrowed(if truth { "true" } else { "false" })))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'t>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(format!("`{}` is an object, expected a string or a number", self.name)))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(format!("`{}` is a list, expected a string or a number", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<Option<String>>, String> {
        let fields = fields(line, &["u".to_owned(), "i".to_owned()], 2)?;
        Ok(fields.into_iter().take(2).map(|field| field.map(Cow::into_owned)).collect())
    }

    #[test]
    fn wanted_keys_are_picked_out() {
        for (line, user, item) in [
            (r#"{"u": "a", "i": "b"}"#, Some("a"), Some("b")),
            (
                r#"{"x": [{"u": 1}], "i": 18446744073709551615, "u": -3} "#,
                Some("-3"),
                Some("18446744073709551615"),
            ),
            (r#"{"u": "\u00e9\ud83d\ude00", "i": 1.5}"#, Some("é😀"), Some("1.5")),
            (r#"{"u": null, "\u0069": "key"}"#, None, Some("key")),
        ] {
            let expected = vec![user.map(str::to_owned), item.map(str::to_owned)];
            assert_eq!(read(line), Ok(expected), "{line}");
        }
        // As Python writes what is missing.
        let line = r#"{"u": "NaN \"NaN", "i": NaN, "x": [-Infinity, Infinity]}"#;
        assert_eq!(read(line), Ok(vec![Some("NaN \"NaN".to_owned()), None]));
        assert_eq!(keys(line), ["i", "u", "x"]);
        let names = ["u", "bought"].map(str::to_owned);
        assert_eq!(fields(r#"{"bought": true}"#, &names, 1).unwrap()[1].as_deref(), Some("true"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (line, part) in [
            ("", "EOF"),
            (r#"{"u": "a""#, "EOF"),
            (r#"["u"]"#, "expected an object"),
            (r#"{"u": ["a"]}"#, "`u` is a list, expected a string or a number (character"),
            (r#"{"u": {"id": 1}}"#, "`u` is an object, expected a string or a number (character"),
            (r#"{"u": NaN, "i": nan}"#, "expected value (character 7)"),
            (r#"{"u": true}"#, "expected a string or a number"),
            (r#"{"u": null, "u": 1}"#, "the key `u` stands in it twice"),
            (r#"{"u": 1} {}"#, "trailing characters (character 10)"),
            (r#"{"u": 184467440737095516160}"#, "too large to be exact"),
        ] {
            let message = read(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
