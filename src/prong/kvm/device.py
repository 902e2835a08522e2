"""The KVM device, virtual machines and virtual CPUs as thin typed objects over file descriptors."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from dataclasses import dataclass

from prong.errors import HostUnfit
from prong.kvm import abi

DEVICE = "/dev/kvm"


@dataclass(frozen=True)
class Seg:
    """A segment register: ``struct kvm_segment``. ``kind`` is the 4-bit type, ``system`` false for code and data."""

    selector: int
    kind: int
    dpl: int = 0
    base: int = 0
    limit: int = 0xFFFFFFFF
    long: bool = False
    big: bool = False
    system: bool = False
    granular: bool = True

    def pack(self) -> bytes:
        """The 24 bytes KVM reads."""
        return struct.pack(
            "<QIH10B",
            self.base,
            self.limit,
            self.selector,
            self.kind,
            1,
            self.dpl,
            int(self.big),
            int(not self.system),
            int(self.long),
            int(self.granular),
            0,
            0,
            0,
        )


class Kvm:
    """An open ``/dev/kvm``.

    Attributes:
        cpuid: the supported CPUID table, as KVM_SET_CPUID2 takes it.
        kept: what users of this object have worked out about it and want their forks to know.
        counter_khz: frequency of guests' time-stamp counters; 0 if they do not tell time, None if nobody has found out.

    Raises HostUnfit when the device is missing, not permitted, or speaks another API version.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = self._open() if fd is None else fd
        try:
            version = fcntl.ioctl(self.fd, abi.KVM_GET_API_VERSION, 0)
        except OSError as e:
            os.close(self.fd)
            raise HostUnfit(f"{DEVICE} is not the KVM device: {e.strerror}", hint="load the kvm module") from None
        if version != abi.API_VERSION:
            raise HostUnfit(f"{DEVICE} speaks KVM API {version}, not {abi.API_VERSION}", hint="use a newer Linux kernel")
        self.run_size = fcntl.ioctl(self.fd, abi.KVM_GET_VCPU_MMAP_SIZE, 0)
        self.cpuid = self._supported_cpuid()
        self.counter_khz: int | None = None
        self.kept: dict[str, object] = {}

    @staticmethod
    def _open() -> int:
        try:
            return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise HostUnfit(f"{DEVICE} does not exist", hint="load the kvm module, or enable virtualization") from None
        except PermissionError:
            raise HostUnfit(f"{DEVICE} may not be opened", hint="sudo usermod -aG kvm $USER, then log in again") from None

    def _supported_cpuid(self) -> bytearray:
        table = bytearray(8 + 40 * 256)
        struct.pack_into("<II", table, 0, 256, 0)
        fcntl.ioctl(self.fd, abi.KVM_GET_SUPPORTED_CPUID, table, True)
        (count,) = struct.unpack_from("<I", table)
        return table[: 8 + 40 * count]

    def leaf(self, function: int, index: int = 0) -> tuple[int, int, int, int]:
        """(eax, ebx, ecx, edx) of one supported CPUID leaf; zeros if KVM does not offer it."""
        (count,) = struct.unpack_from("<I", self.cpuid)
        for i in range(count):
            fn, idx, _flags, eax, ebx, ecx, edx = struct.unpack_from("<7I", self.cpuid, 8 + 40 * i)
            if fn == function and idx == index:
                return eax, ebx, ecx, edx
        return 0, 0, 0, 0

    def extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION: 0 if absent."""
        return fcntl.ioctl(self.fd, abi.KVM_CHECK_EXTENSION, capability)

    def create_vm(self) -> Vm:
        """A new VM of the calling process."""
        return Vm(self, fcntl.ioctl(self.fd, abi.KVM_CREATE_VM, 0))

    def close(self) -> None:
        """Close the device; existing VMs live on."""
        os.close(self.fd)


def msrs_request(values: dict[int, int]) -> bytearray:
    """KVM_SET_MSRS' argument: register number → value."""
    data = bytearray(struct.pack("<II", len(values), 0))
    for index, value in values.items():
        data += struct.pack("<IIQ", index, 0, value)
    return data


def xcrs_request(xcr0: int) -> bytes:
    """KVM_SET_XCRS' argument that sets XCR0."""
    return struct.pack("<IIIIQ", 1, 0, 0, 0, xcr0) + bytes(368)


def signal_mask_request(mask: int) -> bytes:
    """KVM_SET_SIGNAL_MASK's argument."""
    return struct.pack("<IQ", 8, mask)


