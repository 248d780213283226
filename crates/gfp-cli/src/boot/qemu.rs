//! QEMU's command line: a pure function of the machine that is wanted.

use std::ffi::OsString;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Sockets for memory that is added at run time.
const SLOTS: u32 = 4;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// Translation, a host thread for each CPU.
    Threads,
    /// Translation, all CPUs on one host thread: with more CPUs than host cores, a spinning CPU
    /// would otherwise keep the one that it waits for from running.
    OneThread,
    /// Translation, one tick of the clock an instruction: counts are the same in each run.
    Counting,
    /// The host's own virtualisation.
    Kvm,
}

/// The machine that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Present at boot.
    pub(super) memory_bytes: u64,
    pub(super) cpus: u32,
    /// NUMA nodes that CPUs and memory are cut into.
    pub(super) nodes: u32,
    /// A memory module that the firmware's map does not list: the kernel may add it.
    pub(super) dimm_bytes: Option<u64>,
    pub(super) engine: Engine,
}

impl Machine {
    /// What cannot be built, and the fix.
    pub(super) fn check(&self) -> Result<(), String> {
        let smallest = 16 * MIB;
        if self.memory_bytes / u64::from(self.nodes) < smallest {
            return Err(format!(
                "--memory: {} in {} nodes is too small: a node needs at least 16M",
                crate::size::show(self.memory_bytes),
                self.nodes
            ));
        }
        Ok(())
    }

    /// In words, for the line before boot.
    pub(super) fn describe(&self) -> String {
        let mut text = format!(
            "{} CPU{}, {}",
            self.cpus,
            if self.cpus == 1 { "" } else { "s" },
            crate::size::show(self.memory_bytes)
        );
        if self.nodes > 1 {
            text += &format!(" in {} nodes", self.nodes);
        }
        if let Some(bytes) = self.dimm_bytes {
            text += &format!(" and a module of {}", crate::size::show(bytes));
        }
        text + match self.engine {
            Engine::Threads | Engine::OneThread => "",
            Engine::Counting => ", counting instructions",
            Engine::Kvm => ", KVM",
        }
    }
}

/// The arguments: `words` is the kernel's command line, `disk` a raw file.
pub(super) fn args(machine: &Machine, image: &Path, words: &str, disk: &Path) -> Vec<OsString> {
    let mut args = Builder(Vec::new());
    args.add("-machine", "q35");
    args.add_all("-nodefaults -no-reboot -display none");
    engine(&mut args, machine.engine);
    args.add("-smp", machine.cpus.to_string());
    memory(&mut args, machine);
    // Without signal=off, QEMU would take Ctrl-C for itself.
    args.add("-chardev", "stdio,id=console,signal=off");
    args.add("-serial", "chardev:console");
    args.add("-device", "isa-debug-exit,iobase=0xf4,iosize=4");
    args.add("-device", "virtio-rng-pci");
    let mut drive = OsString::from("if=none,id=disk,format=raw,file.locking=off,file.filename=");
    drive.push(disk);
    args.add("-drive", drive);
    args.add("-device", "virtio-blk-pci,drive=disk");
    args.add("-kernel", image);
    args.add("-append", words);
    args.0
}

struct Builder(Vec<OsString>);

impl Builder {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.extend([option.into(), value.into()]);
    }

    fn add_all(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }
}

fn engine(args: &mut Builder, engine: Engine) {
    match engine {
        Engine::Threads => args.add_all("-accel tcg,thread=multi -cpu max"),
        Engine::OneThread => args.add_all("-accel tcg,thread=single -cpu max"),
        // QEMU 10 dies when a timer is read through x2APIC while it counts.
        Engine::Counting => {
            args.add_all("-accel tcg,thread=single -icount shift=0 -cpu max,-x2apic");
        }
        Engine::Kvm => args.add_all("-accel kvm -cpu host"),
    }
}

