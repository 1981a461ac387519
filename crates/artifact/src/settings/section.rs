//! Sections of the settings that one method owns: a defence method's under `defend`, a strategy's under `generate`. The tree
//! keeps them as they are written; their owner says what may stand in them, what is meant where nothing does, and which
//! values it cannot use. So two methods never share a key, and a new one adds its settings where it is.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Invalid;
use super::wording::said;

/// Sections by name.
pub type Sections = Map<String, Value>;

/// The settings of one method.
pub trait Owned: Default + Serialize + DeserializeOwned {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    fn check(&self) -> Result<(), Invalid>;
}

/// The section that a method owns, as those see it who read settings without knowing the method.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The section of the tree it stands in: `defend`.
    pub parent: &'static str,
    /// Its name there, which is the method's.
    pub name: &'static str,
    /// Whether its keys may stand in the parent itself, as they did in files of version 0.1.
    pub flat: bool,
    /// What its settings are where nothing is written.
    pub defaults: fn() -> Value,
    /// Reads and checks what is written over these. The error is the path of the setting within the section, and what is
    /// wrong with it, to be put behind its quoted name; a sentence of its own where the path is empty.
    pub check: fn(&Value) -> Result<(), (String, String)>,
}

impl Section {
    /// The section `parent.name` with the settings `T`.
    pub const fn new<T: Owned>(parent: &'static str, name: &'static str) -> Self {
        Self { parent, name, flat: false, defaults: defaults::<T>, check: check::<T> }
    }

    /// The same, of which keys are read in the parent too.
    #[must_use]
    pub const fn read_flat(self) -> Self {
        Self { flat: true, ..self }
    }
}

/// The settings `T` of a method from all that is written of them, such as the parameters in a checkpoint.
///
/// # Errors
/// Settings that the method does not know or cannot use.
pub fn read_all<T: Owned>(written: &Sections) -> Result<T, Invalid> {
    read(&Value::Object(written.clone())).map_err(|(path, message)| Invalid::new(sentence(&path, &message)))
}

/// The settings `T` that stand under `name`, or its defaults.
///
/// # Errors
/// Where they were not checked when they were read, and do not hold.
pub fn owned<T: Owned>(sections: &Sections, name: &str) -> Result<T, Invalid> {
    match sections.get(name) {
        None => Ok(T::default()),
        Some(value) => read(value).map_err(|(path, message)| {
            let path = if path.is_empty() { path } else { format!("{name}.{path}") };
            Invalid::new(sentence(&path, &message))
        }),
    }
}

fn sentence(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("`{path}`{message}") }
}

fn defaults<T: Owned>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

fn check<T: Owned>(value: &Value) -> Result<(), (String, String)> {
    read::<T>(value).map(drop)
}

fn read<T: Owned>(value: &Value) -> Result<T, (String, String)> {
    let read: T = serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), said(&error.into_inner().to_string())))?;
    match read.check() {
        Ok(()) => Ok(read),
        Err(invalid) => Err((String::new(), invalid.to_string())),
    }
}
