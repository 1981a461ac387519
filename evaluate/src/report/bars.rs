//! What the picture beside the table shows: a panel for each figure that is drawn, a group of bars for every defence, and a colour for the
//! target and for each copy of it.
//!
//! Copies have a colour for each kind of surrogate and for each way in which a thief asked and learned, as far as there are colours; a copy for which
//! none is left starts a group of its own, with its name under it.

use super::chart::{COLOURS, Chart, Group, Panel};
use super::table::{Model, Row, Table};
use super::words::in_short;
use crate::figures::{Network, grouped};

/// The copies of one colour.
#[derive(PartialEq)]
struct Copies {
    kind: Network,
    /// How their thieves asked and learned, in short; `None` where it is not what tells them from others.
    way: Option<String>,
}

impl Copies {
    fn of(row: &Row) -> Option<Self> {
        Some(Self { kind: row.surrogate?, way: row.way.as_deref().map(in_short) })
    }

    fn hold(&self, row: &Row) -> bool {
        Some(self.kind) == row.surrogate
            && (self.way.is_none() || self.way == row.way.as_deref().map(in_short))
    }

    /// Its name, where there are copies of several kinds or of one.
    fn name(&self, several: bool) -> String {
        match &self.way {
            Some(way) if several => format!("{}: {way}", self.kind.title),
            Some(way) => format!("copy: {way}"),
            None => format!("surrogate {}", self.kind.title),
        }
    }
}

/// The copies of each colour, in the order of the rows: a colour for each way of each kind, or for each kind where that would be too many.
fn colours(table: &Table) -> Vec<Copies> {
    let kinds = table.surrogates();
    let mut ways: Vec<Copies> = Vec::new();
    for found in table.rows.iter().filter_map(Copies::of) {
        if !ways.contains(&found) {
            ways.push(found);
        }
    }
    if ways.len() > kinds.len() && ways.len() < COLOURS.len() {
        return ways;
    }
    kinds.into_iter().map(|kind| Copies { kind, way: None }).collect()
}

/// The chart of a table. With several targets each has a column of panels of its own, and the panels of a figure share their scale.
pub fn bars(table: &Table) -> Chart {
    let copies = colours(table);
    let several_kinds = table.surrogates().len() > 1;
    let mut series = vec!["target".to_owned()];
    series.extend(copies.iter().map(|one| one.name(several_kinds)));
    let shared = &table.protocol;
    let spread = match table.seeds.len() {
        1 => "whiskers: 95 % bootstrap intervals".to_owned(),
        count => format!("means over {count} seeds, whiskers: 95 % intervals over users and seeds"),
    };
    let targets = table.targets();
    let subtitle = format!(
        "{}, {}, {} users; {spread}",
        shared.ranked_against(),
        shared.seen(),
        grouped(shared.users as u64)
    );
    let several = targets.len() > 1;
    let panel = |figure: &String, target: Network| Panel {
        name: if several { format!("{} target: {figure}", target.title) } else { figure.clone() },
        scale: figure.clone(),
        popular: table.popular().and_then(|row| row.figures.get(figure)).copied(),
        groups: groups(table, target, figure, &copies),
    };
    let panels_of = |figure: String| targets.iter().map(|&target| panel(&figure, target)).collect::<Vec<_>>();
    Chart {
        title: match targets.as_slice() {
            [one] => format!("{} behind each defence, and the copy an attacker makes of it", one.title),
            _ => "Recommenders behind each defence, and the copies an attacker makes of them".to_owned(),
        },
        subtitle,
        columns: targets.len().max(2),
        panels: table.drawn().into_iter().flat_map(panels_of).collect(),
        series,
    }
}

/// The bars of one target: a group for each of its defences, and for each variant of one.
fn groups(table: &Table, target: Network, figure: &str, copies: &[Copies]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in table.rows.iter().filter(|row| row.target == Some(target)) {
        let place = copies.iter().position(|copies| copies.hold(row)).map_or(0, |place| place + 1);
        let full = groups.last().is_none_or(|group| group.bars[place].is_some());
        if row.model == Model::Target || full {
            // What tells two of one defence apart goes to a second line.
            let variant = row.variant.as_ref().map_or_else(String::new, |name| format!("\n({name})"));
            let label = format!("{}{variant}", row.defence.as_deref().unwrap_or_default());
            groups.push(Group { label, bars: vec![None; 1 + copies.len()] });
        }
        if let Some(group) = groups.last_mut() {
            group.bars[place] = row.figures.get(figure).copied();
        }
    }
    groups
}
