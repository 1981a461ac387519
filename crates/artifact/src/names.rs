//! Names that stand in settings, files and on command lines, and the registries that know them.
//!
//! Architectures, answer policies, defence methods, query strategies, metrics and layouts are each listed once, in a
//! [`Registry`]: a slice of entries, and an entry is data. Whoever lists names (help texts, the Makefile, reports, tests) asks
//! the registry, and a name that it does not hold is refused in the same words everywhere, with the nearest that it does.

use std::fmt;

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
pub const ALIKE: f64 = 0.8;

/// An entry of a [`Registry`].
pub trait Named: 'static {
    /// What files, settings and command lines call it.
    fn name(&self) -> &'static str;

    /// What papers and readers call it.
    fn title(&self) -> &'static str;
}

/// Everything of one kind that there is to choose from, in the order in which it is listed.
#[derive(Debug)]
pub struct Registry<T: 'static> {
    /// What an entry is, for messages: `architecture`, `answer policy`.
    pub kind: &'static str,
    /// The entries; no two of one name.
    pub entries: &'static [T],
}

impl<T: Named> Registry<T> {
    /// The entry of that name.
    ///
    /// # Errors
    /// A name that no entry has.
    pub fn find(&self, name: &str) -> Result<&'static T, UnknownName> {
        self.entries.iter().find(|entry| entry.name() == name).ok_or_else(|| self.unknown(name))
    }

    /// The entries, in order.
    pub fn iter(&self) -> std::slice::Iter<'static, T> {
        self.entries.iter()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<T> {
        self.entries.iter().map(Named::name)
    }

    /// Where the entry of that name stands, for sorting; after all others where there is none.
    pub fn position(&self, name: &str) -> usize {
        self.names().position(|known| known == name).unwrap_or(self.entries.len())
    }

    /// The title of the entry of that name; the name itself where there is none, as in files of a later version.
    pub fn title<'a>(&self, name: &'a str) -> &'a str {
        self.find(name).map_or(name, |entry| entry.title())
    }

    fn unknown(&self, name: &str) -> UnknownName {
        UnknownName { kind: self.kind, name: name.to_owned(), known: self.names().collect() }
    }
}

impl<T> IntoIterator for &Registry<T> {
    type Item = &'static T;
    type IntoIter = std::slice::Iter<'static, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

/// A name that is not in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    known: Vec<&'static str>,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, known } = self;
        let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        write!(formatter, "`{name}` is not {article} {kind}; ")?;
        if let Some(nearest) = nearest(name, known.iter().copied()) {
            write!(formatter, "did you mean `{nearest}`? ")?;
        }
        write!(formatter, "known: {}", known.join(", "))
    }
}

impl std::error::Error for UnknownName {}

/// How alike two names are, 0 to 1 (Jaro-Winkler).
pub fn similarity(one: &str, other: &str) -> f64 {
    strsim::jaro_winkler(one, other)
}

/// The candidate most like `name`, where one is like it at all.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let compared = candidates.map(|candidate| (similarity(name, candidate), candidate));
    let best = compared.max_by(|left, right| left.0.total_cmp(&right.0));
    best.filter(|(similarity, _)| *similarity >= ALIKE).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fruit(&'static str);

    impl Named for Fruit {
        fn name(&self) -> &'static str {
            self.0
        }

        fn title(&self) -> &'static str {
            "A fruit"
        }
    }

    const FRUIT: Registry<Fruit> =
        Registry { kind: "edible fruit", entries: &[Fruit("pear"), Fruit("apple")] };

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_and_all_known_ones() {
        assert_eq!(FRUIT.find("apple").map(|found| found.0), Ok("apple"));
        let refused = |name| FRUIT.find(name).map(|found| found.0).unwrap_err().to_string();
        assert_eq!(
            refused("aple"),
            "`aple` is not an edible fruit; did you mean `apple`? known: pear, apple"
        );
        assert_eq!(refused("zebra"), "`zebra` is not an edible fruit; known: pear, apple");
    }

    #[test]
    fn entries_are_sorted_as_they_are_listed() {
        assert_eq!(["pear", "apple", "zebra"].map(|name| FRUIT.position(name)), [0, 1, 2]);
        assert_eq!((FRUIT.title("pear"), FRUIT.title("zebra")), ("A fruit", "zebra"));
    }
}
