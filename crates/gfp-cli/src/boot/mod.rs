//! `gfp boot`: the kernel of `crates/gfp-kernel` in QEMU.
//!
//! 1. **Order.** What can be wrong is looked at first: options, QEMU, the checkout. Then cargo
//!    builds the image from the sources, QEMU starts it, and its lines are shown as they come.
//! 2. **Engine.** Translation (TCG), which is the same on every host. With fewer host cores than
//!    CPUs all CPUs share one host thread. KVM only where asked for, and where the host really has
//!    it: a `/dev/kvm` alone may be an interpreter.
//! 3. **Verdict.** QEMU's exact status, and in test mode the closing line as well ([`guest`]).
//! 4. **Failure.** A machine that does not end is killed after its time. Exit status 1: something
//!    failed inside; 125: gfp itself failed; 127: QEMU or cargo was not found.
//! 5. **Not done here.** What the kernel does: `crates/gfp-kernel`. Several machines in a row, and
//!    figures against recorded ones: the project's own `xtask`.
//!
//! | module | what it knows |
//! |---|---|
//! | [`checkout`] | the sources, cargo's command, where QEMU is |
//! | [`qemu`] | the command line of a machine |
//! | [`vm`] | one run: output, time, end |
//! | [`console`] | the terminal as the guest's console |
//! | [`guest`] | what the guest's lines mean; the verdict |
//! | [`figures`] | rows of a benchmark |

mod checkout;
mod console;
mod figures;
mod guest;
mod qemu;
mod vm;

use std::env;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;

use crate::failure::{Failure, say};
use crate::run::End;
use crate::size;
use checkout::Image;
use guest::Wanted;
use qemu::{Engine, Machine};
use vm::Show;

/// Bytes of the machine's disk, all zero at boot.
const DISK_BYTES: u64 = 16 << 20;
/// More than tests and benchmarks take on a slow host.
const LONG_SECONDS: u64 = 900;
/// More than a boot takes on a slow host.
const SHORT_SECONDS: u64 = 180;

/// Boot a machine whose memory is gfp's, in QEMU
///
/// Builds the kernel of crates/gfp-kernel and starts it. Without --test, --bench or --shell it
/// boots, says what it found and ends.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_BOOT, verbatim_doc_comment)]
pub(crate) struct BootArgs {
    /// Memory of the machine: a number with K, M, G, T (powers of 1024); the host needs only what
    /// is used
    #[arg(short, long, value_name = "SIZE", default_value = "1G", value_parser = parse_memory)]
    memory: u64,

    /// CPUs
    #[arg(short, long, value_name = "N", default_value = "4",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,

    /// Nodes that CPUs and memory are cut into
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=8))]
    numa: u32,

    /// A memory module that the kernel adds at run time
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    dimm: Option<u64>,

    /// Memory that the kernel keeps for contiguous allocations, and lends meanwhile (CMA)
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, conflicts_with = "example")]
    cma: Option<u64>,

    /// Run the tests inside the machine
    #[arg(long, group = "mode")]
    test: bool,

    /// Count the instructions of each operation, on one CPU
    #[arg(long, group = "mode")]
    bench: bool,

    /// A shell on the machine's serial console; Ctrl-A X ends it
    #[arg(long, group = "mode")]
    shell: bool,

    /// Boot an example of crates/gfp-kernel in place of the kernel: smallest
    #[arg(long, group = "mode", value_name = "NAME")]
    example: Option<String>,

    /// Only tests or operations whose names contain TEXT
    #[arg(long, value_name = "TEXT", value_parser = parse_word,
          conflicts_with_all = ["shell", "example"])]
    filter: Option<String>,

    /// Leave the check NAME out: the test that exists for it must fail
    #[arg(long = "break", value_name = "NAME", value_parser = parse_word,
          requires = "test", conflicts_with_all = ["bench", "shell", "example"])]
    broken: Option<String>,

    /// Seed of random tests
    #[arg(long, value_name = "N",
          requires = "test", conflicts_with_all = ["bench", "shell", "example"])]
    seed: Option<u64>,

    /// One JSON object an operation, and nothing else, on standard output
    #[arg(long, requires = "bench", conflicts_with_all = ["test", "shell", "example"])]
    json: bool,

    /// Use the host's virtualisation in place of translation
    #[arg(long, conflicts_with = "bench")]
    kvm: bool,

    /// Kill the machine after so many seconds [default: 900 for tests and figures, 180 for a boot,
    /// none for a shell]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
}

const AFTER_BOOT: &str = "\
Examples:
  gfp boot --test                                 # all tests, 4 CPUs, 1 GiB
  gfp boot --test --numa 2 --dimm 256M --filter zone
  gfp boot --bench --json > counts.json
  gfp boot --shell --memory 64G                   # then: help, cat /proc/buddyinfo
  gfp boot --example smallest                     # the smallest kernel on gfp

Exit status:
  0    the machine ended well
  1    a test failed in it, or it broke, or it did not end in time
  125  gfp itself failed (no checkout, the kernel did not compile, ...)
  127  QEMU or cargo was not found";

