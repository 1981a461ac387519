//! Files and commands as people have them, after public reports of what went wrong with such: each with the right value, or
//! with the refusal that says what to do.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BinaryArray, Decimal128Array, DictionaryArray, Float64Array, Int64Array, ListArray,
    RecordBatch, StringArray,
};
use arrow_schema::Schema;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;

use super::*;

/// The sequences of a data set as `user: item item`, a line a user.
pub(crate) fn lines(data: &Data) -> Vec<String> {
    data.users
        .iter()
        .zip(&data.sequences)
        .map(|(user, items)| format!("{user}: {}", items.join(" ")))
        .collect()
}

pub(crate) fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|&setting| ["--set", setting]).collect()
}

/// Reads a file and gives the sequences and the log.
pub(crate) fn made(name: &str, content: impl AsRef<[u8]>, settings: &[&str]) -> (Vec<String>, String) {
    let bench = Bench::new();
    bench.file(name, content);
    let output = bench.run(name, "out", &set(settings));
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    (lines(&read(&bench.path("out"))), stderr(&output))
}

pub(crate) fn refused(name: &str, content: impl AsRef<[u8]>, settings: &[&str]) -> String {
    let bench = Bench::new();
    bench.file(name, content);
    bench.refusal(name, &set(settings))
}

pub(crate) const UIT: &str = "preprocess.columns={user: u, item: i, timestamp: t}";
pub(crate) const UI: &str = "preprocess.columns={user: u, item: i}";

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Six ratings as MovieLens has them, and what becomes of them.
pub(crate) const RATINGS: &str = "userId,movieId,rating,timestamp\n7,11,3.5,1112486027\n7,12,4.0,1112484676\n7,13,1.0,1136160000\n8,11,5.0,1094785740\n8,13,2.0,1094785734\n8,12,2.5,1094785800\n";
pub(crate) const RATED: [&str; 2] = ["7: 12 11 13", "8: 13 11 12"];

#[test]
fn a_quotation_mark_that_nothing_closes_is_named() {
    let text = "u,i,t,title\n1,1,1,ok\n1,2,2,ok\n1,3,3,ok\n1,4,4,ok\n1,5,5,\"12 inch\n1,6,6,ok\n1,7,7,ok\n1,8,8,ok\n1,9,9,ok\n";
    let message = refused("x.csv", text, &[UIT]);
    assert!(message.contains("x.csv:6: ") && message.contains("nothing closes"), "{message}");
    // So it is with 150,000 rows behind it, and where the next title closes it.
    let mut long = String::from("u,i,t,title\n1,1,1,\"12 inch\n");
    for row in 0..150_000 {
        writeln!(long, "{},{row},{row},ok", row % 50).unwrap();
    }
    let message = refused("x.csv", &long, &[UIT]);
    assert!(message.contains("x.csv:2: "), "{message}");
    let message = refused("x.csv", text.replace("1,9,9,ok", "1,9,9,\"8 inch"), &[UIT]);
    assert!(message.contains("x.csv:6: ") && message.contains("8 inch"), "{message}");
    // As text like any other, or where it is meant, all nine rows are there.
    let all = ["1: 1 2 3 4 5 6 7 8 9"];
    assert_eq!(made("x.csv", text, &[UIT, "preprocess.quotes=false"]).0, all);
    let (found, log) = made("x.csv", text.replace("\"12 inch", "\"12\ninch\""), &[UIT]);
    assert_eq!(found, all);
    assert!(log.contains("1 rows of") && log.contains("over several lines"), "{log}");
}

#[test]
fn no_rating_is_dropped_unasked_and_every_filter_says_what_it_took() {
    let text =
        "user_id,anime_id,rating\n1,20,-1\n1,24,-1\n1,79,-1\n1,226,8\n3,20,8\n3,154,-1\n3,170,9\n3,199,10\n";
    let columns = "preprocess.columns={user: user_id, item: anime_id, rating: rating}";
    let (found, log) = made("rating.csv", text, &[columns]);
    assert_eq!(found, ["1: 20 24 79 226", "3: 20 154 170 199"]);
    assert!(!log.contains("left out"), "{log}");
    let (found, log) = made("rating.csv", text, &[columns, "preprocess.min_rating=0"]);
    assert_eq!(found, ["3: 20 170 199"]);
    assert!(log.contains("left out 4 interactions rated below 0"), "{log}");
    assert!(log.contains("left out 1 users with fewer than 3 interactions"), "{log}");
}

