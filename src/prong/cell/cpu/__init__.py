"""The cell's one virtual CPU: how it is set up, how tasks get on and off it, and the loop that answers its exits.

Words
-----
boot       the descriptor tables and stubs the CPU needs, written into guest memory once per program.
stub       one ``out`` instruction of supervisor code that turns a system call or exception into a VM exit.
exit       KVM_RUN returns: a system call, an exception, a tick, or trouble.
tick       a host timer signal, blocked everywhere except inside KVM_RUN, that ends the run every few milliseconds.
anchor     a moment at which the processor's counter and the cell's clock were read together, for the vDSO's data page.
load/save  put a task's registers on the CPU / take them off.

The program runs at privilege level 3 only. Supervisor code is 33 stubs of one instruction each; everything else happens
outside, in this package's loop. Start reading at ``loop.py``.
"""