fn parse_memory(text: &str) -> Result<u64, String> {
    const MIB: u64 = 1 << 20;
    let bytes = size::parse(text)?;
    if !bytes.is_multiple_of(2 * MIB) {
        return Err("a machine's memory comes in multiples of 2M".into());
    }
    Ok(bytes)
}

/// A value on the kernel's command line.
fn parse_word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("one word without blanks".into());
    }
    Ok(text.to_owned())
}

impl BootArgs {
    fn mode(&self) -> &'static str {
        match (self.test, self.bench, self.shell) {
            (true, _, _) => "test",
            (_, true, _) => "bench",
            (_, _, true) => "shell",
            _ => "idle",
        }
    }

    /// The kernel's command line.
    fn words(&self) -> String {
        if self.example.is_some() {
            return String::new();
        }
        let mut words = format!("mode={}", self.mode());
        for (key, value) in [
            ("filter", self.filter.clone()),
            ("break", self.broken.clone()),
            ("seed", self.seed.map(|seed| seed.to_string())),
            ("cma", self.cma.map(|bytes| bytes.to_string())),
        ] {
            if let Some(value) = value {
                words += &format!(" {key}={value}");
            }
        }
        words
    }

    fn image(&self) -> Image {
        match &self.example {
            Some(name) => Image::Example(name.clone()),
            None if self.bench => Image::Fast,
            None => Image::Checked,
        }
    }

    fn wanted(&self) -> Wanted {
        match (self.test, self.bench) {
            (true, _) => Wanted::Tests,
            (_, true) => Wanted::Figures,
            _ => Wanted::Status,
        }
    }

    fn show(&self) -> Show {
        match (self.bench, self.shell) {
            (true, _) => Show::Figures,
            (_, true) => Show::Console,
            _ => Show::Lines,
        }
    }

    fn limit(&self) -> Option<Duration> {
        let usual = match (self.shell, self.test || self.bench) {
            (true, _) => None,
            (_, true) => Some(LONG_SECONDS),
            _ => Some(SHORT_SECONDS),
        };
        self.timeout.or(usual).map(Duration::from_secs)
    }

    /// The machine, on a host with so many cores.
    fn machine(&self, host_cores: u32) -> Result<Machine, Failure> {
        let cpus = if self.bench { 1 } else { self.cpus };
        let engine = match (self.bench, self.kvm) {
            (true, _) => Engine::Counting,
            (_, true) => Engine::Kvm,
            _ if host_cores >= cpus => Engine::Threads,
            _ => Engine::OneThread,
        };
        let machine = Machine {
            memory_bytes: self.memory,
            cpus,
            nodes: self.numa,
            dimm_bytes: self.dimm,
            engine,
        };
        machine.check().map_err(Failure::own)?;
        Ok(machine)
    }
}

/// Builds, boots, judges.
pub(crate) fn run(args: &BootArgs) -> Result<End, Failure> {
    if args.kvm {
        check_kvm(Path::new("/sys/module"))?;
    }
    let host_cores = available_parallelism().map_or(1, |cores| cores.get() as u32);
    let machine = args.machine(host_cores)?;
    let qemu = checkout::qemu(env::var_os("PATH").as_deref())?;
    let here = env::current_dir()
        .map_err(|error| Failure::own(format!("the current directory: {error}")))?;
    let root = checkout::find(&here)?;

    say("gfp: building the kernel\n");
    let image = checkout::build(&root, &args.image())?;
    say(&format!("gfp: booting it on {}\n", machine.describe()));
    if args.shell {
        say("gfp: your keys go to the machine; Ctrl-A X ends it\n");
    }
    let disk = vm::Disk::new(DISK_BYTES)?;
    let line = qemu::args(&machine, &image, &args.words(), &disk.path());
    match vm::run(&qemu, line, args.show(), args.limit())? {
        vm::End::Quit => {
            say("\ngfp: ended by Ctrl-A X\n");
            Ok(End::Status(0))
        }
        vm::End::Signal(signal) => Ok(End::Signal(signal)),
        vm::End::Status(status, heard) => {
            guest::judge(args.wanted(), status, &heard)?;
            if args.bench {
                print_figures(&heard.objects, args.json)?;
            }
            Ok(End::Status(0))
        }
    }
}

fn print_figures(objects: &[String], json: bool) -> Result<(), Failure> {
    let rows = figures::parse(objects)?;
    let text = if json {
        objects.join("\n") + "\n"
    } else {
        figures::table(&rows)
    };
    vm::write_out(text.as_bytes());
    Ok(())
}

/// Is there hardware behind KVM?
fn check_kvm(modules: &Path) -> Result<(), Failure> {
    if ["kvm_intel", "kvm_amd"]
        .iter()
        .any(|name| modules.join(name).is_dir())
    {
        return Ok(());
    }
    Err(Failure::own(
        "--kvm: this host has neither the module kvm_intel nor kvm_amd; leave --kvm out",
    ))
}

#[cfg(test)]
mod tests;
