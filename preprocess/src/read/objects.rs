//! Where objects begin and end in a text that does not have one a line: printed over several lines each, or in one array
//! as `json.dump` writes a list. They are JSON objects or Python dictionaries, as `pprint` prints them. A text can be cut
//! between any two of them, so that they too are read in parallel.

use std::fmt;

/// How objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// As JSON: texts stand in double quotation marks.
    Json,
    /// As Python dictionaries: texts stand in single or in double ones.
    Python,
}

impl Notation {
    /// The notation of the first object in `text`, by what its first key begins with.
    pub fn of(text: &str) -> Self {
        let first = text.split_once('{').map_or("", |(_, rest)| rest.trim_start());
        let key = first.strip_prefix(['u', 'U', 'b', 'B']);
        let is_python = first.starts_with('\'') || key.is_some_and(|key| key.starts_with(['\'', '"']));
        if is_python { Self::Python } else { Self::Json }
    }
}

impl fmt::Display for Notation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Json => "a JSON object",
            Self::Python => "a Python dictionary",
        })
    }
}

/// How much of a text is whole objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// How many bytes, up to the end of the last one.
    pub bytes: usize,
    /// Where behind that an object begins that does not end.
    pub open: Option<usize>,
}

/// How much of `text`, which begins between two objects, is whole objects.
///
/// # Errors
/// The place of what is neither an object nor stands between two.
pub fn whole(text: &[u8], notation: Notation) -> Result<Whole, usize> {
    let mut whole = Whole::default();
    let mut at = 0;
    while let Some(begin) = begin(text, at)? {
        let Some(end) = end(text, begin, notation) else {
            whole.open = Some(begin);
            break;
        };
        at = end;
        whole.bytes = at;
    }
    Ok(whole)
}

/// The objects of `text` with the places where they begin. What is no whole object is left out: [`whole`] has told it.
pub fn split(text: &str, notation: Notation) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = begin(bytes, at).ok()??;
        at = end(bytes, begin, notation)?;
        Some((begin, &text[begin..at]))
    })
}

/// Where the next object begins. What may stand before it are blanks, commas and the brackets of an array around all.
fn begin(text: &[u8], from: usize) -> Result<Option<usize>, usize> {
    let rest = text.get(from..).unwrap_or_default();
    match rest.iter().position(|byte| !byte.is_ascii_whitespace() && !b",[]".contains(byte)) {
        None => Ok(None),
        Some(length) if rest[length] == b'{' => Ok(Some(from + length)),
        Some(length) => Err(from + length),
    }
}

/// Where the object that begins at `from` ends.
fn end(text: &[u8], from: usize, notation: Notation) -> Option<usize> {
    let (mut depth, mut at) = (0usize, from);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            mark @ (b'"' | b'\'') if mark == b'"' || notation == Notation::Python => loop {
                at += memchr::memchr2(mark, b'\\', text.get(at..)?)? + 1;
                if text[at - 1] == mark {
                    break;
                }
                // The character behind a backslash ends nothing.
                at += 1;
            },
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_however_they_stand() {
        for (text, objects) in [
            ("[{\"a\": 1},\n {\"a\": \"}\\\\\\\"{\"}]\n", &["{\"a\": 1}", "{\"a\": \"}\\\\\\\"{\"}"][..]),
            ("{\n  \"a\": {\"b\": []}\n}\n{}", &["{\n  \"a\": {\"b\": []}\n}", "{}"]),
            ("[]", &[]),
            ("", &[]),
        ] {
            assert_eq!(
                split(text, Notation::Json).map(|(_, object)| object).collect::<Vec<_>>(),
                objects,
                "{text}"
            );
            assert!(split(text, Notation::Json).all(|(place, object)| text[place..].starts_with(object)));
            assert_eq!(whole(text.as_bytes(), Notation::Json).unwrap().open, None, "{text}");
        }
        assert_eq!(whole(b"{} {\"a\": \"}", Notation::Json), Ok(Whole { bytes: 2, open: Some(3) }));
        assert_eq!(whole(b"{} [1, 2]", Notation::Json), Err(4));
        let text = "[{u'a': '}\\'{',\n 'b': \"it's {\"},\n{'a': {}}]";
        let found: Vec<&str> = split(text, Notation::of(text)).map(|(_, object)| object).collect();
        assert_eq!(found, ["{u'a': '}\\'{',\n 'b': \"it's {\"}", "{'a': {}}"]);
        // An apostrophe is nothing to JSON.
        assert_eq!(whole(b"{\"a\": \"it's\"}", Notation::of("{\"")), Ok(Whole { bytes: 13, open: None }));
    }
}
