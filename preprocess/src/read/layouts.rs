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
use stage::settings::{Columns, Preprocess};

use crate::read::fault::shorten;
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
    /// What its files are called: `*` stands for any text, and a `.gz` at the end does not count.
    pub files: &'static [&'static str],
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
    /// Its first line, without the line's end.
    pub first_line: &'a str,
    /// The columns that the settings name.
    pub columns: &'a Columns,
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
        if settings.columns.is_named() {
            return Ok(Some(&table::TABLE));
        }
        match settings.format.as_str() {
            "auto" => Ok(None),
            name => match LAYOUTS.find(name) {
                Ok(layout) => Ok(Some(layout)),
                Err(unknown) => Err(Refusal::new(format!("`preprocess.format`: {unknown}"))),
            },
        }
    }

    /// The layout of the file at `path`, by its name or else by its first line.
    ///
    /// # Errors
    /// A refusal where neither tells.
    pub fn recognise(path: &Path, first_line: &str) -> Result<&'static Self, Refusal> {
        let name = unpacked_name(path);
        let by_name = recognisable().find(|layout| layout.owns(&name));
        by_name.or_else(|| recognisable().find(|layout| (layout.begins)(first_line))).ok_or_else(|| {
            Refusal::new(format!(
                "{}: neither its name nor its first line ({}) tells its layout; set preprocess.format, or for a table \
                 preprocess.columns",
                path.display(),
                shorten(first_line)
            ))
        })
    }

    /// Whether a file of this name, which does not end in `.gz`, is one of this layout's.
    fn owns(&self, name: &str) -> bool {
        self.files.iter().any(|pattern| fits(pattern, name))
    }
}

/// The layouts that a file shows by its name or its first line.
fn recognisable() -> impl Iterator<Item = &'static Layout> {
    LAYOUTS.iter().filter(|layout| layout.needs.is_none())
}

/// Finds the file to read: `input` itself, or in a directory the one file whose name is one of `layout`'s. Without a
/// layout, the names of all that a name can tell count.
///
/// # Errors
/// A refusal where there is no such file, or more than one.
pub fn find(input: &Path, layout: Option<&Layout>) -> anyhow::Result<PathBuf> {
    if input.is_file() {
        return Ok(input.to_owned());
    }
    let listing = std::fs::read_dir(input).map_err(|error| {
        Refusal::new(format!(
            "no interactions at {} ({error}); expected a file or a directory, such as `gro-preprocess fetch` makes",
            input.display()
        ))
    })?;
    let layouts: Vec<&Layout> = layout.map_or_else(|| recognisable().collect(), |layout| vec![layout]);
    let mut found = Vec::new();
    for entry in listing {
        let path = entry?.path();
        let name = unpacked_name(&path);
        if layouts.iter().any(|layout| layout.owns(&name)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let names: Vec<&str> = layouts.iter().flat_map(|layout| layout.files).copied().collect();
            Err(Refusal::new(format!(
                "{} holds no interactions; expected one of {}, or give the file itself as --input",
                input.display(),
                names.join(", "),
            ))
            .into())
        }
        several => {
            let names: Vec<String> = several.iter().map(|path| file_name(path)).collect();
            Err(Refusal::new(format!(
                "{} holds several tables ({}); give one of them as --input, or set preprocess.format",
                input.display(),
                names.join(", ")
            ))
            .into())
        }
    }
}

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

/// The name of a file without the `.gz` of a packed one.
fn unpacked_name(path: &Path) -> String {
    let mut name = file_name(path);
    let length = name.strip_suffix(".gz").unwrap_or(&name).len();
    name.truncate(length);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let [user, item] = ["user", "item"].map(|name| Some(name.to_owned()));
        let columns = Columns { user, item, ..Columns::default() };
        for layout in LAYOUTS.entries {
            let head = Head { path: Path::new("a"), first_line: layout.example, columns: &columns };
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
}
