# switch_stacks(save: *mut usize in rdi, to: usize in rsi)   (Intel syntax)
#
# Called with interrupts off. What a call must preserve is kept on the stack that is left: six
# registers, and the control words of SSE and x87. All else belongs to the caller of the call; what
# an interrupt needs beyond that lies in its own frame.

    .text
    .global switch_stacks
switch_stacks:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    stmxcsr [rsp]
    fnstcw [rsp + 4]
    mov [rdi], rsp
    mov rsp, rsi
    ldmxcsr [rsp]
    fldcw [rsp + 4]
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
