//! Names on the command line: the values that a flag may have are what a registry holds, and the help text lists them with
//! their titles.

use artifact::names::{Named, Registry};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A parser of names to entries of `registry`, for clap's `value_parser`.
pub fn choices<T: Named + Sync>(registry: &'static Registry<T>) -> impl TypedValueParser<Value = &'static T> {
    let values = registry.entries.iter().map(|entry| PossibleValue::new(entry.name()).help(entry.title()));
    PossibleValuesParser::new(values).try_map(|name| registry.find(&name))
}
