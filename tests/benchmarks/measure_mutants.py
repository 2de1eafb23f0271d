"""How many of the small faults that mutmut puts into the core are noticed by the core's tests.

python tests/benchmarks/measure_mutants.py [--modules permutations groups actions symmetrize language.lm] [--most 50] [--keep]

A mutant is a module with one thing changed: a sign, a bound, an argument left out. It is killed where a
test fails. Of each module a random sample is tried, the same one for the same seed; the survivors are
printed as diffs, to be looked at. The figures are bounds from below: tests that take long for what they
find, those of torch.compile and of GPT-2's size, are left out, and mutmut does not see what the tests'
modules make when they are imported, before there is a mutant.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import report
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).parents[2]
#: The tests that are to notice a fault in each module.
TESTS = {
    "permutations": ["test_groups", "test_actions"],
    "groups": ["test_groups", "test_actions"],
    "actions": ["test_actions", "test_groups"],
    "rotations": ["test_actions"],
    "symmetrize": ["test_symmetrize", "test_weights", "test_theorem", "test_testing"],
    "language.lm": ["language/test_lm", "language/test_lm_zero"],
}
SLOW = "not compile and not size_of_gpt2"


def _file(module: str) -> str:
    return f"equitutor/{module.replace('.', '/')}.py"


def settings(module: str) -> str:
    """mutmut's, as a pyproject.toml."""
    found = {
        "source_paths": ["equitutor"],
        "only_mutate": [_file(module)],
        "pytest_add_cli_args": ["-k", SLOW, "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [f"tests/{t}.py" for t in TESTS[module]],
        "track_dependencies": False,
        "timeout_multiplier": 15.0,
        "timeout_constant": 30.0,
    }
    lines = (f"{key} = {json.dumps(value)}" for key, value in found.items())
    return "\n".join(["[tool.mutmut]", *lines, ""])


def names(module: str) -> list[str]:
    """Of all mutants of a module; mutmut must find its settings in the working directory."""
    file = _file(module)
    made = mutate_file_contents(file, Path(file).read_text(encoding="utf-8")).mutant_names
    return [f"equitutor.{module}.{name}" for name in made]


def drawn(names: list[str], most: int, seed: int) -> list[str]:
    """A random sample; a smaller one is a part of a larger one."""
    return random.Random(seed).sample(names, len(names))[:most]


def measure(module: str, most: int, seed: int) -> dict:
    """Counts of what became of the sample, by mutmut's own words."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("equitutor", "tests"):
            shutil.copytree(ROOT / part, Path(folder, part))
        Path(folder, "pyproject.toml").write_text(settings(module))
        os.chdir(folder)
        every = names(module)
        sample = drawn(every, most, seed)
        subprocess.run(["mutmut", "run", "--max-children", "1", *sample], check=True)
        meta = json.loads(Path(f"mutants/{_file(module)}.meta").read_text())
        fates = {name: status_by_exit_code[meta["exit_code_by_key"][name]] for name in sample}
        for name, fate in fates.items():
            if fate != "killed":
                print(f"\n{fate}: {name}", flush=True)
                subprocess.run(["mutmut", "show", name], check=True)
        os.chdir(ROOT)
    return {"mutants": len(every), "tried": len(sample), **Counter(fates.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="+", default=list(TESTS), choices=TESTS)
    parser.add_argument("--most", type=int, default=50, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    found = {module: measure(module, args.most, args.seed) for module in args.modules}
    print(json.dumps(found, indent=1))
    if args.keep:
        tool = f"mutmut {version('mutmut')}"
        report.keep("mutation", {"tool": tool, "seed": args.seed, "modules": found})


if __name__ == "__main__":
    main()
