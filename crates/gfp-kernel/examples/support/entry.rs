// What a bootloader and a console would bring: entry, print, end. Included by `smallest.rs`.

#[cfg(image)]
mod entry {
    use gfp_kernel::arch::exit::{Outcome, exit};
    use gfp_kernel::{arch::serial, println};

    // For the library behind the console; this kernel itself has no heap.
    #[global_allocator]
    static ALLOCATOR: gfp_kernel::memory::KernelAllocator = gfp_kernel::memory::KernelAllocator;

    const _: &str = include_str!("../../src/boot/kernel.ld");

    #[unsafe(no_mangle)]
    extern "C" fn kmain(_start_info: u64) -> ! {
        serial::init();
        match super::kernel() {
            Some(()) => println!("smallest: ok"),
            None => exit(Outcome::Failed),
        }
        exit(Outcome::Passed)
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        println!("{info}");
        exit(Outcome::Broken)
    }
}

#[cfg(not(image))]
fn main() {
    kernel().expect("16 MiB are enough");
    println!("smallest: ok");
}
