//! The results as Markdown, from what is kept alone.
//!
//! A row is a defence: what users have behind it, what each thief's copy has, and whether it wins, which the program decides: against the
//! thief who does best, whoever that is.

use std::fmt::Write as _;

use metrics::LEVEL;

use super::cost::Spent;
use super::kept::{AGREEMENT, KEPT, Kept, Suspected};
use crate::figures::{grouped, price_of};
use crate::report::inference::Difference;
use crate::report::markdown::{align, plain};
use crate::report::references::{references, rows as references_rows};
use crate::report::table::{Model, Row, Table};
use crate::report::verdict::{Outcome, Verdict};
use crate::report::words::{chance, in_short, named, percent, what_was_found, what_was_run};
use crate::report::{FRONTIER, PAGE};

/// Seeds from which a table says something of other training runs.
const SEEDS: usize = 3;

/// All results; `kept` is where links go.
pub fn markdown(all: &[Kept], kept: &str) -> String {
    let mut text = String::new();
    summary(all, &mut text);
    for one in all {
        experiment(one, kept, &mut text);
    }
    text.trim_end().to_owned()
}

/// One line for each experiment.
fn summary(all: &[Kept], text: &mut String) {
    let heading = [
        "experiment",
        "seeds",
        "the target",
        "best copy of it, undefended",
        "defences that win against the strongest thief",
        "time",
    ];
    let rows = all.iter().map(|one| {
        let undefended = one.table.verdicts.iter().find(|verdict| verdict.defence == "none");
        let won = one.table.verdicts.iter().filter(|verdict| verdict.outcome() == Some(Outcome::Won));
        let won: Vec<String> = won
            .map(|verdict| {
                let lost = verdict.thief.as_ref().and_then(|thief| thief.change).unwrap_or(0.0);
                let cost = percent(1.0 - verdict.kept.unwrap_or(1.0));
                format!("`{}` (users lose {cost}, he loses {})", name_of(verdict), percent(-lost))
            })
            .collect();
        let figure = |verdict: &Verdict| format!("{:.4} {}", verdict.quality, verdict.figure);
        let copy = undefended.and_then(|verdict| verdict.thief.as_ref());
        vec![
            format!("[{0}](#{0})", one.experiment),
            one.table.seeds.len().to_string(),
            undefended.map_or_else(|| "not measured".to_owned(), figure),
            copy.map_or_else(
                || "not measured".to_owned(),
                |thief| format!("{:.4}, {}", thief.quality, percent(thief.share)),
            ),
            if won.is_empty() { "none".to_owned() } else { won.join(", ") },
            duration(one.cost.all().hours),
        ]
    });
    align(text, &std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>());
}

fn experiment(one: &Kept, kept: &str, text: &mut String) {
    let (table, name) = (&one.table, &one.experiment);
    let _ = writeln!(text, "\n### {name}\n\n{} {}\n", what_was_run(table), what_was_found(table));
    align(text, &rows(one));
    let _ = writeln!(text, "\n*{}.*\n", table.protocol);
    let _ = writeln!(
        text,
        "![What each defence costs users of {name}, what share of the undefended target the strongest copy has, and how alike a copy can be]({kept}/{name}/{FRONTIER})\n"
    );
    let _ = writeln!(
        text,
        "All numbers: [{KEPT}]({kept}/{name}/{KEPT}), with pictures [{PAGE}]({kept}/{name}/{PAGE}).\n"
    );
    thieves(table, text);
    if let Some(found) = references(table) {
        let _ = writeln!(text, "Beside published figures for {}:\n", found.dataset);
        align(text, &references_rows(&found));
        text.push('\n');
        for warning in &found.warnings {
            let _ = writeln!(text, "**Weak target**: {warning}.\n");
        }
    }
    proofs(&one.proofs, text);
    said(table, text);
    cost(one, text);
}

