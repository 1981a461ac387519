//! The layouts that interactions come in, a file each or a file a family, and the one list of them.
//!
//! A [`Layout`] is data: what it is called, what its files are called, what their first line looks like, and which
//! [`Schema`] the lines then have. To add one, write its file beside the others, and add its module and its line in
//! [`LAYOUTS`] below; the help text, the messages and the search in a directory all ask that list.

pub mod amazon;
pub mod inter;
pub mod movielens;
pub mod sequences;
pub mod steam;
pub mod table;

use std::path::{Path, PathBuf};

use artifact::names::{Named, Registry};
use stage::Refusal;
use stage::settings::Preprocess;

use crate::read::fault::shorten;
use crate::read::packed::is_passed_over;
use crate::read::schema::Schema;

/// All layouts, in the order of every listing.
pub const LAYOUTS: Registry<Layout> = Registry {
    kind: "layout",
    entries: &[
        movielens::ML_100K,
        movielens::ML_1M,
        movielens::ML_20M,
        inter::INTER,
        steam::STEAM,
        amazon::AMAZON,
        table::TABLE,
        sequences::SEQUENCES,
    ],
};

/// The settings that name a layout, by key path; `auto` leaves it to the file.
pub const SETTINGS: &[&str] = &["preprocess.format"];

/// A layout that interactions come in.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The value of `preprocess.format` that asks for it.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// What its files are called: `*` stands for any text, and the ending of a packed file, such as `.gz`, does not count.
    pub files: &'static [&'static str],
    /// What they may be called where a directory holds none that is called so.
    pub also: &'static [&'static str],
    /// The settings that ask for it, where a file cannot show it by name or first line because both could be anything.
    pub needs: Option<&'static str>,
    /// The first line of such a file, made up.
    pub example: &'static str,
    /// Whether a file with this first line has this layout, whatever it is called. No line begins two layouts.
    pub begins: fn(first_line: &str) -> bool,
    /// How the lines of a file are cut, and where its columns stand. Refuses a header that lacks one.
    pub schema: fn(&Head<'_>) -> anyhow::Result<Schema>,
}

/// What there is to tell the schema of a file by.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its first lines, without their ends: a few hundred, or all.
    pub lines: &'a [String],
    /// What the settings say of the file.
    pub settings: &'a Preprocess,
}

impl Head<'_> {
    /// The first line; empty in an empty file.
    pub fn first_line(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }
}

impl Named for Layout {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl Layout {
    /// The layout that the settings ask for: where they name columns, a table. `None` where the file is to tell.
    ///
    /// # Errors
    /// A refusal where `preprocess.format` names no layout.
    pub fn wanted(settings: &Preprocess) -> Result<Option<&'static Self>, Refusal> {
        match settings.format.as_str() {
            "auto" if settings.columns.is_named() => Ok(Some(&table::TABLE)),
            "auto" => Ok(None),
            name => match LAYOUTS.find(name) {
                Ok(layout) => Ok(Some(layout)),
                Err(unknown) => Err(Refusal::new(format!("`preprocess.format`: {unknown}"))),
            },
        }
    }

    /// The layout of the file at `path`, by its first line or else by its name: names are given freely.
    ///
    /// # Errors
    /// A refusal where neither tells.
    pub fn recognise(path: &Path, first_line: &str) -> Result<&'static Self, Refusal> {
        let name = unpacked_name(path);
        let by_line = recognisable().find(|layout| (layout.begins)(first_line));
        by_line.or_else(|| recognisable().find(|layout| layout.owns(&name))).ok_or_else(|| {
            Refusal::new(format!(
                "{}: neither its name nor its first line ({}) tells its layout; set preprocess.format, or for a table \
                 preprocess.columns: the names of its columns or, where no line names them, their numbers, counted from 1",
                path.display(),
                shorten(first_line)
            ))
        })
    }

    /// Whether a file of this name, which does not end in `.gz` or the like, is one of this layout's.
    fn owns(&self, name: &str) -> bool {
        self.files.iter().any(|pattern| fits(pattern, name))
    }
}

/// The layouts that a file shows by its name or its first line.
fn recognisable() -> impl Iterator<Item = &'static Layout> {
    LAYOUTS.iter().filter(|layout| layout.needs.is_none())
}

