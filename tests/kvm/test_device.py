"""The KVM binding: errors without a device; a guest with one."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.errors import HostUnfit
from prong.kvm import abi, device
from prong.kvm.device import Kvm, Seg
from prong.kvm.probe import kvm_verdict


def test_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "DEVICE", str(tmp_path / "kvm"))
    with pytest.raises(HostUnfit) as caught:
        Kvm()
    assert "does not exist" in caught.value.message and caught.value.hint


def test_a_file_that_is_not_kvm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kvm").write_bytes(b"")
    monkeypatch.setattr(device, "DEVICE", str(tmp_path / "kvm"))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostUnfit):
        Kvm()
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_api_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 11)
    with pytest.raises(HostUnfit) as caught:
        Kvm(fd=0)
    assert "11" in caught.value.message


def test_the_verdict_always_says_why() -> None:
    verdict = kvm_verdict()
    assert verdict.reason
    assert verdict.usable or verdict.hint
    assert kvm_verdict() is verdict, "asked once"


def test_a_verdict_without_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "DEVICE", str(tmp_path / "kvm"))
    verdict = kvm_verdict.__wrapped__()
    assert not verdict.usable and verdict.hint


def test_segments_are_24_bytes_as_kvm_has_them() -> None:
    """struct kvm_segment: base, limit, selector, type, present, dpl, db, s, l, g, avl, unusable, padding."""
    raw = Seg(0x23, 11, dpl=3, long=True).pack()
    assert struct.unpack("<QIH10B", raw) == (0, 0xFFFFFFFF, 0x23, 11, 1, 3, 0, 1, 1, 1, 0, 0, 0)


def test_every_ioctl_number_is_of_kvms_kind() -> None:
    """_IOC(dir, 0xAE, nr, size): bits 8 to 15 are KVM's magic; none is listed twice."""
    assert all(number >> 8 & 0xFF == 0xAE for number in abi.ALL)
    assert len(set(abi.ALL)) == len(abi.ALL)
    assert abi.KVM_GET_REGS >> 16 & 0x3FFF == 8 * abi.REGS_COUNT
    assert abi.KVM_GET_SREGS >> 16 & 0x3FFF == abi.SREGS_SIZE
    assert abi.KVM_GET_XSAVE >> 16 & 0x3FFF == abi.XSAVE_SIZE


@pytest.fixture
def kvm() -> Iterator[Kvm]:
    opened = Kvm()
    yield opened
    opened.close()


@pytest.mark.kvm
def test_cpuid_leaves(kvm: Kvm) -> None:
    vendor = struct.pack("<III", *(kvm.leaf(0)[i] for i in (1, 3, 2)))
    assert vendor.isascii()
    assert kvm.leaf(0x7777) == (0, 0, 0, 0)
    assert kvm.leaf(1)[3] & 1 << 26, "SSE2, as every x86-64 has"


@pytest.mark.kvm
def test_vms_come_and_go_without_leaving_descriptors(kvm: Kvm) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        vm = kvm.create_vm()
        vcpu = vm.create_vcpu()
        vcpu.set_xsave(vcpu.get_xsave())
        vcpu.set_sregs(vcpu.get_sregs())
        vcpu.close()
        vm.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.kvm
def test_memory_must_be_page_aligned(kvm: Kvm) -> None:
    memory = mmap.mmap(-1, 1 << 16)
    anchor = ctypes.c_char.from_buffer(memory)
    vm = kvm.create_vm()
    try:
        with pytest.raises(OSError):
            vm.map_memory(0, 0, 100, ctypes.addressof(anchor))
        with pytest.raises(OSError):
            vm.map_memory(0, 0, 4096, ctypes.addressof(anchor) + 1)
        vm.map_memory(0, 0, 4096, ctypes.addressof(anchor))
    finally:
        vm.close()
        del anchor
        memory.close()


@pytest.mark.kvm
def test_bad_fpu_state_is_refused(kvm: Kvm) -> None:
    vm = kvm.create_vm()
    vcpu = vm.create_vcpu()
    try:
        bad = bytearray(vcpu.get_xsave())
        bad[512:520] = b"\xff" * 8
        with pytest.raises(OSError):
            vcpu.set_xsave(bytes(bad))
    finally:
        vcpu.close()
        vm.close()
