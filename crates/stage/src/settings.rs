//! The settings of a run, twice: as written ([`Settings`]) and as checked ([`Checked`]).
//!
//! They are built in layers: the built-in defaults, each `--config` in order, each `--set`, `--seed`. A key that nobody
//! reads is an error with a suggestion, since a misspelt setting would otherwise silently mean the default. Past the
//! check no code asks whether a probability is one.

mod layers;

use std::fmt::Display;
use std::ops::Deref;

pub use artifact::settings::*;
use serde_yaml::{Mapping, Value};

use crate::{Flags, Refusal};

pub use layers::layered;

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
    /// The named sections (`model`, `train`, …) as YAML, for a [`Plan`](crate::Plan): a stage depends on these and on no others.
    pub fn sections(&self, names: &[&str]) -> Value {
        let mut chosen = Mapping::new();
        if let Ok(Value::Mapping(all)) = serde_yaml::to_value(&self.0) {
            chosen.extend(
                all.into_iter().filter(|(key, _)| key.as_str().is_some_and(|key| names.contains(&key))),
            );
        }
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
            None => Err(Refusal::new(format!("unknown setting `{path}`; {}", layers::advice(&keys, &all)))),
        }
    }

    /// Back to settings that may be changed and checked again.
    pub fn into_inner(self) -> Settings {
        self.0
    }
}

/// The settings that the flags ask for, checked.
///
/// # Errors
/// A refusal that names the file, the line where it can be found, and the key.
pub fn load(flags: &Flags) -> Result<Checked, Refusal> {
    Checked::new(layered(&flags.config, &flags.set, flags.seed)?)
}

impl Checked {
    /// Refuse values that no run can use.
    ///
    /// # Errors
    /// A refusal for the first such value, with its key and what was expected.
    pub fn new(settings: Settings) -> Result<Self, Refusal> {
        let Settings {
            seed: _,
            seeds,
            surrogates,
            preprocess,
            model,
            optimizer,
            train,
            defend,
            generate,
            distill,
            evaluate,
        } = &settings;

        distinct("seeds", seeds.as_deref())?;
        distinct("surrogates", surrogates.as_deref())?;

        check_columns(preprocess)?;
        number("preprocess.min_rating", preprocess.min_rating, "a number", f64::is_finite)?;
        at_least("preprocess.min_user_count", preprocess.min_user_count, 3).map_err(|refusal| {
            Refusal::new(format!(
                "{refusal}: a user needs an item to train on, one to validate and one to test"
            ))
        })?;

        at_least("model.hidden", model.hidden, 1)?;
        at_least("model.blocks", model.blocks, 1)?;
        at_least("model.heads", model.heads, 1)?;
        at_least("model.max_len", model.max_len, 2)?;
        if model.hidden % model.heads != 0 {
            return Err(Refusal::new(format!(
                "`model.heads` is {}, expected a divisor of `model.hidden`, {}",
                model.heads, model.hidden
            )));
        }
        probability("model.dropout", model.dropout)?;
        probability("model.attention_dropout", model.attention_dropout)?;

        above_zero("optimizer.learning_rate", optimizer.learning_rate)?;
        above_zero("optimizer.embedding_deviation", optimizer.embedding_deviation)?;
        probability("optimizer.beta1", optimizer.beta1)?;
        probability("optimizer.beta2", optimizer.beta2)?;
        above_zero("optimizer.epsilon", optimizer.epsilon)?;
        not_negative("optimizer.weight_decay", optimizer.weight_decay)?;
        above_zero("optimizer.clip_norm", optimizer.clip_norm)?;

        at_least("train.batch", train.batch, 1)?;
        at_least("train.epochs", train.epochs, 1)?;
        at_least("train.patience", train.patience, 1)?;
        at_least("train.validate_every", train.validate_every, 1)?;
        number("train.mask_prob", train.mask_prob, "more than 0 and at most 1", |p| 0.0 < p && p <= 1.0)?;
        at_least("train.max_predictions", train.max_predictions, 1)?;

        at_least("defend.batch", defend.batch, 1)?;
        at_least("defend.epochs", defend.epochs, 1)?;
        // A ranking loss compares neighbours, so a list of one teaches nothing.
        at_least("defend.top_k", defend.top_k, 2)?;
        at_least("defend.positions_per_sequence", defend.positions_per_sequence, 1)?;
        not_negative("defend.lambda", defend.lambda)?;
        not_negative("defend.margin_rank", defend.margin_rank)?;
        not_negative("defend.margin_negative", defend.margin_negative)?;
        not_negative("defend.margin_swap", defend.margin_swap)?;

        at_least("generate.sequences", generate.sequences, 1)?;
        at_least("generate.length", generate.length.unwrap_or(1), 1)?;
        at_least("generate.top_k", generate.top_k, 2)?;
        number("generate.seed_sequences", generate.seed_sequences, "a share from 0 to 1", |share| {
            (0.0..=1.0).contains(&share)
        })?;
        at_least("generate.seed_length", generate.seed_length.unwrap_or(1), 1)?;
        at_least("generate.batch", generate.batch, 1)?;

        at_least("distill.batch", distill.batch, 1)?;
        at_least("distill.epochs", distill.epochs, 1)?;
        at_least("distill.patience", distill.patience, 1)?;
        at_least("distill.validate_every", distill.validate_every, 1)?;
        not_negative("distill.margin_rank", distill.margin_rank)?;
        not_negative("distill.margin_negative", distill.margin_negative)?;

        at_least("evaluate.top_k", evaluate.top_k, 1)?;
        at_least("evaluate.negatives", evaluate.negatives, 1)?;
        at_least("evaluate.bootstrap", evaluate.bootstrap, 1)?;
        at_least("evaluate.batch", evaluate.batch, 1)?;
        check_ks(evaluate)?;
        Ok(Self(settings))
    }
}

