//! From a ratings file to [`Interactions`]: parts of the file are parsed in parallel and joined in the order of the file,
//! so any number of threads reads the same table. The parts are blocks of lines, or row groups of a Parquet table.

use std::fs::File;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use stage::Refusal;
use stage::settings::{Invalid, Preprocess};

use crate::read::blocks::Blocks;
use crate::read::columnar::Table;
use crate::read::fault::Fault;
use crate::read::interactions::{Block, Interactions};
use crate::read::layouts::table::TABLE;
use crate::read::layouts::{Head, Layout};
use crate::read::packed::{self, Bytes};
use crate::read::parser::Parser;
use crate::read::schema::{Schema, Syntax};

/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// A file with a table or a part of one.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it lies.
    pub path: PathBuf,
    /// What messages call it, and what tells its layout by name.
    pub name: PathBuf,
}

impl Part {
    /// The file at `path`, a copy of what came from `source`.
    pub fn copied(path: &Path, source: &Path) -> Self {
        Self { path: path.to_owned(), name: source.to_owned() }
    }
}

impl From<PathBuf> for Part {
    fn from(path: PathBuf) -> Self {
        Self { name: path.clone(), path }
    }
}

/// Reads the interactions of a table in `parts`, one file or several, which are joined in their order. Rows that the settings
/// exclude are counted and dropped; so are, of several parts, those that are empty, as Spark writes them. `progress` counts bytes.
///
/// # Errors
/// A refusal of a file that is not as its layout has it.
pub fn read(parts: &[Part], settings: &Preprocess, progress: &ProgressBar) -> anyhow::Result<Interactions> {
    let mut sizes = Vec::new();
    for Part { path, name } in parts {
        let size =
            File::open(path).and_then(|file| file.metadata()).map_err(|error| refuse(name, error))?.len();
        sizes.push(size);
    }
    progress.set_length(sizes.iter().sum());
    let mut table = Interactions::default();
    let all = sizes.iter().sum::<u64>() as f64;
    let mut empty_parts = Vec::new();
    for (part, &size) in parts.iter().zip(&sizes) {
        let unreadable = |error| refuse(&part.name, error);
        let mut file = File::open(&part.path).map_err(unreadable)?;
        // What a part of the file is of all parts, for the room that all rows will take.
        let share = size as f64 / all;
        if packed::starts_with(&mut file, PARQUET).map_err(unreadable)? {
            read_table(part, share, settings, progress, &mut table)?;
        } else if !read_lines(part, size, share, settings, progress, &mut table)? {
            empty_parts.push(&part.name);
        }
    }
    match empty_parts.as_slice() {
        [] => {}
        [first, ..] if empty_parts.len() == parts.len() => return Err(empty(first)),
        [first, ..] => tracing::warn!(
            "{} of the {} parts of the table are empty and were passed over, such as {}",
            empty_parts.len(),
            parts.len(),
            first.display()
        ),
    }
    Ok(table)
}

fn refuse(path: &Path, error: impl Into<Fault>) -> anyhow::Error {
    error.into().refusal(path).into()
}

fn empty(path: &Path) -> anyhow::Error {
    Refusal::new(format!("{} is empty, expected one interaction a line", path.display())).into()
}

/// Refuses a least rating for a file without ratings.
fn check_ratings(path: &Path, rated: bool, min_rating: Option<f64>) -> Result<(), Refusal> {
    let (false, Some(least)) = (rated, min_rating.filter(|&least| least != 0.0)) else { return Ok(()) };
    let message = format!(
        "{} has no ratings, or preprocess.columns.rating does not name them, so preprocess.min_rating must be null, not {least}",
        path.display()
    );
    Err(Refusal::new(message))
}

/// Reads a file of lines; whether there were any.
fn read_lines(
    part: &Part,
    bytes: u64,
    share: f64,
    settings: &Preprocess,
    progress: &ProgressBar,
    table: &mut Interactions,
) -> anyhow::Result<bool> {
    let name = &part.name;
    let Some((mut blocks, schema)) = open(part, Layout::wanted(settings)?, settings, progress)? else {
        return Ok(false);
    };
    check_ratings(name, schema.rating.is_some(), settings.min_rating)?;
    let parser = Parser::new(&schema, settings);
    join(
        name,
        table,
        || Ok(blocks.next_block().map_err(|fault| fault.refusal(name))?),
        |lines| (share * lines.bytes.len() as f64 / bytes as f64, parser.parse(&lines)),
    )?;
    Ok(true)
}

