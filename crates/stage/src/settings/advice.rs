//! What to do about a key that is no setting: the nearest one that is, how a dotted key is written, or the flag that was meant.

use clap::Args as _;
use serde_yaml::Value;

use super::layers::collect;
use crate::Flags;

/// What is said besides of a key of the file that defines an anchor.
pub(super) const ANCHORS: &str = "; a key that only holds an anchor begins with `x-`";

/// Flags that not every stage has, by what somebody may have written as a setting, and who has them.
const FLAGS: &[(&str, &str, &str)] = &[
    ("data", "--data DIR", "gro-train, gro-defend and gro-evaluate run"),
    ("dataset", "--data DIR", "gro-train, gro-defend and gro-evaluate run"),
    ("from", "--from FILE", "gro-train import"),
    ("input", "--input PATH", "gro-preprocess run"),
    ("method", "--method NAME", "gro-defend"),
    ("defence", "--method NAME", "gro-defend"),
    ("out", "--out DIR", "every stage"),
    ("output", "--out DIR", "every stage"),
    ("other_split", "--other-split", "gro-defend, gro-attack generate and gro-evaluate run"),
    ("queries", "--queries DIR", "gro-attack distill"),
    ("resume", "--resume", "the stages that work long"),
    ("runs", "--runs DIR ...", "gro-evaluate report"),
    ("save_every", "--save-every SECONDS", "the stages that work long"),
    ("surrogate", "--surrogate NAME", "gro-attack distill"),
    ("target", "--target DIR", "gro-defend, gro-attack generate and gro-evaluate run"),
];

/// What to say of an unknown key: that it is one, and what to do. `value` is what it was given, where it is known.
pub(super) fn unknown(path: &[String], value: Option<&Value>, defaults: &Value) -> String {
    let shown = path.join(".");
    let dotted = path.iter().any(|key| key.contains('.'));
    let written: Vec<&str> = path.iter().flat_map(|key| key.split('.')).collect();
    if dotted && written.iter().try_fold(defaults, |value, key| value.get(key)).is_some() {
        return format!("`{shown}`: a key in a file has no dots; write it as `{}`", nested(&written, value));
    }
    if let Some((key, rest)) = path.last().and_then(|key| key.split_once(':')) {
        return format!("`{shown}`: a blank stands behind a colon; write it as `{key}: {rest}`");
    }
    if let Some(flag) = flag(written.last().copied().unwrap_or_default()) {
        return format!("`{shown}` is no setting; {flag}");
    }
    format!("unknown setting `{shown}`; {}", nearest(path, defaults))
}

/// `train: {epochs: 3}`
fn nested(keys: &[&str], value: Option<&Value>) -> String {
    let value = value.filter(|value| !value.is_mapping()).and_then(|value| serde_yaml::to_string(value).ok());
    let value = value.filter(|text| text.trim_end().lines().count() == 1);
    let value = value.as_deref().map_or("…", str::trim_end);
    let mut text = String::new();
    for (place, key) in keys.iter().enumerate() {
        text.push_str(if place == 0 { "" } else { "{" });
        text.push_str(key);
        text.push_str(": ");
    }
    text + value + &"}".repeat(keys.len().saturating_sub(1))
}

/// The flag of that name, in words.
fn flag(name: &str) -> Option<String> {
    let name = name.trim_start_matches('-').replace('-', "_");
    let common = Flags::augment_args(clap::Command::new("flags"));
    if let Some(argument) = common.get_arguments().find(|argument| argument.get_id() == name.as_str()) {
        let takes_value = argument.get_action().takes_values();
        let value = argument.get_value_names().and_then(<[_]>::first).filter(|_| takes_value);
        let value = value.map_or_else(String::new, |value| format!(" {value}"));
        return Some(format!("give the flag --{}{value} instead", argument.get_long()?));
    }
    let (_, flag, whose) = FLAGS.iter().find(|(key, _, _)| *key == name)?;
    Some(format!("give the flag {flag} to {whose} instead"))
}

/// The nearest known key, or all of its section.
pub(super) fn nearest(path: &[String], defaults: &Value) -> String {
    let mut known = Vec::new();
    collect(defaults, "", &mut known);
    let split = |path: &str| match path.rsplit_once('.') {
        Some((section, name)) => (section.to_owned(), name.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let (section, name) = split(&path.join("."));
    let similarity = |candidate: &String| {
        let (its_section, its_name) = split(candidate);
        // Names decide, so that the right name in the wrong section is found; of equal names the nearer one.
        artifact::names::similarity(&name, &its_name) + if section == its_section { 0.01 } else { 0.0 }
    };
    let nearest = known.iter().map(|candidate| (similarity(candidate), candidate));
    match nearest.max_by(|left, right| left.0.total_cmp(&right.0)) {
        Some((similarity, candidate)) if similarity >= artifact::names::ALIKE => {
            format!("did you mean `{candidate}`?")
        }
        _ => {
            let section = path[..path.len() - 1].iter().try_fold(defaults, |value, key| value.get(key));
            let names: Vec<&str> = section
                .and_then(Value::as_mapping)
                .map(|mapping| mapping.keys().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            format!("the settings there are {}", names.join(", "))
        }
    }
}
