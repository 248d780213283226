//! Runs and stretches, as a naive search finds them.

use super::*;

fn order(o: u8) -> Order {
    Order::new(o).unwrap()
}

fn naive_largest(bits: &[bool; 512]) -> Option<u8> {
    (0..=9u8)
        .rev()
        .find(|&o| bits.chunks(1 << o).any(|run| run.iter().all(|&b| b)))
}

fn naive_best(bits: &[bool; 512], want: u8) -> Option<Run> {
    (want..=9).find_map(|o| {
        let size = 1usize << o;
        (0..512 / size).find_map(|i| {
            let free = |i: usize| bits[i * size..(i + 1) * size].iter().all(|&b| b);
            let whole = free(i) && (o == 9 || !free(i ^ 1));
            whole.then_some(Run {
                start: i * size,
                order: o,
            })
        })
    })
}

#[test]
fn runs_are_found_as_a_naive_search_finds_them() {
    // A small deterministic generator; densities from nearly full to nearly empty.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..3000 {
        let mut bits = [false; 512];
        for _ in 0..round % 60 {
            let o = (next() % 10) as u32;
            let size = 1usize << o;
            let start = (next() as usize % 512) / size * size;
            let free = next() % 4 != 0;
            bits[start..start + size].fill(free);
        }
        let mut words = [0u64; 8];
        for (i, &b) in bits.iter().enumerate() {
            words[i / 64] |= (b as u64) << (i % 64);
        }
        let line = Bits(words);
        assert_eq!(line.largest(), naive_largest(&bits), "round {round}");
        for o in 0..=9 {
            assert_eq!(
                line.best_run(order(o)),
                naive_best(&bits, o),
                "round {round} order {o}"
            );
        }
    }
}

#[test]
fn a_run_that_is_set_merges_as_far_as_its_buddies_are_free() {
    // P301, P302
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) as usize % n
    };
    let line = Line(core::array::from_fn(|_| AtomicU64::new(0)));
    for _ in 0..200 {
        line.clear_all();
        let mut free = [false; 512];
        // In the end every frame is free.
        while free.contains(&false) {
            let o = order(random(10) as u8);
            let start = random(512) & !(o.pages() - 1);
            let taken = free[start..start + o.pages()].contains(&true);
            let merged = line.set_merged(start, o);
            assert_eq!(merged.is_none(), taken);
            if !taken {
                free[start..start + o.pages()].fill(true);
                let whole = |m: &u8| {
                    let pages = 1 << m;
                    let first = start & !(pages - 1);
                    !free[first..first + pages].contains(&false)
                };
                let expected = (o.get()..=9).take_while(whole).last();
                assert_eq!(merged, expected, "{start} {o:?}");
            }
            assert!((0..512).all(|i| line.is_free(i) == free[i]));
        }
    }
}

#[test]
fn frames_that_are_set_or_cleared_are_just_these_and_a_stretch_ends_where_one_is_taken() {
    let mut state = 0x6c07_8965_4f6c_dd1du64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) as usize % n
    };
    let line = Line(core::array::from_fn(|_| AtomicU64::new(0)));
    let mut free = [false; 512];
    for round in 0..20_000 {
        let start = random(512);
        let most = [4, 70, 512][round % 3];
        let end = (start + 1 + random(most)).min(512);
        if random(2) == 0 {
            free[start..end].fill(false);
            line.clear(start, end - start);
        } else if free[start..end].contains(&true) {
            assert_eq!(line.set(start..end), None);
        } else {
            free[start..end].fill(true);
            let from = (0..start).rev().find(|i| !free[*i]).map_or(0, |i| i + 1);
            let to = (end..512).find(|i| !free[*i]).unwrap_or(512);
            assert_eq!(line.set(start..end), Some(from..to));
        }
        assert!((0..512).all(|i| line.is_free(i) == free[i]));
        let count = free.iter().filter(|f| **f).count();
        let tail = free[512 - count..].iter().all(|f| *f) && count != 0;
        assert_eq!(line.first_of_tail(count), tail.then_some(512 - count));
    }
}

#[test]
fn best_run_prefers_the_smallest_that_fits() {
    let mut words = [0u64; 8];
    words[0] = 0xff00; // an order-3 run
    words[1] = 0b1100; // an order-1 run
    assert_eq!(
        Bits(words).best_run(order(0)),
        Some(Run {
            start: 66,
            order: 1
        })
    );
    assert_eq!(
        Bits(words).best_run(order(2)),
        Some(Run { start: 8, order: 3 })
    );
    assert_eq!(Bits(words).best_run(order(4)), None);
}

#[test]
fn pieces_come_as_one_after_the_other_would_be_taken() {
    // P304
    let mut state = 0x853c_49e6_748f_ea9bu64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        state >> 7
    };
    for round in 0..2000 {
        let dense = round % 4;
        let words: [u64; 8] = core::array::from_fn(|i| match (dense, i % 3) {
            (0, 0) => u64::MAX,
            (1, _) => random() | random() | random() | random() << 9,
            (2, _) => random() & random(),
            _ => random(),
        });
        for o in 0..=6 {
            let line = Line(core::array::from_fn(|i| AtomicU64::new(words[i])));
            let most = random() as usize % 40;
            let mut left = most;
            Bits(words).each_piece(order(o), |run| {
                assert_eq!(line.bits().best_run(order(o)), Some(run));
                line.clear(run.start, 1 << run.order);
                left = left.wrapping_sub(1);
                left != 0
            });
            let next = line.bits().best_run(order(o));
            let all = next.is_none_or(|run| run.order >= WORD_ORDER);
            assert!(all || left == 0, "round {round} order {o}");
        }
    }
}