class Vm:
    """One virtual machine. It dies with its last descriptor, or with the process that made it."""

    def __init__(self, kvm: Kvm, fd: int) -> None:
        self.kvm = kvm
        self.fd = fd

    def map_memory(self, slot: int, guest_address: int, size: int, host_address: int) -> None:
        """Back guest physical [guest_address, +size) by host memory; all page-aligned, in bytes."""
        region = struct.pack("<IIQQQ", slot, 0, guest_address, size, host_address)
        fcntl.ioctl(self.fd, abi.KVM_SET_USER_MEMORY_REGION, region)

    def create_vcpu(self, number: int = 0) -> Vcpu:
        """A virtual CPU with the host's supported CPUID."""
        fd = fcntl.ioctl(self.fd, abi.KVM_CREATE_VCPU, number)
        fcntl.ioctl(fd, abi.KVM_SET_CPUID2, self.kvm.cpuid, True)
        return Vcpu(fd, self.kvm.run_size)

    def close(self) -> None:
        """Drop this handle."""
        os.close(self.fd)


class Vcpu:
    """One virtual CPU. ``run`` is the shared ``struct kvm_run``; registers travel in it (KVM_CAP_SYNC_REGS)."""

    def __init__(self, fd: int, run_size: int) -> None:
        self.fd = fd
        self.run = mmap.mmap(fd, run_size)

    def get_sregs(self) -> bytearray:
        """``struct kvm_sregs``, 312 bytes."""
        buffer = bytearray(abi.SREGS_SIZE)
        fcntl.ioctl(self.fd, abi.KVM_GET_SREGS, buffer, True)
        return buffer

    def set_sregs(self, sregs: bytes | bytearray) -> None:
        """Load segment, control and descriptor-table registers."""
        fcntl.ioctl(self.fd, abi.KVM_SET_SREGS, bytes(sregs))

    def set_msrs(self, values: dict[int, int]) -> None:
        """Write model-specific registers; HostUnfit if KVM takes fewer than all."""
        data = msrs_request(values)
        if fcntl.ioctl(self.fd, abi.KVM_SET_MSRS, data, True) != len(values):
            raise HostUnfit("KVM refused to set the system-call registers", hint="see `prong doctor`")

    def get_msr(self, index: int) -> int:
        """Read one model-specific register as the guest sees it; OSError(EINVAL) if KVM does not know it."""
        data = bytearray(struct.pack("<IIIIQ", 1, 0, index, 0, 0))
        if fcntl.ioctl(self.fd, abi.KVM_GET_MSRS, data, True) != 1:
            raise OSError(errno.EINVAL, f"KVM does not read MSR {index:#x}")
        (value,) = struct.unpack_from("<Q", data, 16)
        return int(value)

    def tsc_khz(self) -> int:
        """Frequency of the guest's time-stamp counter in kHz; OSError(EIO) if it is not constant."""
        return fcntl.ioctl(self.fd, abi.KVM_GET_TSC_KHZ, 0)

    def set_xcr0(self, value: int) -> None:
        """Enable extended state components; must come before :meth:`set_xsave`."""
        fcntl.ioctl(self.fd, abi.KVM_SET_XCRS, xcrs_request(value))

    def get_xsave(self) -> bytes:
        """The FPU and vector state in XSAVE standard format, 4096 bytes."""
        buffer = bytearray(abi.XSAVE_SIZE)
        fcntl.ioctl(self.fd, abi.KVM_GET_XSAVE, buffer, True)
        return bytes(buffer)

    def set_xsave(self, data: bytes) -> None:
        """Load FPU and vector state; OSError(EINVAL) if the header is not acceptable."""
        fcntl.ioctl(self.fd, abi.KVM_SET_XSAVE, bytearray(data), True)

    def exception_waits(self) -> bool:
        """Whether an exception of the guest has been raised that it has not entered the handler of yet."""
        buffer = bytearray(abi.VCPU_EVENTS_SIZE)
        fcntl.ioctl(self.fd, abi.KVM_GET_VCPU_EVENTS, buffer, True)
        return bool(buffer[0] or buffer[3])

    def set_signal_mask(self, mask: int) -> None:
        """The signal mask in force inside KVM_RUN (64 bits); a signal pending outside then ends the run with EINTR."""
        fcntl.ioctl(self.fd, abi.KVM_SET_SIGNAL_MASK, signal_mask_request(mask))

    def close(self) -> None:
        """Release the run page and the descriptor. Views of ``run`` must be gone."""
        self.run.close()
        os.close(self.fd)
