# Gates of all 256 vectors (Intel syntax).
#
# The precompiled core uses the red zone: the 128 bytes below an interrupted stack pointer belong to
# the interrupted code. So every gate switches stacks (IST), and the frame is moved below them:
#
#   vector   IST   what the stub does
#   >= 32    1     moves the frame to the interrupted stack, 128 bytes down; IST1 is free again
#                  before any Rust runs, so a handler may nest to any depth or switch threads
#   NMI      3     stays on it: NMIs do not nest (nmi.rs)
#   #DF      4     stays on it: it does not return
#   others   2     stays on it, and moves IST2 down by a slice until it returns: a fault inside a
#                  fault handler takes the next slice
#
# Frame, from low to high: mxcsr in 16 bytes, xmm0..xmm15, r15..rax, vector, error code, rip cs rflags
# rsp ss. All that compiled code computes with is there: what is compiled for x86_64 uses neither x87
# nor MMX. So no fxrstor, which costs more, and in an emulator lets NMIs in (nmi.rs).

    .macro SAVE                 # rax is pushed already
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    sub rsp, 272
    stmxcsr [rsp]
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movaps [rsp + 16 + 16 * \n], xmm\n
    .endr
    ldmxcsr [rip + handler_mxcsr] # handlers have a control word of their own
    cld                         # memmove may have been interrupted with DF set
    mov rdi, rsp
    xor ebp, ebp
    .endm

    .macro RESTORE
    ldmxcsr [rsp]
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movaps xmm\n, [rsp + 16 + 16 * \n]
    .endr
    add rsp, 272
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    .endm

    .section .rodata
    .p2align 2
handler_mxcsr:
    .long 0x1f80                # all exceptions masked, to nearest: the state after reset

    .text
    .p2align 4
    .global trap_stubs
trap_stubs:
    .set v, 0
    .rept 256
    .p2align 4
    .if (v == 8) || ((v >= 10) && (v <= 14)) || (v == 17) || (v == 21) || (v == 29) || (v == 30)
    .else
    push 0                      # no error code: keep the shape
    .endif
    push v
    .if v >= 32
    jmp irq_common
    .elseif (v == 2) || (v == 8) || (v == 18)
    jmp fixed_common
    .else
    jmp fault_common
    .endif
    .set v, v + 1
    .endr

irq_common:                     # rsp -> vector, error, rip, cs, rflags, rsp, ss on IST1
    push rax
    mov rax, [rsp + 48]         # the interrupted rsp
    lea rax, [rax - 128]
    and rax, -16
    xchg rax, rsp               # rax -> the frame on IST1
    push [rax + 56]
    push [rax + 48]
    push [rax + 40]
    push [rax + 32]
    push [rax + 24]
    push [rax + 16]
    push [rax + 8]
    push [rax]
    SAVE
    call trap_interrupt
    .global trap_return
trap_return:
    RESTORE
    iretq

fixed_common:
    push rax
    SAVE
    call trap_fixed
    RESTORE
    iretq

fault_common:
    sub qword ptr gs:[{IST2}], {SLICE}
    push rax
    SAVE
    call trap_fault
    RESTORE
    add qword ptr gs:[{IST2}], {SLICE}
    iretq
