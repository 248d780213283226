//! P962, P963: shrinkers that allocate, and that stop.

use super::hoard::Hoard;
use super::model::BATCH;
use super::script::{Free, Scan, Setting, with_script};
use core::sync::atomic::Ordering::Relaxed;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::{Mm, Platform};

/// P962: with a few pages free, below min: a request fails; what the shrinker asks for itself is
/// served every time, and the shrinker is not asked meanwhile.
pub(in super::super) fn recursion<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
) -> Option<bool>
where
    Mm<P>: Sync,
{
    let looks = Setting {
        free: Free::Pages(8),
        ..Setting::BARREN
    };
    let allocates = Setting {
        scan: Scan::Allocates,
        ..looks
    };
    let gfp = GFP_KERNEL | Gfp::NORETRY;
    let mut hoard = Hoard::of(mm);
    let fails = with_script(mm, mine, &mut hoard, looks, |script| {
        !script.request(gfp, 0).served
    });
    let asked = with_script(mm, mine, &mut hoard, allocates, |script| {
        let calls = script.request(gfp, 0);
        let nested = script.nested.load(Relaxed);
        calls.scans > 0 && script.served.load(Relaxed) == calls.scans && nested == 0
    });
    hoard.end(mm);
    Some(fails? && asked?)
}

/// P963: a shrinker that stops after five calls is called once more in each pass that has a batch
/// for it, and no more. Its objects looked at, as the machine counts them.
pub(in super::super) fn stops<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
) -> Option<usize>
where
    Mm<P>: Sync,
{
    let setting = Setting {
        scan: Scan::StopsAfter(5),
        ..Setting::BARREN
    };
    let scanned = || mm.slabs().reclaim().events().objects_scanned;
    let mut hoard = Hoard::of(mm);
    let batches = with_script(mm, mine, &mut hoard, setting, |script| {
        let before = scanned();
        script.request(GFP_KERNEL | Gfp::NORETRY, 0);
        (scanned() - before) as usize / BATCH
    });
    hoard.end(mm);
    batches
}
