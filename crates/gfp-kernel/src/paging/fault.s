# Accesses that may fault (Intel syntax). rdx says where the handler leaves what it found: no
# instruction before the fault changes it. 0: done; else the handler came here by `fault_failed`.

    .text
    .global fault_read
fault_read:                     # rdi: address; the value is left in [rsi]
    mov al, [rdi]
    mov [rsi], al
    xor eax, eax
    ret

    .global fault_write
fault_write:                    # rdi: address; sil: value
    mov [rdi], sil
    xor eax, eax
    ret

    .global fault_call
fault_call:                     # rdi: address of a function without arguments
    sub rsp, 8
    call rdi
    .global fault_called
fault_called:                   # what the handler finds on the stack if the first step faults
    add rsp, 8
    xor eax, eax
    ret

    # No interrupt may come while rsp is that of somebody else: its frame would go there.
    .global fault_push
fault_push:                     # rdi: stack pointer to push to
    push rbx
    pushfq
    cli
    mov rbx, rsp
    mov rsp, rdi
    .global fault_pushed
fault_pushed:
    push 0
    mov rsp, rbx
    popfq
    pop rbx
    xor eax, eax
    ret
    .global fault_push_failed
fault_push_failed:
    mov rsp, rbx
    popfq
    pop rbx
    .global fault_failed
fault_failed:
    mov eax, 1
    ret
