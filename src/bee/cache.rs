//! A cache bounded in bytes.
//!
//! Eviction gives a second chance: what was used since the hand last passed stays. Marking an entry as used takes no
//! lock, so readers that hold an entry by a weak link never touch the cache itself. Dropping any entry at any time
//! changes no result, only the time of the next read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Something that can be kept in a [`Cache`].
pub(super) trait Cached {
    /// The mark that says that the entry was used.
    fn mark(&self) -> &UsedMark;
}

/// Set by readers, cleared by the hand that looks for something to evict.
#[derive(Debug, Default)]
pub(super) struct UsedMark(AtomicBool);

impl UsedMark {
    /// Says that the entry was used.
    pub(super) fn set(&self) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn clear(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Bytes that one entry takes, counted in a gauge for as long as the entry lives.
#[derive(Debug)]
pub(super) struct Charge {
    gauge: Arc<AtomicUsize>,
    bytes: AtomicUsize,
}

impl Charge {
    pub(super) fn new(gauge: &Arc<AtomicUsize>, bytes: usize) -> Self {
        gauge.fetch_add(bytes, Ordering::Relaxed);
        Self {
            gauge: Arc::clone(gauge),
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// The entry has grown.
    pub(super) fn add(&self, bytes: usize) {
        self.gauge.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.gauge
            .fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Entries by key, and the order in which the hand visits them.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    entries: BTreeMap<K, Arc<V>>,
    ring: VecDeque<K>,
    gauge: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl<K: Copy + Ord, V: Cached> Cache<K, V> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            ring: VecDeque::new(),
            gauge: Arc::default(),
            bytes_max,
        }
    }

    /// What entries charge their bytes to.
    pub(super) fn gauge(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.gauge)
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        let entry = self.entries.get(key)?;
        entry.mark().set();
        Some(Arc::clone(entry))
    }

    pub(super) fn insert(&mut self, key: K, value: Arc<V>) {
        if self.entries.insert(key, value).is_none() {
            self.ring.push_back(key);
        }
        self.evict();
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.entries.remove(key)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.ring.clear();
    }

    /// Drops entries until the bound holds. Entries that are also held elsewhere count until they are let go there.
    fn evict(&mut self) {
        // Keys of entries that were taken out stay in the ring until the hand meets them.
        if self.ring.len() > 2 * self.entries.len() + 64 {
            self.ring = self.entries.keys().copied().collect();
        }
        let mut visits = 2 * self.ring.len();
        while visits > 0 && self.gauge.load(Ordering::Relaxed) > self.bytes_max {
            visits -= 1;
            let Some(key) = self.ring.pop_front() else { return };
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            if entry.mark().clear() {
                self.ring.push_back(key);
            } else {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted(
        UsedMark,
        #[expect(dead_code, reason = "held for its drop")] Charge,
    );

    impl Cached for Counted {
        fn mark(&self) -> &UsedMark {
            &self.0
        }
    }

    fn entry(cache: &Cache<u32, Counted>, bytes: usize) -> Arc<Counted> {
        Arc::new(Counted(UsedMark::default(), Charge::new(&cache.gauge(), bytes)))
    }

    #[test]
    fn the_bound_holds_and_used_entries_stay() {
        let mut cache = Cache::new(100);
        for key in 0..1000 {
            let value = entry(&cache, 10);
            cache.insert(key, value);
            assert!(cache.gauge.load(Ordering::Relaxed) <= 100, "key {key}");
            assert!(cache.get(&0).is_some(), "key {key}");
        }
        assert!(cache.ring.len() <= 11);
    }

    #[test]
    fn an_entry_larger_than_the_bound_is_not_kept() {
        let mut cache = Cache::new(100);
        let value = entry(&cache, 101);
        cache.insert(1, value);
        assert!(cache.get(&1).is_none());
        assert_eq!(cache.gauge.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn taking_out_and_putting_back_does_not_grow_the_ring() {
        let mut cache = Cache::new(1000);
        for _ in 0..1000 {
            let value = entry(&cache, 10);
            cache.insert(1, value);
            assert!(cache.remove(&1).is_some());
        }
        assert!(cache.ring.len() <= 70);
    }
}
