//! Memory that a camera needs side by side now and then, and that others use meanwhile:
//! `cargo run --release -p gfp-host --example contiguous`.
//!
//! A machine has an area for contiguous allocations (CMA) from boot on. A cache borrows it page by
//! page: its pages can be moved. When the camera wants all of it at once, the cache is asked to
//! move what it has there; each page keeps its content.

use gfp::flags::{GFP_HIGHUSER_MOVABLE, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, CmaSpec, MigrateMode, Migrated, PageOwner};
use gfp::pool::cma::{CmaId, CmaStats};
use gfp_host::{Host, HostConfig};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Mutex;

const MEMORY: usize = 32 << 20;
const AREA: u64 = 8 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", report()?);
    Ok(())
}

// --- The cache: an owner of movable pages ---

struct Cache {
    host: Host,
    /// What each page contains.
    pages: Mutex<BTreeMap<Pfn, Page>>,
}

struct Page {
    value: u64,
    moved: bool,
}

// SAFETY: it answers for pages in its table only, under its lock, and all use of them is under that
// lock too.
unsafe impl PageOwner for Cache {
    fn isolate(&self, page: Pfn) -> bool {
        self.with(|pages| pages.contains_key(&page))
    }

    fn migrate(&self, from: Pfn, to: Pfn, _: MigrateMode) -> Migrated {
        self.with(|pages| {
            let Some(page) = pages.remove(&from) else {
                return Migrated::Failed;
            };
            let (from, into) = (self.host.page_address(from), self.host.page_address(to));
            // SAFETY: the cache's page, and one that is given to it; they do not overlap.
            unsafe { from.copy_to_nonoverlapping(into, PAGE_SIZE) };
            pages.insert(
                to,
                Page {
                    moved: true,
                    ..page
                },
            );
            Migrated::Done
        })
    }
}

impl Cache {
    fn with<R>(&self, work: impl FnOnce(&mut BTreeMap<Pfn, Page>) -> R) -> R {
        work(&mut self.pages.lock().expect("nobody panics with it"))
    }

    /// The first word of a page.
    fn word(&self, pfn: Pfn) -> NonNull<u64> {
        self.host.page_address(pfn).cast()
    }

    /// Takes all memory that movable pages can have.
    fn fill(&self, owner: gfp::page::OwnerId) -> Result<(), Box<dyn Error>> {
        let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN;
        let mut value = 0;
        while let Ok(pfn) = self.host.alloc_pages(gfp, 0) {
            value += 1;
            let page = Page {
                value,
                moved: false,
            };
            // SAFETY: the cache's page, which nobody else knows yet.
            unsafe { self.word(pfn).write(value) };
            // Under the lock: from here on the page may be asked for.
            self.with(|pages| {
                pages.insert(pfn, page);
                self.host.set_page_owner(pfn, owner)
            })?;
        }
        Ok(())
    }

    /// Frees the first so many pages that `what` says.
    fn forget(&self, most: usize, what: impl Fn(Pfn) -> bool) {
        self.with(|pages| {
            let those = pages.keys().copied().filter(|pfn| what(*pfn));
            for pfn in those.take(most).collect::<Vec<_>>() {
                pages.remove(&pfn);
                // SAFETY: the cache's page, which it has forgotten.
                unsafe { self.host.free_frames(pfn, 0) };
            }
        });
    }

    /// Pages that contain what they should, and those of them that were moved.
    fn whole(&self) -> (usize, usize) {
        self.with(|pages| {
            // SAFETY: the cache's pages, under its lock.
            let whole =
                |(pfn, page): &(&Pfn, &Page)| unsafe { self.word(**pfn).read() } == page.value;
            let moved = pages.iter().filter(whole).filter(|(_, page)| page.moved);
            (pages.iter().filter(whole).count(), moved.count())
        })
    }

    fn inside(&self, frames: &Range<Pfn>) -> usize {
        self.with(|pages| pages.range(frames.clone()).count())
    }

    fn len(&self) -> usize {
        self.with(|pages| pages.len())
    }
}

// --- What happens ---

/// What happens to the area, as a table.
pub(crate) fn report() -> Result<String, Box<dyn Error>> {
    let config = BootConfig::default().with_cma(CmaSpec::new("camera", AREA));
    let host = Host::boot_with(&HostConfig::new(MEMORY), &config)?;
    let camera = host.cma_area("camera").expect("boot made it");
    let all = stats(&host, camera).total_pages;
    let first = stats(&host, camera).first;
    let frames = first..first.add(all);

    let cache = Cache {
        host: host.clone(),
        pages: Mutex::default(),
    };
    // SAFETY: it is unregistered below, before it goes.
    let owner = unsafe { host.register_page_owner_for(NonNull::from(&cache)) }?;

    let mut table = format!(
        "{} MiB of memory, {} MiB of it an area\n\n{:<28}{:>8}{:>8}{:>12}\n",
        MEMORY >> 20,
        AREA >> 20,
        "pages of the area",
        "free",
        "lent",
        "given out"
    );
    let mut row = |what: &str| {
        let stats = stats(&host, camera);
        let lent = cache.inside(&frames);
        let free = stats.available_pages - lent;
        let out = all - stats.available_pages;
        writeln!(table, "{what:<28}{free:>8}{lent:>8}{out:>12}")
    };
    row("after boot")?;
    cache.fill(owner)?;
    row("the cache takes all")?;
    // Room elsewhere, for what is lent.
    cache.forget(all + all / 2, |pfn| !frames.contains(&pfn));
    let taken = host.cma_alloc(camera, all, 0)?;
    row("the camera takes the area")?;
    let (whole, moved) = cache.whole();
    // SAFETY: ours, used by nobody.
    assert!(unsafe { host.cma_release(camera, taken, all) });
    row("and gives it back")?;
    writeln!(
        table,
        "\n{moved} pages were moved; {whole} of {} contain what they did",
        cache.len()
    )?;
    cache.forget(usize::MAX, |_| true);
    host.unregister_page_owner(owner)?;
    Ok(table)
}

fn stats(host: &Host, area: CmaId) -> CmaStats {
    host.cma_stats(area).expect("areas stay")
}
