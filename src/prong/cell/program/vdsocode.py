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
                            # Time in %rax (seconds) and %rdx (nanoseconds); in: %r9, offset of a base. Carry: not valid.
                            # Clobbers %rcx, %r8, %r10.
                            now:
4c8d05f9ebffff                  lea VVAR(%rip), %r8
                            0:
458b10                          mov SEQ(%r8), %r10d
4183780401                      cmpl $1, VALID(%r8)
7532                            jne 2f
0faee8                          lfence                          # rdtsc must not run ahead of what was read before
0f31                            rdtsc
48c1e220                        shl $32, %rdx
4809d0                          or %rdx, %rax
492b4008                        sub TSC_BASE(%r8), %rax
7302                            jae 1f
31c0                            xor %eax, %eax                  # a counter behind the anchor: time stands still
                            1:
49f76010                        mulq MULT(%r8)
480facd020                      shrd $32, %rdx, %rax
4b030408                        add (%r8,%r9), %rax
453b10                          cmp SEQ(%r8), %r10d
75d0                            jne 0b
31d2                            xor %edx, %edx
b900ca9a3b                      mov $1000000000, %ecx
48f7f1                          div %rcx
f8                              clc
c3                              ret
                            2:
f9                              stc
c3                              ret
cccccccccccccccccccccc          .balign 16, 0xcc
                            # int clock_gettime(clockid_t %edi, struct timespec *%rsi)
                            __vdso_clock_gettime:
4885f6                          test %rsi, %rsi
7436                            je 4f
83ff1f                          cmp $31, %edi
7731                            ja 4f
b8f3080000                      mov $CLOCKS, %eax
0fa3f8                          bt %edi, %eax
7327                            jnc 4f
41b918000000                    mov $MONOTONIC_BASE, %r9d
b821080000                      mov $REAL_CLOCKS, %eax
0fa3f8                          bt %edi, %eax
7306                            jnc 3f
41b920000000                    mov $REALTIME_BASE, %r9d
                            3:
e881ffffff                      call now
720a                            jc 4f
488906                          mov %rax, (%rsi)
48895608                        mov %rdx, 8(%rsi)
31c0                            xor %eax, %eax
c3                              ret
                            4:
b8e4000000                      mov $228, %eax
0f05                            syscall
c3                              ret
cccccccccccccccccccccccccc      .balign 16, 0xcc
                            # int gettimeofday(struct timeval *%rdi, struct timezone *%rsi)
                            __vdso_gettimeofday:
4885ff                          test %rdi, %rdi
7427                            je 5f
4885f6                          test %rsi, %rsi
7522                            jne 5f
41b920000000                    mov $REALTIME_BASE, %r9d
e84bffffff                      call now
7215                            jc 5f
488907                          mov %rax, (%rdi)
89d0                            mov %edx, %eax
31d2                            xor %edx, %edx
b9e8030000                      mov $1000, %ecx
f7f1                            div %ecx
48894708                        mov %rax, 8(%rdi)
31c0                            xor %eax, %eax
c3                              ret
                            5:
b860000000                      mov $96, %eax
0f05                            syscall
c3                              ret
cccccccccccccccccccccccc        .balign 16, 0xcc
                            # time_t time(time_t *%rdi)
                            __vdso_time:
41b920000000                    mov $REALTIME_BASE, %r9d
e815ffffff                      call now
7209                            jc 7f
4885ff                          test %rdi, %rdi
7403                            je 6f
488907                          mov %rax, (%rdi)
                            6:
c3                              ret
                            7:
b8c9000000                      mov $201, %eax
0f05                            syscall
c3                              ret
cccc                            .balign 16, 0xcc
                            # int clock_getres(clockid_t %edi, struct timespec *%rsi)
                            __vdso_clock_getres:
83ff1f                          cmp $31, %edi
7731                            ja 10f
b8f3080000                      mov $CLOCKS, %eax
0fa3f8                          bt %edi, %eax
7327                            jnc 10f
4885f6                          test %rsi, %rsi
741f                            je 9f
b901000000                      mov $1, %ecx
b860000000                      mov $COARSE_CLOCKS, %eax
0fa3f8                          bt %edi, %eax
7305                            jnc 8f
b900093d00                      mov $4000000, %ecx
                            8:
48c70600000000                  movq $0, (%rsi)
48894e08                        mov %rcx, 8(%rsi)
                            9:
31c0                            xor %eax, %eax
c3                              ret
                            10:
b8e5000000                      mov $229, %eax
0f05                            syscall
c3                              ret
cccc                            .balign 16, 0xcc
                            # int getcpu(unsigned *%rdi, unsigned *%rsi, void *%rdx): there is one processor
                            __vdso_getcpu:
4885ff                          test %rdi, %rdi
7406                            je 11f
c70700000000                    movl $0, (%rdi)
                            11:
4885f6                          test %rsi, %rsi
7406                            je 12f
c70600000000                    movl $0, (%rsi)
                            12:
31c0                            xor %eax, %eax
c3                              ret
"""

_BYTES = 28
"""Width of the column of bytes."""


def source() -> str:
    """The listing without its bytes, as the assembler takes it."""
    return "".join(line[_BYTES:] + "\n" for line in LISTING.splitlines())


def code() -> tuple[bytes, dict[str, int]]:
    """The machine code, and the offset in it of each exported function."""
    out = bytearray()
    symbols: dict[str, int] = {}
    for line in LISTING.splitlines():
        text = line[_BYTES:]
        if text.startswith("__vdso_"):
            symbols[text.rstrip(":")] = len(out)
        out += bytes.fromhex(line[:_BYTES])
    return bytes(out), symbols
