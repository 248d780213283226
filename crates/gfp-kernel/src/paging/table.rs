//! Tables of four levels, seen through the direct map.
//!
//! [INV-PAGING-1] An entry that is present and not a page names a frame that is a table for ever
//! and that the direct map shows. An entry of the last level is written only by who owns its page;
//! who takes a page away keeps its addresses until all CPUs have forgotten it.

use crate::arch::percpu::MAX_CPUS;
use crate::arch::{KBASE, cpu, phys_to_ptr};
use crate::controls::{Control, broken};
use core::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed};
use gfp::frame::{PAGE_SHIFT, Pfn, PhysAddr};
use gfp::platform::Protection;

/// The level whose entries are pages of 4 KiB.
pub(super) const LEAF: u32 = 0;
/// The level whose entries may be pages of 2 MiB.
pub(super) const MIDDLE: u32 = 1;
/// The level whose entries may be pages of 1 GiB.
pub(super) const UPPER: u32 = 2;
/// The level of the one table that CR3 names.
pub(super) const ROOT: u32 = 3;

/// Entries of a table.
pub(super) const ENTRIES: usize = 512;

/// Bytes that an entry of a level stands for.
pub(super) const fn span(level: u32) -> u64 {
    1 << (PAGE_SHIFT + 9 * level)
}

/// Which entry of a table of this level an address uses.
#[inline]
pub(super) const fn index(addr: usize, level: u32) -> usize {
    addr >> (PAGE_SHIFT + 9 * level) & (ENTRIES - 1)
}

/// One entry: a page, a table, or nothing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry(u64);

/// What a page of the direct map or the image may be used for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Read and execute.
    Text,
    /// Read.
    ReadOnly,
    /// Read and write.
    Data,
    /// Whatever the levels above allow.
    AsAbove,
}

impl Entry {
    const PRESENT: u64 = 1 << 0;
    const WRITE: u64 = 1 << 1;
    /// Set from the start, so that the CPU need not: accessed, dirty.
    const TOUCHED: u64 = 1 << 5 | 1 << 6;
    const LARGE: u64 = 1 << 7;
    const GLOBAL: u64 = 1 << 8;
    const NO_EXECUTE: u64 = 1 << 63;
    const PHYS: u64 = 0x000f_ffff_ffff_f000;

    /// Nothing: an access faults.
    pub(super) const EMPTY: Entry = Entry(0);

    /// A table.
    pub(super) const fn table(phys: u64) -> Entry {
        Entry(phys | Entry::WRITE | Entry::PRESENT)
    }

    /// The same, and nothing below is executed.
    pub(super) const fn never_executed(self) -> Entry {
        Entry(self.0 | Entry::NO_EXECUTE)
    }

    /// A page of a window.
    #[inline]
    pub(super) fn page(frame: Pfn, protection: Protection) -> Entry {
        let what = match protection {
            Protection::Read if !broken(Control::Protection) => Use::ReadOnly,
            _ => Use::Data,
        };
        Entry::small(frame.phys().0, what)
    }

    /// A page of 4 KiB.
    #[inline]
    pub(super) fn small(phys: u64, what: Use) -> Entry {
        debug_assert_eq!(phys & !Entry::PHYS, 0);
        let write = match what {
            Use::Data | Use::AsAbove => Entry::WRITE,
            _ if broken(Control::Protection) => Entry::WRITE,
            Use::Text | Use::ReadOnly => 0,
        };
        let no_execute = match what {
            Use::Text | Use::AsAbove => 0,
            _ if broken(Control::Execute) => 0,
            Use::ReadOnly | Use::Data => Entry::NO_EXECUTE,
        };
        Entry(phys | write | no_execute | Entry::PRESENT | Entry::TOUCHED | Entry::GLOBAL)
    }

    /// A page of 2 MiB or 1 GiB of the direct map.
    pub(super) const fn large(phys: u64) -> Entry {
        let flags = Entry::PRESENT | Entry::WRITE | Entry::TOUCHED | Entry::GLOBAL | Entry::LARGE;
        Entry(phys | flags)
    }

    /// True if it is a page or a table.
    #[inline]
    pub(super) fn is_present(self) -> bool {
        self.0 & Entry::PRESENT != 0
    }

    /// True if it is a large page; meaningful above the last level.
    pub(super) fn is_large(self) -> bool {
        self.0 & Entry::LARGE != 0
    }

    /// The address of the page or table.
    #[inline]
    pub(super) fn phys(self) -> u64 {
        self.0 & Entry::PHYS
    }
}

/// A table.
#[repr(C, align(4096))]
pub(super) struct Table([AtomicU64; ENTRIES]);

impl Table {
    /// An empty one.
    pub(super) const fn new() -> Table {
        Table([const { AtomicU64::new(0) }; ENTRIES])
    }

