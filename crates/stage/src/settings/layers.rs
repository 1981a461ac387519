//! The layers of the settings: merging them key by key, and saying exactly where a layer is wrong.

use std::path::PathBuf;

use artifact::settings::wording::said;
use serde_yaml::{Mapping, Value};

use super::{Schema, Settings, advice, text};
use crate::Refusal;

/// How a key of the file begins that is no setting and only holds what an anchor names.
const ANCHORS: &str = "x-";
/// What YAML gives a meaning that no value on a command line has, such as `%d/%m/%Y` or `|`: what begins so is text.
const TEXT_ALONE: [char; 9] = ['%', '|', '>', '@', '`', ',', '*', '&', '!'];

/// The mappings whose keys are not settings but names of the user's own, which no default knows.
const NAMED_BY_USERS: [&[&str]; 1] = [&["preprocess", "keep"]];

/// One layer: where it comes from, its text where it has lines, and what it says.
struct Layer<'a> {
    origin: String,
    text: Option<&'a str>,
    value: Value,
}

/// The built-in defaults, then each file, each `key.path=value`, and the seed; not checked yet.
///
/// # Errors
/// A refusal: a file that cannot be read or is no YAML, a key that does not exist (with the nearest one that does), a
/// value of another type.
pub(super) fn layered(
    schema: &Schema,
    files: &[PathBuf],
    assignments: &[String],
    seed: Option<u64>,
) -> Result<Settings, Refusal> {
    let unshowable = |source| Refusal::because("the built-in settings cannot be shown as YAML", source);
    let mut defaults = serde_yaml::to_value(Settings::default()).map_err(unshowable)?;
    schema.add_defaults(&mut defaults)?;
    let mut merged = defaults.clone();
    let mut settings = serde_yaml::from_value(defaults.clone()).map_err(unshowable)?;
    for path in files {
        let origin = path.display().to_string();
        let text = text::read(path)?;
        let value = text::parse(&origin, &text)?;
        let layer = Layer { origin, text: Some(&text), value };
        settings = layer.apply(schema, &defaults, &mut merged)?;
    }
    for assignment in assignments {
        let layer = Layer { origin: format!("--set {assignment}"), text: None, value: nested(assignment)? };
        settings = layer.apply(schema, &defaults, &mut merged)?;
    }
    if let Some(seed) = seed {
        // One seed on the command line is the only one.
        (settings.seed, settings.seeds) = (seed, None);
    }
    Ok(settings)
}

/// `a.b=c` as the YAML `a: {b: c}`.
fn nested(assignment: &str) -> Result<Value, Refusal> {
    let malformed = || {
        Refusal::new(format!(
            "--set {assignment}: expected key.path=value, for example `--set train.epochs=20`"
        ))
    };
    let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
    let value = if value.starts_with(TEXT_ALONE) {
        Value::from(value)
    } else {
        serde_yaml::from_str(value).map_err(|error| {
            Refusal::new(format!("--set {assignment}: the value {}", text::reason(&error)))
        })?
    };
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(malformed());
    }
    Ok(nest(&keys, value))
}

/// A value at the key path `keys` of an otherwise empty tree.
fn nest(keys: &[&str], value: Value) -> Value {
    let around = |inner, key: &&str| Value::Mapping(Mapping::from_iter([(Value::from(*key), inner)]));
    keys.iter().rev().fold(value, around)
}

