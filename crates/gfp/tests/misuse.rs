//! What a context forbids does not compile, and the message names the fix. Each misuse is compiled,
//! must fail with our message, and must compile once the fix is made.
//!
//! Only our own words are compared, so the compiler's version does not matter.
#![cfg(not(any(loom, miri, gfp_tsan)))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One misuse: what it is, the wrong and the right expression, and what the errors must say.
struct Misuse {
    name: &'static str,
    wrong: &'static str,
    right: &'static str,
    says: &'static [&'static str],
}

/// A table of misuses.
macro_rules! misuses {
    ($($name:literal: $wrong:literal => $right:literal, $($says:literal),+;)*) => {
        &[$(Misuse { name: $name, wrong: $wrong, right: $right, says: &[$($says),+] }),*]
    };
}

const MISUSES: &[Misuse] = misuses! {
    // P154
    "kernel under a spin lock":
        "mm.with(atomic).kmalloc(64, Kernel)" => "mm.with(atomic).kmalloc(64, Atomic)",
        "`InAtomic` must not sleep, and this request may", "use the class `Atomic`";
    "kernel in an interrupt":
        "mm.with(irq).alloc_pages(Kernel, 0)" => "mm.with(irq).alloc_pages(Nowait, 0)",
        "`InHardIrq` must not sleep, and this request may", "`Nowait` or `Usual`";
    "nofs in a softirq":
        "mm.with(softirq).kmem_cache_alloc(cache, Nofs)"
            => "mm.with(softirq).kmem_cache_alloc(cache, Usual)",
        "`InSoftIrq` must not sleep, and this request may", "allocate before the lock is taken";
    "zeroed kernel under a spin lock":
        "mm.with(atomic).kmalloc_obj(5, Kernel.zeroed())"
            => "mm.with(atomic).kmalloc_obj(5, Atomic.zeroed())",
        "`InAtomic` must not sleep, and this request may", "use the class `Atomic`";
    "the guard of a lock takes the right to sleep":
        "mm.with(task.holding(()).atomic()).kmalloc(8, Kernel)"
            => "mm.with(task.holding(()).atomic()).kmalloc(8, Usual)",
        "`InAtomic` must not sleep, and this request may", "allocate before the lock is taken";
    // P170
    "an NMI allocates":
        "mm.with(nmi).kmalloc(64, Atomic)" => "mm.with(nmi).kmalloc_nolock(64, Nolock)",
        "`InNmi` must not wait for a lock", "use `kmalloc_nolock` or `alloc_pages_nolock`";
    // S36
    "a no-lock call that is to try harder":
        "mm.with(nmi).alloc_pages_nolock(Atomic, 0)"
            => "mm.with(nmi).alloc_pages_nolock(Nolock, 0)",
        "this call waits for nobody", "use `Nolock`, with `zeroed()` or `account()`";
    "a no-lock class for a call that may wait":
        "mm.with(irq).kmalloc(64, Nolock)" => "mm.with(irq).kmalloc_nolock(64, Nolock.zeroed())",
        "`Nolock` is no class that `InHardIrq` permits", "use `Usual`, or one of";
    // P150, P151
    "kernel in a nofs scope":
        "task.nofs(|task| mm.with(task).kmalloc(64, Kernel))"
            => "task.nofs(|task| mm.with(task).kmalloc(64, Nofs))",
        "in a `NoFs` scope reclaim must stay out of file systems", "`Nofs` in `nofs`";
    "kernel in a noio scope":
        "task.noio(|task| mm.with(task).alloc_pages(Kernel, 0))"
            => "task.noio(|task| mm.with(task).alloc_pages(Usual, 0))",
        "in a `NoIo` scope reclaim must stay out of file systems", "`Noio` in `noio`";
    "nofs in a noio scope":
        "task.noio(|task| mm.with(task).kmalloc(64, Nofs))"
            => "task.noio(|task| mm.with(task).kmalloc(64, Noio))",
        "in a `NoIo` scope reclaim must not start I/O", "use the class `Noio` or `Usual`";
    "a nofs scope inside a noio scope widens nothing":
        "task.noio(|task| task.nofs(|task| mm.with(task).kmalloc(64, Nofs)))"
            => "task.noio(|task| task.nofs(|task| mm.with(task).kmalloc(64, Usual)))",
        "in a `NoIo` scope reclaim must not start I/O", "use the class `Noio` or `Usual`";
    // S40
    "a container in an NMI":
        "gfp::owned::KBox::new(mm, 1, nmi).map(drop)"
            => "gfp::owned::KBox::new(mm, 1, irq).map(drop)",
        "does not permit a container to allocate from `Kmalloc`", "an NMI allocates in advance";
    "a container with a class that the context forbids":
        "gfp::owned::KBox::new(mm, 1, (atomic, Kernel)).map(drop)"
            => "gfp::owned::KBox::new(mm, 1, (atomic, Usual)).map(drop)",
        "`InAtomic` must not sleep, and this request may", "use the class `Atomic`";
    "a number for a permit":
        "gfp::owned::KBox::new(mm, 1, 5).map(drop)"
            => "gfp::owned::KBox::new(mm, 1, gfp::flags::GFP_KERNEL).map(drop)",
        "does not permit a container to allocate", "give a `Gfp` word such as `GFP_KERNEL`";
    "a value pinned on a machine that may go":
        "gfp::owned::KBox::new(mm, 1, &*task).map(|one| drop(one.into_pin()))"
            => "gfp::owned::KBox::new(mm, 1, &*task).map(|one| drop(one.into_raw()))",
        "borrowed data escapes";
    // P49-P51
    "nofail where nothing may sleep":
        "mm.with(atomic).kmalloc_nofail::<64, _>(Usual)"
            => "mm.with(&*task).kmalloc_nofail::<64, _>(Usual)",
        "`InAtomic` must not sleep, and this request may", "in a task";
    "nofail of a class that never sleeps":
        "mm.with(&*task).kmalloc_nofail::<64, _>(Atomic)"
            => "mm.with(&*task).kmalloc_nofail::<64, _>(Kernel)",
        "`Atomic` may give up, so it cannot promise memory",
        "use `Kernel`, `Nofs`, `Noio` or `Usual`";
    "nofail that gives up":
        "mm.with(&*task).alloc_pages_nofail::<0, _>(Kernel.noretry())"
            => "mm.with(&*task).alloc_pages_nofail::<0, _>(Kernel)",
        "may give up, so it cannot promise memory", "without `noretry()` or `retry_mayfail()`";
    "nofail of a costly order":
        "mm.with(&*task).alloc_pages_nofail::<4, _>(Kernel)"
            => "mm.with(&*task).alloc_pages(Kernel, 4)",
        "`Pages<4>` is too large to be promised", "use `alloc_pages` and handle its error";
    "nofail of a large object":
        "mm.with(&*task).kmalloc_nofail::<8193, _>(Kernel)"
            => "mm.with(&*task).kmalloc_nofail::<8192, _>(Kernel)",
        "NOFAIL serves at most two pages: use `kvmalloc`";
    "the result of nofail is no Result":
        "mm.with(&*task).kmalloc_nofail::<64, _>(Kernel).unwrap()"
            => "mm.with(&*task).kmalloc_nofail::<64, _>(Kernel)",
        "no method named `unwrap` found for struct `NonNull";
    "two efforts":
        "mm.with(&*task).kmalloc(64, Kernel.noretry().retry_mayfail())"
            => "mm.with(&*task).kmalloc(64, Kernel.retry_mayfail())",
        "has no effort left to choose", "keep just that one";
    "an effort of what never reclaims":
        "mm.with(atomic).kmalloc(64, Nowait.noretry())" => "mm.with(atomic).kmalloc(64, Nowait)",
        "`Nowait` has no effort left to choose", "leave the word out";
    "an effort where nothing may sleep":
        "mm.with(atomic).kmalloc(64, Usual.noretry())" => "mm.with(atomic).kmalloc(64, Usual)",
        "`InAtomic` must not sleep, and this request may", "or `Usual`, and handle failure";
    // V31
    "kvmalloc that does not retry":
        "mm.with(&*task).kvmalloc(1 << 20, Kernel.noretry())"
            => "mm.with(&*task).kvmalloc(1 << 20, Kernel.retry_mayfail())",
        "means nothing to kvmalloc", "leave `noretry()` out";
    "zeroed kvmalloc that does not retry":
        "mm.with(&*task).kvmalloc(1 << 20, Kernel.noretry().zeroed())"
            => "mm.with(&*task).kvmalloc(1 << 20, Kernel.zeroed())",
        "means nothing to kvmalloc", "leave `noretry()` out";
    // V4, V34
    "kvmalloc in an interrupt":
        "mm.with(irq).kvmalloc(1 << 20, Atomic)" => "mm.with(irq).kmalloc(1 << 20, Atomic)",
        "`InHardIrq` is no task", "use `kmalloc` here";
    "vmalloc in a softirq":
        "mm.with(softirq).vmalloc(1 << 20, Nowait)" => "mm.with(atomic).vmalloc(1 << 20, Nowait)",
        "`InSoftIrq` is no task", "make the area in a task";
    "vmalloc that sleeps under a spin lock":
        "mm.with(atomic).vmalloc(1 << 20, Kernel)" => "mm.with(atomic).vmalloc(1 << 20, Atomic)",
        "`InAtomic` must not sleep, and this request may", "use the class `Atomic`";
    "a run-time word":
        "mm.with(&*task).kmalloc(64, gfp::flags::GFP_KERNEL)"
            => "mm.kmalloc(64, gfp::flags::GFP_KERNEL)",
        "`Gfp` is no class that `InTask` permits", "for a `Gfp` word, the call of `Mm` itself";
    // The borrow checker keeps scopes and locks; the message is its own.
    "the wide token inside a scope":
        "task.nofs(|_| mm.with(&*task).kmalloc(64, Kernel))"
            => "task.nofs(|task| mm.with(task).kmalloc(64, Usual))",
        "cannot borrow `*task` as mutable";
    "the wide token under a lock":
        "{ let held = task.holding(()); drop(mm.with(&*task).kmalloc(8, Kernel)); drop(held) }"
            => "{ drop(task.holding(())); drop(mm.with(&*task).kmalloc(8, Kernel)) }",
        "cannot borrow `*task` as immutable";
    "a token on another thread":
        "std::thread::scope(|s| { s.spawn(|| mm.with(atomic).kmalloc(8, Atomic).is_ok()); })"
            => "std::thread::scope(|s| { s.spawn(|| mm.in_task().is_some()); })",
        "`*mut ()` cannot be shared between threads safely";
};

