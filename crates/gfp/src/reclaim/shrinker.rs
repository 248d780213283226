//! Shrinkers: caches whose owner is asked to give objects up (P411-P417).
//!
//! ```text
//!  head -> page of slots -> page of slots -> null
//!          | state | shrinker | settings | deferred, one counter a node |
//! ```
//!
//! 1. A slot is `FREE`, or `TAKEN` while it is written, or live: then its state counts the calls
//!    that are under way, and a bit says that its owner wants it back. Pages of slots are taken
//!    from the machine when they are needed and kept.
//! 2. [INV-RECLAIM-1] What a live slot says is written before it becomes live and stays until no
//!    call is under way; `unregister` waits for that. So a shrinker is called only while its owner
//!    lets it be.
//! 3. No lock is held while a shrinker is called: it may allocate and free. Its requests do not
//!    reclaim (P133), so it is never entered from its own allocation.

use super::Reclaim;
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{MAX_NODES, NodeId, Order, PAGE_SIZE};
use crate::page::PageRequest;
use crate::platform::Platform;
use crate::policy::reclaim::Priority;
use crate::policy::reclaim::shrink::{
    Counted, DEFAULT_VFS_CACHE_PRESSURE, Pass, Scanned, Settings,
};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, Ordering::Relaxed};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};

/// What a shrinker is asked for.
#[derive(Copy, Clone, Debug)]
pub struct ShrinkControl {
    /// What the request that needs memory allows: IO and FS (P416).
    pub gfp: Gfp,
    /// The node that is short of memory; any, for a shrinker that does not tell nodes apart.
    pub node: NodeId,
    /// How many objects to look at; meaningful in [`Shrinker::scan`].
    pub objects: usize,
}

/// A cache whose owner can give objects up (P411).
///
/// Both calls come in the context of any request that may sleep and of background reclaim, with no
/// lock of the library held. They may allocate (such a request does not reclaim) and free. They
/// must not wait for an allocation of another task, nor unregister their own shrinker.
pub trait Shrinker: Sync {
    /// How many objects could be freed.
    fn count(&self, control: &ShrinkControl) -> Counted;

    /// Looks at [`ShrinkControl::objects`] objects, and frees those that it can spare.
    fn scan(&self, control: &ShrinkControl) -> Scanned;
}

/// A registered shrinker: what [`Reclaim::unregister_shrinker`] takes.
#[derive(Debug, PartialEq, Eq)]
pub struct ShrinkerId {
    slot: NonNull<Slot>,
}

// SAFETY: [INV-RECLAIM-1] a slot stays where it is, and is reached through atomics.
unsafe impl Send for ShrinkerId {}
// SAFETY: as above.
unsafe impl Sync for ShrinkerId {}

/// Nobody's.
const FREE: u32 = 0;
/// Being written, or being given up.
const TAKEN: u32 = 1;
/// Live; what is added to it counts calls under way.
const LIVE: u32 = 2;
/// One call.
const CALL: u32 = 4;
/// The owner wants it back: no new calls.
const LEAVING: u32 = 1 << 31;

#[derive(Debug)]
struct Slot {
    state: AtomicU32,
    what: UnsafeCell<MaybeUninit<What>>,
    deferred: [AtomicUsize; MAX_NODES],
}

/// What the owner said.
#[derive(Copy, Clone)]
struct What {
    shrinker: NonNull<dyn Shrinker>,
    settings: Settings,
}

const SLOTS: usize = (PAGE_SIZE - size_of::<usize>()) / size_of::<Slot>();

#[repr(C)]
struct SlotPage {
    next: AtomicPtr<SlotPage>,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<SlotPage>() <= PAGE_SIZE && SLOTS >= 8);

/// All shrinkers of a machine.
pub(super) struct Shrinkers {
    head: AtomicPtr<SlotPage>,
    /// P715, in percent.
    vfs_cache_pressure: AtomicUsize,
    /// Who waits for calls to end.
    leaving: WaitQueue,
}

/// One call under way; ends when dropped.
struct Calling<'a, P: Platform> {
    slot: &'a Slot,
    shrinkers: &'a Shrinkers,
    platform: &'a P,
}

