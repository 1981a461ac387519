//! The command `list`: the names in a registry, for a reader and for whoever chains the stages.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context;
use artifact::names::{Named, Registry};
use attack::losses::LIST_LOSSES;
use attack::strategies::STRATEGIES;
use attack::suspicions::SUSPICIONS;
use defend::methods::{DEFENCES, Method};
use evaluate::detect::detectors::DETECTORS;
use metrics::METRICS;
use models::ARCHITECTURES;
use preprocess::raw::DATASETS;
use preprocess::read::LAYOUTS;

/// What `gro list` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Of which kind
    #[arg(value_parser = stage::choices(&LISTS))]
    pub kind: &'static List,
    /// Print a title beside each name, after a tab
    #[arg(long)]
    pub titles: bool,
}

/// A registry that can be listed.
#[derive(Debug)]
pub struct List {
    name: &'static str,
    title: &'static str,
    /// Names and titles, in order.
    entries: fn() -> Vec<(&'static str, &'static str)>,
}

impl Named for List {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

/// Every registry: a line here makes `gro list NAME`.
pub const LISTS: Registry<List> = Registry {
    kind: "kind of names",
    entries: &[
        List { name: "architectures", title: "What recommends", entries: || entries(&ARCHITECTURES) },
        List { name: "defences", title: "What protects a target", entries: || entries(&DEFENCES) },
        List {
            name: "policies",
            title: "Those of the defences that look at no data and have no key",
            entries: || chosen(|defence| !defence.needs_data && !defence.keyed),
        },
        List {
            name: "keyed",
            title: "Those that look at no data and answer by a key",
            entries: || chosen(|defence| !defence.needs_data && defence.keyed),
        },
        List {
            name: "strategies",
            title: "How a thief chooses what to ask",
            entries: || entries(&STRATEGIES),
        },
        List { name: "losses", title: "What a thief learns from a list", entries: || entries(&LIST_LOSSES) },
        List {
            name: "suspicions",
            title: "What a thief takes answers for",
            entries: || entries(&SUSPICIONS),
        },
        List { name: "metrics", title: "What evaluation measures", entries: || entries(&METRICS) },
        List { name: "detectors", title: "What tells thieves from users", entries: || entries(&DETECTORS) },
        List { name: "layouts", title: "Files of ratings that are read", entries: || entries(&LAYOUTS) },
        List { name: "datasets", title: "Data sets that are fetched", entries: || entries(&DATASETS) },
    ],
};

fn entries<T: Named>(registry: &Registry<T>) -> Vec<(&'static str, &'static str)> {
    registry.entries.iter().map(|entry| (entry.name(), entry.title())).collect()
}

/// The defences that workflows run in one way.
fn chosen(of: impl Fn(&Method) -> bool) -> Vec<(&'static str, &'static str)> {
    DEFENCES.iter().filter(|defence| of(defence)).map(|defence| (defence.name, defence.title)).collect()
}

/// Print the names to stdout, one a line.
///
/// Fails where stdout does.
pub fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let mut text = String::new();
    for (name, title) in (arguments.kind.entries)() {
        let _ = if arguments.titles { writeln!(text, "{name}\t{title}") } else { writeln!(text, "{name}") };
    }
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot print the names")
}
