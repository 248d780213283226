//! How a zone is cut into shards (P820).
//!
//! A shard is a run of pageblocks that starts at a multiple of its size, counted from frame 0, so
//! that no block of the largest order and no superblock lies in two of them.

/// Shards of a zone at most, if nobody asks for more: more CPUs than that share some.
pub const SHARDS_MOST: usize = 16;
/// Shards of a zone at most.
pub const SHARDS_MAX: usize = 64;
/// Pageblocks of a superblock, 1 GiB, as a shift: no shard is smaller, if nobody asks for it.
pub const SUPERBLOCK_SHIFT: u32 = 9;

/// How many shards of 2^shift pageblocks the pageblocks `first` up to and without `end` touch.
pub const fn count(first: usize, end: usize, shift: u32) -> usize {
    if end <= first {
        return 1;
    }
    ((end - 1) >> shift) - (first >> shift) + 1
}

/// The size of the shards of a zone that spans the pageblocks `first` up to and without `end`, as a
/// shift: superblocks, but no more shards than CPUs, [`SHARDS_MOST`], or whole superblocks of
/// memory. A zone of less than 1.5 GiB has one.
pub const fn shift(first: usize, end: usize, cpus: usize) -> u32 {
    let superblock = 1 << SUPERBLOCK_SHIFT;
    let mut most = (end.saturating_sub(first) + superblock / 2) / superblock;
    if most > cpus {
        most = cpus;
    }
    if most > SHARDS_MOST {
        most = SHARDS_MOST;
    }
    widened(first, end, SUPERBLOCK_SHIFT, most)
}

/// The smallest shift from `shift` on by which a zone has at most `most` shards (0 counts as 1).
pub const fn widened(first: usize, end: usize, mut shift: u32, most: usize) -> u32 {
    let most = if most == 0 { 1 } else { most };
    while shift < usize::BITS - 1 && count(first, end, shift) > most {
        shift += 1;
    }
    shift
}

/// Whether a shard of `blocks` pageblocks has few that are wholly free: an eighth or less. Then
/// what is in pieces goes first, wherever in the zone it is; with more, CPUs stay where they are.
pub const fn is_scarce(whole: usize, blocks: usize) -> bool {
    whole <= blocks / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pageblocks of so many GiB.
    const fn gib(n: usize) -> usize {
        n << SUPERBLOCK_SHIFT
    }

    fn shards(first: usize, end: usize, cpus: usize) -> usize {
        count(first, end, shift(first, end, cpus))
    }

    #[test]
    fn small_zones_have_one_wherever_they_lie() {
        for blocks in [0, 1, 2, 128, 512, 767] {
            for first in [0, 1, 8, 500, gib(1) - 1, gib(4) - 2, gib(1000) + 77] {
                assert_eq!(shards(first, first + blocks, 64), 1, "{first} {blocks}");
            }
        }
    }

    #[test]
    fn large_zones_have_one_a_cpu_but_not_more_than_sixteen() {
        // P820
        assert_eq!(shards(gib(4), gib(8), 4), 4);
        assert_eq!(shards(gib(4), gib(8), 64), 4);
        assert_eq!(shards(gib(4), gib(8), 1), 1);
        assert_eq!(shards(gib(4), gib(8), 0), 1);
        assert_eq!(shards(8, gib(4), 4), 4);
        assert_eq!(shards(gib(4), gib(64), 4), 4);
        assert_eq!(shards(0, gib(1024), 256), SHARDS_MOST);
        for gibs in 2..200 {
            for cpus in 1..40 {
                let n = shards(gib(4), gib(4 + gibs), cpus);
                assert!(
                    n >= 1 && n <= cpus.min(SHARDS_MOST).min(gibs),
                    "{gibs} {cpus}"
                );
                let fair = n * 4 > cpus.min(SHARDS_MOST).min(gibs);
                assert!(fair, "{gibs} GiB, {cpus} CPUs: {n}");
            }
        }
    }

    #[test]
    fn the_last_eighth_of_whole_blocks_is_scarce() {
        assert!(is_scarce(64, 512) && !is_scarce(65, 512));
        assert!(is_scarce(0, 7) && !is_scarce(1, 7));
    }

    #[test]
    fn what_is_asked_for_is_widened_until_it_fits() {
        assert_eq!(widened(0, 32, 1, SHARDS_MAX), 1);
        assert_eq!(count(0, 32, 1), 16);
        assert_eq!(widened(0, 1000, 1, SHARDS_MAX), 4);
        assert_eq!(count(3, 4, 1), 1);
        assert_eq!(count(3, 5, 1), 2);
    }
}
