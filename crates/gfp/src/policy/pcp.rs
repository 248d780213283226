//! Per-CPU page lists: how many pages at once, how many at most (P324-P330).

mod tuner;

pub use tuner::{Pressure, Traffic, Tuner, is_large};

/// P326: the refill may grow to `batch << BATCH_SCALE_MAX`.
pub const BATCH_SCALE_MAX: u32 = 5;

/// The limits of one zone's per-CPU lists, in pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PcpLimits {
    /// Pages moved at once between list and zone.
    pub batch: usize,
    /// The lower bound of `high`, the count above which pages go back to the zone.
    pub high_min: usize,
    /// The upper bound of `high`.
    pub high_max: usize,
}

impl PcpLimits {
    /// P325: the limits before sizes are known: nothing stays on the list.
    pub const BOOT: PcpLimits = PcpLimits {
        batch: 1,
        high_min: 0,
        high_max: 0,
    };

    /// P324, P325: the limits for a zone with `managed` pages and watermark `low`, shared by
    /// `local_cpus` CPUs of its node (0 counts as 1).
    ///
    /// `fraction`: the sysctl `percpu_pagelist_high_fraction`; 8 or more fixes `high` at
    /// `managed / fraction / CPUs`, `None` leaves it to tune itself.
    pub const fn new(
        managed: usize,
        low: usize,
        local_cpus: usize,
        fraction: Option<usize>,
    ) -> PcpLimits {
        let batch = batch(managed);
        let cpus = if local_cpus == 0 { 1 } else { local_cpus };
        let floor = 4 * batch;
        let (high_min, high_max) = match fraction {
            Some(fraction) if fraction >= 8 => {
                let high = max(managed / fraction / cpus, floor);
                (high, high)
            }
            _ => (max(low / cpus, floor), max(managed / 8 / cpus, floor)),
        };
        // A tiny zone with a high watermark must not turn the range around.
        PcpLimits {
            batch,
            high_min,
            high_max: max(high_max, high_min),
        }
    }

