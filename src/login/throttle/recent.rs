//! A map of bounded size that forgets what has not been asked for the longest, roughly and in constant time: two
//! generations, of which the older one is dropped whole when the younger one is full.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::quality::RandomState;

/// At most twice `capacity` entries; the `capacity` last used ones are among them.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    younger: HashMap<K, V, RandomState>,
    older: HashMap<K, V, RandomState>,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V: Default> Recent<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { younger: HashMap::default(), older: HashMap::default(), capacity }
    }

    /// The value, if there is one.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.younger.get(key).or_else(|| self.older.get(key))
    }

    /// The value, made if it is missing; used just now.
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        if !self.younger.contains_key(&key) {
            if self.younger.len() >= self.capacity {
                self.older = std::mem::take(&mut self.younger);
            }
            let value = self.older.remove(&key).unwrap_or_default();
            self.younger.insert(key, value);
        }
        self.younger.entry(key).or_default()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_twice_its_capacity_and_keeps_what_is_used() {
        let mut recent: Recent<u32, u32> = Recent::new(100);
        *recent.entry(0) = 7;
        for key in 1..100_000 {
            *recent.entry(key) = key;
            assert_eq!(*recent.entry(0), 7);
            assert!(recent.len() <= 200);
        }
        assert_eq!(recent.get(&99_999), Some(&99_999));
        assert_eq!(recent.get(&5), None);
    }
}
