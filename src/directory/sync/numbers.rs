//! Small numbers for long ids, so that a decision compares integers. They never leave the process.

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers given out for keys, counted up, never given out twice.
#[derive(Debug)]
pub(super) struct Numbers<K>(HashMap<K, u32>);

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Numbers<K> {
    /// The key's number, a new one if it has none.
    pub(super) fn of(&mut self, key: &K) -> u32 {
        if let Some(&number) = self.0.get(key) {
            return number;
        }
        let number =
            u32::try_from(self.0.len()).expect("fewer than four billion of anything fit into memory");
        self.0.insert(key.clone(), number);
        number
    }
}

impl Numbers<String> {
    /// The same for a text that is not owned.
    pub(super) fn of_text(&mut self, key: &str) -> u32 {
        match self.0.get(key) {
            Some(&number) => number,
            None => self.of(&key.to_owned()),
        }
    }
}
