//! What a catalogue yields over all its items, in both versions: lists, extremes and ranks, which must tell one story.

use candle_core::{Device, Tensor};

use super::{Catalogue, Prepared, extremes, ranks, top_k};
use crate::testing::{ids, numbers, on_threads};

fn list(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A catalogue in which every third item equals the one before it, so that scores tie.
fn tied(items: usize, hidden: usize, bias: bool) -> Catalogue {
    let mut weight = numbers(2, (items + 2) * hidden);
    let mut biases = numbers(3, items + 2);
    for item in (3..items).step_by(3) {
        weight.copy_within((item - 1) * hidden..item * hidden, item * hidden);
        biases[item] = biases[item - 1];
    }
    let bias = bias.then(|| tensor(biases, &[items + 2]));
    Catalogue { weight: tensor(weight, &[items + 2, hidden]), bias, items }
}

#[test]
fn twins_agree() {
    for (rows, items, hidden, k) in
        [(1, 1, 4, 1), (1, 40, 64, 40), (37, 300, 20, 10), (70, 9001, 64, 100), (500, 9001, 8, 3)]
    {
        for bias in [false, true] {
            let catalogue = tied(items, hidden, bias);
            let states = tensor(numbers(1, rows * hidden), &[rows, hidden]);
            let targets = Tensor::new(ids(9, rows, items as u32), &Device::Cpu).unwrap();
            let targets = (targets + 1.0).unwrap();
            let (best, worst) = extremes::fused(&catalogue, &states).unwrap();
            let lists = top_k::fused(&catalogue, None, &states, k).unwrap();
            let places = ranks::fused(&catalogue, &states, &targets).unwrap();
            let (plain_best, plain_worst) = extremes::plain(&catalogue, &states).unwrap();
            assert_eq!(list(&best), list(&plain_best));
            assert_eq!(list(&worst), list(&plain_worst));
            assert_eq!(list(&lists), list(&top_k::plain(&catalogue, &states, k).unwrap()));
            assert_eq!(list(&lists), list(&top_k::by_rounds(&catalogue, &states, k).unwrap()));
            assert_eq!(list(&places), list(&ranks::plain(&catalogue, &states, &targets).unwrap()));
            let prepared = Prepared::new(&catalogue).unwrap();
            assert_eq!(list(&lists), list(&prepared.top_k(&states, k).unwrap()));
            assert!(prepared.top_k(&states, items + 1).is_err());
            for threads in [1, 3] {
                let (lists_again, best_again, worst_again, places_again) = on_threads(threads, || {
                    let (best, worst) = extremes::fused(&catalogue, &states).unwrap();
                    let lists = top_k::fused(&catalogue, None, &states, k).unwrap();
                    (
                        list(&lists),
                        list(&best),
                        list(&worst),
                        list(&ranks::fused(&catalogue, &states, &targets).unwrap()),
                    )
                });
                assert_eq!(lists_again, list(&lists), "{threads} threads");
                assert_eq!(best_again, list(&best), "{threads} threads");
                assert_eq!(worst_again, list(&worst), "{threads} threads");
                assert_eq!(places_again, list(&places), "{threads} threads");
            }
        }
    }
}

#[test]
fn lists_ranks_and_extremes_tell_one_story_in_any_batch() {
    let (rows, items, hidden, k) = (45, 5000, 64, 50);
    let catalogue = tied(items, hidden, true);
    let states = tensor(numbers(1, rows * hidden), &[rows, hidden]);
    let lists = top_k::fused(&catalogue, None, &states, k).unwrap().to_vec2::<u32>().unwrap();
    let first = list(&extremes::fused(&catalogue, &states).unwrap().0);
    for (row, ids) in lists.iter().enumerate() {
        assert_eq!(ids[0], first[row]);
        let alone = states.narrow(0, row, 1).unwrap();
        assert_eq!(&list(&top_k::fused(&catalogue, None, &alone, k).unwrap()), ids);
        for (place, &id) in ids.iter().enumerate().step_by(7) {
            let target = Tensor::new(&[id], &Device::Cpu).unwrap();
            let rank = list(&ranks::fused(&catalogue, &alone, &target).unwrap())[0] as usize;
            // An item that ties with the one after it ranks there, at most one place below the list's.
            assert!(rank == place + 1 || rank == place + 2, "rank {rank} at place {place}");
        }
    }
}

#[test]
fn scores_that_are_not_numbers_come_last() {
    let weight = tensor(vec![0.0, f32::NAN, 1.0, f32::NEG_INFINITY, 3.0, f32::NAN, 3.0], &[7, 1]);
    let catalogue = Catalogue { weight, bias: None, items: 6 };
    let states = tensor(vec![1.0], &[1, 1]);
    for k in 1..=6 {
        let expected = &[4u32, 6, 2, 1, 3, 5][..k];
        assert_eq!(list(&top_k::fused(&catalogue, None, &states, k).unwrap()), expected);
        assert_eq!(list(&top_k::plain(&catalogue, &states, k).unwrap()), expected);
        assert_eq!(list(&top_k::by_rounds(&catalogue, &states, k).unwrap()), expected);
    }
    for (target, rank) in [(4u32, 4), (1, 6), (2, 5)] {
        let target = Tensor::new(&[target], &Device::Cpu).unwrap();
        assert_eq!(list(&ranks::fused(&catalogue, &states, &target).unwrap()), [rank]);
        assert_eq!(list(&ranks::plain(&catalogue, &states, &target).unwrap()), [rank]);
    }
}

#[test]
fn nothing_of_no_rows_and_refusals() {
    let catalogue = tied(10, 4, false);
    let none = tensor(Vec::new(), &[0, 4]);
    assert_eq!(catalogue.top_k(&none, 3).unwrap().dims(), [0, 3]);
    let one = tensor(numbers(1, 4), &[1, 4]);
    assert!(catalogue.top_k(&one, 0).is_err() && catalogue.top_k(&one, 11).is_err());
    let target = Tensor::new(&[0u32], &Device::Cpu).unwrap();
    assert!(catalogue.ranks(&one, &target).is_err());
}
