//! Damaged files of every layout: whatever stands in one, reading it gives interactions or a refusal, never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int64Type;
use arrow_array::{Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use fuzzing::Target;
use indicatif::ProgressBar;
use parquet::arrow::ArrowWriter;
use preprocess::read::Part;
use stage::Refusal;
use stage::settings::Preprocess;

/// What the readers give a meaning to, beside what stands in the seeds.
const TOKENS: [&str; 24] = [
    "\"",
    "\"\"",
    ",",
    ";",
    "\t",
    "::",
    "\n",
    "\r",
    "\r\n",
    "\0",
    "NA",
    "null",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "\\u",
    "'",
    "u'",
    "-",
    "1e999",
    "\u{feff}",
    "18446744073709551616",
];

/// Has changed copies of `seeds`, called `name`, read with every one of `settings`, one of which reads a seed.
fn fuzz(target: &str, name: &str, seeds: impl IntoIterator<Item = Vec<u8>>, settings: &[Preprocess]) {
    // In memory where there is a place for that: a million files are written.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.unwrap();
    let path = directory.path().join(name);
    Target::new(target, seeds).tokens(&TOKENS).holds(|content| {
        fs::write(&path, content).unwrap();
        let mut refusal = String::new();
        let mut whole = false;
        for settings in settings {
            match preprocess::read::read(&[Part::from(path.clone())], settings, &ProgressBar::hidden()) {
                Ok(table) => whole |= table.rows_read() > 0,
                Err(error) => {
                    let is_refusal = error.downcast_ref::<Refusal>().is_some();
                    assert!(is_refusal || error.downcast_ref::<artifact::Error>().is_some(), "{error:?}");
                    refusal = error.to_string();
                }
            }
        }
        if whole { Ok(()) } else { Err(refusal) }
    });
}

fn settings(text: &str) -> Preprocess {
    serde_yaml::from_str(text).unwrap()
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const NAMED: &str = "columns: {user: u, item: i, timestamp: t, rating: r}";

#[test]
fn movielens() {
    let texts =
        ["1\t50\t5\t881250949\n1\t51\t4\t881250950\n", "1::50::5::978300760\n2::51::4::978300761\r\n"];
    fuzz(
        "movielens",
        "ratings",
        seeds(&texts),
        &[Preprocess::default(), settings("{incomplete: skip, min_rating: 3}")],
    );
}

#[test]
fn movielens_csv() {
    let texts = [
        "userId,movieId,rating,timestamp\n7,11,3.5,1112486027\n7,12,4.0,1112484676\n",
        "\"userId\",\"movieId\",\"rating\",\"timestamp\"\n7,11,3.5,\"2005-04-02 23:53:47\"\n",
    ];
    fuzz(
        "movielens_csv",
        "ratings.csv",
        seeds(&texts),
        &[Preprocess::default(), settings("{incomplete: skip}")],
    );
}

#[test]
fn inter() {
    let texts = ["user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n1\t3\t3\t5\n"];
    fuzz("inter", "a.inter", seeds(&texts), &[Preprocess::default(), settings("{incomplete: skip}")]);
}

#[test]
fn amazon() {
    let texts =
        ["A1,B1,5.0,1369699200\nA2,B1,5.0,1369699201\n", "B1,A1,5.0,1369699200\nB1,A2,5.0,1369699201\n"];
    fuzz("amazon", "ratings_a.csv", seeds(&texts), &[Preprocess::default()]);
}

#[test]
fn steam() {
    let text = "{u'username': u'Ann', u'hours': 0.1, u'text': u\"it's \\u2014\", u'product_id': 725280, u'date': u'2017-12-17'}\n{'username': None, 'product_id': '5', 'date': '2018-01-09'}\n";
    fuzz("steam", "steam_reviews.json", seeds(&[text]), &[Preprocess::default()]);
}

#[test]
fn text_tables() {
    let texts = [
        "u,i,t,r,note\n1,2,3,4,\"two\nlines, \"\"quoted\"\"\"\n1,3,2014-04-07 10:52,4,x\n",
        "u;i;t;r\n1;2;3;4\n",
        "u\ti\tt\tr\n1\t2\t3\t4\n",
        "u|i|t|r\r\n1|2|2014/04/07 10:52:00 UTC|4\r\n",
        "u i t r\n1 2 3 4\n",
    ];
    let all = [
        settings(NAMED),
        settings("{columns: {user: u, item: i}, incomplete: skip, keep: {r: [4]}}"),
        settings("{columns: {user: 1, item: 2, timestamp: 3}, incomplete: skip}"),
        settings(
            "{columns: {user: u, item: i, timestamp: t, tiebreak: r}, encoding: utf-16le, quotes: false}",
        ),
    ];
    fuzz("text_tables", "a.csv", seeds(&texts), &all);
}

#[test]
fn json_lines() {
    let texts = [
        "{\"u\": 1, \"i\": \"2\", \"t\": 3, \"r\": 4.5, \"x\": [{\"u\": 0}, null]}\n{\"u\": \"\\u00e9\", \"i\": 1, \"t\": 1e3, \"r\": 1}\n",
    ];
    fuzz(
        "json_lines",
        "a.jsonl",
        seeds(&texts),
        &[settings(NAMED), settings("{columns: {user: u, item: i}, incomplete: skip, keep: {r: 1}}")],
    );
}

#[test]
fn json_objects() {
    let texts = [
        "[\n {\"u\": 1, \"i\": \"}\\\"\", \"t\": 3, \"r\": 4},\n {\n\"u\": 2, \"i\": 3, \"t\": 4, \"r\": 5}\n]\n",
    ];
    fuzz(
        "json_objects",
        "a.json",
        seeds(&texts),
        &[settings(NAMED), settings("{columns: {user: u, item: i}, incomplete: skip}")],
    );
}

#[test]
fn sequences() {
    let texts = ["1 50 172 133\n2 7 8 9\r\n", "1 5\n1 6\n2 5\n"];
    fuzz(
        "sequences",
        "a.txt",
        seeds(&texts),
        &[settings("format: sequences"), settings("{format: sequences, incomplete: skip}")],
    );
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

#[test]
fn packed() {
    let text = b"userId,movieId,rating,timestamp\n7,11,3.5,1112486027\n7,12,4.0,1112484676\n";
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("ratings.csv", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(text).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, "ratings.csv", &text[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let seeds = vec![
        gzip(text),
        [gzip(text), vec![0; 64]].concat(),
        zip.finish().unwrap().into_inner(),
        gzip(&tar),
        tar,
        zstd::encode_all(&text[..], 1).unwrap(),
    ];
    fuzz("packed", "ratings.csv", seeds, &[Preprocess::default()]);
}

#[test]
fn parquet() {
    let write = |batch: &RecordBatch| {
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        file
    };
    let numbers = || Arc::new(Int64Array::from_iter_values(0..40));
    let texts = Arc::new(StringArray::from_iter_values((0..40).map(|id| format!("id {id}"))));
    let ratings = Arc::new(Float64Array::from_iter_values((0..40).map(f64::from)));
    let lists =
        ListArray::from_iter_primitive::<Int64Type, _, _>((0..40).map(|row| Some(vec![Some(row); 2])));
    let flat = RecordBatch::try_from_iter(vec![
        ("u", numbers() as arrow_array::ArrayRef),
        ("i", texts),
        ("t", numbers()),
        ("r", ratings),
    ]);
    let listed =
        RecordBatch::try_from_iter(vec![("u", numbers() as arrow_array::ArrayRef), ("i", Arc::new(lists))]);
    let seeds = [write(&flat.unwrap()), write(&listed.unwrap())];
    fuzz(
        "parquet",
        "a.parquet",
        seeds,
        &[settings(NAMED), settings("{columns: {user: u, item: i}, incomplete: skip}")],
    );
}
