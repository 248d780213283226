//! The commands.

use super::held::{Held, Kind};
use super::{Console, stress};
use crate::arch::{percpu, smp, time};
use crate::boot::dimms;
use crate::memory::mm;
use crate::println;
use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::Ordering::Relaxed;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::stat::View;

/// What to do after a command.
pub(super) enum Next {
    /// Read the next line.
    Again,
    /// Leave.
    Exit,
}

/// One command.
struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[&str], &mut Held) -> Result<(), String>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "cat",
        usage: "cat /proc/NAME",
        about: "buddyinfo, pagetypeinfo, zoneinfo, vmstat, meminfo, slabinfo, vmallocinfo, \
                pressure/memory, extfrag/unusable_index or extfrag/extfrag_index",
        run: cat,
    },
    Command {
        name: "alloc",
        usage: "alloc SIZE [FLAGS] | alloc vmalloc SIZE | alloc pages ORDER [FLAGS]",
        about: "SIZE as 100, 64K or 2M; FLAGS as GFP_ATOMIC|__GFP_ZERO",
        run: alloc,
    },
    Command {
        name: "free",
        usage: "free NUMBER | free all",
        about: "frees what `alloc` gave",
        run: free,
    },
    Command {
        name: "list",
        usage: "list",
        about: "what is allocated",
        run: list,
    },
    Command {
        name: "stress",
        usage: "stress [OPERATIONS]",
        about: "all CPUs allocate and free at random; 100000 each if not said",
        run: stress::run,
    },
    Command {
        name: "trim",
        usage: "trim",
        about: "takes back what CPUs and caches hold without need",
        run: trim,
    },
    Command {
        name: "verify",
        usage: "verify",
        about: "checks every invariant of the allocator",
        run: verify,
    },
    Command {
        name: "plug",
        usage: "plug",
        about: "brings in memory modules that came since boot (gfp boot --dimm SIZE)",
        run: plug,
    },
    Command {
        name: "cpus",
        usage: "cpus",
        about: "interrupts that each CPU took",
        run: cpus,
    },
];

/// Does what a line says.
pub(super) fn run(line: &str, held: &mut Held) -> Result<Next, String> {
    let mut words = [""; 8];
    let mut count = 0;
    for word in line.split_ascii_whitespace() {
        let Some(place) = words.get_mut(count) else {
            return Err("too many words; `help` shows the commands".to_string());
        };
        *place = word;
        count += 1;
    }
    let Some((name, args)) = words[..count].split_first() else {
        return Ok(Next::Again);
    };
    if matches!(*name, "exit" | "quit") {
        return Ok(Next::Exit);
    }
    if *name == "help" {
        help();
        return Ok(Next::Again);
    }
    let command = COMMANDS.iter().find(|command| command.name == *name);
    let Some(command) = command else {
        return Err(format!("no command `{name}`; `help` lists them"));
    };
    (command.run)(args, held).map(|()| Next::Again)
}

fn help() {
    for command in COMMANDS {
        println!("  {}\n      {}", command.usage, command.about);
    }
    println!("  exit\n      ends the machine");
}

fn usage(name: &str) -> String {
    let command = COMMANDS.iter().find(|command| command.name == name);
    format!("usage: {}", command.map_or("help", |command| command.usage))
}

fn cat(args: &[&str], _: &mut Held) -> Result<(), String> {
    let [file] = args else {
        return Err(usage("cat"));
    };
    let name = file.strip_prefix("/proc/").unwrap_or(file);
    let Some(view) = View::from_file_name(name) else {
        let names = View::ALL.map(View::file_name).join(", ");
        return Err(format!("no file /proc/{name}; there are {names}"));
    };
    view.write(mm(), &mut Console)
        .map_err(|error| error.to_string())
}

/// `100`, `64K`, `2M`, `1G`.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size; write 100, 64K or 2M");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn flags(text: Option<&&str>) -> Result<Gfp, String> {
    let Some(text) = text else {
        return Ok(GFP_KERNEL);
    };
    text.parse().map_err(|error| format!("{error}"))
}

