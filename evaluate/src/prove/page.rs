//! The page that shows a proof to somebody who knows no recommenders: what was asked, what was found, how likely that is by chance, and
//! what it rests on. One file, no network, readable without colours.

use std::fmt::Write as _;

use super::Proof;
use super::watermark::Watermark;
use crate::figures::Network;
use crate::report::page::escape;

/// Bars of the picture.
const BARS: usize = 60;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;

/// What the watermark's test rests on besides.
const FORGED: &str = "<li>Decoys are told by the key alone. Which items are green can also be worked out from very many answers, by whoever knows the \
                      method: he can take the watermark out of a copy, or put it into another's recommender.</li>\n";

/// The finding in a sentence.
pub fn finding(proof: &Proof) -> String {
    // Of two tests the one that says more, with its chance corrected for being one of two.
    let p = proof.corrected.map_or(proof.p, |corrected| corrected.decoys.min(corrected.watermark));
    let verdict = if p < 0.001 {
        "the suspect learned from the protected answers"
    } else if p < 0.05 {
        "the suspect may have learned from the protected answers, which is not proved"
    } else {
        "nothing says that the suspect learned from the protected answers"
    };
    let as_high = proof.at_least_as_high;
    let decoys = format!(
        "agreement {:.4}, {as_high} of {} other keys agree as much, p = {}",
        proof.agreement,
        proof.keys,
        number(proof.p)
    );
    match &proof.watermark {
        None => format!("{verdict}: {decoys}"),
        Some(found) => format!(
            "{verdict}: decoys: {decoys}; watermark: green items stand first in {:.4} of their pairs, {} of {} other keys have as many, p = {}; \
             the smaller of the two, corrected for two tests, {}",
            found.share,
            found.at_least_as_high,
            proof.keys,
            number(found.p),
            number(p)
        ),
    }
}

fn number(p: f64) -> String {
    if p < 0.0001 {
        format!("{p:.1e}")
    } else if p < 0.001 {
        format!("{p:.4}")
    } else {
        format!("{p:.3}")
    }
}

