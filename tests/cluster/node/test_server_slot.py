"""Server slots: whether a process that lost its connection has begun to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from discoro_trio._cluster.node._server_slot import is_exiting


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_was_killed_is_ending_until_it_is_waited_for() -> None:
    with subprocess.Popen(["sleep", "600"]) as running:
        assert not is_exiting(running.pid)
        running.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert is_exiting(running.pid)
        running.wait()
        assert not is_exiting(running.pid)
