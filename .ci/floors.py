"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

python .ci/floors.py > floors.txt && pip install -c floors.txt -e ".[agents,book,cluster,test]"
"""

import re
import tomllib
from itertools import chain
from pathlib import Path


def floors(pyproject: Path) -> list[str]:
    """Return ``name==version`` for every requirement, extras included: its version is its floor.

    Raises
    ------
    ValueError
        A requirement is not a name, a floor and at most a ceiling.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = set()
    for line in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        parts = re.fullmatch(r"([\w.-]+)>=([\w.]+)(,<[\w.]+)?", line)
        if not parts:
            raise ValueError(f"{line!r} has no floor: expected a line like numpy>=1.26")
        found.add(f"{parts[1]}=={parts[2]}")
    return sorted(found)


if __name__ == "__main__":
    print(*floors(Path(__file__).parent.parent / "pyproject.toml"), sep="\n")
