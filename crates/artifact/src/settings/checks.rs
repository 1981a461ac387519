//! The checks that sections share, and how they refuse: the key, what stands there, what was expected.

use std::fmt::Display;

/// A setting with a value that no run can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// What is wrong, in a sentence that names the key.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The largest count: items and users are numbered in 32 bits, and what is larger is a slip of the pen.
pub const MOST: usize = u32::MAX as usize;

/// Refuses a count below `least`, and one above [`MOST`].
pub fn at_least(key: &str, value: usize, least: usize) -> Result<(), Invalid> {
    if value < least {
        return Err(Invalid(format!("`{key}` is {value}, expected at least {least}")));
    }
    at_most(key, value, MOST)
}

/// Refuses a count above `most`.
pub fn at_most(key: &str, value: usize, most: usize) -> Result<(), Invalid> {
    if value <= most {
        return Ok(());
    }
    Err(Invalid(format!("`{key}` is {value}, expected at most {most}")))
}

/// Refuses a number of which `holds` is not true; `expected` says what does hold, in words.
pub fn number(key: &str, value: f64, expected: &str, holds: impl Fn(f64) -> bool) -> Result<(), Invalid> {
    if holds(value) {
        return Ok(());
    }
    // Not with three hundred zeros.
    let shown = match value.abs() {
        size if size.is_finite() && size != 0.0 && !(1e-9..1e16).contains(&size) => format!("{value:e}"),
        _ => value.to_string(),
    };
    Err(Invalid(format!("`{key}` is {shown}, expected {expected}")))
}

/// Refuses what is nothing, or infinite, in the 32 bits that models compute with.
fn single(key: &str, value: f64) -> Result<(), Invalid> {
    let expected = "0 or a number from 1e-45 to 3.4e38, for models compute with 32 bits";
    number(key, value, expected, |value| value == 0.0 || (value as f32 != 0.0 && (value as f32).is_finite()))
}

/// Refuses what is not in [0, 1).
pub fn probability(key: &str, value: f64) -> Result<(), Invalid> {
    number(key, value, "at least 0 and less than 1", |p| (0.0..1.0).contains(&p))
}

/// Refuses what is not in [0, 1].
pub fn share(key: &str, value: f64) -> Result<(), Invalid> {
    number(key, value, "a share from 0 to 1", |share| (0.0..=1.0).contains(&share))
}

/// Refuses what is not in (0, infinity), in 32 bits too.
pub fn above_zero(key: &str, value: f64) -> Result<(), Invalid> {
    number(key, value, "more than 0", |value| value > 0.0 && value.is_finite())?;
    single(key, value)
}

/// Refuses what is not in [0, infinity), in 32 bits too.
pub fn not_negative(key: &str, value: f64) -> Result<(), Invalid> {
    number(key, value, "at least 0", |value| value >= 0.0 && value.is_finite())?;
    single(key, value)
}

/// Refuses a list of what to repeat an experiment for that is empty, or holds a thing twice.
pub fn distinct<T: PartialEq + Display>(key: &str, values: Option<&[T]>) -> Result<(), Invalid> {
    let Some(values) = values else { return Ok(()) };
    if values.is_empty() {
        return Err(Invalid(format!("`{key}` is empty, expected at least one, or null")));
    }
    match (1..values.len()).find(|&place| values[..place].contains(&values[place])) {
        None => Ok(()),
        Some(place) => Err(Invalid(format!("`{key}` holds {} twice, expected each once", values[place]))),
    }
}
