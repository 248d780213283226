//! Sequences of calls of the C library's allocator against a model.
//!
//! The preload library is linked into the program, so its `malloc` is the program's: libFuzzer, std
//! and the model itself live on gfp as well. Each live block is filled with a pattern of its own;
//! the pattern must be there when the block is moved or freed, no two live blocks may overlap, and
//! every size, alignment and errno must be as the C library promises.

#![no_main]

use gfp_malloc as _;
use libc::{c_int, c_void, size_t};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ptr::null_mut;
use std::sync::Once;

unsafe extern "C" {
    fn malloc(size: size_t) -> *mut c_void;
    fn calloc(count: size_t, size: size_t) -> *mut c_void;
    fn realloc(old: *mut c_void, size: size_t) -> *mut c_void;
    fn reallocarray(old: *mut c_void, count: size_t, size: size_t) -> *mut c_void;
    fn free(block: *mut c_void);
    fn memalign(align: size_t, size: size_t) -> *mut c_void;
    fn aligned_alloc(align: size_t, size: size_t) -> *mut c_void;
    fn posix_memalign(out: *mut *mut c_void, align: size_t, size: size_t) -> c_int;
    fn valloc(size: size_t) -> *mut c_void;
    fn pvalloc(size: size_t) -> *mut c_void;
    fn malloc_usable_size(block: *mut c_void) -> size_t;
    fn malloc_trim(pad: size_t) -> c_int;
}

/// Live bytes that one input may have: far below the budget, so that failure is a fault.
const LIVE_BYTES_MAX: usize = 32 << 20;
/// What every block of more than 8 bytes is aligned to on x86_64; smaller ones to 8.
const ALIGN_MIN: usize = 16;
const PAGE_BYTES: usize = 4096;

/// One live block of the model.
struct Block {
    size: usize,
    pattern: u8,
}

#[derive(Default)]
struct Model {
    /// By address
    live: BTreeMap<usize, Block>,
    live_bytes: usize,
    made: u8,
}

impl Model {
    /// A new block must be aligned, large enough and apart from all others; it is filled.
    fn add(&mut self, block: *mut c_void, size: usize, align: usize) {
        let address = block as usize;
        assert!(!block.is_null(), "{size} bytes are within the budget");
        let promised = if size <= 8 { 8 } else { ALIGN_MIN };
        assert_eq!(
            address % align.max(promised),
            0,
            "alignment of {size} bytes"
        );
        // SAFETY: the block was just given out.
        let usable = unsafe { malloc_usable_size(block) };
        assert!(usable >= size, "usable {usable} of {size}");
        if let Some((&below, neighbour)) = self.live.range(..=address).next_back() {
            assert!(
                below + neighbour.size.max(1) <= address,
                "overlaps the block below"
            );
        }
        if let Some((&above, _)) = self.live.range(address..).next() {
            assert!(address + size.max(1) <= above, "overlaps the block above");
        }
        self.made = self.made.wrapping_add(1);
        // SAFETY: `size` bytes of the block are ours.
        unsafe { block.cast::<u8>().write_bytes(self.made, size) };
        self.live.insert(
            address,
            Block {
                size,
                pattern: self.made,
            },
        );
        self.live_bytes += size;
    }

    /// The block chosen by `pick`, its pattern checked and taken out of the model.
    fn take(&mut self, pick: u8) -> Option<(*mut c_void, Block)> {
        let index = usize::from(pick) % self.live.len().max(1);
        let address = *self.live.keys().nth(index)?;
        let block = self.live.remove(&address)?;
        self.live_bytes -= block.size;
        check(address as *mut c_void, block.size, block.pattern);
        Some((address as *mut c_void, block))
    }
}

/// Are the first `size` bytes of the block all `pattern`?
fn check(block: *mut c_void, size: usize, pattern: u8) {
    // SAFETY: the block is live and has at least `size` bytes, all of them written.
    let bytes = unsafe { std::slice::from_raw_parts(block.cast::<u8>(), size) };
    assert!(
        bytes.iter().all(|&byte| byte == pattern),
        "contents of {size} bytes changed"
    );
}

fn errno() -> c_int {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() }
}

fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}

