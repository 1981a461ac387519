//! Detection as Markdown: detectors beside each other, then users and thieves behind the guard as it is set.

use std::fmt::Write as _;

use super::detectors::{DETECTORS, FEWEST};
use super::figures::{AtThreshold, Detection, Flagged, QUESTIONS, SHARES, Verdict};
use crate::figures::{Figure, grouped};
use crate::report::markdown::{align, seeds};

/// The report.
pub fn markdown(detection: &Detection) -> String {
    let mut text = String::from("# How well thieves are told from users\n\n");
    introduce(detection, &mut text);
    thieves(detection, &mut text);
    compared(detection, &mut text);
    guarded(detection, &mut text);
    let _ = writeln!(
        text,
        "\n*Protocol: {} users measured and {} fitted to, no user both, {} items; {} resamples, {}.*",
        grouped(detection.users as u64),
        grouped(detection.fitted_users as u64),
        grouped(detection.items as u64),
        grouped(detection.bootstrap as u64),
        seeds(&[detection.seed])
    );
    text
}

fn introduce(detection: &Detection, text: &mut String) {
    let _ = writeln!(
        text,
        "An account is watched question by question, and a detector scores it at each. A threshold *flags* an account whose score is ever \
         above it. Users have all their items, and nothing that is measured here was fitted to them.\n\n\
         - area: the chance that a thief's account ever scores higher than a user does, in brackets its 95 % bootstrap interval; .5 is a \
         coin, 1 tells every thief from every user.\n\
         - caught at 1 %: share of the thief's accounts that are ever flagged where so many users ever are. {}\n\
         - until flagged: questions until half, or nine tenths, of the accounts are flagged; never where fewer ever are.\n",
        possible(detection.users)
    );
}

/// What can be shown with so many users.
fn possible(users: usize) -> String {
    let sentences = SHARES.map(|share| {
        let allowed = (share * users as f64).floor() as usize;
        if allowed == 0 {
            format!("{} cannot be shown with {} users", percent(share), grouped(users as u64))
        } else {
            let noun = if allowed == 1 { "user" } else { "users" };
            format!("{} is {} {noun} of {}", percent(share), grouped(allowed as u64), grouped(users as u64))
        }
    });
    format!("{}.", sentences.join(", "))
}

/// `.1 %`, `5 %`.
fn percent(share: f64) -> String {
    let text = format!("{}", (1e6 * share).round() / 1e4);
    format!("{} %", text.strip_prefix('0').filter(|rest| rest.starts_with('.')).unwrap_or(&text))
}

/// A share as a percentage with one decimal, `-` where there is none.
fn of_all(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

/// The same with two decimals, for shares that are nearly everything.
fn nearly_all(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share))
}

fn until(questions: Option<u32>) -> String {
    questions.map_or_else(|| "never".to_owned(), |questions| grouped(u64::from(questions)))
}