impl Layer<'_> {
    /// Merge the layer in. Types are checked after every layer, so that the layer at fault is the one that is named.
    fn apply(mut self, schema: &Schema, defaults: &Value, merged: &mut Value) -> Result<Settings, Refusal> {
        self.drop_anchors();
        schema.lift(&mut self.value);
        self.check_keys(schema, &self.value, defaults, defaults, &mut Vec::new())?;
        self.check_numbers(schema)?;
        merge(merged, &self.value);
        let settings = serde_path_to_error::deserialize(&*merged).map_err(|error| {
            let path = self.culprit(defaults).unwrap_or_else(|| error.path().to_string());
            let keys: Vec<String> =
                path.split('.').map(|key| key.split('[').next().unwrap_or(key).to_owned()).collect();
            let said = said(&variants(defaults, &path, &error.into_inner().to_string()));
            Refusal::new(format!("{}: `{path}`{said}", self.place(&keys)))
        })?;
        schema
            .check(merged)
            .map_err(|(keys, message)| Refusal::new(format!("{}: {message}", self.place(&keys))))?;
        Ok(settings)
    }

    /// Refuses numbers that are not finite in the sections of methods, which are kept as JSON: it has none, and they would be read as nothing.
    fn check_numbers(&self, schema: &Schema) -> Result<(), Refusal> {
        fn infinite(value: &Value, path: &mut Vec<String>) -> Option<f64> {
            match value {
                Value::Number(number) => number.as_f64().filter(|number| !number.is_finite()),
                Value::Sequence(values) => values.iter().find_map(|value| infinite(value, path)),
                Value::Mapping(values) => values.iter().find_map(|(key, value)| {
                    path.push(key.as_str().unwrap_or_default().to_owned());
                    let found = infinite(value, path);
                    if found.is_none() {
                        path.pop();
                    }
                    found
                }),
                _ => None,
            }
        }
        for [parent, name] in schema.owned_sections() {
            let mut path = vec![parent.to_owned(), name.to_owned()];
            let section = self.value.get(parent).and_then(|parent| parent.get(name));
            if let Some(number) = section.and_then(|section| infinite(section, &mut path)) {
                let message = format!(
                    "{}: `{}` is {number}, expected a finite number, or what else is meant",
                    self.place(&path),
                    path.join(".")
                );
                return Err(Refusal::new(message));
            }
        }
        Ok(())
    }

    /// Takes out what was only there to be named by anchors.
    fn drop_anchors(&mut self) {
        if let Value::Mapping(mapping) = &mut self.value {
            mapping.retain(|key, _| !key.as_str().is_some_and(|key| key.starts_with(ANCHORS)));
        }
    }

    /// The path of the first setting of the layer that is of the wrong type on its own: a section that is composed of several
    /// types says of an error no more than that it is in there.
    fn culprit(&self, defaults: &Value) -> Option<String> {
        let mut paths = Vec::new();
        collect(&self.value, "", &mut paths);
        paths.into_iter().find_map(|path| {
            let keys: Vec<&str> = path.split('.').collect();
            let value = keys.iter().try_fold(&self.value, |value, key| value.get(key))?;
            if value.is_mapping() {
                return None;
            }
            let mut alone = defaults.clone();
            merge(&mut alone, &nest(&keys, value.clone()));
            let error = serde_path_to_error::deserialize::<_, Settings>(&alone).err()?;
            let found = error.path().to_string();
            // A place within the value, such as that in a list, is told by the error itself, and so is a value that was taken for
            // a section.
            let known = found.split('.').try_fold(defaults, |value, key| value.get(key));
            let told = found.starts_with(&path) || known.is_some_and(|known| !known.is_mapping());
            Some(if told { found } else { path })
        })
    }

    fn check_keys(
        &self,
        schema: &Schema,
        value: &Value,
        known: &Value,
        defaults: &Value,
        path: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        let Value::Mapping(known) = known else { return Ok(()) };
        let mapping = match value {
            // A file that is empty or comments only, or a section without a key.
            Value::Null => return Ok(()),
            Value::Mapping(mapping) => mapping,
            _ => {
                let name = if path.is_empty() { "it".to_owned() } else { format!("`{}`", path.join(".")) };
                let found = if value.is_sequence() { "a list" } else { "one value" };
                let message = format!(
                    "{}: {name} is {found}, expected settings by name, such as `train: {{epochs: 3}}`",
                    self.place(path)
                );
                return Err(Refusal::new(message));
            }
        };
        if NAMED_BY_USERS.iter().any(|names| path == names) {
            return Ok(());
        }
        for (key, inner) in mapping {
            let Some(name) = key.as_str().map(str::to_owned) else {
                let shown = serde_yaml::to_string(key).unwrap_or_default();
                let within =
                    if path.is_empty() { String::new() } else { format!(" in `{}`", path.join(".")) };
                let message = format!(
                    "{}: the key {}{within} is no name of a setting",
                    self.place(path),
                    shown.trim_end()
                );
                return Err(Refusal::new(message));
            };
            let empty = known.is_empty();
            let somebodys = schema.is_open(path) && (empty || inner.is_mapping());
            let dotted = name.contains('.');
            path.push(name);
            let Some(known) = known.get(key) else {
                if somebodys && !dotted {
                    path.pop();
                    continue;
                }
                let message = advice::unknown(path, Some(inner), defaults);
                let place = self.place(path);
                let anchor = if self.holds_an_anchor(&place) { advice::ANCHORS } else { "" };
                return Err(Refusal::new(format!("{place}: {message}{anchor}")));
            };
            self.check_keys(schema, inner, known, defaults, path)?;
            path.pop();
        }
        Ok(())
    }

    /// Whether an anchor (`&name`) is defined in the line at which `place` ends.
    fn holds_an_anchor(&self, place: &str) -> bool {
        let number = place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok());
        let line = number.and_then(|number| self.text?.lines().nth(number.checked_sub(1)?));
        line.is_some_and(|line| {
            line.split_once(':').is_some_and(|(_, value)| value.trim_start().starts_with('&'))
        })
    }

    /// The origin, with the line of the key where the text shows it.
    fn place(&self, path: &[String]) -> String {
        let line = self.text.and_then(|text| {
            // A setting of a method may stand in the parent of its section.
            let flat = || Some([path.first()?.clone(), path.get(2)?.clone()]);
            // A key in flow style, or one that was merged in, has no line of its own; its section has.
            let around = || (1..path.len()).rev().find_map(|depth| line_of(text, &path[..depth]));
            line_of(text, path).or_else(|| line_of(text, &flat()?)).or_else(around)
        });
        match line {
            Some(line) => format!("{}:{line}", self.origin),
            None => self.origin.clone(),
        }
    }
}