/// A size from three bytes: small ones often, sizes next to powers of two often, up to 4 MiB.
fn size_of(bytes: [u8; 3]) -> usize {
    let [kind, low, high] = bytes.map(usize::from);
    let plain = low | high << 8;
    match kind % 4 {
        0 => low,
        1 => plain,
        2 => ((1usize << (low % 23)) + high % 5).saturating_sub(2),
        _ => plain << (kind / 4 % 7),
    }
}

/// A failed call says ENOMEM and gives nothing.
fn must_fail(block: *mut c_void) {
    let block = black_box(block);
    assert!(block.is_null(), "an impossible size was served");
    assert_eq!(errno(), libc::ENOMEM);
}

fn step(model: &mut Model, op: u8, pick: u8, size: usize) {
    let align = ALIGN_MIN << (pick % 13);
    let fits = model.live_bytes + size + align <= LIVE_BYTES_MAX;
    // SAFETY: blocks come from the model, which holds only live ones, and are used as their calls
    // promise; impossible sizes are only asked for.
    unsafe {
        match op % 16 {
            0 | 1 if fits => model.add(malloc(size), size, 1),
            2 if fits => {
                let block = calloc(size.div_ceil(8), 8);
                assert!(!block.is_null());
                check(block, size.div_ceil(8) * 8, 0);
                model.add(block, size, 1);
            }
            3 if fits => model.add(memalign(align, size), size, align),
            4 if fits => model.add(aligned_alloc(align, size), size, align),
            5 if fits => {
                let mut block = null_mut();
                assert_eq!(posix_memalign(&raw mut block, align, size), 0);
                model.add(block, size, align);
            }
            6 if fits => model.add(valloc(size), size, PAGE_BYTES),
            7 if fits => model.add(pvalloc(size), size.next_multiple_of(PAGE_BYTES), PAGE_BYTES),
            8 | 9 if fits && size > 0 => {
                let Some((old, block)) = model.take(pick) else {
                    return;
                };
                let new = if op % 2 == 0 {
                    realloc(old, size)
                } else {
                    reallocarray(old, size, 1)
                };
                assert!(!new.is_null(), "{size} bytes are within the budget");
                check(new, size.min(block.size), block.pattern);
                model.add(new, size, 1);
            }
            10..=12 => {
                let Some((old, _)) = model.take(pick) else {
                    return;
                };
                set_errno(77);
                free(old);
                assert_eq!(errno(), 77, "free changed errno");
            }
            13 => {
                // Hidden from the compiler, which may otherwise leave out an allocation that is
                // only compared with null.
                let huge = black_box(usize::MAX / 2 + 1 + size);
                must_fail(malloc(huge));
                must_fail(calloc(huge, 2));
                must_fail(calloc(usize::MAX / 2, 3));
                must_fail(reallocarray(null_mut(), huge, 16));
                must_fail(memalign(64, huge));
                if let Some((old, block)) = model.take(pick) {
                    must_fail(realloc(old, huge));
                    check(old, block.size, block.pattern);
                    free(old);
                }
            }
            14 => {
                let mut out = 8 as *mut c_void;
                assert_eq!(posix_memalign(&raw mut out, 24, size), libc::EINVAL);
                assert_eq!(posix_memalign(&raw mut out, 4, size), libc::EINVAL);
                let huge = usize::MAX / 2 + 1;
                assert_eq!(posix_memalign(&raw mut out, 64, huge), libc::ENOMEM);
                assert_eq!(out as usize, 8, "a failed posix_memalign wrote its result");
                free(null_mut());
                assert_eq!(malloc_usable_size(null_mut()), 0);
            }
            15 if pick == 0 => drop(malloc_trim(0)),
            _ => {}
        }
    }
}

fuzz_target!(|data: &[u8]| {
    static LINKED: Once = Once::new();
    // SAFETY: a fresh block; 100 bytes are class 128 in gfp (S2), and 104 in the C library.
    LINKED.call_once(|| unsafe {
        let block = malloc(100);
        assert_eq!(malloc_usable_size(block), 128, "malloc is not gfp's");
        free(block);
    });
    let mut model = Model::default();
    for bytes in data.chunks_exact(5) {
        step(
            &mut model,
            bytes[0],
            bytes[1],
            size_of([bytes[2], bytes[3], bytes[4]]),
        );
    }
    while let Some((block, _)) = model.take(0) {
        // SAFETY: the model holds only live blocks.
        unsafe { free(block) };
    }
});
