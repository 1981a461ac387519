//! Text in other encodings than UTF-8, and with other line ends than LF, on its way to the reader, which knows those alone.
//! An encoding is named in the settings, or by a byte order mark; it is never guessed. What is not UTF-8 is refused with a
//! guess at what it is, for the settings.

use std::io::{self, Cursor, Read};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::read::packed::Bytes;

/// How much of a text is looked at to tell how it is written.
const START: usize = 1 << 16;
/// How much is decoded at once.
const CHUNK: usize = 1 << 16;

/// The text as UTF-8 whose lines end in LF or CR LF, without a byte order mark. `named` is the encoding that the settings
/// name.
///
/// # Errors
/// An unreadable source, and UTF-16 that says so neither by a mark nor in the settings. Later, from the reader: bytes that the
/// encoding does not have.
pub fn decode(mut source: Bytes, named: Option<&'static Encoding>) -> io::Result<Bytes> {
    let mut start = Vec::new();
    source.by_ref().take(START as u64).read_to_end(&mut start)?;
    let marked = Encoding::for_bom(&start);
    if start.starts_with(b"\xFF\xFE\0\0") || start.starts_with(b"\0\0\xFE\xFF") {
        return Err(invalid("it is UTF-32, expected UTF-8; convert it first".to_owned()));
    }
    if let (None, None, Some(encoding)) = (marked, named, wide(&start)) {
        return Err(invalid(format!(
            "it looks like {0}, expected UTF-8; set preprocess.encoding={1}",
            encoding.name(),
            encoding.name().to_lowercase()
        )));
    }
    let mark = marked.map_or(0, |(_, length)| length);
    let encoding = marked.map(|(encoding, _)| encoding).or(named).unwrap_or(UTF_8);
    start.drain(..mark);
    let whole: Bytes = Box::new(Cursor::new(start).chain(source));
    let mut text: Bytes = if encoding == UTF_8 {
        whole
    } else {
        Box::new(Decoded {
            source: whole,
            decoder: encoding.new_decoder_without_bom_handling(),
            raw: Vec::new(),
            text: Cursor::default(),
            ended: false,
            position: mark as u64,
        })
    };
    let mut start = Vec::new();
    text.by_ref().take(START as u64).read_to_end(&mut start)?;
    let carriage = ends_lines_by_cr(&start);
    let whole = Cursor::new(start).chain(text);
    Ok(if carriage { Box::new(LineFeeds(whole)) } else { Box::new(whole) })
}

/// The name of the encoding that text which is not UTF-8 most likely has, for a message.
pub fn guess(bytes: &[u8]) -> &'static str {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Deny).name()
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// UTF-16 without a mark: of text in Latin letters every other byte is zero.
fn wide(start: &[u8]) -> Option<&'static Encoding> {
    let zeros = |first: usize| start.iter().skip(first).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd, pairs) = (zeros(0), zeros(1), start.len() / 2);
    if pairs > 0 && odd * 4 > pairs * 3 && even * 4 < pairs {
        Some(UTF_16LE)
    } else if pairs > 0 && even * 4 > pairs * 3 && odd * 4 < pairs {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Whether lines end in CR alone, as on old Macs: a CR that no LF follows stands before the first LF, if there is one.
fn ends_lines_by_cr(start: &[u8]) -> bool {
    let end = memchr::memchr(b'\n', start).unwrap_or(start.len());
    let line = &start[..end];
    let line = if end < start.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    // A CR at the very end of a text may be half of a line end, and ends nothing that matters.
    line.strip_suffix(b"\r").unwrap_or(line).contains(&b'\r') && !line.contains(&b'"')
        || end == start.len() && memchr::memchr_iter(b'\r', line).nth(1).is_some()
}

/// A text, decoded as it is read.
struct Decoded {
    source: Bytes,
    decoder: Decoder,
    /// What was read and not decoded yet.
    raw: Vec<u8>,
    text: Cursor<Vec<u8>>,
    ended: bool,
    /// How many bytes of the source were decoded.
    position: u64,
}

impl Decoded {
    fn fill(&mut self) -> io::Result<()> {
        let read = self.source.by_ref().take(CHUNK as u64).read_to_end(&mut self.raw)?;
        self.ended = read == 0;
        let most = self.decoder.max_utf8_buffer_length_without_replacement(self.raw.len());
        let mut text = vec![0; most.ok_or(io::ErrorKind::OutOfMemory)?];
        let (result, taken, written) =
            self.decoder.decode_to_utf8_without_replacement(&self.raw, &mut text, self.ended);
        self.position += taken as u64;
        if let DecoderResult::Malformed(..) = result {
            let name = self.decoder.encoding().name();
            return Err(invalid(format!(
                "it is not {name} as preprocess.encoding says, at byte {}",
                self.position
            )));
        }
        self.raw.drain(..taken);
        text.truncate(written);
        self.text = Cursor::new(text);
        Ok(())
    }
}

impl Read for Decoded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.text.read(into)?;
            if read > 0 || self.ended || into.is_empty() {
                return Ok(read);
            }
            self.fill()?;
        }
    }
}

/// A text with every CR as LF.
struct LineFeeds<R>(R);

impl<R: Read> Read for LineFeeds<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        for byte in &mut into[..read] {
            if *byte == b'\r' {
                *byte = b'\n';
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GB18030, SHIFT_JIS, WINDOWS_1252};

    use super::*;

    fn read(content: &[u8], named: Option<&'static Encoding>) -> Result<String, String> {
        let mut text = String::new();
        let mut source =
            decode(Box::new(Cursor::new(content.to_vec())), named).map_err(|error| error.to_string())?;
        source.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_mark_or_a_name_tells_the_encoding() {
        let text = "id,né\n1,€\n";
        let long = text.repeat(50_000);
        assert_eq!(read(format!("\u{feff}{text}").as_bytes(), None).unwrap(), text);
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            assert_eq!(read(&utf16(&format!("\u{feff}{text}"), bytes), None).unwrap(), text);
            assert_eq!(read(&utf16(&format!("\u{feff}{long}"), bytes), None).unwrap(), long);
        }
        assert_eq!(read(&utf16(text, u16::to_le_bytes), Some(UTF_16LE)).unwrap(), text);
        assert_eq!(read(b"id,n\xE9\n1,\x80\n", Some(WINDOWS_1252)).unwrap(), text);
        let (packed, ..) = GB18030.encode(text);
        assert_eq!(read(&packed, Some(GB18030)).unwrap(), text);
    }

    #[test]
    fn what_is_not_as_it_is_said_to_be_is_refused() {
        let message = read(&utf16("userId,movieId\n1,2\n", u16::to_le_bytes), None).unwrap_err();
        assert!(
            message.contains("looks like UTF-16LE") && message.contains("preprocess.encoding=utf-16le"),
            "{message}"
        );
        let message = read(&utf16("userId,movieId\n1,2\n", u16::to_be_bytes), None).unwrap_err();
        assert!(message.contains("UTF-16BE"), "{message}");
        let message = read(b"ab\xFF\n", Some(SHIFT_JIS)).unwrap_err();
        assert!(message.contains("is not Shift_JIS") && message.contains("byte 3"), "{message}");
        assert_eq!(
            guess("caf\u{e9} au lait, déjà vu".chars().map(|c| c as u8).collect::<Vec<_>>().as_slice()),
            "windows-1252"
        );
    }

    #[test]
    fn lines_may_end_as_they_did_on_old_macs() {
        for (text, expected) in [
            ("u,i\r1,2\r", "u,i\n1,2\n"),
            ("u,i\r1,2", "u,i\n1,2"),
            ("u,i\r\n1,2\r\n", "u,i\r\n1,2\r\n"),
            ("u,i\n1,2\r", "u,i\n1,2\r"),
            ("u,i\r\r\n1,2\r\r\n", "u,i\r\r\n1,2\r\r\n"),
            ("u,i\r", "u,i\r"),
        ] {
            assert_eq!(read(text.as_bytes(), None).unwrap(), expected, "{text:?}");
        }
    }
}