#[test]
fn raw_counts_come_before_any_filter() {
    let bench = Bench::new();
    bench.file("u.data", "1\t1\t5\t1\n1\t2\t5\t2\n1\t3\t5\t3\n2\t9\t1\t4\n");
    let log = stderr(&bench.run("u.data", "out", &set(&["preprocess.min_rating=4"])));
    assert!(log.contains("read 4 interactions of 2 users with 4 items"), "{log}");
    let stats: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.path("out/stats.json")).unwrap()).unwrap();
    let raw = ["raw_interactions", "raw_users", "raw_items"].map(|key| stats[key].as_u64().unwrap());
    assert_eq!((raw, stats["users"].as_u64()), ([4, 2, 4], Some(1)));
}

#[test]
fn histories_of_recbole_are_no_interactions() {
    let text =
        "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t2 3 4\t5\n1\t2 3 4 5\t6\n1\t2 3 4 5 6\t7\n";
    let message = refused("a.inter", text, &[]);
    assert!(message.contains("a.inter:1: column `item_id_list:token_seq` holds histories"), "{message}");
}

#[test]
fn amazon_has_either_first_and_what_does_not_tell_is_refused() {
    let mut old = String::new();
    let mut new = String::new();
    for user in 1..=3 {
        for item in 1..=4 {
            let time = 1_500_000_000 + 10 * user + item;
            writeln!(old, "A{user},B{item},5.0,{time}").unwrap();
            writeln!(new, "B{item},A{user},5.0,{time}").unwrap();
        }
    }
    let right = ["A1: B1 B2 B3 B4", "A2: B1 B2 B3 B4", "A3: B1 B2 B3 B4"];
    for (name, text) in [("All_Beauty.csv", &new), ("ratings_Beauty.csv", &new), ("ratings_Beauty.csv", &old)]
    {
        assert_eq!(made(name, text, &["preprocess.format=amazon"]).0, right, "{name}");
    }
    assert_eq!(made("ratings_Beauty.csv", &new, &[]).0, right);
    let unclear = old.replace(['A', 'B'], "");
    let message = refused("ratings_Beauty.csv", &unclear, &[]);
    assert!(
        message.contains("do not tell whether the user or the item") && message.contains("user: 1"),
        "{message}"
    );
    for (columns, text) in
        [("{user: 1, item: 2, timestamp: 4}", &old), ("{user: 2, item: 1, timestamp: 4}", &new)]
    {
        assert_eq!(made("x.csv", text, &[&format!("preprocess.columns={columns}")]).0, right);
    }
    let header = "user_id,parent_asin,rating,timestamp\n".to_owned() + &old;
    assert_eq!(made("All_Beauty.csv", header, &[]).0, right);
}

#[test]
fn a_missing_value_is_not_a_user() {
    let text = "sessionId,userId,itemId,eventdate\n1,NA,10,2016-05-09\n2,NA,11,2016-05-09\n3,NA,12,2016-05-10\n4,7,10,2016-05-08\n4,7,11,2016-05-09\n4,7,12,2016-05-10\n";
    let columns = "preprocess.columns={user: userId, item: itemId, timestamp: eventdate}";
    for missing in ["NA", "NaN", "null", "None", ""] {
        let text = text.replace("NA", missing);
        let message = refused("views.csv", &text, &[columns]);
        assert!(message.contains("views.csv:2: column `userId` is"), "{message}");
        assert!(message.contains("preprocess.incomplete=skip"), "{message}");
        let (found, log) = made("views.csv", &text, &[columns, "preprocess.incomplete=skip"]);
        assert_eq!(found, ["7: 10 11 12"]);
        assert!(log.contains("3 of the 6 lines") && log.contains("passed over"), "{log}");
    }
    // Who knows better says so.
    assert_eq!(
        made("views.csv", text, &[columns, "preprocess.missing=[]"]).0,
        ["7: 10 11 12", "NA: 10 11 12"]
    );
    let json = "{\"user_id\": \"A\", \"parent_asin\": \"B1\", \"timestamp\": 1}\n{\"user_id\": \"A\", \"parent_asin\": null, \"timestamp\": 2}\n{\"user_id\": \"A\", \"timestamp\": 2}\n{\"user_id\": \"A\", \"parent_asin\": \"B3\", \"timestamp\": 3}\n{\"user_id\": \"A\", \"parent_asin\": \"B4\", \"timestamp\": 4}\n";
    let columns = "preprocess.columns={user: user_id, item: parent_asin, timestamp: timestamp}";
    let message = refused("x.jsonl", json, &[columns]);
    assert!(message.contains("x.jsonl:2: column `parent_asin` is empty"), "{message}");
    let (found, log) = made("x.jsonl", json, &[columns, "preprocess.incomplete=skip"]);
    assert_eq!(found, ["A: B1 B3 B4"]);
    assert!(log.contains("2 of the 5 lines"), "{log}");
}

