//! `export`: what it writes, that reading it back gives the same bytes, and what it refuses.

use super::*;

impl Bench {
    /// The sequences that a run on `input` makes, as bytes.
    fn sequences(&self, input: &str, out: &str, more: &[&str]) -> Vec<u8> {
        let output = self.run(input, out, more);
        assert!(output.status.success(), "{}", stderr(&output));
        fs::read(self.path(out).join("sequences.parquet")).unwrap()
    }

    fn export(&self, data: &str, out: &str, more: &[&str]) -> Output {
        self.call(&[&["export", "--data", data, "--out", out][..], more].concat())
    }
}

#[test]
fn an_exported_file_is_recboles() {
    let bench = Bench::new();
    bench.file("u.data", separated("\t"));
    bench.sequences("u.data", "data", &[]);
    let output = bench.export("data", "files/toy.inter", &["--format", "inter"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let expected = "user_id:token\titem_id:token\ttimestamp:float\n\
        2\t9\t1\n2\t5\t2\n2\t30\t3\n2\t100\t4\n10\t100\t1\n10\t9\t2\n10\t5\t3\n";
    assert_eq!(fs::read_to_string(bench.path("files/toy.inter")).unwrap(), expected);
    assert_eq!(fs::read_dir(bench.path("files")).unwrap().count(), 1, "something was left beside the file");

    // As a directory, the file is called as RecBole looks for it, and there is a lock.
    let output = bench.export("data", "dataset/toy", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(bench.path("dataset/toy/toy.inter")).unwrap(), expected);
    assert!(fs::read_to_string(bench.path("dataset/toy/stage.lock")).unwrap().contains("format: inter"));
    for out in ["files/toy.inter", "dataset/toy"] {
        let output = bench.export("data", out, &[]);
        assert!(output.status.success() && stderr(&output).contains("up to date"), "{}", stderr(&output));
    }
}

#[test]
fn an_exported_file_gives_the_same_bytes_again() {
    let bench = Bench::new();
    let size = ["--users", "300", "--items", "400", "--interactions", "9000", "--out", "numbers"];
    assert!(bench.call(&[&["synth"][..], &size].concat()).status.success());
    // The same ratings under ids that are text, some with what other formats would stumble over.
    let csv = fs::read_to_string(bench.path("numbers/ratings.csv")).unwrap();
    let mut texts = String::from("user_id:token\titem_id:token\ttimestamp:float\n");
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        writeln!(texts, "u\"{}\tit's, é {}\t{}", fields[0], fields[1], fields[3]).unwrap();
    }
    bench.file("texts.inter", texts);
    for (input, ties) in [("numbers", "item"), ("numbers", "input"), ("texts.inter", "item")] {
        let ties = format!("preprocess.ties={ties}");
        // Filters, so that what is exported is not what was read.
        let limits = [
            "--set",
            "preprocess.min_item_count=12",
            "--set",
            "preprocess.min_user_count=20",
            "--set",
            &ties,
        ];
        let before = bench.sequences(input, "before", &limits);
        let output = bench.export("before", "again.inter", &["--force"]);
        assert!(output.status.success(), "{}", stderr(&output));
        for least in ["0", "1"] {
            let least = format!("preprocess.min_item_count={least}");
            let after = bench.sequences("again.inter", "after", &["--set", &least, "--set", &ties]);
            assert!(before == after, "{input} with {ties} and {least}");
        }
        for name in ["items.parquet", "users.parquet"] {
            let bytes = |directory: &str| fs::read(bench.path(directory).join(name)).unwrap();
            assert!(bytes("before") == bytes("after"), "{input}: {name}");
        }
    }
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let bench = Bench::new();
    let refused = |data: &str, out: &str, part: &str| {
        let output = bench.export(data, out, &[]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(part), "{message}");
    };
    refused("nowhere", "a.inter", "`gro-preprocess run` makes it");
    refused("nowhere", "a", "`gro-preprocess run` makes it");

    bench.file("u.data", separated("\t"));
    bench.sequences("u.data", "data", &[]);
    bench.file("mine.inter", "my own\n");
    refused("data", "mine.inter", "mine.inter is there and holds something else");
    assert_eq!(fs::read_to_string(bench.path("mine.inter")).unwrap(), "my own\n");
    let output = bench.export("data", "mine.inter", &["--format", "csv"]);
    assert_eq!(output.status.code(), Some(2));

    // A name with a tab in it, as Steam has some.
    let line = |day: u8| format!("{{'username': 'a\\tb', 'product_id': {day}, 'date': '2018-01-0{day}'}}\n");
    bench.file("steam_reviews.json", (1..4).map(line).collect::<String>());
    bench.sequences("steam_reviews.json", "steam", &[]);
    refused("steam", "steam.inter", "users.parquet: the raw id \"a\\tb\" in row 1 holds a tab");
    refused("steam", "steam-directory", "holds a tab");

    let stats = bench.path("data/stats.json");
    fs::write(&stats, fs::read_to_string(&stats).unwrap() + " ").unwrap();
    refused("data", "b.inter", "was truncated, edited or replaced");
    for name in ["a.inter", "a", "b.inter", "steam.inter", "steam-directory"] {
        assert!(!bench.path(name).exists(), "{name} was left");
    }
}