/// The message about the setting at `path`; where it speaks of an enumeration without listing it, as for a number where a
/// word is expected, the one about a word that is none of the list's, with what stands there in front.
fn variants(defaults: &Value, path: &str, message: &str) -> String {
    let Some((found, _)) = message.rsplit_once(", expected ").filter(|(_, end)| end.contains("enum")) else {
        return message.to_owned();
    };
    let keys: Vec<&str> = path.split('.').collect();
    let mut probed = defaults.clone();
    merge(&mut probed, &nest(&keys, Value::from("")));
    let probe = serde_path_to_error::deserialize::<_, Settings>(&probed);
    let listed = probe.err().map(|error| error.into_inner().to_string());
    match listed.as_deref().and_then(|listed| listed.rsplit_once(", expected ")) {
        Some((_, expected)) => format!("{found}, expected {expected}"),
        None => message.to_owned(),
    }
}

/// Deep merge: mappings key by key, everything else replaced. A section left empty changes nothing.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(inner) => merge(inner, value),
                    None => {
                        into.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Mapping(_), Value::Null) => {}
        (into, from) => *into = from.clone(),
    }
}

/// All key paths of a tree, sections included.
pub(super) fn collect(value: &Value, prefix: &str, paths: &mut Vec<String>) {
    let Value::Mapping(mapping) = value else { return };
    for (key, inner) in mapping {
        let Some(key) = key.as_str() else { continue };
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        collect(inner, &path, paths);
        paths.push(path);
    }
}

/// The line (from 1) on which a block-style YAML text sets the key at `path`. serde_yaml keeps no positions in a tree, so
/// this follows the indentation; a key in flow style (`{a: 1}`) is not found.
fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let Some((key, _)) = content.split_once(':') else { continue };
        if content.starts_with('#') || content.starts_with('-') {
            continue;
        }
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key.trim().trim_matches(['"', '\''])));
        if open.iter().map(|(_, key)| *key).eq(path.iter().map(String::as_str)) {
            return Some(index + 1);
        }
    }
    None
}
