//! Reading the text as tools do: by columns, by keys, by fixed words.

use super::*;
use std::collections::BTreeMap;

fn fields(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn buddyinfo_columns_are_where_awk_scripts_expect_them() {
    // P610: `awk '{print $2, $4, $5 .. $15}'`
    let text = text(View::Buddyinfo, &two_zone());
    let rows: Vec<_> = text.lines().map(fields).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.len() == 4 + 11));
    assert_eq!(rows[1][..4], ["Node", "0,", "zone", "Normal"]);
    assert_eq!(rows[1][4 + 2], "3");
    assert_eq!(rows[1][4 + 10], "1234567");
}

#[test]
fn buddyinfo_and_pagetypeinfo_agree() {
    // P610, P611, where no count was stopped.
    let machine = two_node();
    let buddy = text(View::Buddyinfo, &machine);
    let types = text(View::Pagetypeinfo, &machine);
    for row in buddy.lines().map(fields) {
        for order in 0..11 {
            let of_type = |line: &str| -> Option<usize> {
                let f: Vec<_> = line.split([' ', ',']).filter(|s| !s.is_empty()).collect();
                (f.get(4) == Some(&"type") && f[3] == row[3] && row[1] == std::format!("{},", f[1]))
                    .then(|| f[6 + order].parse().unwrap())
            };
            let sum: usize = types.lines().filter_map(of_type).sum();
            assert_eq!(sum, row[4 + order].parse::<usize>().unwrap());
        }
    }
}

#[test]
fn pagetypeinfo_marks_counts_that_were_stopped() {
    // P611
    let text = text(View::Pagetypeinfo, &two_zone());
    let row = |kind: &str| -> Vec<String> {
        let start = std::format!("Node    0, zone   Normal, type {kind:>12} ");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        line[start.len()..]
            .split_whitespace()
            .map(String::from)
            .collect()
    };
    assert_eq!(row("Movable")[..3], [">100000", "99999", "0"]);
    assert_eq!(row("Unmovable")[10], ">100000");
    assert_eq!(text.matches('>').count(), 2);
}

#[test]
fn slabinfo_splits_as_slabtop_does() {
    // D13: name and five numbers, " : tunables " and three, " : slabdata " and three.
    let text = text(View::Slabinfo, &two_zone());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("slabinfo - version: 2.1"));
    let head: Vec<_> = lines.next().unwrap().split(" : ").map(fields).collect();
    assert_eq!(head.iter().map(Vec::len).collect::<Vec<_>>(), [7, 4, 4]);
    let mut rows = 0;
    for line in lines {
        let parts: Vec<_> = line.split(" : ").map(fields).collect();
        assert_eq!(
            parts.iter().map(Vec::len).collect::<Vec<_>>(),
            [6, 4, 4],
            "{line}"
        );
        assert_eq!((parts[1][0], parts[2][0]), ("tunables", "slabdata"));
        let number = |s: &str| s.parse::<usize>().unwrap();
        let (active, all) = (number(parts[0][1]), number(parts[0][2]));
        assert!(active <= all);
        // active_slabs = num_slabs
        assert_eq!(parts[2][1], parts[2][2]);
        rows += 1;
    }
    assert_eq!(rows, two_zone().caches.len());
}

#[test]
fn slabinfo_counts_cached_objects_as_active() {
    // W9
    let machine = two_zone();
    let kmalloc = &machine.caches[2];
    assert_eq!((kmalloc.active_objs, kmalloc.in_use()), (3654, 1827));
    let text = text(View::Slabinfo, &machine);
    assert_eq!(
        fields(text.lines().nth(4).unwrap())[..2],
        ["kmalloc-96", "3654"]
    );
    assert_eq!(kmalloc.bytes(), 87 * 4096);
}

