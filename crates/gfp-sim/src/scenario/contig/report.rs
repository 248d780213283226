//! A device that is told of free memory: slow at times, and refuses at times (P520, P521).

use super::super::Lab;
use super::Run;
use crate::sim::TaskHandle;
use gfp::frame::{Order, PAGE_SIZE, Pfn};
use gfp::page::{Reported, ReportingDevice, ReportingError};
use gfp::platform::FrameRun;
use gfp::policy::reporting::DELAY_NS;

/// How often a device comes and goes.
const DEVICES: usize = 3;

/// Of the device's answers so many in a hundred are refusals.
pub(super) struct RefusesPercent(pub(super) usize);

pub(super) struct Device<'a> {
    lab: &'a Lab,
    task: &'a TaskHandle,
    pub(super) capacity: usize,
    least: Order,
    refuses: RefusesPercent,
    /// Pages that it was told of and took.
    pub(super) taken: usize,
    /// First frames of the blocks that it took.
    pub(super) known: Vec<Pfn>,
}

impl<'a> Device<'a> {
    pub(super) fn new(
        lab: &'a Lab,
        task: &'a TaskHandle,
        least: Option<Order>,
        refuses: RefusesPercent,
    ) -> Device<'a> {
        Device {
            lab,
            task,
            capacity: task.pick(&[1, 2, 7, 32]),
            least: least.unwrap_or(Order::PAGEBLOCK),
            refuses,
            taken: 0,
            known: Vec::new(),
        }
    }

    fn pages(&self, blocks: &[FrameRun]) -> usize {
        assert!((1..=self.capacity).contains(&blocks.len()));
        let pages = blocks[0].pages;
        assert!(blocks.iter().all(|block| block.pages == pages));
        assert!(pages >= self.least.pages() && pages.is_power_of_two());
        assert!(blocks.iter().all(|b| b.first.0.is_multiple_of(pages)));
        pages
    }

    /// Until it is done the blocks are its own, and it writes to them.
    fn take(&mut self, blocks: &[FrameRun]) -> Reported {
        let pages = self.pages(blocks);
        let mm = self.lab.mm();
        let address = |block: &FrameRun| mm.page_address(block.first).as_ptr();
        for block in blocks {
            let what = "block that a device is told of";
            self.lab.own(address(block), pages * PAGE_SIZE, what);
        }
        match self.task.below(3) {
            0 => self.task.sleep_ns(1 + self.task.below(30_000) as u64),
            1 => (0..50).for_each(|_| self.task.pause()),
            _ => (),
        }
        blocks.iter().for_each(|b| _ = self.lab.disown(address(b)));
        if self.task.below(100) < self.refuses.0 {
            self.lab.mark("device: refused", 1);
            return Reported::Refused;
        }
        self.lab.mark("device: blocks told", blocks.len() as u64);
        self.taken += blocks.len() * pages;
        self.known.extend(blocks.iter().map(|block| block.first));
        Reported::Taken
    }
}

impl ReportingDevice for Device<'_> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn report(&mut self, blocks: &[FrameRun]) -> Reported {
        let sim = self.lab.sim();
        sim.called_back(|| self.take(blocks))
    }
}

pub(super) fn report(_: &Run, lab: &Lab, task: &TaskHandle) {
    let mm = lab.mm();
    for _ in 0..DEVICES {
        let least = task.pick(&[None, None, Some(Order::MAX)]);
        let refuses = RefusesPercent(task.pick(&[0, 20, 60]));
        let device = Device::new(lab, task, least, refuses);
        let mut reporting = mm
            .register_reporting(device, least)
            .expect("there is no other");
        for _ in 0..1 + task.below(8) {
            task.sleep_ns(1 + task.below(20_000) as u64);
            if task.below(8) == 0 {
                let other = Device::new(lab, task, None, RefusesPercent(0));
                let refused = mm.register_reporting(other, None).err();
                assert_eq!(refused, Some(ReportingError::Busy));
            }
            task.pass_ns(DELAY_NS);
            let before = reporting.device().taken;
            let told = reporting.tick();
            assert_eq!(told, reporting.device().taken - before);
        }
        drop(reporting);
        task.sleep_ns(1 + task.below(20_000) as u64);
    }
}
