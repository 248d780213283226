//! The image that `gfp boot` starts. In a process it only says so.
#![cfg_attr(image, no_std, no_main)]

#[cfg(image)]
mod image {
    use core::panic::PanicInfo;
    use gfp_kernel::memory::KernelAllocator;

    // A changed script links the image anew.
    const _: &str = include_str!("boot/kernel.ld");

    #[global_allocator]
    static ALLOCATOR: KernelAllocator = KernelAllocator;

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        gfp_kernel::on_panic(info)
    }

    #[unsafe(no_mangle)]
    extern "C" fn kmain(start_info: u64) -> ! {
        // SAFETY: called by the entry code, once.
        unsafe { gfp_kernel::start(start_info) }
    }
}

#[cfg(not(image))]
fn main() {
    println!("This is a kernel; boot it with: cargo run -p gfp-cli -- boot");
}
