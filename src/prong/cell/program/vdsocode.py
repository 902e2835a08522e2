"""The machine code of the vDSO: clock_gettime(2) and its relatives without leaving the virtual machine.

``LISTING`` is the assembly source (GNU as, AT&T syntax), each line with the bytes it becomes; a test assembles it anew
and compares. It is position-independent and lies CODE_AT bytes into a page that directly follows the data page.

All functions keep to the System V ABI and, like system calls, return a negative errno. Whatever they cannot answer from
the data page (it is not valid, another clock is asked for, a pointer is NULL) they pass on as the real system call.
"""

from __future__ import annotations

CODE_AT = 0x400
"""Offset of the code in the image."""

# The data page, little-endian.
SEQ = 0
"""u32: grows by 2 with every change; a reader that sees it change starts over."""
VALID = 4
"""u32: 1 if the rest may be used."""
TSC_BASE = 8
"""u64: the time-stamp counter at the anchor."""
MULT = 16
"""u64: nanoseconds per count, 32.32 fixed point."""
MONOTONIC_BASE = 24
"""u64: CLOCK_MONOTONIC at the anchor, nanoseconds."""
REALTIME_BASE = 32
"""u64: CLOCK_REALTIME at the anchor, nanoseconds since the epoch."""

LISTING = """
                    .set VVAR, start - 0x400 - 0x1000
                    .set SEQ, 0
                    .set VALID, 4
                    .set TSC_BASE, 8
                    .set MULT, 16
                    .set MONOTONIC_BASE, 24
                    .set REALTIME_BASE, 32
                    .set CLOCKS, 0x8f3              # REALTIME MONOTONIC MONOTONIC_RAW *_COARSE BOOTTIME TAI
                    .set REAL_CLOCKS, 0x821         # REALTIME REALTIME_COARSE TAI
                    .set COARSE_CLOCKS, 0x60
                start:
                # Time in %rax (seconds) and %rdx (nanoseconds); in: %r9, the base's offset. Carry set: not valid.
                # Clobbers %rcx, %r8, %r10.
                now:
                    lea VVAR(%rip), %r8
                0:
                    mov SEQ(%r8), %r10d
                    cmpl $1, VALID(%r8)
                    jne 2f
                    lfence                          # rdtsc must not run ahead of what was read before
                    rdtsc
                    shl $32, %rdx
                    or %rdx, %rax
                    sub TSC_BASE(%r8), %rax
                    jae 1f
                    xor %eax, %eax                  # a counter behind the anchor: time stands, it does not go back
                1:
                    mulq MULT(%r8)
                    shrd $32, %rdx, %rax
                    add (%r8,%r9), %rax
                    cmp SEQ(%r8), %r10d
                    jne 0b
                    xor %edx, %edx
                    mov $1000000000, %ecx
                    div %rcx
                    clc
                    ret
                2:
                    stc
                    ret
                    .balign 16, 0xcc
                # int clock_gettime(clockid_t %edi, struct timespec *%rsi)
                __vdso_clock_gettime:
                    test %rsi, %rsi
                    je 4f
                    cmp $31, %edi
                    ja 4f
                    mov $CLOCKS, %eax
                    bt %edi, %eax
                    jnc 4f
                    mov $MONOTONIC_BASE, %r9d
                    mov $REAL_CLOCKS, %eax
                    bt %edi, %eax
                    jnc 3f
                    mov $REALTIME_BASE, %r9d
                3:
                    call now
                    jc 4f
                    mov %rax, (%rsi)
                    mov %rdx, 8(%rsi)
                    xor %eax, %eax
                    ret
                4:
                    mov $228, %eax
                    syscall
                    ret
                    .balign 16, 0xcc
                # int gettimeofday(struct timeval *%rdi, struct timezone *%rsi)
                __vdso_gettimeofday:
                    test %rdi, %rdi
                    je 5f
                    test %rsi, %rsi
                    jne 5f
                    mov $REALTIME_BASE, %r9d
                    call now
                    jc 5f
                    mov %rax, (%rdi)
                    mov %edx, %eax
                    xor %edx, %edx
                    mov $1000, %ecx
                    div %ecx
                    mov %rax, 8(%rdi)
                    xor %eax, %eax
                    ret
                5:
                    mov $96, %eax
                    syscall
                    ret
                    .balign 16, 0xcc
                # time_t time(time_t *%rdi)
                __vdso_time:
                    mov $REALTIME_BASE, %r9d
                    call now
                    jc 7f
                    test %rdi, %rdi
                    je 6f
                    mov %rax, (%rdi)
                6:
                    ret
                7:
                    mov $201, %eax
                    syscall
                    ret
                    .balign 16, 0xcc
                # int clock_getres(clockid_t %edi, struct timespec *%rsi)
                __vdso_clock_getres:
                    cmp $31, %edi
                    ja 10f
                    mov $CLOCKS, %eax
                    bt %edi, %eax
                    jnc 10f
                    test %rsi, %rsi
                    je 9f
                    mov $1, %ecx
                    mov $COARSE_CLOCKS, %eax
                    bt %edi, %eax
                    jnc 8f
                    mov $4000000, %ecx
                8:
                    movq $0, (%rsi)
                    mov %rcx, 8(%rsi)
                9:
                    xor %eax, %eax
                    ret
                10:
                    mov $229, %eax
                    syscall
                    ret
                    .balign 16, 0xcc
                # int getcpu(unsigned *%rdi, unsigned *%rsi, void *%rdx): there is one processor
                __vdso_getcpu:
                    test %rdi, %rdi
                    je 11f
                    movl $0, (%rdi)
                11:
                    test %rsi, %rsi
                    je 12f
                    movl $0, (%rsi)
                12:
                    xor %eax, %eax
                    ret
"""
