//! The binary as a user runs it: every layout, the rules of filtering and order, the messages for what is wrong, and
//! equal bytes whatever the number of threads. Expected sequences were worked out by hand from the tiny files here.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod cases;
mod export;
mod layouts;
mod variants;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use preprocess::raw::DATASETS;
use preprocess::read::LAYOUTS;
use tempfile::TempDir;

/// A directory of one test, and the binary run in it.
struct Bench {
    directory: TempDir,
}

/// What a run wrote, read back.
#[derive(Debug, PartialEq, Eq)]
struct Data {
    users: Vec<String>,
    items: Vec<String>,
    counts: Vec<u64>,
    /// Train, then validation and test, per user, as raw item ids.
    sequences: Vec<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gro-preprocess"));
        command.current_dir(self.directory.path()).args(arguments).output().unwrap()
    }

    /// `run` with limits low enough for tiny files; the arguments come last and so win.
    fn run(&self, input: &str, out: &str, more: &[&str]) -> Output {
        let limits = ["--set", "preprocess.min_item_count=1", "--set", "preprocess.min_user_count=3"];
        let mut arguments = vec!["run", "--input", input, "--out", out];
        arguments.extend(limits);
        arguments.extend(more);
        self.call(&arguments)
    }

    fn data(&self, input: &str, more: &[&str]) -> Data {
        let out = "out";
        fs::remove_dir_all(self.path(out)).ok();
        let output = self.run(input, out, more);
        assert!(output.status.success(), "{}", stderr(&output));
        read(&self.path(out))
    }

    /// The message of a run that must be refused.
    fn refusal(&self, input: &str, more: &[&str]) -> String {
        let output = self.run(input, "refused", more);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(!self.path("refused").exists(), "a refused run left an output: {message}");
        assert!(output.stdout.is_empty(), "stdout is for data");
        assert!(!message.contains("panicked"), "{message}");
        message
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(directory: &Path) -> Data {
    let batches = |name: &str| {
        let file = File::open(directory.join(name)).unwrap();
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap)
    };
    let texts = |name: &str| -> Vec<String> {
        let column = |batch: arrow_array::RecordBatch| -> Vec<String> {
            let column = batch.column_by_name("raw_id").unwrap().as_string::<i32>();
            column.iter().map(|text| text.unwrap().to_owned()).collect()
        };
        batches(name).flat_map(column).collect()
    };
    let items = texts("items.parquet");
    let mut data = Data { users: texts("users.parquet"), items, counts: Vec::new(), sequences: Vec::new() };
    for batch in batches("items.parquet") {
        data.counts.extend(batch.column_by_name("count").unwrap().as_primitive::<UInt64Type>().values());
    }
    for batch in batches("sequences.parquet") {
        let ids =
            |name: &str| batch.column_by_name(name).unwrap().as_primitive::<UInt32Type>().values().to_vec();
        let (users, valid, test) = (ids("user"), ids("valid"), ids("test"));
        let train = batch.column_by_name("train").unwrap().as_list::<i32>().clone();
        for row in 0..train.len() {
            assert_eq!(users[row] as usize, data.sequences.len() + 1);
            let mut sequence = train.value(row).as_primitive::<UInt32Type>().values().to_vec();
            sequence.extend([valid[row], test[row]]);
            data.sequences.push(sequence.iter().map(|&item| data.items[item as usize - 1].clone()).collect());
        }
    }
    data
}

/// Two users; user 2's items at times 1, 2, 2, 3 and user 10's at 5, 6, 7, neither in order in the file.
const ROWS: [(&str, &str, &str, &str); 7] = [
    ("10", "5", "4", "7"),
    ("2", "30", "3", "2"),
    ("2", "5", "5", "2"),
    ("10", "100", "1", "5"),
    ("2", "100", "2", "3"),
    ("2", "9", "4", "1"),
    ("10", "9", "5", "6"),
];

/// `ROWS` with a separator; `place` makes a line of the four fields.
fn table(header: &str, place: impl Fn(&(&str, &str, &str, &str)) -> String) -> String {
    let mut text = header.to_owned();
    for row in &ROWS {
        text += &place(row);
        text += "\n";
    }
    text
}

fn separated(separator: &str) -> String {
    table("", |(user, item, rating, time)| [*user, item, rating, time].join(separator))
}

fn csv() -> String {
    "userId,movieId,rating,timestamp\n".to_owned() + &separated(",")
}

fn expected(user_2: &str, user_10: &str) -> Data {
    let sequence = |text: &str| text.split(' ').map(str::to_owned).collect();
    Data {
        users: sequence("2 10"),
        items: sequence("5 9 30 100"),
        counts: vec![2, 2, 1, 2],
        sequences: vec![sequence(user_2), sequence(user_10)],
    }
}

