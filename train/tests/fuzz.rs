//! Damaged files of weights from elsewhere: each is imported or refused, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::io::{Cursor, Write};
use std::path::Path;

use fuzzing::Target;
use train::foreign::Foreign;
use zip::write::SimpleFileOptions;

/// A pickled dict of two float32 tensors, under `model_state_dict` or bare, as `torch.save` writes it.
fn pickle(wrapped: bool) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    let mut out = b"\x80\x02".to_vec();
    if wrapped {
        out.extend(b"}(");
        text(&mut out, "model_state_dict");
    }
    out.extend(b"}(");
    for (storage, name) in ["weight", "bias"].iter().enumerate() {
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &storage.to_string());
        text(&mut out, "cpu");
        out.extend(b"K\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(if wrapped { &b"uu."[..] } else { b"u." });
    out
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("archive/data.pkl", options).unwrap();
    archive.write_all(pickle).unwrap();
    for storage in 0..2 {
        archive.start_file(format!("archive/data/{storage}"), options).unwrap();
        archive.write_all(&[0; 24]).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn read(path: &Path) -> Result<(), String> {
    let mut weights = Foreign::open(path).map_err(|refusal| refusal.to_string())?;
    weights.shorten();
    let names: Vec<String> = weights.shapes().keys().map(|name| (*name).to_owned()).collect();
    for name in names {
        weights.read(&name).map_err(|refusal| refusal.to_string())?;
    }
    Ok(())
}

#[test]
fn a_damaged_archive_is_imported_or_refused() {
    let directory = fuzzing::directory();
    let seeds = [archive(&pickle(false)), archive(&pickle(true))];
    Target::new("archive", seeds)
        .tokens(&["PK\x03\x04", "PK\x01\x02", "data.pkl"])
        .holds_in(&directory.path().join("model.pth"), read);
}

#[test]
fn a_damaged_pickle_is_imported_or_refused() {
    let directory = fuzzing::directory();
    let path = directory.path().join("model.pth");
    // The words of the format, among them those that make the longest things of the fewest bytes.
    let tokens = [
        "(",
        "t",
        "}",
        "]",
        "R",
        "b",
        "Q",
        "u",
        "e",
        "s",
        "0",
        "2",
        "N",
        "K\x01",
        "M\x01\x01",
        "J\u{7f}\u{7f}",
        "h\x01",
        "q\x01",
    ];
    Target::new("pickle", [pickle(false), pickle(true)]).tokens(&tokens).holds(|bytes| {
        std::fs::write(&path, archive(bytes)).unwrap();
        read(&path)
    });
}

#[test]
fn a_damaged_safetensors_file_is_imported_or_refused() {
    let directory = fuzzing::directory();
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0, data));
        bytes
    };
    let seeds = [
        file(r#"{"module.a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#, 24),
        file(
            r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[],"data_offsets":[4,6]}}"#,
            6,
        ),
    ];
    let tokens = ["\"F64\"", "\"I64\"", "[0,0]", "18446744073709551615", "__metadata__", "{", "}"];
    let path = directory.path().join("model.safetensors");
    Target::new("safetensors", seeds).tokens(&tokens).holds_in(&path, read);
}
