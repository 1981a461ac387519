//! The layouts interactions come in: which file of a directory, how a line is cut into fields, which columns.
//! Everything that differs between one source of lines and another stands here; past a [`Layout`] all are alike. (A
//! Parquet table has no lines; [`columnar`](crate::columnar) reads it.)

use std::path::{Path, PathBuf};

use stage::Refusal;
use stage::settings::{Columns, Format, Preprocess};

/// How the lines of one file are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the layout is called in messages.
    pub name: &'static str,
    /// How a line is cut into fields.
    pub form: Form,
    /// Whether the first line names the columns.
    pub header: bool,
    /// The columns: all of them, in the order of the file, where a line has fields by place; those that are read, where
    /// it has them by name.
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

/// How a line is cut into fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// At every separator; a quotation mark is a character like any other.
    Separated {
        /// What stands between two fields.
        separator: &'static str,
        /// The separator in words, for messages.
        name: &'static str,
    },
    /// At commas, but for those in quotation marks (RFC 4180). A field in quotation marks may go on over several lines.
    Csv,
    /// A JSON object.
    Json,
    /// A Python dictionary literal. A line without one of the columns is passed over.
    Python,
    /// A user and the items that follow, between blanks.
    Sequence,
}

const TABS: Form = Form::Separated { separator: "\t", name: "tabs" };
const COLONS: Form = Form::Separated { separator: "::", name: "`::`" };
const COMMAS: Form = Form::Separated { separator: ",", name: "commas" };

/// The header of MovieLens-20M's `ratings.csv`.
const RATINGS_CSV: [&str; 4] = ["userId", "movieId", "rating", "timestamp"];

/// The keys of a Steam review that are read: user, item, timestamp.
const STEAM: [&str; 3] = ["username", "product_id", "date"];

/// The columns of a RecBole atomic file that matter, with the type each must have, and whether there must be one.
const INTER: [(&str, &str, bool); 4] = [
    ("user_id", "token", true),
    ("item_id", "token", true),
    ("rating", "float", false),
    ("timestamp", "float", false),
];

/// What the files of a format are called; `*` stands for anything, and a `.gz` at the end does not count.
const NAMES: [(Format, &str); 12] = [
    (Format::Movielens100k, "u.data"),
    (Format::Movielens1m, "ratings.dat"),
    (Format::Movielens20m, "ratings.csv"),
    (Format::Inter, "*.inter"),
    (Format::Steam, "steam_reviews.json"),
    (Format::Amazon, "ratings_*.csv"),
    (Format::Table, "*.csv"),
    (Format::Table, "*.tsv"),
    (Format::Table, "*.jsonl"),
    (Format::Table, "*.ndjson"),
    (Format::Table, "*.parquet"),
    (Format::Sequences, "*.txt"),
];

/// The formats whose files' names and contents are anybody's, so that only the settings can tell them.
const UNTOLD: [Format; 2] = [Format::Table, Format::Sequences];

/// The format that the settings ask for: columns that are named are those of a table.
pub fn wanted(settings: &Preprocess) -> Format {
    if settings.columns.is_named() { Format::Table } else { settings.format }
}