#[test]
fn every_layout_gives_the_same_data() {
    let bench = Bench::new();
    let inter_header = "timestamp:float\tuser_id:token\ttitle:token_seq\titem_id:token\trating:float\n";
    let inter = table(inter_header, |(user, item, rating, time)| {
        format!("{time}.5\t{user}\tan \"odd one\t{item}\t{rating}")
    });
    bench.file("100k/u.data", separated("\t"));
    bench.file("100k/u.item", "1|Toy Story (1995)\n");
    bench.file("1m/ratings.dat", separated("::"));
    bench.file("20m/ratings.csv", csv());
    bench.file("20m/source.json", "{}\n");
    bench.file("inter/any-name.inter", &inter);
    bench.file("crlf/ratings.csv", format!("\u{feff}{}", csv().replace('\n', "\r\n")));
    let expected = expected("9 5 30 100", "100 9 5");
    let formats = [
        ("100k", "u.data", "movielens-100k"),
        ("1m", "ratings.dat", "movielens-1m"),
        ("20m", "ratings.csv", "movielens-20m"),
        ("inter", "any-name.inter", "inter"),
        ("crlf", "ratings.csv", "movielens-20m"),
    ];
    for (directory, file, format) in formats {
        let path = format!("{directory}/{file}");
        let set = format!("preprocess.format={format}");
        assert_eq!(bench.data(directory, &[]), expected, "{directory} detected");
        assert_eq!(bench.data(&path, &[]), expected, "{path} detected");
        assert_eq!(bench.data(directory, &["--set", &set]), expected, "{directory} as {format}");
        // A file that its name says nothing about: the first line tells, or the setting.
        fs::copy(bench.path(&path), bench.path("table.txt")).unwrap();
        assert_eq!(bench.data("table.txt", &[]), expected, "{path} under another name");
        assert_eq!(
            bench.data("table.txt", &["--set", &set]),
            expected,
            "{path} under another name as {format}"
        );
    }
}

#[test]
fn ties_are_broken_by_item_or_by_the_file() {
    let bench = Bench::new();
    bench.file("raw/u.data", separated("\t"));
    assert_eq!(bench.data("raw", &["--set", "preprocess.ties=item"]), expected("9 5 30 100", "100 9 5"));
    assert_eq!(bench.data("raw", &["--set", "preprocess.ties=input"]), expected("9 30 5 100", "100 9 5"));
}

#[test]
fn an_inter_file_needs_neither_rating_nor_timestamp() {
    let bench = Bench::new();
    bench.file(
        "a.inter",
        table("item_id:token\tuser_id:token\n", |(user, item, ..)| format!("{item}\t{user}")),
    );
    // Without times the file's order is the order, whatever the rule for ties.
    assert_eq!(bench.data("a.inter", &[]), expected("30 5 100 9", "5 100 9"));
    let message = bench.refusal("a.inter", &["--set", "preprocess.min_rating=3"]);
    assert!(message.contains("has no ratings") && message.contains("min_rating"), "{message}");
}

#[test]
fn low_ratings_go_before_anything_is_counted() {
    let bench = Bench::new();
    bench.file("u.data", separated("\t"));
    let data = bench.data("u.data", &["--set", "preprocess.min_rating=3"]);
    // User 10 is left with two items and user 2 with three.
    assert_eq!(
        (data.users, data.sequences),
        (vec!["2".to_owned()], vec![vec!["9".into(), "5".into(), "30".into()]])
    );
    let stats = fs::read_to_string(bench.path("out/stats.json")).unwrap();
    for part in ["\"users\": 1", "\"interactions\": 3", "\"raw_interactions\": 7"] {
        assert!(stats.contains(part), "{part} is not in {stats}");
    }
}

#[test]
fn filtering_once_stops_where_a_core_goes_on() {
    let bench = Bench::new();
    // Users a, b, c share items 1 to 4; d has items 1 and 5 to 7, which only e, too short to stay, has as well.
    let mut text = String::from("user_id:token\titem_id:token\n");
    for user in ["a", "b", "c"] {
        for item in ["1", "2", "3", "4"] {
            writeln!(text, "{user}\t{item}").unwrap();
        }
    }
    text += "d\t1\nd\t5\nd\t6\nd\t7\ne\t5\ne\t6\n";
    text += "f\t7\n";
    bench.file("a.inter", &text);
    let limits = ["--set", "preprocess.min_item_count=2", "--set", "preprocess.min_user_count=3"];
    let once = bench.data("a.inter", &limits);
    assert_eq!(once.users, ["a", "b", "c", "d"]);
    assert_eq!((once.items.join(" "), once.counts), ("1 2 3 4 5 6 7".to_owned(), vec![4, 3, 3, 3, 1, 1, 1]));
    let core = bench.data("a.inter", &[&limits[..], &["--set", "preprocess.filter=core"]].concat());
    assert_eq!(core.users, ["a", "b", "c"]);
    assert_eq!((core.items.join(" "), core.counts), ("1 2 3 4".to_owned(), vec![3, 3, 3, 3]));
}

