//! The public data sets that [`fetch`](mod@crate::raw::fetch) knows. To add one, add it to [`DATASETS`]; the help text, the
//! shell completions and the messages ask that list.

use artifact::names::{Named, Registry};
use indicatif::HumanCount;

use crate::read::layouts::Layout;
use crate::read::layouts::amazon::AMAZON;
use crate::read::layouts::steam::STEAM;

/// All public data sets, in the order of every listing.
pub const DATASETS: Registry<Dataset<'static>> = Registry {
    kind: "data set",
    entries: &[
        Dataset {
            name: "ml-100k",
            title: "MovieLens-100K",
            users: 943,
            interactions: 100_000,
            filtered: [943, 1_349, 99_287],
            url: "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            content: Content::Zip { md5: "0e33842e24a9c977be4e0107933c0723", member: "ml-100k/u.data" },
            mirror: Some(Mirror {
                requirement: "recbole==1.2.1",
                member: "recbole/dataset_example/ml-100k/ml-100k.inter",
                sha256: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            }),
        },
        Dataset {
            name: "ml-1m",
            title: "MovieLens-1M",
            users: 6_040,
            interactions: 1_000_209,
            filtered: [6_040, 3_416, 999_611],
            url: "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
            content: Content::Zip { md5: "c4d9eecfca2ab87c1945afe126590906", member: "ml-1m/ratings.dat" },
            mirror: None,
        },
        Dataset {
            name: "ml-20m",
            title: "MovieLens-20M",
            users: 138_493,
            interactions: 20_000_263,
            filtered: [138_493, 26_744, 20_000_263],
            url: "https://files.grouplens.org/datasets/movielens/ml-20m.zip",
            content: Content::Zip { md5: "cd245b17a1ae2cc31bb14903e1204af3", member: "ml-20m/ratings.csv" },
            mirror: None,
        },
        Dataset {
            name: "steam",
            title: "Steam reviews",
            users: 2_567_538,
            interactions: 7_793_069,
            filtered: [281_428, 13_044, 3_488_885],
            url: "http://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz",
            content: Content::Plain { layout: &STEAM },
            mirror: None,
        },
        Dataset {
            name: "beauty",
            title: "Amazon Beauty",
            users: 1_210_271,
            interactions: 2_023_070,
            filtered: [40_226, 54_542, 353_962],
            url: "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_Beauty.csv",
            content: Content::Plain { layout: &AMAZON },
            mirror: None,
        },
    ],
};

/// A data set and where it can be had.
#[derive(Clone, Copy, Debug)]
pub struct Dataset<'a> {
    /// Its name, which is also that of its directory.
    pub name: &'a str,
    /// What it is called in prose.
    pub title: &'a str,
    /// How many users it has.
    pub users: u64,
    /// How many ratings or reviews it has.
    pub interactions: u64,
    /// Users, items and interactions that are left by filters as published models have them, for plans.
    pub filtered: [u64; 3],
    /// Its publisher's address of it.
    pub url: &'a str,
    /// What is found there.
    pub content: Content<'a>,
    /// Another source of the same interactions.
    pub mirror: Option<Mirror<'a>>,
}

/// What a publisher offers.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A zip archive.
    Zip {
        /// MD5 of the archive, as the publisher gives it.
        md5: &'a str,
        /// The one file of the archive that is needed.
        member: &'a str,
    },
    /// The file itself, without a checksum.
    Plain {
        /// The layout that its lines must have.
        layout: &'a Layout,
    },
}

/// A Python wheel that carries a data set.
#[derive(Clone, Copy, Debug)]
pub struct Mirror<'a> {
    /// What pip is asked for, name and exact version.
    pub requirement: &'a str,
    /// The one file of the wheel that is needed.
    pub member: &'a str,
    /// SHA-256 of that file.
    pub sha256: &'a str,
}

impl Named for Dataset<'static> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl Dataset<'_> {
    /// Title and size in one line.
    pub fn summary(&self) -> String {
        let (users, interactions) = (HumanCount(self.users), HumanCount(self.interactions));
        format!("{}: {users} users, {interactions} interactions", self.title)
    }

    /// What the publisher's file is called in the data set's directory.
    pub fn file_name(&self) -> String {
        match self.content {
            Content::Zip { .. } => format!("{}.zip", self.name),
            Content::Plain { .. } => base_name(self.url).to_owned(),
        }
    }
}

/// What stands behind the last slash.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
