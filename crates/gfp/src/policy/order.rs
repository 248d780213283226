//! Sizes, orders and buddies (P300, P301, P346, P350).
//!
//! A block of order `o` is `2^o` pages, and starts at a frame number that is a multiple of `2^o`.

pub use crate::flags::MAX_PAGE_ORDER;

/// `log2` of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// How many orders there are: 0..=[`MAX_PAGE_ORDER`] (P300).
pub const NR_PAGE_ORDERS: usize = MAX_PAGE_ORDER as usize + 1;
/// Orders above this are *costly*: the slow path does not try for ever.
pub const COSTLY_ORDER: u32 = 3;
/// Order of a pageblock, the unit of mobility grouping (P310): 2 MiB.
pub const PAGEBLOCK_ORDER: u32 = 9;
/// Pages in a pageblock.
pub const PAGEBLOCK_PAGES: usize = 1 << PAGEBLOCK_ORDER;

const _: () = assert!(COSTLY_ORDER < PAGEBLOCK_ORDER && PAGEBLOCK_ORDER <= MAX_PAGE_ORDER);

/// P350: the smallest order whose block holds `size` bytes; `None` for 0 bytes, where Linux leaves
/// the answer undefined. The order may be above [`MAX_PAGE_ORDER`].
#[inline]
pub const fn get_order(size: usize) -> Option<u32> {
    if size == 0 {
        return None;
    }
    // ceil(log2(pages)) is the number of bits of pages - 1.
    Some(usize::BITS - ((size - 1) >> PAGE_SHIFT).leading_zeros())
}

/// Bytes in a block of this order, `None` if that does not fit a `usize`.
#[inline]
pub const fn order_size(order: u32) -> Option<usize> {
    if order >= usize::BITS - PAGE_SHIFT {
        None
    } else {
        Some(PAGE_SIZE << order)
    }
}

/// Whole pages that hold `size` bytes.
#[inline]
pub const fn pages_for(size: usize) -> usize {
    size.div_ceil(PAGE_SIZE)
}

/// P301: frame number of the buddy of the block at `pfn`: the other half of its parent.
///
/// `pfn` is a multiple of `2^order`; `order` is below the word size.
#[inline]
pub const fn buddy(pfn: usize, order: u32) -> usize {
    debug_assert!(is_aligned(pfn, order));
    pfn ^ (1 << order)
}

/// P301: frame number of the block of order `order + 1` that holds the block at `pfn`.
#[inline]
pub const fn parent(pfn: usize, order: u32) -> usize {
    pfn & buddy(pfn, order)
}

/// P301: whether a block of this order can start at this frame.
#[inline]
pub const fn is_aligned(pfn: usize, order: u32) -> bool {
    pfn & ((1 << order) - 1) == 0
}

/// The largest order, at most `max`, of a block that starts at `pfn` and ends at or before `end`;
/// `None` if there is no page between. Walks a range as the fewest aligned blocks.
pub const fn largest_order_at(pfn: usize, end: usize, max: u32) -> Option<u32> {
    if pfn >= end {
        return None;
    }
    let by_length = (end - pfn).ilog2();
    let by_alignment = pfn.trailing_zeros(); // the word size for 0
    let mut order = if by_length < by_alignment {
        by_length
    } else {
        by_alignment
    };
    if order > max {
        order = max;
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_rounded_logarithm_of_the_pages() {
        // P350
        let table = [
            (1, 0),
            (4096, 0),
            (4097, 1),
            (8192, 1),
            (8193, 2),
            (3 * 4096, 2),
            (5 * 4096, 3),
            (4 << 20, 10),
            ((4 << 20) + 1, 11),
            (usize::MAX, usize::BITS - PAGE_SHIFT),
        ];
        for (size, order) in table {
            assert_eq!(get_order(size), Some(order), "{size}");
        }
        assert_eq!(get_order(0), None);
        for size in 1..300_000 {
            let order = get_order(size).unwrap();
            assert!(order_size(order).unwrap() >= size);
            assert!(order == 0 || order_size(order - 1).unwrap() < size);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_none() {
        assert_eq!(order_size(0), Some(4096));
        assert_eq!(order_size(usize::BITS - 13), Some(1 << (usize::BITS - 1)));
        assert_eq!(order_size(usize::BITS - 12), None);
        assert_eq!(order_size(u32::MAX), None);
        assert_eq!(
            [pages_for(0), pages_for(1), pages_for(4096), pages_for(4097)],
            [0, 1, 1, 2]
        );
        assert_eq!(pages_for(usize::MAX), 1 << (usize::BITS - PAGE_SHIFT));
    }

    #[test]
    fn buddies_are_the_two_halves_of_a_parent() {
        // P301
        for order in 0..=MAX_PAGE_ORDER {
            for block in 0..64 {
                let pfn = block << order;
                let other = buddy(pfn, order);
                assert_eq!(buddy(other, order), pfn);
                assert_eq!(pfn.abs_diff(other), 1 << order);
                assert_eq!(parent(pfn, order), pfn.min(other));
                assert!(is_aligned(parent(pfn, order), order + 1));
                assert!(is_aligned(pfn, order) && !is_aligned(pfn + (1 << order), order + 7 + 1));
            }
        }
        assert!(!is_aligned(3, 1) && is_aligned(3, 0) && is_aligned(0, 10));
    }

    #[test]
    fn a_range_is_walked_in_the_fewest_blocks() {
        let mut orders = [0; 16];
        let (mut pfn, mut count) = (3, 0);
        while let Some(order) = largest_order_at(pfn, 1030, 9) {
            assert!(is_aligned(pfn, order));
            orders[count] = order;
            count += 1;
            pfn += 1 << order;
        }
        assert_eq!(pfn, 1030);
        assert_eq!(orders[..count], [0, 2, 3, 4, 5, 6, 7, 8, 9, 2, 1]);
        assert_eq!(largest_order_at(0, 1 << 20, 10), Some(10));
        assert_eq!(largest_order_at(5, 5, 10), None);
        assert_eq!(largest_order_at(6, 5, 10), None);
    }
}
