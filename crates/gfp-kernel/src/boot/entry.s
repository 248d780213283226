# Entry of the kernel (AT&T syntax).
#
#   firmware -> pvh_start, 32 bits, paging off -> enter_long -> long_start, 64 bits, low addresses
#            -> high_start, high addresses, stack, clear bss -> kmain(start_info)
#   an application CPU: trampoline, 16 bits in its page -> ap_start32 -> enter_long -> ...
#            -> ap_high -> ap_entry(percpu), or ap_late if nobody waits for it any more
#
# edi carries the physical address of hvm_start_info all the way; 0 means an application CPU.

    .section .note.pvh, "a", @note
    .p2align 2
    .long 4, 4, 18              # sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_start

    .section .boot, "awx", @progbits
    .code32
    .global pvh_start
pvh_start:
    cli
    cld
    movl %ebx, %edi
    lgdtl boot_gdtr
    movl $boot_stack_low_end, %esp
    movl $boot_pml4, %esi
enter_long:                     # esi: the tables to start with
    movl $0x6a0, %eax           # PAE, PGE, OSFXSR, OSXMMEXCPT; OSXSAVE stays 0: gates save all but AVX
    movl %eax, %cr4
    movl %esi, %cr3
    movl $0xc0000080, %ecx      # EFER
    rdmsr
    orl $0x900, %eax            # LME, NXE
    wrmsr
    movl $0x80010033, %eax      # PG WP NE ET MP PE; EM and TS clear
    movl %eax, %cr0
    ljmpl $0x08, $long_start

    .global ap_start32
ap_start32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %edi, %edi
    movl $ap_pml4, %esi
    jmp enter_long

    .code64
long_start:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movabsq $high_start, %rax
    jmp *%rax

    # Copied to a free page below 640 KiB, where an application CPU starts in real mode.
    .code16
    .global ap_trampoline
ap_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl (ap_gdtr - ap_trampoline)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $ap_start32
    .p2align 2
ap_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
    .global ap_trampoline_end
ap_trampoline_end:

    .p2align 3
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08: code, 64 bits
    .quad 0x00cf93000000ffff    # 0x10: data
    .quad 0x00cf9b000000ffff    # 0x18: code, 32 bits
boot_gdt_end:
boot_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt

    .p2align 4
    .skip 64
boot_stack_low_end:

    # 4 GiB in pages of 2 MiB, seen three times: as they are, through the direct map, and the first
    # GiB at the image's addresses.
    .p2align 12
    .global boot_pml4
boot_pml4:
    .quad boot_pdpt + 0x3                           # 0: identity, until the image is protected
    .skip 272 * 8
    .quad boot_pdpt + 0x3 + 0x8000000000000000      # 273: 0xffff888000000000, not executable
    .skip 237 * 8
    .quad boot_pdpt_image + 0x3                     # 511
ap_pml4:                                            # what application CPUs come through
    .quad boot_pdpt + 0x3                           # 0: identity, for ever: one may come late
    .skip 510 * 8
    .quad boot_pdpt_image + 0x3                     # 511
    .global boot_pdpt
boot_pdpt:
    .quad boot_pd + 0x3
    .quad boot_pd + 0x1003
    .quad boot_pd + 0x2003
    .quad boot_pd + 0x3003
    .skip 508 * 8
boot_pdpt_image:
    .skip 510 * 8
    .quad boot_pd + 0x3
    .quad 0
boot_pd:
    .set i, 0
    .rept 2048
    .quad (i << 21) + 0x183                         # global, 2 MiB, writable, present
    .set i, i + 1
    .endr

    .text
    .code64                     # the text before was for 16 bits
high_start:
    testl %edi, %edi
    jz ap_high
    movl %edi, %ebx             # the upper half is undefined after the change of mode
    leaq bss_start(%rip), %rdi
    leaq bss_end(%rip), %rcx
    subq %rdi, %rcx
    shrq $3, %rcx
    xorl %eax, %eax
    rep stosq
    leaq boot_stack_end(%rip), %rsp
    movq %rbx, %rdi
    xorl %ebp, %ebp
    call kmain
    ud2
ap_high:
    movl $boot_pml4, %eax
    movq %rax, %cr3
    # Which CPU is this? As `boot::own_apic_id` finds it.
    xorl %eax, %eax
    cpuid
    cmpl $0xb, %eax
    jb 1f
    movl $0xb, %eax
    xorl %ecx, %ecx
    cpuid
    testl %ebx, %ebx
    jnz 2f
1:  movl $1, %eax
    cpuid
    shrl $24, %ebx
    movl %ebx, %edx
2:  # Is it the one that is waited for? One that comes too late must not take another's stack.
    movl %edx, %eax
    movl $-1, %ecx
    lock cmpxchgl %ecx, ap_boot_wanted(%rip)
    jne ap_late
    movq ap_boot_stack(%rip), %rsp
    movq ap_boot_percpu(%rip), %rdi
    xorl %ebp, %ebp
    movq ap_boot_entry(%rip), %rax
    call *%rax
    ud2
ap_late:
    cli
    hlt
    jmp ap_late

    .data
    .p2align 3
    .global ap_boot_wanted
ap_boot_wanted:                                     # number of the CPU that is to start; -1: none
    .quad -1
    .global ap_boot_stack
ap_boot_stack:
    .quad 0
    .global ap_boot_percpu
ap_boot_percpu:
    .quad 0
    .global ap_boot_entry
ap_boot_entry:
    .quad 0

    .bss
    .p2align 12
    .global boot_stack_guard
boot_stack_guard:                                   # not mapped once the image is protected
    .skip 4096
    .skip 256 * 1024
    .global boot_stack_end
boot_stack_end:
