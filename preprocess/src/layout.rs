//! The layouts interactions come in: which file of a directory, which separator, which columns. Everything that
//! differs between one source and another stands here; past a [`Layout`] all sources are alike.

use std::path::{Path, PathBuf};

use stage::Refusal;
use stage::settings::Format;

/// How the lines of one file are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the layout is called in messages.
    pub name: &'static str,
    /// What stands between two fields.
    pub separator: &'static str,
    /// The separator in words, for messages.
    pub separator_name: &'static str,
    /// Whether the first line names the columns.
    pub header: bool,
    /// The columns, all of them, in the order of the file.
    pub columns: Vec<String>,
    /// Where the user's raw id stands.
    pub user: usize,
    /// Where the item's raw id stands.
    pub item: usize,
    /// Where the rating stands, if there are ratings.
    pub rating: Option<usize>,
    /// Where the timestamp stands, if there are timestamps.
    pub timestamp: Option<usize>,
}

/// The header of MovieLens-20M's `ratings.csv`.
const RATINGS_CSV: [&str; 4] = ["userId", "movieId", "rating", "timestamp"];

/// The columns of a RecBole atomic file that matter, with the type each must have, and whether there must be one.
const INTER: [(&str, &str, bool); 4] = [
    ("user_id", "token", true),
    ("item_id", "token", true),
    ("rating", "float", false),
    ("timestamp", "float", false),
];

/// The formats that can be told by a file's name, and what the name is (or, for `inter`, ends with).
const NAMES: [(Format, &str); 4] = [
    (Format::Movielens100k, "u.data"),
    (Format::Movielens1m, "ratings.dat"),
    (Format::Movielens20m, "ratings.csv"),
    (Format::Inter, ".inter"),
];

