//! A text of lines, cut into blocks of a few megabytes that end where a line ends. Blocks are read one after another
//! and parsed in parallel; each knows the number of its first line, so that a message can name a bad one.

use std::io::{self, Read};
use std::path::Path;

use encoding_rs::Encoding;
use indicatif::ProgressBar;

use crate::read::fault::Fault;
use crate::read::objects::Notation;
use crate::read::packed::Bytes;
use crate::read::{encoding, objects, packed};

/// How much is read at once.
const BLOCK_BYTES: usize = 4 << 20;
/// A longer line is not a row of a table; most likely the file is not text.
const LONGEST_LINE: usize = 1 << 20;
/// How much of a file is looked at to tell its layout.
const SAMPLE_BYTES: usize = 1 << 16;
/// How many lines of it, at most.
const SAMPLE_LINES: usize = 500;

/// Whole lines of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The lines with their ends; only the last line of a file may lack its own.
    pub bytes: Vec<u8>,
    /// The number of the first of them in the file, counted from 1.
    pub first_line: u64,
    /// How many rows of csv among them go on over several lines.
    pub continued: u64,
}

/// Reads a file as blocks of lines.
pub struct Blocks<R> {
    source: R,
    /// What was read past the last whole line.
    rest: Vec<u8>,
    next_line: u64,
    block_bytes: usize,
    finished: bool,
    cut: Cut,
}

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Where a line ends.
    Lines,
    /// Where a line ends outside quotation marks, which stand around fields between these delimiters.
    Records(u8),
    /// Between two objects.
    Objects(Notation),
}

impl Blocks<Bytes> {
    /// Opens a file, packed or not, in the encoding `named` or the one that it shows; `progress` counts the bytes read of it.
    ///
    /// # Errors
    /// What cannot be read, unpacked or decoded.
    pub fn open(
        path: &Path,
        named: Option<&'static Encoding>,
        progress: &ProgressBar,
    ) -> Result<Self, Fault> {
        let text = encoding::decode(packed::open(path, progress)?, named)?;
        Ok(Self::new(text, BLOCK_BYTES))
    }
}

impl<R: Read> Blocks<R> {
    /// Cuts `source` into blocks of about `block_bytes`.
    pub fn new(source: R, block_bytes: usize) -> Self {
        Self { source, rest: Vec::new(), next_line: 1, block_bytes, finished: false, cut: Cut::Lines }
    }

    /// The first lines, without taking them and without their ends: a few hundred, or all. What is not UTF-8 in them is
    /// replaced.
    ///
    /// # Errors
    /// An unreadable source, or a first line without end.
    pub fn sample(&mut self) -> Result<Vec<String>, Fault> {
        let first = self.first_line_end();
        // `json.dump` writes a list of any length in one line.
        let is_list = || self.rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        match first {
            Err(Fault::Line { .. }) if is_list() => {}
            other => drop(other?),
        }
        self.fill(SAMPLE_BYTES)?;
        let end = if self.finished {
            self.rest.len()
        } else {
            memchr::memrchr(b'\n', &self.rest).map_or(self.rest.len(), |end| end + 1)
        };
        let text = String::from_utf8_lossy(&self.rest[..end]);
        Ok(text.lines().take(SAMPLE_LINES).map(|line| line.trim_end_matches('\r').to_owned()).collect())
    }

    /// Skips the first line.
    ///
    /// # Errors
    /// An unreadable source, or a line without end.
    pub fn skip_line(&mut self) -> Result<(), Fault> {
        let end = self.first_line_end()?;
        self.rest.drain(..end);
        self.next_line += 1;
        Ok(())
    }

