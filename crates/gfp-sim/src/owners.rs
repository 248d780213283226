//! Who has which bytes.

use std::collections::BTreeMap;

/// Every byte that somebody has, with a pattern in it: memory that is given out twice, or written
/// by somebody else, is found at once, or when it is given back.
///
/// Addresses are those of the process; nothing here depends on their order between runs.
#[derive(Debug, Default)]
pub struct Owners {
    /// By start address.
    owned: BTreeMap<usize, Owned>,
    next: u64,
    /// How many times something was owned.
    total: u64,
}

/// Memory that is on its way to another place.
#[derive(Debug)]
pub struct Lent {
    ptr: *mut u8,
    owned: Owned,
}

impl Lent {
    /// How many bytes, and what they are.
    pub fn about(&self) -> (usize, &'static str) {
        (self.owned.bytes, self.owned.what)
    }
}

#[derive(Copy, Clone, Debug)]
struct Owned {
    bytes: usize,
    pattern: u64,
    what: &'static str,
}

/// The words of `bytes` bytes at `at` that hold the pattern: all of a small object; the first and
/// last of each page of a large one.
fn words(at: usize, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    const ALL: usize = 256;
    let end = at + bytes;
    let small = bytes <= ALL;
    let starts = (at..end).step_by(if small { 8 } else { 4096 });
    starts.flat_map(move |start| {
        let last = if small {
            start + 8
        } else {
            (start + 4096).min(end)
        };
        let first = (start, 8.min(end - start));
        let tail = (!small && last - start >= 16).then(|| (last - 8, 8));
        [Some(first), tail].into_iter().flatten()
    })
}

impl Owners {
    /// Nobody has anything.
    pub fn new() -> Owners {
        Owners::default()
    }

    /// Somebody was given this memory: writes a pattern.
    ///
    /// # Panics
    /// If any of it belongs to somebody.
    ///
    /// # Safety
    /// Unless it belongs to somebody, the memory is the caller's to write.
    pub unsafe fn own(&mut self, ptr: *mut u8, bytes: usize, what: &'static str) {
        let at = ptr.addr();
        assert!(bytes > 0);
        let below = self.owned.range(..at + bytes).next_back();
        if let Some((theirs, owned)) = below.filter(|(start, owned)| *start + owned.bytes > at) {
            panic!(
                "{what} of {bytes} bytes overlaps {} of {} bytes, {} bytes further on",
                owned.what,
                owned.bytes,
                *theirs as isize - at as isize
            );
        }
        self.next += 1;
        self.total += 1;
        let pattern = crate::rng::mix(self.next);
        let owned = Owned {
            bytes,
            pattern,
            what,
        };
        self.owned.insert(at, owned);
        let source = pattern.to_le_bytes();
        for (place, n) in words(at, bytes) {
            // SAFETY: the caller's promise; the words lie inside.
            unsafe { ptr.with_addr(place).copy_from(source.as_ptr(), n) };
        }
    }

    /// The owner is about to give the memory back: looks at the pattern. Answers its bytes.
    ///
    /// # Panics
    /// If nobody has it, or somebody else wrote to it.
    ///
    /// # Safety
    /// The memory is what was given to [`Owners::own`].
    pub unsafe fn disown(&mut self, ptr: *mut u8) -> usize {
        let owned = self.owned.remove(&ptr.addr());
        let owned = owned.expect("given back by somebody who does not have it");
        let found = words(ptr.addr(), owned.bytes);
        // SAFETY: the caller's promise.
        found.for_each(|word| unsafe { owned.check(ptr, word) });
        owned.bytes
    }

    /// Looks at the pattern of memory that somebody has.
    ///
    /// # Panics
    /// If nobody has it, or somebody else wrote to it.
    ///
    /// # Safety
    /// The memory is what was given to [`Owners::own`].
    pub unsafe fn look(&self, ptr: *mut u8) {
        let owned = self.owned.get(&ptr.addr());
        let owned = owned.expect("looked at by somebody who does not have it");
        let found = words(ptr.addr(), owned.bytes);
        // SAFETY: the caller's promise.
        found.for_each(|word| unsafe { owned.check(ptr, word) });
    }

