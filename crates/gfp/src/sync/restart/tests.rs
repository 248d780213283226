//! What an interrupt path is told, for every address; and the stacks as far as one thread shows
//! them. Every instruction, threads and signals: `gfp-host/tests/restart_steps` and
//! `rseq_threads.rs`.

use super::*;
use crate::frame::CpuId;
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec::Vec;

/// As if a sequence of 16 bytes stood at 0x1000.
static SEQUENCE: Descriptor = Descriptor::new(0x1000, 16, 0x2000);
static OTHER: Descriptor = Descriptor::new(0x3000, 16, 0x4000);

fn armed_with(descriptor: &'static Descriptor) -> Area {
    let area = Area::new();
    area.arm(descriptor);
    area
}

#[test]
fn every_address_inside_restarts_and_no_other_does() {
    for ip in 0xff0..0x2010 {
        let area = armed_with(&SEQUENCE);
        let inside = (0x1000..0x1010).contains(&ip);
        assert_eq!(area.interrupted(ip), inside.then_some(0x2000), "{ip:#x}");
        assert!(area.armed().is_none(), "{ip:#x}: still armed");
    }
    for ip in [0, 0xfff, 0x1010, SEQUENCE.end(), 0x2000, usize::MAX] {
        assert_eq!(armed_with(&SEQUENCE).interrupted(ip), None, "{ip:#x}");
    }
}

#[test]
fn an_area_that_is_not_armed_restarts_nothing() {
    let area = Area::new();
    assert_eq!(area.interrupted(0x1000), None);
    let area = armed_with(&SEQUENCE);
    assert_eq!(area.interrupted(0x1008), Some(0x2000));
    assert_eq!(area.interrupted(0x1008), None, "once is enough");
}

#[test]
fn an_nmi_before_the_look_of_an_interrupt_leaves_the_area_as_it_was() {
    let area = armed_with(&SEQUENCE);
    // An interrupt came at 0x1004; before it looks, an NMI comes, in the entry code at 0x9000, and
    // runs a sequence of its own.
    let before = area.suspend(0x9000);
    assert_eq!(before.restart_at(), None);
    assert!(area.armed().is_none());
    area.arm(&OTHER);
    area.resume(before);
    // With `interrupted` in the place of `suspend` and `resume` the answer would be `None`.
    assert_eq!(area.interrupted(0x1004), Some(0x2000));
}

#[test]
fn an_nmi_inside_a_sequence_restarts_it_and_leaves_the_area_disarmed() {
    let area = armed_with(&SEQUENCE);
    let before = area.suspend(0x100c);
    assert_eq!(before.restart_at(), Some(0x2000));
    area.arm(&OTHER);
    area.resume(before);
    assert!(area.armed().is_none());
}

#[test]
#[should_panic(expected = "abort")]
fn a_way_back_that_is_inside_is_refused() {
    let _ = Descriptor::new(0x1000, 16, 0x100f);
}

#[test]
fn ids_are_there_once_a_scheduler_wrote_them() {
    let area = Area::new();
    assert_eq!((area.cpu(), area.cid()), (None, None));
    // SAFETY: nobody runs sequences on it.
    unsafe { area.set_cpu(3, 1) };
    assert_eq!((area.cpu(), area.cid(), area.node()), (Some(3), Some(3), 1));
}

/// Stacks for `nr_ids` CPUs, with the memory that they lie in.
fn stacks<I: Numbering>(nr_ids: u32, capacity: u32) -> (Stacks<I>, Vec<u64>) {
    let shape = Shape::new(nr_ids, capacity);
    let mut memory = std::vec![0u64; shape.bytes() / 8];
    let base = NonNull::new(memory.as_mut_ptr()).unwrap().cast();
    // SAFETY: the memory is large enough, and goes with the stacks; ids are those of the test.
    (unsafe { Stacks::new(base, shape) }, memory)
}

/// An area that says it is on `cpu`.
fn area_on(cpu: u32) -> Area {
    let area = Area::new();
    // SAFETY: nobody runs sequences on it yet.
    unsafe { area.set_cpu(cpu, 0) };
    area
}

#[test]
fn who_owns_a_stack_fills_and_drains_it() {
    let (stacks, _memory) = stacks::<ByCpu>(2, 3);
    let closing = stacks.close(CpuId(1)).unwrap();
    assert!(stacks.close(CpuId(1)).is_none(), "one owner at a time");
    // SAFETY: no sequence runs.
    let mut closed = unsafe { closing.stopped() };
    for word in 1..=3 {
        assert_eq!(closed.push(word), Ok(()));
    }
    assert_eq!(closed.push(4), Err(PushError::Full));
    assert_eq!((closed.len(), stacks.len(CpuId(0))), (3, 0));
    assert_eq!(closed.pop(), Some(3));
    closed.set_limit(2);
    drop(closed);
    // SAFETY: no sequence runs.
    let mut closed = unsafe { stacks.close_here(CpuId(1)) }.expect("it was opened");
    assert_eq!((closed.limit(), closed.len()), (2, 2));
    assert_eq!((closed.pop(), closed.pop()), (Some(2), Some(1)));
    assert!(closed.pop().is_none() && closed.is_empty());
    drop(closed);
    drop(stacks.close(CpuId(1)).expect("and again"));
    assert!(
        stacks.close(CpuId(1)).is_some(),
        "a closing that is dropped opens"
    );
}