    /// The one that CR3 names.
    pub(super) fn root() -> &'static Table {
        Table::at(cpu::read_cr3() & Entry::PHYS)
    }

    #[inline]
    fn at(phys: u64) -> &'static Table {
        // SAFETY: [INV-PAGING-1] the frame is a table for ever, and all its words are atomics.
        unsafe { &*phys_to_ptr(phys).cast::<Table>() }
    }

    /// The physical address of a table that is part of the image.
    pub(super) fn phys(&'static self) -> u64 {
        let at = core::ptr::from_ref(self).addr();
        debug_assert!(at > KBASE, "a static of the image");
        (at - KBASE) as u64
    }

    /// What an entry says now.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Entry {
        // Acquire: pairs with the Release in `set` and `below_or_new`; a new table is seen empty.
        Entry(self.0[index].load(Ordering::Acquire))
    }

    /// Writes an entry that is empty, or that nobody uses meanwhile.
    #[inline]
    pub(super) fn set(&self, index: usize, entry: Entry) {
        // Release: pairs with the Acquire in `get`, and with the CPU's own walk, which sees what
        // was written to the frame before.
        self.0[index].store(entry.0, Ordering::Release);
    }

    /// Empties an entry. CPUs may remember it.
    #[inline]
    pub(super) fn clear(&self, index: usize) {
        self.0[index].store(0, Relaxed); // before the fence in `shootdown`
    }

    /// The table below an entry; `None` if there is none.
    #[inline]
    pub(super) fn below(&self, index: usize) -> Option<&'static Table> {
        let entry = self.get(index);
        (entry.is_present() && !entry.is_large()).then(|| Table::at(entry.phys()))
    }
}

/// The table of the last level that an address uses, if all are there.
pub(super) fn leaf(addr: usize) -> Option<&'static Table> {
    let mut table = Table::root();
    for level in [ROOT, UPPER, MIDDLE] {
        table = table.below(index(addr, level))?;
    }
    Some(table)
}

/// What an address shows: the entry that is a page, and its level.
pub(super) fn walk(addr: usize) -> Option<(Entry, u32)> {
    let mut table = Table::root();
    for level in [ROOT, UPPER, MIDDLE] {
        let entry = table.get(index(addr, level));
        match table.below(index(addr, level)) {
            Some(below) => table = below,
            None => return entry.is_present().then_some((entry, level)),
        }
    }
    let entry = table.get(index(addr, LEAF));
    entry.is_present().then_some((entry, LEAF))
}

/// Frames that a race left over: each is a zeroed frame, or 0. A call leaves at most one, so there
/// are never more than calls at once; one that finds no place here is never used again.
static SPARES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Where new tables come from during one call.
pub(super) struct Tables<'a> {
    more: &'a mut dyn FnMut() -> Option<Pfn>,
    spare: Option<u64>,
}

impl Tables<'_> {
    /// `more` gives zeroed frames.
    pub(super) fn new(more: &mut dyn FnMut() -> Option<Pfn>) -> Tables<'_> {
        Tables { more, spare: None }
    }

    fn frame(&mut self) -> Option<u64> {
        if let Some(spare) = self.spare.take() {
            return Some(spare);
        }
        // Acquire: pairs with the Release in `drop`; the frame is seen empty.
        let left =
            |slot: &AtomicU64| (slot.load(Relaxed) != 0).then(|| slot.swap(0, Ordering::Acquire));
        match SPARES.iter().find_map(left).filter(|&phys| phys != 0) {
            Some(phys) => Some(phys),
            None => (self.more)().map(|frame| frame.phys().0),
        }
    }

    /// The table of the last level that an address of a window uses.
    pub(super) fn leaf(&mut self, addr: usize) -> Option<&'static Table> {
        let window = Table::root().below(index(addr, ROOT));
        debug_assert!(window.is_some(), "{addr:#x} is in no window");
        let middle = self.below_or_new(window?, index(addr, UPPER))?;
        self.below_or_new(middle, index(addr, MIDDLE))
    }

    fn below_or_new(&mut self, table: &Table, index: usize) -> Option<&'static Table> {
        if let Some(below) = table.below(index) {
            return Some(below);
        }
        let phys = self.frame()?;
        // Release: pairs with the Acquire in `get`. Acquire: the winner's table is seen empty.
        let made = table.0[index].compare_exchange(
            0,
            Entry::table(phys).0,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if made.is_err() {
            self.spare = Some(phys); // another CPU was first
        }
        table.below(index)
    }
}

impl Drop for Tables<'_> {
    fn drop(&mut self) {
        if let Some(phys) = self.spare {
            // Release: pairs with the Acquire in `frame`.
            let put = |slot: &AtomicU64| {
                slot.compare_exchange(0, phys, Ordering::Release, Relaxed)
                    .is_ok()
            };
            SPARES.iter().any(put);
        }
    }
}

/// The frame that an address shows.
pub fn frame_at(addr: usize) -> Option<PhysAddr> {
    let (entry, level) = walk(addr)?;
    let inside = addr as u64 & (span(level) - 1);
    Some(PhysAddr((entry.phys() & !(span(level) - 1)) + inside))
}
