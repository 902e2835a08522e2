"""The Linux KVM API, typed: file descriptors, ioctls, structures. No policy, nothing of cells.

Words
-----
Kvm    the ``/dev/kvm`` file descriptor: what the host supports, and where VMs come from.
Vm     one virtual machine: memory slots and virtual CPUs. It belongs to the process (the mm) that created it.
Vcpu   one virtual CPU: its shared ``run`` page, registers, segment state, FPU state.
Seg    one segment register as KVM sees it.

Source of every number and layout: the kernel's ``Documentation/virt/kvm/api.rst`` and ``arch/x86/include/uapi/asm/kvm.h``.
``probe.kvm_verdict()`` says whether KVM can really run a guest here: that the device exists proves nothing.

Start reading at ``device.py``.
"""
