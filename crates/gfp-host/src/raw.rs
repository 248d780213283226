//! One system call, without the C library's `errno` and without a cancellation point: what may be
//! done inside `malloc`.

/// The number of an error, as in `errno`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// # Safety
/// As the system call itself.
#[cfg(target_arch = "x86_64")]
unsafe fn raw(nr: libc::c_long, args: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention; it clobbers rcx and r11 only. What the call does to
    // memory is the caller's promise, and no option claims that it does nothing.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => answer,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// # Safety
/// As the system call itself.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn raw(nr: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: `errno` is a valid place of this thread; the call is the caller's promise.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let answer = libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
        let answer = if answer == -1 {
            -(*errno as isize)
        } else {
            answer as isize
        };
        *errno = before;
        answer
    }
}

/// Makes the system call `nr`.
///
/// # Errors
/// The number that the kernel answers with.
///
/// # Safety
/// As the system call itself.
pub unsafe fn call(nr: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let answer = unsafe { raw(nr, args) };
    // The kernel answers with -4095 ..= -1 for an error.
    if (-4095..0).contains(&answer) {
        Err(Errno(-answer as i32))
    } else {
        Ok(answer as usize)
    }
}
