//! The console: COM1, 115200 baud, 8N1, polled.
//!
//! Lines of several CPUs do not mix: a lock is held for one `print!`. Who cannot have it (an NMI
//! that came in the middle, a panic) prints all the same.

use super::cpu::{IrqOff, inb, outb};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

const PORT: u16 = 0x3f8;
const LINE_STATUS: u16 = PORT + 5;
const TRANSMIT_EMPTY: u8 = 1 << 5;
const DATA_READY: u8 = 1 << 0;

static BUSY: AtomicBool = AtomicBool::new(false);

/// Sets the line up. Once, before the first print.
pub fn init() {
    const SETUP: [(u16, u8); 7] = [
        (1, 0x00), // no interrupts
        (3, 0x80), // divisor latch
        (0, 0x01), // 115200 baud
        (1, 0x00),
        (3, 0x03), // 8N1
        (2, 0xc7), // FIFO
        (4, 0x03), // DTR, RTS
    ];
    for (register, value) in SETUP {
        // SAFETY: COM1 touches no memory.
        unsafe { outb(PORT + register, value) }
    }
}

fn put(byte: u8) {
    // SAFETY: COM1 touches no memory.
    unsafe {
        while inb(LINE_STATUS) & TRANSMIT_EMPTY == 0 {
            core::hint::spin_loop();
        }
        outb(PORT, byte);
    }
}

/// The next byte that was typed, if there is one.
pub fn get() -> Option<u8> {
    // SAFETY: COM1 touches no memory; one reader.
    unsafe { (inb(LINE_STATUS) & DATA_READY != 0).then(|| inb(PORT)) }
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Prints. Context: any, an NMI too; allocates nothing.
pub fn print(args: fmt::Arguments<'_>) {
    // A line takes microseconds; but we may have interrupted who holds it.
    const PATIENCE: u32 = 10_000_000;
    let _off = IrqOff::new();
    let mut waited = 0;
    // Acquire: pairs with the Release below.
    while BUSY.swap(true, Ordering::Acquire) && waited < PATIENCE {
        waited += 1;
        core::hint::spin_loop();
    }
    let _ = Console.write_fmt(args);
    // Release: pairs with the Acquire above.
    BUSY.store(false, Ordering::Release);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::arch::serial::print(format_args!($($arg)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::arch::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}
