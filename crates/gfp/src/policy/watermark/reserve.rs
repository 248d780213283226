//! What lower zones keep from requests that could use a higher one (P207-P209).

use super::values::Watermarks;
use crate::flags::ZoneKind;

/// One number for each kind of zone, by [`ZoneKind::index`].
pub type ZoneTable = [usize; ZoneKind::COUNT];

/// P207: default of the sysctl `lowmem_reserve_ratio`.
pub const DEFAULT_LOWMEM_RATIO: ZoneTable = [256, 256, 32, 0, 0];

/// P207: pages that zone `i` keeps from a request whose highest zone is `j`, as `[i][j]`, for the
/// zones of one node with these managed pages.
///
/// For `j > i` it is the sum of the zones above `i` up to `j`, divided by `ratio[i]`; 0 if the
/// ratio is 0 or zone `i` is empty. For `j <= i` it is 0.
pub const fn lowmem_reserve(
    managed: &ZoneTable,
    ratio: &ZoneTable,
) -> [ZoneTable; ZoneKind::COUNT] {
    let mut reserve = [[0; ZoneKind::COUNT]; ZoneKind::COUNT];
    let mut zone = 0;
    while zone < ZoneKind::COUNT {
        let mut above: usize = 0;
        let mut highest = zone + 1;
        while highest < ZoneKind::COUNT {
            above = above.saturating_add(managed[highest]);
            if managed[zone] > 0 && ratio[zone] > 0 {
                reserve[zone][highest] = above / ratio[zone];
            }
            highest += 1;
        }
        zone += 1;
    }
    reserve
}

/// P209: pages that never count as available to user space: for each zone its largest lowmem
/// reserve and its high watermark, at most all it has. One item a zone: managed pages, watermarks,
/// row of [`lowmem_reserve`].
pub fn totalreserve(zones: impl IntoIterator<Item = (usize, Watermarks, ZoneTable)>) -> usize {
    let mut total: usize = 0;
    for (managed, marks, reserve) in zones {
        let largest = reserve.into_iter().fold(0, usize::max);
        total = total.saturating_add(largest.saturating_add(marks.high).min(managed));
    }
    total
}
