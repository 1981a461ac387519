//! From a ratings file to [`Interactions`]: parts of the file are parsed in parallel and joined in the order of the file,
//! so any number of threads reads the same table. The parts are blocks of lines, or row groups of a Parquet table.

use std::fs::File;
use std::path::Path;

use indicatif::ProgressBar;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use stage::Refusal;
use stage::settings::{Columns, Preprocess};

use crate::read::blocks::{self, Blocks};
use crate::read::columnar::Table;
use crate::read::fault::Fault;
use crate::read::interactions::{Block, Interactions};
use crate::read::layouts::table::TABLE;
use crate::read::layouts::{Head, Layout};
use crate::read::parser::Parser;
use crate::read::schema::{Schema, Syntax};

/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// Reads the interactions of a file. Rows rated below `preprocess.min_rating` are counted and dropped. `progress` counts
/// bytes.
pub fn read(path: &Path, settings: &Preprocess, progress: &ProgressBar) -> anyhow::Result<Interactions> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    progress.set_length(bytes);
    if bytes == 0 {
        let message = format!("{} is empty, expected one interaction a line", path.display());
        return Err(Refusal::new(message).into());
    }
    let table = if blocks::starts_with(&mut file, PARQUET).map_err(|error| unreadable(path, &error))? {
        read_table(path, settings, progress)?
    } else {
        read_lines(path, bytes, settings, progress)?
    };
    if table.incomplete > 0 {
        tracing::warn!(
            "{} of the {} lines in {} lack a user, an item or a date and were passed over",
            table.incomplete,
            table.incomplete + table.rows_read,
            path.display()
        );
    }
    if table.rows_read == 0 {
        let message = format!("{} holds no rows, expected one interaction a line", path.display());
        return Err(Refusal::new(message).into());
    }
    Ok(table)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    let advice = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "; it breaks off, so fetch or copy it again",
        _ => "",
    };
    Refusal::new(format!("cannot read {}: {error}{advice}", path.display()))
}

/// Refuses a least rating for a file without ratings.
fn check_ratings(path: &Path, rated: bool, min_rating: f64) -> Result<(), Refusal> {
    if rated || min_rating <= 0.0 {
        return Ok(());
    }
    let message =
        format!("{} has no ratings, so preprocess.min_rating must be 0, not {min_rating}", path.display());
    Err(Refusal::new(message))
}

fn read_lines(
    path: &Path,
    bytes: u64,
    settings: &Preprocess,
    progress: &ProgressBar,
) -> anyhow::Result<Interactions> {
    let (mut blocks, schema) = open(path, Layout::wanted(settings)?, &settings.columns, progress)?;
    check_ratings(path, schema.rating.is_some(), settings.min_rating)?;
    let parser = Parser::new(&schema, settings.min_rating);
    join(
        path,
        || Ok(blocks.next_block().map_err(|error| unreadable(path, &error))?),
        |lines| (lines.bytes.len() as f64 / bytes as f64, parser.parse(&lines)),
    )
}

/// Opens a file of lines at its first row. Without a layout, the file's name or first line tells it.
fn open(
    path: &Path,
    layout: Option<&Layout>,
    columns: &Columns,
    progress: &ProgressBar,
) -> anyhow::Result<(Blocks<Box<dyn std::io::Read + Send>>, Schema)> {
    let unreadable = |error: std::io::Error| unreadable(path, &error);
    let mut blocks = Blocks::open(path, progress).map_err(unreadable)?;
    let first_line = String::from_utf8_lossy(blocks.peek_line().map_err(unreadable)?).into_owned();
    let layout = match layout {
        Some(layout) => layout,
        None => Layout::recognise(path, &first_line)?,
    };
    tracing::debug!("{} is read as {}", path.display(), layout.name);
    let schema = (layout.schema)(&Head { path, first_line: &first_line, columns })?;
    if schema.header {
        blocks.skip_line().map_err(unreadable)?;
    }
    if schema.syntax == Syntax::Csv {
        blocks.quote_fields(b',');
    }
    Ok((blocks, schema))
}

/// Refuses a file whose first lines are not of `layout`, such as a page that says "not found".
pub fn check_start(path: &Path, layout: &Layout) -> anyhow::Result<()> {
    let (mut blocks, schema) = open(path, Some(layout), &Columns::default(), &ProgressBar::hidden())?;
    let Some(lines) = blocks.next_block().map_err(|error| unreadable(path, &error))? else {
        return Err(Refusal::new(format!("{} is empty", path.display())).into());
    };
    Parser::new(&schema, 0.0).parse(&lines).map_err(|fault| fault.refusal(path))?;
    Ok(())
}

fn read_table(path: &Path, settings: &Preprocess, progress: &ProgressBar) -> anyhow::Result<Interactions> {
    if Layout::wanted(settings)?.is_none_or(|layout| layout.name != TABLE.name) {
        let message = format!(
            "{} is a Parquet table; say in preprocess.columns.user, .item, .timestamp and .rating what its columns are called",
            path.display()
        );
        return Err(Refusal::new(message).into());
    }
    check_ratings(path, settings.columns.rating.is_some(), settings.min_rating)?;
    let table = Table::open(path, &settings.columns, settings.min_rating)?;
    let mut groups = 0..table.groups();
    join(
        path,
        || {
            let group = groups.next();
            progress.inc(group.map_or(0, |group| table.group_bytes(group)));
            Ok(group)
        },
        |group| (table.share(group), table.parse(group)),
    )
}

/// Parses the parts that `next` gives, in parallel, and joins them in their order. `parse` also says what share of the file
/// its part is.
fn join<P: Send>(
    path: &Path,
    mut next: impl FnMut() -> anyhow::Result<Option<P>> + Send,
    parse: impl Fn(P) -> (f64, Result<Block, Fault>) + Sync,
) -> anyhow::Result<Interactions> {
    let mut window = || -> anyhow::Result<Vec<P>> {
        let mut window = Vec::new();
        while window.len() < rayon::current_num_threads()
            && let Some(part) = next()?
        {
            window.push(part);
        }
        Ok(window)
    };
    let mut table = Interactions::default();
    let mut parts = window()?;
    let mut parsed: Vec<(f64, Result<Block, Fault>)> = Vec::new();
    while !(parts.is_empty() && parsed.is_empty()) {
        // While one window is parsed, the one before it is joined and the next one is read.
        let (following, upcoming) = rayon::join(
            || parts.into_par_iter().map(&parse).collect(),
            || -> anyhow::Result<Vec<P>> {
                for (share, block) in parsed {
                    let joined = block.and_then(|block| join_block(&mut table, block, share));
                    joined.map_err(|fault| fault.refusal(path))?;
                }
                window()
            },
        );
        (parsed, parts) = (following, upcoming?);
    }
    Ok(table)
}

/// Adds a block that is `share` of the file.
fn join_block(table: &mut Interactions, block: Block, share: f64) -> Result<(), Fault> {
    let (first, rows) = (table.is_empty(), block.len());
    table.append(block)?;
    if first {
        // A little more than the file would hold if all of it were like its first part.
        table.reserve((rows as f64 / share * 1.05) as usize);
    }
    Ok(())
}
