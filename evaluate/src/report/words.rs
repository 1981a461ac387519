//! What was run and what came of it, in a few sentences that the report works out itself.

use std::fmt::Write as _;

use super::inference::Difference;
use super::likeness::MostAlike;
use super::table::Table;
use super::verdict::{Strongest, Verdict};
use crate::figures::{Network, grouped, price_of};

/// Defences that a sentence speaks of, at most.
const SPOKEN: usize = 3;

/// What was run.
pub fn what_was_run(table: &Table) -> String {
    let mut targets: Vec<&str> = table.targets().iter().map(|target| target.title).collect();
    targets.dedup();
    let mut defences: Vec<&str> = table.verdicts.iter().map(|verdict| verdict.defence.as_str()).collect();
    let mut met = Vec::new();
    defences.retain(|defence| {
        !met.contains(defence) && {
            met.push(defence);
            true
        }
    });
    let behind = match defences.as_slice() {
        ["none"] => "without a defence".to_owned(),
        all => format!("behind {}", listed(all, "and")),
    };
    let most = table.verdicts.iter().map(|verdict| verdict.thieves).max().unwrap_or(0);
    let was = if targets.len() == 1 { "was" } else { "were" };
    let copied = match most {
        0 => format!("{was} measured, without a copy"),
        1 if table.surrogates() == [Network::TABLE] => format!("{was} measured, beside a table of its lists"),
        1 => format!("{was} copied once each"),
        several => format!("{was} copied in up to {several} ways each"),
    };
    let seeds = match table.seeds.len() {
        1 => "one seed".to_owned(),
        several => format!("{several} seeds"),
    };
    format!(
        "{} {behind} {copied}, and judged on {}{} users and {} items with {seeds}.",
        listed(&targets, "and"),
        if table.protocol.held_out.is_test() { "" } else { "the validation items of " },
        grouped(table.protocol.users as u64),
        grouped(table.protocol.items as u64)
    )
}

/// What came of it.
pub fn what_was_found(table: &Table) -> String {
    let mut defended: Vec<&Verdict> = table
        .verdicts
        .iter()
        .filter(|verdict| verdict.defence != "none" && verdict.users.is_some())
        .collect();
    let Some(figure) = table.verdicts.first().map(|verdict| verdict.figure.as_str()) else {
        return String::new();
    };
    if defended.is_empty() {
        return undefended(table, figure);
    }
    // The stable sort keeps the report's order among equals.
    defended.sort_by(|left, right| worth(right).total_cmp(&worth(left)));
    let all = defended.len();
    defended.truncate(SPOKEN);
    let several = table.targets().len() > 1;
    let clauses = defended
        .iter()
        .enumerate()
        .map(|(place, verdict)| clause(verdict, several, if place == 0 { Some(figure) } else { None }));
    let clauses: Vec<(String, &str)> = clauses.collect();
    // What holds of all is said once.
    let chance = clauses.iter().all(|(_, found)| *found == NEITHER) && clauses.len() > 1;
    let told =
        clauses.iter().map(|(text, found)| if chance { text.clone() } else { format!("{text}: {found}") });
    let mut text = told.collect::<Vec<_>>().join("; ");
    if chance {
        text.push_str(": none of this can be told from chance");
    }
    if all > SPOKEN {
        let (more, is) = (all - SPOKEN, if all == SPOKEN + 1 { "is" } else { "are" });
        let _ = write!(text, "; {more} more {is} in the table, where thieves lose less for what users pay");
    }
    text.push('.');
    text.push_str(&how_alike(table, several));
    capitalised(&text)
}

