//! Who owns what: memory that is given out twice is seen, whoever gets it.
//!
//! 1. A *holding* is one allocation in one word: where, of which kind and size, and the tag of who
//!    took it. Holdings are passed between CPUs and handlers through atomic words.
//! 2. Its memory is filled with words made from its tag and address. Each free checks them.
//! 3. The map has a tag for each frame: a block of pages claims all its frames, and a claim of a
//!    frame that has an owner is counted as wrong.

use super::fixture::Wrong;
use crate::arch::DIRECT_MAP;
use crate::controls::{Control, broken};
use crate::memory::mm;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering, Ordering::Relaxed};
use gfp::AllocError;
use gfp::flags::Gfp;
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::slab::CacheRef;

/// Sizes of objects that are asked from kmalloc.
pub(super) const SIZES: [usize; 14] = [
    8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 20_000,
];

/// What is asked for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// From kmalloc; an index of [`SIZES`].
    Object(u8),
    /// 2^order pages.
    Pages(u8),
    /// An object of the cache of the test.
    Cached,
}

/// Bytes of an object of the cache of the test.
pub(super) const CACHED_BYTES: usize = 320;

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Object(size) => SIZES[size as usize],
            Kind::Pages(order) => PAGE_SIZE << order,
            Kind::Cached => CACHED_BYTES,
        }
    }

    fn code(self) -> u64 {
        match self {
            Kind::Object(size) => size.into(),
            Kind::Pages(order) => 0x40 | u64::from(order),
            Kind::Cached => 0x80,
        }
    }

    fn from_code(code: u8) -> Kind {
        match code {
            0x80 => Kind::Cached,
            0x40..0x80 => Kind::Pages(code & 0x3f),
            size => Kind::Object(size),
        }
    }
}

/// One allocation: `address / 8` in 40 bits, kind in 8, tag in 16. Never 0.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Holding(u64);

impl Holding {
    fn new(at: *mut u8, kind: Kind, tag: u16) -> Holding {
        let phys = (at.addr() - DIRECT_MAP) as u64;
        Holding(phys >> 3 << 24 | kind.code() << 16 | u64::from(tag))
    }

    fn at(self) -> *mut u64 {
        crate::arch::phys_to_ptr(self.0 >> 24 << 3).cast()
    }

    fn kind(self) -> Kind {
        Kind::from_code((self.0 >> 16) as u8)
    }

    fn tag(self) -> u16 {
        self.0 as u16
    }

    /// The word that fills it.
    fn pattern(self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }

    /// The words to fill: all of an object, the first and last of each page.
    fn words(self) -> impl Iterator<Item = *mut u64> {
        let words = self.kind().bytes() / 8;
        let at = self.at();
        let whole = !matches!(self.kind(), Kind::Pages(_));
        let edge = move |i: &usize| whole || i % 512 < 8 || i % 512 >= 504;
        (0..words).filter(edge).map(move |i| at.wrapping_add(i))
    }
}

/// A place for a holding; any context may put and take.
pub(super) struct Place(AtomicU64);

impl Place {
    pub(super) const fn new() -> Place {
        Place(AtomicU64::new(0))
    }

    /// Puts a holding, or nothing, and takes what was there.
    pub(super) fn swap(&self, holding: Option<Holding>) -> Option<Holding> {
        let word = holding.map_or(0, |h| h.0);
        // AcqRel: what its owner wrote into it is seen by who takes it.
        let old = self.0.swap(word, Ordering::AcqRel);
        (old != 0).then_some(Holding(old))
    }
}

/// The map of frames, and the cache that objects come from.
pub(super) struct Owners {
    first: Pfn,
    tags: Vec<AtomicU16>,
    cache: CacheRef,
    /// For the control that gives memory twice.
    last: Place,
}

static OWNERS: AtomicPtr<Owners> = AtomicPtr::new(core::ptr::null_mut());

impl Owners {
    /// Makes the map; it is [`Owners::get`]'s until [`Owners::end`].
    pub(super) fn begin(cache: CacheRef) {
        let frames = mm().pages().frames();
        let tags = (0..frames.len()).map(|_| AtomicU16::new(0)).collect();
        let owners = Owners {
            first: frames.base(),
            tags,
            cache,
            last: Place::new(),
        };
        let old = OWNERS.swap(Box::into_raw(Box::new(owners)), Ordering::Release);
        assert!(old.is_null(), "one test at a time");
    }

    /// The map, while there is one.
    pub(super) fn get() -> Option<&'static Owners> {
        // Acquire: pairs with the Release in `begin`.
        // SAFETY: it is ended when nobody uses it any more.
        unsafe { OWNERS.load(Ordering::Acquire).as_ref() }
    }

    /// Ends the map. All CPUs are done with it.
    pub(super) fn end() {
        let old = OWNERS.swap(core::ptr::null_mut(), Ordering::Acquire);
        assert!(!old.is_null(), "begun before");
        // SAFETY: made by `begin`; nobody uses it.
        drop(unsafe { Box::from_raw(old) });
    }

    /// Allocates, claims and fills.
    pub(super) fn take(&self, kind: Kind, gfp: Gfp, tag: u16) -> Result<Holding, AllocError> {
        if broken(Control::GivenTwice)
            && let Some(other) = self.last.swap(None)
        {
            // As if we were given what somebody else has, too.
            self.claim(Holding::new(other.at().cast(), other.kind(), tag));
        }
        let at = match kind {
            Kind::Object(_) => mm().kmalloc(kind.bytes(), gfp)?,
            Kind::Pages(order) => mm().get_free_pages(gfp, order)?,
            Kind::Cached => mm().kmem_cache_alloc(self.cache, gfp)?,
        };
        let holding = Holding::new(at.as_ptr(), kind, tag);
        self.claim(holding);
        for word in holding.words() {
            // SAFETY: ours. Volatile: it is read through another pointer.
            unsafe { word.write_volatile(holding.pattern()) }
        }
        if matches!(kind, Kind::Pages(_)) {
            self.last.swap(Some(holding));
        }
        Ok(holding)
    }

    /// Checks that nobody else wrote, gives the claim up and frees.
    pub(super) fn free(&self, holding: Holding) {
        // SAFETY: the holding's.
        let same = |word: *mut u64| unsafe { word.read_volatile() } == holding.pattern();
        Wrong::Content.unless(holding.words().all(same));
        self.change(holding, holding.tag(), 0, Wrong::NotOwned);
        let at = holding.at().cast();
        // SAFETY: ours, and freed once.
        unsafe {
            match holding.kind() {
                Kind::Object(_) => mm().kfree(at),
                Kind::Pages(order) => mm().free_pages(at, order),
                Kind::Cached => mm().kmem_cache_free(self.cache, at),
            }
        }
    }

    fn claim(&self, holding: Holding) {
        self.change(holding, 0, holding.tag(), Wrong::GivenTwice);
    }

    fn change(&self, holding: Holding, from: u16, to: u16, wrong: Wrong) {
        let Kind::Pages(order) = holding.kind() else {
            return; // frames of objects belong to many; what they hold is checked
        };
        let first = mm().pages().pfn_of(holding.at().addr()).0 - self.first.0;
        for tag in &self.tags[first..first + (1 << order)] {
            wrong.unless(tag.swap(to, Relaxed) == from);
        }
    }
}
