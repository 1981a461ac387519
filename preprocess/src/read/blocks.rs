//! A file of lines, cut into blocks of a few megabytes that end where a line ends. Blocks are read one after another
//! and parsed in parallel; each knows the number of its first line, so that a message can name a bad one. A gzip stream,
//! known by its first bytes whatever the file is called, is unpacked on the way.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

/// How much is read at once.
const BLOCK_BYTES: usize = 4 << 20;
/// What a gzip stream begins with.
const GZIP: &[u8] = &[0x1F, 0x8B];
/// A longer line is not a row of a table; most likely the file is not text.
const LONGEST_LINE: usize = 1 << 20;

/// Whole lines of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The lines with their ends; only the last line of a file may lack its own.
    pub bytes: Vec<u8>,
    /// The number of the first of them in the file, counted from 1.
    pub first_line: u64,
}

/// Reads a file as blocks of lines.
#[derive(Debug)]
pub struct Blocks<R> {
    source: R,
    /// What was read past the last whole line.
    rest: Vec<u8>,
    next_line: u64,
    block_bytes: usize,
    finished: bool,
    /// The delimiter, where a field in quotation marks may hold line ends.
    quoted_fields: Option<u8>,
}

impl Blocks<Box<dyn Read + Send>> {
    /// Opens a file, packed by gzip or not; `progress` counts the bytes read of it. A byte order mark at the start of
    /// the text is skipped.
    pub fn open(path: &Path, progress: &ProgressBar) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let packed = starts_with(&mut file, GZIP)?;
        let file = progress.wrap_read(file);
        let source: Box<dyn Read + Send> = if packed {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)))
        } else {
            Box::new(file)
        };
        Self::new(source, BLOCK_BYTES)
    }
}

/// Whether the file, which stands at its start and is left there, begins with `magic`.
pub fn starts_with(file: &mut File, magic: &[u8]) -> io::Result<bool> {
    let mut start = Vec::new();
    file.by_ref().take(magic.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == magic)
}

impl<R: Read> Blocks<R> {
    fn new(source: R, block_bytes: usize) -> io::Result<Self> {
        let mut blocks = Self {
            source,
            rest: Vec::new(),
            next_line: 1,
            block_bytes,
            finished: false,
            quoted_fields: None,
        };
        blocks.fill(3)?;
        if blocks.rest.starts_with(b"\xEF\xBB\xBF") {
            blocks.rest.clear();
        }
        Ok(blocks)
    }