/// A row for each defence.
fn rows(one: &Kept) -> Vec<Vec<String>> {
    let table = &one.table;
    let drawn = table.drawn();
    let ways = ways(table);
    let proved = !one.proofs.is_empty();
    let users = drawn.iter().map(|figure| format!("users: {figure}"));
    let headline = drawn.first().cloned().unwrap_or_default();
    let mut heading: Vec<String> = ["defence".to_owned()].into_iter().chain(users).collect();
    heading.push("kept".to_owned());
    heading.extend(ways.iter().map(|way| format!("copy: {headline} ({AGREEMENT}) of {}", in_short(way))));
    let after = ["strongest thief", "he loses", "wins", "most alike, by the model's own lists"];
    heading.extend(after.map(str::to_owned));
    if proved {
        heading.push("proof".to_owned());
    }
    let mut rows = vec![heading];
    for verdict in &table.verdicts {
        let of = |row: &&Row| {
            row.target == Some(verdict.target) && row.defence.as_deref() == Some(&*verdict.defence)
        };
        let own = table
            .rows
            .iter()
            .filter(of)
            .find(|row| row.model == Model::Target && row.variant == verdict.variant);
        let mut row = vec![name_of(verdict)];
        row.extend(
            drawn
                .iter()
                .map(|figure| own.and_then(|row| row.figures.get(figure)).map_or_else(String::new, plain)),
        );
        row.push(kept(verdict));
        for way in &ways {
            let copies = table
                .rows
                .iter()
                .filter(of)
                .filter(|row| row.model == Model::Surrogate && one_way(row) == *way);
            let cells: Vec<String> = copies.map(|row| copy(row, &headline)).collect();
            row.push(if cells.is_empty() { "not run".to_owned() } else { cells.join("; ") });
        }
        row.push(verdict.thief.as_ref().map_or_else(
            || "none".to_owned(),
            |thief| {
                let way = named(thief.way.as_deref(), Some(thief.surrogate), Some(verdict.target));
                format!("{}: {}", in_short(&way), percent(thief.share))
            },
        ));
        row.push(lost(verdict));
        row.push(verdict.outcome().map_or_else(String::new, |outcome| match outcome {
            Outcome::Won => "**yes**".to_owned(),
            other => other.words().to_owned(),
        }));
        row.push(most_alike(verdict));
        if proved {
            row.push(proof_of(&one.proofs, &verdict.defence));
        }
        rows.push(row);
    }
    rows
}

/// What users keep, and whether the loss can be told from chance.
fn kept(verdict: &Verdict) -> String {
    match (verdict.kept, &verdict.users) {
        (Some(kept), Some(users)) => format!("{} (p {})", percent(kept), chance(users.p_corrected)),
        (Some(kept), None) => percent(kept),
        (None, _) => "not known".to_owned(),
    }
}

/// What the strongest thief loses.
fn lost(verdict: &Verdict) -> String {
    let Some(thief) = verdict.thief.as_ref().filter(|_| verdict.defence != "none") else {
        return String::new();
    };
    match (thief.change, &thief.difference) {
        (Some(change), Some(difference)) => {
            let text = format!("{} (p {})", percent(-change), chance(difference.p_corrected));
            if difference.seeds < verdict.checkpoints.len() {
                format!("{text}, by {} seeds", difference.seeds)
            } else {
                text
            }
        }
        _ => "not known".to_owned(),
    }
}

/// Whose copy is most alike, how alike it is, and what that is to the most alike of the undefended.
fn most_alike(verdict: &Verdict) -> String {
    let Some(copy) = &verdict.most_alike else { return "not known".to_owned() };
    let way = named(copy.way.as_deref(), Some(copy.surrogate), Some(verdict.target));
    let text = format!("{}: {:.2}", in_short(&way), copy.likeness);
    let Some(change) = copy.change else { return text };
    let than = match percent(change.abs()) {
        share if share == percent(0.0) => "as alike".to_owned(),
        share => format!("{share} {}", if change > 0.0 { "more" } else { "less" }),
    };
    match copy.difference {
        Some(difference) => format!("{text}, {than} (p {})", chance(difference.p_corrected)),
        None => format!("{text}, {than}, not tested"),
    }
}