fn tmp() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("misuse")
}

fn rustc() -> Command {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition=2024", "--cap-lints=allow", "--out-dir"]);
    command.arg(tmp());
    command
}

/// What the compiler said, without the paths of our rooms: it prints them when it likes.
fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.replace("gfp::context::rights::", "")
        .replace("gfp::context::", "")
}

/// Builds the library, with the code of what is generic: some errors show only when that is made.
fn library() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let mut command = rustc();
    command.args(["--crate-name=gfp", "--crate-type=rlib"]);
    let output = command.arg(source).output().expect("rustc runs");
    assert!(output.status.success(), "{}", text(&output));
    tmp().join("libgfp.rlib")
}

/// What all cases begin with.
const HEAD: &str =
    "use gfp::context::*; use gfp::platform::SingleCore; use gfp::{Mm, Paging, Platform};
pub type Case<P> = fn(&Mm<P>, &mut InTask, &InAtomic, &InSoftIrq, &InHardIrq, &InNmi,
    gfp::slab::CacheRef);
";

/// A function that evaluates `expression`, made real for a machine unless it needs one that maps.
fn function(number: usize, expression: &str) -> String {
    let (bound, real) = match expression.contains("vmalloc(") {
        true => ("Paging", String::new()),
        false => (
            "Platform",
            format!("pub static CASE{number}: Case<SingleCore> = case{number};\n"),
        ),
    };
    format!(
        "pub fn case{number}<P: {bound}>(mm: &Mm<P>, task: &mut InTask, atomic: &InAtomic,\n\
         softirq: &InSoftIrq, irq: &InHardIrq, nmi: &InNmi, cache: gfp::slab::CacheRef) {{\n\
         let _ = {expression};\n}}\n{real}"
    )
}

