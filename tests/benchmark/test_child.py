"""Programs in children: what they may not do, and that none outlives its turn."""

import subprocess
import time

import pytest

from illada_core.benchmark import child
from illada_core.benchmark.child import MIB, Limits, isolation, run_programs

QUICK = Limits(seconds=1.5, memory_bytes=512 * MIB, written_bytes=MIB)
PROGRAMS = {
    "x = 1\nassert x": True,
    "import math, json, re, collections, itertools, heapq": True,
    "print('x' * 10_000_000)": True,
    "import os\nif os.fork(): os.wait()": True,
    "assert False": False,
    "def (": False,
    "raise SystemExit(0)": False,
    "import os; os._exit(0)": False,
    "while True: pass": False,
    "import time; time.sleep(30)": False,
    "x = bytearray(1 << 30)": False,
    "open('big', 'wb').write(b'x' * (4 << 20))": False,
    "import sys; sys.setrecursionlimit(10**9)\ndef f(): return f()\nf()": False,
    "input()": False,
}


@pytest.mark.parametrize("has_namespaces", [True, False])
def test_a_program_passes_if_it_ends_within_its_limits(has_namespaces, monkeypatch):
    if not has_namespaces:
        monkeypatch.setattr(child, "isolation", tuple)
    found = list(run_programs(list(PROGRAMS), QUICK, workers=6))
    assert dict(zip(PROGRAMS, found, strict=True)) == PROGRAMS


@pytest.mark.skipif(not isolation(), reason="unshare does not work here")
def test_a_child_has_no_network_and_leaves_no_process():
    marker = f"illada-{time.monotonic_ns()}"
    orphan = f"import os, time\nif not os.fork():\n    os.setsid(); time.sleep(60)  # {marker}"
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    network = "import socket\nsocket.create_connection(('127.0.0.1', 1), 1)"
    interfaces = "import os\nassert os.listdir('/sys/class/net') is not None\n"
    interfaces += "import socket\nassert [n for _, n in socket.if_nameindex()] == ['lo']"
    assert list(run_programs([orphan, network, interfaces], Limits())) == [True, False, True]
    assert list(run_programs([bomb], QUICK)) == [False]  # alone: it leaves others little time
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert child.RUNNER.strip().splitlines()[1] not in running