#[test]
fn ids_ascend_by_number_or_by_bytes() {
    let bench = Bench::new();
    let header = "user_id:token\titem_id:token\n";
    bench.file("numbers.inter", format!("{header}10\t2\n10\t10\n10\t1\n9\t1\n9\t2\n9\t10\n"));
    let numbers = bench.data("numbers.inter", &[]);
    assert_eq!((numbers.users.join(" "), numbers.items.join(" ")), ("9 10".to_owned(), "1 2 10".to_owned()));
    bench.file("texts.inter", format!("{header}10\tb\n10\tB\n10\té\nu9\té\nu9\t10\nu9\t9\n"));
    let texts = bench.data("texts.inter", &[]);
    assert_eq!((texts.users.join(" "), texts.items.join(" ")), ("10 u9".to_owned(), "10 9 B b é".to_owned()));
}

#[test]
fn bad_lines_are_named() {
    let bench = Bench::new();
    bench.file("u.data", separated("\t").replace("2\t5\t5\t2", "2\t5\t5"));
    let message = bench.refusal("u.data", &[]);
    assert!(message.contains("u.data:3: expected 4 fields separated by tabs"), "{message}");

    bench.file("ratings.dat", separated("::").replace("2::9::4::1", "2::9::4::yesterday"));
    let message = bench.refusal("ratings.dat", &[]);
    assert!(message.contains("ratings.dat:6: column `timestamp` is \"yesterday\""), "{message}");

    bench.file("ratings.csv", csv().replace("10,9,5,6", "\n,9,5,6"));
    let message = bench.refusal("ratings.csv", &[]);
    assert!(message.contains("ratings.csv:9: column `userId` is empty"), "{message}");
}

#[test]
fn headers_are_checked() {
    let bench = Bench::new();
    bench.file("ratings.csv", csv().replace("movieId", "movie"));
    let message = bench.refusal("ratings.csv", &[]);
    assert!(message.contains("ratings.csv:1: no column `movieId`"), "{message}");
    for (header, part) in [
        ("user_id:token\titem:token", "no column `item_id`"),
        ("user_id:token\titem_id:float", "column `item_id:float`, expected `item_id:token`"),
        (
            "user_id:token\titem_id:token\ttimestamp:token",
            "column `timestamp:token`, expected `timestamp:float`",
        ),
        ("user_id:token\titem_id:token\trating", "column `rating`, expected `rating:float`"),
        ("user_id:token\titem_id:token\titem_id:token", "more than one column `item_id`"),
    ] {
        bench.file("a.inter", format!("{header}\n1\t2\n"));
        let message = bench.refusal("a.inter", &[]);
        assert!(message.contains("a.inter:1: ") && message.contains(part), "{message}");
    }
}

#[test]
fn inputs_that_are_not_there_or_not_one_are_refused() {
    let bench = Bench::new();
    let message = bench.refusal("nowhere", &[]);
    assert!(message.contains("nowhere") && message.contains("gro-preprocess fetch"), "{message}");

    bench.file("none/readme.txt", "no data here\n");
    let message = bench.refusal("none", &[]);
    assert!(message.contains("u.data, ratings.dat, ratings.csv, *.inter"), "{message}");
    let message = bench.refusal("none/readme.txt", &[]);
    assert!(message.contains("no data here") && message.contains("preprocess.format"), "{message}");

    bench.file("two/u.data", separated("\t"));
    bench.file("two/b.inter", "user_id:token\titem_id:token\n");
    let message = bench.refusal("two", &[]);
    assert!(message.contains("b.inter, u.data"), "{message}");
    assert_eq!(bench.data("two", &["--set", "preprocess.format=movielens-100k"]).users, ["2", "10"]);
}

#[test]
fn files_that_hold_nothing_are_refused() {
    let bench = Bench::new();
    bench.file("u.data", "");
    assert!(bench.refusal("u.data", &[]).contains("u.data is empty"));
    bench.file("ratings.csv", "userId,movieId,rating,timestamp\n");
    assert!(bench.refusal("ratings.csv", &[]).contains("ratings.csv holds no rows"));
    bench.file("u.data", separated("\t"));
    let message = bench.refusal("u.data", &["--set", "preprocess.min_user_count=50"]);
    assert!(message.contains("nothing is left") && message.contains("min_user_count"), "{message}");
    let message = bench.refusal("u.data", &["--set", "preprocess.min_user_count=2"]);
    assert!(message.contains("min_user_count"), "{message}");
}

