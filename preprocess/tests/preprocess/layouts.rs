//! The layouts that are not MovieLens': Steam's reviews, Amazon's ratings, tables by the names of their columns, and
//! sequences; packed and not, from a file and from a directory, and what is refused.

use std::io::Write as _;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt16Array,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;

fn packed(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

/// `--set` for every column of a table.
fn columns(names: &str) -> Vec<String> {
    let roles = ["user", "item", "timestamp", "rating"];
    let pairs = roles.iter().zip(names.split(' '));
    pairs.flat_map(|(role, name)| ["--set".to_owned(), format!("preprocess.columns.{role}={name}")]).collect()
}

fn with<'a>(set: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    set.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The day of January 2018 with the number of a time in `ROWS`.
fn day(time: &str) -> String {
    format!("2018-01-{time:0>2}")
}

fn steam() -> String {
    table("", |(user, item, _, time)| {
        let text = "u\"It's \\\"odd\\\" \\u2014\\n{'username': 'nobody'}\"";
        let date = day(time);
        format!(
            "{{u'username': u'{user}', u'hours': 0.1, u'text': {text}, u'product_id': '{item}', u'date': u'{date}', u'early_access': False, u'found': None}}"
        )
    })
}

#[test]
fn steam_reviews_are_read_packed_and_unpacked() {
    let bench = Bench::new();
    let incomplete = "{u'username': u'10', u'date': u'2018-01-09'}\n{u'username': None, u'product_id': u'5', u'date': u'2018-01-09'}\n{u'username': u'', u'product_id': u'5', u'date': u'2018-01-09'}\n";
    let text = steam() + incomplete;
    bench.file("packed/steam_reviews.json.gz", packed(&text));
    bench.file("packed/source.json", "{}");
    bench.file("unpacked/steam_reviews.json", &text);
    bench.file("reviews.txt", packed(&text));
    let expected = expected("9 5 30 100", "100 9 5");
    for input in ["packed", "unpacked", "packed/steam_reviews.json.gz", "reviews.txt"] {
        assert_eq!(bench.data(input, &[]), expected, "{input}");
    }
    assert_eq!(bench.data("packed", &["--set", "preprocess.format=steam"]), expected);
    let stats = fs::read_to_string(bench.path("out/stats.json")).unwrap();
    assert!(stats.contains("\"raw_interactions\": 7"), "{stats}");
    let log = stderr(&bench.run("packed", "again", &[]));
    assert!(log.contains("3 of the 10 lines") && log.contains("passed over"), "{log}");
}

#[test]
fn names_on_steam_are_any_text() {
    let bench = Bench::new();
    let mut text = String::new();
    for (user, item) in [("'\\xe9\\t\\U0001F600'", "1"), ("\"it's\"", "2")] {
        for day in 1..4 {
            writeln!(text, "{{'username': {user}, 'product_id': {item}, 'date': '2018-01-0{day}'}}").unwrap();
        }
    }
    bench.file("steam_reviews.json", &text);
    assert_eq!(bench.data("steam_reviews.json", &[]).users, ["it's", "é\t😀"]);
}

#[test]
fn a_review_that_python_would_not_read_is_named() {
    let bench = Bench::new();
    for (bad, part) in [
        (
            "{u'username': u'1', u'product_id': u'2', u'date': u'2018-01-01'",
            "steam_reviews.json:9: expected a Python",
        ),
        (
            "{u'username': u'1', u'product_id': u'2', u'date': u'yesterday'}",
            "steam_reviews.json:9: column `date` is \"yesterday\"",
        ),
        ("{\"username\": true}", "steam_reviews.json:9: expected a Python"),
    ] {
        bench.file("steam_reviews.json", steam() + "\n" + bad + "\n");
        let message = bench.refusal("steam_reviews.json", &[]);
        assert!(message.contains(part), "{message}");
    }
    bench.file("steam_reviews.json", "{u'username': u'1'}\n");
    let message = bench.refusal("steam_reviews.json", &[]);
    assert!(message.contains("1 of the 1 lines") && message.contains("holds no rows"), "{message}");
    let message = bench.refusal("steam_reviews.json", &["--set", "preprocess.min_rating=3"]);
    assert!(message.contains("has no ratings"), "{message}");
    let whole = packed(&steam().repeat(50));
    bench.file("steam_reviews.json.gz", &whole[..whole.len() / 2]);
    let message = bench.refusal("steam_reviews.json.gz", &[]);
    assert!(message.contains("steam_reviews.json.gz") && message.contains("breaks off"), "{message}");
}

/// `ROWS` as Amazon's ratings of 2014, whose users begin with an A.
fn amazon() -> String {
    table("", |(user, item, rating, time)| format!("A{user},B{item},{rating},{time}"))
}

/// What becomes of them: the ids are no numbers and come in the order of their bytes.
fn amazon_data() -> Data {
    let sequence = |text: &str| text.split(' ').map(str::to_owned).collect();
    Data {
        users: sequence("A10 A2"),
        items: sequence("B100 B30 B5 B9"),
        counts: vec![2, 1, 2, 2],
        sequences: vec![sequence("B100 B9 B5"), sequence("B9 B30 B5 B100")],
    }
}

#[test]
fn amazon_ratings_have_no_header() {
    let bench = Bench::new();
    bench.file("raw/ratings_Beauty.csv", amazon());
    bench.file("other.csv", amazon());
    let expected = amazon_data();
    assert_eq!(bench.data("raw", &[]), expected);
    assert_eq!(bench.data("raw/ratings_Beauty.csv", &[]), expected);
    assert_eq!(bench.data("other.csv", &["--set", "preprocess.format=amazon"]), expected);
    // Other tables look the same, so that the lines alone do not tell.
    let message = bench.refusal("other.csv", &[]);
    assert!(message.contains("preprocess.format"), "{message}");
    bench.file("ratings_Beauty.csv", amazon() + "A1,B1,5.0\n");
    let message = bench.refusal("ratings_Beauty.csv", &[]);
    assert!(message.contains("ratings_Beauty.csv:8: expected 4 fields separated by commas"), "{message}");
}

/// What `fetch` leaves is what `run` finds, with the settings of the pipeline.
#[test]
fn a_fetched_folder_is_read_with_the_settings_of_its_pipeline() {
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
    for (dataset, file, content) in [
        ("steam", "steam_reviews.json.gz", packed(&steam())),
        ("beauty", "ratings_Beauty.csv", amazon().into_bytes()),
    ] {
        let bench = Bench::new();
        // PackedBatch by hand, there is nothing to download.
        bench.file(&format!("data/raw/{dataset}/{file}"), content);
        for part in ["pinned", "already there"] {
            let output = bench.call(&["fetch", dataset, "--to", "data/raw"]);
            let log = stderr(&output);
            assert!(output.status.success() && log.contains(part), "{log}");
        }
        let config = pipelines.join(format!("{dataset}.yaml"));
        let config = ["--config", config.to_str().unwrap()];
        let data = bench.data(&format!("data/raw/{dataset}"), &config);
        let expected = if dataset == "beauty" { amazon_data() } else { expected("9 5 30 100", "100 9 5") };
        assert_eq!(data, expected, "{dataset}");
    }
}

#[test]
fn a_table_is_read_by_the_names_of_its_columns() {
    let bench = Bench::new();
    let csv = table("at,\"note, or not\",who,\"what\",stars\n", |(user, item, rating, time)| {
        format!("{}T10:00:00Z,\"two\r\nlines, \"\"quoted\"\"\",{user},\"{item}\",{rating}", day(time))
    });
    let tsv = table("what\tat\twho\tnote\tstars\n", |(user, item, rating, time)| {
        format!("{item}\t{time}e3\t{user}\ta \"lone mark\t{rating}")
    });
    let json = table("", |(user, item, rating, time)| {
        format!(
            "{{\"note\": [{{\"who\": 0}}, null], \"who\": {user}, \"what\": \"{item}\", \"stars\": {rating}.0, \"at\": {time}.25}}"
        )
    });
    let expected = expected("9 5 30 100", "100 9 5");
    let set = columns("who what at stars");
    for (name, text) in [("clicks.csv", csv), ("clicks.tsv", tsv), ("clicks.jsonl", json)] {
        let crlf = if name == "clicks.csv" { text.clone() } else { text.replace('\n', "\r\n") };
        let extension = &name[7..];
        for (path, content) in [
            (format!("{extension}/{name}"), text.clone().into_bytes()),
            (format!("{extension}-gz/{name}.gz"), packed(&text)),
            (format!("{extension}-crlf/{name}"), format!("\u{feff}{crlf}").into_bytes()),
            (format!("{extension}-other/any name"), text.clone().into_bytes()),
        ] {
            bench.file(&path, content);
            let (directory, _) = path.split_once('/').unwrap();
            assert_eq!(bench.data(&path, &with(&set, &[])), expected, "{path}");
            if !directory.ends_with("other") {
                let explicit = with(&set, &["--set", "preprocess.format=table"]);
                assert_eq!(bench.data(directory, &explicit), expected, "{directory}");
            }
            let low = bench.data(&path, &with(&set, &["--set", "preprocess.min_rating=3"]));
            assert_eq!(low.users, ["2"], "{path}");
        }
    }
}

#[test]
fn without_a_timestamp_the_rows_are_in_order() {
    let bench = Bench::new();
    bench.file("clicks.csv", table("who,what\n", |(user, item, ..)| format!("{user},{item}")));
    assert_eq!(
        bench.data("clicks.csv", &with(&columns("who what null"), &[])),
        expected("30 5 100 9", "5 100 9")
    );
    bench.file(
        "clicks.jsonl",
        table("", |(user, item, ..)| format!("{{\"who\": \"{user}\", \"what\": {item}}}")),
    );
    assert_eq!(
        bench.data("clicks.jsonl", &with(&columns("who what"), &[])),
        expected("30 5 100 9", "5 100 9")
    );
}

/// Writes `ROWS` as a Parquet table, three rows a group.
fn parquet_file(bench: &Bench, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
    let file = File::create(bench.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(groups)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn integers(field: impl Fn(&(&str, &str, &str, &str)) -> i64) -> impl Iterator<Item = i64> {
    ROWS.iter().map(field).collect::<Vec<_>>().into_iter()
}

#[test]
fn parquet_tables_of_every_type_are_read() {
    let bench = Bench::new();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let texts = |column: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(column)) };
    let times: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(integers(|row| number(row.3) << 50))),
        Arc::new(Float64Array::from_iter_values(integers(|row| number(row.3)).map(|time| time as f64 + 0.5))),
        Arc::new(Date32Array::from_iter_values(integers(|row| number(row.3)).map(|time| time as i32))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(integers(|row| number(row.3))).with_timezone("UTC"),
        ),
        texts(ROWS.iter().map(|row| day(row.3)).collect()),
    ];
    let set = columns("who what at stars");
    for (kind, time) in times.into_iter().enumerate() {
        // Ids as integers and as text; a column that nobody wants, of a type that nobody could use.
        let users: ArrayRef = match kind % 2 {
            0 => {
                Arc::new(UInt16Array::from_iter_values(integers(|row| number(row.0)).map(|user| user as u16)))
            }
            _ => texts(ROWS.iter().map(|row| row.0.to_owned()).collect()),
        };
        let items = Arc::new(Int64Array::from_iter_values(integers(|row| number(row.1))));
        let stars =
            Arc::new(Float64Array::from_iter_values(integers(|row| number(row.2)).map(|stars| stars as f64)));
        let other = Arc::new(BooleanArray::from(vec![None; ROWS.len()]));
        parquet_file(
            &bench,
            "clicks.parquet",
            vec![("at", time), ("seen", other), ("what", items), ("stars", stars), ("who", users)],
        );
        let expected = expected("9 5 30 100", "100 9 5");
        assert_eq!(bench.data("clicks.parquet", &with(&set, &[])), expected, "time of type {kind}");
        assert_eq!(bench.data(".", &with(&set, &[])), expected, "as the one table of a directory");
        let low = bench.data("clicks.parquet", &with(&set, &["--set", "preprocess.min_rating=3"]));
        assert_eq!(low.users, ["2"]);
    }
    let untimed = bench.data("clicks.parquet", &with(&columns("who what"), &[]));
    assert_eq!(untimed, expected("30 5 100 9", "5 100 9"));

    let message = bench.refusal("clicks.parquet", &[]);
    assert!(
        message.contains("is a Parquet table") && message.contains("preprocess.columns.user"),
        "{message}"
    );
    let message = bench.refusal("clicks.parquet", &with(&columns("whom what at"), &[]));
    assert!(message.contains("no column `whom`; its columns are \"at\", \"seen\", \"what\""), "{message}");
    let message = bench.refusal("clicks.parquet", &with(&columns("seen what at"), &[]));
    assert!(
        message.contains("column `seen` has the type Boolean, expected text or whole numbers"),
        "{message}"
    );
    let message = bench.refusal("clicks.parquet", &with(&columns("who what seen"), &[]));
    assert!(message.contains("column `seen` has the type Boolean"), "{message}");
    let whole = fs::read(bench.path("clicks.parquet")).unwrap();
    bench.file("clicks.parquet", &whole[..whole.len() - 20]);
    let message = bench.refusal("clicks.parquet", &with(&set, &[]));
    assert!(message.contains("clicks.parquet, expected a whole Parquet file"), "{message}");
}

