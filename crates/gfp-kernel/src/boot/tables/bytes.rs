//! Bytes at physical addresses, and the little-endian numbers in them.

use gfp::frame::PhysAddr;

/// Shows physical memory.
///
/// Bytes stay as they are while a slice of them lives: firmware's tables are not written to while
/// they are read.
pub trait PhysRead {
    /// The `len` bytes from `at` on; `None` if any of them cannot be seen.
    fn bytes(&self, at: PhysAddr, len: usize) -> Option<&[u8]>;
}

/// The `N` bytes at offset `at`; `None` past the end.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The byte at offset `at`.
pub fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// The 32-bit number at offset `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// The 64-bit number at offset `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// The bytes from `at` up to the first zero, which is not among them; `None` if there is none in
/// the first `max` bytes or memory ends before it.
pub fn text_at<M: PhysRead + ?Sized>(memory: &M, at: PhysAddr, max: usize) -> Option<&[u8]> {
    let len = (0..max).find_map(|i| {
        let address = at.0.checked_add(i as u64).map(PhysAddr);
        match address.and_then(|a| memory.bytes(a, 1)) {
            Some([0]) => Some(Some(i)),
            Some(_) => None,
            None => Some(None),
        }
    })??;
    memory.bytes(at, len)
}
