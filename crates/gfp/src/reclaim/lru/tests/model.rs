//! Random calls against a simple model, with a full check after each.

use super::{Keeper, boot, lists, pass_at};
use crate::frame::Pfn;
use crate::page::{GivenUp, MigrateMode};
use crate::policy::reclaim::lru::Kind::{Droppable, Storable};
use crate::testing::Rng;
use std::collections::BTreeMap;
use std::vec::Vec;

/// What the model knows of a page.
#[derive(Copy, Clone, Default)]
struct Known {
    on_lists: bool,
    dirty: bool,
    writing: bool,
}

#[test]
fn random_calls_keep_lists_and_sums_right() {
    for seed in 0..20 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    let mut rng = Rng::new(seed);
    keeper.with(|id| {
        let mut model: BTreeMap<Pfn, Known> = BTreeMap::new();
        for step in 0..300 {
            let pick = |rng: &mut Rng| model.keys().nth(rng.below(model.len().max(1))).copied();
            let page = pick(&mut rng);
            let kind = [Droppable, Storable][rng.below(2)];
            match (rng.below(12), page) {
                (0..=2, _) => {
                    let answer = [
                        GivenUp::Now,
                        GivenUp::Busy,
                        GivenUp::Referenced,
                        GivenUp::Unevictable,
                    ][rng.below(4)];
                    let page = keeper.add(id, kind, answer).unwrap();
                    let known = Known {
                        on_lists: true,
                        ..Known::default()
                    };
                    model.insert(page, known);
                }
                (3, Some(page)) => {
                    keeper.free(page);
                    model.remove(&page);
                }
                (4, Some(page)) => {
                    let known = model.get_mut(&page).unwrap();
                    assert_eq!(mm.lru_del(page), known.on_lists);
                    *known = Known::default();
                }
                (5, Some(page)) => {
                    let known = model.get_mut(&page).unwrap();
                    assert_eq!(mm.lru_add(page, kind).is_ok(), !known.on_lists);
                    known.on_lists = true;
                }
                (6, Some(page)) => mm.mark_page_accessed(page),
                (7, Some(page)) => {
                    let known = model.get_mut(&page).unwrap();
                    let new = known.on_lists && !known.dirty;
                    assert_eq!(mm.set_page_dirty(page), new);
                    known.dirty |= new;
                }
                (8, Some(page)) => {
                    let known = model.get_mut(&page).unwrap();
                    let begins = known.on_lists && !known.writing;
                    assert_eq!(mm.start_page_writeback(page), begins);
                    if begins {
                        (known.dirty, known.writing) = (false, true);
                    }
                }
                (9, Some(page)) => {
                    let known = model.get_mut(&page).unwrap();
                    assert_eq!(mm.end_page_writeback(page), known.writing);
                    known.writing = false;
                }
                (10, Some(page)) => {
                    let gfp = crate::flags::GFP_HIGHUSER_MOVABLE;
                    let to = mm.migrate_page(page, 0, gfp, MigrateMode::Sync).unwrap();
                    let known = model.remove(&page).unwrap();
                    model.insert(to, known);
                }
                _ => {
                    let before = model.len();
                    let (_, freed) = pass_at(&mm, rng.below(4) as u8);
                    let left = keeper.frames();
                    model.retain(|page, _| left.contains(page));
                    assert_eq!(before - model.len(), freed, "seed {seed} step {step}");
                }
            }
            mm.verify()
                .unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
            let now = lists(&mm);
            let on_lists = now.of(Droppable) + now.of(Storable) + now.unevictable;
            let count = |of: fn(&Known) -> bool| model.values().filter(|k| of(k)).count();
            let expected = [
                count(|k| k.on_lists),
                count(|k| k.dirty),
                count(|k| k.writing),
            ];
            assert_eq!(
                [on_lists, now.dirty, now.writing],
                expected,
                "seed {seed} step {step}"
            );
        }
        let frames: Vec<Pfn> = model.keys().copied().collect();
        assert_eq!(frames, keeper.frames());
    });
}
