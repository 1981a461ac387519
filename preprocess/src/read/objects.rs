//! Where JSON objects begin and end in a text that does not have one a line: printed over several lines each, or in one array
//! as `json.dump` writes a list. A text can be cut between any two of them, so that they too are read in parallel.

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
pub fn whole(text: &[u8]) -> Result<Whole, usize> {
    let mut whole = Whole::default();
    let mut at = 0;
    while let Some(begin) = begin(text, at)? {
        let Some(end) = end(text, begin) else {
            whole.open = Some(begin);
            break;
        };
        at = end;
        whole.bytes = at;
    }
    Ok(whole)
}

/// The objects of `text` with the places where they begin. What is no whole object is left out: [`whole`] has told it.
pub fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = begin(bytes, at).ok()??;
        at = end(bytes, begin)?;
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
fn end(text: &[u8], from: usize) -> Option<usize> {
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
            b'"' => loop {
                at += memchr::memchr2(b'"', b'\\', text.get(at..)?)? + 1;
                match text[at - 1] {
                    b'"' => break,
                    // The character behind a backslash ends nothing.
                    _ => at += 1,
                }
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
            assert_eq!(split(text).map(|(_, object)| object).collect::<Vec<_>>(), objects, "{text}");
            assert!(split(text).all(|(place, object)| text[place..].starts_with(object)));
            assert_eq!(whole(text.as_bytes()).unwrap().open, None, "{text}");
        }
        assert_eq!(whole(b"{} {\"a\": \"}"), Ok(Whole { bytes: 2, open: Some(3) }));
        assert_eq!(whole(b"{} [1, 2]"), Err(4));
    }
}
