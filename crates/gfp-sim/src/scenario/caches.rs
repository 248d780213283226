//! Caches that come and go.

use super::lab::CacheEntry;
use super::{Block, Lab};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_KERNEL, GFP_NOWAIT};
use gfp::slab::{CacheArgs, CacheError};
use std::rc::Rc;

impl Lab {
    /// A new cache, if there is room for it; its number.
    fn create_cache(&self, task: &TaskHandle) {
        let mut args = CacheArgs::new("", 8 + task.below(600));
        args.sheaf_capacity = task.pick(&[0, 0, 2, 8]);
        let name = format!("cache-{}-{}", task.id(), task.below(1 << 30));
        args.name = &name;
        if let Ok(cache) = self.mm().kmem_cache_create(&args) {
            let entry = CacheEntry {
                cache,
                size: args.size,
                users: 0,
                open: true,
            };
            self.caches.borrow_mut().push(entry);
        }
    }

    /// Any open cache, with one more user.
    fn use_cache(&self, task: &TaskHandle) -> Option<(usize, CacheEntry)> {
        let mut caches = self.caches.borrow_mut();
        let open = caches.iter().filter(|entry| entry.open).count();
        let nth = task.below(open.max(1));
        let mut of_open = caches.iter_mut().enumerate().filter(|(_, e)| e.open);
        of_open.nth(nth).map(|(number, entry)| {
            entry.users += 1;
            (number, *entry)
        })
    }

    fn alloc_of_cache(&self, task: &TaskHandle) -> Option<Block> {
        let (number, entry) = self.use_cache(task)?;
        let gfp = task.pick(&[GFP_KERNEL, GFP_NOWAIT]);
        let Ok(ptr) = self.mm().kmem_cache_alloc(entry.cache, gfp) else {
            self.refused();
            self.caches.borrow_mut()[number].users -= 1;
            return None;
        };
        self.own(ptr.as_ptr(), entry.size, "object of a cache");
        Some(Block::OfCache(number, ptr.as_ptr()))
    }

    fn alloc_bulk_of_cache(&self, task: &TaskHandle, held: &mut Vec<Block>) {
        let Some((number, entry)) = self.use_cache(task) else {
            return;
        };
        let mut out = [std::ptr::null_mut(); 12];
        let all = self
            .mm()
            .kmem_cache_alloc_bulk(entry.cache, GFP_KERNEL, &mut out);
        let got = if all.is_ok() { out.len() } else { 0 };
        for ptr in &out[..got] {
            self.own(*ptr, entry.size, "object of a bulk");
            held.push(Block::OfCache(number, *ptr));
        }
        self.caches.borrow_mut()[number].users += got;
        self.caches.borrow_mut()[number].users -= 1;
    }

    /// Destroys a cache that nobody uses, while the others are in use.
    fn destroy_cache(&self) {
        let unused = {
            let mut caches = self.caches.borrow_mut();
            let mut caches = caches.iter_mut().enumerate();
            let unused = caches.find(|(_, entry)| entry.open && entry.users == 0);
            unused.map(|(number, entry)| {
                entry.open = false;
                (number, entry.cache)
            })
        };
        let Some((number, cache)) = unused else {
            return;
        };
        match self.mm().kmem_cache_destroy(cache) {
            Ok(()) => {
                let stale = self.mm().kmem_cache_alloc(cache, GFP_KERNEL);
                assert!(stale.is_err(), "a destroyed cache gives objects");
            }
            Err(CacheError::CpuBusy) if self.sim().may_refuse_remote() => {
                self.caches.borrow_mut()[number].open = true;
            }
            Err(error) => panic!("a cache without users: {error:?}"),
        }
    }

    fn shrink_cache(&self, task: &TaskHandle) {
        if let Some((number, entry)) = self.use_cache(task) {
            let shrunk = self.mm().kmem_cache_shrink(entry.cache);
            let busy = shrunk == Err(CacheError::CpuBusy) && self.sim().may_refuse_remote();
            assert!(shrunk.is_ok() || busy, "{shrunk:?}");
            self.caches.borrow_mut()[number].users -= 1;
        }
    }
}

fn work(lab: &Lab, task: &TaskHandle) {
    let mut held = Vec::new();
    for _ in 0..150 {
        match task.below(16) {
            0 => lab.create_cache(task),
            1 => lab.destroy_cache(),
            2 => lab.shrink_cache(task),
            3 => lab.alloc_bulk_of_cache(task, &mut held),
            4..8 => held.extend(lab.alloc_of_cache(task)),
            8 if !held.is_empty() => lab.post(held.swap_remove(task.below(held.len()))),
            9 => {
                let theirs = lab.receive();
                theirs.into_iter().for_each(|block| lab.free(block));
            }
            _ if held.is_empty() => (),
            _ => lab.free(held.swap_remove(task.below(held.len()))),
        }
    }
    held.drain(..).for_each(|block| lab.free(block));
}

pub(super) fn caches(lab: &Rc<Lab>) {
    super::storms::free_from_handlers(lab);
    for number in 0..6 {
        let lab_of_task = Rc::clone(lab);
        let name = format!("user-{number}");
        let work = move |task: &TaskHandle| work(&lab_of_task, task);
        lab.sim().spawn(&name, work);
    }
}
