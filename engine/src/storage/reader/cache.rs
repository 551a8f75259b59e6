//! A cache that lets go of what was not used longest.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Costs are in whatever unit the capacity is.
pub(super) struct Cache<K, V> {
    capacity: usize,
    used: usize,
    entries: HashMap<K, (V, usize, u64)>,
    order: BTreeMap<u64, K>,
    clock: Cell<u64>,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            used: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            clock: Cell::new(0),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Looks without using it.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _, _)| value)
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let now = self.tick();
        let (value, _, used_at) = self.entries.get_mut(key)?;
        self.order.remove(used_at);
        self.order.insert(now, *key);
        *used_at = now;
        Some(value.clone())
    }

    pub(super) fn insert(&mut self, key: K, value: V, cost: usize) {
        self.remove(&key);
        if cost > self.capacity {
            // It would push out everything else and still be over the bound.
            return;
        }
        while self.used + cost > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            if let Some((_, cost, _)) = self.entries.remove(&oldest) {
                self.used -= cost;
            }
        }
        let now = self.tick();
        self.entries.insert(key, (value, cost, now));
        self.order.insert(now, key);
        self.used += cost;
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((_, cost, used_at)) = self.entries.remove(key) {
            self.order.remove(&used_at);
            self.used -= cost;
        }
    }

    pub(super) fn remove_where(&mut self, goes: impl Fn(&K) -> bool) {
        let going: Vec<K> = self
            .entries
            .keys()
            .filter(|key| goes(key))
            .copied()
            .collect();
        for key in going {
            self.remove(&key);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
