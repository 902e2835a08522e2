"""Running the programs a build needs: logged, watched line by line, and never outliving the build."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prong.errors import BuildFailed

TAIL_LINES = 30
_GRACE_SECONDS = 10.0
_PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
)
_PASSED_PREFIXES = ("PIP_",)
_PASSED_SUFFIXES = ("_proxy", "_PROXY")


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs commands for one build.

    Attributes:
        log: file that collects all output.
        lock_fd: the staging lock, inherited by every command.
        epoch: SOURCE_DATE_EPOCH for the commands.
        scratch: their TMPDIR.
        tail: the last lines of output so far.
    """

    log: Path
    lock_fd: int
    epoch: int
    scratch: Path
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def run(self, argv: Sequence[str], *, on_line: Callable[[str], None], what: str) -> None:
        """Run ``argv`` to its end with stdout and stderr joined.

        The command gets its own session, and SIGTERM when this process dies; when the block is left by an exception
        (Ctrl-C included) it is ended first.

        Raises:
            BuildFailed: it ended with another status than 0; ``data`` has ``log`` (last lines), ``log_file`` and
                ``status``.
        """
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(argv)}\n".encode())
            log.flush()
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment(os.environ),
                cwd="/",
                start_new_session=True,
                pass_fds=(self.lock_fd,),
            )
            try:
                assert child.stdout is not None
                for raw in child.stdout:
                    log.write(raw)
                    line = raw.decode(errors="replace").rstrip()
                    if line:
                        self.tail.append(line)
                        on_line(line)
                status = child.wait()
            finally:
                _end(child)
        if status:
            raise BuildFailed(
                f"{what} failed with status {status}",
                hint=f"the whole output is in {self.log}",
                data={"log": list(self.tail), "log_file": str(self.log), "status": status},
            )

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What commands see of this process's environment: how to reach the network, nothing else of the user's."""
        passed = {
            name: value
            for name, value in environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES) or name.endswith(_PASSED_SUFFIXES)
        }
        return passed | {
            "TMPDIR": str(self.scratch),
            "SOURCE_DATE_EPOCH": str(self.epoch),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "DEBIAN_FRONTEND": "noninteractive",
        }


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a command that is still running, with everything in its session; SIGKILL if it does not go by itself."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.stdout is not None:
        child.stdout.close()