    /// P326: whether `high` adapts itself.
    pub const fn is_tuned(&self) -> bool {
        self.high_min != self.high_max
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// P324: pages moved at once for a zone with `managed` pages: one less than a power of two, at most
/// 63.
pub const fn batch(managed: usize) -> usize {
    let quarter_permille = managed >> 12;
    let share = if quarter_permille < 64 {
        quarter_permille
    } else {
        64
    };
    if share <= 1 {
        return 1;
    }
    (1 << (share + share / 2).ilog2()) - 1
}

/// P326: how much to fetch from the zone when a list is empty, and the scale for the next time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Refill {
    /// Blocks of the order asked for, at least 1.
    pub blocks: usize,
    /// The scale to remember.
    pub scale: u32,
}

/// P326: the refill of an empty list of this order.
///
/// `count`: pages on all lists of this CPU; `high`: their current limit; `scale`: doublings so far,
/// 0 at first.
pub const fn refill(
    order: u32,
    count: usize,
    high: usize,
    scale: u32,
    limits: &PcpLimits,
) -> Refill {
    let batch = limits.batch;
    if high < batch {
        return Refill { blocks: 1, scale }; // disabled, or at boot
    }
    if order > 0 {
        let blocks = if order < usize::BITS {
            batch >> order
        } else {
            0
        };
        return Refill {
            blocks: if batch > 1 { max(blocks, 2) } else { 1 },
            scale,
        };
    }
    if !limits.is_tuned() {
        return Refill {
            blocks: batch,
            scale,
        };
    }
    let room = max(high.saturating_sub(count).saturating_sub(batch), batch);
    let scale = if scale < BATCH_SCALE_MAX {
        scale
    } else {
        BATCH_SCALE_MAX
    };
    let wanted = batch << scale;
    let grown = wanted <= room && scale < BATCH_SCALE_MAX;
    Refill {
        blocks: if wanted < room { wanted } else { room },
        scale: if grown { scale + 1 } else { scale },
    }
}

/// P326: the scale after a page was freed.
pub const fn scale_after_free(scale: u32) -> u32 {
    scale / 2
}

/// P329: the limit that counts while the zone is being reclaimed.
pub const fn high_under_reclaim(high: usize, batch: usize) -> usize {
    let few = 4 * batch;
    if high < few { high } else { few }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 256; // pages

    #[test]
    fn batch_vectors() {
        // P324
        let table = [
            (0, 1),
            (16 * MIB, 1),
            (32 * MIB, 1),
            (64 * MIB, 3),
            (128 * MIB, 7),
            (160 * MIB, 7),
            (192 * MIB, 15), // 12 * 1.5 = 18
            (256 * MIB, 15),
            (1024 * MIB, 63),
            (4096 * MIB, 63),
            (usize::MAX, 63),
        ];
        for (managed, expected) in table {
            assert_eq!(batch(managed), expected, "{managed}");
        }
        for managed in 0..400_000 {
            assert!(batch(managed) >= 1 && (batch(managed) + 1).is_power_of_two());
        }
    }

    #[test]
    fn limits_share_the_zone_between_cpus() {
        // P325: 1 GiB, low 1286 (P214)
        let one = PcpLimits::new(1024 * MIB, 1286, 1, None);
        assert_eq!(
            one,
            PcpLimits {
                batch: 63,
                high_min: 1286,
                high_max: 32768
            }
        );
        let four = PcpLimits::new(1024 * MIB, 1286, 4, None);
        assert_eq!(
            four,
            PcpLimits {
                batch: 63,
                high_min: 321,
                high_max: 8192
            }
        );
        let many = PcpLimits::new(1024 * MIB, 1286, 1000, None);
        assert_eq!((many.high_min, many.high_max), (252, 252)); // 4 * batch
        assert_eq!(PcpLimits::new(1024 * MIB, 1286, 0, None), one);
        let fixed = PcpLimits::new(1024 * MIB, 1286, 4, Some(8));
        assert_eq!((fixed.high_min, fixed.high_max), (8192, 8192));
        assert!(one.is_tuned() && !fixed.is_tuned() && !PcpLimits::BOOT.is_tuned());
        assert_eq!(PcpLimits::new(1024 * MIB, 1286, 4, Some(7)), four); // below 8: off
        let tiny = PcpLimits::new(100, 5000, 1, None);
        assert!(tiny.high_min <= tiny.high_max);
    }

    #[test]
    fn refills_double_up_to_the_limit() {
        // P326, P960: 63, 126, 252 ... 63 << 5
        let limits = PcpLimits {
            batch: 63,
            high_min: 1286,
            high_max: 32768,
        };
        let mut scale = 0;
        for expected in [63, 126, 252, 504, 1008, 2016, 2016] {
            let refill = refill(0, 0, 32768, scale, &limits);
            assert_eq!(refill.blocks, expected);
            scale = refill.scale;
        }
        assert_eq!(scale, BATCH_SCALE_MAX);
        assert_eq!(scale_after_free(5), 2);
        assert_eq!(scale_after_free(1), 0);
        assert_eq!(scale_after_free(0), 0);
    }

    #[test]
    fn refills_leave_room_below_high() {
        // P326: at most high - count - batch, but a batch always.
        let limits = PcpLimits {
            batch: 63,
            high_min: 252,
            high_max: 32768,
        };
        assert_eq!(
            refill(0, 0, 300, 3, &limits),
            Refill {
                blocks: 237,
                scale: 3
            }
        );
        assert_eq!(
            refill(0, 290, 300, 3, &limits),
            Refill {
                blocks: 63,
                scale: 3
            }
        );
        assert_eq!(refill(0, 1000, 300, 3, &limits).blocks, 63);
        assert_eq!(
            refill(0, 0, 189, 1, &limits),
            Refill {
                blocks: 126,
                scale: 2
            }
        ); // just fits
        assert_eq!(
            refill(0, 0, 188, 1, &limits),
            Refill {
                blocks: 125,
                scale: 1
            }
        );
        // A scale from nowhere does no harm.
        assert_eq!(refill(0, 0, usize::MAX, 99, &limits).blocks, 2016);
    }

    #[test]
    fn refills_of_orders_and_fixed_lists_do_not_scale() {
        // P326
        let limits = PcpLimits {
            batch: 63,
            high_min: 252,
            high_max: 32768,
        };
        for (order, blocks) in [(1, 31), (2, 15), (3, 7), (5, 2), (9, 2), (64, 2)] {
            assert_eq!(
                refill(order, 0, 4096, 4, &limits),
                Refill { blocks, scale: 4 }
            );
        }
        let fixed = PcpLimits {
            batch: 63,
            high_min: 8192,
            high_max: 8192,
        };
        assert_eq!(refill(0, 0, 8192, 5, &fixed).blocks, 63);
        assert_eq!(refill(0, 0, 0, 5, &PcpLimits::BOOT).blocks, 1);
        assert_eq!(refill(3, 0, 0, 0, &limits).blocks, 1); // lists disabled
    }

    #[test]
    fn reclaim_lowers_the_limit() {
        // P329
        assert_eq!(high_under_reclaim(8192, 63), 252);
        assert_eq!(high_under_reclaim(100, 63), 100);
    }
}