/// The names of columns belong to tables, and a table is nothing without those of user and item.
fn check_columns(preprocess: &Preprocess) -> Result<(), Refusal> {
    let Preprocess { format, columns, .. } = preprocess;
    match format {
        Format::Auto | Format::Table => {}
        _ if columns.is_named() => {
            let message =
                "`preprocess.columns` names columns, expected only with `preprocess.format` auto or table";
            return Err(Refusal::new(message));
        }
        _ => return Ok(()),
    }
    if *format == Format::Auto && !columns.is_named() {
        return Ok(());
    }
    for (key, name) in [("user", &columns.user), ("item", &columns.item)] {
        if name.is_none() {
            let message =
                format!("`preprocess.columns.{key}` is null, expected the name of a column of the table");
            return Err(Refusal::new(message));
        }
    }
    let Columns { user, item, timestamp, rating } = columns;
    let names = [user, item, timestamp, rating].map(Option::as_ref);
    for (place, name) in names.iter().enumerate() {
        if let Some(name) = name
            && names[..place].contains(&Some(name))
        {
            let message =
                format!("`preprocess.columns` names `{name}` twice, expected a column of its own for each");
            return Err(Refusal::new(message));
        }
    }
    Ok(())
}

fn check_ks(evaluate: &Evaluate) -> Result<(), Refusal> {
    let ks = &evaluate.ks;
    if ks.is_empty() || ks[0] == 0 || ks.windows(2).any(|pair| pair[0] >= pair[1]) {
        let message = format!("`evaluate.ks` is {ks:?}, expected list lengths from 1 on, in ascending order");
        return Err(Refusal::new(message));
    }
    match ks.last() {
        Some(&largest) if largest > evaluate.top_k => Err(Refusal::new(format!(
            "`evaluate.ks` reaches {largest}, expected at most `evaluate.top_k`, {}: nothing is answered beyond it",
            evaluate.top_k
        ))),
        _ => Ok(()),
    }
}

/// A list of what to repeat the experiment for: something, and nothing twice.
fn distinct<T: PartialEq + Display>(key: &str, values: Option<&[T]>) -> Result<(), Refusal> {
    let Some(values) = values else { return Ok(()) };
    if values.is_empty() {
        return Err(Refusal::new(format!("`{key}` is empty, expected at least one, or null")));
    }
    match (1..values.len()).find(|&place| values[..place].contains(&values[place])) {
        None => Ok(()),
        Some(place) => {
            Err(Refusal::new(format!("`{key}` holds {} twice, expected each once", values[place])))
        }
    }
}

fn at_least(key: &str, value: usize, least: usize) -> Result<(), Refusal> {
    if value >= least {
        return Ok(());
    }
    Err(Refusal::new(format!("`{key}` is {value}, expected at least {least}")))
}

fn number(key: &str, value: f64, expected: &str, holds: impl Fn(f64) -> bool) -> Result<(), Refusal> {
    if holds(value) {
        return Ok(());
    }
    Err(Refusal::new(format!("`{key}` is {value}, expected {expected}")))
}

fn probability(key: &str, value: f64) -> Result<(), Refusal> {
    number(key, value, "at least 0 and less than 1", |p| (0.0..1.0).contains(&p))
}

fn above_zero(key: &str, value: f64) -> Result<(), Refusal> {
    number(key, value, "more than 0", |value| value > 0.0 && value.is_finite())
}

fn not_negative(key: &str, value: f64) -> Result<(), Refusal> {
    number(key, value, "at least 0", |value| value >= 0.0 && value.is_finite())
}