impl<P: Platform> Drop for Calling<'_, P> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `unregister`: what the call did is over.
        let before = self.slot.state.fetch_sub(CALL, Ordering::Release);
        if before & LEAVING != 0 {
            self.shrinkers.leaving.wake_all(self.platform);
        }
    }
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            state: AtomicU32::new(FREE),
            what: UnsafeCell::new(MaybeUninit::uninit()),
            deferred: [const { AtomicUsize::new(0) }; MAX_NODES],
        }
    }

    /// Begins a call, if the slot is live.
    fn begin(&self) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & LIVE != 0 && state & LEAVING == 0 {
            // Acquire: pairs with the Release in `register`: what the slot says is seen.
            match self
                .state
                .compare_exchange_weak(state, state + CALL, Ordering::Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }
}

impl Shrinkers {
    pub(super) const fn new() -> Shrinkers {
        Shrinkers {
            head: AtomicPtr::new(null_mut()),
            vfs_cache_pressure: AtomicUsize::new(DEFAULT_VFS_CACHE_PRESSURE),
            leaving: WaitQueue::new(),
        }
    }

    /// All slots there are.
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        // Acquire: pairs with the Release in `grow`.
        let first = self.head.load(Ordering::Acquire);
        // SAFETY: [INV-RECLAIM-1] pages of slots are written before they are linked, and kept.
        let pages = core::iter::successors(unsafe { first.as_ref() }, |page| unsafe {
            page.next.load(Ordering::Acquire).as_ref()
        });
        pages.flat_map(|page| page.slots.iter())
    }

    /// A slot that was free and is the caller's now.
    fn take(&self) -> Option<&Slot> {
        // Acquire: pairs with the Release that freed it.
        let take = |slot: &&Slot| {
            let taken = slot
                .state
                .compare_exchange(FREE, TAKEN, Ordering::Acquire, Relaxed);
            taken.is_ok()
        };
        self.slots().find(take)
    }
}

impl<P: Platform> Reclaim<P> {
    /// Has `shrinker` asked for objects from now on, when memory is short (P411).
    ///
    /// Context: a task; takes a page now and then.
    ///
    /// # Errors
    /// No memory for a slot.
    pub fn register_shrinker(
        &self,
        shrinker: &'static dyn Shrinker,
        settings: Settings,
    ) -> Result<ShrinkerId, AllocError> {
        // SAFETY: it lives for ever.
        unsafe { self.register_shrinker_for(NonNull::from(shrinker), settings) }
    }

    /// [`Reclaim::register_shrinker`] for one that does not live for ever.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// The shrinker lives until [`Reclaim::unregister_shrinker`] has returned.
    pub unsafe fn register_shrinker_for(
        &self,
        shrinker: NonNull<dyn Shrinker>,
        settings: Settings,
    ) -> Result<ShrinkerId, AllocError> {
        let slot = loop {
            match self.shrinkers.take() {
                Some(slot) => break slot,
                None => self.grow_shrinkers()?,
            }
        };
        // SAFETY: [INV-RECLAIM-1] the slot is ours and not live: nobody reads it.
        unsafe { (*slot.what.get()).write(What { shrinker, settings }) };
        slot.deferred.iter().for_each(|d| d.store(0, Relaxed));
        // Release: pairs with the Acquire in `begin`.
        slot.state.store(LIVE, Ordering::Release);
        Ok(ShrinkerId {
            slot: NonNull::from(slot),
        })
    }

    /// A page of slots more.
    #[cold]
    fn grow_shrinkers(&self) -> Result<(), AllocError> {
        let pfn = self
            .pages
            .alloc(&PageRequest::new(GFP_KERNEL, Order::ZERO))?;
        let page = self.pages.ptr_of(pfn).cast::<SlotPage>();
        let mut head = self.shrinkers.head.load(Relaxed);
        let new = SlotPage {
            next: AtomicPtr::new(head),
            slots: [const { Slot::new() }; SLOTS],
        };
        // SAFETY: [INV-PAGE-1] the page is ours, and large enough.
        unsafe { page.write(new) };
        loop {
            // Release: pairs with the Acquire in `slots`; the page is written.
            let linked = self.shrinkers.head.compare_exchange(
                head,
                page.as_ptr(),
                Ordering::Release,
                Relaxed,
            );
            match linked {
                Ok(_) => return Ok(()),
                Err(now) => head = now,
            }
            // SAFETY: as above; it is not linked yet.
            unsafe { page.as_ref().next.store(head, Relaxed) };
        }
    }