#[test]
fn a_row_of_parquet_without_a_value_is_named() {
    let bench = Bench::new();
    let set = columns("who what at stars");
    let refused = |users: Vec<Option<&str>>, times: Vec<Option<f64>>, stars: Vec<Option<f64>>| {
        let items = Arc::new(Int64Array::from_iter_values(0..users.len() as i64));
        parquet_file(
            &bench,
            "clicks.parquet",
            vec![
                ("who", Arc::new(StringArray::from(users))),
                ("what", items),
                ("at", Arc::new(Float64Array::from(times))),
                ("stars", Arc::new(Float64Array::from(stars))),
            ],
        );
        bench.refusal("clicks.parquet", &with(&set, &[]))
    };
    let users = || vec![Some("a"); 5];
    let numbers = || vec![Some(1.0); 5];
    for (row, user, part) in
        [(3, None, "row 4: column `who` is null"), (4, Some(""), "row 5: column `who` is empty")]
    {
        let mut users = users();
        users[row] = user;
        let message = refused(users, numbers(), numbers());
        assert!(message.contains(part), "{message}");
    }
    for (time, part) in [(None, "row 4: column `at` is null"), (Some(f64::NAN), "row 4: column `at` is NaN")]
    {
        let mut times = numbers();
        times[3] = time;
        let message = refused(users(), times, numbers());
        assert!(message.contains(part), "{message}");
    }
    let mut stars = numbers();
    stars[1] = None;
    let message = refused(users(), numbers(), stars);
    assert!(message.contains("row 2: column `stars` is null"), "{message}");
}

