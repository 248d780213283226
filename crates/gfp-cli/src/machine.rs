//! How much memory this machine gives us: its RAM, or less where a control group says so.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::size;

/// The default budget: half of the memory there is, in whole MiB.
pub(crate) fn default_bytes() -> Result<u64, Failure> {
    let total = memory_bytes(Path::new("/")).ok_or_else(|| {
        Failure::own("cannot read MemTotal in /proc/meminfo: give the memory with --memory SIZE")
    })?;
    let half = (total / 2) & !((1 << 20) - 1);
    Ok(half.clamp(size::MIN_BYTES, size::MAX_BYTES))
}

/// Memory of the machine whose `/proc` and `/sys` are under `root`.
fn memory_bytes(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let total = mem_total(&read("proc/meminfo")?)?;
    let limit = read("proc/self/cgroup")
        .and_then(|groups| group_limit(&root.join("sys/fs/cgroup"), &groups));
    Some(limit.map_or(total, |limit| limit.min(total)))
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The lowest limit on the way from our group up to the root, of both generations of control
/// groups.
fn group_limit(mount: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (mount, file) = if controllers.is_empty() {
            (mount.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        let own = mount.join(path.trim_start_matches('/'));
        own.ancestors()
            .take_while(|group| group.starts_with(&mount))
            .filter_map(|group| {
                fs::read_to_string(group.join(file))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            })
            .min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::TempDir;

    fn machine(files: &[(&str, &str)]) -> (TempDir, Option<u64>) {
        let dir = TempDir::new("machine").unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let bytes = memory_bytes(dir.path());
        (dir, bytes)
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:    8388608 kB\nMemFree: 1 kB\n");

    #[test]
    fn without_groups_the_ram_counts() {
        assert_eq!(machine(&[MEMINFO]).1, Some(8 << 30));
        assert_eq!(machine(&[("proc/meminfo", "MemFree: 1 kB\n")]).1, None);
        assert_eq!(machine(&[]).1, None);
    }

    #[test]
    fn the_lowest_limit_up_the_tree_counts() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let unlimited = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        let parent = ("sys/fs/cgroup/a/memory.max", "1073741824\n");
        assert_eq!(
            machine(&[MEMINFO, group, unlimited, parent]).1,
            Some(1 << 30)
        );
        assert_eq!(machine(&[MEMINFO, group, unlimited]).1, Some(8 << 30));
        let above_ram = ("sys/fs/cgroup/a/memory.max", "99999999999999\n");
        assert_eq!(machine(&[MEMINFO, group, above_ram]).1, Some(8 << 30));
    }

    #[test]
    fn first_generation_groups_count_too() {
        let group = ("proc/self/cgroup", "5:cpu:/x\n4:memory:/x\n0::/\n");
        let limit = (
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes",
            "536870912\n",
        );
        assert_eq!(machine(&[MEMINFO, group, limit]).1, Some(512 << 20));
    }

    #[test]
    fn the_default_of_this_machine_is_a_valid_size() {
        let bytes = default_bytes().unwrap();
        assert_eq!(size::parse(&bytes.to_string()), Ok(bytes));
    }
}
