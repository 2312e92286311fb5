//! Map of the newest value per key, passed from one task to another: like a queue that drops outdated values. Bounded
//! by the number of keys; a sender never waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Sending and receiving end of a map. All clones share one map.
#[derive(Debug)]
pub(super) struct LatestMap<K, V> {
    inner: Arc<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    values: Mutex<BTreeMap<K, V>>,
    value_posted: Notify,
}

impl<K, V> Clone for LatestMap<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K: Ord, V> LatestMap<K, V> {
    pub(super) fn new() -> Self {
        let inner = Inner { values: Mutex::new(BTreeMap::new()), value_posted: Notify::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Stores a value, replacing an older value of the same key.
    pub(super) fn post(&self, key: K, value: V) {
        // The map is consistent after every call, even if a task that used it has panicked.
        self.inner.values.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        self.inner.value_posted.notify_one();
    }

    /// Stores a value, unless `keeps_existing` returns true for the key's existing value.
    pub(super) fn post_unless(&self, key: K, value: V, keeps_existing: impl FnOnce(&V) -> bool) {
        let mut values = self.inner.values.lock().unwrap_or_else(PoisonError::into_inner);
        if !values.get(&key).is_some_and(keeps_existing) {
            values.insert(key, value);
        }
        drop(values);
        self.inner.value_posted.notify_one();
    }

    /// Waits until a value is posted and takes all values.
    ///
    /// Cancel-safe: nothing is taken before the last await.
    pub(super) async fn take_all(&self) -> BTreeMap<K, V> {
        loop {
            let value_posted = self.inner.value_posted.notified();
            let values =
                std::mem::take(&mut *self.inner.values.lock().unwrap_or_else(PoisonError::into_inner));
            if !values.is_empty() {
                return values;
            }
            value_posted.await;
        }
    }
}