    /// Has the shrinker asked no more. When this returns no call of it is under way.
    ///
    /// Context: a task that may sleep; not from the shrinker itself, which would wait for itself.
    ///
    /// # Panics
    /// If another machine gave the id: that machine may be gone, and its slots with it.
    pub fn unregister_shrinker(&self, id: ShrinkerId) {
        let mut slots = self.shrinkers.slots();
        let slot = slots.find(|slot| core::ptr::eq(*slot, id.slot.as_ptr()));
        let slot = slot.expect("the shrinker is registered with this machine");
        slot.state.fetch_or(LEAVING, Relaxed);
        // Acquire: pairs with the Release in `Calling::drop`.
        let idle = || slot.state.load(Ordering::Acquire) == LIVE | LEAVING;
        self.shrinkers
            .leaving
            .wait_until(self.pages.platform(), idle);
        // Release: pairs with the Acquire in `take`.
        slot.state.store(FREE, Ordering::Release);
    }

    /// P715: shrinkers of names and inodes ([`Settings::vfs`]) count so many percent of what they
    /// have; 0: nothing. Context: any.
    pub fn set_vfs_cache_pressure(&self, percent: usize) {
        self.shrinkers.vfs_cache_pressure.store(percent, Relaxed);
    }

    /// P715.
    pub fn vfs_cache_pressure(&self) -> usize {
        self.shrinkers.vfs_cache_pressure.load(Relaxed)
    }

    /// P412: asks every shrinker once, at this priority, for a node.
    pub(super) fn shrink(&self, gfp: Gfp, node: NodeId, priority: Priority) -> Shrunk {
        let mut all = Shrunk::default();
        let vfs = self.vfs_cache_pressure();
        for slot in self.shrinkers.slots() {
            if !slot.begin() {
                continue;
            }
            let _calling = Calling {
                slot,
                shrinkers: &self.shrinkers,
                platform: self.pages.platform(),
            };
            // SAFETY: [INV-RECLAIM-1] a call is under way, so it stays as it was written.
            let what = unsafe { (*slot.what.get()).assume_init() };
            let pass = shrink_one(slot, &what, gfp, node, priority, vfs);
            let left = match what.settings.allowed_by(gfp) {
                true => pass.left(),
                false => 0,
            };
            all.add(Shrunk {
                looked_at: pass.looked_at(),
                freed: pass.freed(),
                left,
            });
        }
        all
    }
}

/// What came of asking shrinkers, in objects.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Shrunk {
    pub(super) looked_at: usize,
    pub(super) freed: usize,
    /// Those that another pass could free.
    pub(super) left: usize,
}

impl Shrunk {
    /// What their owners say is not to be trusted: it may be more than there is memory.
    pub(super) const fn add(&mut self, other: Shrunk) {
        self.looked_at = self.looked_at.saturating_add(other.looked_at);
        self.freed = self.freed.saturating_add(other.freed);
        self.left = self.left.saturating_add(other.left);
    }
}

/// One pass over one shrinker.
fn shrink_one(
    slot: &Slot,
    what: &What,
    gfp: Gfp,
    node: NodeId,
    priority: Priority,
    vfs_cache_pressure: usize,
) -> Pass {
    // SAFETY: [INV-RECLAIM-1] its owner lets it be called while a call is under way.
    let shrinker = unsafe { what.shrinker.as_ref() };
    let counter = &slot.deferred[what.settings.deferred_node(node.0.into())];
    let mut control = ShrinkControl {
        gfp,
        node,
        objects: 0,
    };
    let freeable = match shrinker.count(&control) {
        Counted::Objects(objects) => what.settings.counted(objects, vfs_cache_pressure),
        // What is deferred stays so: nothing can be done for it now.
        Counted::Nothing | Counted::Empty => return Pass::new(&what.settings, 0, 0, priority),
    };
    // Taken whole, so that two reclaimers do not both do it.
    let deferred = counter.swap(0, Relaxed);
    let mut pass = Pass::new(&what.settings, freeable, deferred, priority);
    if what.settings.allowed_by(gfp) {
        while let Some(objects) = pass.next() {
            control.objects = objects;
            pass.scanned(shrinker.scan(&control));
        }
    }
    counter.fetch_add(pass.deferred(), Relaxed);
    pass
}
