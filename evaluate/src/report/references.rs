//! Figures that others published for models and data sets like ours, to stand beside what was measured: is the target as good as the
//! literature's, or is an undertrained model being defended?
//!
//! A data set is known by how many users and items it has, since no file says its name. All references rank against all items and leave
//! one out; what they did otherwise than a report is said beside them.

use std::fmt::Write as _;

use artifact::settings::Ranking;

use super::markdown::align;
use super::table::{Model, Row, Table};
use super::words::percent;
use crate::figures::Conditions;

/// The figures that are compared.
const FIGURES: [&str; 2] = ["HR@10", "NDCG@10"];
/// Below this share of a reference a target is called weak.
const ENOUGH: f64 = 0.9;

/// What was published of a model on a data set.
#[derive(Debug)]
struct Published {
    /// Name of the network.
    architecture: &'static str,
    /// Which model, by whom.
    title: &'static str,
    /// HR@10 and NDCG@10.
    figures: [f64; 2],
    /// Whether items of the history were filtered out; none where that is not said.
    exclude_seen: Option<bool>,
}

/// A data set that others have measured on.
#[derive(Debug)]
struct Known {
    title: &'static str,
    users: usize,
    /// None where references differ in it.
    items: Option<usize>,
    published: &'static [Published],
}

const fn filtered(architecture: &'static str, title: &'static str, hr: f64, ndcg: f64) -> Published {
    Published { architecture, title, figures: [hr, ndcg], exclude_seen: Some(true) }
}

const fn unsaid(architecture: &'static str, title: &'static str, hr: f64, ndcg: f64) -> Published {
    Published { architecture, title, figures: [hr, ndcg], exclude_seen: None }
}

const BINARY: &str = "SASRec, binary cross entropy (Klenitskiy and Vasilev, RecSys 2023)";
const ENTROPY: &str = "SASRec, cross entropy (Klenitskiy and Vasilev, RecSys 2023)";
const BERT: &str = "BERT4Rec (Klenitskiy and Vasilev, RecSys 2023)";
const REPLICATED: &str = "BERT4Rec (Petrov and Macdonald, RecSys 2022)";
const GSASREC: &str = "gSASRec (Petrov and Macdonald, RecSys 2023)";
const ESASREC: &str = "eSASRec (2025)";

/// The two copies of Amazon Beauty differ by a factor of two, and never stand in one table.
const KNOWN: [Known; 5] = [
    Known {
        title: "MovieLens-1M",
        users: 6040,
        items: Some(3416),
        published: &[
            filtered("sas", BINARY, 0.2500, 0.1341),
            filtered("sas", ENTROPY, 0.3152, 0.1821),
            filtered("sas", GSASREC, 0.3003, 0.1726),
            filtered("sas", ESASREC, 0.3133, 0.1772),
            filtered("bert", BERT, 0.2843, 0.1537),
            filtered("bert", REPLICATED, 0.2821, 0.1516),
        ],
    },
    Known {
        title: "MovieLens-20M",
        users: 138_493,
        items: None,
        published: &[
            filtered("sas", BINARY, 0.2001, 0.1067),
            filtered("sas", ENTROPY, 0.2983, 0.1833),
            filtered("sas", ESASREC, 0.3289, 0.1966),
            filtered("bert", BERT, 0.2816, 0.1703),
            filtered("bert", REPLICATED, 0.2886, 0.1732),
        ],
    },
    Known {
        title: "Amazon Beauty, 40,226 users",
        users: 40_226,
        items: Some(54_542),
        published: &[
            filtered("sas", BINARY, 0.0246, 0.0126),
            filtered("sas", ENTROPY, 0.0533, 0.0327),
            filtered("bert", BERT, 0.0338, 0.0187),
        ],
    },
    Known {
        title: "Amazon Beauty, 5-core",
        users: 22_363,
        items: Some(12_101),
        published: &[
            filtered("sas", ESASREC, 0.0928, 0.0523),
            unsaid("sas", "SASRec (RecBoard)", 0.0668, 0.0354),
            unsaid("bert", "BERT4Rec (RecBoard)", 0.0730, 0.0406),
            unsaid("gru", "GRU4Rec (RecBoard)", 0.0402, 0.0204),
        ],
    },
    Known {
        title: "Steam",
        users: 281_428,
        items: Some(13_044),
        published: &[
            filtered("sas", BINARY, 0.0981, 0.0506),
            filtered("sas", ENTROPY, 0.1191, 0.0641),
            filtered("bert", BERT, 0.1242, 0.0662),
        ],
    },
];