fn alloc(args: &[&str], held: &mut Held) -> Result<(), String> {
    let (kind, result) = match args {
        ["pages", order] | ["pages", order, _] => {
            let gfp = flags(args.get(2))?;
            let wrong = |_| format!("`{order}` is no order; write 0 to 10");
            let order: u8 = order.parse().map_err(wrong)?;
            (Kind::Pages(order), mm().get_free_pages(gfp, order))
        }
        ["vmalloc", bytes] => {
            let bytes = size(bytes)?;
            (Kind::Vmalloc(bytes), mm().vmalloc(bytes))
        }
        [bytes] | [bytes, _] => {
            let (bytes, gfp) = (size(bytes)?, flags(args.get(1))?);
            (Kind::Kmalloc(bytes), mm().kmalloc(bytes, gfp))
        }
        _ => return Err(usage("alloc")),
    };
    let at = result.map_err(|error| format!("{kind}: {error}"))?.as_ptr();
    let number = held.keep(kind, at);
    if !leaves_a_reserve() {
        held.free(number);
        return Err(format!("{kind}: given back, the shell needs the rest"));
    }
    println!("#{number}: {kind} at {at:p}");
    Ok(())
}

/// Is there memory for the shell's own lines and tables? Without it the shell could not even free.
fn leaves_a_reserve() -> bool {
    const BYTES: usize = 256 << 10;
    let reserve = mm().kvmalloc(BYTES, GFP_KERNEL | Gfp::NOWARN);
    // SAFETY: just allocated.
    reserve.is_ok_and(|at| unsafe {
        mm().kvfree(at.as_ptr());
        true
    })
}

fn free(args: &[&str], held: &mut Held) -> Result<(), String> {
    match args {
        ["all"] => {
            let numbers = held.numbers();
            numbers.iter().for_each(|number| _ = held.free(*number));
            println!("{} freed", numbers.len());
            Ok(())
        }
        [number] => {
            let digits = number.strip_prefix('#').unwrap_or(number);
            let known = digits.parse().is_ok_and(|number| held.free(number));
            let unknown = || format!("there is no {number}; `list` shows what there is");
            known.then_some(()).ok_or_else(unknown)
        }
        _ => Err(usage("free")),
    }
}

fn list(_: &[&str], held: &mut Held) -> Result<(), String> {
    for (number, kind, at) in held.iter() {
        println!("#{number}: {kind} at {at:p}");
    }
    Ok(())
}

fn trim(_: &[&str], _: &mut Held) -> Result<(), String> {
    let before = mm().pages().free_page_count();
    mm().trim();
    let after = mm().pages().free_page_count();
    println!("{} pages are free, {before} were", after);
    Ok(())
}

fn verify(_: &[&str], _: &mut Held) -> Result<(), String> {
    mm().verify().map_err(|error| format!("{error:?}"))?;
    println!("all invariants hold");
    Ok(())
}

fn cpus(_: &[&str], _: &mut Held) -> Result<(), String> {
    println!(
        "{} CPUs, up for {} ms",
        smp::count(),
        time::now_ns() / 1_000_000
    );
    for cpu in percpu::all() {
        println!(
            "cpu {}: node {}, {} timer interrupts, {} messages, {} NMIs",
            cpu.index(),
            cpu.node.load(Relaxed),
            cpu.timer_ticks.load(Relaxed),
            cpu.messages.load(Relaxed),
            cpu.nmis.load(Relaxed)
        );
    }
    Ok(())
}

fn plug(_: &[&str], _: &mut Held) -> Result<(), String> {
    let added = dimms::add_new();
    for dimms::Added { dimm, result } in &added {
        let (slot, mib) = (dimm.slot, dimm.span.bytes() >> 20);
        match result {
            Ok(pages) => println!(
                "slot {slot}: {mib} MiB at {:#x}, {pages} pages",
                dimm.span.start.0
            ),
            Err(error) => println!("slot {slot}: {mib} MiB: {error}"),
        }
    }
    if added.is_empty() {
        println!("no new memory module; start with `gfp boot --shell --dimm 256M`");
    }
    Ok(())
}
