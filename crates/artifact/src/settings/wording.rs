//! What serde says of a value of the wrong type, in the words of whoever writes settings: `a whole number`, not `usize`.

/// The largest whole number that can be read at all.
const LARGEST: u64 = u64::MAX;

/// What is wrong with a setting, to be put behind its quoted name: ` is "wide", expected a whole number of 0 or more`.
/// `message` is serde's, of whichever format.
pub fn said(message: &str) -> String {
    let message = without_place(message);
    let kinds = ["invalid type: ", "invalid value: ", "unknown variant ", "invalid length "];
    match kinds.iter().find_map(|kind| message.strip_prefix(kind)?.rsplit_once(", expected ")) {
        Some((found, expected)) => {
            let found = found_in_words(found);
            let expected = expected_in_words(expected);
            format!(" is {found}, expected {expected}{}", hint(&found, &expected))
        }
        None => format!(": {message}"),
    }
}

/// Without the place that a parser adds: it is one in a text that nobody has seen.
fn without_place(message: &str) -> &str {
    match message.rfind(" at line ") {
        Some(end) => &message[..end],
        None => message,
    }
}

/// What stands there.
fn found_in_words(found: &str) -> String {
    let quoted = |kind: &str| found.strip_prefix(kind)?.strip_prefix(" `")?.strip_suffix('`');
    if let Some(number) = quoted("floating point") {
        return match number.parse::<f64>() {
            // As it was written, and not with thirty zeros.
            Ok(value) if value.abs() >= 1e16 => format!("{value:e}"),
            _ => number.to_owned(),
        };
    }
    if let Some(value) = quoted("integer").or_else(|| quoted("boolean")).or_else(|| quoted("character")) {
        return value.to_owned();
    }
    match found {
        "unit value" | "null" | "Option value" => "an empty value".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a group of keys".to_owned(),
        _ => found.strip_prefix("string ").unwrap_or(found).to_owned(),
    }
}

/// What may stand there.
fn expected_in_words(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "bool" | "a boolean" => "true or false".to_owned(),
        "unit" | "null" | "option" => "an empty value".to_owned(),
        "a string" | "a borrowed string" | "str" | "string" | "a character" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "settings by name".to_owned(),
        _ if expected.starts_with("struct ") => "settings by name".to_owned(),
        _ if expected.contains("enum") || expected == "string or map" => "a word".to_owned(),
        _ => expected.replace('`', ""),
    }
}

/// What else is to be said of a number that is not whole, or too large.
fn hint(found: &str, expected: &str) -> String {
    match found.parse::<f64>() {
        Ok(value) if expected.starts_with("a whole number") => {
            if value > LARGEST as f64 {
                format!(", at most {LARGEST}")
            } else if value >= 0.0 && value.fract() == 0.0 && value < 1e15 {
                format!(": write {value:.0}")
            } else {
                String::new()
            }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn types_have_plain_names() {
        for (message, expected) in [
            (
                "invalid type: string \"wide\", expected usize",
                " is \"wide\", expected a whole number of 0 or more",
            ),
            (
                "invalid type: floating point `3.0`, expected usize",
                " is 3.0, expected a whole number of 0 or more: write 3",
            ),
            (
                "invalid type: floating point `3.5`, expected u64",
                " is 3.5, expected a whole number of 0 or more",
            ),
            ("invalid value: integer `-1`, expected usize", " is -1, expected a whole number of 0 or more"),
            (
                "invalid type: floating point `1e30`, expected u64",
                " is 1e30, expected a whole number of 0 or more, at most 18446744073709551615",
            ),
            (
                "invalid type: unit value, expected usize",
                " is an empty value, expected a whole number of 0 or more",
            ),
            ("invalid type: null, expected f64", " is an empty value, expected a number"),
            ("invalid type: sequence, expected f64", " is a list, expected a number"),
            ("invalid type: map, expected a string", " is a group of keys, expected a text"),
            ("invalid type: integer `0`, expected a boolean", " is 0, expected true or false"),
            ("invalid type: boolean `true`, expected a sequence", " is true, expected a list"),
            ("invalid type: integer `3`, expected struct Train", " is 3, expected settings by name"),
            (
                "unknown variant `x`, expected `bce` or `cross_entropy`",
                " is `x`, expected bce or cross_entropy",
            ),
            (
                "invalid type: string \"a, expected b\", expected f64",
                " is \"a, expected b\", expected a number",
            ),
            ("missing field `user` at line 1 column 2", ": missing field `user`"),
        ] {
            assert_eq!(said(message), expected);
        }
    }
}
