//! What a service keeps of accounts that come back in any order, each with one item more: what the model read of their histories, so that it
//! reads the new item alone. A causal model has such a memory; another reads whole histories. The answers are those to whole
//! histories, to the byte.
//!
//! An account whose history is long when it first comes has it read whole, once. When it comes again, more is to be expected: its history is read
//! item by item and kept from then on. What is kept is bounded, and whoever was forgotten begins again.

use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use models::{KvCache, Reading, Recommender};

use crate::Result;
use crate::prefix_cache::states;

/// Bytes that are kept at most.
const KEPT: usize = 256 << 20;

/// Histories of which it is known that they were read whole, at most.
const SEEN: usize = 1 << 16;

/// The memory. Threads share one.
#[derive(Default)]
pub(crate) struct PrefixMemory {
    pages: Mutex<Pages>,
}

/// What is kept, in two halves: when the newer one is full, the older one is forgotten.
struct Pages {
    /// Bytes that are kept at most.
    most: usize,
    newer: HashMap<Vec<u32>, KvCache>,
    older: HashMap<Vec<u32>, KvCache>,
    bytes: usize,
    /// Hashes of histories that were read whole.
    seen: HashSet<u64>,
    hasher: DefaultHashBuilder,
}

impl Default for Pages {
    fn default() -> Self {
        let (newer, older) = (HashMap::new(), HashMap::new());
        Self {
            most: KEPT,
            newer,
            older,
            bytes: 0,
            seen: HashSet::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

/// What is known of a history but its last item.
enum Known {
    /// All that the model read.
    Read(KvCache),
    /// That it was read, whole.
    Seen,
    Nothing,
}

impl Pages {
    fn take(&mut self, history: &[u32]) -> Known {
        match self.newer.remove(history).or_else(|| self.older.remove(history)) {
            Some(cache) => Known::Read(cache),
            None if self.seen.remove(&self.hasher.hash_one(history)) => Known::Seen,
            None => Known::Nothing,
        }
    }

    fn keep(&mut self, history: &[u32], cache: KvCache) {
        let bytes = cache.bytes() + size_of_val(history);
        if self.bytes + bytes > self.most / 2 {
            self.older = std::mem::take(&mut self.newer);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.newer.insert(history.to_vec(), cache);
    }

    fn see(&mut self, history: &[u32]) {
        if self.seen.len() >= SEEN {
            self.seen.clear();
        }
        self.seen.insert(self.hasher.hash_one(history));
    }
}

impl PrefixMemory {
    /// The states after histories, `(histories, hidden)`.
    pub(crate) fn states(
        &self,
        model: &dyn Recommender,
        histories: &[&[u32]],
        device: &Device,
    ) -> Result<Tensor> {
        let longest = model.sizes().max_len;
        let pages = || self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if !kernels::fused(device) || model.reading() == Reading::Cloze {
            return states(model, histories, device);
        }
        // Rows that the model goes on with, and how much of them it has read; and rows that it reads whole.
        let (mut extended, mut whole) = (Vec::new(), Vec::new());
        // Those that have just begun, which may come with either.
        let mut begun = Vec::new();
        let mut kept = pages();
        for (row, history) in histories.iter().enumerate() {
            match history {
                [_] => begun.push(row),
                [before @ .., _] if history.len() <= longest => match kept.take(before) {
                    Known::Read(cache) => extended.push((row, cache)),
                    Known::Seen => extended.push((row, KvCache::new(1))),
                    Known::Nothing => whole.push(row),
                },
                // What is read of it is another beginning each time.
                _ => whole.push(row),
            }
        }
        drop(kept);
        if extended.is_empty() {
            return self.whole(model, histories, device);
        }
        extended.extend(begun.into_iter().map(|row| (row, KvCache::new(1))));
        // Those of which least was read come first, and begin first, so that all come to their ends in the last round together.
        let behind = |row: usize, cache: &KvCache| histories[row].len() - cache.lengths()[0];
        extended.sort_by_key(|(row, cache)| (Reverse(behind(*row, cache)), *row));
        let (rows, mut caches): (Vec<usize>, Vec<KvCache>) = extended.into_iter().unzip();
        let most = behind(rows[0], &caches[0]);
        let mut ends = None;
        for left in (1..=most).rev() {
            let begun =
                rows.iter().zip(&caches).take_while(|(row, cache)| behind(**row, cache) >= left).count();
            let item = |place: usize| histories[rows[place]][caches[place].lengths()[0]];
            let items: Vec<u32> = (0..begun).map(item).collect();
            let mut joined = KvCache::join(caches.drain(..begun).collect());
            let reached = model.extend(&mut joined, &Tensor::from_vec(items, begun, device)?)?;
            let Some(reached) = reached else { return states(model, histories, device) };
            caches.splice(0..0, joined.split());
            ends = Some(reached);
        }
        let Some(ends) = ends else { return states(model, histories, device) };
        let mut kept = pages();
        for (&row, cache) in rows.iter().zip(caches) {
            kept.keep(histories[row], cache);
        }
        drop(kept);
        if whole.is_empty() && rows.is_sorted() {
            return Ok(ends);
        }
        // Back into the order of the questions.
        let mut found = ends.to_vec2::<f32>()?;
        if !whole.is_empty() {
            let others: Vec<&[u32]> = whole.iter().map(|&row| histories[row]).collect();
            found.extend(self.whole(model, &others, device)?.to_vec2::<f32>()?);
        }
        let mut places = vec![0; histories.len()];
        for (place, &row) in rows.iter().chain(&whole).enumerate() {
            places[row] = place;
        }
        let width = found.first().map_or(0, Vec::len);
        let ordered: Vec<f32> = places.into_iter().flat_map(|place| found[place].iter().copied()).collect();
        Ok(Tensor::from_vec(ordered, (histories.len(), width), device)?)
    }

    /// The states after histories that are read whole, which is remembered of those that may go on.
    fn whole(&self, model: &dyn Recommender, histories: &[&[u32]], device: &Device) -> Result<Tensor> {
        let longest = model.sizes().max_len;
        let mut kept = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        for history in histories.iter().filter(|history| history.len() < longest) {
            kept.see(history);
        }
        drop(kept);
        states(model, histories, device)
    }
}

#[cfg(test)]
mod tests {
    use models::{ARCHITECTURES, Parameters, Sizes};
    use streams::{Purpose, Streams, below};

    use super::*;

    /// Accounts that come and go, some for the first time with a long history, some twice with the same, some with more than the model
    /// reads.
    #[test]
    fn states_are_those_of_whole_histories_whoever_comes_beside_whom() {
        let network = artifact::settings::Network {
            hidden: 8,
            blocks: 2,
            heads: 2,
            max_len: 9,
            dropout: 0.0,
            attention_dropout: 0.0,
        };
        let sizes = Sizes { items: 30, network };
        for architecture in &ARCHITECTURES {
            let declared = (architecture.declare)(&sizes);
            let (streams, device) = (Streams::new(1), Device::Cpu);
            let parameters =
                Parameters::initial(&declared, 1.0, &streams, Purpose::TargetWeights, &device).unwrap();
            let model = (architecture.build)(&sizes, &parameters.detached()).unwrap();
            let memory = PrefixMemory::default();
            let mut stream = streams.open(Purpose::Generation, 0, 0, 0);
            let mut draw = |most: u32| below(&mut stream, most);
            let mut accounts: Vec<Vec<u32>> =
                (0..12).map(|_| (0..=draw(6)).map(|_| 1 + draw(30)).collect()).collect();
            for round in 0..40 {
                // Each comes in two of three rounds, and takes something most of the times.
                let mut coming: Vec<usize> = (0..accounts.len()).filter(|_| draw(3) > 0).collect();
                if round % 2 == 0 {
                    coming.reverse();
                }
                let histories: Vec<&[u32]> = coming.iter().map(|&account| &accounts[account][..]).collect();
                let found = memory.states(&*model, &histories, &device).unwrap();
                let expected = states(&*model, &histories, &device).unwrap();
                let bits = |states: Tensor| -> Vec<u32> {
                    let values = states.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    values.into_iter().map(f32::to_bits).collect()
                };
                assert_eq!(bits(found), bits(expected), "{}, round {round}", architecture.name);
                for account in coming {
                    match draw(12) {
                        0 => accounts[account].truncate(1),
                        1 => {}
                        _ => accounts[account].push(1 + draw(30)),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pages = Pages { most: 6400, ..Pages::default() };
        // Nothing was read of them, so that they take no more than their names: 8 bytes.
        for account in 1..=2000 {
            pages.keep(&[account, 1], KvCache::new(1));
        }
        assert!(pages.newer.len() + pages.older.len() <= 6400 / 8);
        assert!(matches!(pages.take(&[2000, 1]), Known::Read(_)));
        assert!(matches!(pages.take(&[2000, 1]), Known::Nothing), "it goes on from there");
        assert!(matches!(pages.take(&[1, 1]), Known::Nothing));
        for account in 0..2 * SEEN as u32 {
            pages.see(&[account]);
        }
        assert!(pages.seen.len() <= SEEN);
        assert!(matches!(pages.take(&[2 * SEEN as u32 - 1]), Known::Seen));
    }
}
