//! The direct map and the image.
//!
//! The entry code leaves 4 GiB in pages of 2 MiB, in tables that the identity mapping, the direct
//! map and the image share. Here the direct map grows to all memory, the image gets tables of its
//! own, by use, and its text and read-only data become read-only in the direct map too.

use super::fault::Place;
use super::table::{self, ENTRIES, Entry, LEAF, MIDDLE, ROOT, Table, UPPER, Use, span};
use crate::arch::{DIRECT_MAP, KBASE, cpu};
use crate::controls::{Control, broken};
use crate::println;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use gfp::frame::PAGE_SIZE;

/// What the entry code maps.
const AT_ENTRY: u64 = 4 << 30;

/// Tables before there is an allocator. Without pages of 1 GiB one of them is needed a GiB: 64 GiB
/// take 60.
static RESERVE: [Table; 64 + FOR_IMAGE] = [const { Table::new() }; 64 + FOR_IMAGE];
static USED: AtomicUsize = AtomicUsize::new(0);

/// Of them, those for the image: one for each 2 MiB, twice, and one above them.
const FOR_IMAGE: usize = 16;

/// Where the direct map ends.
static END: AtomicU64 = AtomicU64::new(AT_ENTRY);

/// The image stands in the first GiB of memory, and is seen at the start of one.
const IN_GIGABYTE: usize = (1 << 30) - 1;

/// Takes a table from the reserve, of which `keep` are for others.
fn new_table(keep: usize) -> Option<&'static Table> {
    let next = USED.load(Relaxed);
    let table = RESERVE[..RESERVE.len() - keep].get(next)?;
    USED.store(next + 1, Relaxed);
    Some(table)
}

/// The table below an entry, made if it is missing.
fn below_or_new(table: &Table, index: usize, keep: usize) -> Option<&'static Table> {
    if let Some(below) = table.below(index) {
        return Some(below);
    }
    let new = new_table(keep)?;
    let entry = Entry::table(new.phys());
    table.set(index, entry);
    Some(new)
}

/// True if the CPU has pages of 1 GiB.
fn has_gigabyte_pages() -> bool {
    const GIGABYTE: u32 = 1 << 26;
    cpu::cpuid(0x8000_0000, 0).eax >= 0x8000_0001 && cpu::cpuid(0x8000_0001, 0).edx & GIGABYTE != 0
}

/// Grows the direct map until it shows all memory below the physical address `end`, or as much of
/// it as there are tables for; the answer is where it ends. On the first CPU, before the library
/// boots.
pub fn direct_map_up_to(end: u64) -> u64 {
    let limit = (super::VMALLOC - DIRECT_MAP) as u64;
    let root = Table::root();
    let level = match has_gigabyte_pages() {
        true => UPPER,
        false => MIDDLE,
    };
    let mut phys = END.load(Relaxed);
    while phys < end.min(limit) {
        let addr = DIRECT_MAP + phys as usize;
        let Some(table) = table_for(root, addr, level) else {
            println!("boot: no page tables for memory from {phys:#x} on");
            break;
        };
        // To the end of this table.
        for index in table::index(addr, level)..ENTRIES {
            if phys >= end {
                break;
            }
            table.set(index, Entry::large(phys));
            phys += span(level);
        }
    }
    END.store(phys, Relaxed);
    phys
}

/// The table of `level` that an address of the direct map uses.
fn table_for(root: &Table, addr: usize, level: u32) -> Option<&'static Table> {
    let slot = table::index(addr, ROOT);
    let upper = match root.below(slot) {
        Some(upper) => upper,
        None => {
            let new = new_table(FOR_IMAGE)?;
            root.set(slot, Entry::table(new.phys()).never_executed());
            new
        }
    };
    match level {
        UPPER => Some(upper),
        _ => below_or_new(upper, table::index(addr, UPPER), FOR_IMAGE),
    }
}

/// Where the image's text, its read-only data and its data start, and where they end.
fn image() -> [usize; 4] {
    unsafe extern "C" {
        static text_start: u8;
        static rodata_start: u8;
        static data_start: u8;
        static image_end: u8;
    }
    [
        (&raw const text_start).addr(),
        (&raw const rodata_start).addr(),
        (&raw const data_start).addr(),
        (&raw const image_end).addr(),
    ]
}

/// The page below the stack that the first CPU boots on.
pub(crate) fn boot_stack_guard() -> Range<usize> {
    unsafe extern "C" {
        static boot_stack_guard: u8;
    }
    let at = (&raw const boot_stack_guard).addr();
    at..at + PAGE_SIZE
}

/// What an address of the image is.
pub(super) fn part_of_image(addr: usize) -> Place {
    let [_, rodata, data, _] = image();
    match addr {
        _ if addr < rodata => Place::Text,
        _ if addr < data => Place::ReadOnlyData,
        _ => Place::Data,
    }
}

/// Gives the image tables of its own: text is executed and read, read-only data is read, the rest
/// is read and written; nothing else is there, and nothing below the boot stack. Takes the identity
/// mapping away, so that null faults. On the first CPU, before the others start, when the controls
/// are known.
///
/// # Panics
/// If the reserve has too few tables.
pub(crate) fn protect_image() {
    let [text, rodata, data, end] = image();
    let guard = boot_stack_guard();
    let middle = new_table(0).expect("tables for the image");
    for (part, what) in [
        (text..rodata, Use::Text),
        (rodata..data, Use::ReadOnly),
        (data..guard.start, Use::Data),
        (guard.end..end, Use::Data),
    ] {
        set_pages(middle, part, what);
    }
    // First of all: so far the image shares the tables of the direct map, so what follows would
    // take the right to execute this very function away.
    let upper = Table::root().below(table::index(KBASE, ROOT));
    let upper = upper.expect("made by the entry code");
    upper.set(table::index(KBASE, UPPER), Entry::table(middle.phys()));
    cpu::flush_all();
    // The same frames in the direct map, and in the identity mapping, which the other CPUs start
    // through with a root of their own: these share their tables.
    let shared = Table::root()
        .below(table::index(DIRECT_MAP, ROOT))
        .and_then(|upper| upper.below(0))
        .expect("made by the entry code");
    split(shared, text - KBASE..data - KBASE);
    let alias = |addr: usize| addr - KBASE + DIRECT_MAP;
    set_pages(shared, alias(text)..alias(data), Use::ReadOnly);
    if !broken(Control::Null) {
        Table::root().clear(table::index(0, ROOT));
    }
    cpu::flush_all();
}

/// Maps whole pages of the image as what they are for.
fn set_pages(middle: &Table, addrs: Range<usize>, what: Use) {
    for addr in addrs.step_by(PAGE_SIZE) {
        let leaf = below_or_new(middle, table::index(addr, MIDDLE), 0);
        let leaf = leaf.expect("tables for the image");
        let phys = (addr & IN_GIGABYTE) as u64;
        leaf.set(table::index(addr, LEAF), Entry::small(phys, what));
    }
}

/// Makes the pages of 2 MiB that hold these addresses into pages of 4 KiB.
fn split(middle: &Table, phys: Range<usize>) {
    for index in table::index(phys.start, MIDDLE)..=table::index(phys.end - 1, MIDDLE) {
        let large = middle.get(index).phys();
        let leaf = new_table(0).expect("tables for the image");
        for page in 0..ENTRIES {
            let phys = large + page as u64 * span(LEAF);
            leaf.set(page, Entry::small(phys, Use::AsAbove));
        }
        middle.set(index, Entry::table(leaf.phys()));
    }
}