/// ` The copy most alike has Agr@10 0.70 undefended, 0.43 behind guard (p < 0.0001) and 0.68 behind gro (p 0.524).` Nothing where no two can be
/// compared.
fn how_alike(table: &Table, several: bool) -> String {
    let alike = |verdict: &Verdict| {
        let copy = verdict.most_alike.as_ref()?;
        Some((name_of(verdict, several), copy.clone(), 1.0 - verdict.kept.unwrap_or(1.0)))
    };
    let of = |undefended: bool| {
        let chosen = table.verdicts.iter().filter(move |verdict| (verdict.defence == "none") == undefended);
        chosen.filter_map(alike)
    };
    let open: Vec<String> = of(true)
        .map(|(name, copy, _)| format!("{:.2} {}", copy.likeness, name.replacen("none", "undefended", 1)))
        .collect();
    let mut defended: Vec<(String, MostAlike, f64)> =
        of(false).filter(|(_, copy, _)| copy.change.is_some()).collect();
    let Some(figure) = defended.first().map(|(_, copy, _)| copy.figure.clone()) else { return String::new() };
    // Those first that take most likeness for what users pay.
    let worth = |(_, copy, lost): &(String, MostAlike, f64)| -copy.change.unwrap_or(0.0) - lost;
    defended.sort_by(|left, right| worth(right).total_cmp(&worth(left)));
    let behind = defended.iter().take(SPOKEN).map(|(name, copy, _)| {
        let p =
            copy.difference.map_or_else(String::new, |found| format!(" (p {})", chance(found.p_corrected)));
        format!("{:.2} behind {name}{p}", copy.likeness)
    });
    let clauses: Vec<String> = open.into_iter().chain(behind).collect();
    let clauses: Vec<&str> = clauses.iter().map(String::as_str).collect();
    let more = match defended.len().saturating_sub(SPOKEN) {
        0 => String::new(),
        more => format!("; {more} more {} in the table", if more == 1 { "is" } else { "are" }),
    };
    format!(" The copy most alike has {figure} {}{more}.", listed(&clauses, "and"))
}

/// How much more the strongest thief loses than users do.
fn worth(verdict: &Verdict) -> f64 {
    let lost = verdict.thief.as_ref().and_then(|thief| thief.change).map_or(0.0, |change| -change);
    lost - (1.0 - verdict.kept.unwrap_or(1.0))
}

const NEITHER: &str = "neither can be told from chance";

/// `gro cost users 4 % of HR@10 and the strongest thief 21 %`, and `both can be told from chance`.
fn clause(verdict: &Verdict, several: bool, figure: Option<&str>) -> (String, &'static str) {
    let mut text = name_of(verdict, several);
    let lost = 1.0 - verdict.kept.unwrap_or(1.0);
    let of = figure.map_or_else(String::new, |figure| format!(" of {figure}"));
    let _ = if percent(lost) == "0 %" {
        write!(text, " cost users nothing{of}")
    } else if lost < 0.0 {
        write!(text, " gave users {}{of}", percent(-lost))
    } else {
        write!(text, " cost users {}{of}", percent(lost))
    };
    let thief = verdict.thief.as_ref().and_then(|thief| Some((thief.change?, thief.difference?)));
    let first = verdict.users.as_ref().is_some_and(Difference::found);
    if let Some((change, difference)) = thief {
        let gave_users = lost < 0.0 && percent(lost) != "0 %";
        let _ = if change > 0.0 {
            write!(text, " and gave the strongest thief {}", percent(change))
        } else {
            let cost = if gave_users { "cost " } else { "" };
            write!(text, " and {cost}the strongest thief {}", percent(-change))
        };
        // Shares are means over all seeds of a row, and a change is over those that both have.
        if difference.seeds < verdict.checkpoints.len() {
            let seeds = match difference.seeds {
                1 => "one seed".to_owned(),
                several => format!("{several} seeds"),
            };
            let _ = write!(text, " (by the {seeds} that he and the undefended one were measured with)");
        }
        let found = match (first, difference.found()) {
            (true, true) => "both can be told from chance",
            (true, false) => "only the former can be told from chance",
            (false, true) => "only the latter can be told from chance",
            (false, false) => NEITHER,
        };
        return (text, found);
    }
    (text, if first { "this can be told from chance" } else { "this cannot be told from chance" })
}

