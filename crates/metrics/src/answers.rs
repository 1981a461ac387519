//! The ranked lists a recommender gives out: what an attacker sees, and nothing more.

use crate::Error;

/// Ranked lists of equal length, row after row. Ids only: no scores, which is what makes a black box black.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// Length of every list.
    pub k: usize,
    /// Item ids, best first, shape `(rows, k)`; [`NOTHING`](crate::NOTHING) behind the last item of a list that holds fewer.
    pub ids: Vec<u32>,
}

impl Answers {
    /// Cut a flat slice of ids into lists of `k`.
    ///
    /// Fails with [`Error::RaggedAnswers`] where the ids do not divide into whole lists, or `k` is 0.
    pub fn new(k: usize, ids: Vec<u32>) -> Result<Self, Error> {
        if k == 0 || !ids.len().is_multiple_of(k) {
            return Err(Error::RaggedAnswers { k, ids: ids.len() });
        }
        Ok(Self { k, ids })
    }

    /// How many lists there are.
    pub fn rows(&self) -> usize {
        self.ids.len().checked_div(self.k).unwrap_or(0)
    }

    /// The list of one row, best first; empty past the last row.
    pub fn row(&self, row: usize) -> &[u32] {
        self.ids.get(row * self.k..(row + 1) * self.k).unwrap_or(&[])
    }

    /// The lists in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, u32> {
        self.ids.chunks_exact(self.k.max(1))
    }
}

impl<'a> IntoIterator for &'a Answers {
    type Item = &'a [u32];
    type IntoIter = std::slice::ChunksExact<'a, u32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_row_by_row() {
        let answers = Answers::new(2, vec![3, 1, 2, 4, 4, 2]).unwrap();
        assert_eq!(answers.rows(), 3);
        assert_eq!(answers.row(1), [2, 4]);
        assert_eq!(answers.row(3), [] as [u32; 0]);
        assert_eq!(answers.iter().map(|list| list[0]).collect::<Vec<_>>(), [3, 2, 4]);
    }

    #[test]
    fn ragged_ids_are_refused() {
        assert_eq!(Answers::new(2, vec![1]), Err(Error::RaggedAnswers { k: 2, ids: 1 }));
        assert_eq!(Answers::new(0, vec![]), Err(Error::RaggedAnswers { k: 0, ids: 0 }));
        assert_eq!(Answers::new(3, vec![]).unwrap().rows(), 0);
    }
}
