"""Every chapter runs from top to bottom, outside the checkout, with only the package installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as a wheel brings it, and nothing of the checkout."""
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)],
        check=True,
    )
    (wheel,) = wheels.glob("equitutor-*.whl")
    subprocess.run([*pip, "install", *alone, "--target", str(site), str(wheel)], check=True)
    return site


def run(installed, folder, *words):
    """Run python in a folder where equitutor comes from the wheel."""
    env = {**os.environ, "PYTHONPATH": str(installed), "EQUITUTOR_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True
    )


def nbval(installed, notebook, folder):
    copy = folder / notebook.name
    copy.write_bytes(notebook.read_bytes())
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "--nbval-cell-timeout=600",
    ]
    return run(installed, folder, *words, copy.name)


def test_the_package_is_the_wheel(installed, tmp_path):
    done = run(installed, tmp_path, "-c", "import equitutor; print(equitutor.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_the_wheel_is_whole(installed):
    """All modules, and the recorded results, are in the wheel."""
    for path in [*ROOT.glob("equitutor/**/*.py")]:
        assert (installed / path.relative_to(ROOT)).is_file(), path
    for path in ROOT.glob("book/results/*.json"):
        assert (installed / "equitutor" / "recorded" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[c.stem for c in CHAPTERS])
def test_chapter_runs(chapter, installed, tmp_path):
    done = nbval(installed, chapter, tmp_path)
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\d+ passed", done.stdout)


def test_a_failing_chapter_is_noticed(installed, tmp_path):
    text = CHAPTERS[0].read_text(encoding="utf-8")
    broken = tmp_path / "broken.ipynb"
    broken.write_text(re.sub(r'"import equitutor as eq\\n"', '"1 / 0\\\\n"', text, count=1))
    if broken.read_text() == text:
        broken.write_text(text.replace("import equitutor as eq", "1 / 0", 1))
    (tmp_path / "run").mkdir()
    done = nbval(installed, broken, tmp_path / "run")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout
