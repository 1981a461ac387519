//! Files as they come packed: by gzip, bzip2, xz or Zstandard, in a zip or tar archive of one file, or in several of these,
//! one within the other. What a file is packed by is told by its first bytes, whatever it is called, and it is unpacked as it
//! is read. Formats that hold tables but are no text, and archives that nothing here unpacks, are refused by their names.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, Write};
use std::path::{Component, Path};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bzip2::read::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use indicatif::ProgressBar;
use lzma_rust2::XzReader;
use zip::ZipArchive;

/// The bytes of a file, unpacked.
pub type Bytes = Box<dyn Read + Send>;

/// What a gzip stream begins with.
const GZIP: &[u8] = &[0x1F, 0x8B];
/// What a zip archive begins with, and an empty one.
const ZIP: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// How many bytes tell what a file is: as many as the header of a tar archive has.
const START: usize = 512;
/// What stands at this place in a tar archive.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// A file that is packed more often is a mistake, or bait.
const DEEPEST: usize = 4;
/// What a thread that unpacks hands over at once.
const CHUNK: usize = 1 << 18;

/// Files that are no text table, by what they begin with.
const FOREIGN: [(&[u8], &str); 23] = [
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive; unpack it first"),
    (b"Rar!", "a rar archive; unpack it first"),
    (b"\x1F\x9D", "packed by compress (.Z); unpack it first"),
    (b"\x04\x22\x4D\x18", "packed by lz4; unpack it first"),
    (b"\x5D\0\0", "packed by lzma; unpack it first"),
    (b"PARE", "an encrypted Parquet file; decrypt it first"),
    (b"\x80\x02", "a pickle of Python; write it as Parquet or csv"),
    (b"\x80\x03", "a pickle of Python; write it as Parquet or csv"),
    (b"\x80\x04", "a pickle of Python; write it as Parquet or csv"),
    (b"\x80\x05", "a pickle of Python; write it as Parquet or csv"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file; write its table as csv"),
    (b"%PDF-", "a PDF document; write its table as csv"),
    (b"\xD0\xCF\x11\xE0", "an old Excel workbook; save it as csv"),
    (b"ARROW1", "an Arrow or Feather file; write it as Parquet"),
    (b"FEA1", "a Feather file; write it as Parquet"),
    (b"ORC", "an ORC file; write it as Parquet"),
    (b"Obj\x01", "an Avro file; write it as Parquet"),
    (b"\x89HDF", "an HDF5 file; write it as Parquet or csv"),
    (b"\x93NUMPY", "a NumPy array; write it as Parquet or csv"),
    (b"SQLite format 3", "a SQLite database; write its table as csv"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; get the file with `git lfs pull`"),
    (b"<!DOCTYPE", "a web page; what was downloaded is most likely a message"),
    (b"<html", "a web page; what was downloaded is most likely a message"),
];

/// Opens a file and unpacks it as it is read; `progress` counts the bytes read of the file.
///
/// # Errors
/// What cannot be read or unpacked, and what is no text.
pub fn open(path: &Path, progress: &ProgressBar) -> io::Result<Bytes> {
    let mut file = progress.wrap_read(File::open(path)?);
    let start = start_of(&mut file)?;
    file.rewind()?;
    if is_zip(&start) { unpack(from_zip(file)?) } else { unpack(Box::new(file)) }
}

/// Whether the file, which stands at its start and is left there, begins with `magic`.
pub fn starts_with(file: &mut File, magic: &[u8]) -> io::Result<bool> {
    let start = start_of(file)?;
    file.rewind()?;
    Ok(start.starts_with(magic))
}

/// Whether a file of this name is nobody's table: hidden, a resource fork of macOS, or the sign of a finished job.
pub fn is_passed_over(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => {
            name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"_")
        }
        _ => false,
    })
}

fn is_zip(start: &[u8]) -> bool {
    ZIP.iter().any(|magic| start.starts_with(magic))
}

/// Whether this is bzip2: its mark, a digit, and the mark of a block or of the end.
fn is_bzip2(start: &[u8]) -> bool {
    let blocks = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];
    start.starts_with(b"BZh") && blocks.iter().any(|block| start.get(4..10) == Some(&block[..]))
}

fn start_of(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    source.take(START as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// An error of the file's content.
fn damaged(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Unpacks until there is nothing left to unpack.
fn unpack(mut source: Bytes) -> io::Result<Bytes> {
    for _ in 0..DEEPEST {
        let start = start_of(&mut source)?;
        if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(damaged(format!("it is {what}")));
        }
        let is = |magic: &[u8]| start.starts_with(magic);
        let (gzip, bzip2) = (is(GZIP), is_bzip2(&start));
        let (xz, zstandard) = (is(b"\xFD7zXZ\0"), is(b"\x28\xB5\x2F\xFD"));
        let (zip, parquet) = (is_zip(&start), is(b"PAR1"));
        let tar = start.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1));
        let whole = Cursor::new(start).chain(source);
        source = if gzip {
            Box::new(Members::new(BufReader::with_capacity(1 << 16, whole)))
        } else if bzip2 {
            Box::new(MultiBzDecoder::new(whole))
        } else if xz {
            Box::new(XzReader::new(whole, true))
        } else if zstandard {
            Box::new(zstd::Decoder::new(whole)?)
        } else if tar {
            from_tar(Box::new(whole))?
        } else if zip {
            return Err(damaged("it is a zip archive within a packed file; unpack it first".to_owned()));
        } else if parquet {
            return Err(damaged("it is a packed Parquet file; unpack it first".to_owned()));
        } else {
            return Ok(Box::new(whole));
        };
    }
    Err(damaged(format!("it is packed more than {DEEPEST} times; unpack it first")))
}

/// The streams of a gzip file, one after another. Zeros behind the last one, with which tapes and some programs fill a block,
/// are passed over.
struct Members<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)) }
    }

    /// The member after the one that ended, if any.
    fn next(ended: GzDecoder<R>) -> io::Result<Option<GzDecoder<R>>> {
        let mut source = ended.into_inner();
        loop {
            let ahead = source.fill_buf()?;
            if ahead.is_empty() {
                return Ok(None);
            }
            let zeros = ahead.iter().take_while(|&&byte| byte == 0).count();
            let begins = ahead.get(zeros) == Some(&GZIP[0]);
            if !begins && zeros < ahead.len() {
                return Err(damaged("something other than gzip follows the packed text".to_owned()));
            }
            source.consume(zeros);
            if begins {
                return Ok(Some(GzDecoder::new(source)));
            }
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            self.member = self.member.take().map(Self::next).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// The one file of a zip archive.
fn from_zip(file: impl Read + Seek + Send + 'static) -> io::Result<Bytes> {
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(format!("a zip archive: {error}")))?;
    let names: Vec<String> = (0..archive.len())
        .filter_map(|index| archive.name_for_index(index).and_then(Result::ok).map(Into::into))
        .collect();
    if names.iter().any(|name| name == "[Content_Types].xml") {
        return Err(damaged("it is an Excel workbook; save it as csv".to_owned()));
    }
    let files: Vec<&String> =
        names.iter().filter(|name| !name.ends_with('/') && !is_passed_over(Path::new(name))).collect();
    let [only] = files.as_slice() else { return Err(not_one("zip", &files)) };
    let only = (*only).clone();
    in_thread(move |sink| {
        let mut file = archive.by_name(&only).map_err(|error| damaged(format!("{only}: {error}")))?;
        io::copy(&mut file, sink).map(drop)
    })
}

/// The one file of a tar archive. That there is no other is known at its end.
fn from_tar(source: Bytes) -> io::Result<Bytes> {
    in_thread(move |sink| {
        let mut archive = tar::Archive::new(source);
        let mut files: Vec<String> = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            if !entry.header().entry_type().is_file() || is_passed_over(&path) {
                continue;
            }
            if files.is_empty() {
                io::copy(&mut entry, sink)?;
            }
            files.push(path.display().to_string());
        }
        if files.len() == 1 { Ok(()) } else { Err(not_one("tar", &files)) }
    })
}

/// The refusal of an archive that does not hold one file.
fn not_one(kind: &str, files: &[impl AsRef<str>]) -> io::Error {
    let names: Vec<&str> = files.iter().take(5).map(AsRef::as_ref).collect();
    let more = if files.len() > names.len() { ", …" } else { "" };
    damaged(match files.len() {
        0 => format!("it is a {kind} archive without a file in it"),
        count => format!(
            "it is a {kind} archive of {count} files ({}{more}), expected one; unpack it and give the table as --input",
            names.join(", ")
        ),
    })
}

