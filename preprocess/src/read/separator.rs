//! What stands between the fields of a line: said by the settings, or told by the first lines. With the names of columns it is
//! the separator under which the header has them all; with their numbers, the one under which all lines have as many fields.

use std::fmt;

use stage::settings::Column;

/// What stands between two fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Separator {
    /// One character.
    Byte(u8),
    /// A text, such as `::`.
    Text(String),
    /// Any number of blanks and tabs.
    Blanks,
}

impl Separator {
    /// Those that are told apart by the lines, the likeliest first: a decimal comma must not hide a semicolon.
    fn usual() -> [Self; 6] {
        [
            Self::Byte(b'\t'),
            Self::Text("::".to_owned()),
            Self::Byte(b';'),
            Self::Byte(b'|'),
            Self::Byte(b','),
            Self::Blanks,
        ]
    }

    /// What `preprocess.separator` says; `None` for `auto`.
    pub fn named(setting: &str) -> Option<Self> {
        Some(match setting {
            "auto" => return None,
            "tab" | "\\t" => Self::Byte(b'\t'),
            "comma" => Self::Byte(b','),
            "semicolon" => Self::Byte(b';'),
            "pipe" => Self::Byte(b'|'),
            "blank" | "blanks" | "space" => Self::Blanks,
            text if text.trim_matches(' ').is_empty() => Self::Blanks,
            text => match text.as_bytes() {
                &[byte] => Self::Byte(byte),
                _ => Self::Text(text.to_owned()),
            },
        })
    }

    /// Whether fields between these are in quotation marks where nothing says otherwise and the first line is `header`.
    pub fn quotes(&self, header: &str) -> bool {
        match self {
            Self::Byte(b',' | b';' | b'|') => true,
            Self::Byte(_) => self.cut(header).any(|field| field.starts_with('"') && field.ends_with('"')),
            Self::Text(_) | Self::Blanks => false,
        }
    }

    /// Whether a field of this line stands in quotation marks, between separators that fields in such marks may hold.
    pub fn is_quoted(&self, line: &str) -> bool {
        let in_marks = |field: &str| field.len() > 1 && field.starts_with('"') && field.ends_with('"');
        matches!(self, Self::Byte(_)) && self.cut(line).any(in_marks)
    }

    /// The fields of a line, whose quotation marks are text like any other.
    pub fn cut<'t>(&'t self, line: &'t str) -> Box<dyn Iterator<Item = &'t str> + 't> {
        match self {
            &Self::Byte(byte) => Box::new(line.split(char::from(byte))),
            Self::Text(text) => Box::new(line.split(text.as_str())),
            Self::Blanks => Box::new(line.split_ascii_whitespace()),
        }
    }

    /// The fields of a line as they are read: without quotation marks around them where `quoted`.
    pub fn fields(&self, line: &str, quoted: bool) -> Vec<String> {
        if let (&Self::Byte(delimiter), true) = (self, quoted) {
            let mut reader = csv::ReaderBuilder::new();
            let mut reader = reader.has_headers(false).delimiter(delimiter).from_reader(line.as_bytes());
            let mut record = csv::StringRecord::new();
            // From text in memory nothing but UTF-8 can come.
            reader.read_record(&mut record).ok();
            return record.iter().map(str::to_owned).collect();
        }
        self.cut(line).map(str::to_owned).collect()
    }

    /// The separator of a header that names all of `names`, or else the one of most fields.
    pub fn of_header(header: &str, names: &[&str]) -> Self {
        let usual = Self::usual();
        let fields = |separator: &Self| separator.fields(header, separator.quotes(header));
        let has = |fields: &[String], name: &str| {
            let is_it = |field: &String| field.trim() == name || field.trim().split(':').next() == Some(name);
            fields.iter().any(is_it)
        };
        let named = usual.iter().find(|separator| {
            let fields = fields(separator);
            names.iter().all(|name| has(&fields, name))
        });
        // Blanks stand in names and texts too: they count last.
        let most = || usual[..5].iter().rev().max_by_key(|separator| fields(separator).len());
        let widest = || most().filter(|separator| fields(separator).len() > 1);
        named.or_else(widest).cloned().unwrap_or(Self::Blanks)
    }

    /// The separator under which all `lines` have the same number of fields, enough for the columns; `None` where there is
    /// none.
    pub fn of_lines(lines: &[String], columns: &[&Column]) -> Option<Self> {
        let places = columns.iter().map(|column| match column {
            Column::Place(place) => *place,
            Column::Name(name) => name.parse().unwrap_or(1),
        });
        let least = places.max().unwrap_or(1).max(2);
        let filled = || lines.iter().filter(|line| !line.trim().is_empty());
        Self::usual().into_iter().find(|separator| {
            let count = |line: &String| separator.fields(line, separator.quotes(line)).len();
            let first = filled().next().map(count);
            first.is_some_and(|first| first >= least && filled().all(|line| count(line) == first))
        })
    }
}

impl fmt::Display for Separator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(b'\t') => out.write_str("tabs"),
            Self::Byte(b',') => out.write_str("commas"),
            Self::Byte(b';') => out.write_str("semicolons"),
            Self::Byte(b'|') => out.write_str("`|`"),
            Self::Byte(byte) => write!(out, "`{}`", char::from(*byte)),
            Self::Text(text) => write!(out, "`{text}`"),
            Self::Blanks => out.write_str("blanks"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_by_the_names_in_it() {
        let names = ["user id", "item"];
        for (header, separator) in [
            ("user id\titem\tat", Separator::Byte(b'\t')),
            ("user id,item,at", Separator::Byte(b',')),
            ("\"user id\";\"a, b\";\"item\"", Separator::Byte(b';')),
            (" user id | item ", Separator::Byte(b'|')),
            ("user id::item", Separator::Text("::".to_owned())),
            ("user id:token\titem:token", Separator::Byte(b'\t')),
            // None has them: the one of most fields.
            ("User;Item;When, or never", Separator::Byte(b';')),
            ("a b", Separator::Blanks),
        ] {
            assert_eq!(Separator::of_header(header, &names), separator, "{header}");
        }
        assert_eq!(Separator::of_header("user item  at", &["user", "at"]), Separator::Blanks);
    }

    #[test]
    fn lines_tell_by_how_many_fields_they_have() {
        let columns = [&Column::Place(1), &Column::Place(3)];
        for (lines, separator) in [
            (
                &["1,2014-04-07 10:51:09,214,0", "1,2014-04-07 10:54:09,215,0"][..],
                Some(Separator::Byte(b',')),
            ),
            (&["1;2,5;3", "1;2;4"], Some(Separator::Byte(b';'))),
            (&["1 2  3", "1 2 4", ""], Some(Separator::Blanks)),
            (&["1,2", "1,2"], None),
            (&["1,2,3", "1,2"], None),
            (&["1,\"a, b\",3", "1,2,3"], Some(Separator::Byte(b','))),
        ] {
            let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
            assert_eq!(Separator::of_lines(&lines, &columns), separator, "{lines:?}");
        }
    }

    #[test]
    fn settings_name_separators() {
        for (text, separator) in [
            ("tab", Separator::Byte(b'\t')),
            ("\t", Separator::Byte(b'\t')),
            (",", Separator::Byte(b',')),
            ("pipe", Separator::Byte(b'|')),
            (" ", Separator::Blanks),
            ("^", Separator::Byte(b'^')),
            ("::", Separator::Text("::".to_owned())),
        ] {
            assert_eq!(Separator::named(text), Some(separator), "{text:?}");
        }
        assert_eq!(Separator::named("auto"), None);
    }
}