/// A defence in words that tell it from the others.
pub(super) fn name_of(verdict: &Verdict, several: bool) -> String {
    let mut text = verdict.defence.clone();
    if let Some(variant) = &verdict.variant {
        let _ = write!(text, " ({variant})");
    }
    if several {
        let _ = write!(text, " on {}", verdict.target.title);
    }
    text
}

/// Where nothing can be compared.
fn undefended(table: &Table, figure: &str) -> String {
    let thieves = table.verdicts.iter().filter_map(|verdict| Some((verdict, verdict.thief.as_ref()?)));
    let strongest = thieves.max_by(|(_, left), (_, right)| left.share.total_cmp(&right.share));
    let why = if table.verdicts.iter().all(|verdict| verdict.defence == "none") {
        "No defence was measured"
    } else {
        "Without the undefended target there is nothing to compare a defence with"
    };
    match strongest {
        Some((verdict, thief)) => format!(
            "{why}; the strongest thief's copy of {} has {} of its {figure}{}.",
            verdict.target.title,
            percent(thief.share),
            paid(thief)
        ),
        None => format!("{why}, and no copy."),
    }
}

fn paid(thief: &Strongest) -> String {
    thief.price.as_ref().map_or_else(String::new, |price| format!(", for {}", price_of(price)))
}

/// A share in percent, with a decimal where it is small.
pub(crate) fn percent(share: f64) -> String {
    let hundred = 100.0 * share;
    if hundred.abs() < 0.05 {
        "0 %".to_owned()
    } else if hundred.abs() < 9.95 {
        format!("{hundred:.1} %")
    } else {
        format!("{hundred:.0} %")
    }
}

/// `a, b and c`.
fn listed(names: &[&str], and: &str) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} {and} {last}", first.join(", ")),
    }
}

pub(super) fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A thief's way to ask and learn, and his copy's network where it is not the target's.
pub(crate) fn named(way: Option<&str>, copy: Option<Network>, target: Option<Network>) -> String {
    let way = way.unwrap_or("not recorded");
    match copy.filter(|copy| Some(*copy) != target) {
        Some(copy) => format!("{way}; {}", copy.title),
        None => way.to_owned(),
    }
}

/// A thief's way, `random, lists of 100: listmle`, as `random, listmle`: how long his lists are stands elsewhere.
pub(crate) fn in_short(way: &str) -> String {
    let Some((asked, learned)) = way.split_once(": ") else { return way.to_owned() };
    let strategy = asked.split(',').next().unwrap_or(asked);
    format!("{strategy}, {learned}")
}

/// The end of a text, of so many letters at most: what tells a name from its neighbours' stands there.
pub(super) fn ending(text: &str, most: usize) -> String {
    let letters = text.chars().count();
    if letters <= most {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(letters + 1 - most.max(1))).collect()
}

/// A chance, so that it cannot be read as none.
pub(crate) fn chance(p: f64) -> String {
    if p < 1e-4 {
        "< 0.0001".to_owned()
    } else if p < 0.001 {
        format!("{p:.4}")
    } else {
        format!("{p:.3}")
    }
}

/// How many would be needed; `none` where no number would do.
pub(super) fn needed(count: Option<u64>) -> String {
    count.map_or_else(|| "no number".to_owned(), grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_a_copy_is_named_where_it_is_not_the_targets() {
        let (bert, sas) =
            (Network { name: "bert", title: "BERT4Rec" }, Network { name: "sas", title: "SASRec" });
        assert_eq!(named(Some("random, hinge"), Some(bert), Some(bert)), "random, hinge");
        assert_eq!(named(Some("random, hinge"), Some(sas), Some(bert)), "random, hinge; SASRec");
        assert_eq!(named(None, Some(sas), None), "not recorded; SASRec");
    }

    #[test]
    fn the_end_that_fits_is_kept() {
        assert_eq!(ending("none", 10), "none");
        assert_eq!(ending("(eval-none-random)", 8), "…random)");
        assert_eq!(ending("gro", 0), "…");
    }
}