fn copy(row: &Row, headline: &str) -> String {
    let quality = row.figures.get(headline).map_or_else(String::new, plain);
    match row.figures.get(AGREEMENT) {
        Some(agreement) => format!("{quality} ({:.2})", agreement.mean),
        None => quality,
    }
}

fn name_of(verdict: &Verdict) -> String {
    match &verdict.variant {
        Some(variant) => format!("{} ({variant})", verdict.defence),
        None => verdict.defence.clone(),
    }
}

/// Ways of all copies, each once, in the order of the report; the copy's network stands with it where there are several.
fn ways(table: &Table) -> Vec<String> {
    let mut ways: Vec<String> = Vec::new();
    for row in table.rows.iter().filter(|row| row.model == Model::Surrogate) {
        let way = one_way(row);
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways
}

fn one_way(row: &Row) -> String {
    named(row.way.as_deref(), row.surrogate, row.target)
}

/// Who the thieves are, and what they paid.
fn thieves(table: &Table, text: &mut String) {
    let mut told: Vec<String> = Vec::new();
    for row in table.rows.iter().filter(|row| row.model == Model::Surrogate) {
        let price = row
            .queries
            .as_ref()
            .map_or_else(|| "price not recorded".to_owned(), |queries| price_of(&queries.price()));
        let line = format!("- {}: {price}", one_way(row));
        if !told.contains(&line) {
            told.push(line);
        }
    }
    if !told.is_empty() {
        let _ = writeln!(text, "Thieves:\n\n{}\n", told.join("\n"));
    }
}

/// The proofs about copies of a defence.
fn proof_of(proofs: &[Suspected], defence: &str) -> String {
    let of = |guilty: bool| {
        let ps: Vec<f64> = proofs
            .iter()
            .filter(|one| one.guarded == defence && one.guilty == guilty)
            .map(Suspected::chance)
            .collect();
        ps
    };
    let guilty = of(true);
    let Some(worst) = guilty.iter().copied().max_by(f64::total_cmp) else { return String::new() };
    let found = guilty.iter().filter(|&&p| p <= CONVICTED).count();
    format!("{found} of {} copies found, p at most {}", guilty.len(), chance_of(worst))
}

/// The chance below which a suspect is called found.
const CONVICTED: f64 = 0.001;

/// A chance of a count of keys, exactly.
fn chance_of(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

fn proofs(proofs: &[Suspected], text: &mut String) {
    if proofs.is_empty() {
        return;
    }
    // A watermark is a second test, and stands where some target has one.
    let marked = proofs.iter().any(|one| one.corrected.is_some());
    let by = if marked { ", and by its watermark, p of each corrected for the other" } else { "" };
    let _ = writeln!(
        text,
        "Proof of theft, by the decoys of the key{by} (`gro-evaluate prove`): the innocent are copies of another target, put to the same test.\n"
    );
    let heading = ["suspect", "copied", "suspects", "agreement", "highest of other keys", "p"];
    let heading = heading.into_iter().chain(marked.then_some("p of the watermark"));
    let mut rows = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
    for group in proofs.chunk_by(|left, right| {
        (&left.guarded, left.guilty, &left.way) == (&right.guarded, right.guilty, &right.way)
    }) {
        let range = |of: &dyn Fn(&Suspected) -> f64, show: &dyn Fn(f64) -> String| {
            let (low, high) =
                group.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(value), high.max(value))
                });
            let (low, high) = (show(low), show(high));
            if low == high { low } else { format!("{low} to {high}") }
        };
        let hundredths = |value: f64| format!("{value:.3}");
        let [first, ..] = group else { continue };
        rows.push(vec![
            in_short(&first.way),
            if first.guilty {
                format!("{} (guilty)", first.copied)
            } else {
                format!("{} (innocent)", first.copied)
            },
            group.len().to_string(),
            range(&|one| one.agreement, &hundredths),
            range(&|one| one.highest, &hundredths),
            range(&|one| one.corrected.map_or(one.p, |corrected| corrected.decoys), &chance_of),
        ]);
        if let Some(row) = rows.last_mut().filter(|_| marked) {
            let with = group.iter().all(|one| one.corrected.is_some());
            let watermark = |one: &Suspected| one.corrected.map_or(one.p, |corrected| corrected.watermark);
            row.push(if with { range(&watermark, &chance_of) } else { String::new() });
        }
    }
    align(text, &rows);
    text.push('\n');
}