/// RAM without reserved swap, so that 64 GiB can be described on a small host.
fn memory(args: &mut Builder, machine: &Machine) {
    let all = machine.memory_bytes / MIB;
    match machine.dimm_bytes {
        None => args.add("-m", format!("{all}M")),
        Some(bytes) => {
            let max = all + bytes / MIB;
            args.add("-m", format!("{all}M,slots={SLOTS},maxmem={max}M"));
        }
    }
    let nodes = machine.nodes;
    let backend =
        |id: String, mib: u64| format!("memory-backend-ram,id={id},size={mib}M,reserve=off");
    for node in 0..nodes {
        let rest = if node + 1 == nodes {
            all % u64::from(nodes)
        } else {
            0
        };
        let mib = all / u64::from(nodes) + rest;
        args.add("-object", backend(format!("ram{node}"), mib));
        let mut text = format!("node,nodeid={node},memdev=ram{node}");
        let (first, end) = (
            share(machine.cpus, node, nodes),
            share(machine.cpus, node + 1, nodes),
        );
        if first < end {
            text += &format!(",cpus={first}-{}", end - 1);
        }
        args.add("-numa", text);
    }
    if let Some(bytes) = machine.dimm_bytes {
        args.add("-object", backend("module".to_owned(), bytes / MIB));
        // The firmware describes the range for modules as part of the last node.
        args.add(
            "-device",
            format!("pc-dimm,id=dimm0,memdev=module,node={}", nodes - 1),
        );
    }
}

/// The first CPU of a node.
fn share(cpus: u32, node: u32, nodes: u32) -> u32 {
    (u64::from(cpus) * u64::from(node)).div_ceil(u64::from(nodes)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Machine = Machine {
        memory_bytes: 1 << 30,
        cpus: 4,
        nodes: 1,
        dimm_bytes: None,
        engine: Engine::Threads,
    };

    fn line(machine: &Machine) -> String {
        let args = args(machine, Path::new("/k"), "mode=idle", Path::new("/d"));
        let words: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        format!("{} ", words.join(" "))
    }

    #[test]
    fn the_plain_machine() {
        let line = line(&SMALL);
        for part in [
            "-machine q35 ",
            "-no-reboot ",
            "-accel tcg,thread=multi -cpu max ",
            "-smp 4 ",
            "-m 1024M ",
            "size=1024M,reserve=off ",
            "-numa node,nodeid=0,memdev=ram0,cpus=0-3 ",
            "-device isa-debug-exit,iobase=0xf4,iosize=4 ",
            "file.filename=/d ",
            "-kernel /k -append mode=idle ",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("pc-dimm") && !line.contains("icount"));
    }

    #[test]
    fn nodes_share_cpus_and_memory_and_lose_none() {
        let machine = Machine {
            cpus: 4,
            nodes: 3,
            memory_bytes: 100 << 20,
            ..SMALL
        };
        let line = line(&machine);
        for part in [
            "ram0,cpus=0-1 ",
            "ram1,cpus=2-2 ",
            "ram2,cpus=3-3 ",
            "id=ram0,size=33M",
            "id=ram2,size=34M",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let more_nodes_than_cpus = Machine {
            cpus: 1,
            nodes: 2,
            ..SMALL
        };
        let line = self::line(&more_nodes_than_cpus);
        assert!(line.contains("memdev=ram0,cpus=0-0 "), "{line}");
        assert!(line.contains("nodeid=1,memdev=ram1 "), "{line}");
    }

    #[test]
    fn a_module_has_a_slot_and_a_node() {
        let machine = Machine {
            nodes: 2,
            dimm_bytes: Some(256 << 20),
            ..SMALL
        };
        let line = line(&machine);
        assert!(line.contains("-m 1024M,slots=4,maxmem=1280M "), "{line}");
        assert!(
            line.contains("pc-dimm,id=dimm0,memdev=module,node=1 "),
            "{line}"
        );
    }

    #[test]
    fn counting_needs_one_thread_and_no_x2apic() {
        let line = line(&Machine {
            engine: Engine::Counting,
            cpus: 1,
            ..SMALL
        });
        assert!(
            line.contains("thread=single -icount shift=0 -cpu max,-x2apic "),
            "{line}"
        );
    }

    #[test]
    fn a_node_without_memory_is_refused() {
        let tiny = Machine {
            memory_bytes: 32 << 20,
            nodes: 4,
            ..SMALL
        };
        assert!(tiny.check().unwrap_err().contains("16M"));
        assert_eq!(SMALL.check(), Ok(()));
    }
}
