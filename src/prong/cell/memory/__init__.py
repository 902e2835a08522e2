"""The program's address space: physical frames, guest page tables, mappings, and checked access for handlers.

Words
-----
frame     4096 bytes of guest physical memory; number n is bytes [4096·n, 4096·(n+1)) of the host mapping.
Physical  the host mapping behind the VM's one memory slot, and the allocator of its frames.
Tables    the guest's 4-level page tables, written by us, walked by the (possibly virtual) MMU.
Vma       one mapping of the program: a range, its protection, and what is behind it.
Space     all of a program's Vmas: mmap and its family, and page faults.
zap       make the (shadow or nested) translations of frames vanish: the host changes the protection of the memory
          behind them and back, and KVM's MMU notifier drops every translation to them. It works alike with shadow
          paging, EPT and NPT, and needs no guest code.
populate  give a page of a mapping its frame and content. Most mappings are populated ahead in growing steps, because
          one exit costs more than filling dozens of entries.

Rules: the page tables are never trusted for policy (Vmas are), a page-table page once linked is never unlinked while the
VM lives, and a frame is scrubbed when it is freed, so that free frames are zero.

Start reading at ``space.py``.
"""
