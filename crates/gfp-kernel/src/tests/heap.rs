//! Rust's collections over the machine's memory.

use super::fixture::{Ledger, Random, Wrong, cpus};
use super::threads::on_all_cpus;
use crate::arch::{percpu, time, traps};
use alloc::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, Ordering::Relaxed};

super::tests! { "heap":
    a_vector_grows_by_pushing,
    a_map_keeps_its_order_while_it_changes,
    shared_values_are_dropped_once_by_whoever_is_last,
    text_is_put_together,
    trait_objects_are_dropped_with_their_own_layout,
    alignments_up_to_sixteen_pages_are_honoured,
    resizing_keeps_content_and_alignment,
    zeroed_memory_reads_as_zero_after_use,
    a_hash_table_under_load_of_all_cpus,
    handlers_use_boxes_too,
}

fn a_vector_grows_by_pushing() {
    const NUMBERS: u64 = 3_000_000; // 32 MiB in the end: more than kmalloc gives
    let books = Ledger::open();
    let mut numbers = Vec::new();
    (0..NUMBERS).for_each(|n| numbers.push(n));
    assert_eq!(numbers.iter().sum::<u64>(), NUMBERS * (NUMBERS - 1) / 2);
    numbers.truncate(10);
    numbers.shrink_to_fit();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    drop(numbers);
    books.close();
}

fn a_map_keeps_its_order_while_it_changes() {
    let books = Ledger::open();
    let mut random = Random(11);
    let mut map = BTreeMap::new();
    for _ in 0..20_000 {
        let key = random.below(5000);
        match random.below(3) {
            0 => drop(map.remove(&key)),
            _ => drop(map.insert(key, vec![key; key % 20 + 1])),
        }
    }
    assert!(map.len() > 1000 && map.keys().is_sorted());
    assert!(
        map.iter()
            .all(|(key, v)| v.len() == key % 20 + 1 && v[0] == *key)
    );
    drop(map);
    books.close();
}

/// Counts how often it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn shared_values_are_dropped_once_by_whoever_is_last() {
    let books = Ledger::open();
    let drops = AtomicUsize::new(0);
    let shared: Vec<_> = (0..500).map(|_| Arc::new(Counted(&drops))).collect();
    on_all_cpus(|_| {
        for _ in 0..20 {
            let mine: VecDeque<_> = shared.iter().cloned().collect();
            drop(mine);
        }
    });
    assert!(shared.iter().all(|one| Arc::strong_count(one) == 1));
    assert_eq!(drops.load(Relaxed), 0);
    drop(shared);
    assert_eq!(drops.load(Relaxed), 500);
    books.close();
}

fn text_is_put_together() {
    let books = Ledger::open();
    let mut text = String::new();
    for n in 0..2000 {
        text += &format!("{n:>4} pages, ");
    }
    assert_eq!(text.len(), 2000 * "1234 pages, ".len());
    assert!(text.ends_with("1999 pages, "));
    let words: Vec<String> = text.split(", ").map(String::from).collect();
    assert_eq!(words[7], "   7 pages");
    drop((text, words));
    books.close();
}

fn trait_objects_are_dropped_with_their_own_layout() {
    #[repr(align(256))]
    struct Wide([u8; 300]);
    let books = Ledger::open();
    let mut shapes: Vec<Box<dyn Fn() -> usize>> = Vec::new();
    for n in 0..300usize {
        let wide = Wide([n as u8; 300]);
        match n % 3 {
            0 => shapes.push(Box::new(move || n)),
            1 => shapes.push(Box::new(move || wide.0[299].into())),
            _ => shapes.push(Box::new(|| 7)), // no memory at all
        }
    }
    let sum: usize = shapes.iter().map(|shape| shape()).sum();
    let right = |n: usize| match n % 3 {
        0 => n,
        1 => n & 0xff,
        _ => 7,
    };
    assert_eq!(sum, (0..300).map(right).sum());
    drop(shapes);
    books.close();
}

/// All layouts that the next tests ask for.
fn layouts() -> impl Iterator<Item = Layout> {
    let sizes = [1, 8, 100, 4096, 5000, 8193, 70_000, 1 << 20];
    let aligns = (0..=16).map(|shift| 1 << shift);
    aligns.flat_map(move |align| {
        sizes.map(|size| Layout::from_size_align(size, align).expect("a layout"))
    })
}

fn alignments_up_to_sixteen_pages_are_honoured() {
    let books = Ledger::open();
    for layout in layouts() {
        // SAFETY: the size is not 0; ours, and freed once.
        unsafe {
            let p = alloc(layout);
            assert!(
                !p.is_null() && p.addr().is_multiple_of(layout.align()),
                "{layout:?}"
            );
            p.write_bytes(1, layout.size());
            dealloc(p, layout);
        }
    }
    books.close();
}

