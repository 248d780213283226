//! Starting CPUs.

use crate::arch::percpu::{self, PerCpu};
use crate::arch::smp;
use crate::memory::mm;
use core::sync::atomic::Ordering::Relaxed;
use gfp::flags::GFP_KERNEL;

super::tests! { "start":
    only_a_cpu_that_is_another_one_can_be_started,
}

fn only_a_cpu_that_is_another_one_can_be_started() {
    const BYTES: usize = size_of::<PerCpu>();
    let fresh = mm().kmalloc(BYTES, GFP_KERNEL).expect("memory");
    let page = crate::boot::options().start_page;
    let before = smp::count();
    {
        let stay = percpu::preempt_off();
        let own = stay.cpu().apic_id.load(Relaxed);
        // To a controller with 8 bits, 256 + n is n. No CPU has the number 254.
        for id in [own, 256 + own, 254, u32::MAX] {
            let percpu = fresh.as_ptr().cast::<PerCpu>();
            // SAFETY: no CPU has that number, or it is this one: nobody runs on what is given.
            let up = unsafe { smp::start(page, (id, 0), percpu, fresh.as_ptr().add(BYTES)) };
            assert!(!up, "CPU {id} came");
        }
    }
    assert_eq!(smp::count(), before);
    // SAFETY: nobody came; freed once.
    unsafe { mm().kfree(fresh.as_ptr()) }
}
