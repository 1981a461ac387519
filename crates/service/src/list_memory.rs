//! What a recommender of somebody else's answered before, kept within bounds: an account that has to be worked out again costs no question about
//! a beginning of its history that is still known, and is judged by the list that it was shown then.

use hashbrown::HashMap;

/// Bytes that are kept at most.
const KEPT: usize = 256 << 20;

/// Bytes of an entry beside its list.
const ENTRY: usize = size_of::<Key>() + 2 * size_of::<Box<[u32]>>();

/// A digest of an account, the length of its lists and what it took.
type Key = [u8; 16];

/// The keys of an account's histories of the lengths 1, 2 and so on.
pub(crate) fn keys(account: u64, k: usize, history: &[u32]) -> impl Iterator<Item = Key> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&account.to_le_bytes());
    hasher.update(&(k as u64).to_le_bytes());
    history.iter().map(move |item| {
        hasher.update(&item.to_le_bytes());
        let mut key = Key::default();
        hasher.finalize_xof().fill(&mut key);
        key
    })
}

/// Lists, in two halves: when the newer one is full, the older one is forgotten.
#[derive(Debug)]
pub(crate) struct ListMemory {
    /// Bytes that are kept at most.
    most: usize,
    newer: HashMap<Key, Box<[u32]>>,
    older: HashMap<Key, Box<[u32]>>,
    /// Of the newer half.
    bytes: usize,
}

impl Default for ListMemory {
    fn default() -> Self {
        Self { most: KEPT, newer: HashMap::new(), older: HashMap::new(), bytes: 0 }
    }
}

impl ListMemory {
    /// What was answered.
    pub(crate) fn get(&self, key: &Key) -> Option<&[u32]> {
        self.newer.get(key).or_else(|| self.older.get(key)).map(|list| &**list)
    }

    /// Keeps what was answered, in the place of what was answered before.
    pub(crate) fn keep(&mut self, key: Key, list: &[u32]) {
        let bytes = ENTRY + size_of_val(list);
        if self.bytes + bytes > self.most / 2 {
            self.older = std::mem::take(&mut self.newer);
            self.bytes = 0;
        }
        if self.newer.insert(key, list.into()).is_none() {
            self.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_that_of_an_account_a_history_and_a_length() {
        let of = |account, k, history: &[u32]| keys(account, k, history).last().unwrap();
        let all =
            [of(1, 2, &[3, 4]), of(2, 2, &[3, 4]), of(1, 3, &[3, 4]), of(1, 2, &[4, 3]), of(1, 2, &[3])];
        for (place, key) in all.iter().enumerate() {
            assert!(!all[..place].contains(key), "{place}");
        }
        assert_eq!(keys(1, 2, &[3, 4, 5]).nth(1), Some(all[0]));
        let mut memory = ListMemory::default();
        memory.keep(all[0], &[7, 8]);
        memory.keep(all[0], &[8, 7]);
        assert_eq!((memory.get(&all[0]), memory.get(&all[1])), (Some(&[8, 7][..]), None));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let each = ENTRY + 8;
        let mut memory = ListMemory { most: 100 * each, ..ListMemory::default() };
        let all: Vec<Key> = keys(1, 2, &[5; 1000]).collect();
        for key in &all {
            memory.keep(*key, &[1, 2]);
            assert!((memory.newer.len() + memory.older.len()) * each <= memory.most);
        }
        assert!(memory.get(&all[999]).is_some() && memory.get(&all[950]).is_some());
        assert!(memory.get(&all[0]).is_none());
    }
}