#[test]
fn a_second_run_is_up_to_date_and_a_changed_setting_is_not() {
    let bench = Bench::new();
    bench.file("u.data", separated("\t"));
    bench.data("u.data", &[]);
    let output = bench.run("u.data", "out", &[]);
    assert!(output.status.success() && stderr(&output).contains("up to date"), "{}", stderr(&output));
    let output = bench.run("u.data", "out", &["--set", "preprocess.ties=input"]);
    assert!(output.status.success() && !stderr(&output).contains("up to date"), "{}", stderr(&output));
    assert_eq!(read(&bench.path("out")), expected("9 30 5 100", "100 9 5"));
}

/// The declared outputs in a directory, name and bytes.
fn declared(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "run.log")
        .collect();
    files.sort();
    files
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let bench = Bench::new();
    // 8.7 MB: several blocks of the reader.
    let size = ["--users", "2000", "--items", "3000", "--interactions", "400000", "--seed", "3"];
    for threads in ["1", "2"] {
        let raw = format!("raw-{threads}");
        let mut arguments = vec!["synth", "--out", &raw, "--threads", threads];
        arguments.extend(size);
        let output = bench.call(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let out = format!("out-{threads}");
        // The input's name is part of the lock, so both read the first.
        let output = bench.call(&["run", "--input", "raw-1", "--out", &out, "--threads", threads]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(declared(&bench.path("raw-1")), declared(&bench.path("raw-2")));
    let outputs = declared(&bench.path("out-1"));
    let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["items.parquet", "sequences.parquet", "settings.yaml", "stage.lock", "stats.json", "users.parquet"];
    assert_eq!(names, expected);
    assert!(outputs == declared(&bench.path("out-2")), "1 and 2 threads differ");

    let mut arguments = vec!["synth", "--out", "raw-other"];
    arguments.extend(size);
    arguments.extend(["--seed", "4"]);
    let twice = bench.call(&arguments);
    assert_eq!(twice.status.code(), Some(2), "--seed given twice is bad usage");
    arguments.truncate(arguments.len() - 4);
    arguments.extend(["--seed", "4"]);
    assert!(bench.call(&arguments).status.success());
    let ratings = |directory: &str| fs::read(bench.path(directory).join("ratings.csv")).unwrap();
    assert!(ratings("raw-1") != ratings("raw-other"), "the seed changes nothing");
}

#[test]
fn synthesis_refuses_what_cannot_be_made() {
    let bench = Bench::new();
    let output =
        bench.call(&["synth", "--users", "10", "--items", "10", "--interactions", "99", "--out", "raw"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--interactions is 99, expected 30"), "{}", stderr(&output));
    assert!(!bench.path("raw").exists());
}

/// The help that `arguments` ask for, with single blanks wherever the lines were broken.
fn help(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.call(arguments);
    assert!(output.status.success());
    let words: Vec<String> =
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect();
    words.join(" ")
}

#[test]
fn help_teaches_and_bad_usage_ends_with_2() {
    let bench = Bench::new();
    for (arguments, part) in [
        (&["--help"][..], "gro-preprocess fetch ml-100k"),
        (&["fetch", "--help"], "ml-20m: MovieLens-20M: 138,493 users"),
        (&["run", "--help"], "movielens-1m"),
        (&["run", "--help"], "preprocess.columns.user"),
        (&["export", "--help"], "user_id:token"),
        (&["synth", "--help"], "--interactions"),
    ] {
        let text = help(&bench, arguments);
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let text = help(&bench, &["run", "--help"]);
    for layout in LAYOUTS.entries {
        for part in [layout.name, layout.title].iter().chain(layout.files) {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    let text = help(&bench, &["fetch", "--help"]);
    for dataset in DATASETS.entries {
        assert!(text.contains(&format!("{}: {}", dataset.name, dataset.summary())), "{text}");
    }
    let unknown = bench.call(&["fetch", "ml-100m", "--to", "raw"]);
    let completions = bench.call(&["completions", "bash"]);
    for text in [stderr(&unknown), String::from_utf8(completions.stdout).unwrap()] {
        assert!(DATASETS.iter().all(|dataset| text.contains(dataset.name)), "{text}");
    }
    for arguments in [&[][..], &["run"], &["fetch", "ml-100m", "--to", "raw"], &["run", "--inpt", "x"]] {
        assert_eq!(bench.call(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
