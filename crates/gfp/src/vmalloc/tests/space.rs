//! The address space by itself: no page is mapped here.

use super::machine::HERE;
use crate::frame::{PAGE_SHIFT, PAGE_SIZE};
use crate::report::Misuse;
use crate::testing::Rng;
use crate::vmalloc::area::Area;
use crate::vmalloc::areas::{CarveError, Found, Space};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::vec::Vec;

const START: usize = 0x7000_0000;

struct Fixture {
    space: Space,
    pages: usize,
    pool: Vec<NonNull<u8>>,
}

fn page_layout() -> Layout {
    Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).unwrap()
}

impl Fixture {
    fn new(pages: usize) -> Fixture {
        Fixture {
            space: Space::new(),
            pages,
            pool: Vec::new(),
        }
    }

    fn carve(&mut self, pages: usize, align_pages: usize) -> Result<Found, CarveError> {
        loop {
            let window = (START, self.pages << PAGE_SHIFT);
            match self.space.carve(window, pages, align_pages) {
                Err(CarveError::NeedNodes) => {
                    // SAFETY: the layout has a size.
                    let page = NonNull::new(unsafe { alloc(page_layout()) }).unwrap();
                    self.pool.push(page);
                    // SAFETY: freed after the space, in `drop`.
                    unsafe { self.space.add_page(page) };
                }
                done => return done,
            }
        }
    }

    fn busy(&mut self, pages: usize) -> usize {
        let found = self.carve(pages, 1).unwrap();
        self.space.publish(found.node, area(pages - 1));
        found.start
    }

    fn free(&mut self, start: usize) {
        let found = self.space.exact(start).unwrap();
        self.space.begin_free(found.node, HERE);
        self.space.retire(found.node);
    }

    fn purge(&mut self) -> usize {
        let list = self.space.take_lazy();
        self.space.recycle(list)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.space = Space::new();
        for page in self.pool.drain(..) {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(page.as_ptr(), page_layout()) };
        }
    }
}

fn area(pages: usize) -> Area {
    Area {
        pages,
        size: pages << PAGE_SHIFT,
        ..Area::NONE
    }
}

#[test]
fn the_lowest_fit_is_taken_and_a_hole_of_exactly_one_area_is_reused() {
    // V13, V14
    let mut f = Fixture::new(100);
    let starts: Vec<usize> = (0..5).map(|_| f.busy(4)).collect();
    assert_eq!(starts[1] - starts[0], 4 << PAGE_SHIFT);
    f.free(starts[1]);
    f.free(starts[3]);
    assert_eq!(
        f.busy(4),
        START + (20 << PAGE_SHIFT),
        "not before the flush (V17)"
    );
    assert_eq!(f.purge(), 8);
    assert_eq!(
        f.busy(5),
        START + (24 << PAGE_SHIFT),
        "no hole holds five pages"
    );
    assert_eq!(f.busy(4), starts[1]);
    assert_eq!(f.busy(3), starts[3]);
    assert_eq!(f.space.verify(), Ok(()));
}

#[test]
fn freed_neighbours_become_one_range() {
    // V14
    let mut f = Fixture::new(12);
    let starts: Vec<usize> = (0..4).map(|_| f.busy(3)).collect();
    assert_eq!(
        f.carve(2, 1).unwrap_err(),
        CarveError::Full { flushing: false }
    );
    for i in [1, 3, 2, 0] {
        f.free(starts[i]);
        f.purge();
        assert_eq!(f.space.verify(), Ok(()));
    }
    assert_eq!(f.space.ranges().used(), 1);
    assert_eq!(f.busy(12), START);
}

#[test]
fn alignment_is_honoured_also_where_only_an_exact_place_is_left() {
    // V13
    let mut f = Fixture::new(64);
    f.busy(2);
    let found = f.carve(16, 16).unwrap();
    assert_eq!(found.start % (16 << PAGE_SHIFT), 0);
    f.space.publish(found.node, area(15));
    let hole = found.start;
    // Fill what is left, so that the aligned hole is the only place, without room to shift.
    while f.carve(2, 1).is_ok_and(|r| {
        f.space.publish(r.node, area(1));
        true
    }) {}
    f.free(hole);
    f.purge();
    let again = f.carve(16, 16).unwrap();
    assert_eq!(again.start, hole);
    assert_eq!(
        f.carve(16, 16).unwrap_err(),
        CarveError::Full { flushing: false }
    );
    f.space.give_back(again.node);
    assert_eq!(f.space.verify(), Ok(()));
}

#[test]
fn an_exhausted_space_says_whether_a_flush_is_under_way() {
    // V18
    let mut f = Fixture::new(8);
    let a = f.busy(8);
    f.free(a);
    assert_eq!(
        f.carve(8, 1).unwrap_err(),
        CarveError::Full { flushing: false }
    );
    let list = f.space.take_lazy();
    assert_eq!(
        f.carve(8, 1).unwrap_err(),
        CarveError::Full { flushing: true }
    );
    let mut cursor = list;
    assert_eq!(f.space.walk(&mut cursor), Some((START, 8)));
    assert_eq!(f.space.walk(&mut cursor), None);
    f.space.recycle(list);
    assert_eq!(f.carve(8, 1).unwrap().start, START);
    assert_eq!(
        f.carve(usize::MAX, 2).unwrap_err(),
        CarveError::Full { flushing: false }
    );
}

