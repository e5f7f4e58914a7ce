//! In place of `src/primitives.rs`: the same names, every access of which is a step that loom orders, and smaller tables.

use std::fmt;
use std::hash::{BuildHasher, DefaultHasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use atomic::{AtomicUsize, Ordering};

/// Atomics.
pub(crate) mod atomic {
    use std::fmt;

    pub(crate) use loom::sync::atomic::Ordering;

    macro_rules! atomics {
        ($($name:ident: $type:ty),+) => {
            $(#[derive(Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub(crate) fn new(first: $type) -> Self {
                    Self(loom::sync::atomic::$name::new(first))
                }

                pub(crate) fn load(&self, order: Ordering) -> $type {
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $type, order: Ordering) {
                    self.0.store(value, order);
                }

                pub(crate) fn swap(&self, value: $type, order: Ordering) -> $type {
                    self.0.swap(value, order)
                }

                pub(crate) fn fetch_add(&self, value: $type, order: Ordering) -> $type {
                    self.0.fetch_add(value, order)
                }

                pub(crate) fn fetch_sub(&self, value: $type, order: Ordering) -> $type {
                    self.0.fetch_sub(value, order)
                }

                pub(crate) fn fetch_max(&self, value: $type, order: Ordering) -> $type {
                    self.0.fetch_max(value, order)
                }

                pub(crate) fn fetch_or(&self, value: $type, order: Ordering) -> $type {
                    self.0.fetch_or(value, order)
                }

                pub(crate) fn fetch_and(&self, value: $type, order: Ordering) -> $type {
                    self.0.fetch_and(value, order)
                }

                pub(crate) fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    next: impl FnMut($type) -> Option<$type>,
                ) -> Result<$type, $type> {
                    self.0.fetch_update(set, fetch, next)
                }

                pub(crate) fn update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    mut next: impl FnMut($type) -> $type,
                ) -> $type {
                    self.fetch_update(set, fetch, |value| Some(next(value))).unwrap_or_else(|value| value)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(stringify!($name))
                }
            })+
        };
    }

    atomics! { AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize }
}

/// A handful, for each has its price in every schedule.
pub(crate) const FANOUT: usize = 4;

/// Hashes that are the same in every schedule.
pub(crate) struct RandomState;

impl RandomState {
    pub(crate) fn new() -> Self {
        Self
    }
}

impl BuildHasher for RandomState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        DefaultHasher::new()
    }
}

/// A cell that is set once: whoever sees that it is set sees what was written before.
pub(crate) struct OnceLock<T> {
    is_set: AtomicUsize,
    setting: loom::sync::Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            is_set: AtomicUsize::new(0),
            setting: loom::sync::Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) == 1 { self.value.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let setting = self.setting.lock().expect("a model that has failed ends");
        if self.value.get().is_none() {
            let is_first = self.value.set(make()).is_ok();
            assert!(is_first, "nobody else is setting it");
            self.is_set.store(1, Ordering::Release);
        }
        drop(setting);
        self.value.get().expect("it is set")
    }
}

/// A lock with the interface of `parking_lot`.
pub(crate) struct Mutex<T> {
    turns: loom::sync::Mutex<()>,
    value: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    value: std::sync::MutexGuard<'a, T>,
    /// Given back after the value.
    _turn: loom::sync::MutexGuard<'a, ()>,
}

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let turn = self.turns.lock().expect("a model that has failed ends");
        MutexGuard { value: self.value.lock().expect("a model that has failed ends"), _turn: turn }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let turn = self.turns.try_lock().ok()?;
        Some(MutexGuard { value: self.value.lock().expect("a model that has failed ends"), _turn: turn })
    }

    /// Asked only so that its memory comes near.
    pub(crate) fn is_locked(&self) -> bool {
        false
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self { turns: loom::sync::Mutex::new(()), value: std::sync::Mutex::default() }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A pointer that is swapped whole: whoever sees the new one sees what was written before.
pub(crate) struct ArcSwapOption<T> {
    /// All that were ever stored; the current one's place counts from one, 0: none.
    stored: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    current: AtomicUsize,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        let current = self.current.load(Ordering::Acquire);
        let stored = self.stored.lock().expect("a model that has failed ends");
        Guard(current.checked_sub(1).and_then(|place| stored[place].clone()))
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        let mut stored = self.stored.lock().expect("a model that has failed ends");
        stored.push(value);
        let place = stored.len();
        drop(stored);
        self.current.swap(place, Ordering::AcqRel);
    }
}

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self { stored: std::sync::Mutex::default(), current: AtomicUsize::new(0) }
    }
}

/// What was current when it was loaded.
#[derive(Debug)]
pub(crate) struct Guard<T>(T);

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The same, where there always is one.
pub(crate) struct ArcSwap<T>(ArcSwapOption<T>);

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        let this = Self(ArcSwapOption::default());
        this.store(Arc::new(value));
        this
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load().clone().expect("there always is one")
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        self.0.store(Some(value));
    }
}

macro_rules! shown_by_name {
    ($($name:ident),+) => {
        $(impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        })+
    };
}

shown_by_name! { OnceLock, Mutex, ArcSwapOption, ArcSwap }