#[test]
fn ids_are_what_they_look_like() {
    let (found, log) = made("x.csv", "u,i\n7 ,1\n7,2\n7 ,3\n7,4\n7,5\n7 ,6\n", &[UI]);
    assert_eq!(found, ["7: 1 2 3 4 5 6"]);
    assert!(log.contains("3 ids in x.csv had blanks around them"), "{log}");
    let (found, log) = made("x.csv", "u,i\n7,1\n7,2\n7,3\n07,1\n07,2\n07,3\n", &[UI]);
    assert_eq!(found, ["07: 1 2 3", "7: 1 2 3"]);
    assert!(log.contains("such as 07 and 7"), "{log}");
    let message = refused("x.csv", "u,i\n1.23457E+15,1\n1.23457E+15,2\n1.23457E+15,3\n", &[UI]);
    assert!(message.contains("x.csv:2: column `u`") && message.contains("spreadsheet"), "{message}");
    let message = refused("x.csv", "u,i\n7,1\n7,2\n7,\0\n", &[UI]);
    assert!(message.contains("x.csv:4: column `i`") && message.contains("'\\0'"), "{message}");
}

#[test]
fn lines_of_something_else_are_no_sequences() {
    let format = "preprocess.format=sequences";
    for (text, part) in [
        (
            "0\t2010-10-19T23:55:27Z\t30.2\t-97.7\t22847\n0\t2010-10-18T22:17:43Z\t30.3\t-97.8\t420315\n",
            "is a date",
        ),
        ("1 50 4.5\n1 51 3.5\n1 52 4.0\n", "is a number with a fraction"),
        ("1 50 4 881250949\n1 51 3 881250950\n2 52 4 881250951\n", "the last is a time"),
    ] {
        let message = refused("Gowalla.txt", text, &[format]);
        assert!(message.contains(part) && message.contains("preprocess.columns"), "{message}");
    }
    let (found, _) = made(
        "Gowalla.txt",
        "0\t2010-10-19T23:55:27Z\t30.2\t-97.7\t3\n0\t2010-10-18T22:17:43Z\t30.3\t-97.8\t2\n0\t2010-10-17T22:17:43Z\t30.3\t-97.8\t1\n",
        &["preprocess.columns={user: 1, item: 5, timestamp: 2}"],
    );
    assert_eq!(found, ["0: 1 2 3"]);
}

#[test]
fn a_name_that_two_columns_have_is_refused_in_every_format() {
    for (name, text) in [
        ("x.csv", "u,i,i\n7,1,2\n"),
        ("x.tsv", "u\ti\ti\n7\t1\t2\n"),
        ("x.csv", "u;i;i\n7;1;2\n"),
        ("x.jsonl", "{\"u\": 7, \"i\": 1, \"i\": 2}\n"),
        ("x.json", "{'u': 7, 'i': 1, 'i': 2}\n"),
    ] {
        let message = refused(name, text, &[UI]);
        assert!(
            message.contains("more than one column `i`") || message.contains("twice"),
            "{name}: {message}"
        );
    }
    let bench = Bench::new();
    let numbers = |first: i64| Arc::new(Int64Array::from_iter_values(first..first + 3)) as ArrayRef;
    parquet(
        &bench,
        "x.parquet",
        vec![("u", Arc::new(Int64Array::from(vec![7; 3]))), ("i", numbers(11)), ("i", numbers(21))],
    );
    let message = bench.refusal("x.parquet", &set(&[UI]));
    assert!(message.contains("more than one column `i`"), "{message}");
}

