"""A process that has loaded MLIR and LLVM once, and forks a worker whenever one is asked for.

In: requests of the compiler over a socket. Out: worker processes, each with a socket of its own to the compiler, and
how a worker ended. It exists because loading takes longer than compiling several kernels: a second worker, or one in
place of a dead one, costs a fork. The compiler's own process cannot be forked: it may have threads and a GPU.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

_MESSAGE = 8  # bytes of a request: a process number, or 0 for a new worker, in ASCII
STDERR_LINES = 25  # of a dead worker, kept in the message


class ForkServer:
    """The compiler's side. Nothing here waits for the server to have loaded, apart from `ending`."""

    def __init__(self) -> None:
        self._log = temporary_log()
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        package = __name__.split(".", 1)[0]
        root = str(Path(sys.modules[package].__file__ or "").parent.parent)
        entry = f"from {package}.compiler.backend.fork_server import main; main({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {entry}"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[theirs.fileno()],
            # A process must have one thread when it forks, and NumPy's matrix library starts one a core.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        theirs.close()

    def fork(self, channel: socket.socket, log: IO[bytes]) -> None:
        """Start a worker that serves `channel`; the first line it sends is its process number."""
        with self._lock, contextlib.suppress(OSError):  # a dead server: the channel ends, and `ending` says why
            socket.send_fds(self._control, [_request(0)], [channel.fileno(), log.fileno()])

    def ending(self, process: int) -> tuple[int, str]:
        """Exit status, negative for a signal, of a worker that has ended, or of the server, with the server's log."""
        with self._lock:
            with contextlib.suppress(OSError, ValueError):
                if process:
                    self._control.sendall(_request(process))
                    return int(self._control.recv(_MESSAGE)), ""
            return self._process.wait(), tail(self._log)

    def close(self) -> None:
        """End the server. Workers end by themselves, when their channels close."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._log.close()


def temporary_log() -> IO[bytes]:
    """A file without a name for the standard error of a process."""
    return tempfile.TemporaryFile(prefix="tilewright-worker-")


def tail(log: IO[bytes]) -> str:
    """The last lines of a log."""
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-STDERR_LINES:])


def main(control_descriptor: int) -> None:
    """The server: load everything, then fork and wait as told, until the compiler closes its end."""
    import signal

    from .worker import warm_up

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the compiler, which then closes the sockets
    control = socket.socket(fileno=control_descriptor)
    warm_up()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _MESSAGE, 2)
        if not request:
            return
        process = int(request)
        if process:
            _, status = os.waitpid(process, 0)
            control.sendall(_request(os.waitstatus_to_exitcode(status)))
            continue
        channel, log = descriptors
        if os.fork() == 0:
            control.close()
            _become_worker(socket.socket(fileno=channel), log)
        os.close(channel)
        os.close(log)


def _become_worker(channel: socket.socket, log: int) -> None:
    """What a library prints goes to the log of this worker. The process ends here, without the server's clean-up."""
    from .worker import serve

    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        with channel.makefile("r", encoding="utf-8") as jobs, channel.makefile("w", encoding="utf-8") as replies:
            replies.write(f"{os.getpid()}\n")
            replies.flush()
            serve(jobs, replies)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the compiler has gone
    finally:
        os._exit(status)


def _request(number: int) -> bytes:
    return str(number).rjust(_MESSAGE).encode()