    /// The first line, without taking it: empty in an empty file.
    pub fn peek_line(&mut self) -> io::Result<&[u8]> {
        let end = loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                break end;
            }
            let before = self.rest.len();
            self.check_length(before)?;
            self.fill(before + 4096)?;
            if self.rest.len() == before {
                break before;
            }
        };
        let line = &self.rest[..end];
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Skips the first line.
    pub fn skip_line(&mut self) -> io::Result<()> {
        self.peek_line()?;
        let end = memchr::memchr(b'\n', &self.rest).map_or(self.rest.len(), |end| end + 1);
        self.rest.drain(..end);
        self.next_line += 1;
        Ok(())
    }

    /// From here on, an end of line within a field in quotation marks does not end the line (as csv has it).
    pub fn quote_fields(&mut self, delimiter: u8) {
        self.quoted_fields = Some(delimiter);
    }

    /// The next lines; `None` at the end of the file.
    pub fn next_block(&mut self) -> io::Result<Option<Lines>> {
        let mut wanted = self.block_bytes;
        let mut whole = 0;
        while !self.finished {
            self.fill(wanted)?;
            whole = self.whole_lines();
            if whole > 0 {
                break;
            }
            self.check_length(self.rest.len())?;
            wanted = self.rest.len() + self.block_bytes;
        }
        let end = if self.finished { self.rest.len() } else { whole };
        if end == 0 {
            return Ok(None);
        }
        let rest = self.rest.split_off(end);
        let bytes = std::mem::replace(&mut self.rest, rest);
        let first_line = self.next_line;
        self.next_line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Ok(Some(Lines { bytes, first_line }))
    }

    /// How many bytes of `rest` are whole lines.
    fn whole_lines(&self) -> usize {
        match self.quoted_fields {
            None => memchr::memrchr(b'\n', &self.rest).map_or(0, |end| end + 1),
            Some(delimiter) => whole_records(&self.rest, delimiter),
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

    fn check_length(&self, length: usize) -> io::Result<()> {
        if length > LONGEST_LINE {
            let message = format!(
                "line {} is longer than {LONGEST_LINE} bytes, expected a text table with one interaction a line",
                self.next_line
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }
}

/// How many bytes of `text`, which begins a csv record, are whole records. As for the csv
/// parser, a quotation mark opens a quoted field only at the start of the field, and two in a row within it stand for one.
fn whole_records(text: &[u8], delimiter: u8) -> usize {
    let (mut whole, mut at) = (0, 0);
    while at < text.len() {
        if text[at] == b'"' {
            at += 1;
            // Up to the first mark that is not doubled.
            loop {
                let Some(mark) = memchr::memchr(b'"', &text[at..]) else { return whole };
                at += mark + 1;
                if text.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        }
        let Some(end) = memchr::memchr3(delimiter, b'\n', b'\r', &text[at..]) else { return whole };
        at += end + 1;
        if text[at - 1] == b'\n' {
            whole = at;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], block_bytes: usize) -> Vec<Lines> {
        let mut blocks = Blocks::new(text, block_bytes).unwrap();
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
    fn the_first_line_can_be_looked_at_and_skipped() {
        let mut blocks = Blocks::new(&b"\xEF\xBB\xBFhead\r\n1\n2\n"[..], 4).unwrap();
        assert_eq!(blocks.peek_line().unwrap(), b"head");
        blocks.skip_line().unwrap();
        let block = blocks.next_block().unwrap().unwrap();
        assert_eq!((block.first_line, &block.bytes[..2]), (2, &b"1\n"[..]));
        assert_eq!(Blocks::new(&b""[..], 4).unwrap().peek_line().unwrap(), b"");
    }

    proptest! {
        #[test]
        fn csv_is_cut_between_records(text in "[a\",\r\n]{0,40}", block_bytes in 1usize..12) {
            let rows = |bytes: &[u8]| -> Vec<csv::ByteRecord> {
                let mut reader = csv::ReaderBuilder::new();
                let mut reader = reader.has_headers(false).flexible(true).from_reader(bytes);
                reader.byte_records().map(Result::unwrap).collect()
            };
            let mut blocks = Blocks::new(text.as_bytes(), block_bytes).unwrap();
            blocks.quote_fields(b',');
            let mut joined = Vec::new();
            while let Some(block) = blocks.next_block().unwrap() {
                joined.extend(rows(&block.bytes));
            }
            prop_assert_eq!(joined, rows(text.as_bytes()));
        }
    }

    #[test]
    fn a_packed_file_is_unpacked_whatever_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.csv");
        let pack = |text: &[u8]| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(text).unwrap();
            packer.finish().unwrap()
        };
        // Two streams in one file are one text, as gzip has it.
        let whole = [pack(b"\xEF\xBB\xBFone\n"), pack(b"two\n")].concat();
        fs::write(&path, &whole).unwrap();
        let open = || Blocks::open(&path, &ProgressBar::hidden());
        assert_eq!(open().unwrap().next_block().unwrap().unwrap().bytes, b"one\ntwo\n");
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let broken = open().and_then(|mut blocks| blocks.next_block());
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_without_lines_is_not_swallowed() {
        let text = vec![b'x'; LONGEST_LINE + 10];
        let message = Blocks::new(&text[..], 4096).unwrap().next_block().unwrap_err().to_string();
        assert!(message.starts_with("line 1 is longer than"), "{message}");
    }
}