/// Opens a file of lines at its first row; `None` where there is no line. Without a layout, the file's first line or name tells
/// it.
fn open(
    Part { path, name }: &Part,
    layout: Option<&Layout>,
    settings: &Preprocess,
    progress: &ProgressBar,
) -> anyhow::Result<Option<(Blocks<Bytes>, Schema)>> {
    let encoding = settings.text_encoding().map_err(|Invalid { .. }| Refusal::new("no such encoding"))?;
    let unreadable = |fault: Fault| fault.refusal(name);
    let mut blocks = Blocks::open(path, encoding, progress).map_err(unreadable)?;
    let mut lines = blocks.sample().map_err(unreadable)?;
    while lines.first().is_some_and(|line| line.trim().is_empty()) {
        lines.remove(0);
        blocks.skip_line().map_err(unreadable)?;
    }
    let head = Head { path: name, lines: &lines, settings };
    if lines.is_empty() {
        return Ok(None);
    }
    let layout = match layout {
        Some(layout) => layout,
        None => Layout::recognise(name, head.first_line())?,
    };
    tracing::debug!("{} is read as {}", name.display(), layout.name);
    let schema = (layout.schema)(&head)?;
    if schema.header {
        blocks.skip_line().map_err(unreadable)?;
    }
    match schema.syntax {
        Syntax::Quoted(delimiter) => blocks.quote_fields(delimiter),
        Syntax::Objects(notation) => blocks.cut_objects(notation),
        _ => {}
    }
    Ok(Some((blocks, schema)))
}

/// Refuses a file whose first lines are not of `layout`, such as a page that says "not found".
pub fn check_start(path: &Path, layout: &Layout) -> anyhow::Result<()> {
    let settings = Preprocess::default();
    let part = Part::from(path.to_owned());
    let Some((mut blocks, schema)) = open(&part, Some(layout), &settings, &ProgressBar::hidden())? else {
        return Err(empty(path));
    };
    let Some(lines) = blocks.next_block().map_err(|fault| fault.refusal(path))? else {
        return Err(empty(path));
    };
    Parser::new(&schema, &settings).parse(&lines).map_err(|fault| fault.refusal(path))?;
    Ok(())
}

fn read_table(
    part: &Part,
    share: f64,
    settings: &Preprocess,
    progress: &ProgressBar,
    table: &mut Interactions,
) -> anyhow::Result<()> {
    if Layout::wanted(settings)?.is_none_or(|layout| layout.name != TABLE.name) {
        let message = format!(
            "{} is a Parquet table; say in preprocess.columns.user, .item, .timestamp and .rating what its columns are called",
            part.name.display()
        );
        return Err(Refusal::new(message).into());
    }
    check_ratings(&part.name, settings.columns.rating.is_some(), settings.min_rating)?;
    let parquet = Table::open(part, settings)?;
    let mut groups = 0..parquet.groups();
    join(
        &part.name,
        table,
        || {
            let group = groups.next();
            progress.inc(group.map_or(0, |group| parquet.group_bytes(group)));
            Ok(group)
        },
        |group| (share * parquet.share(group), parquet.parse(group)),
    )
}

/// Parses the parts that `next` gives, in parallel, and joins them to `table` in their order. `parse` also says what share of
/// everything its part is.
fn join<P: Send>(
    path: &Path,
    table: &mut Interactions,
    mut next: impl FnMut() -> anyhow::Result<Option<P>> + Send,
    parse: impl Fn(P) -> (f64, Result<Block, Fault>) + Sync,
) -> anyhow::Result<()> {
    let mut window = || -> anyhow::Result<Vec<P>> {
        let mut window = Vec::new();
        while window.len() < rayon::current_num_threads()
            && let Some(part) = next()?
        {
            window.push(part);
        }
        Ok(window)
    };
    let mut parts = window()?;
    let mut parsed: Vec<(f64, Result<Block, Fault>)> = Vec::new();
    while !(parts.is_empty() && parsed.is_empty()) {
        // While one window is parsed, the one before it is joined and the next one is read.
        let (following, upcoming) = rayon::join(
            || parts.into_par_iter().map(&parse).collect(),
            || -> anyhow::Result<Vec<P>> {
                for (share, block) in parsed {
                    let joined = block.and_then(|block| join_block(table, block, share));
                    joined.map_err(|fault| fault.refusal(path))?;
                }
                window()
            },
        );
        (parsed, parts) = (following, upcoming?);
    }
    Ok(())
}

/// Adds a block that is `share` of everything.
fn join_block(table: &mut Interactions, block: Block, share: f64) -> Result<(), Fault> {
    let (first, rows) = (table.is_empty(), block.len());
    table.append(block)?;
    if first && share > 0.0 {
        // A little more than there would be if all of it were like its first part, and never more than a mistaken share can cost.
        table.reserve(((rows as f64 / share * 1.05) as usize).min(rows.saturating_mul(100_000)));
    }
    Ok(())
}