/// What can and what cannot be said of the table.
fn said(table: &Table, text: &mut String) {
    let defended = || table.verdicts.iter().filter(|verdict| verdict.defence != "none");
    let figure = table.verdicts.first().map(|verdict| verdict.figure.clone()).unwrap_or_default();
    let named = |outcome: Outcome| {
        let names: Vec<String> = defended()
            .filter(|verdict| verdict.outcome() == Some(outcome))
            .map(|verdict| format!("`{}`", name_of(verdict)))
            .collect();
        names.join(", ")
    };
    let mut can = Vec::new();
    let won = named(Outcome::Won);
    if !won.is_empty() {
        let by = |verdict: &Verdict| {
            let lead = verdict.thief.as_ref()?.lead?;
            Some(format!(
                "{} [{}, {}], p {}",
                percent(lead.mean),
                percent(lead.low),
                percent(lead.high),
                chance(lead.p_corrected)
            ))
        };
        let leads: Vec<String> =
            defended().filter(|verdict| verdict.outcome() == Some(Outcome::Won)).filter_map(by).collect();
        can.push(format!(
            "Against the strongest thief who tried, {won} took a larger share from him than from users, beyond chance: by {}.",
            leads.join("; ")
        ));
    }
    let free: Vec<&Verdict> =
        defended().filter(|verdict| verdict.users.as_ref().is_some_and(|users| !users.found())).collect();
    let free_names: Vec<String> = free.iter().map(|verdict| format!("`{}`", name_of(verdict))).collect();
    let paid = named(Outcome::UsersPay);
    if !paid.is_empty() {
        can.push(format!(
            "{paid} cost users as large a share of {figure} as the strongest thief, or a larger one."
        ));
    }
    let mut cannot = Vec::new();
    for verdict in defended() {
        let Some((copy, difference)) =
            verdict.most_alike.as_ref().and_then(|copy| Some((copy, copy.difference?)))
        else {
            continue;
        };
        let numbers = format!(
            "{:+.2} [{:+.2}, {:+.2}] {}, p {}",
            difference.mean,
            difference.low,
            difference.high,
            copy.figure,
            chance(difference.p_corrected)
        );
        let name = name_of(verdict);
        if difference.found() && difference.mean < 0.0 {
            can.push(format!("`{name}` takes likeness from the copy most alike: {numbers}."));
        } else {
            cannot.push(format!("That `{name}` takes likeness from the copy most alike: {numbers}."));
        }
    }
    if !free_names.is_empty() {
        let one = free.len() == 1;
        cannot.push(format!(
            "That {} cost{} users nothing: what {} cannot be told from chance{}.",
            free_names.join(", "),
            if one { "s" } else { "" },
            if one { "it costs" } else { "they cost" },
            widest(&free).map_or_else(String::new, |low| format!(
                ", and a loss of {low:.4} {figure} lies within the intervals"
            ))
        ));
    }
    for verdict in defended().filter(|verdict| verdict.outcome() == Some(Outcome::Undecided)) {
        let Some(lead) = verdict.thief.as_ref().and_then(|thief| thief.lead) else { continue };
        cannot.push(format!(
            "That `{}` takes a larger share from the strongest thief than from users: by {} [{}, {}].",
            name_of(verdict),
            percent(lead.mean),
            percent(lead.low),
            percent(lead.high)
        ));
    }
    for verdict in defended().filter(|verdict| verdict.outcome() == Some(Outcome::ThiefKeeps)) {
        let Some(difference) = verdict.thief.as_ref().and_then(|thief| thief.difference) else { continue };
        let mut line = format!(
            "That `{}` takes anything from the strongest thief: {:+.4} [{:+.4}, {:+.4}]",
            name_of(verdict),
            difference.mean,
            difference.low,
            difference.high
        );
        let (count, of) = if difference.seeds > 1 {
            (difference.seeds_needed, "seeds")
        } else {
            (difference.users_needed, "users")
        };
        let _ = match count {
            Some(count) => write!(line, "; half of that would be seen with {} {of}", grouped(count)),
            None => write!(line, "; no number of {of} would show half of that"),
        };
        if difference.p < LEVEL {
            let of = table.comparisons.get(&verdict.figure).copied().unwrap_or(1);
            let _ = write!(
                line,
                "; a test of this alone would have found it (p {}), but it is one of {of} in its report",
                chance(difference.p)
            );
        }
        cannot.push(line + ".");
    }
    let seeds = table.seeds.len();
    if seeds < SEEDS {
        let so_many = if seeds == 1 { "one seed was".to_owned() } else { format!("{seeds} seeds were") };
        cannot.push(format!("How another training run would have come out: {so_many} run."));
    }
    let most = table.verdicts.iter().map(|verdict| verdict.thieves).max().unwrap_or(0);
    cannot.push(format!(
        "What a better thief, or one with a larger budget, would have: {} tried, at the prices above.",
        match most {
            0 => "none".to_owned(),
            1 => "one".to_owned(),
            several => several.to_string(),
        }
    ));
    if !can.is_empty() {
        let _ = writeln!(text, "What can be said:\n\n- {}\n", can.join("\n- "));
    }
    let _ = writeln!(text, "What cannot be said:\n\n- {}\n", cannot.join("\n- "));
}