#[test]
#[should_panic(expected = "more bytes than there are addresses")]
fn a_shape_whose_size_overflows_is_refused() {
    let shape = Shape {
        nr_ids: 4,
        capacity: 1,
        stride_bytes: usize::MAX / 4 + 17,
    };
    let mut memory = [0u64; 16];
    // SAFETY: four times the stride is 64, in bytes: so much is there.
    let _ = unsafe { Stacks::<ByCpu>::new(NonNull::from(&mut memory).cast(), shape) };
}

#[test]
#[should_panic(expected = "no stack has the id 2")]
fn an_id_that_has_no_stack_is_refused() {
    let (stacks, _memory) = stacks::<ByCpu>(2, 3);
    let _ = stacks.len(CpuId(2));
}

#[cfg(not(miri))] // Miri runs no instructions of ours
mod instructions {
    use super::*;

    fn last_in_first_out<I: Numbering>() {
        let (stacks, _memory) = stacks::<I>(2, 3);
        let (zero, one) = (area_on(0), area_on(1));
        // SAFETY: nobody interrupts.
        let (zero, one) = unsafe { (Current::new(&zero), Current::new(&one)) };
        assert_eq!(stacks.pop(one), Err(PopError::Empty));
        for word in 1..=3 {
            assert_eq!(stacks.push(one, word), Ok(()));
        }
        assert_eq!(stacks.push(one, 4), Err(PushError::Full));
        assert_eq!(stacks.pop(zero), Err(PopError::Empty), "a stack of its own");
        assert_eq!((stacks.len(CpuId(0)), stacks.len(CpuId(1))), (0, 3));
        for word in (1..=3).rev() {
            assert_eq!(stacks.pop(one), Ok(word));
        }
        assert_eq!(stacks.pop(one), Err(PopError::Empty));
    }

    #[test]
    fn words_come_back_last_in_first_out_by_cpu_and_by_compact_id() {
        last_in_first_out::<ByCpu>();
        last_in_first_out::<ByCid>();
    }

    #[test]
    fn a_closed_stack_answers_so_and_others_go_on() {
        let (stacks, _memory) = stacks::<ByCpu>(2, 3);
        let (zero, one) = (area_on(0), area_on(1));
        // SAFETY: nobody interrupts.
        let (zero, one) = unsafe { (Current::new(&zero), Current::new(&one)) };
        assert_eq!(stacks.push(one, 7), Ok(()));
        let closing = stacks.close(CpuId(1)).unwrap();
        assert_eq!(stacks.pop(one), Err(PopError::Closed));
        assert_eq!(stacks.push(one, 8), Err(PushError::Closed));
        assert_eq!(stacks.push(zero, 9), Ok(()));
        // SAFETY: no sequence is under way.
        let mut closed = unsafe { closing.stopped() };
        assert_eq!(stacks.pop(one), Err(PopError::Closed));
        assert_eq!(closed.push(8), Ok(()));
        drop(closed);
        assert_eq!((stacks.pop(one), stacks.pop(one)), (Ok(8), Ok(7)));
        assert_eq!(stacks.pop(one), Err(PopError::Empty), "empty is not closed");
    }

    /// The real descriptors: every byte from start to end restarts, what is around does not, and
    /// the signature stands before the way back.
    #[test]
    fn descriptors_of_push_and_pop_name_their_instructions() {
        let (stacks, _memory) = stacks::<ByCpu>(1, 3);
        let area = area_on(0);
        // SAFETY: nobody interrupts.
        let task = unsafe { Current::new(&area) };
        stacks.push(task, 1).unwrap();
        check_descriptor(&area);
        stacks.pop(task).unwrap();
        check_descriptor(&area);
    }

    fn check_descriptor(area: &Area) {
        // The last sequence left the area armed.
        let descriptor: &'static Descriptor = Box::leak(Box::new(area.armed().unwrap()));
        let (start, end, abort) = (descriptor.start(), descriptor.end(), descriptor.abort());
        assert!((20..80).contains(&(end - start)), "{descriptor:?}");
        for ip in (start - 16..end + 16).chain(abort - 4..abort + 8) {
            area.arm(descriptor);
            let inside = (start..end).contains(&ip);
            assert_eq!(area.interrupted(ip), inside.then_some(abort), "{ip:#x}");
        }
        // SAFETY: the code before the way back, which is readable.
        let signature = unsafe { (abort as *const u32).sub(1).read_unaligned() };
        assert_eq!(signature, SIGNATURE);
    }
}
