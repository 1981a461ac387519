//! The mistakes of [`cases`](super::cases) in other formats, columns and settings: what is right for one of them is right for its
//! neighbours.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};

use super::cases::{RATED, RATINGS, UI, UIT, gzip, lines, made, parquet, refused, set};
use super::*;

fn column(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// Runs on what a pipe brings.
fn piped(bench: &Bench, input: &str, content: &[u8], more: &[&str]) -> Output {
    let limits = ["--set", "preprocess.min_item_count=1", "--set", "preprocess.min_user_count=3"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_gro-preprocess"));
    command.current_dir(bench.path(".")).args(["run", "--input", input, "--out", "out"]).args(limits);
    let mut child = command.args(more).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have seen enough before it has seen all.
    child.stdin.take().unwrap().write_all(content).ok();
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_is_called_so() {
    let bench = Bench::new();
    for input in ["-", "/dev/stdin"] {
        for (content, part) in [
            (&b""[..], "error: standard input is empty"),
            (b"what\n", "error: standard input: neither its name nor its first line"),
            (b"userId,movieId,rating,timestamp\n7,1\n", "error: standard input:2: expected 4 fields"),
            (b"PK\x03\x04", "error: cannot read standard input: a zip archive"),
            (b"PAR1", "error: standard input is a Parquet table"),
        ] {
            let output = piped(&bench, input, content, &[]);
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
            assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
        }
    }
    // The same bytes are the same input, which a second run finds.
    let log = stderr(&piped(&bench, "-", RATINGS.as_bytes(), &[]));
    assert!(log.contains("read 6 interactions of 2 users with 3 items from standard input"), "{log}");
    let log = stderr(&piped(&bench, "/dev/stdin", RATINGS.as_bytes(), &[]));
    assert!(log.contains("out is up to date"), "{log}");
    for file in ["stage.lock", "run.log"] {
        let text = fs::read_to_string(bench.path("out").join(file)).unwrap();
        assert!(text.contains("standard input") && !text.contains("/copy"), "{text}");
    }
    let output = piped(&bench, "-", RATINGS.replace("12,", "14,").as_bytes(), &[]);
    assert!(stderr(&output).contains("wrote out"), "{}", stderr(&output));
    // A directory in its place, and a pipe with a name.
    let script = format!(
        "{} run --input - --out d < . ; echo $? ; mkfifo pipe; (printf 'what\\n' > pipe) & {0} run --input pipe --out d",
        env!("CARGO_BIN_EXE_gro-preprocess")
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(bench.path(".")).output().unwrap();
    let log = stderr(&output);
    assert!(log.contains("cannot read standard input, expected a table: Is a directory"), "{log}");
    assert!(log.contains("error: pipe: neither its name"), "{log}");
    assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"2\n"[..], Some(2)), "{log}");
}

#[test]
fn partitioned_tables_are_read_in_the_order_of_their_directories() {
    let bench = Bench::new();
    // As pandas and Spark write them: nested, and 10 after 9.
    for (path, item) in [
        ("part/year=2019/month=10/5d-0.parquet", 4),
        ("part/year=2019/month=9/5d-0.parquet", 3),
        ("part/year=2018/month=12/7a-0.parquet", 2),
        ("part/year=__HIVE_DEFAULT_PARTITION__/month=1/7a-1.parquet", 5),
    ] {
        parquet(&bench, path, vec![("u", column(&[7])), ("i", column(&[item]))]);
    }
    bench.file("part/_SUCCESS", "");
    bench.file("part/year=2018/month=12/.7a-0.parquet.crc", "x");
    let output = bench.run("part", "out", &set(&[UI]));
    assert!(stderr(&output).contains("part holds a table in 4 parts"), "{}", stderr(&output));
    assert_eq!(lines(&read(&bench.path("out"))), ["7: 2 3 4 5"]);
    let lock = fs::read_to_string(bench.path("out/stage.lock")).unwrap();
    assert!(lock.contains("../part/year=2019/month=10/5d-0.parquet"), "{lock}");
    let message = bench.refusal("part", &set(&["preprocess.columns={user: u, item: i, timestamp: year}"]));
    assert!(message.contains("it stands in the name of the directory year=2018 alone"), "{message}");
    for (day, rows) in [("2014-04-09", "7,3\n"), ("2014-04-08", "7,1\n7,2\n"), ("2014-04-10", "")] {
        bench.file(&format!("csv/day={day}/part-00000-{day}.csv"), format!("u,i\n{rows}"));
    }
    assert_eq!(lines(&bench.data("csv", &set(&[UI]))), ["7: 1 2 3"]);
    let message = bench.refusal("csv", &set(&["preprocess.columns={user: u, item: i, timestamp: day}"]));
    assert!(message.contains("no column `day`") && message.contains("day=2014-04-08 alone"), "{message}");
    // Of two kinds, they are not one table; and other directories are data sets of their own.
    bench.file("csv/day=2014-04-11/x.jsonl", "{\"u\": 7, \"i\": 4}\n");
    let message = bench.refusal("csv", &set(&[UI]));
    assert!(message.contains("csv holds several tables (day=2014-04-08/part-00000"), "{message}");
    bench.file("raw/ml-20m/ratings.csv", RATINGS);
    let message = bench.refusal("raw", &[]);
    assert!(message.contains("directories in it, such as raw/ml-20m, are not looked into"), "{message}");
}

#[test]
fn parts_without_rows_are_passed_over_aloud() {
    let bench = Bench::new();
    bench.file("d/part-1.csv", "");
    bench.file("d/part-2.csv", "u,i\n7,1\n7,2\n7,3\n");
    let log = stderr(&bench.run("d", "out", &set(&[UI])));
    assert!(
        log.contains("1 of the 2 parts of the table are empty and were passed over, such as d/part-1.csv"),
        "{log}"
    );
    assert_eq!(lines(&read(&bench.path("out"))), ["7: 1 2 3"]);
    bench.file("d/part-2.csv", gzip(b""));
    let message = bench.refusal("d", &set(&[UI]));
    assert!(message.contains("d/part-1.csv is empty"), "{message}");
}

#[test]
fn names_of_files_are_read_in_any_case() {
    for name in ["d/R.JSON", "d/RATINGS.CSV", "d/Ratings.Csv.GZ"] {
        let text = if name.ends_with("JSON") {
            "{\"u\": 7, \"i\": 1, \"t\": 2}\n{\"u\": 7, \"i\": 2, \"t\": 1}\n{\"u\": 7, \"i\": 3, \"t\": 3}\n"
                .to_owned()
        } else {
            "u,i,t\n7,1,2\n7,2,1\n7,3,3\n".to_owned()
        };
        let bench = Bench::new();
        bench.file(name, if name.ends_with("GZ") { gzip(text.as_bytes()) } else { text.into_bytes() });
        assert_eq!(lines(&bench.data("d", &set(&[UIT]))), ["7: 2 1 3"], "{name}");
    }
}

#[test]
fn objects_of_python_go_on_over_lines_too() {
    let columns = "preprocess.columns={user: user_id, item: item_id, timestamp: posted}";
    let row = |item: usize, time: usize| {
        format!(
            "{{'item_id': {item},\n 'posted': {time},\n 'text': \"it's {{fine}} \"\n         'and \\'long\\'',\n 'user_id': u'7'}}"
        )
    };
    let rows = [row(1, 3), row(2, 2), row(3, 1)];
    for text in [
        rows.join("\n"),
        format!("[{}]\n", rows.join(",\n ")),
        format!("[{}]", rows.join(",").replace('\n', "")),
    ] {
        for name in ["reviews.json", "reviews.jsonl"] {
            assert_eq!(made(name, &text, &[columns]).0, ["7: 3 2 1"], "{text}");
        }
    }
    let broken = rows.join("\n").replace("'item_id': 2", "'item_id' 2");
    let message = refused("reviews.json", broken, &[columns]);
    assert!(
        message.contains("reviews.json:6: expected a Python dictionary") && message.contains("expected `:`"),
        "{message}"
    );
    let message = refused("reviews.json", &rows[0][..rows[0].len() - 3], &[columns]);
    assert!(message.contains("reviews.json:1: an object opens here that ends neither"), "{message}");
    // Steam's reviews as pprint, and as JSON, has them.
    let steam =
        |item: usize| format!("{{'username': 'Ann ', 'product_id': '{item}', 'date': '2017-01-0{item}'}}\n");
    let one_a_line: String = [2, 1, 3].map(steam).concat();
    for text in [one_a_line.replace(", ", ",\n "), one_a_line.replace('\'', "\""), one_a_line] {
        assert_eq!(made("steam_reviews.json", &text, &[]).0, ["Ann : 1 2 3"], "{text}");
    }
}

#[test]
fn a_list_in_one_line_may_be_long() {
    let object =
        |row: usize| format!("{{\"u\": {}, \"i\": {row}, \"text\": \"{}\"}}", row % 5, "x".repeat(200));
    let text = format!("[{}]", (0..20_000).map(object).collect::<Vec<_>>().join(", "));
    assert!(text.len() > 4 << 20);
    let bench = Bench::new();
    bench.file("x.json", text);
    let data = bench.data("x.json", &set(&[UI]));
    assert_eq!((data.users.len(), data.items.len()), (5, 20_000));
    // A list whose brackets are lost.
    let text = "{\"u\": 7, \"i\": 1},\n{\"u\": 7, \"i\": 2},\n{\"u\": 7, \"i\": 3}\n";
    assert_eq!(made("x.json", text, &[UI]).0, ["7: 1 2 3"]);
}

#[test]
fn an_object_that_lacks_a_key_shows_those_it_has() {
    for (name, text, part) in [
        (
            "x.jsonl",
            "{\"u\": 7, \" i\": 1}\n",
            "x.jsonl:1: no key `i` in this object, whose keys are \" i\", \"u\"",
        ),
        ("x.json", "{'U': 7, 'i': 1}\n", "x.json:1: no key `u` in this object, whose keys are \"U\", \"i\""),
        (
            "x.json",
            "{\"columns\": [\"u\", \"i\"], \"data\": [[7, 1]]}",
            "whose keys are \"columns\", \"data\"",
        ),
        (
            "x.json",
            "{\"u\": {\"$oid\": \"7\"}, \"i\": 1}\n",
            "`u` is an object, expected a string or a number",
        ),
        ("x.jsonl", "{}\n", "whose keys are none"),
        // Its own message stands where all keys are there.
        ("x.jsonl", "{\"u\": 7, \"i\": null}\n", "x.jsonl:1: column `i` is empty"),
    ] {
        let message = refused(name, text, &[UI]);
        assert!(message.contains(part), "{part}: {message}");
    }
    // NaN is how Python writes null.
    let text = "{\"u\": 7, \"i\": NaN, \"x\": 1}\n{\"u\": 7, \"i\": 1, \"x\": NaN}\n{\"u\": 7, \"i\": 2}\n{\"u\": 7, \"i\": 3}\n";
    for text in [text.to_owned(), text.replace('"', "'").replace("NaN", "nan")] {
        let message = refused("x.json", &text, &[UI]);
        assert!(message.contains("x.json:1: column `i` is empty"), "{message}");
        let (found, log) = made("x.json", &text, &[UI, "preprocess.incomplete=skip"]);
        assert_eq!(found, ["7: 1 2 3"]);
        assert!(log.contains("1 of the 4 lines"), "{log}");
    }
    let bench = Bench::new();
    parquet(&bench, "x.parquet", vec![("u", column(&[7])), (" i", column(&[1]))]);
    let message = bench.refusal("x.parquet", &set(&[UI]));
    assert!(message.contains("no column `i`; its columns are \"u\", \" i\""), "{message}");
}

#[test]
fn blanks_around_ids_are_cut_in_every_format() {
    let users = ["7 ", "7", "\u{a0}7", "7", "7\u{200b}", "\u{feff}7"];
    let rows = |row: &dyn Fn(&str, usize) -> String| -> String {
        users.iter().enumerate().map(|(item, user)| row(user, item + 1) + "\n").collect()
    };
    for (name, text) in [
        ("x.csv", "u,i\n".to_owned() + &rows(&|user, item| format!("{user},{item}"))),
        ("x.tsv", "u\ti\n".to_owned() + &rows(&|user, item| format!("{user}\t{item}"))),
        ("x.csv", "u,i\n".to_owned() + &rows(&|user, item| format!("\"{user}\",{item}"))),
        ("x.jsonl", rows(&|user, item| format!("{{\"u\": \"{user}\", \"i\": {item}}}"))),
        ("x.json", rows(&|user, item| format!("{{'u': '{user}', 'i': {item}}}"))),
    ] {
        let (found, log) = made(name, &text, &[UI]);
        assert_eq!(found, ["7: 1 2 3 4 5 6"], "{text}");
        assert!(log.contains(&format!("4 ids in {name} had blanks around them")), "{log}");
    }
    let bench = Bench::new();
    let texts = Arc::new(StringArray::from(users.to_vec())) as ArrayRef;
    parquet(&bench, "x.parquet", vec![("u", texts), ("i", column(&[1, 2, 3, 4, 5, 6]))]);
    let output = bench.run("x.parquet", "out", &set(&[UI]));
    assert!(stderr(&output).contains("4 ids in x.parquet had blanks around them"), "{}", stderr(&output));
    assert_eq!(lines(&read(&bench.path("out"))), ["7: 1 2 3 4 5 6"]);
}

#[test]
fn a_header_within_the_rows_is_no_row() {
    for (name, text) in [
        ("x.csv", "u,i\n7,1\n7,2\n7,3\nu,i\n7,4\n"),
        ("x.csv", "\"u\";\"i\"\n7;1\n7;2\n7;3\n\"u\";\"i\"\n7;4\n"),
        ("x.tsv", "u\ti\n7\t1\n7\t2\n7\t3\nu\ti\n7\t4\n"),
    ] {
        let message = refused(name, text, &[UI]);
        assert!(message.contains(&format!("{name}:5: the header stands here again")), "{message}");
    }
}

#[test]
fn copies_of_movielens_come_between_other_separators_and_with_a_header() {
    for separator in [";", "\t", "|"] {
        for format in ["preprocess.format=auto", "preprocess.format=movielens-20m"] {
            let text = RATINGS.replace(',', separator);
            assert_eq!(made("ratings.csv", &text, &[format]).0, RATED, "{separator:?}");
        }
    }
    let rows = RATINGS.split_once('\n').unwrap().1;
    for (name, separator) in [("u.data", ","), ("u.data", ";"), ("ratings.dat", ","), ("ratings.dat", "\t")] {
        assert_eq!(made(name, rows.replace(',', separator), &[]).0, RATED, "{name} {separator:?}");
    }
    for (name, separator, format) in
        [("u.data", "\t", "movielens-100k"), ("ratings.dat", "::", "movielens-1m")]
    {
        let text = RATINGS.replace(',', separator);
        let (found, log) = made(name, &text, &[&format!("preprocess.format={format}")]);
        assert_eq!(found, RATED, "{name}");
        assert!(log.contains(&format!("{name}:1 is taken for a header")), "{log}");
    }
    // A header that has them in another order is none of these.
    let swapped = RATINGS.replace("userId,movieId", "movieId,userId").replace(',', "\t");
    let message = refused("u.data", swapped, &["preprocess.format=movielens-100k"]);
    assert!(message.contains("u.data:1: column `timestamp` is \"timestamp\""), "{message}");
    let other = RATINGS.replace("userId,movieId", "user_id,movie_id");
    let message = refused("ratings.csv", &other, &[]);
    assert!(
        message.contains("no column `userId`") && message.contains("preprocess.columns names others"),
        "{message}"
    );
}

#[test]
fn copies_of_amazons_ratings_come_with_headers_quotes_and_other_separators() {
    let mut rows = String::new();
    for user in 1..=3 {
        for item in 1..=4 {
            writeln!(rows, "A{user},B{item},5.0,{}", 1_500_000_000 + item).unwrap();
        }
    }
    let right = ["A1: B1 B2 B3 B4", "A2: B1 B2 B3 B4", "A3: B1 B2 B3 B4"];
    for header in [
        "UserId,ProductId,Rating,Timestamp",
        "reviewerID,asin,overall,unixReviewTime",
        "user_id,asin,rating,timestamp",
    ] {
        assert_eq!(made("ratings_Beauty.csv", format!("{header}\n{rows}"), &[]).0, right, "{header}");
    }
    let quoted = rows.trim_end().replace(',', "\",\"").replace('\n', "\"\n\"");
    let quoted = format!("\"{quoted}\"\n");
    for text in [quoted, rows.replace(',', ";"), rows.replace(',', "\t")] {
        assert_eq!(made("ratings_Beauty.csv", &text, &["preprocess.format=amazon"]).0, right, "{text}");
    }
    let message = refused("ratings_Beauty.csv", "who,what,stars,when\n".to_owned() + &rows, &[]);
    assert!(message.contains("no column `user_id` in the header \"who\", \"what\""), "{message}");
}

#[test]
fn more_lines_that_are_no_sequences() {
    let format = "preprocess.format=sequences";
    for (text, part) in [
        ("7 1 978300760 5\n7 2 978300761 3\n7 3 978300762 4\n", "of which number 3 is a time"),
        ("7 1 978300760000\n7 2 978300761000\n8 3 978300762000\n", "of which the last is a time"),
        ("7 11 5\n7 12 3\n7 13 4\n8 11 2\n8 12 2\n", "of which the last looks like a rating"),
        ("7 [1, 2, 3]\n8 [1, 2, 3]\n", "\"[1,\" is a part of a list"),
        ("{\"7\": [1, 2, 3]}\n", "is a part of a list or an object"),
    ] {
        let message = refused("a.txt", text, &[format]);
        assert!(message.contains(part) && message.contains("preprocess.columns"), "{part}: {message}");
    }
    let message = refused("a.txt", "7,1,2,3\n", &[format]);
    assert!(message.contains("a user and at least one item, between blanks"), "{message}");
    let (found, log) = made("a.txt", "user item\n7 1\n7 2\n7 3\n", &[format]);
    assert_eq!(found, ["7: 1 2 3"]);
    assert!(log.contains("a.txt:1 is taken for a header"), "{log}");
    // Items may be as many and as large as they like.
    for text in
        ["7 978300760 978300761 978300762\n8 978300760 978300761 978300763\n", "7 1 2 3\n7 2 3 4\n8 1 2 3\n"]
    {
        made("a.txt", text, &[format]);
    }
}

#[test]
fn histories_beside_the_item_are_told_aloud() {
    let text = "user_id,item_id_list,item_id\n1,2 3 4,5\n1,2 3 4 5,6\n1,2 3 4 5 6,7\n";
    for (name, text) in [("a.csv", text.to_owned()), ("a.tsv", text.replace(',', "\t"))] {
        let (found, log) = made(name, text, &["preprocess.columns={user: user_id, item: item_id}"]);
        assert_eq!(found, ["1: 5 6 7"]);
        assert!(log.contains("column `item_id_list` seems to hold histories, which are not read"), "{log}");
    }
}

#[test]
fn files_of_other_programs_are_named() {
    for (content, part) in [
        (&b"\x80\x05\x95rest"[..], "a pickle of Python"),
        (b"PARE....PARE", "an encrypted Parquet file"),
        (b"\x5D\0\0\x80\0", "packed by lzma"),
        (b"MATLAB 5.0 MAT-file, Platform", "a MATLAB file"),
    ] {
        let message = refused("x.csv", content, &[UI]);
        assert!(message.contains(part), "{message}");
    }
    // Separators that YAML would take for something of its own.
    for separator in [",", "*", "&", "!", "|"] {
        let text = RATINGS.replace(',', separator);
        let columns = "preprocess.columns={user: userId, item: movieId, timestamp: timestamp}";
        let separator = format!("preprocess.separator={separator}");
        assert_eq!(made("x.csv", text, &[columns, &separator]).0, RATED, "{separator}");
    }
}