/// Finds the files to read: `input` itself, or in a directory the one table whose name is one of `layout`'s, which may come in
/// parts. Where the directory itself holds none, the parts may lie in directories such as `year=2019/month=1`, by which Hive, Spark,
/// DuckDB and pandas partition a table; they are read in the order of their names, numbers by value. Without a layout, the names of
/// all that a name can tell count. Hidden files and resource forks are passed over.
///
/// # Errors
/// A refusal where there is no such table, or more than one.
pub fn find(input: &Path, layout: Option<&Layout>) -> anyhow::Result<Vec<PathBuf>> {
    if input.is_file() {
        return Ok(vec![input.to_owned()]);
    }
    let (files, directories) = listing(input).map_err(|error| {
        Refusal::new(format!(
            "no interactions at {} ({error}); expected a file or a directory, such as `gro-preprocess fetch` makes",
            input.display()
        ))
    })?;
    let layouts: Vec<&Layout> = layout.map_or_else(|| recognisable().collect(), |layout| vec![layout]);
    let called = |files: &[PathBuf], names: fn(&Layout) -> &'static [&'static str]| -> Vec<PathBuf> {
        let patterns: Vec<&str> = layouts.iter().flat_map(|layout| names(layout)).copied().collect();
        let is_one = |path: &&PathBuf| patterns.iter().any(|pattern| fits(pattern, &unpacked_name(path)));
        files.iter().filter(is_one).cloned().collect()
    };
    let tables = |files: &[PathBuf]| {
        let found = called(files, |layout| layout.files);
        if found.is_empty() { called(files, |layout| layout.also) } else { found }
    };
    let mut found = tables(&files);
    let is_partitioned = found.is_empty();
    if is_partitioned {
        let mut parts = Vec::new();
        for directory in directories.iter().filter(|directory| is_partition(directory)) {
            partition(directory, 1, &mut parts)
                .map_err(|error| Refusal::because(format!("cannot read {}", directory.display()), error))?;
        }
        found = tables(&parts);
    }
    let below = |path: &Path| path.strip_prefix(input).unwrap_or(path).to_owned();
    found.sort_by_cached_key(|path| {
        let parts = below(path);
        parts.iter().map(|part| numbered(&part.to_string_lossy())).collect::<Vec<_>>()
    });
    // In a partitioned table all files are parts of one, whatever they are called, unless they are not of one kind.
    let whole = |path: &PathBuf| {
        if is_partitioned { ending(&unpacked_name(path)) } else { whole_name(&file_name(path)) }
    };
    if found.iter().map(whole).collect::<std::collections::BTreeSet<String>>().len() > 1 {
        let names: Vec<String> =
            found.iter().take(10).map(|path| below(path).display().to_string()).collect();
        return Err(Refusal::new(format!(
            "{} holds several tables ({}{}); give one of them as --input, or set preprocess.format",
            input.display(),
            names.join(", "),
            if found.len() > names.len() { ", …" } else { "" }
        ))
        .into());
    }
    if found.is_empty() {
        let names: Vec<&str> = layouts.iter().flat_map(|layout| layout.files).copied().collect();
        let deeper: Vec<String> =
            directories.iter().take(3).map(|path| format!("{}", path.display())).collect();
        let deeper = if deeper.is_empty() {
            String::new()
        } else {
            format!("; directories in it, such as {}, are not looked into", deeper.join(", "))
        };
        return Err(Refusal::new(format!(
            "{} holds no interactions; expected one of {}, or give the file itself as --input{deeper}",
            input.display(),
            names.join(", "),
        ))
        .into());
    }
    if found.len() > 1 {
        tracing::info!("{} holds a table in {} parts", input.display(), found.len());
    }
    Ok(found)
}

/// How deep the directories of a partitioned table are looked into, so that a link to itself ends.
const DEEPEST_PARTITION: usize = 16;

/// The files and the directories in `directory`, without those that are nobody's table.
fn listing(directory: &Path) -> std::io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_passed_over(Path::new(path.file_name().unwrap_or_default())) {
            paths.push(path);
        }
    }
    paths.sort();
    let (directories, rest): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    Ok((rest.into_iter().filter(|path| path.is_file()).collect(), directories))
}

/// Whether a directory is called as a partition is: `column=value`.
fn is_partition(directory: &Path) -> bool {
    file_name(directory).split_once('=').is_some_and(|(column, _)| !column.is_empty())
}

/// Adds the files below a partition.
fn partition(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let (files, directories) = listing(directory)?;
    found.extend(files);
    for directory in directories.iter().filter(|_| depth < DEEPEST_PARTITION) {
        partition(directory, depth + 1, found)?;
    }
    Ok(())
}

/// What a message adds about a column that the file at `path` lacks, where a partition is named after it.
pub(super) fn partitioned(path: &Path, column: &str) -> String {
    let names = path.iter().rev().skip(1).map(|part| part.to_string_lossy().into_owned());
    let named = names.into_iter().find(|name| name.split_once('=').is_some_and(|(key, _)| key == column));
    named.map_or(String::new(), |name| {
        format!("; it stands in the name of the directory {name} alone, which is not read: write it into the table")
    })
}

/// What a name ends in.
fn ending(name: &str) -> String {
    name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_owned())
}

