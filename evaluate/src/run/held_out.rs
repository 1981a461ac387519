//! The items by which rankings are judged, and the histories that come before them: test items after everything else of a user,
//! or, where settings are to be chosen, validation items after what was trained on.

use artifact::dataset::Dataset;
use artifact::settings::HeldOut;

/// The held-out items of every user: the test items, or the validation items.
#[derive(Debug, Clone, Copy)]
pub struct HeldOutItems<'a> {
    dataset: &'a Dataset,
    which: HeldOut,
}

impl<'a> HeldOutItems<'a> {
    /// Those of this kind.
    pub fn of(dataset: &'a Dataset, which: HeldOut) -> Self {
        Self { dataset, which }
    }

    /// The users who have one, as indices in ascending order.
    pub fn users(self) -> Vec<usize> {
        match self.which {
            HeldOut::Test => self.dataset.tested(),
            HeldOut::Validation => (0..self.dataset.users()).collect(),
        }
    }

    /// That of a user; none where the user has none.
    pub fn item(self, user: usize) -> Option<u32> {
        match self.which {
            HeldOut::Test => self.dataset.test(user),
            HeldOut::Validation => Some(self.dataset.valid(user)),
        }
    }

    /// The user's items before it, in order.
    pub fn history(self, user: usize) -> Vec<u32> {
        let before = (self.which == HeldOut::Test).then(|| self.dataset.valid(user));
        self.dataset.train(user).iter().copied().chain(before).collect()
    }
}
