//! What may be drawn: a YAML file with a line for each setting.
//!
//! ```yaml
//! optimizer.learning_rate: {log: [0.0003, 0.01]}
//! model.dropout: {uniform: [0.1, 0.5]}
//! model.hidden: [32, 64, 128]
//! ```
//!
//! A number between two ends has three significant digits, so that what is found can be written down.

use std::path::Path;

use anyhow::{Context, Result};
use serde_yaml::{Mapping, Value};
use stage::Refusal;
use streams::{Purpose, Streams, below, unit};

/// Sections that training a target reads.
const SECTIONS: [&str; 3] = ["model", "optimizer", "train"];
/// What the search itself sets.
const TAKEN: &str = "train.epochs";

/// What a setting may be.
#[derive(Clone, Debug, PartialEq)]
enum Range {
    /// One of these.
    OneOf(Vec<Value>),
    /// Anything between, all alike.
    Uniform(f64, f64),
    /// Anything between, the logarithms of all alike.
    Log(f64, f64),
}

/// What may be drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Space {
    settings: Vec<(String, Range)>,
}

impl Space {
    /// The space in a file.
    ///
    /// Fails, as a refusal, where it is none; whether every value is one that a run can use is found by [`Self::check`].
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Refusal::because(format!("cannot read {}", path.display()), error))?;
        Self::parse(&text).map_err(|why| Refusal::new(format!("{}: {why}", path.display())).into())
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let lines: Mapping = serde_yaml::from_str(text)
            .map_err(|error| format!("expected settings, each with what it may be: {error}"))?;
        let mut settings = Vec::with_capacity(lines.len());
        for (name, range) in &lines {
            let name = name.as_str().ok_or_else(|| format!("`{}` is no name of a setting", plain(name)))?;
            let section = name.split('.').next().unwrap_or_default();
            if !SECTIONS.contains(&section) || !name.contains('.') {
                return Err(format!(
                    "{name} is no setting of a target's training, expected one of {}, as in optimizer.learning_rate",
                    SECTIONS.join(", ")
                ));
            }
            if name == TAKEN {
                return Err(format!(
                    "{TAKEN} is set by the search itself; it goes up to what --set {TAKEN} says"
                ));
            }
            settings.push((name.to_owned(), range_of(name, range)?));
        }
        if settings.is_empty() {
            return Err("names no setting, so there is nothing to try".to_owned());
        }
        Ok(Self { settings })
    }

    /// Whether a run can use every value of a list and both ends of a range, each with the rest as it is.
    ///
    /// Fails as `load` does for the first that it cannot.
    pub(super) fn check(&self, load: impl Fn(Vec<String>) -> Result<()>) -> Result<()> {
        for (name, range) in &self.settings {
            let values: Vec<Value> = match range {
                Range::OneOf(values) => values.clone(),
                Range::Uniform(low, high) | Range::Log(low, high) => vec![(*low).into(), (*high).into()],
            };
            for value in values {
                let set = format!("{name}={}", plain(&value));
                load(vec![set.clone()]).with_context(|| format!("{set} of the space cannot be tried"))?;
            }
        }
        Ok(())
    }

    /// The names of the settings, in the order of the file.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|(name, _)| name.as_str())
    }

    /// What is drawn at a place of a round, a value for each setting.
    pub(super) fn draw(&self, streams: Streams, round: u32, drawn: usize) -> Vec<Value> {
        let mut stream = streams.open(Purpose::Tuning, u64::from(round), drawn as u64, 0);
        let mut values = Vec::with_capacity(self.settings.len());
        for (_, range) in &self.settings {
            values.push(match range {
                Range::OneOf(values) => values[below(&mut stream, values.len() as u32) as usize].clone(),
                Range::Uniform(low, high) => short(low + (high - low) * unit(&mut stream), (*low, *high)),
                Range::Log(low, high) => {
                    let (from, to) = (libm::log(*low), libm::log(*high));
                    short(libm::exp(from + (to - from) * unit(&mut stream)), (*low, *high))
                }
            });
        }
        values
    }

    /// What was drawn, as `--set` takes it.
    pub(super) fn set(&self, choices: &[Value]) -> Vec<String> {
        self.names().zip(choices).map(|(name, value)| format!("{name}={}", plain(value))).collect()
    }

    /// What was drawn, in words.
    pub(super) fn words(&self, choices: &[Value]) -> String {
        let words = self.names().zip(choices).map(|(name, value)| format!("{name} {}", plain(value)));
        words.collect::<Vec<_>>().join(", ")
    }
}

