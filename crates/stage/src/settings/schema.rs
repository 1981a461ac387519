//! What a stage knows of the settings beyond the fixed tree: which names a registry holds that may stand somewhere, and which
//! sections its methods own. Names and sections of other stages it lets pass: whoever reads them checks them, and the small
//! binary `gro`, which every pipeline asks first, knows them all.

use artifact::names::{Named, Registry, UnknownName};
use serde_yaml::{Mapping, Value};

use super::{Checked, Section, layers};
use crate::{Flags, Refusal};

/// The settings that a stage can read.
#[derive(Default)]
pub struct Schema {
    names: Vec<Names>,
    /// The sections whose methods are all known, whether or not any of these has settings.
    owned: Vec<&'static str>,
    sections: Vec<Section>,
}

/// Whether a registry holds a name.
type Find = dyn Fn(&str) -> Result<(), UnknownName>;

/// Where names of one registry stand.
struct Names {
    paths: &'static [&'static str],
    find: Box<Find>,
}

impl Schema {
    /// Also checks the names at these key paths (a name, a list of names, or null) against a registry.
    #[must_use]
    pub fn names<T: Named>(mut self, registry: &'static Registry<T>, paths: &'static [&'static str]) -> Self {
        self.names.push(Names { paths, find: Box::new(|name| registry.find(name).map(drop)) });
        self
    }

    /// The same, where a word that no entry has means something too, such as `auto`.
    #[must_use]
    pub fn names_or<T: Named>(
        mut self,
        word: &'static str,
        registry: &'static Registry<T>,
        paths: &'static [&'static str],
    ) -> Self {
        let find = move |name: &str| if name == word { Ok(()) } else { registry.find(name).map(drop) };
        self.names.push(Names { paths, find: Box::new(find) });
        self
    }

    /// Also reads the sections of methods under `parent`, over their defaults. These are all that may stand there.
    #[must_use]
    pub fn sections(mut self, parent: &'static str, sections: impl IntoIterator<Item = Section>) -> Self {
        self.owned.push(parent);
        self.sections.extend(sections);
        self
    }

    /// The settings that the flags ask for, checked.
    ///
    /// # Errors
    /// A refusal that names the file, the line where it can be found, and the key.
    pub fn load(&self, flags: &Flags) -> Result<Checked, Refusal> {
        Checked::new(layers::layered(self, &flags.config, &flags.set, flags.seed)?)
    }

    /// Puts the defaults of the sections into a tree.
    pub(super) fn add_defaults(&self, tree: &mut Value) -> Result<(), Refusal> {
        for Section { parent, name, defaults, .. } in &self.sections {
            let defaults = serde_yaml::to_value(defaults()).map_err(|source| {
                Refusal::because("the built-in settings cannot be shown as YAML", source)
            })?;
            if let Some(Value::Mapping(parent)) = tree.get_mut(parent) {
                parent.insert(Value::from(*name), defaults);
            }
        }
        Ok(())
    }

    /// The sections that methods own, each with its parent.
    pub(super) fn owned_sections(&self) -> impl Iterator<Item = [&'static str; 2]> {
        self.sections.iter().map(|section| [section.parent, section.name])
    }

    /// Whether `parent` may hold sections that this stage does not know.
    pub(super) fn is_open(&self, parent: &[String]) -> bool {
        let [parent] = parent else { return false };
        ["defend", "generate"].contains(&parent.as_str()) && !self.owned.contains(&parent.as_str())
    }

    /// Moves the keys of sections that stand in the parent, as in files of version 0.1, to where they belong.
    pub(super) fn lift(&self, layer: &mut Value) {
        for section in self.sections.iter().filter(|section| section.flat) {
            let known = (section.defaults)();
            let Some(Value::Mapping(parent)) = layer.get_mut(section.parent) else { continue };
            let flat: Vec<Value> = parent
                .keys()
                .filter(|key| key.as_str().is_some_and(|key| known.get(key).is_some()))
                .cloned()
                .collect();
            if flat.is_empty() {
                continue;
            }
            let moved: Mapping = flat.into_iter().filter_map(|key| parent.remove_entry(&key)).collect();
            let owned = parent.entry(Value::from(section.name)).or_insert(Value::Null);
            match owned {
                Value::Mapping(owned) => {
                    for (key, value) in moved {
                        // What stands in the section itself is meant.
                        owned.entry(key).or_insert(value);
                    }
                }
                // Anything else that is not empty is refused later, by its place.
                Value::Null => *owned = Value::Mapping(moved),
                _ => {}
            }
        }
    }

    /// Refuses names that no registry holds and sections that their owners cannot use; the key path, and what is wrong.
    pub(super) fn check(&self, tree: &Value) -> Result<(), (Vec<String>, String)> {
        for Section { parent, name, check, .. } in &self.sections {
            let Some(value) = tree.get(parent).and_then(|parent| parent.get(name)) else { continue };
            let at =
                |path: &str| [*parent, *name].into_iter().chain(path.split('.')).map(str::to_owned).collect();
            let value = serde_json::to_value(value).map_err(|error| (at("."), error.to_string()))?;
            check(&value).map_err(|(path, message)| match path.as_str() {
                "" => (vec![(*parent).to_owned(), (*name).to_owned()], message),
                "." => {
                    (vec![(*parent).to_owned(), (*name).to_owned()], format!("`{parent}.{name}`{message}"))
                }
                _ => (
                    at(path.split('[').next().unwrap_or(&path)),
                    format!("`{parent}.{name}.{path}`{message}"),
                ),
            })?;
        }
        for names in &self.names {
            for path in names.paths {
                let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
                let value = keys.iter().try_fold(tree, |value, key| value.get(key));
                let found: Vec<&str> = match value {
                    Some(Value::String(name)) => vec![name],
                    Some(Value::Sequence(names)) => names.iter().filter_map(Value::as_str).collect(),
                    _ => Vec::new(),
                };
                for name in found {
                    (names.find)(name).map_err(|unknown| (keys.clone(), format!("`{path}`: {unknown}")))?;
                }
            }
        }
        Ok(())
    }
}