    /// Where the first line ends, its end included.
    fn first_line_end(&mut self) -> Result<usize, Fault> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                return Ok(end + 1);
            }
            let before = self.rest.len();
            self.check_length(before)?;
            self.fill(before + 4096)?;
            if self.rest.len() == before {
                return Ok(before);
            }
        }
    }

    /// From here on, an end of line within a field in quotation marks does not end the line (as csv has it).
    pub fn quote_fields(&mut self, delimiter: u8) {
        self.cut = Cut::Records(delimiter);
    }

    /// From here on, an object goes on over any number of lines.
    pub fn cut_objects(&mut self, notation: Notation) {
        self.cut = Cut::Objects(notation);
    }

    /// The next lines; `None` at the end of the file.
    ///
    /// # Errors
    /// An unreadable source, a line without end, or a quotation mark that nothing closes.
    pub fn next_block(&mut self) -> Result<Option<Lines>, Fault> {
        let mut wanted = self.block_bytes;
        let whole = loop {
            self.fill(wanted)?;
            if self.finished && self.rest.is_empty() {
                return Ok(None);
            }
            let whole = self.whole()?;
            if whole.bytes > 0 {
                break whole;
            }
            if let (Some(mark), true) = (whole.open, self.rest.len() > LONGEST_LINE) {
                return Err(self.unclosed(mark));
            }
            self.check_length(self.rest.len())?;
            if self.finished {
                break whole;
            }
            wanted = self.rest.len() + self.block_bytes;
        };
        if let (Some(mark), true) = (whole.open, self.finished) {
            return Err(self.unclosed(mark));
        }
        let end = if self.finished { self.rest.len() } else { whole.bytes };
        let rest = self.rest.split_off(end);
        let bytes = std::mem::replace(&mut self.rest, rest);
        let first_line = self.next_line;
        self.next_line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Ok(Some(Lines { bytes, first_line, continued: whole.continued }))
    }

    /// How much of `rest` is whole lines, records or objects.
    fn whole(&self) -> Result<Whole, Fault> {
        match self.cut {
            Cut::Records(delimiter) if memchr::memchr(b'"', &self.rest).is_some() => {
                whole_records(&self.rest, delimiter).map_err(|Misquoted { mark, behind }| {
                    let found = String::from_utf8_lossy(&self.rest[behind..]);
                    let found: String = found.chars().take_while(|letter| *letter != '\n').take(20).collect();
                    let message = format!(
                        "a field opens with a quotation mark here, and {found:?} follows on the next one, expected the end of \
                         the field; within a field a quotation mark is doubled, and preprocess.quotes=false takes them as they \
                         are"
                    );
                    self.fault_at(mark, message)
                })
            }
            Cut::Lines | Cut::Records(_) => {
                let bytes = memchr::memrchr(b'\n', &self.rest).map_or(0, |end| end + 1);
                Ok(Whole { bytes, ..Whole::default() })
            }
            Cut::Objects(notation) => match objects::whole(&self.rest, notation) {
                Ok(objects::Whole { bytes, open }) => Ok(Whole { bytes, open, continued: 0 }),
                Err(place) => {
                    let found = String::from_utf8_lossy(&self.rest[place..]);
                    let found: String = found.chars().take(20).collect();
                    Err(self.fault_at(place, format!("expected {notation}, found {found:?}")))
                }
            },
        }
    }

    /// Reads until `rest` holds `wanted` bytes or the file ends.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.rest.len());
        self.rest.reserve(missing);
        let read = self.source.by_ref().take(missing as u64).read_to_end(&mut self.rest)?;
        self.finished |= read < missing;
        Ok(())
    }

    fn unclosed(&self, mark: usize) -> Fault {
        let message = match self.cut {
            Cut::Objects(_) => {
                "an object opens here that ends neither within a million bytes nor before the file does; expected an object an \
                 interaction"
            }
            Cut::Lines | Cut::Records(_) => {
                "a field opens with a quotation mark that nothing closes; correct the line, or set \
                 preprocess.quotes=false if quotation marks are text like any other"
            }
        };
        self.fault_at(mark, message.to_owned())
    }

    /// The fault of the line that the byte at `place` of `rest` belongs to.
    fn fault_at(&self, place: usize, message: String) -> Fault {
        let before = memchr::memchr_iter(b'\n', &self.rest[..place]).count() as u64;
        Fault::Line { number: self.next_line + before, message }
    }

    fn check_length(&self, length: usize) -> Result<(), Fault> {
        if length <= LONGEST_LINE {
            return Ok(());
        }
        Err(Fault::Line {
            number: self.next_line,
            message: format!(
                "longer than {LONGEST_LINE} bytes, expected a text table with one interaction a line"
            ),
        })
    }
}