#[test]
fn a_wrong_free_is_told_apart() {
    // V10: unknown, interior, twice
    let mut f = Fixture::new(32);
    assert_eq!(f.space.exact(START).unwrap_err(), Misuse::WildFree);
    let a = f.busy(4);
    assert_eq!(
        f.space.exact(a + PAGE_SIZE).unwrap_err(),
        Misuse::InteriorFree
    );
    assert_eq!(f.space.exact(a + 1).unwrap_err(), Misuse::InteriorFree);
    assert_eq!(
        f.space.exact(START + (31 << PAGE_SHIFT)).unwrap_err(),
        Misuse::WildFree
    );
    assert_eq!(f.space.exact(0).unwrap_err(), Misuse::WildFree);
    f.free(a);
    assert_eq!(f.space.exact(a).unwrap_err(), Misuse::DoubleFree);
    let list = f.space.take_lazy();
    assert_eq!(f.space.exact(a).unwrap_err(), Misuse::DoubleFree);
    f.space.recycle(list);
    assert_eq!(f.space.exact(a).unwrap_err(), Misuse::WildFree);
}

/// What the space must agree with: areas by start, and which are only lazily freed.
#[derive(Default)]
struct Model {
    busy: BTreeMap<usize, usize>,
    lazy: BTreeMap<usize, usize>,
}

impl Model {
    /// The lowest free address that holds `pages` aligned.
    fn lowest(&self, window_pages: usize, pages: usize, align: usize) -> Option<usize> {
        let mut taken: Vec<(usize, usize)> = self
            .busy
            .iter()
            .chain(&self.lazy)
            .map(|(&s, &p)| (s, p))
            .collect();
        taken.sort_unstable();
        taken.push((START + (window_pages << PAGE_SHIFT), 0));
        let mut at = START;
        for (start, len) in taken {
            let aligned = at.next_multiple_of(align << PAGE_SHIFT);
            if aligned + (pages << PAGE_SHIFT) <= start {
                return Some(aligned);
            }
            at = start + (len << PAGE_SHIFT);
        }
        None
    }
}

fn run_against_model(seed: u64, steps: usize, window_pages: usize, max_pages: usize) {
    let mut random = Rng::new(seed);
    let mut f = Fixture::new(window_pages);
    let mut model = Model::default();
    for step in 0..steps {
        let at = || std::format!("seed {seed} step {step}");
        match random.below(10) {
            0..5 => {
                let pages = 2 + random.below(max_pages - 1);
                let align = if random.below(4) == 0 {
                    1 << random.below(5)
                } else {
                    1
                };
                let want = model.lowest(window_pages, pages, align);
                match f.carve(pages, align) {
                    Ok(found) => {
                        assert!(found.start.is_multiple_of(align << PAGE_SHIFT), "{}", at());
                        if align == 1 {
                            assert_eq!(Some(found.start), want, "lowest fit, {}", at());
                        }
                        f.space.publish(found.node, area(pages - 1));
                        model.busy.insert(found.start, pages);
                    }
                    Err(_) => assert_eq!(want, None, "{}", at()),
                }
            }
            5..9 => {
                let nth = random.below(model.busy.len().max(1));
                if let Some((&start, &pages)) = model.busy.iter().nth(nth) {
                    let inside = start + random.below(pages << PAGE_SHIFT);
                    assert_eq!(f.space.find(inside).unwrap().start, start, "V12, {}", at());
                    f.free(start);
                    model.busy.remove(&start);
                    model.lazy.insert(start, pages);
                }
            }
            _ => {
                assert_eq!(f.purge(), model.lazy.values().sum::<usize>(), "{}", at());
                model.lazy.clear();
            }
        }
        assert_eq!(f.space.verify(), Ok(()), "{}", at());
    }
}

#[test]
fn random_operations_agree_with_a_model() {
    // V12, V13, V14, V17
    let (seeds, steps) = if cfg!(miri) { (2, 60) } else { (40, 600) };
    for seed in 0..seeds {
        run_against_model(seed, steps, 200, 12);
        run_against_model(seed, steps, 2000, 60);
    }
}

#[test]
#[cfg_attr(miri, ignore = "20,000 nodes take minutes")]
fn the_tree_stays_shallow() {
    // V13: ascending insertion is the worst case of an unbalanced tree.
    let mut f = Fixture::new(100_000);
    let starts: Vec<usize> = (0..20_000).map(|_| f.busy(2)).collect();
    assert!(
        f.space.ranges().depth() < 60,
        "depth {}",
        f.space.ranges().depth()
    );
    starts.iter().step_by(2).for_each(|&s| f.free(s));
    f.purge();
    assert_eq!(f.space.verify(), Ok(()));
    assert!(f.space.ranges().depth() < 60);
}
