"""All benchmarks, one after the other: python tests/benchmarks [--keep] (about 25 minutes).

Options go to each of them. One that fails leaves the others alone: bench_peer.py needs the extra
`peer`, and the compiled part of bench_wrapper.py a C++ compiler.
"""

import subprocess
import sys
from pathlib import Path

OWN_OPTIONS = {"bench_wrapper.py": ["--compiled"]}


def run(folder: Path, options: list[str]) -> list[str]:
    """Run the benchmarks of a folder; the names of those that failed."""
    failed = []
    for script in sorted(folder.glob("bench_*.py")):
        print(f"== {script.name}", flush=True)
        command = [sys.executable, script, *OWN_OPTIONS.get(script.name, []), *options]
        if subprocess.run(command).returncode:
            failed.append(script.name)
    return failed


if __name__ == "__main__":
    if failed := run(Path(__file__).parent, sys.argv[1:]):
        sys.exit(f"failed: {', '.join(failed)}; what they say stands above")
