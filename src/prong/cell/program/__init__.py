"""From an executable file of the image to a first task that can run: ELF loading and the initial stack.

Words
-----
ELF        the executable format; both static and dynamic, fixed and position-independent programs.
interp     the dynamic loader an ELF file names; it is loaded too and runs first.
auxv       the auxiliary vector (getauxval(3)): what the kernel tells the loader.
vDSO       a shared object in the program's memory whose functions tell time without a system call (vdso(7)).
data page  what they tell it from: read-only memory before the vDSO, written from outside (``cpu.timepage``).

The files come from images and from inside cells, so every header field is checked before use. Source: the System V gABI,
the x86-64 psABI section 3.4, and elf(5). Start reading at ``elf.py``.
"""