#[test]
fn a_bad_row_of_a_table_is_named() {
    let bench = Bench::new();
    let set = columns("who what at stars");
    let header = "who,what,at,stars\n";
    for (name, text, part) in [
        (
            "a.csv",
            format!("{header}1,2,3,4\n1,\"2\n\",3\n"),
            "a.csv:3: expected 4 fields separated by commas",
        ),
        ("a.csv", format!("{header}1,\"2\n\n\",3,4\n,2,3,4\n"), "a.csv:5: column `who` is empty"),
        (
            "a.csv",
            format!("{header}1,2,20-1-2018,4\n"),
            "a.csv:2: column `at` is \"20-1-2018\", expected a number",
        ),
        ("a.csv", format!("{header}1,2,3,good\n"), "a.csv:2: column `stars` is \"good\""),
        ("a.csv", "who,what,stars\n1,2,3\n".to_owned(), "a.csv:1: no column `at` in the header"),
        ("a.csv", "who,what,at,at,stars\n1,2,3,3,3\n".to_owned(), "a.csv:1: more than one column `at`"),
        ("a.csv", header.to_owned(), "a.csv holds no rows"),
        ("a.tsv", header.replace(',', "\t") + "1\t2\t3\n", "a.tsv:2: expected 4 fields separated by tabs"),
        ("a.tsv", header.replace("who", "name"), "a.tsv:1: no column `who`"),
        ("a.jsonl", "{\"who\": 1}\n".to_owned(), "a.jsonl:1: no key `what` in this object"),
        (
            "a.jsonl",
            "{\"who\": 1, \"what\": 2, \"at\": null, \"stars\": 1}\n".to_owned(),
            "a.jsonl:1: column `at` is empty, expected a time",
        ),
        ("a.jsonl", "\n{\"who\": 1,}\n".to_owned(), "a.jsonl:2: expected a JSON object"),
        ("a.jsonl", "{\"who\": [1]}\n".to_owned(), "a.jsonl:1: expected a JSON object; `who` is a list"),
        ("words", "one word a line\n".to_owned(), "words:1: no column `who` in the header"),
    ] {
        bench.file(name, text);
        let message = bench.refusal(name, &with(&set, &[]));
        assert!(message.contains(part), "{message}");
    }
    bench.file("bytes.csv", [header.as_bytes(), b"1,\xFF,3,4\n"].concat());
    let message = bench.refusal("bytes.csv", &with(&set, &[]));
    assert!(message.contains("bytes.csv:2: ") && message.contains("UTF-8"), "{message}");
}

