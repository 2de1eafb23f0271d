"""What the tests of the core reach, and how much bad input and how many kills they pass.

python tests/benchmarks/measure_tests.py coverage|faults [--keep]

Coverage is of the lines and branches of the core; faults are counted only if their tests pass.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import report

TESTS = Path(__file__).parents[1]
#: Modules of the core, and the tests that count; what has no test file is covered by the others'.
CORE = (
    "modes",
    "nested",
    "permutations",
    "groups",
    "actions",
    "rotations",
    "representations",
    "actionmap",
    "weights",
    "symmetrize",
    "methods",
    "trainable",
    "layers",
    "testing",
    "diagnose",
)
#: Tests of the core that are of no one module.
ACROSS = ("calls", "controls", "precision", "deploy", "integers")
FILES = {name: f"equitutor/{name}.py" for name in CORE} | {"lm": "equitutor/language/lm.py"}
SUITES = [TESTS / f"test_{name}.py" for name in (*CORE, *ACROSS)] + [
    TESTS / "language" / "test_lm.py"
]
TARGET = 95  # percent


def pytest(*words: str) -> None:
    """Run it; raises CalledProcessError if a test fails."""
    subprocess.run([sys.executable, "-m", "pytest", "-q", *words], cwd=TESTS.parent, check=True)


def coverage() -> dict:
    """Percent of each module of the core, by the module's tests and the others' of the core."""
    files = [str(path) for path in SUITES if path.exists()]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        pytest(*files, "-n", "0", "--cov=equitutor", "--cov-branch", f"--cov-report=json:{out}")
        found = json.loads(out.read_text())["files"]
    sums = {name: found[file]["summary"] for name, file in FILES.items()}
    hit = sum(s["covered_lines"] + s["covered_branches"] for s in sums.values())
    of = sum(s["num_statements"] + s["num_branches"] for s in sums.values())
    whole = 100 * hit / of
    percent = {name: round(s["percent_covered"], 1) for name, s in sums.items()}
    return {"percent": percent | {"core": round(whole, 1)}, "target": TARGET}


def faults() -> dict:
    """How many bad inputs and kills there were, in tests that passed."""
    sys.path[:0] = [str(TESTS), str(TESTS / "experiments")]
    import test_experiments
    import test_fuzz

    kills = test_experiments.test_kills_at_random_moments_lose_the_cell_in_work_and_no_more.__name__
    pytest(
        str(TESTS / "test_fuzz.py"),
        f"{TESTS / 'experiments' / 'test_experiments.py'}::{kills}",
        "-n",
        "0",
    )
    functions, each = len(test_fuzz.FUNCTIONS), test_fuzz.EACH
    kills_survived = test_experiments.KILLS  # the test counts up to it
    return {"functions": functions, "bad inputs": functions * each, "kills": kills_survived}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["coverage", "faults"])
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    found = {"coverage": coverage, "faults": faults}[args.what]()
    print(json.dumps(found, indent=1))
    if args.keep:
        report.keep(args.what, found)


if __name__ == "__main__":
    main()