/// The largest loss that lies in the interval of one of these.
fn widest(verdicts: &[&Verdict]) -> Option<f64> {
    let lows =
        verdicts.iter().filter_map(|verdict| verdict.users.as_ref().map(|Difference { low, .. }| *low));
    lows.min_by(f64::total_cmp).filter(|&low| low < 0.0).map(|low| -low)
}

/// Hours in words, minutes where they are few.
fn duration(hours: f64) -> String {
    if hours < 1.0 { format!("{:.1} min", 60.0 * hours) } else { format!("{hours:.1} h") }
}

fn cost(one: &Kept, text: &mut String) {
    let hours = |spent: &Spent| match spent.cpu_hours {
        Some(cpu) => format!("{} ({} of a core)", duration(spent.hours), duration(cpu)),
        None => duration(spent.hours),
    };
    let cost = &one.cost;
    let parts: Vec<String> = cost
        .kinds()
        .into_iter()
        .filter(|(_, spent)| spent.runs > 0)
        .map(|(name, spent)| format!("{name} {} in {} runs", hours(spent), grouped(spent.runs)))
        .collect();
    if parts.is_empty() {
        return;
    }
    let threads =
        if cost.threads == 1 { "one thread".to_owned() } else { format!("{} threads", cost.threads) };
    let memory = match cost.peak_memory_mib {
        0 => String::new(),
        mib => format!(", at most {} MiB of memory", grouped(mib)),
    };
    let _ = writeln!(
        text,
        "Cost: {}, on {} ({threads}{memory}): {}.",
        hours(&cost.all()),
        cost.machine,
        parts.join("; ")
    );
}
