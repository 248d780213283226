//! What the compiler calls for bytes (`boot/symbols.s`), against loops that go byte by byte.

use crate::memory::mm;
use core::hint::black_box;
use gfp::flags::GFP_KERNEL;

super::tests! { "bytes":
    memmove_moves_any_overlap,
    memset_writes_what_it_is_told_and_no_more,
    memcmp_tells_first_differences_with_their_signs,
}

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn memset(at: *mut u8, value: i32, bytes: usize) -> *mut u8;
    fn memcmp(one: *const u8, other: *const u8, bytes: usize) -> i32;
}

const BYTES: usize = 128;

/// Bytes that all differ from their neighbours and from those a word away.
fn pattern() -> [u8; BYTES] {
    core::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ 0x5a)
}

fn memmove_moves_any_overlap() {
    const MOST: usize = 40;
    for bytes in 0..=MOST {
        for from in 0..=24 {
            for to in 0..=24 {
                let (before, mut moved) = (pattern(), pattern());
                let at = moved.as_mut_ptr();
                let apart = from + bytes <= to || to + bytes <= from;
                // SAFETY: both ranges are in the array; `memcpy` is given ranges apart.
                let answer = unsafe {
                    match apart {
                        true => memcpy(at.add(to), at.add(from), bytes),
                        false => memmove(at.add(to), at.add(from), bytes),
                    }
                };
                assert_eq!(answer.addr(), at.addr() + to);
                for (i, byte) in moved.iter().enumerate() {
                    let expected = match i.checked_sub(to) {
                        Some(i) if i < bytes => before[from + i],
                        _ => before[i],
                    };
                    assert_eq!(
                        *byte, expected,
                        "{bytes} bytes from {from} to {to}, byte {i}"
                    );
                }
                assert_eq!(direction(), 0, "the next string instruction goes backwards");
            }
        }
    }
}

/// The direction flag.
fn direction() -> u64 {
    crate::arch::cpu::flags() & 1 << 10
}

fn memset_writes_what_it_is_told_and_no_more() {
    for bytes in 0..=40 {
        for at in 0..=16 {
            for value in [0, 0x7f, 0x80, -1, 0x1234] {
                let mut set = pattern();
                // SAFETY: the range is in the array.
                let answer = unsafe { memset(set.as_mut_ptr().add(at), value, bytes) };
                assert_eq!(answer.addr(), set.as_ptr().addr() + at);
                for (i, byte) in set.iter().enumerate() {
                    let expected = match (at..at + bytes).contains(&i) {
                        true => value as u8, // the low byte, as C has it
                        false => pattern()[i],
                    };
                    assert_eq!(*byte, expected, "{bytes} bytes at {at}, byte {i}");
                }
            }
        }
    }
}

fn memcmp_tells_first_differences_with_their_signs() {
    for bytes in 0..=40 {
        for first in 0..=bytes {
            for (less, more) in [(0, 1), (0x7f, 0x80), (0, 0xff), (0xfe, 0xff)] {
                let (mut one, mut other) = (pattern(), pattern());
                // The first difference decides, not a larger one behind it.
                (one[first], other[first]) = (less, more);
                (one[first + 1], other[first + 1]) = (0xff, 0);
                // SAFETY: both arrays are longer.
                let [up, down] = unsafe {
                    let (one, other) = (black_box(&one).as_ptr(), black_box(&other).as_ptr());
                    [memcmp(one, other, bytes), memcmp(other, one, bytes)]
                };
                match first < bytes {
                    true => assert!(up < 0 && down > 0, "{bytes} bytes, {first}: {up} {down}"),
                    false => assert_eq!((up, down), (0, 0), "{bytes} equal bytes"),
                }
            }
        }
    }
    // A page of each.
    let page = || mm().kmalloc(4096, GFP_KERNEL | gfp::flags::Gfp::ZERO);
    let (one, other) = (page().expect("memory"), page().expect("memory"));
    // SAFETY: two blocks of a page, freed once.
    unsafe {
        assert_eq!(memcmp(one.as_ptr(), other.as_ptr(), 4096), 0);
        other.as_ptr().add(4095).write(1);
        assert!(memcmp(one.as_ptr(), other.as_ptr(), 4096) < 0);
        mm().kfree(one.as_ptr());
        mm().kfree(other.as_ptr());
    }
}
