//! Areas that a machine has from boot on.

use super::{BASE, MIB, fixed, free_cma, release};
use crate::Mm;
use crate::frame::PhysAddr;
use crate::page::{BootConfig, BootError, ContigError};
use crate::pool::cma::{CMA_AREAS_MAX, CmaError, CmaSpec};
use crate::testing::{TestPlatform, region};
use std::vec::Vec;

fn boot_with(mib: u64, config: &BootConfig) -> Result<Mm<TestPlatform>, BootError> {
    let platform = TestPlatform::new(BASE, (mib * MIB) as usize);
    Mm::boot(platform, &[region(BASE, BASE + mib * MIB)], config)
}

#[test]
fn areas_of_the_configuration_are_there_from_boot_on_where_they_were_wanted() {
    // P505: some have the first bytes of the memory, which whoever allocates first would get.
    let at = |mib: u64| PhysAddr(BASE + mib * MIB);
    let config = BootConfig::default()
        .with_cma(CmaSpec::new("anywhere", 4 * MIB))
        .with_cma(fixed(6, 0))
        .with_cma(CmaSpec {
            name: "next",
            ..fixed(4, 6)
        })
        .with_cma(CmaSpec {
            within: Some((at(31), at(40))),
            ..CmaSpec::new("within", 8 * MIB)
        });
    let mm = boot_with(64, &config).unwrap();
    mm.verify().unwrap();
    let place = |name: &str| {
        let stats = mm.cma_stats(mm.cma_area(name)?)?;
        Some((stats.first.phys(), stats.available_pages))
    };
    assert_eq!(place("test"), Some((at(0), 1536)));
    assert_eq!(place("next"), Some((at(6), 1024)));
    let (anywhere, pages) = place("anywhere").unwrap();
    assert!(at(10) <= anywhere && pages == 1024);
    assert_eq!(place("within"), Some((at(32), 2048)));
    assert_eq!(place("other"), None);
    let names = mm.cma_areas().map(|area| area.name);
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["anywhere", "test", "next", "within"]
    );
    assert_eq!(free_cma(&mm), 1536 + 2 * 1024 + 2048);
    // They are areas as others are.
    let id = mm.cma_area("within").unwrap();
    let got = mm.cma_alloc(id, 2048, 0).unwrap();
    assert!(release(&mm, id, got, 2048));
    assert!(mm.cma_create(&CmaSpec::new("later", 2 * MIB)).is_ok());
    mm.verify().unwrap();
}

#[test]
fn boot_says_which_area_it_could_not_make_and_why() {
    // P505
    let refused = |area: CmaSpec| {
        let first = CmaSpec::new("first", 2 * MIB);
        let config = BootConfig::default().with_cma(first).with_cma(area);
        boot_with(16, &config).err()
    };
    let test = |error| {
        Some(BootError::Cma {
            name: "test",
            error,
        })
    };
    let last = PhysAddr(BASE + 16 * MIB);
    assert_eq!(refused(fixed(3, 4)), test(CmaError::Invalid));
    // The tables of the page allocator are at the end.
    let why = refused(fixed(2, 14)).unwrap();
    let taken = |error| matches!(error, CmaError::Taken(ContigError::Busy { .. }));
    assert!(matches!(why, BootError::Cma { error, .. } if taken(error)));
    let text = std::format!("{why}");
    let begin = "the area \"test\" is not made: the place of the CMA area is taken: ";
    assert!(text.starts_with(begin), "{text}");
    let nowhere = CmaSpec {
        within: Some((last, PhysAddr(u64::MAX))),
        ..CmaSpec::new("test", 2 * MIB)
    };
    assert_eq!(refused(nowhere), test(CmaError::NoMemory(None)));
    assert_eq!(
        refused(CmaSpec::new("test", 1 << 40)),
        test(CmaError::NoMemory(None))
    );
    let outside = CmaSpec {
        within: Some((PhysAddr(BASE), PhysAddr(BASE + 8 * MIB))),
        ..fixed(4, 6)
    };
    assert_eq!(refused(outside), test(CmaError::Invalid));
}

#[test]
fn a_configuration_holds_as_many_areas_as_a_machine() {
    let one = CmaSpec::new("one", 2 * MIB);
    let with = |n: usize| (0..n).fold(BootConfig::default(), |config, _| config.with_cma(one));
    let mm = boot_with(32, &with(CMA_AREAS_MAX)).unwrap();
    assert_eq!(mm.cma_areas().count(), CMA_AREAS_MAX);
    let more = std::panic::catch_unwind(|| with(CMA_AREAS_MAX + 1));
    assert!(more.is_err());
}
