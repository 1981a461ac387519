//! What others wrote, damaged: catalogues, mappings, answers and ledgers are read or refused, and nothing panics.

use std::fs;

use fuzzing::Target;
use remote::ledger::{Counts, LEDGER, key};
use remote::mapping::Mapping;
use remote::protocol::{self, Question};
use remote::{Catalogue, Error, Ledger};

#[test]
fn a_damaged_catalogue_is_read_or_refused() {
    let whole = br#"{"items": [{"id": "50", "title": "x"}, {"id": 7}, {"id": "a b"}], "splits": ["5e9"], "target": "beef", "max_len": 9, "max_k": 2}"#;
    Target::new("catalogue", [whole.to_vec(), br#"{"items": [{"id": 1}, {"id": 2}]}"#.to_vec()])
        .tokens(&["\"id\"", "\"fingerprint\"", "null", "-1", "1e99", "[]"])
        .holds(|bytes| match Catalogue::from_json(bytes, "it") {
            Ok(catalogue) => {
                assert!((1..).zip(catalogue.ids()).all(|(number, id)| catalogue.number(id) == Some(number)));
                assert!(catalogue.items() >= 2 && catalogue.max_k != Some(0));
                Ok(())
            }
            Err(error) => {
                assert!(matches!(error, Error::Refused(_)), "{error}");
                Err(error.to_string())
            }
        });
}

#[test]
fn a_damaged_mapping_asks_or_is_refused() {
    let whole = b"url: /n/{account}?n={k}\nheaders: {A: 'Bearer ${T}'}\nbody: {s: '{history:number}', l: ['{last}', 3]}\nanswer: /a/0\nid: /b\n";
    Target::new("mapping", [whole.to_vec(), b"{answer: ''}".to_vec()])
        .tokens(&["{history}", "{{", "}", "${", "method: GET\n", "\"", "&a ", "*a"])
        .holds(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let mapping = Mapping::parse(text, "https://shop.example", &|_| Some("t".to_owned()))?;
            let question = Question { account: "7", history: vec!["50", "181"], k: 3 };
            let (url, _) = mapping.question(&question)?;
            assert!(url.starts_with("https://shop.example"), "{url}");
            let _ = mapping.list(br#"{"a": [[{"b": 1}, {"b": "x"}]]}"#);
            Ok(())
        });
}

#[test]
fn a_damaged_answer_is_read_or_refused() {
    let seeds = [
        br#"{"items": ["7", 8, "a"]}"#.to_vec(),
        br#"{"answers": [{"items": ["a"]}, {"items": [1]}]}"#.to_vec(),
    ];
    Target::new("answer", seeds).tokens(&["\"items\"", "[", "null", "1.5", "-0"]).holds(|bytes| {
        let lists = protocol::lists(bytes, 2);
        assert!(lists.as_ref().map_or(true, |lists| lists.len() == 2));
        protocol::list(bytes).map(drop).or(lists.map(drop))
    });
}

#[test]
fn a_damaged_ledger_gives_back_what_was_answered_or_nothing() {
    let directory = fuzzing::directory();
    let open = || Ledger::open(directory.path(), "identity", true, Some(20));
    let questions: Vec<(_, Vec<u32>)> =
        (0..4_u32).map(|account| (key(u64::from(account), &[1, 2], 3), vec![account, 2, 3])).collect();
    let ledger = open().unwrap();
    for answer in &questions {
        ledger.reserve(2).unwrap();
        ledger.keep(std::slice::from_ref(answer)).unwrap();
        ledger.withdraw(1).unwrap();
    }
    drop(ledger);
    let path = directory.path().join(LEDGER);
    let whole = fs::read(&path).unwrap();
    Target::new("ledger", [whole]).tokens(&["\n", "A", "S", "identity"]).holds_in(&path, |_| match open() {
        Ok(ledger) => {
            for (key, ids) in &questions {
                assert!(ledger.recall(key).unwrap().is_none_or(|found| found == *ids));
            }
            let Counts { asked, .. } = ledger.counts();
            assert_eq!(
                ledger.reserve(30).ok(),
                20_u64.checked_sub(asked).filter(|&left| left > 0).map(|left| left as usize)
            );
            Ok(())
        }
        Err(error) => {
            assert!(matches!(error, Error::Refused(_)), "{error}");
            Err(error.to_string())
        }
    });
}