/// The name of the table that a file is a part of: the parts of one differ in their numbers, and those of Spark begin with
/// `part-` and go on with what nobody else can tell.
fn whole_name(name: &str) -> String {
    match name.strip_prefix("part-") {
        Some(part) => format!("part-*.{}", part.split_once('.').map_or("", |(_, endings)| endings)),
        None => numbered(name)
            .into_iter()
            .map(|(text, number)| if number.is_some() { text + "#" } else { text })
            .collect(),
    }
}

/// A name as texts with the numbers behind them, which orders `part-2` before `part-10`.
fn numbered(name: &str) -> Vec<(String, Option<u128>)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[text..].find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len() - text);
        // A number that is too long for this is none by which anybody counts.
        parts.push((rest[..text].to_owned(), rest[text..text + digits].parse().ok()));
        rest = &rest[text + digits..];
    }
    parts
}

/// Whether a name in lower case is as the pattern has it.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
        None => name == pattern,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The endings of packed files.
const PACKED: [&str; 9] = [".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".tbz2", ".txz"];

/// The name of a file in lower case, without the endings of a packed one.
fn unpacked_name(path: &Path) -> String {
    let mut name = file_name(path).to_lowercase();
    while let Some(ending) = PACKED.iter().find(|ending| name.len() > ending.len() && name.ends_with(*ending))
    {
        name.truncate(name.len() - ending.len());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::schema::columns_named;

    #[test]
    fn a_layout_is_asked_for_by_its_name() {
        let wanted =
            |format: &str| Layout::wanted(&Preprocess { format: format.to_owned(), ..Preprocess::default() });
        for name in LAYOUTS.names() {
            assert_eq!(wanted(name).unwrap().unwrap().name, name);
        }
        assert!(wanted("auto").unwrap().is_none());
        let message = wanted("movielens").unwrap_err().to_string();
        assert!(LAYOUTS.names().all(|name| message.contains(name)), "{message}");
    }

    #[test]
    fn no_file_shows_two_layouts() {
        let names = |layouts: &mut dyn Iterator<Item = &Layout>| -> Vec<&str> {
            layouts.map(|layout| layout.name).collect()
        };
        for layout in recognisable() {
            for pattern in layout.files {
                let name = pattern.replace('*', "x");
                let owners = names(&mut recognisable().filter(|other| other.owns(&name)));
                assert_eq!(owners, [layout.name], "{name}");
            }
        }
        for layout in LAYOUTS.entries {
            let begun = names(&mut LAYOUTS.iter().filter(|other| (other.begins)(layout.example)));
            assert!(begun.is_empty() || begun == [layout.name], "{}: {begun:?}", layout.name);
        }
        // A review may hold what separates the fields of another layout.
        let review = "{u'username': u'a', u'product_id': u'1::2::3::4', u'date': u'2017-12-17'}";
        assert_eq!(Layout::recognise(Path::new("a"), review).unwrap().name, "steam");
        let header = "user_id:token\titem_id:token\trating:float\ttimestamp:float";
        assert_eq!(Layout::recognise(Path::new("a"), header).unwrap().name, "inter");
    }

    #[test]
    fn every_layout_has_a_schema_and_says_what_it_is() {
        for layout in LAYOUTS.entries {
            let mut settings = Preprocess::default();
            if layout.name == table::TABLE.name {
                settings.columns = columns_named(["user", "item", "", ""]);
            }
            let lines = [layout.example.to_owned()];
            let head = Head { path: Path::new("a"), lines: &lines, settings: &settings };
            let schema = (layout.schema)(&head).unwrap();
            let places = [Some(schema.user), Some(schema.item), schema.rating, schema.timestamp];
            let mut places: Vec<usize> = places.into_iter().flatten().collect();
            let count = places.len();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), count, "{} reads a column twice", layout.name);
            assert!(places.iter().all(|&place| place < schema.columns.len()), "{}", layout.name);
            assert!(!layout.title.is_empty() && !layout.files.is_empty(), "{}", layout.name);
        }
    }

    #[test]
    fn the_parts_of_a_table_are_told_by_their_numbers() {
        for (names, is_one) in [
            (&["part-00000-5d.snappy.parquet", "part-00001-7a.snappy.parquet"][..], true),
            (&["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], true),
            (&["train.parquet", "test.parquet"], false),
            (&["day_1.csv", "day_2.csv", "day_10.csv"], true),
            (&["ratings.csv", "ratings2.csv"], false),
        ] {
            let whole: std::collections::BTreeSet<String> =
                names.iter().map(|name| whole_name(name)).collect();
            assert_eq!(whole.len() == 1, is_one, "{names:?}");
        }
        let mut names = ["part-10", "part-2", "part-1"];
        names.sort_by_key(|name| numbered(name));
        assert_eq!(names, ["part-1", "part-2", "part-10"]);
    }
}