/// Finds the file to read: `input` itself, or in a directory the one file whose name belongs to `format`
/// (to any format that a name can tell, where it is `auto`).
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
    let patterns: Vec<&str> = patterns(format).map(|(_, pattern)| pattern).collect();
    let mut found = Vec::new();
    for entry in listing {
        let path = entry?.path();
        let name = unpacked_name(&path);
        if patterns.iter().any(|pattern| fits(pattern, &name)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Refusal::new(format!(
            "{} holds no interactions; expected one of {}, or give the file itself as --input",
            input.display(),
            patterns.join(", "),
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

/// The names that belong to `format`.
fn patterns(format: Format) -> impl Iterator<Item = (Format, &'static str)> {
    NAMES.into_iter().filter(move |(named, _)| match format {
        Format::Auto => !UNTOLD.contains(named),
        format => *named == format,
    })
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

/// The format of a file, by its name or else by its first line. Amazon's has no line of its own: other releases of the
/// same ratings have the item first.
fn recognise(path: &Path, first_line: &str) -> anyhow::Result<Format> {
    let name = unpacked_name(path);
    if let Some((format, _)) = patterns(Format::Auto).find(|(_, pattern)| fits(pattern, &name)) {
        return Ok(format);
    }
    let fields = |separator| first_line.split(separator).count();
    if first_line.split('\t').any(|field| field.ends_with(":token")) {
        Ok(Format::Inter)
    } else if first_line.starts_with("userId,") {
        Ok(Format::Movielens20m)
    } else if first_line.starts_with('{') && STEAM.iter().any(|key| first_line.contains(&format!("'{key}'")))
    {
        Ok(Format::Steam)
    } else if fields("::") == 4 {
        Ok(Format::Movielens1m)
    } else if fields("\t") == 4 {
        Ok(Format::Movielens100k)
    } else {
        Err(Refusal::new(format!(
            "{}: neither its name nor its first line ({}) tells its layout; set preprocess.format, or for a table \
             preprocess.columns",
            path.display(),
            shorten(first_line)
        ))
        .into())
    }
}

/// How the lines of a table are cut, by the file's name or else by its first line.
fn table_form(path: &Path, first_line: &str) -> anyhow::Result<Form> {
    let name = unpacked_name(path);
    let extension = Path::new(&name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "csv" => Ok(Form::Csv),
        "tsv" => Ok(TABS),
        "jsonl" | "ndjson" => Ok(Form::Json),
        _ if first_line.starts_with('{') => Ok(Form::Json),
        _ if first_line.contains('\t') => Ok(TABS),
        _ if first_line.contains(',') => Ok(Form::Csv),
        _ => Err(Refusal::new(format!(
            "{}: neither its name nor its first line ({}) tells what table it is; call it .csv, .tsv, .jsonl or .parquet",
            path.display(),
            shorten(first_line)
        ))
        .into()),
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
    /// The layout of a file of `format`, whose first line is `first_line`; `named` are the columns of a table.
    pub fn of(path: &Path, format: Format, named: &Columns, first_line: &str) -> anyhow::Result<Self> {
        match format {
            Format::Auto => Self::of(path, recognise(path, first_line)?, named, first_line),
            Format::Movielens100k => Ok(Self::without_header("MovieLens-100K", TABS)),
            Format::Movielens1m => Ok(Self::without_header("MovieLens-1M", COLONS)),
            Format::Movielens20m => {
                let [user, item, rating, timestamp] = RATINGS_CSV.map(|name| Some(name.to_owned()));
                let named = Columns { user, item, timestamp, rating };
                let columns = first_line.split(',').map(str::to_owned).collect();
                Self::with_header(path, "MovieLens-20M", COMMAS, columns, &named)
            }
            Format::Inter => Self::inter(path, first_line),
            Format::Steam => {
                let [user, item, timestamp] = STEAM.map(|name| Some(name.to_owned()));
                Ok(Self::by_name(
                    "Steam reviews",
                    Form::Python,
                    &Columns { user, item, timestamp, rating: None },
                ))
            }
            Format::Amazon => Ok(Self::without_header("Amazon ratings", COMMAS)),
            Format::Table => match table_form(path, first_line)? {
                Form::Json => Ok(Self::by_name("JSON lines", Form::Json, named)),
                Form::Csv => Self::with_header(path, "csv", Form::Csv, csv_header(first_line)?, named),
                form => {
                    let columns = first_line.split('\t').map(str::to_owned).collect();
                    Self::with_header(path, "tsv", form, columns, named)
                }
            },
            Format::Sequences => Ok(Self {
                name: "sequences",
                form: Form::Sequence,
                header: false,
                columns: ["user", "items"].map(str::to_owned).to_vec(),
                user: 0,
                item: 1,
                rating: None,
                timestamp: None,
            }),
        }
    }

    /// Four columns without a header, as MovieLens had them before its csv files.
    fn without_header(name: &'static str, form: Form) -> Self {
        let columns = ["user", "item", "rating", "timestamp"].map(str::to_owned).to_vec();
        let (rating, timestamp) = (Some(2), Some(3));
        Self { name, form, header: false, columns, user: 0, item: 1, rating, timestamp }
    }

    /// Columns in any order, more than are needed, with a header that names them.
    fn with_header(
        path: &Path,
        name: &'static str,
        form: Form,
        columns: Vec<String>,
        named: &Columns,
    ) -> anyhow::Result<Self> {
        let names: Vec<&str> = named_columns(named).into_iter().flatten().collect();
        let expected = format!("the columns {}", names.join(","));
        let find = |name: Option<&str>| {
            name.map(|name| position(path, &columns, |column| column == name, name, &expected)).transpose()
        };
        let [user, item, rating, timestamp] = named_columns(named);
        Ok(Self {
            name,
            form,
            header: true,
            user: find(user)?.unwrap_or_default(),
            item: find(item)?.unwrap_or_default(),
            rating: find(rating)?,
            timestamp: find(timestamp)?,
            columns,
        })
    }

    /// Lines that name every field themselves.
    fn by_name(name: &'static str, form: Form, named: &Columns) -> Self {
        let [_, _, rating, timestamp] = named_columns(named);
        let (rating, timestamp) =
            (rating.map(|_| 2), timestamp.map(|_| if rating.is_some() { 3 } else { 2 }));
        let columns = named_columns(named).into_iter().flatten().map(str::to_owned).collect();
        Self { name, form, header: false, columns, user: 0, item: 1, rating, timestamp }
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
            form: TABS,
            header: true,
            columns,
            user: user.unwrap_or_default(),
            item: item.unwrap_or_default(),
            rating,
            timestamp,
        })
    }
}

/// The names of the columns for user, item, rating and timestamp; the settings' check has it that the first two are named.
pub fn named_columns(named: &Columns) -> [Option<&str>; 4] {
    [&named.user, &named.item, &named.rating, &named.timestamp].map(Option::as_deref)
}

/// The columns that the first line of a csv table names.
fn csv_header(first_line: &str) -> anyhow::Result<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(first_line.as_bytes());
    let mut header = csv::StringRecord::new();
    reader.read_record(&mut header)?;
    Ok(header.iter().map(str::to_owned).collect())
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