fn range_of(name: &str, range: &Value) -> std::result::Result<Range, String> {
    let expected = || {
        format!("{name} is `{}`, expected a list, or uniform: [LOW, HIGH] or log: [LOW, HIGH]", plain(range))
    };
    let within = |ends: &Value| -> Option<(f64, f64)> {
        let [low, high] = ends.as_sequence()?.as_slice() else { return None };
        Some((low.as_f64()?, high.as_f64()?)).filter(|(low, high)| low.is_finite() && high.is_finite())
    };
    match range {
        Value::Sequence(values) if !values.is_empty() => Ok(Range::OneOf(values.clone())),
        Value::Mapping(one) if one.len() == 1 => {
            let (kind, ends) = one.iter().next().ok_or_else(expected)?;
            let (low, high) = within(ends).ok_or_else(expected)?;
            if low >= high {
                return Err(format!("{name}: the lower end {low} is not below the upper end {high}"));
            }
            match kind.as_str() {
                Some("uniform") => Ok(Range::Uniform(low, high)),
                Some("log") if low > 0.0 => Ok(Range::Log(low, high)),
                Some("log") => Err(format!("{name}: {low} has no logarithm, expected ends above 0")),
                _ => Err(expected()),
            }
        }
        _ => Err(expected()),
    }
}

/// Three significant digits, never beyond the ends.
fn short(value: f64, (low, high): (f64, f64)) -> Value {
    let short: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    short.clamp(low, high).into()
}

/// A value as a command line takes it, on one line.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Sequence(values) => format!("[{}]", values.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Mapping(values) => {
            let parts = values.iter().map(|(key, value)| format!("{}: {}", plain(key), plain(value)));
            format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
        }
        _ => serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: &str = "optimizer.learning_rate: {log: [0.001, 0.1]}\nmodel.dropout: {uniform: [0.1, 0.5]}\nmodel.hidden: [16, 32]\n";

    #[test]
    fn draws_stay_within_the_space_and_spread_over_it() {
        let space = Space::parse(SPACE).unwrap();
        let streams = Streams::new(1);
        let draws: Vec<Vec<Value>> = (1..=400).map(|drawn| space.draw(streams, 1, drawn)).collect();
        let rates: Vec<f64> = draws.iter().map(|draw| draw[0].as_f64().unwrap()).collect();
        assert!(rates.iter().all(|rate| (0.001..=0.1).contains(rate)));
        // Half of the logarithms lie below that of .01; of 400 draws 200 ± 10.
        let below_middle = rates.iter().filter(|rate| **rate < 0.01).count();
        assert!((160..=240).contains(&below_middle), "{below_middle}");
        let narrow = draws.iter().filter(|draw| draw[2].as_u64() == Some(16)).count();
        assert!((160..=240).contains(&narrow), "{narrow}");
        assert_eq!(draws[7], space.draw(Streams::new(1), 1, 8), "a draw depends on its place alone");
        assert_ne!(draws[7], space.draw(streams, 2, 8));
        assert!(rates.iter().all(|rate| rate.to_string().len() <= 7), "three digits: {rates:?}");
    }

    #[test]
    fn what_is_no_space_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("defend.gro.lambda: [1]", "no setting of a target's training"),
            ("train.epochs: [10, 20]", "set by the search itself"),
            ("model.dropout: 0.5", "expected a list, or uniform"),
            ("model.dropout: {uniform: [0.5, 0.1]}", "not below"),
            ("optimizer.learning_rate: {log: [0, 0.1]}", "no logarithm"),
            ("model.hidden: []", "expected a list"),
            ("{}", "nothing to try"),
            ("- 1", "expected settings"),
        ] {
            let why = Space::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