fn area(figure: &Figure) -> String {
    format!("{:.3} [{:.3}, {:.3}]", figure.mean, figure.low, figure.high)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn thieves(detection: &Detection, text: &mut String) {
    text.push_str("## The thieves\n\n");
    let mut rows = vec![row(["thief", "asks", "accounts", "questions", "lists of", "answered by"])];
    for thief in &detection.thieves {
        let answered = match thief.answered_here {
            Some(true) => "this target",
            Some(false) => "another target",
            None => "not recorded",
        };
        rows.push(vec![
            thief.name.clone(),
            thief.strategy.clone(),
            grouped(thief.price.accounts),
            grouped(thief.price.questions),
            grouped(thief.k as u64),
            answered.to_owned(),
        ]);
    }
    align(text, &rows);
    if detection.thieves.iter().any(|thief| thief.answered_here != Some(true)) {
        text.push_str(
            "\nA thief whom this target did not answer is judged as if it had: places are those in the lists that it would have shown him.\n",
        );
    }
}

fn compared(detection: &Detection, text: &mut String) {
    text.push_str("\n## Detectors\n\n");
    for detector in &DETECTORS {
        let _ = writeln!(text, "- `{}`: {}", detector.name, lower(detector.title));
    }
    let _ = writeln!(
        text,
        "\n`prada` and `hoda` are carried over from classifiers as docs/detection.md says, and judge an account from {FEWEST} of its \
         distances or questions on. *Judged* are the shares of users and of the thief's accounts that asked so many; who did not is below \
         every threshold.\n"
    );
    let mut heading = row(["thief", "detector", "area", "judged: users", "accounts"]);
    heading.extend(SHARES.map(|share| format!("caught at {}", percent(share))));
    for share in &SHARES[1..] {
        heading.extend([format!("until half at {}", percent(*share)), "until 90 %".to_owned()]);
    }
    let mut rows = vec![heading];
    for thief in &detection.thieves {
        for verdict in &thief.detectors {
            rows.push(compared_row(&thief.name, verdict));
        }
    }
    align(text, &rows);
}

/// A title within a sentence.
fn lower(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn compared_row(thief: &str, verdict: &Verdict) -> Vec<String> {
    let mut cells = vec![
        thief.to_owned(),
        verdict.detector.to_owned(),
        area(&verdict.area),
        of_all(Some(verdict.users_judged)),
        of_all(Some(verdict.accounts_judged)),
    ];
    cells.extend(verdict.caught.iter().map(|caught| of_all(caught.at.map(|at| at.caught))));
    for caught in &verdict.caught[1..] {
        let cell = |of: fn(&AtThreshold) -> Option<u32>| {
            caught.at.as_ref().map_or_else(|| "-".to_owned(), |at| until(of(at)))
        };
        cells.extend([cell(|at| at.median), cell(|at| at.ninth_decile)]);
    }
    cells
}

fn guarded(detection: &Detection, text: &mut String) {
    let _ = writeln!(
        text,
        "\n## Behind the guard as it is set\n\n\
         It flags above {:.2} nats, a threshold that at most {} of the users it was set on ever passed. A flagged question is answered with decoys. \
         Nobody is flagged for ever, so that an account can be flagged at one question and trusted at the next.\n",
        detection.threshold,
        percent(detection.false_alarms)
    );
    let several = detection.guarded.len() > 1;
    let users = |k: usize| {
        if several { format!("users, lists of {}", grouped(k as u64)) } else { "users".to_owned() }
    };
    let all: Vec<(String, &Flagged)> = detection
        .guarded
        .iter()
        .map(|guarded| (users(guarded.k), &guarded.flagged))
        .chain(detection.thieves.iter().map(|thief| (thief.name.clone(), &thief.guarded)))
        .collect();
    let mut rows = vec![row([
        "who",
        "accounts",
        "ever flagged",
        "until half",
        "until 90 %",
        "questions answered truly",
    ])];
    for (who, flagged) in &all {
        rows.push(vec![
            who.clone(),
            grouped(flagged.accounts as u64),
            of_all(Some(flagged.ever)),
            until(flagged.median),
            until(flagged.ninth_decile),
            nearly_all(Some(flagged.truly)),
        ]);
    }
    align(text, &rows);
    text.push_str("\n### Flagged by a question\n\nShare of the accounts that asked so many, flagged at that question or before.\n\n");
    let mut heading = vec!["who".to_owned()];
    heading.extend(QUESTIONS.map(|question| format!("by question {question}")));
    let mut rows = vec![heading];
    for (who, flagged) in &all {
        let shares = flagged.by_question.iter().map(|by| match by.flagged {
            Some(_) => format!("{} of {}", of_all(by.flagged), grouped(by.accounts as u64)),
            None => "-".to_owned(),
        });
        rows.push(std::iter::once(who.clone()).chain(shares).collect());
    }
    align(text, &rows);
    text.push_str("\n### Users by length of their history\n\n");
    let items = if several { "lists and items" } else { "items" };
    let heading =
        row([items, "users", "ever flagged", "flagged at their test question", "questions answered truly"]);
    let mut rows = vec![heading];
    for guarded in &detection.guarded {
        let prefix = if several { format!("{}: ", guarded.k) } else { String::new() };
        for of in &guarded.by_length {
            let items = match of.to {
                Some(to) => format!("{prefix}{} to {to}", of.from),
                None => format!("{prefix}{} and more", of.from),
            };
            let users = grouped(of.users as u64);
            rows.push(vec![items, users, of_all(of.ever), of_all(of.at_test), nearly_all(of.truly)]);
        }
        rows.push(vec![
            format!("{prefix}all"),
            grouped(guarded.flagged.accounts as u64),
            of_all(Some(guarded.flagged.ever)),
            of_all(Some(guarded.at_test)),
            nearly_all(Some(guarded.flagged.truly)),
        ]);
    }
    align(text, &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_as_people_write_them() {
        assert_eq!(SHARES.map(percent), [".1 %", "1 %", "5 %"]);
        assert_eq!(percent(0.025), "2.5 %");
        assert_eq!((of_all(Some(0.0126)), of_all(None)), ("1.3 %".to_owned(), "-".to_owned()));
    }

    #[test]
    fn it_is_said_what_so_few_users_cannot_show() {
        assert_eq!(
            possible(189),
            ".1 % cannot be shown with 189 users, 1 % is 1 user of 189, 5 % is 9 users of 189."
        );
    }
}
