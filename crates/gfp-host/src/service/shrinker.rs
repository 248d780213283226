//! Caches that give way, registered without unsafe code.

use super::Host;
use super::registered::Registered;
use super::std::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use gfp::AllocError;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::{ShrinkControl, Shrinker, ShrinkerId};

/// What the machine calls: the owner's shrinker, and what came of it.
struct Entry {
    shrinker: Arc<dyn Shrinker + Send>,
    /// It is asked no more, though its slot is still there.
    retired: AtomicBool,
    panicked: AtomicBool,
    freed: AtomicU64,
}

/// One call of a shrinker. If it panics, it is asked no more.
struct Asked<'e>(&'e Entry);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.panicked.store(true, Relaxed);
        self.0.retired.store(true, Relaxed);
    }
}

impl Entry {
    /// `None`: it is asked no more.
    fn ask<R>(&self, call: impl FnOnce(&dyn Shrinker) -> R) -> Option<R> {
        // Relaxed: who asks once more does no harm.
        if self.retired.load(Relaxed) {
            return None;
        }
        let asked = Asked(self);
        let answer = call(&*self.shrinker);
        core::mem::forget(asked);
        Some(answer)
    }
}

impl Shrinker for Entry {
    fn count(&self, control: &ShrinkControl) -> Counted {
        let counted = self.ask(|shrinker| shrinker.count(control));
        counted.unwrap_or(Counted::Nothing)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let scanned = self.ask(|shrinker| shrinker.scan(control));
        let scanned = scanned.unwrap_or(Scanned::Stop);
        if let Scanned::Done { freed, .. } = scanned {
            self.freed.fetch_add(freed as u64, Relaxed); // a number by itself
        }
        scanned
    }
}

/// A cache that is asked for memory while this lives.
///
/// When its drop returns, no call of the shrinker is under way. So do not drop it in the shrinker
/// itself, which would wait for itself, nor with a lock held that the shrinker waits for.
///
/// In the child of a fork the drop waits for nobody: another thread of the parent may have been in
/// the shrinker at that moment. The shrinker is asked no more there, and its memory is kept.
pub struct ShrinkerGuard {
    /// First, so that it goes before the machine does.
    entry: Registered<Entry>,
    host: Host,
    id: Option<ShrinkerId>,
}

impl Host {
    /// Has a cache asked for memory when it is short, until the guard is dropped (P411, P412).
    ///
    /// Both calls of the shrinker come on any thread that asks for memory with `GFP_KERNEL` or the
    /// like, and on the background's. Requests must not be made with a lock held that they wait
    /// for; with [`Scanned::Stop`] a shrinker that finds its lock taken says so. After a fork a
    /// lock may be held by a thread that the child does not have: a program that forks and goes on
    /// should take it without waiting. One that panics takes the request with it that asked, and is
    /// asked no more ([`ShrinkerGuard::has_panicked`]); the background goes on.
    ///
    /// ```
    /// use gfp::flags::GFP_KERNEL;
    /// use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
    /// use gfp::reclaim::{ShrinkControl, Shrinker};
    /// use gfp_host::{Buffer, Host, HostConfig};
    /// use std::sync::{Arc, Mutex};
    ///
    /// struct Cache(Mutex<Vec<Buffer>>);
    ///
    /// impl Shrinker for Cache {
    ///     fn count(&self, _: &ShrinkControl) -> Counted {
    ///         Counted::Objects(self.0.lock().unwrap().len())
    ///     }
    ///     fn scan(&self, control: &ShrinkControl) -> Scanned {
    ///         let mut values = self.0.lock().unwrap();
    ///         let freed = control.objects.min(values.len());
    ///         values.drain(..freed);
    ///         Scanned::Done { looked_at: control.objects, freed }
    ///     }
    /// }
    ///
    /// let host = Host::boot(&HostConfig::new(16 << 20))?;
    /// let cache = Arc::new(Cache(Mutex::new(Vec::new())));
    /// let guard = host.register_shrinker(cache.clone(), Settings::default())?;
    /// for _ in 0..10_000 {
    ///     let value = host.buffer(4096, GFP_KERNEL)?; // 40 MiB go through 16
    ///     cache.0.lock().unwrap().push(value);
    /// }
    /// assert!(guard.freed_objects() > 5_000);
    /// # drop(guard);
    /// # cache.0.lock().unwrap().clear();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No memory for a slot: register early.
    pub fn register_shrinker(
        &self,
        shrinker: Arc<dyn Shrinker + Send>,
        settings: Settings,
    ) -> Result<ShrinkerGuard, AllocError> {
        let entry = Entry {
            shrinker,
            retired: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            freed: AtomicU64::new(0),
        };
        let mut guard = ShrinkerGuard {
            entry: Registered::new(entry),
            host: self.clone(),
            id: None,
        };
        // SAFETY: [INV-HOST-7] it lives until the guard's drop, which unregisters it first.
        let id = unsafe { self.register_shrinker_for(guard.entry.address(), settings) };
        guard.id = Some(id?);
        Ok(guard)
    }
}

impl ShrinkerGuard {
    /// Objects that the shrinker has freed so far.
    pub fn freed_objects(&self) -> u64 {
        self.entry.freed.load(Relaxed)
    }

    /// The shrinker has panicked, so it is asked no more.
    pub fn has_panicked(&self) -> bool {
        self.entry.panicked.load(Relaxed)
    }
}

impl Drop for ShrinkerGuard {
    fn drop(&mut self) {
        if !self.entry.is_ours() {
            self.entry.retired.store(true, Relaxed); // a thread that asks once more does no harm
        } else if let Some(id) = self.id.take() {
            self.host.unregister_shrinker(id);
        }
    }
}

impl fmt::Debug for ShrinkerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShrinkerGuard({} objects freed)", self.freed_objects())
    }
}
