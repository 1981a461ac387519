//! Canaries: items at the bottom of the model's ranking for this history, drawn by the key and put into the places of a list past the
//! first ones. People do not take them. They cost users nothing in the first places, and less further down the longer an account takes
//! as users do: who is trusted sees none.
//!
//! For `c` canaries, four times as many items are drawn, and those are used that score lowest after the first item of the account: about
//! the last quarter of that ranking, found without ranking the catalogue.
//!
//! They last as long as the account, and stand in one list after the other as the true items do: who takes only what he was shown twice
//! takes them all the same. One that the model has come to rank among the best is no canary in that list. Their places are drawn for
//! every question anew.

use std::hint::select_unpredictable;

use streams::{below, mark};

use crate::key::Key;

/// Items drawn for each canary.
const DEPTH: usize = 4;

/// How canaries come into lists of one length.
#[derive(Debug)]
pub struct Canaries<'a> {
    key: &'a Key,
    honest: usize,
    count: usize,
}

impl<'a> Canaries<'a> {
    /// A `share` of the places past the first `honest` ones of a list of `k`.
    pub fn new(key: &'a Key, honest: usize, share: f64, k: usize) -> Self {
        let count = (share * k.saturating_sub(honest) as f64).round() as usize;
        Self { key, honest, count }
    }

    /// What the canaries of an account are chosen from, which is told by its `first` item: different items of a catalogue of `items`, as many
    /// for every account.
    pub fn candidates(&self, first: u32, items: usize) -> Vec<u32> {
        let wanted = (DEPTH * self.count).min(items / 2);
        let mut stream = self.key.stream("canaries", &[first]);
        let mut drawn: Vec<u32> = Vec::with_capacity(wanted);
        while drawn.len() < wanted {
            let item = 1 + below(&mut stream, items as u32);
            if !drawn.contains(&item) {
                drawn.push(item);
            }
        }
        drawn
    }

    /// The canaries of an account: those of its candidates that score lowest after its first item, the lowest first.
    pub fn choose(&self, candidates: &[u32], scores: &[f32]) -> Vec<u32> {
        let mut worst: Vec<(f32, u32)> = scores.iter().copied().zip(candidates.iter().copied()).collect();
        worst.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        worst.into_iter().map(|(_, item)| item).take(self.count).collect()
    }

    /// Puts an account's `canaries` into `list`, whose other items close up behind them: as many as there may be, times `doubt`, 0 to 1;
    /// none that the list holds itself. Those that it put there are written to `chosen`.
    pub fn put(
        &self,
        doubt: f64,
        history: &[u32],
        canaries: &[u32],
        list: &mut [u32],
        (chosen, room): (&mut Vec<u32>, &mut Room),
    ) {
        chosen.clear();
        let count = (doubt * self.count as f64).round() as usize;
        if count == 0 {
            return;
        }
        room.note(list);
        chosen.reserve(count);
        for &item in canaries {
            if chosen.len() == count {
                break;
            }
            if !room.holds(item, list) {
                chosen.push(item);
            }
        }
        let mut stream = self.key.stream_after("places of canaries", history);
        let places = mark(list.len() - self.honest, chosen.len(), &mut stream);
        // The places are random: a processor that guesses at each what it is for guesses wrong. Canaries and true items are copied one
        // behind the other first, so that none is overwritten before it moved.
        let tail = &mut list[self.honest..];
        room.items.clear();
        room.items.extend_from_slice(chosen);
        room.items.extend_from_slice(tail);
        let mut put = 0;
        for (number, (place, canary)) in tail.iter_mut().zip(places).enumerate() {
            *place = room.items[select_unpredictable(canary, put, chosen.len() + number - put)];
            put += usize::from(canary);
        }
    }
}

/// Room to work in, which lists take one after the other.
#[derive(Debug)]
pub struct Room {
    /// The number of the latest list that held an item, by the last bits of the item's id: few others look as if the list held them.
    latest: Box<[u16; Room::SLOTS]>,
    number: u16,
    items: Vec<u32>,
}

impl Default for Room {
    fn default() -> Self {
        Self { latest: Box::new([0; Self::SLOTS]), number: 0, items: Vec::new() }
    }
}