#[test]
fn settings_that_name_no_table_are_refused() {
    let bench = Bench::new();
    bench.file("raw/a.csv", "who,what\n");
    bench.file("raw/b.tsv", "who\twhat\n");
    for (set, part) in [
        (&["preprocess.columns.user=who"][..], "`preprocess.columns.item` is null"),
        (&["preprocess.columns.item=what"], "`preprocess.columns.user` is null"),
        (&["preprocess.format=table"], "`preprocess.columns.user` is null"),
        (&["preprocess.columns.user=who", "preprocess.columns.item=who"], "names `who` twice"),
        (&["preprocess.columns.user=who", "preprocess.columns.item=what"], "several tables (a.csv, b.tsv)"),
        (
            &["preprocess.columns.user=who", "preprocess.columns.item=what", "preprocess.format=amazon"],
            "expected only with",
        ),
        (&["preprocess.columns.users=who"], "did you mean `preprocess.columns.user`"),
        (&["preprocess.format=sequences"], "expected one of *.txt"),
    ] {
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
        let message = bench.refusal("raw", &set);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn sequences_are_users_with_their_items() {
    let bench = Bench::new();
    let format = ["--set", "preprocess.format=sequences"];
    let expected = expected("30 5 100 9", "5 100 9");
    bench.file("sequences/Beauty.txt", "10 5 100  9\n\n2 30\t5 100 9 \r\n");
    // As SASRec has it: a user recurs, and the lines are in order of time.
    bench.file("pairs/Beauty.txt", table("", |(user, item, ..)| format!("{user} {item}")));
    bench.file("packed/Beauty.txt.gz", packed("10 5 100\n2 30\n10 9\n2 5 100 9\n"));
    for input in ["sequences", "pairs", "packed", "pairs/Beauty.txt"] {
        assert_eq!(bench.data(input, &format), expected, "{input}");
        assert_eq!(
            bench.data(input, &with(&[], &[&format[..], &["--set", "preprocess.ties=input"]].concat())),
            expected
        );
    }
    bench.file("a.txt", "u 1 2 3\nv\n");
    let message = bench.refusal("a.txt", &format);
    assert!(message.contains("a.txt:2: expected a user and at least one item"), "{message}");
    let message = bench.refusal("a.txt", &[&format[..], &["--set", "preprocess.min_rating=1"]].concat());
    assert!(message.contains("has no ratings"), "{message}");
}

/// Several blocks of the reader: what is packed, quoted or nested is cut where it may be, at any number of threads.
#[test]
fn long_tables_are_read_in_parts() {
    let bench = Bench::new();
    let note = "a, \"\"b\"\"\n".repeat(40);
    let mut csv = String::from("who,note,what\n");
    let mut steam = String::new();
    for row in 0..30_000 {
        let (user, item) = (row % 97, row * 7 % 301);
        writeln!(csv, "{user},\"{note}\",{item}").unwrap();
        let text = "\\\"'{[".repeat(40);
        // A date every hundred and fifty rows: the order within is that of the items.
        let year = 1970 + row / 150;
        writeln!(
            steam,
            "{{'username': '{user}', 'text': u\"{text}\", 'product_id': {item}, 'date': '{year}-01-01'}}"
        )
        .unwrap();
    }
    bench.file("long.csv.gz", packed(&csv));
    bench.file("steam_reviews.json", steam);
    let set = columns("who what");
    for (input, set) in [("long.csv.gz", with(&set, &[])), ("steam_reviews.json", vec![])] {
        for threads in ["1", "3"] {
            let output = bench.run(
                input,
                &format!("out-{threads}"),
                &with(&[], &[&set[..], &["--threads", threads]].concat()),
            );
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let data = read(&bench.path("out-1"));
        assert_eq!((data.users.len(), data.counts.iter().sum::<u64>()), (97, 30_000), "{input}");
        assert_eq!(declared(&bench.path("out-1")), declared(&bench.path("out-3")), "{input}");
    }
}