/// Compiles functions against the library.
fn compile(library: &Path, name: &str, functions: &str) -> Output {
    let file = tmp().join(format!("{name}.rs"));
    fs::write(&file, format!("{HEAD}\n{functions}")).expect("a source file is written");
    let mut command = rustc();
    command.args(["--crate-type=rlib", "--extern"]);
    command.arg(format!("gfp={}", library.display()));
    command.arg(file).output().expect("rustc runs")
}

#[test]
fn each_misuse_is_refused_with_its_fix_and_the_fix_compiles() {
    fs::create_dir_all(tmp()).expect("a directory for what is compiled");
    let library = library();
    let rights = MISUSES.iter().enumerate();
    let rights: String = rights
        .map(|(n, misuse)| function(n, misuse.right))
        .collect();
    let output = compile(&library, "fixed", &rights);
    assert!(output.status.success(), "a fix: {}", text(&output));

    let mut wrong = Vec::new();
    for (n, misuse) in MISUSES.iter().enumerate() {
        let output = compile(&library, &format!("misuse{n}"), &function(n, misuse.wrong));
        let errors = text(&output);
        let joined = errors.split_whitespace().collect::<Vec<_>>().join(" ");
        let missing = misuse.says.iter().find(|words| !joined.contains(**words));
        if output.status.success() {
            wrong.push(format!("{}: it compiles", misuse.name));
        } else if let Some(words) = missing {
            wrong.push(format!("{}: no word of `{words}`:\n{errors}", misuse.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
