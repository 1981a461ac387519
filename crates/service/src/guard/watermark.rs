//! The watermark in the answers of accounts that are not flagged: the key draws half of the catalogue as *green*, the other half is red,
//! and within short blocks of a list green items come first. A copy learns to rank green items a little higher than it should, and
//! whoever has the key can tell (`gro-evaluate prove`). The idea is that of green and red words in the text of a language
//! model (Kirchenbauer et al., ICML 2023), brought to recommenders by GREW (Zhou et al., 2026, arXiv 2604.23568), which moves scores; here
//! places are moved, and only within a block, so that the best items stay the best items: what a block holds does not change.

use streams::mark;

use crate::key::Key;

/// The green half of a catalogue.
#[derive(Clone, Debug)]
pub struct Green {
    /// Whether item `id` is green, at place `id`; place 0 is nobody's.
    green: Vec<bool>,
}

impl Green {
    /// The half of a catalogue of `items` that a key draws; of an odd number the smaller half.
    pub fn new(key: &Key, items: usize) -> Self {
        let mut green = vec![false];
        green.extend(mark(items, items / 2, &mut key.stream("watermark", &[])));
        Self { green }
    }

    /// Whether an item is green.
    pub fn holds(&self, item: u32) -> bool {
        self.green[item as usize]
    }

    /// Puts the green items of each block of `block` places before the red ones, both otherwise in their order. Blocks begin at the first place,
    /// and once more behind the `honest` first ones, so that nothing moves from behind these among them.
    pub fn first(&self, list: &mut [u32], block: usize, honest: usize) {
        let (head, tail) = list.split_at_mut(honest.min(list.len()));
        for block in head.chunks_mut(block).chain(tail.chunks_mut(block)) {
            block.sort_by_key(|&item| !self.holds(item));
        }
    }
}

#[cfg(test)]
mod tests {
    use streams::{Purpose, Streams, shuffle};

    use super::*;

    #[test]
    fn a_key_draws_half_of_the_catalogue_and_another_key_another_half() {
        let greens = [1, 2].map(|seed| Green::new(&Key::of_seed(seed), 1001));
        for green in &greens {
            assert_eq!((1..=1001).filter(|&item| green.holds(item)).count(), 500);
        }
        let both = (1..=1001).filter(|&item| greens.iter().all(|green| green.holds(item))).count();
        // A quarter, give or take four standard deviations.
        assert!(both.abs_diff(250) < 32, "{both}");
        assert_eq!(greens[0].green, Green::new(&Key::of_seed(1), 1001).green);
    }

    #[test]
    fn green_items_come_first_in_each_block_and_nothing_else_moves() {
        let green = Green::new(&Key::of_seed(1), 200);
        let mut stream = Streams::new(1).open(Purpose::Generation, 0, 0, 0);
        let mut ranked: Vec<u32> = (1..=200).collect();
        for (block, honest, k) in
            [(2, 10, 100), (5, 10, 100), (10, 10, 97), (3, 10, 38), (7, 8, 20), (4, 10, 6)]
        {
            shuffle(&mut ranked, &mut stream);
            let ranked = &ranked[..k];
            let mut list = ranked.to_vec();
            green.first(&mut list, block, honest);
            let cut = honest.min(k);
            let starts = (0..cut).step_by(block).map(|start| (start, (start + block).min(cut)));
            let starts = starts.chain((cut..k).step_by(block).map(|start| (start, (start + block).min(k))));
            let mut moved = 0;
            for (start, end) in starts {
                let (marked, open) = (&list[start..end], &ranked[start..end]);
                let (mut expected, red): (Vec<u32>, Vec<u32>) =
                    open.iter().partition(|&&item| green.holds(item));
                expected.extend(red);
                assert_eq!(marked, expected, "{block} {honest} {k} {start}");
                moved += usize::from(marked != open);
            }
            assert!(k < 20 || moved > 0, "{block} {honest} {k}");
        }
    }
}
