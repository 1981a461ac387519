//! The flags of stages that meet a recommender of somebody else's.

use std::path::PathBuf;
use std::time::Duration;

use artifact::dataset::ITEMS;

use crate::{Address, Error, Result};

/// Questions that are on their way at once to a service, where nobody says.
const CONCURRENCY: usize = 4;

/// How long an answer is waited for, where nobody says.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a question is asked again, where nobody says.
const RETRIES: u32 = 10;

/// Flags of a target that others run; flatten them into the stage's own.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Flags of a target that others run (only for systems that you may test)")]
#[group(id = "target-of-others")]
pub struct Flags {
    /// Items of the target, where it does not list them itself: JSON as at /v1/items, a dataset, or text with an id a line
    ///
    /// Items are numbered in the order of this list. A dataset is the directory made by `gro-preprocess run`, or its items.parquet.
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,

    /// How to ask a service that does not speak the laboratory's protocol: YAML or JSON, see docs/foreign.md
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,

    /// Environment variable that holds the key of the service, sent as `Authorization: Bearer …`
    #[arg(long, value_name = "NAME")]
    pub key_env: Option<String>,

    /// Trust the certificates of the authorities in this PEM file and no others; by default those of the system and of Mozilla
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Questions a second at most; by default as many as the service allows
    ///
    /// `Retry-After` and `RateLimit` headers are heeded besides.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,

    /// Calls on their way at once, or copies of a program; by default 4 to a service and 1 of a program
    ///
    /// What is written does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,

    /// Seconds to wait for an answer; by default 30
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// How often a question is asked again that failed; by default 10 times
    ///
    /// After half a second, then twice as long each time, up to a minute.
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,

    /// Questions ever asked for this output at most, those whose answers were lost included, across --resume and --force
    ///
    /// Where a finished output is replaced, with --force or for other settings, all is asked anew, and what was asked for it before counts too.
    /// A question counts when it goes out, unless the service says that it did not answer it. What would need more is refused before it
    /// begins; where so many answers are lost that the budget does not suffice, what was answered is kept, and --resume with a
    /// higher one goes on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: Option<u64>,

    /// What the names of accounts begin with, before their numbers
    #[arg(long, value_name = "TEXT")]
    pub account_prefix: Option<String>,
}

impl Flags {
    /// Refuses what would have no effect.
    ///
    /// # Errors
    /// A refusal that names the flag.
    pub fn check(&self, address: &Address) -> Result<()> {
        let service = [
            ("--mapping", self.mapping.is_some()),
            ("--key-env", self.key_env.is_some()),
            ("--ca", self.ca.is_some()),
            ("--retries", self.retries.is_some()),
        ];
        let any = [
            ("--catalogue", self.catalogue.is_some()),
            ("--rate", self.rate.is_some()),
            ("--concurrency", self.concurrency.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--budget", self.budget.is_some()),
            ("--account-prefix", self.account_prefix.is_some()),
        ];
        let given =
            |flags: &[(&'static str, bool)]| flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag);
        match address {
            Address::Directory(path) => match given(&service).or(given(&any)) {
                Some(flag) => Err(Error::refused(format!(
                    "{flag} is for a target that others run (http://…, https://… or command:…), and {} is a directory",
                    path.display()
                ))),
                None => Ok(()),
            },
            Address::Command(_) => match given(&service) {
                Some(flag) => Err(Error::refused(format!(
                    "{flag} is for a service (http://… or https://…), not for a program"
                ))),
                None => Ok(()),
            },
            Address::Http(_) => match (&self.mapping, &self.catalogue) {
                (Some(mapping), None) => Err(Error::refused(format!(
                    "--mapping {} describes how to ask, not which items there are: give these with --catalogue",
                    mapping.display()
                ))),
                _ => Ok(()),
            },
        }
    }

    /// The files that what is asked depends on.
    pub fn files(&self) -> Vec<PathBuf> {
        let catalogue =
            self.catalogue.as_ref().map(|path| if path.is_dir() { path.join(ITEMS) } else { path.clone() });
        self.mapping.iter().cloned().chain(catalogue).collect()
    }

    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// How often a question is asked again that failed.
    pub fn again(&self) -> u32 {
        self.retries.unwrap_or(RETRIES)
    }

    /// Calls on their way at once.
    pub fn workers(&self, address: &Address) -> usize {
        let default = if matches!(address, Address::Command(_)) { 1 } else { CONCURRENCY };
        self.concurrency.map_or(default, usize::from)
    }
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (1e-6..=1e9).contains(rate));
    rate.ok_or_else(|| "expected a number of questions a second above 0".to_owned())
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let sensible = seconds.filter(|seconds| !seconds.is_zero() && *seconds <= Duration::from_secs(24 * 3600));
    sensible.ok_or_else(|| "expected a number of seconds above 0 and up to a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_without_effect_are_refused() {
        let at = |text: &str| text.parse::<Address>().unwrap();
        let some = Flags { rate: Some(1.0), ..Flags::default() };
        assert!(some.check(&at("out/target")).unwrap_err().to_string().starts_with("--rate is for a target"));
        assert!(some.check(&at("command:a")).is_ok() && some.check(&at("http://a")).is_ok());
        let wait = Flags { timeout: Some(TIMEOUT), ..Flags::default() };
        assert!(wait.check(&at("out")).unwrap_err().to_string().starts_with("--timeout is for a target"));
        let again = Flags { retries: Some(1), ..Flags::default() };
        for target in ["out", "command:a"] {
            assert!(again.check(&at(target)).unwrap_err().to_string().starts_with("--retries is for a "));
        }
        assert!(again.check(&at("http://a")).is_ok());
        let key = Flags { key_env: Some("KEY".to_owned()), ..Flags::default() };
        assert!(
            key.check(&at("command:a")).unwrap_err().to_string().starts_with("--key-env is for a service")
        );
        let mapping = Flags { mapping: Some("m.yaml".into()), ..Flags::default() };
        assert!(mapping.check(&at("http://a")).unwrap_err().to_string().contains("--catalogue"));
        assert!(Flags::default().check(&at("out/target")).is_ok());
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        for text in ["0", "-1", "NaN", "inf", "x", "1e-9"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("1e9").is_err());
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
    }
}