/// A target beside a reference.
#[derive(Debug)]
pub struct Beside {
    /// The target's network, in words.
    pub target: &'static str,
    /// The reference, in words.
    pub reference: &'static str,
    /// Ours and theirs: HR@10, then NDCG@10.
    pub figures: [(f64, f64); 2],
    /// What was done otherwise, in words; empty where nothing is known to be.
    pub differences: String,
}

/// What there is to put beside a report.
#[derive(Debug)]
pub struct References {
    /// The data set.
    pub dataset: &'static str,
    /// Undefended targets beside references of their architecture.
    pub beside: Vec<Beside>,
    /// A sentence for every target that is weak.
    pub warnings: Vec<String>,
}

/// References for the undefended targets of a report; none where nobody has published any that we know of, nor beside validation items,
/// for all are of test items.
pub fn references(table: &Table) -> Option<References> {
    let Conditions { users, items, held_out, .. } = table.protocol;
    if !held_out.is_test() {
        return None;
    }
    let known =
        KNOWN.iter().find(|known| known.users == users && known.items.is_none_or(|found| found == items))?;
    let undefended = |row: &&Row| row.model == Model::Target && row.defence.as_deref() == Some("none");
    let (mut beside, mut warnings) = (Vec::new(), Vec::new());
    for row in table.rows.iter().filter(undefended) {
        let Some(target) = row.target else { continue };
        let Some(ours) = figures_of(row) else { continue };
        let of_kind = || known.published.iter().filter(|published| published.architecture == target.name);
        for published in of_kind() {
            let [hr, ndcg] = published.figures;
            beside.push(Beside {
                target: target.title,
                reference: published.title,
                figures: [(ours[0], hr), (ours[1], ndcg)],
                differences: differences(&table.protocol, published),
            });
        }
        let best = of_kind().max_by(|left, right| left.figures[0].total_cmp(&right.figures[0]));
        if let Some(best) = best.filter(|best| ours[0] < ENOUGH * best.figures[0]) {
            let differ = differences(&table.protocol, best);
            let differ = if differ.is_empty() { String::new() } else { format!(" ({differ})") };
            warnings.push(format!(
                "the target {} has {:.4} HR@10, {} less than {} with {:.4}{differ}: what holds of a weak target may not hold of a strong one",
                target.title,
                ours[0],
                percent(1.0 - ours[0] / best.figures[0]),
                best.title,
                best.figures[0]
            ));
        }
    }
    (!beside.is_empty()).then_some(References { dataset: known.title, beside, warnings })
}

fn figures_of(row: &Row) -> Option<[f64; 2]> {
    let [hr, ndcg] = FIGURES.map(|figure| row.figures.get(figure).map(|value| value.mean));
    Some([hr?, ndcg?])
}

/// What a report did otherwise than a reference.
fn differences(ours: &Conditions, theirs: &Published) -> String {
    let mut words: Vec<&str> = Vec::new();
    match (ours.exclude_seen, theirs.exclude_seen) {
        (false, Some(true)) => words.push("seen items kept here, left out there"),
        (true, Some(false)) => words.push("seen items left out here, kept there"),
        (_, None) => words.push("whether they kept seen items is not said"),
        _ => {}
    }
    if ours.ranking != Ranking::Full {
        words.push("ranked among sampled negatives here, among all items there: not to be compared");
    }
    if ours.other_split {
        words.push("trained on other splits here");
    }
    words.join("; ")
}

/// What stands before the table.
pub const CAPTION: &str = "Published for this data set, full ranking, the last item left out; ours is the undefended target. Splits, filters and sizes of models \
                       differ between papers, so a tenth is no difference.";

/// The table's heading and rows.
pub fn rows(references: &References) -> Vec<Vec<String>> {
    let heading =
        ["target", "reference", "HR@10, ours", "theirs", "NDCG@10, ours", "theirs", "done otherwise"];
    let body = references.beside.iter().map(|beside| {
        let [hr, ndcg] = beside.figures;
        let mut row = vec![beside.target.to_owned(), beside.reference.to_owned()];
        row.extend([hr.0, hr.1, ndcg.0, ndcg.1].map(|value| format!("{value:.4}")));
        row.push(beside.differences.clone());
        row
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(body).collect()
}

/// The chapter as Markdown; empty where there is nothing to compare with.
pub fn markdown(table: &Table) -> String {
    let Some(references) = references(table) else { return String::new() };
    let mut text = format!("\n## Beside published figures: {}\n\n{CAPTION}\n\n", references.dataset);
    align(&mut text, &rows(&references));
    for warning in &references.warnings {
        let _ = writeln!(text, "\n**Weak target**: {warning}.");
    }
    text
}