    /// The owner is about to have the memory moved: until then it belongs to nobody.
    ///
    /// # Panics
    /// If nobody has it.
    pub fn lend(&mut self, ptr: *mut u8) -> Lent {
        let owned = self.owned.remove(&ptr.addr());
        Lent {
            ptr,
            owned: owned.expect("moved by somebody who does not have it"),
        }
    }

    /// The memory was not moved.
    pub fn back(&mut self, lent: Lent) {
        self.owned.insert(lent.ptr.addr(), lent.owned);
    }

    /// The memory was moved to `new`, `bytes` of it: looks at the pattern there.
    ///
    /// # Panics
    /// If the content did not come along.
    ///
    /// # Safety
    /// `new` can be read.
    pub unsafe fn moved(&mut self, lent: Lent, new: *mut u8, bytes: usize) {
        let Lent { ptr: old, owned } = lent;
        let kept = bytes.min(owned.bytes);
        for (place, n) in words(old.addr(), owned.bytes) {
            let offset = place - old.addr();
            if offset + n <= kept {
                // SAFETY: the caller's promise.
                unsafe { owned.check(new, (new.addr() + offset, n)) };
            }
        }
    }

    /// How many pieces somebody has.
    pub fn len(&self) -> usize {
        self.owned.len()
    }

    /// True if nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// How many pieces were ever given out.
    pub fn total(&self) -> u64 {
        self.total
    }
}

impl Owned {
    /// # Safety
    /// The bytes can be read.
    unsafe fn check(&self, ptr: *mut u8, (place, n): (usize, usize)) {
        let mut found = self.pattern.to_le_bytes();
        // SAFETY: the caller's promise.
        unsafe { ptr.with_addr(place).copy_to(found.as_mut_ptr(), n) };
        let found = u64::from_le_bytes(found);
        assert!(
            found == self.pattern,
            "{} of {} bytes was written by somebody else at byte {}: {found:#x} instead of {:#x}",
            self.what,
            self.bytes,
            place - ptr.addr(),
            self.pattern
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_are_patterned_wholly_and_large_ones_at_both_ends_of_each_page() {
        let small: Vec<_> = words(0x1000, 20).collect();
        assert_eq!(small, [(0x1000, 8), (0x1008, 8), (0x1010, 4)]);
        let large: Vec<_> = words(0x1000, 0x1800).collect();
        assert_eq!(large, [(0x1000, 8), (0x1ff8, 8), (0x2000, 8), (0x27f8, 8)]);
    }

    #[test]
    #[should_panic(expected = "overlaps first of 64 bytes, -32 bytes further on")]
    fn memory_that_belongs_to_somebody_is_not_given_out() {
        let mut bytes = [0u8; 128];
        let mut owners = Owners::new();
        // SAFETY: our own array.
        unsafe {
            owners.own(bytes.as_mut_ptr(), 64, "first");
            owners.own(bytes.as_mut_ptr().add(32), 16, "second");
        }
    }

    #[test]
    #[should_panic(expected = "written by somebody else at byte 40")]
    fn a_write_by_somebody_else_is_seen_when_the_memory_is_given_back() {
        let mut bytes = [0u8; 128];
        let ptr = bytes.as_mut_ptr();
        let mut owners = Owners::new();
        // SAFETY: our own array.
        unsafe {
            owners.own(ptr, 100, "object");
            ptr.add(41).write(!ptr.add(41).read());
            owners.disown(ptr);
        }
    }

    #[test]
    fn what_was_given_back_can_be_given_out_again() {
        let mut bytes = [0u8; 128];
        let ptr = bytes.as_mut_ptr();
        let mut owners = Owners::new();
        // SAFETY: our own array.
        unsafe {
            owners.own(ptr, 128, "whole");
            assert_eq!(owners.disown(ptr), 128);
            owners.own(ptr.add(64), 64, "half");
            owners.own(ptr, 64, "half");
        }
        assert_eq!((owners.len(), owners.total()), (2, 3));
    }
}