impl Room {
    const SLOTS: usize = 4096;

    /// The items of `list` are those asked about from now on.
    fn note(&mut self, list: &[u32]) {
        self.number = self.number.wrapping_add(1);
        if self.number == 0 {
            self.latest.fill(0);
            self.number = 1;
        }
        for &item in list {
            self.latest[item as usize % Self::SLOTS] = self.number;
        }
    }

    fn holds(&self, item: u32, list: &[u32]) -> bool {
        self.latest[item as usize % Self::SLOTS] == self.number && list.contains(&item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_those_drawn_stand_past_the_honest_places() {
        let key = Key::of_seed(1);
        let canaries = Canaries::new(&key, 10, 0.1, 100);
        let candidates = canaries.candidates(3, 1000);
        assert_eq!(candidates.len(), 36);
        // Item i scores -i, and the list holds the best hundred.
        let scores: Vec<f32> = candidates.iter().map(|&item| -(item as f32)).collect();
        let chosen = canaries.choose(&candidates, &scores);
        let mut lowest = candidates.clone();
        lowest.sort_unstable_by_key(|item| std::cmp::Reverse(*item));
        assert_eq!(chosen, lowest[..9], "the nine of 36 that score lowest, the lowest first");
        let mut list: Vec<u32> = (1..=100).collect();
        let (mut put, mut room) = (Vec::new(), Room::default());
        canaries.put(1.0, &[3, 4], &chosen, &mut list, (&mut put, &mut room));
        assert_eq!(put, chosen);
        assert_eq!(list[..10], (1..=10).collect::<Vec<u32>>());
        let honest: Vec<u32> = list.iter().copied().filter(|item| !chosen.contains(item)).collect();
        assert_eq!(honest, (1..=91).collect::<Vec<u32>>(), "the others close up");
        assert_eq!(list.len(), 100);
        let mut list: Vec<u32> = (1..=100).collect();
        canaries.put(0.3, &[3, 4], &chosen, &mut list, (&mut put, &mut room));
        assert_eq!(put, chosen[..3]);
        canaries.put(0.0, &[3, 4], &chosen, &mut list, (&mut put, &mut room));
        assert!(put.is_empty());
    }

    #[test]
    fn another_key_draws_others_and_the_same_key_the_same() {
        let of = |key: &Key, first: u32| Canaries::new(key, 10, 0.1, 100).candidates(first, 1000);
        let key = Key::of_seed(1);
        assert_eq!(of(&key, 1), of(&key, 1));
        assert_ne!(of(&key, 1), of(&key, 2));
        assert_ne!(of(&key, 1), of(&Key::of_seed(2), 1));
    }

    #[test]
    fn a_list_that_holds_the_canaries_and_one_that_is_short_have_none() {
        let key = Key::of_seed(1);
        assert_eq!(Canaries::new(&key, 10, 0.1, 10).candidates(1, 50), Vec::<u32>::new());
        let canaries = Canaries::new(&key, 2, 0.5, 8);
        let (mut put, mut room) = (vec![7], Room::default());
        let mut list: Vec<u32> = (1..=8).collect();
        canaries.put(1.0, &[1], &[5, 6], &mut list, (&mut put, &mut room));
        assert!(put.is_empty());
        // 4099 looks like 3, and is not held.
        canaries.put(1.0, &[1], &[5, 4099], &mut list, (&mut put, &mut room));
        assert_eq!((&put[..], list.contains(&4099)), (&[4099][..], true));
        let mut list: Vec<u32> = (1..=8).collect();
        canaries.put(1.0, &[1], &[5, 6], &mut list, (&mut put, &mut room));
        assert_eq!(list, (1..=8).collect::<Vec<u32>>());
    }

    #[test]
    fn what_the_list_before_held_is_forgotten() {
        let mut room = Room::default();
        // More lists than can be numbered.
        for number in 1..=70_000 {
            let list = [number, number + 1];
            room.note(&list);
            assert!(room.holds(number, &list) && !room.holds(number - 1, &list), "{number}");
        }
    }
}