/// What `unpack` writes, to be read here: for archives, whose files cannot outlive them.
fn in_thread(unpack: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static) -> io::Result<Bytes> {
    let (to, chunks) = sync_channel(4);
    std::thread::Builder::new().name("unpack".to_owned()).spawn(move || {
        let mut sink = Sink { to, chunk: Vec::new() };
        let ended = unpack(&mut sink).and_then(|()| sink.flush());
        if let Err(error) = ended {
            // A reader that is gone needs no message.
            sink.to.send(Err(error)).ok();
        }
    })?;
    Ok(Box::new(Unpacked { chunks, chunk: Cursor::default() }))
}

/// Where a thread writes what it unpacks.
struct Sink {
    to: SyncSender<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        self.to.send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What a thread unpacked.
struct Unpacked {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Cursor<Vec<u8>>,
}

impl Read for Unpacked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            match self.chunks.recv() {
                Ok(chunk) => self.chunk = Cursor::new(chunk?),
                // The thread is done.
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn read(content: &[u8]) -> io::Result<Vec<u8>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("any.name");
        std::fs::write(&path, content)?;
        let mut text = Vec::new();
        open(&path, &ProgressBar::hidden())?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn text_is_unpacked_whatever_packed_it() {
        // "one\ntwo\n" by bzip2 and xz, whose writers this program has no use for.
        let bzip2 = b"\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\xa7\x14\x2b\x77\x00\x00\x02\xc1\x80\x00\x10\x02\x01\x84\x80\x20\x00\x21\x80\x0c\x02\x38\xf5\x1b\x8b\xb9\x22\x9c\x28\x48\x53\x8a\x15\xbb\x80";
        let xz = b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x0c\x00\x00\x00\x8f\x98\x41\x9c\x01\x00\x07\x6f\x6e\x65\x0a\x74\x77\x6f\x0a\x00\x51\xab\x9e\xaf\x57\x75\x70\x49\x00\x01\x20\x08\xbb\x19\xd9\xbb\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a";
        let text = b"one\ntwo\n";
        let two = [gzip(b"one\n"), gzip(b"two\n"), vec![0; 700]].concat();
        let files: &[(&str, &[u8])] = &[("._a.csv", b"x"), ("d/a.csv", text), (".DS_Store", b"y")];
        let large = b"0123456789".repeat(100_000);
        for (name, packed, expected) in [
            ("plain", text.to_vec(), &text[..]),
            ("gzip", gzip(text), text),
            ("gzip of two, padded", two, text),
            ("zip", zip(files), text),
            ("zip of gzip", zip(&[("a.csv.gz", &gzip(text))]), text),
            ("bzip2", bzip2.to_vec(), text),
            ("xz", xz.to_vec(), text),
            ("tar", tar(files), text),
            ("tar.gz", gzip(&tar(files)), text),
            ("zstd", zstd::encode_all(&text[..], 1).unwrap(), text),
            ("large tar", tar(&[("a.csv", &large)]), &large),
            ("large zip", zip(&[("a.csv", &large)]), &large),
            ("nothing in gzip", gzip(b""), b""),
            ("nothing", Vec::new(), b""),
        ] {
            assert_eq!(read(&packed).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_named() {
        let two: &[(&str, &[u8])] = &[("a.csv", b"1"), ("b.csv", b"2")];
        let whole = gzip(&b"0123456789".repeat(100));
        let mut behind = gzip(b"a");
        behind.extend(b"more");
        let mut deep = b"text".to_vec();
        for _ in 0..6 {
            deep = gzip(&deep);
        }
        for (packed, part) in [
            (zip(two), "a zip archive of 2 files (a.csv, b.csv), expected one"),
            (tar(two), "a tar archive of 2 files (a.csv, b.csv), expected one"),
            (zip(&[]), "a zip archive"),
            (zip(&[("[Content_Types].xml", b"")]), "an Excel workbook"),
            (gzip(&zip(two)), "a zip archive within a packed file"),
            (gzip(b"PAR1"), "a packed Parquet file"),
            (behind, "something other than gzip follows"),
            (deep, "packed more than 4 times"),
            (b"7z\xBC\xAF\x27\x1C".to_vec(), "a 7z archive"),
            (b"<!DOCTYPE html>".to_vec(), "a web page"),
        ] {
            let message = read(&packed).unwrap_err().to_string();
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(read(&whole[..whole.len() - 9]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
