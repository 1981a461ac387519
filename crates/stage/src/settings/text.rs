//! A settings file as text and as a tree: one YAML document in UTF-8, its anchors and merge keys (`<<: *base`) resolved. What is
//! wrong with it is told with the line.

use std::path::Path;

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::Refusal;

/// The text of the file at `path`, without a byte order mark.
///
/// # Errors
/// A refusal: a file that cannot be read, or is not UTF-8.
pub(super) fn read(path: &Path) -> Result<String, Refusal> {
    let bytes = std::fs::read(path).map_err(|source| {
        Refusal::because(format!("cannot read the settings file {}", path.display()), source)
    })?;
    let refuse = |message: String| Refusal::new(format!("{}: {message}", path.display()));
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(refuse("is UTF-16, expected UTF-8; save it as UTF-8".to_owned()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let line = 1 + String::from_utf8_lossy(&bytes[..error.valid_up_to()]).matches('\n').count();
            Err(Refusal::new(format!("{}:{line}: is not UTF-8; save the file as UTF-8", path.display())))
        }
    }
}

/// The tree of a file's text; `origin` is for the message.
///
/// # Errors
/// A refusal: text that is no YAML, more than one document, a merge key with nothing to merge.
pub(super) fn parse(origin: &str, text: &str) -> Result<Value, Refusal> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(Value::Null) };
    let mut value = Value::deserialize(first).map_err(|error| unreadable(origin, text, &error))?;
    if documents.next().is_some() {
        let line = second_document(text).map_or_else(String::new, |line| format!(":{line}"));
        return Err(Refusal::new(format!(
            "{origin}{line}: a second document begins with `---`, expected one; make it a file of its own and give both with \
             --config"
        )));
    }
    value.apply_merge().map_err(|error| {
        let line = text.lines().position(|line| line.trim_start().trim_start_matches("- ").starts_with("<<"));
        let line = line.map_or_else(String::new, |line| format!(":{}", line + 1));
        let message =
            format!("{origin}{line}: `<<` merges keys, expected settings by name behind it (`<<: *anchor`)");
        Refusal::because(message, error)
    })?;
    Ok(value)
}

/// Why a text is no YAML, with the line.
fn unreadable(origin: &str, text: &str, error: &serde_yaml::Error) -> Refusal {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    if let Some(line) = text.lines().position(|line| line[..indent(line)].contains('\t')) {
        return Refusal::new(format!("{origin}:{}: is indented with a tab, expected blanks", line + 1));
    }
    let message = error.to_string();
    let message = message.rfind(" at line ").map_or(&*message, |end| &message[..end]);
    let line = error.location().map_or_else(String::new, |place| format!(":{}", place.line()));
    let place = format!("{origin}{line}");
    // Within a section its name stands in front.
    if let Some((section, key)) = message.split_once("duplicate entry with key ") {
        let key = key.trim_matches('"');
        let section = section.trim_end_matches([':', ' ']);
        let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        return Refusal::new(format!("{place}: the key `{path}` stands there twice; keep one"));
    }
    if let Some(anchor) = message.strip_prefix("unknown anchor") {
        return Refusal::new(format!(
            "{place}: no anchor of that name{anchor}; `&name` before a value makes one"
        ));
    }
    Refusal::new(format!("{place}: {}", reason(error)))
}

/// Why a text is no YAML, without the place.
pub(super) fn reason(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    let message = message.rfind(" at line ").map_or(&*message, |end| &message[..end]);
    let large = message.rsplit_once("invalid type: integer `").and_then(|(_, end)| end.split_once('`'));
    match large {
        Some((number, _)) => format!("holds {number}, expected a number of at most {}", u64::MAX),
        None => format!("is not YAML as it should be: {message}"),
    }
}

/// The line on which a second document begins.
fn second_document(text: &str) -> Option<usize> {
    let mut begun = false;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if line.starts_with("---") && begun {
            return Some(index + 1);
        }
        begun |= !content.is_empty() && !content.starts_with('#') && !content.starts_with('%');
    }
    None
}
