//! Tables as QEMU 7.2 makes them, dumped from its memory; the options stand in the dumps.

use super::image::{Image, seal, span};
use super::tables::acpi::{AcpiError, CpuState, Signature};
use super::tables::cmdline::{Command, Mode};
use super::tables::pvh::{PvhError, StartInfo};
use super::tables::survey::SurveyError;
use super::tables::{Survey, survey};
use gfp::frame::{NodeId, PhysAddr};

const Q35_NUMA: &str = include_str!("../firmware/q35-numa.hex");
const PC_64G: &str = include_str!("../firmware/pc-64g.hex");
/// Where the loader put it in both.
pub(crate) const START_INFO: PhysAddr = PhysAddr(0x21e0);
const TOP: PhysAddr = PhysAddr(1 << 40);

pub(crate) fn q35() -> Image {
    Image::dump(Q35_NUMA)
}

fn look(image: &Image) -> Result<Survey<'_>, SurveyError> {
    survey(image, START_INFO, span(0x10_0000, 0x45_6789), TOP)
}

fn usable(survey: &Survey<'_>) -> Vec<(u8, u64, u64)> {
    let regions = survey.regions.usable.iter();
    regions.map(|r| (r.node.0, r.start.0, r.end.0)).collect()
}

#[test]
fn a_machine_with_two_nodes_is_read_as_it_was_described() {
    let image = q35();
    let survey = look(&image).unwrap();
    assert_eq!(survey.command_line, "mode=test filter=acpi seed=7");
    let command = Command::parse(survey.command_line, &[]).unwrap();
    assert_eq!((command.mode, command.seed), (Mode::Test, 7));
    assert_eq!(survey.without, [None; 3]);
    assert_eq!(survey.local_apic, PhysAddr(0xfee0_0000));
    let cpus = survey.processors.iter();
    let cpus: Vec<_> = cpus
        .map(|p| (p.cpu.apic_id, p.cpu.state, p.node.0))
        .collect();
    let up = CpuState::Enabled;
    assert_eq!(cpus, [(0, up, 0), (1, up, 0), (2, up, 1), (3, up, 1)]);
    assert_eq!(survey.nodes.count(), 2);
    let distance = |from, to| survey.nodes.distance(NodeId(from), NodeId(to));
    assert_eq!(
        [distance(0, 0), distance(0, 1), distance(1, 0)],
        [10, 21, 21]
    );
    // The RAM disk takes two pages, the tables the end.
    assert_eq!(
        usable(&survey),
        [
            (0, 0x45_7000, 0x4000_0000),
            (1, 0x4000_0000, 0x7ffd_6000),
            (1, 0x7ffd_8000, 0x7ffd_f000),
        ]
    );
    let hot = survey.regions.hot.iter();
    let hot: Vec<_> = hot.map(|h| (h.span, h.node.0)).collect();
    assert_eq!(hot, [(span(0x1_0000_0000, 0x3_8000_0000), 1)]);
}

#[test]
fn a_machine_without_nodes_is_one_node() {
    let image = Image::dump(PC_64G);
    let survey = look(&image).unwrap();
    assert_eq!(survey.command_line, "mode=idle");
    let missing = |name: &[u8; 4]| Some(AcpiError::Missing(Signature(*name)));
    assert_eq!(survey.without, [None, missing(b"SRAT"), missing(b"SLIT")]);
    // Two of the four CPUs that could be there are.
    assert_eq!(survey.processors.len(), 2);
    assert_eq!(survey.nodes.count(), 1);
    assert_eq!(
        usable(&survey),
        [
            (0, 0x45_7000, 0xbffe_0000),
            (0, 0x1_0000_0000, 0x10_4000_0000),
        ]
    );
    assert!(survey.regions.hot.is_empty());
}

#[test]
fn one_wrong_byte_anywhere_refuses_a_table() {
    for name in [b"APIC", b"SRAT", b"SLIT"] {
        let len = q35().piece(name).len();
        for i in 0..len {
            let mut image = q35();
            image.piece(name)[i] ^= 0x10;
            let without = look(&image).unwrap().without;
            assert_eq!(without.iter().flatten().count(), 1, "{name:?} byte {i}");
        }
    }
    for i in 0..20 {
        let mut image = q35();
        image.piece(b"RSD PTR ")[i] ^= 0x10;
        let without = look(&image).unwrap().without;
        let at = PhysAddr(0xf_59e0);
        assert_eq!(without, [Some(AcpiError::BadRoot { at }); 3], "byte {i}");
    }
}