/// Writes a Parquet file with columns in this order, whose names may recur.
pub(crate) fn parquet(bench: &Bench, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let fields: Vec<arrow_schema::Field> = columns
        .iter()
        .map(|(name, column)| arrow_schema::Field::new(*name, column.data_type().clone(), true))
        .collect();
    let batch = RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns.into_iter().map(|(_, column)| column).collect(),
    );
    let batch = batch.unwrap();
    let path = bench.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_is_read_as_databases_write_it() {
    let users = |rows: usize| Arc::new(Int64Array::from(vec![7; rows])) as ArrayRef;
    let decimals = Decimal128Array::from(vec![7_i128; 3]).with_precision_and_scale(38, 0).unwrap();
    let dictionary: DictionaryArray<Int32Type> = ["b", "a", "b", "c"].into_iter().collect();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(3), Some(1), Some(2)]),
        Some(vec![Some(2)]),
    ]);
    let bench = Bench::new();
    let numbers = || Arc::new(Int64Array::from_iter_values(1..4)) as ArrayRef;
    for (columns, expected) in [
        (vec![("u", Arc::new(decimals) as ArrayRef), ("i", numbers())], "7: 1 2 3"),
        (vec![("u", users(4)), ("i", Arc::new(dictionary) as ArrayRef)], "7: b a b c"),
        (vec![("u", users(2)), ("i", Arc::new(lists) as ArrayRef)], "7: 3 1 2 2"),
        (vec![("u", Arc::new(Float64Array::from(vec![7.0; 3])) as ArrayRef), ("i", numbers())], "7: 1 2 3"),
        (
            vec![("u", Arc::new(BinaryArray::from(vec![&b"7"[..]; 3])) as ArrayRef), ("i", numbers())],
            "7: 1 2 3",
        ),
    ] {
        parquet(&bench, "x.parquet", columns);
        assert_eq!(lines(&bench.data("x.parquet", &set(&[UI]))), [expected]);
    }
    // In parts, of which the tenth comes after the second, beside what Spark leaves.
    for (part, item) in [(10, 3), (2, 2), (1, 1)] {
        let one = Arc::new(Int64Array::from(vec![item])) as ArrayRef;
        parquet(&bench, &format!("parts/part-{part}.snappy.parquet"), vec![("u", users(1)), ("i", one)]);
    }
    bench.file("parts/_SUCCESS", "");
    bench.file("parts/._part-1.snappy.parquet", "x");
    assert_eq!(lines(&bench.data("parts", &set(&[UI]))), ["7: 1 2 3"]);
    let texts =
        Arc::new(StringArray::from(vec![Some("7"), Some("nan"), Some("7"), Some("7"), None])) as ArrayRef;
    parquet(&bench, "x.parquet", vec![("u", texts), ("i", Arc::new(Int64Array::from_iter_values(1..6)))]);
    let message = bench.refusal("x.parquet", &set(&[UI]));
    assert!(message.contains("row 2: column `u` is \"nan\""), "{message}");
    assert_eq!(lines(&bench.data("x.parquet", &set(&[UI, "preprocess.incomplete=skip"]))), ["7: 1 3 4"]);
}