fn resizing_keeps_content_and_alignment() {
    let books = Ledger::open();
    for layout in layouts() {
        for size in [3, 200, 4097, 60_000, 2 << 20] {
            let new = Layout::from_size_align(size, layout.align()).expect("a layout");
            // SAFETY: ours; freed once, with its last layout.
            unsafe {
                let p = alloc(layout);
                p.write_bytes(0x3c, layout.size());
                let q = realloc(p, layout, size);
                assert!(
                    !q.is_null() && q.addr().is_multiple_of(layout.align()),
                    "{layout:?}"
                );
                let kept = core::slice::from_raw_parts(q, size.min(layout.size()));
                assert!(kept.iter().all(|b| *b == 0x3c), "{layout:?} to {size}");
                dealloc(q, new);
            }
        }
    }
    books.close();
}

fn zeroed_memory_reads_as_zero_after_use() {
    let books = Ledger::open();
    for layout in layouts() {
        // SAFETY: ours, and freed once.
        unsafe {
            let p = alloc(layout);
            p.write_bytes(0xee, layout.size());
            dealloc(p, layout);
            let p = alloc_zeroed(layout);
            let bytes = core::slice::from_raw_parts(p, layout.size());
            assert!(bytes.iter().all(|b| *b == 0), "{layout:?}");
            dealloc(p, layout);
        }
    }
    books.close();
}

/// FNV-1a.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// A table of chains that doubles when it is full: `std`'s has no home here.
struct Table<K, V> {
    chains: Vec<Vec<(K, V)>>,
    len: usize,
}

impl<K: Hash + Eq, V> Table<K, V> {
    fn new() -> Table<K, V> {
        let chains = vec![];
        Table { chains, len: 0 }
    }

    fn chain(&mut self, key: &K) -> &mut Vec<(K, V)> {
        let hash = BuildHasherDefault::<Fnv>::default().hash_one(key) as usize;
        let n = self.chains.len();
        &mut self.chains[hash % n]
    }

    fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.len >= self.chains.len() {
            let n = (self.chains.len() * 2).max(8);
            let old = core::mem::replace(&mut self.chains, (0..n).map(|_| vec![]).collect());
            for (key, value) in old.into_iter().flatten() {
                self.chain(&key).push((key, value));
            }
        }
        let old = self.remove(&key);
        self.chain(&key).push((key, value));
        self.len += 1;
        old
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let chain = self.chain(key);
        let at = chain.iter().position(|(k, _)| k == key)?;
        let (_, value) = chain.swap_remove(at);
        self.len -= 1;
        Some(value)
    }
}

fn a_hash_table_under_load_of_all_cpus() {
    let books = Ledger::open();
    let left = AtomicUsize::new(0);
    on_all_cpus(|me| {
        let mut table = Table::new();
        let mut random = Random(me.into());
        let mut len = 0usize;
        for _ in 0..10_000 {
            let key = format!("key {}", random.below(2000));
            if random.below(3) == 0 {
                len -= usize::from(table.len > 0 && table.remove(&key).is_some());
            } else {
                let value = Box::new([key.len(); 5]);
                let old = table.insert(key.clone(), value);
                len += usize::from(old.is_none());
                Wrong::Content.unless(old.is_none_or(|v| v[4] == key.len()));
            }
        }
        Wrong::Content.unless(table.len == len);
        left.fetch_add(len, Relaxed);
    });
    assert!(left.load(Relaxed) > 500 * cpus() as usize);
    books.close();
}

fn handlers_use_boxes_too() {
    static BOXES: [AtomicPtr<[u64; 20]>; percpu::MAX_CPUS] =
        [const { AtomicPtr::new(core::ptr::null_mut()) }; percpu::MAX_CPUS];
    static CHANGED: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    CHANGED.store(0, Relaxed);
    fn replace(new: Option<Box<[u64; 20]>>) {
        let place = &BOXES[percpu::cpu() as usize];
        let new = new.map_or(core::ptr::null_mut(), Box::into_raw);
        // AcqRel: what is in the box is seen by who takes it.
        let old = place.swap(new, Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: made by `into_raw`, and ours since we took it.
            let old = unsafe { Box::from_raw(old) };
            Wrong::Content.unless(old.iter().all(|n| *n == old[0]));
            CHANGED.fetch_add(1, Relaxed);
        }
    }
    traps::ON_TIMER.set(Some(|_| replace(Some(Box::new([time::now_ns(); 20])))));
    on_all_cpus(|_| {
        time::timer_hz(3000);
        for n in 0..5000 {
            replace(Some(Box::new([n; 20])));
        }
        time::spin_us(5000);
        time::timer_hz(super::TIMER_HZ);
    });
    traps::ON_TIMER.set(None);
    on_all_cpus(|_| replace(None));
    assert!(CHANGED.load(Relaxed) > 4900 * cpus() as usize);
    books.close();
}
