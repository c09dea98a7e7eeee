"""What this machine's GPU does: first whether it is right, then how fast it is.

One command for a machine that has torch 2.11 or later and this repository, and maybe nothing else:
no index, no weights, no data. Checks compare the device with the CPU in float32; tables are of
random models of the paper's shapes. It prints as it goes, and writes all of it as JSON.

    python benchmarks/gpu.py [--json FILE] [--minutes 7] [--only checks training generation scoring]
    python benchmarks/gpu.py --smoke          # the same on a CPU, with sizes that say nothing
"""

import argparse
import json
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
try:
    import zstandard  # noqa: F401
except ImportError:
    # Shards are read through it; nothing here reads one.
    sys.modules["zstandard"] = MagicMock()

from benchmarks.gpu_checks import CHECKS
from benchmarks.gpu_tables import TABLES, Machine

PARTS = ("checks", *TABLES)


def described(device: torch.device) -> str:
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        return f"{torch.cuda.get_device_name(device)} (sm {capability}), CUDA {torch.version.cuda}"
    return f"CPU, {torch.get_num_threads()} threads"


def run_checks(device: torch.device) -> list[dict[str, object]]:
    """Run every check; one that breaks has failed, and the others still run."""
    found = []
    for name, check in CHECKS.items():
        started = time.perf_counter()
        try:
            passed, figure = check(device)
        except Exception as error:
            passed, figure = False, f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        mark = {True: "ok", False: "FAILED", None: "left out"}[passed]
        print(f"{mark:8} {name}: {figure} ({seconds:.1f} s)", flush=True)
        found.append({"check": name, "passed": passed, "figure": figure})
    return found


def run_table(name: str, machine: Machine) -> list[dict[str, object]]:
    """Print a table as its rows come; what breaks it is told, and ends it."""
    rows: list[dict[str, object]] = []
    print(f"\n{name}", flush=True)
    try:
        for row in TABLES[name](machine):
            rows.append(row)
            print("  " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    except Exception as error:
        rows.append({"broke": f"{type(error).__name__}: {error}"})
        print(f"  broke: {type(error).__name__}: {error}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--minutes", type=float, default=7.0, help="no table begins after them")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on a CPU")
    asked = parser.parse_args()
    if not asked.smoke and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; --smoke tries the script on a CPU")
    started = time.monotonic()
    device = torch.device("cpu" if asked.smoke else "cuda")
    print(f"{described(device)}, torch {torch.__version__}", flush=True)
    checks = run_checks(device) if "checks" in asked.only else []
    machine = Machine(device, asked.smoke)
    print(machine.told(), flush=True)
    tables = {}
    for name in TABLES:
        if name in asked.only and time.monotonic() - started < 60 * asked.minutes:
            tables[name] = run_table(name, machine)
    left = [name for name in TABLES if name in asked.only and name not in tables]
    failed = [check["check"] for check in checks if check["passed"] is False]
    failed += [name for name, rows in tables.items() if any("broke" in row for row in rows)]
    if asked.json:
        report = {
            "device": described(device),
            "torch": torch.__version__,
            "ceilings": machine.ceilings,
            "checks": checks,
            **tables,
        }
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{time.monotonic() - started:.0f} s; failed: {', '.join(map(str, failed)) or 'none'}")
    if left:
        print(f"no time for {', '.join(left)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
