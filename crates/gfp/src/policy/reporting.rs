//! When free memory is told to a reporting device, and how much of it at once (P520, P521).

/// P520: how long after the first free block waits the device is told, so that what is freed in a
/// burst is told at once.
pub const DELAY_NS: u64 = 2_000_000_000;

/// Blocks that a device is told of at once, at most (P521).
pub const CAPACITY_MOST: usize = 32;

/// P521: a zone parts with a batch of so many blocks of 2^`order` pages only while `low` and one
/// whole batch are free.
pub const fn may_part(free: usize, low: usize, capacity: usize, order: u8) -> bool {
    free >= low.saturating_add(capacity << order)
}

/// P521: batches that one round takes of `nr_free` blocks of one order and type: a sixteenth of
/// them, rounded up so that few of them get their turn as well.
pub const fn batches(nr_free: usize, capacity: usize) -> usize {
    nr_free.div_ceil(capacity * 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_parts_with_a_batch_while_low_and_one_more_are_free() {
        // P521
        let low = 1000;
        assert!(may_part(low + (32 << 9), low, 32, 9));
        assert!(!may_part(low + (32 << 9) - 1, low, 32, 9));
        assert!(may_part(low + (4 << 10), low, 4, 10));
        assert!(!may_part(usize::MAX - 1, usize::MAX, 32, 10));
    }

    #[test]
    fn a_round_takes_a_sixteenth_and_of_few_one_batch() {
        // P521
        assert_eq!(batches(0, 32), 0);
        assert_eq!(batches(1, 32), 1);
        assert_eq!(batches(512, 32), 1);
        assert_eq!(batches(513, 32), 2);
        assert_eq!(batches(5120, 32), 10);
    }
}