/// Finds the file to read: `input` itself, or in a directory the one file whose name belongs to `format`
/// (to any format, where it is `auto`).
pub fn find(input: &Path, format: Format) -> anyhow::Result<PathBuf> {
    if input.is_file() {
        return Ok(input.to_owned());
    }
    let listing = std::fs::read_dir(input).map_err(|error| {
        Refusal::new(format!(
            "no interactions at {} ({error}); expected a file or a directory, such as `gro-preprocess fetch` makes",
            input.display()
        ))
    })?;
    let mut found = Vec::new();
    for entry in listing {
        let path = entry?.path();
        let fits = by_name(&path).is_some_and(|named| format == Format::Auto || named == format);
        if fits && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    let wanted: Vec<&str> = NAMES
        .iter()
        .filter(|(named, _)| format == Format::Auto || *named == format)
        .map(|(_, name)| *name)
        .collect();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Refusal::new(format!(
            "{} holds no interactions; expected one of {}, or give the file itself as --input",
            input.display(),
            wanted.join(", ").replace(".inter", "*.inter")
        ))
        .into()),
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

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn by_name(path: &Path) -> Option<Format> {
    let name = file_name(path);
    let fits = |pattern: &str| name == pattern || (pattern == ".inter" && name.ends_with(pattern));
    NAMES.iter().find(|(_, pattern)| fits(pattern)).map(|(format, _)| *format)
}

/// The format of a file, by its name or else by its first line.
pub fn recognise(path: &Path, first_line: &str) -> anyhow::Result<Format> {
    if let Some(format) = by_name(path) {
        return Ok(format);
    }
    let fields = |separator| first_line.split(separator).count();
    if first_line.split('\t').any(|field| field.ends_with(":token")) {
        Ok(Format::Inter)
    } else if first_line.starts_with("userId,") {
        Ok(Format::Movielens20m)
    } else if fields("::") == 4 {
        Ok(Format::Movielens1m)
    } else if fields("\t") == 4 {
        Ok(Format::Movielens100k)
    } else {
        Err(Refusal::new(format!(
            "{}: neither its name nor its first line ({}) tells its layout; set preprocess.format",
            path.display(),
            shorten(first_line)
        ))
        .into())
    }
}

/// `text` in quotes, cut to a length that fits a message.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl Layout {
    /// The layout of a file of `format`, whose first line is `first_line`.
    pub fn of(path: &Path, format: Format, first_line: &str) -> anyhow::Result<Self> {
        match format {
            Format::Auto => Self::of(path, recognise(path, first_line)?, first_line),
            Format::Movielens100k => Ok(Self::movielens("MovieLens-100K", "\t", "tabs")),
            Format::Movielens1m => Ok(Self::movielens("MovieLens-1M", "::", "`::`")),
            Format::Movielens20m => {
                let columns: Vec<String> = first_line.split(',').map(str::to_owned).collect();
                let expected = format!("the columns {}", RATINGS_CSV.join(","));
                let find = |name: &str| position(path, &columns, |column| column == name, name, &expected);
                Ok(Self {
                    name: "MovieLens-20M",
                    separator: ",",
                    separator_name: "commas",
                    header: true,
                    user: find(RATINGS_CSV[0])?,
                    item: find(RATINGS_CSV[1])?,
                    rating: Some(find(RATINGS_CSV[2])?),
                    timestamp: Some(find(RATINGS_CSV[3])?),
                    columns,
                })
            }
            Format::Inter => Self::inter(path, first_line),
        }
    }

    /// Four columns without a header, as MovieLens had them before its csv files.
    fn movielens(name: &'static str, separator: &'static str, separator_name: &'static str) -> Self {
        let columns = ["user", "item", "rating", "timestamp"].map(str::to_owned).to_vec();
        let (rating, timestamp) = (Some(2), Some(3));
        Self { name, separator, separator_name, header: false, columns, user: 0, item: 1, rating, timestamp }
    }

    /// A RecBole atomic file: columns in any order, each named `name:type`, more than are needed.
    fn inter(path: &Path, first_line: &str) -> anyhow::Result<Self> {
        let columns: Vec<String> = first_line.split('\t').map(str::to_owned).collect();
        let mut places = [None; 4];
        for (place, (name, kind, required)) in places.iter_mut().zip(INTER) {
            let full = format!("{name}:{kind}");
            let expected = "tab separated columns user_id:token and item_id:token, and optionally rating:float and \
                            timestamp:float";
            let named = |column: &str| column.split(':').next() == Some(name);
            if !required && !columns.iter().any(|column| named(column)) {
                continue;
            }
            let at = position(path, &columns, named, &full, expected)?;
            if columns[at] != full {
                let message = format!("{}:1: column `{}`, expected `{full}`", path.display(), columns[at]);
                return Err(Refusal::new(message).into());
            }
            *place = Some(at);
        }
        let [user, item, rating, timestamp] = places;
        Ok(Self {
            name: "RecBole .inter",
            separator: "\t",
            separator_name: "tabs",
            header: true,
            columns,
            user: user.unwrap_or_default(),
            item: item.unwrap_or_default(),
            rating,
            timestamp,
        })
    }

    /// The columns that are read, in the order user, item, rating, timestamp.
    pub fn projection(&self) -> Vec<usize> {
        [Some(self.user), Some(self.item), self.rating, self.timestamp].into_iter().flatten().collect()
    }
}

/// Where the one column stands that `fits`.
fn position(
    path: &Path,
    columns: &[String],
    fits: impl Fn(&str) -> bool,
    name: &str,
    expected: &str,
) -> anyhow::Result<usize> {
    let places: Vec<usize> = (0..columns.len()).filter(|&place| fits(&columns[place])).collect();
    let fault = match places.as_slice() {
        [only] => return Ok(*only),
        [] => format!("no column `{name}`"),
        _ => format!("more than one column `{name}`"),
    };
    let header = shorten(&columns.join(" "));
    Err(Refusal::new(format!("{}:1: {fault} in the header {header}, expected {expected}", path.display()))
        .into())
}