#[test]
fn vmstat_and_meminfo_are_lists_of_unique_keys() {
    // P613, P620
    for machine in [two_zone(), two_node()] {
        let mut keys = BTreeMap::new();
        let vmstat = text(View::Vmstat, &machine);
        for line in vmstat.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            let value: u64 = value.parse().unwrap();
            assert_eq!(keys.insert(key, value), None, "{key} twice");
        }
        assert!(vmstat.ends_with("\nnr_unstable 0\n"));
        // Kinds that a machine is built without have no events.
        let high = machine.has_zone(crate::flags::ZoneKind::HighMem);
        for key in ["pgalloc_high", "allocstall_high", "pgskip_high"] {
            assert_eq!(keys.contains_key(key), high, "{key}");
        }

        let mut labels = BTreeMap::new();
        let meminfo = text(View::Meminfo, &machine);
        for line in meminfo.lines() {
            let f = fields(line);
            let label = f[0].strip_suffix(':').unwrap();
            let unit = (!label.starts_with("HugePages_")).then_some("kB");
            assert_eq!(f.get(2).copied(), unit, "{line}");
            // Labels padded to 16, values 8 wide unless they are longer.
            let width = if unit.is_some() {
                line.len() - 3
            } else {
                line.len()
            };
            assert_eq!(width, 16 + f[1].len().max(8), "{line}");
            let value: u64 = f[1].parse().unwrap();
            assert_eq!(labels.insert(label, value), None, "{label} twice");
        }
        assert_eq!(labels["MemFree"], keys["nr_free_pages"] * 4);
        assert_eq!(labels["KernelStack"], keys["nr_kernel_stack"]);
        assert_eq!(labels["FileHugePages"], keys["nr_file_hugepages"] * 2048);
        assert_eq!(
            labels["Slab"],
            labels["SReclaimable"] + labels["SUnreclaim"]
        );
        assert_eq!(labels.contains_key("HighTotal"), high);
    }
}

#[test]
fn zoneinfo_has_every_zone_and_node_stats_once_a_node() {
    // P612
    let text = text(View::Zoneinfo, &two_node());
    let heads: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("Node "))
        .collect();
    let mut expected = Vec::new();
    for node in 0..3 {
        for kind in ["DMA", "DMA32", "Normal", "HighMem", "Movable"] {
            expected.push(std::format!("Node {node}, zone {kind:>8}"));
        }
    }
    assert_eq!(heads, expected);
    // The first populated zone of node 0 is DMA32, of node 1 Normal; node 2 has none.
    assert_eq!(text.matches("per-node stats\n").count(), 2);
    assert!(text.contains("Node 0, zone    DMA32\n  per-node stats\n"));
    assert!(text.contains("Node 1, zone   Normal\n  per-node stats\n"));
    // An unpopulated zone ends with its protection.
    let empty = text.split("Node 2, zone      DMA\n").nth(1).unwrap();
    let end = empty.find("Node 2, zone    DMA32\n").unwrap();
    assert!(empty[..end].ends_with("        protection: (0, 0, 0, 0, 0)\n"));
}

#[test]
fn zoneinfo_watermarks_contain_the_boost() {
    // P215, P612: P214's marks and a boost of 512.
    let text = text(View::Zoneinfo, &two_zone());
    let zone = text.split("zone   Normal\n").nth(1).unwrap();
    let value = |label: &str| -> usize {
        let line = zone.lines().find(|line| fields(line)[0] == label).unwrap();
        fields(line)[1].parse().unwrap()
    };
    assert_eq!(
        ["boost", "min", "low", "high", "promo"].map(value),
        [512, 1536, 1798, 2060, 2322]
    );
}

#[test]
fn vmallocinfo_sizes_match_the_addresses() {
    // V28
    for line in text(View::Vmallocinfo, &two_zone()).lines() {
        let f = fields(line);
        let (start, end) = f[0].split_once('-').unwrap();
        let addr = |s: &str| usize::from_str_radix(s.strip_prefix("0x").unwrap(), 16).unwrap();
        assert_eq!(addr(end) - addr(start), f[1].parse::<usize>().unwrap());
        assert_eq!(start.len(), 2 + 2 * size_of::<usize>());
    }
}
