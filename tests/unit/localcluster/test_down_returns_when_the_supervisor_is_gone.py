"""`localcluster down` returns once no process is left, the supervisor's own among them."""

import subprocess
import sys
from pathlib import Path

from localcluster import directory, supervisor

# The lock is free before the process has ended, as in any supervisor that ends on a busy machine.
LINGERS = """
import signal, sys, time
from pathlib import Path
from localcluster import directory

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    with directory.locked(Path(sys.argv[1])):
        print("locked", flush=True)
        signal.pause()
finally:
    time.sleep(1)
"""


def test_the_supervisor_has_ended_and_not_only_freed_its_lock(tmp_path: Path) -> None:
    directory.claim(tmp_path)
    with subprocess.Popen([sys.executable, "-c", LINGERS, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert supervisor.stop(tmp_path)
        assert process.poll() is not None


def test_where_nothing_is_up_it_says_so(tmp_path: Path) -> None:
    directory.claim(tmp_path)
    assert not supervisor.stop(tmp_path)
