"""The little of /sys that programs ask for: how many processors there are, and the size of pages."""

from __future__ import annotations

from prong.cell.fs.proc.nodes import FIXED

FIXED.update(
    {
        "sys/devices/system/cpu/online": "0\n",
        "sys/devices/system/cpu/possible": "0\n",
        "sys/devices/system/cpu/present": "0\n",
        "sys/devices/system/cpu/kernel_max": "0\n",
        "sys/devices/system/cpu/cpu0/topology/core_id": "0\n",
        "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0\n",
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0\n",
        "sys/devices/system/cpu/cpu0/topology/core_siblings_list": "0\n",
        "sys/devices/system/node/online": "0\n",
        "sys/devices/system/node/possible": "0\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
        "sys/kernel/mm/transparent_hugepage/defrag": "always defer defer+madvise madvise [never]\n",
        "sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "0\n",
        "sys/class/net/lo/mtu": "65536\n",
        "sys/class/net/lo/operstate": "unknown\n",
        "sys/class/net/lo/address": "00:00:00:00:00:00\n",
        "sys/fs/cgroup/cgroup.controllers": "\n",
    }
)