/// Every byte of the footer is damaged in turn: whatever the decoder makes of it, it is no panic.
#[test]
fn a_damaged_parquet_file_is_refused() {
    let bench = Bench::new();
    let text = Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef;
    parquet(&bench, "x.parquet", vec![("u", Arc::new(Int64Array::from(vec![1; 3]))), ("i", text)]);
    let whole = fs::read(bench.path("x.parquet")).unwrap();
    let footer =
        whole.len() - 8 - u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize;
    let mut refused = 0;
    for (at, change) in (footer..whole.len() - 8).step_by(3).zip([0x01, 0x80, 0x10].into_iter().cycle()) {
        let mut damaged = whole.clone();
        damaged[at] ^= change;
        bench.file("x.parquet", &damaged);
        let output = bench.run("x.parquet", "out", &set(&[UI]));
        let message = stderr(&output);
        assert!(
            matches!(output.status.code(), Some(0 | 2)) && !message.contains("panicked"),
            "byte {at}: {message}"
        );
        refused += usize::from(output.status.code() == Some(2));
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn separators_are_told_by_the_header_or_set() {
    for separator in [",", ";", "|", "\t", " ", "::"] {
        let text = RATINGS.replace(',', separator);
        let columns =
            "preprocess.columns={user: userId, item: movieId, timestamp: timestamp, rating: rating}";
        for name in ["x.csv", "x.txt"] {
            assert_eq!(made(name, &text, &[columns]).0, RATED, "{separator:?}");
        }
        let rows = text.split_once('\n').unwrap().1;
        let places = "preprocess.columns={user: 1, item: 2, timestamp: 4}";
        assert_eq!(made("x.dat", rows, &[places]).0, RATED, "{separator:?}");
        // A header is seen where columns are given by their numbers too.
        let (found, log) = made("x.dat", &text, &[places]);
        assert_eq!(found, RATED, "{separator:?}");
        assert!(log.contains("taken for a header"), "{log}");
    }
    let text = RATINGS.replace(',', "^");
    let columns = "preprocess.columns={user: userId, item: movieId, timestamp: timestamp}";
    assert_eq!(made("x.csv", &text, &[columns, "preprocess.separator=^"]).0, RATED);
    let quoted = "\"User-ID\";\"ISBN\";\"Book-Rating\"\n\"7\";\"034545104X\";\"0\"\n\"7\";\"0155061224\";\"5\"\n\"7\";\"a;b\";\"5\"\n";
    let (found, _) = made("BX-Book-Ratings.csv", quoted, &["preprocess.columns={user: User-ID, item: ISBN}"]);
    assert_eq!(found, ["7: 034545104X 0155061224 a;b"]);
    let commas = "user_id:token,item_id:token\n1,2\n1,3\n1,4\n";
    assert_eq!(made("a.inter", commas, &[]).0, ["1: 2 3 4"]);
    let others = "uid:token\tiid:token\tat:float\n1\t2\t3\n1\t3\t2\n1\t4\t1\n";
    let columns = "preprocess.columns={user: uid, item: iid, timestamp: at}";
    for more in ["preprocess.format=inter", "preprocess.format=auto"] {
        assert_eq!(made("a.inter", others, &[columns, more]).0, ["1: 4 3 2"]);
    }
}

#[test]
fn a_header_shows_its_blanks() {
    let text = "u, i, t\n1, 2, 3\n1, 3, 2\n1, 4, 1\n";
    let (found, log) = made("x.csv", text, &[UIT]);
    assert_eq!(found, ["1: 4 3 2"]);
    assert!(log.contains("\"u\", \" i\", \" t\""), "{log}");
    let message = refused("x.csv", text, &["preprocess.columns={user: u, item: item}"]);
    assert!(message.contains("no column `item` in the header \"u\", \" i\", \" t\""), "{message}");
}

#[test]
fn files_without_a_header_are_read_by_number() {
    let text = "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,0\n1,2014-04-07T10:54:46.998Z,214536506,0\n";
    let message = refused("yoochoose-clicks.dat", text, &[]);
    assert!(message.contains("their numbers, counted from 1"), "{message}");
    let columns = "preprocess.columns={user: 1, timestamp: 2, item: 3}";
    let right = ["1: 214536502 214536500 214536506"];
    assert_eq!(made("yoochoose-clicks.dat", text, &[columns]).0, right);
    let message = refused("yoochoose-clicks.dat", text, &["preprocess.columns={user: 1, item: 5}"]);
    assert!(message.contains("preprocess.separator") || message.contains("no column 5"), "{message}");
    let message = refused("yoochoose-clicks.dat", text, &["preprocess.columns={user: 0, item: 2}"]);
    assert!(message.contains("counted from 1"), "{message}");
    let message = refused("x.csv", "u,i\n1,2\n", &[UI, "preprocess.header=false"]);
    assert!(message.contains("`preprocess.header` is false"), "{message}");
    let numbered = "7,1\n7,2\n7,3\n";
    assert_eq!(made("x.csv", numbered, &["preprocess.columns={user: 1, item: 2}"]).0, ["7: 1 2 3"]);
    let message =
        refused("x.csv", numbered, &["preprocess.columns={user: 1, item: 2}", "preprocess.header=true"]);
    assert!(message.contains("nothing is left of the 2 interactions"), "{message}");
}

#[test]
fn text_comes_in_other_encodings() {
    let marked = utf16(&format!("\u{feff}{RATINGS}"));
    assert_eq!(made("ratings.csv", &marked, &[]).0, RATED);
    assert_eq!(made("ratings.csv", gzip(&marked), &[]).0, RATED);
    let unmarked = utf16(RATINGS);
    let message = refused("ratings.csv", &unmarked, &[]);
    assert!(
        message.contains("looks like UTF-16LE") && message.contains("preprocess.encoding=utf-16le"),
        "{message}"
    );
    assert_eq!(made("ratings.csv", &unmarked, &["preprocess.encoding=utf-16le"]).0, RATED);
    let latin = b"u,i\n7,caf\xE9\n7,th\xE9\n7,lait\n";
    let message = refused("x.csv", latin, &[UI]);
    assert!(message.contains("x.csv:2: ") && message.contains("looks like windows-1252"), "{message}");
    for name in ["windows-1252", "latin1", "Latin-1", "iso-8859-1"] {
        assert_eq!(
            made("x.csv", latin, &[UI, &format!("preprocess.encoding={name}")]).0,
            ["7: café thé lait"]
        );
    }
    let message = refused("x.csv", latin, &[UI, "preprocess.encoding=klingon"]);
    assert!(message.contains("`preprocess.encoding` is \"klingon\""), "{message}");
    for text in [
        "u,i,t\r7,1,1\r7,2,2\r7,3,3\r",
        "u,i,t\r\n7,1,1\r\n7,2,2\r\n7,3,3",
        "\u{feff}u,i,t\r\r\n7,1,1\r\r\n7,2,2\r\r\n7,3,3\r\r\n",
    ] {
        assert_eq!(made("x.csv", text, &[UIT]).0, ["7: 1 2 3"], "{text:?}");
    }
}

#[test]
fn packed_and_piped_files_are_read() {
    let padded = [gzip(RATINGS.as_bytes()), vec![0; 512]].concat();
    assert_eq!(made("ratings.csv.gz", padded, &[]).0, RATED);
    let message = refused("ratings.csv.gz", gzip(b""), &[]);
    assert!(message.contains("ratings.csv.gz is empty"), "{message}");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in [("__MACOSX/._ratings.csv", "x"), ("ml/ratings.csv", RATINGS)] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    let archive = archive.finish().unwrap().into_inner();
    assert_eq!(made("ratings.csv", &archive, &[]).0, RATED);
    assert_eq!(made("d/ratings.csv.zip", &archive, &[]).0, RATED);
    let bench = Bench::new();
    for input in ["-", "/dev/stdin"] {
        let limits =
            ["--set", "preprocess.min_item_count=1", "--set", "preprocess.min_user_count=3", "--force"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_gro-preprocess"))
            .current_dir(bench.path("."))
            .args(["run", "--input", input, "--out", "out"])
            .args(limits)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(RATINGS.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(lines(&read(&bench.path("out"))), RATED);
    }
}

#[test]
fn copies_of_movielens_are_known_by_their_header() {
    for name in ["ratings_small.csv", "rating.csv", "data.txt", "d/anything.csv"] {
        assert_eq!(made(name, RATINGS, &[]).0, RATED, "{name}");
    }
    let kaggle = "\"userId\",\"movieId\",\"rating\",\"timestamp\"\n7,11,3.5,\"2005-04-02 23:53:47\"\n7,12,4.0,\"2005-04-02 23:31:16\"\n7,13,1.0,\"2006-01-02 00:00:00\"\n";
    for settings in [&[][..], &["preprocess.format=movielens-20m"]] {
        assert_eq!(made("rating.csv", kaggle, settings).0, ["7: 12 11 13"]);
    }
}

#[test]
fn objects_are_read_however_they_are_written() {
    let columns = "preprocess.columns={user: user_id, item: item_id, timestamp: posted}";
    let row = |item: usize, time: usize| {
        format!("{{\"user_id\": \"7\", \"item_id\": \"{item}\", \"posted\": {time}}}")
    };
    let python = |item: usize, time: usize| row(item, time).replace('"', "'");
    let rows = [row(1, 3), row(2, 2), row(3, 1)];
    let pythons = [python(1, 3), python(2, 2), python(3, 1)];
    let pretty = |row: &String| row.replace(", ", ",\n  ").replace('{', "{\n  ").replace('}', "\n}");
    for (name, text) in [
        ("d/reviews.json", rows.join("\n")),
        ("reviews.json", pythons.join("\n")),
        ("reviews.json", format!("[{}]", rows.join(","))),
        ("reviews.json", format!("[\n{}\n]\n", rows.each_ref().map(pretty).join(",\n"))),
        ("reviews.json", rows.each_ref().map(pretty).join("\n")),
    ] {
        assert_eq!(made(name, &text, &[columns]).0, ["7: 3 2 1"], "{text}");
        let bench = Bench::new();
        bench.file("d/reviews.json", text);
        assert_eq!(lines(&bench.data("d", &set(&[columns]))), ["7: 3 2 1"]);
    }
    let broken = format!("[\n{},\n{}", pretty(&rows[0]), &pretty(&rows[1])[..20]);
    let message = refused("reviews.json", broken, &[columns]);
    assert!(message.contains("reviews.json:7: an object opens here"), "{message}");
    let message = refused("reviews.json", "[[1, 2, 3]]", &[columns]);
    assert!(message.contains("holds no rows") || message.contains("expected a JSON object"), "{message}");
}

#[test]
fn times_are_read_as_people_write_them() {
    for times in [
        ["2014-04-07 10:52", "2014-04-07 10:51", "2014-04-07 10:53"],
        ["2014/04/07 10:52:00", "2014/04/07 10:51:59", "2014/04/08 00:00:00"],
        ["2014-04-07 10:52:00 UTC", "2014-04-07 10:51:00 UTC", "2014-04-07 10:53:00 UTC"],
        ["2014-04-07T10:52:00,5", "2014-04-07T10:52:00,4", "2014-04-07T10:52:00,6"],
        ["2014-4-7 9:52", "2014-4-7 9:51", "2014-4-17 1:00"],
        ["2014/4/7", "2014/3/31", "2014/10/1"],
        ["2014-04-07T10", "2014-04-07T09Z", "2014-04-07 11"],
    ] {
        let text = format!("u;i;t\n7;11;{}\n7;12;{}\n7;13;{}\n", times[0], times[1], times[2]);
        assert_eq!(made("x.csv", text, &[UIT]).0, ["7: 12 11 13"], "{times:?}");
    }
    let text = "u,i,t\n7,11,07/04/2014\n7,12,06/05/2013\n7,13,01/01/2015\n";
    let message = refused("x.csv", text, &[UIT]);
    assert!(
        message.contains("x.csv:2: column `t`") && message.contains("preprocess.time_format"),
        "{message}"
    );
    assert_eq!(made("x.csv", text, &[UIT, "preprocess.time_format=%d/%m/%Y"]).0, ["7: 12 11 13"]);
    let message = refused("x.csv", text, &[UIT, "preprocess.time_format=day"]);
    assert!(message.contains("`preprocess.time_format` is \"day\""), "{message}");
}

#[test]
fn rows_are_kept_by_a_column_repeats_go_and_a_second_column_orders() {
    let text = "u,i,t,n,event\n7,1,5,2,view\n7,2,5,1,view\n7,9,5,0,search\n7,1,6,1,view\n7,1,6,2,cart\n7,3,7,1,view\n8,5,1,1,search\n";
    let columns = "preprocess.columns={user: u, item: i, timestamp: t, tiebreak: n}";
    let (found, log) = made("x.csv", text, &[columns, "preprocess.keep.event=view"]);
    assert_eq!(found, ["7: 2 1 1 3"]);
    assert!(
        log.contains("read 7 interactions of 2 users") && log.contains("left out 3 interactions"),
        "{log}"
    );
    let keep = "preprocess.keep={event: [view, cart]}";
    assert_eq!(made("x.csv", text, &[columns, keep]).0, ["7: 2 1 1 1 3"]);
    let (found, log) = made("x.csv", text, &[columns, keep, "preprocess.repeats=consecutive"]);
    assert_eq!(found, ["7: 2 1 3"]);
    assert!(log.contains("left out 2 repeated interactions"), "{log}");
    assert_eq!(made("x.csv", text, &[columns, keep, "preprocess.repeats=all"]).0, ["7: 2 1 3"]);
    let json = "{\"u\": 7, \"i\": 1, \"bought\": true}\n{\"u\": 7, \"i\": 2, \"bought\": false}\n{\"u\": 7, \"i\": 3, \"bought\": true}\n{\"u\": 7, \"i\": 4, \"bought\": true}\n";
    assert_eq!(made("x.jsonl", json, &[UI, "preprocess.keep.bought=true"]).0, ["7: 1 3 4"]);
    let rows = "7,1,view\n7,2,cart\n7,3,view\n7,4,view\n";
    let places = "preprocess.columns={user: 1, item: 2}";
    assert_eq!(made("x.csv", rows, &[places, "preprocess.keep.3=view"]).0, ["7: 1 3 4"]);
    let message = refused("x.csv", text, &[columns, "preprocess.keep.kind=view"]);
    assert!(message.contains("no column `kind`"), "{message}");
}

/// A point in time splits everybody: 12 interactions, of which 8 lie before.
#[test]
fn one_point_in_time_splits_all() {
    let mut text = String::from("u,i,t\n");
    for (user, rows) in [
        ("1", &[(1, 10), (2, 20), (3, 30), (4, 90), (5, 95)][..]),
        ("2", &[(1, 15), (2, 25), (3, 35)]),
        ("3", &[(2, 40), (1, 50), (9, 99)]),
        ("4", &[(3, 85)]),
    ] {
        for (item, time) in rows {
            writeln!(text, "{user},{item},{time}").unwrap();
        }
    }
    let bench = Bench::new();
    bench.file("x.csv", &text);
    let split = ["preprocess.split=time", "preprocess.train_share=0.67", "preprocess.min_user_count=2"];
    let output = bench.run("x.csv", "out", &set(&[&[UIT][..], &split].concat()));
    let log = stderr(&output);
    assert!(output.status.success(), "{log}");
    assert!(
        log.contains("left out 1 users with fewer than 2 interactions (preprocess.min_user_count)"),
        "{log}"
    );
    // Of the 11 that are left, the eighth in time is at 50: what is earlier is before.
    assert!(log.contains("split at 50: 2 users to train on and to validate, 1 of them to test"), "{log}");
    assert!(log.contains("left out 1 users with fewer than 2 interactions before 50"), "{log}");
    assert!(log.contains("1 interactions after the test item are not used"), "{log}");
    let dataset = artifact::dataset::Dataset::read(&bench.path("out")).unwrap();
    let items = artifact::dataset::read_raw_items(&bench.path("out")).unwrap();
    let named = |id: u32| items[id as usize - 1].as_str();
    let user = |index: usize| {
        let train: Vec<&str> = dataset.train(index).iter().map(|&id| named(id)).collect();
        (train, named(dataset.valid(index)), dataset.test(index).map(named))
    };
    assert_eq!([user(0), user(1)], [(vec!["1", "2"], "3", Some("4")), (vec!["1", "2"], "3", None)]);
    assert_eq!(dataset.tested(), [0]);
    let stats = artifact::dataset::Stats::read(&bench.path("out")).unwrap();
    assert_eq!((stats.users, stats.tested_users, stats.interactions), (2, Some(1), 7));
    // What is written can be written for other programs too, and needs times.
    let exported = bench.call(&["export", "--data", "out", "--out", "x.inter"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    assert_eq!(fs::read_to_string(bench.path("x.inter")).unwrap().lines().count(), 8);
    let message = bench.refusal("x.csv", &set(&[&[UI][..], &split].concat()));
    assert!(message.contains("have no times"), "{message}");
}

#[test]
fn a_list_that_is_empty_or_missing_is_a_row_that_lacks_an_item() {
    let bench = Bench::new();
    let write = |second: Option<Vec<Option<i64>>>| {
        let first = Some(vec![Some(3), Some(1), Some(2)]);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([first, second, Some(vec![Some(2)])]);
        let users = Arc::new(Int64Array::from(vec![7; 3])) as ArrayRef;
        parquet(&bench, "x.parquet", vec![("u", users), ("i", Arc::new(lists) as ArrayRef)]);
    };
    for second in [None, Some(Vec::new())] {
        write(second);
        let message = bench.refusal("x.parquet", &set(&[UI]));
        assert!(message.contains("row 2: column `i` is null, expected a raw id"), "{message}");
        let output = bench.run("x.parquet", "skipped", &set(&[UI, "preprocess.incomplete=skip"]));
        let log = stderr(&output);
        assert!(output.status.success() && log.contains("1 of the 5 lines in"), "{log}");
        assert_eq!(lines(&read(&bench.path("skipped"))), ["7: 3 1 2 2"]);
        std::fs::remove_dir_all(bench.path("skipped")).unwrap();
    }
}
