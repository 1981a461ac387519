//! The settings of a run, twice: as written ([`Settings`]) and as checked ([`Checked`]).
//!
//! They are built in layers: the built-in defaults, each `--config` in order, each `--set`, `--seed`. A key that nobody
//! reads is an error with a suggestion, since a misspelt setting would otherwise silently mean the default. Past the
//! check no code asks whether a probability is one.

mod advice;
mod layers;
mod schema;
mod text;

use std::ops::Deref;

pub use artifact::settings::*;
use serde_yaml::{Mapping, Value};

use crate::{Flags, Refusal};

pub use schema::Schema;

/// Settings whose values were checked. Read them as [`Settings`].
#[derive(Clone, Debug, PartialEq)]
pub struct Checked(Settings);

impl Deref for Checked {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl Checked {
    /// The named sections (`model`, `train`, `defend.gro`, …) as YAML, for a [`Plan`](crate::Plan): a stage depends on these and
    /// on no others.
    pub fn sections(&self, names: &[&str]) -> Value {
        let all = serde_yaml::to_value(&self.0).unwrap_or_default();
        let of = |path: &str| path.split('.').try_fold(&all, |value, key| value.get(key)).cloned();
        let whole = all.as_mapping().into_iter().flat_map(|all| all.keys().filter_map(Value::as_str));
        let mut chosen: Mapping =
            whole.filter(|key| names.contains(key)).filter_map(|key| Some((key.into(), of(key)?))).collect();
        let within = names.iter().filter(|name| name.contains('.'));
        chosen.extend(within.filter_map(|path| Some((Value::from(*path), of(path)?))));
        Value::Mapping(chosen)
    }

    /// The value at a key path such as `train.epochs`, or that of a whole section.
    ///
    /// # Errors
    /// A refusal for a path that leads nowhere, with the nearest one that does.
    pub fn value(&self, path: &str) -> Result<Value, Refusal> {
        let all = serde_yaml::to_value(&self.0)
            .map_err(|source| Refusal::because("the settings cannot be shown as YAML", source))?;
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        match keys.iter().try_fold(&all, |value, key| value.get(key)) {
            Some(value) => Ok(value.clone()),
            None => Err(Refusal::new(format!("unknown setting `{path}`; {}", advice::nearest(&keys, &all)))),
        }
    }

    /// Back to settings that may be changed and checked again.
    pub fn into_inner(self) -> Settings {
        self.0
    }
}

impl Checked {
    /// Settings that were built in code, checked.
    ///
    /// # Errors
    /// A refusal for the first value that no run can use, with its key and what was expected.
    pub fn new(settings: Settings) -> Result<Self, Refusal> {
        settings.check().map_err(|invalid| Refusal::new(invalid.to_string()))?;
        Ok(Self(settings))
    }
}

/// The settings that the flags ask for, checked, by a stage that knows no names and owns no sections.
///
/// # Errors
/// A refusal that names the file, the line where it can be found, and the key.
pub fn load(flags: &Flags) -> Result<Checked, Refusal> {
    Schema::default().load(flags)
}
