"""Doctor: what this host can run, found by trying, and what to do about the rest.

Words
    fact      one thing read or tried on the host, as a frozen value (:mod:`prong.doctor.facts`); no opinion in it
    check     the verdict on a fact: a name, a status, what was found, and the exact command that helps
    status    ``ok``; ``warn``: something other than running cells will not work; ``fail``:
              cells cannot run
    report    all checks of one look at the host, in the order a person reads them

May touch: ``/proc``, ``/sys``, ``/dev/kvm``, the layers up to ``cell``. Changes nothing on the host; the attempts that
could (namespaces, a KVM guest) happen in a child process that ends.

Start reading at :func:`prong.doctor.report.examine`, then one of the ``check_`` functions.
"""

from prong.doctor.check import Check, Status
from prong.doctor.report import Report, examine

__all__ = ["Check", "Report", "Status", "examine"]