#[test]
fn a_table_that_is_cut_off_is_refused() {
    for name in [b"APIC", b"SRAT", b"SLIT"] {
        let len = q35().piece(name).len();
        for i in 0..len {
            let mut image = q35();
            image.piece(name).truncate(i);
            let without = look(&image).unwrap().without;
            assert_eq!(without.iter().flatten().count(), 1, "{name:?} of {i} bytes");
        }
    }
}

#[test]
fn without_acpi_the_memory_is_still_known() {
    let mut image = q35();
    image.pieces.retain(|p| !p.1.starts_with(b"RSD PTR "));
    let survey = look(&image).unwrap();
    assert!(survey.processors.is_empty());
    assert_eq!(usable(&survey)[0], (0, 0x45_7000, 0x7ffd_6000));
}

#[test]
fn a_bad_start_info_is_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = q35();
        change(image.piece(&0x336e_c578u32.to_le_bytes()));
        look(&image).unwrap_err()
    };
    let pvh = SurveyError::Pvh;
    let found = 0x336e_c579;
    assert_eq!(refused(&|b| b[0] += 1), pvh(PvhError::BadMagic { found }));
    assert_eq!(refused(&|b| b[4] = 0), pvh(PvhError::NoMemoryMap));
    let error = refused(&|b| b[48] = 129);
    let too_many = |what, found, max| pvh(PvhError::TooMany { what, found, max });
    assert_eq!(error, too_many("memory map", 129, 128));
    let error = refused(&|b| b[51] = 0xff);
    assert_eq!(error, too_many("memory map", 0xff00_0009, 128));
    assert_eq!(refused(&|b| b[12] = 9), too_many("module list", 9, 8));
    let unreadable = |what, at| {
        pvh(PvhError::Unreadable {
            what,
            at: PhysAddr(at),
        })
    };
    assert_eq!(refused(&|b| b[41] = 0x77), unreadable("memory map", 0x77a8));
    assert_eq!(refused(&|b| b[48] = 10), unreadable("memory map", 0x5a8));
    assert_eq!(
        refused(&|b| b[17] = 0x77),
        unreadable("module list", 0x77c0)
    );
    assert_eq!(
        refused(&|b| b.truncate(55)),
        unreadable("PVH start info", 0x21e0)
    );
    assert_eq!(refused(&|b| b[25] = 0x77), pvh(PvhError::BadCommandLine));
}

#[test]
fn a_command_line_ends_at_its_zero_and_is_text() {
    let read = |line: &[u8]| {
        let mut image = q35();
        *image.piece(b"mode=") = line.to_vec();
        let info = StartInfo::read(&image, START_INFO).unwrap();
        info.command_line(&image).map(str::to_owned)
    };
    assert_eq!(read(b"a=b\0c=d\0"), Ok("a=b".to_owned()));
    assert_eq!(read(b"\0"), Ok(String::new()));
    assert_eq!(read(b"no end"), Err(PvhError::BadCommandLine));
    assert_eq!(read(b"\xff\0"), Err(PvhError::BadCommandLine));
    let mut long = [b'x'; 5000];
    assert_eq!(read(&long), Err(PvhError::BadCommandLine));
    long[4096] = 0;
    assert_eq!(read(&long), Err(PvhError::BadCommandLine));
    long[4095] = 0;
    assert_eq!(read(&long).map(|line| line.len()), Ok(4095));
}

#[test]
fn a_cpu_that_is_named_twice_is_there_once() {
    let mut image = q35();
    let madt = image.piece(b"APIC");
    // The second entry names the CPU of the first.
    madt[44 + 8 + 3] = 0;
    seal(madt, 9);
    let survey = look(&image).unwrap();
    let ids: Vec<_> = survey.processors.iter().map(|p| p.cpu.apic_id).collect();
    assert_eq!(ids, [0, 2, 3]);
}

#[test]
fn a_module_of_absurd_length_takes_all_behind_it() {
    let mut image = q35();
    image.piece(&0x7ffd_6000u64.to_le_bytes())[8..16].fill(0xff);
    let regions = usable(&look(&image).unwrap());
    assert_eq!(regions.last(), Some(&(1, 0x4000_0000, 0x7ffd_6000)));
}