/// How much of a text is whole lines or records.
#[derive(Debug, Default, PartialEq, Eq)]
struct Whole {
    /// How many bytes of it.
    bytes: usize,
    /// How many records among them go on over several lines.
    continued: u64,
    /// Where behind them a field opens with a quotation mark, or an object, that nothing closes so far.
    open: Option<usize>,
}

/// A field in quotation marks with something behind the closing one.
#[derive(Debug, PartialEq, Eq)]
struct Misquoted {
    /// Where it opens.
    mark: usize,
    /// Where that something stands.
    behind: usize,
}

/// How much of `text`, which begins a csv record, is whole records. As for the csv
/// parser, a quotation mark opens a quoted field only at the start of the field, and two in a row within it stand for one.
fn whole_records(text: &[u8], delimiter: u8) -> Result<Whole, Misquoted> {
    let mut whole = Whole::default();
    let (mut at, mut continues) = (0, false);
    while at < text.len() {
        if text[at] == b'"' {
            let mark = at;
            at += 1;
            // Up to the first mark that is not doubled.
            loop {
                let Some(next) = memchr::memchr(b'"', &text[at..]) else {
                    whole.open = Some(mark);
                    return Ok(whole);
                };
                at += next + 1;
                if text.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
            continues |= memchr::memchr(b'\n', &text[mark..at]).is_some();
            while text.get(at) == Some(&b' ') && delimiter != b' ' {
                at += 1;
            }
            match text.get(at) {
                None => return Ok(whole),
                Some(&byte) if byte == delimiter || byte == b'\n' || byte == b'\r' => {}
                Some(_) => return Err(Misquoted { mark, behind: at }),
            }
        }
        let Some(end) = memchr::memchr3(delimiter, b'\n', b'\r', &text[at..]) else { return Ok(whole) };
        at += end + 1;
        if text[at - 1] == b'\n' {
            whole.bytes = at;
            whole.continued += u64::from(continues);
            continues = false;
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], block_bytes: usize) -> Vec<Lines> {
        let mut blocks = Blocks::new(text, block_bytes);
        std::iter::from_fn(|| blocks.next_block().unwrap()).collect()
    }

    #[test]
    fn blocks_join_to_the_file_and_know_their_lines() {
        for text in ["", "a\n", "a", "\n\n", "one\ntwo\r\n\nthree\nfour", "one\ntwo\n"] {
            for block_bytes in [1, 2, 4, 7, 100] {
                let blocks = all(text.as_bytes(), block_bytes);
                let mut joined = Vec::new();
                for block in &blocks {
                    assert_eq!(block.first_line, 1 + memchr::memchr_iter(b'\n', &joined).count() as u64);
                    joined.extend_from_slice(&block.bytes);
                }
                assert_eq!(joined, text.as_bytes(), "blocks of {block_bytes}");
                let whole = blocks.iter().rev().skip(1).all(|block| block.bytes.ends_with(b"\n"));
                assert!(whole, "a block of {block_bytes} ends within a line");
            }
        }
    }

    #[test]
    fn the_first_lines_can_be_looked_at_and_skipped() {
        let mut blocks = Blocks::new(&b"head\r\n1\n2\n"[..], 4);
        assert_eq!(blocks.sample().unwrap(), ["head", "1", "2"]);
        blocks.skip_line().unwrap();
        let block = blocks.next_block().unwrap().unwrap();
        assert_eq!((block.first_line, &block.bytes[..2]), (2, &b"1\n"[..]));
        assert!(Blocks::new(&b""[..], 4).sample().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn csv_is_cut_between_records(text in "[a\",\r\n]{0,40}", block_bytes in 1usize..12) {
            let rows = |bytes: &[u8]| -> Vec<csv::ByteRecord> {
                let mut reader = csv::ReaderBuilder::new();
                let mut reader = reader.has_headers(false).flexible(true).from_reader(bytes);
                reader.byte_records().map(Result::unwrap).collect()
            };
            let read = |block_bytes| -> Result<Vec<csv::ByteRecord>, Fault> {
                let mut blocks = Blocks::new(text.as_bytes(), block_bytes);
                blocks.quote_fields(b',');
                let mut joined = Vec::new();
                while let Some(block) = blocks.next_block()? {
                    joined.extend(rows(&block.bytes));
                }
                Ok(joined)
            };
            match (read(block_bytes), read(1000)) {
                (Ok(joined), Ok(_)) => prop_assert_eq!(joined, rows(text.as_bytes())),
                // Only how much is shown of the line may differ.
                (Err(Fault::Line { number, .. }), Err(Fault::Line { number: whole, .. })) => {
                    prop_assert_eq!(number, whole);
                }
                (found, whole) => prop_assert!(false, "{found:?} or {whole:?}, as it is cut"),
            }
        }

        #[test]
        fn csv_is_refused_where_a_quotation_mark_opens_and_nothing_closes(text in "[a\",\r\n]{0,40}") {
            let mut writer = csv::WriterBuilder::new();
            let mut writer = writer.flexible(true).quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            writer.write_record(text.split(',')).unwrap();
            let mut written = writer.into_inner().unwrap();
            let read = |bytes: &[u8]| -> Result<(), Fault> {
                let mut blocks = Blocks::new(bytes, 7);
                blocks.quote_fields(b',');
                while blocks.next_block()?.is_some() {}
                Ok(())
            };
            prop_assert_eq!(read(&written), Ok(()));
            written.extend(b"\"12 inch\n1,2\n");
            prop_assert!(read(&written).is_err());
        }
    }

    #[test]
    fn a_file_without_lines_is_not_swallowed() {
        let text = vec![b'x'; LONGEST_LINE + 10];
        let fault = Blocks::new(&text[..], 4096).next_block().map(|_| ()).unwrap_err();
        assert!(
            matches!(&fault, Fault::Line { number: 1, message } if message.starts_with("longer than")),
            "{fault:?}"
        );
    }

    #[test]
    fn a_quotation_mark_is_named_by_its_line() {
        let fault = |text: &str| {
            let mut blocks = Blocks::new(text.as_bytes(), 8);
            blocks.quote_fields(b',');
            loop {
                match blocks.next_block() {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(Fault::Line { number, message }) => return Some((number, message)),
                    Err(other) => panic!("{other:?}"),
                }
            }
        };
        let many = "1,2,3\n".repeat(400_000);
        for (text, number, part) in [
            ("a,b\n1,\"12 inch\n1,2\n".to_owned(), 2, "nothing closes"),
            (format!("a,b\n1,\"12 inch\n{many}"), 2, "nothing closes"),
            // The next mark closes it, and what follows gives it away.
            ("a,b\n1,\"12 inch\n1,2\n3,\"8 inch\n".to_owned(), 2, "\"8 inch\" follows"),
            ("a,b\n\n1,\"so \\\"they\\\" say\"\n".to_owned(), 3, "is doubled"),
        ] {
            let (found, message) = fault(&text).unwrap();
            assert!(found == number && message.contains(part), "{found}: {message}");
        }
        for text in ["a,b\n\"1\" ,\"x\ny\"\n", "a,b\n1,12\"\n", "\"\"\"\",\"\"", ""] {
            assert_eq!(fault(text), None, "{text:?}");
        }
    }
}
