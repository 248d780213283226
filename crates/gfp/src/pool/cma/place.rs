//! Where an area comes to lie, and areas that a machine has from boot on.
//!
//! At boot frames are taken before anything else allocates, so that whoever asks for a certain
//! place finds nobody in it but the tables of the page allocator: those with a place of their own
//! first, then the others. Bitmaps need an allocator, and come after.

use super::{CMA_AREAS_MAX, Cma, CmaError, CmaSpec};
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp, ZoneKind};
use crate::frame::{Order, PAGE_SHIFT, Pfn, PhysAddr};
use crate::page::{BootError, ContigError, Held, IsolateMode, Migrated, Moved, Mover};
use crate::page::{PageAllocator, PageRequest};
use crate::platform::Platform;
use crate::slab::Slabs;
use core::ops::Range;

/// How the frames of an area are taken.
pub(super) const TAKE: Gfp = GFP_KERNEL.with(Gfp::NOWARN);

/// The areas of a machine that boots, with the frames that were taken for them.
pub(crate) struct Reserved {
    areas: [Option<(CmaSpec, Range<Pfn>)>; CMA_AREAS_MAX],
}

fn refused(spec: &CmaSpec) -> impl Fn(CmaError) -> BootError {
    let name = spec.name;
    move |error| BootError::Cma { name, error }
}

impl Reserved {
    /// Takes frames for each area of a machine in which nothing is allocated yet.
    ///
    /// # Errors
    /// [`BootError::Cma`]: the first that cannot be had.
    pub(crate) fn take<P: Platform>(
        pages: &PageAllocator<P>,
        specs: &[Option<CmaSpec>; CMA_AREAS_MAX],
    ) -> Result<Reserved, BootError> {
        if specs.iter().flatten().any(|spec| spec.at.is_some()) {
            keep_free(pages, specs);
        }
        let mut areas = [const { None }; CMA_AREAS_MAX];
        for fixed in [true, false] {
            for (area, spec) in areas.iter_mut().zip(specs) {
                let Some(spec) = spec.filter(|spec| spec.at.is_some() == fixed) else {
                    continue;
                };
                let frames = spec.check().and_then(|n| {
                    let take = |frames| {
                        pages.alloc_contig_range(frames, TAKE, IsolateMode::Other, &NothingToMove)
                    };
                    find(pages, &spec, n, take)
                });
                *area = Some((spec, frames.map_err(refused(&spec))?));
            }
        }
        Ok(Reserved { areas })
    }
}

/// Has the page allocator take what it needs for this CPU, its caches, outside of the places that
/// are wanted. What is wrong with a place is found when it is taken.
fn keep_free<P: Platform>(pages: &PageAllocator<P>, specs: &[Option<CmaSpec>; CMA_AREAS_MAX]) {
    let isolated = specs.map(|spec| {
        let spec = spec.filter(|spec| spec.check().is_ok())?;
        let start = spec.at?.pfn();
        let frames = start..start.add((spec.bytes >> PAGE_SHIFT) as usize);
        pages.isolate_pages(frames, IsolateMode::Other).ok()
    });
    if let Ok(page) = pages.alloc(&PageRequest::new(TAKE, Order::ZERO)) {
        // SAFETY: just allocated, and used by nobody.
        let freed = unsafe { pages.free(page, Order::ZERO) };
        debug_assert!(freed.is_ok());
    }
    drop(isolated);
}

impl Cma {
    /// The areas that boot took frames for, in the order in which they were listed.
    ///
    /// # Errors
    /// [`BootError::Cma`]: there is no memory for a bitmap.
    pub(crate) fn boot<P: Platform>(
        slabs: &Slabs<P>,
        reserved: Reserved,
    ) -> Result<Cma, BootError> {
        let cma = Cma::new();
        for (spec, frames) in reserved.areas.into_iter().flatten() {
            cma.create_with(slabs, &spec, |_| Ok(frames))
                .map_err(refused(&spec))?;
        }
        Ok(cma)
    }
}

/// Takes the frames of an area with `take`: where it says, or the first place that can be had.
pub(super) fn find<P: Platform>(
    all: &PageAllocator<P>,
    spec: &CmaSpec,
    pages: usize,
    take: impl Fn(Range<Pfn>) -> Result<(), ContigError>,
) -> Result<Range<Pfn>, CmaError> {
    let take = |first: Pfn| {
        let frames = first..first.add(pages);
        take(frames.clone()).map(|()| frames)
    };
    if let Some(at) = spec.at {
        return take(at.pfn()).map_err(CmaError::Taken);
    }
    match search(all, spec, pages, &take) {
        // Boot may have left memory for later.
        Err(CmaError::NoMemory(None)) if all.take_in_rest() > 0 => search(all, spec, pages, &take),
        result => result,
    }
}

/// Takes the frames of an area at the first place that can be had.
fn search<P: Platform>(
    all: &PageAllocator<P>,
    spec: &CmaSpec,
    pages: usize,
    take: &impl Fn(Pfn) -> Result<Range<Pfn>, ContigError>,
) -> Result<Range<Pfn>, CmaError> {
    let step = (spec.alignment >> PAGE_SHIFT) as usize;
    let lowest = spec.within.map_or(PhysAddr(0), |(first, _)| first).pfn().0;
    for kind in [ZoneKind::Normal, ZoneKind::Dma32, ZoneKind::Dma] {
        for (_, zone) in all.zone_frames().filter(|(k, _)| *k == kind) {
            let mut at = zone.start.0.max(lowest).next_multiple_of(step);
            while at + pages <= zone.end.0 && spec.fits(Pfn(at).phys()) {
                match take(Pfn(at)) {
                    Ok(frames) => return Ok(frames),
                    Err(ContigError::Interrupted) => return Err(CmaError::Interrupted),
                    Err(_) => at += step,
                }
            }
        }
    }
    Err(CmaError::NoMemory(None))
}

/// For a machine in which nothing has an owner yet.
struct NothingToMove;

impl<P: Platform> Mover<P> for NothingToMove {
    fn take(&self, _: Order) -> Result<Pfn, AllocError> {
        Err(AllocError::Nested)
    }

    fn migrate(&self, held: Held<'_, P>, to: Pfn) -> Moved {
        drop(held);
        let outcome = Migrated::Busy;
        Moved { left: to, outcome }
    }

    fn is_interrupted(&self) -> bool {
        false
    }
}