/// The page; `others` is what each public key came to by its decoys, and `marked` by its watermark.
pub fn page(proof: &Proof, others: &[f64], marked: &[f64]) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: String| {
        _ = writeln!(rows, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    };
    row(
        "Histories asked about",
        format!("{}, of which {} are answered with decoys", proof.probes, proof.flagged),
    );
    row("Agreement with the decoys of the true key", format!("{:.4}", proof.agreement));
    let Proof { others: spread, .. } = proof;
    row(
        "Agreement with the decoys of other keys",
        format!(
            "{:.4} on average, standard deviation {:.4}, at most {:.4}",
            spread.mean, spread.deviation, spread.highest
        ),
    );
    row("Other keys tried", proof.keys.to_string());
    row("Other keys that agree at least as much", proof.at_least_as_high.to_string());
    row("Probability of that by chance, p", number(proof.p));
    row("Agreement with the target's true lists", format!("{:.4}", proof.agreement_with_true_lists));
    row("Items in the catalogue", proof.items.to_string());
    let suspect = if proof.suspect_architecture == Network::FOREIGN.title {
        "asked as its customers ask it:"
    } else {
        "BLAKE3"
    };
    row(
        "Suspect",
        format!("{}, {suspect} <code>{}</code>", proof.suspect_architecture, escape(&proof.suspect)),
    );
    row(
        "Protected target",
        format!("{}, BLAKE3 <code>{}</code>", proof.protected_architecture, proof.protected),
    );
    row("Fingerprint of the key", format!("<code>{}</code>", proof.key));
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Was this recommender trained on another's answers?</title>
<style>
:root {{ color-scheme: light dark; --ink: #22262b; --quiet: #68707a; --line: #d8dce1; --paper: #fff; --bar: #8a929c; --mark: #0072b2; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e8eb; --quiet: #9aa3ad; --line: #3a4048; --paper: #16191d; --bar: #6b7480; --mark: #56b4e9; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
.finding {{ border-left: 4px solid var(--mark); padding: .5rem 1rem; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); font-weight: normal; }}
th {{ color: var(--quiet); width: 45%; }} code {{ overflow-wrap: anywhere; font-size: .85em; }}
svg {{ width: 100%; height: auto; }} .bar {{ fill: var(--bar); }} .axis, .label {{ fill: var(--quiet); stroke: none; font-size: 13px; }} .line {{ stroke: var(--line); }} .mark {{ stroke: var(--mark); stroke-width: 3; }}
</style>
</head>
<body>
<h1>Was this recommender trained on another's answers?</h1>
<p class="finding">{finding}.</p>
<h2>What was done</h2>
<p>The protected recommender answers customers truly. To an account that takes from its lists as no customer does, it answers with
<em>decoys</em>: every item is replaced by another one, by a table that is drawn from a secret key. Nobody else can know the table.
A copy that was trained on such answers repeats them.</p>
<p>The suspect was asked about {probes} histories of random items, as no customer has them. To {flagged} of them the protected recommender
answers with decoys. The suspect's answers were compared with the decoys of the secret key, and in the same way with those of {keys} keys that are public and were never
used by anybody.</p>
<h2>What was found</h2>
{picture}
<table>
{rows}</table>
{watermark}<h2>What it means</h2>
<p>A recommender that never saw an answer of the protected one knows nothing of the secret key. For it the secret key is one
of {all} keys, each as likely as the others to agree most. That the secret key does as well as it did has then a probability of
{p}, whatever the recommender is and however it was trained. No other assumption is made.</p>
<h2>What it rests on</h2>
<ul>
<li>The key was fixed before the suspect existed. Whoever relies on this should have its fingerprint dated by a third party.</li>
<li>The key was secret. A copy made by somebody who had it, or trained on answers that its owner published, agrees as well.</li>
<li>The suspect was asked as it is; its answers, not its workings, were looked at.</li>
<li>A suspect that does not agree may still be a copy: one made from true answers only, or of a recommender without this protection.</li>
{forged}</ul>
</body>
</html>
"#,
        finding = capitalised(&finding(proof)),
        probes = proof.probes,
        flagged = proof.flagged,
        keys = proof.keys,
        all = proof.keys + 1,
        forged = if proof.watermark.is_some() { FORGED } else { "" },
        picture = picture(&Picture {
            label: &format!(
                "Agreement of the suspect with the decoys of {} other keys, and of the true one",
                proof.keys
            ),
            axis: "agreement with a key's decoys; bars: number of other keys (square root)",
            from: 0.0,
            found: proof.agreement,
            others,
        }),
        watermark =
            proof.watermark.as_ref().map_or_else(String::new, |found| watermark(proof, found, marked)),
        p = proof.watermark.as_ref().map_or_else(
            || number(proof.p),
            |found| format!("{} by the decoys and {} by the watermark", number(proof.p), number(found.p)),
        ),
    )
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What is said of the watermark, where there is one.
fn watermark(proof: &Proof, found: &Watermark, others: &[f64]) -> String {
    let corrected = proof.corrected.map_or_else(String::new, |corrected| {
        format!(
            "<tr><th scope=\"row\">p of the decoys and of the watermark, corrected for two tests (Holm)</th><td>{}, {}</td></tr>\n",
            number(corrected.decoys),
            number(corrected.watermark)
        )
    });
    let lowest = others.iter().copied().fold(found.share, f64::min);
    format!(
        r#"<h2>The watermark</h2>
<p>To customers too the guarded recommender does not answer quite as it ranks: the secret key divides all items into green and red ones, and green ones stand
a little higher than they would (by {lift} of their place among the first twenty, amid a noise as large), red ones lower. Items so close to each other nearly tie. A copy that was trained on such answers learns to favour green
items a little. The suspect was asked for its lists after {histories} histories. Of each two items that stand next to each other in the guarded recommender's own
ranking it was noted which one the suspect ranks first. The share is that of its pairs in which an item stands first, on average over all green items; in the same way for the green items of the {keys} public keys.</p>
{picture}
<table>
<tr><th scope="row">Histories asked about</th><td>{histories}</td></tr>
<tr><th scope="row">Pairs of neighbours</th><td>{pairs}</td></tr>
<tr><th scope="row">Share with a green item first, by the true key</th><td>{share:.4}</td></tr>
<tr><th scope="row">The same by other keys</th><td>{mean:.4} on average, standard deviation {deviation:.4}, at most {highest:.4}</td></tr>
<tr><th scope="row">Other keys with a share at least as high</th><td>{as_high} of {keys}</td></tr>
<tr><th scope="row">Probability of that by chance, p</th><td>{p}</td></tr>
{corrected}</table>
<p>These are two tests. Whoever picks the better of two has twice the chance to be misled, and the corrected values allow for that.</p>
"#,
        lift = format_args!("{:.0} %", 100.0 * found.lift),
        keys = proof.keys,
        picture = picture(&Picture {
            label: &format!(
                "Share of their pairs in which the suspect ranks green items first, by {} other keys and by the true one",
                proof.keys
            ),
            axis: "share of pairs with a key's green item first; bars: number of other keys (square root)",
            from: (lowest * 100.0).floor() / 100.0,
            found: found.share,
            others,
        }),
        histories = found.histories,
        pairs = found.pairs,
        share = found.share,
        mean = found.others.mean,
        deviation = found.others.deviation,
        highest = found.others.highest,
        as_high = found.at_least_as_high,
        p = number(found.p),
    )
}

/// What is drawn: where the true key stands among the others.
struct Picture<'a> {
    label: &'a str,
    axis: &'a str,
    /// Where the axis begins.
    from: f64,
    found: f64,
    others: &'a [f64],
}

/// How many keys come to how much, and where the true one stands.
fn picture(Picture { label, axis, from, found, others }: &Picture<'_>) -> String {
    let most = (others.iter().copied().fold(*found, f64::max) - from).max(1e-6) * 1.08;
    let mut counts = [0usize; BARS];
    for other in *others {
        counts[(((other - from) / most * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    let highest = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let (left, bottom) = (10.0, HEIGHT - 40.0);
    let across = |value: f64| left + value / most * (WIDTH - 2.0 * left);
    let mut bars = String::new();
    for (place, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = (count as f64 / highest).sqrt() * (bottom - 40.0);
        let x = across(place as f64 * most / BARS as f64);
        let width = (WIDTH - 2.0 * left) / BARS as f64 - 1.0;
        _ = write!(
            bars,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            bottom - height
        );
    }
    let mark = across(found - from);
    let anchor = if mark > WIDTH / 2.0 { "end" } else { "start" };
    let beside = if mark > WIDTH / 2.0 { mark - 8.0 } else { mark + 8.0 };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\
         {bars}<line class=\"line\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>\
         <line class=\"mark\" x1=\"{mark:.1}\" y1=\"24\" x2=\"{mark:.1}\" y2=\"{bottom}\"/>\
         <text class=\"label\" x=\"{beside:.1}\" y=\"34\" text-anchor=\"{anchor}\">the true key: {found:.4}</text>\
         <text class=\"axis\" x=\"{left}\" y=\"{}\">{from}</text><text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.3}</text>\
         <text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{axis}</text></svg>",
        WIDTH - left,
        bottom + 18.0,
        WIDTH - left,
        bottom + 18.0,
        from + most,
        WIDTH / 2.0,
        bottom + 18.0,
    )
}
