use gro::list::LISTS;

use crate::{Directory, listed};

#[test]
fn names_are_printed_one_a_line_in_the_order_of_the_registry() {
    assert_eq!(listed("architectures"), ["bert", "sas", "narm", "gru"]);
    assert_eq!(
        listed("defences"),
        ["none", "random", "reverse", "short", "tail", "replace", "guard", "gro", "decoy"]
    );
    assert_eq!(listed("policies"), ["none", "random", "reverse", "short"]);
    assert_eq!(listed("keyed"), ["tail", "replace"]);
    let strategies =
        ["autoregressive", "random", "coverage", "short", "singles", "mimic", "wary", "evasive", "rounds"];
    assert_eq!(listed("strategies"), strategies);
    assert_eq!(listed("losses"), ["hinge", "listmle", "softmax", "set"]);
    assert_eq!(listed("suspicions"), ["none", "shuffled", "reversed", "decoys"]);
    assert_eq!(listed("metrics"), ["HR", "NDCG", "MRR", "Agr", "EM", "RBO", "KL"]);
    assert_eq!(listed("detectors"), ["guard", "prada", "hoda"]);
}

#[test]
fn a_title_stands_after_its_name() {
    let ended = Directory::new().gro(&["list", "architectures", "--titles"]);
    assert_eq!((ended.code, &*ended.out), (0, "bert\tBERT4Rec\nsas\tSASRec\nnarm\tNARM\ngru\tGRU4Rec\n"));
}

#[test]
fn every_list_has_names_that_differ_and_a_line_of_help() {
    let help = Directory::new().gro(&["list", "--help"]).out;
    for kind in LISTS.names() {
        let names = listed(kind);
        assert!(!names.is_empty(), "{kind}");
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len(), "{kind}: {names:?}");
        assert!(names.iter().all(|name| !name.contains(char::is_whitespace)), "{kind}: {names:?}");
        assert!(help.contains(LISTS.title(kind)), "{kind}: {help}");
    }
}

#[test]
fn what_is_no_kind_is_refused_with_those_there_are() {
    let ended = Directory::new().gro(&["list", "architecture"]);
    assert_eq!((ended.code, &*ended.out), (2, ""));
    assert!(ended.err.contains("architectures"), "{}", ended.err);
}
