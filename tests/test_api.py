"""What readers are shown is on the library's page, with words about it; importing it is silent."""

import ast
import json
import pickle
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import equitutor as eq

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "equitutor").rglob("*.py")
    if path.stem != "__main__"
)
WINGS = {path.parent.name for path in (ROOT / "equitutor").glob("*/__init__.py")}


def page():
    """{module: (names or None for all, names left out)} of the blocks of book/api.md."""
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    found = {}
    for module, options in re.findall(r"\.\. automodule:: ([\w.]+)\n((?:   :.*\n)*)", text):
        given = dict(re.findall(r":([\w-]+): ?(.*)", options))
        some, left_out = (
            given.get(key, "").replace(",", " ").split() for key in ("members", "exclude-members")
        )
        found[module] = (some if some or "members" not in given else None, left_out)
    return found


def is_on_the_page(module, name, blocks):
    """Whether autodoc shows this name of a module."""
    if module not in blocks:
        return False
    some, left_out = blocks[module]
    public = getattr(import_module(module), "__all__", None)
    if name in left_out or (some is not None and name not in some):
        return False
    value = getattr(import_module(module), name)
    if not callable(value):
        return public is None or name in public
    own = value.__module__ == module and not name.startswith("_")
    return bool(value.__doc__) and (own if public is None else name in public)


def shown_to_readers():
    """(module, name) of what stands under eq, and of what a chapter imports."""
    for name in dir(eq):
        value = getattr(eq, name)
        if callable(value) and value.__module__.startswith("equitutor.") and name[0] != "_":
            yield value.__module__, name
    for path in (ROOT / "book").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        for tree in (
            ast.parse(re.sub(r"^( *)%", r"\1pass  # %", text, flags=re.M)) for text in code
        ):
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("equitutor"):
                    for alias in node.names:
                        yield node.module, alias.name


def test_what_readers_use_is_on_the_page():
    blocks, missing = page(), set()
    for module, name in shown_to_readers():
        if f"{module}.{name}" in MODULES:
            if f"{module}.{name}" not in blocks:
                missing.add(f"{module}.{name}")
            continue
        home = getattr(getattr(import_module(module), name), "__module__", module)
        if not (is_on_the_page(module, name, blocks) or is_on_the_page(home, name, blocks)):
            missing.add(f"{module}.{name}")
    assert not missing, f"not on book/api.md: {sorted(missing)}"


def test_the_page_names_what_there_is():
    for module, (some, left_out) in page().items():
        for name in [*(some or []), *left_out]:
            values = [import_module(module), *vars(import_module(module)).values()]
            assert any(hasattr(value, name) for value in values), f"{module} has no {name}"


def test_what_the_page_promises_stands_under_eq():
    """The core's names as eq.NAME; the modules below it as eq.MODULE, right after the import."""
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    modules = re.findall(r"automodule:: equitutor\.([\w.]+)\n", text)
    core = modules[: modules.index("testing") + 1]
    for module in core:
        for name in import_module(f"equitutor.{module}").__all__:
            assert name in dir(eq) or name in UNDER_THEIR_MODULE, f"{module}.{name}"
    behind = {name: home for name, home in eq._HOMES.items() if home[1:].split(".")[0] in WINGS}
    for name, home in behind.items():
        module = f"equitutor{home}" if name[0].isupper() else f"equitutor{home}.{name}"
        assert module in page(), f"{module} is eq.{name}, and not on the page"


def test_completion_shows_every_public_name_and_module():
    """dir(eq), so TAB, in a fresh process that has used none of them; and each can be had."""
    code = (
        "import equitutor as eq; print(*dir(eq)); print(*(type(getattr(eq, n)) for n in dir(eq)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = set(done.stdout.splitlines()[0].split())
    assert {"data", "plotting", "checks", "EquiLM", "equitune", "language", "testing"} <= shown
    assert shown == set(eq._HOMES) == set(eq.__all__)


def test_every_module_of_the_core_stands_under_eq():
    """And every wing, as if `import equitutor` had imported it."""
    inner = {"arguments", "commands", "pages", "text", "version"}
    assert {m.split(".")[1] for m in MODULES if "." in m} - inner <= set(dir(eq))


#: What a process has imported after a line: torch, and what takes seconds beside it.
HEAVY = {"torch", "torchvision", "transformers", "matplotlib", "numpy", "pandas", "sklearn"}
HEAVY |= {"torch._dynamo", "torch._inductor", "torch.onnx"}  # half of torch's time again, or more


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("", set()),
        ("dir(eq)", set()),
        ("eq.results", set()),
        ("eq.equitune", {"torch", "numpy"}),  # which torch imports
        ("from equitutor import checkup, layers, methods, testing, weights", {"torch", "numpy"}),
    ],
)
def test_a_name_is_imported_when_it_is_used(line, heavy):
    code = f"import sys, equitutor as eq; {line}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == heavy


def test_names_can_be_imported_from_eq():
    """A name, a module, the version; what is not there is said as Python says it."""
    code = "from equitutor import EquiLM, equitune, data, groups, __version__; print(data.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "equitutor.images.data\n"
    with pytest.raises(AttributeError, match="module 'equitutor' has no attribute 'equitunes'"):
        _ = eq.equitunes
    with pytest.raises(ImportError, match="cannot import name 'equitunes'"):
        exec("from equitutor import equitunes")
    code = "import equitutor as eq; eq.equitunes"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.endswith("Did you mean: 'equitune'?\n")


def test_a_name_is_looked_up_once():
    assert eq.cyclic is import_module("equitutor.groups").cyclic is vars(eq)["cyclic"]


def test_a_pickle_loads_in_a_process_that_imported_nothing(tmp_path):
    model = eq.equitune(torch.nn.Linear(4, 4), eq.Regular(eq.cyclic(4)))
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps((model, torch.eye(4), model(torch.eye(4)).detach())))
    code = "import pickle, sys; model, x, y = pickle.load(open(sys.argv[1], 'rb')); print((model(x) == y).all())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "tensor(True)\n"


#: Names of the core that a reader does not call by hand.
UNDER_THEIR_MODULE = {"RegularFeaturesAction"}


def test_a_name_that_is_left_out_is_noticed():
    blocks = page()
    assert is_on_the_page("equitutor.groups", "cyclic", blocks)
    assert not is_on_the_page("equitutor.groups", "cyclic", {})
    assert not is_on_the_page(
        "equitutor.groups", "cyclic", {"equitutor.groups": (["dihedral"], [])}
    )
    assert not is_on_the_page(
        "equitutor.groups", "cyclic", {"equitutor.groups": (None, ["cyclic"])}
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_public_thing_says_what_it_is(module):
    path = Path(import_module(module).__file__)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    things = (ast.FunctionDef, ast.ClassDef)
    silent = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, things) and node.name[0] != "_" and not ast.get_docstring(node):
            silent.append(node.name)
    assert not silent, f"{module}: no docstring: {silent}"


def statements(module):
    return ast.parse(Path(import_module(module).__file__).read_text(encoding="utf-8")).body


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_once_what_is_public(module):
    """__all__ once, and annotations that are not evaluated; the __init__ of a wing has neither."""
    path = Path(import_module(module).__file__)
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines: two subjects?"
    if path.name == "__init__.py" or module == "equitutor.version":
        return
    assigned = [n for n in statements(module) if isinstance(n, ast.Assign)]
    assert [t.id for n in assigned for t in n.targets if isinstance(t, ast.Name)].count(
        "__all__"
    ) == 1
    future = [n for n in statements(module) if getattr(n, "module", "") == "__future__"]
    assert len(future) == 1, "from __future__ import annotations"


@pytest.mark.parametrize("wing", sorted(WINGS))
def test_a_wing_says_what_lives_there(wing):
    words = ast.get_docstring(ast.parse((ROOT / "equitutor" / wing / "__init__.py").read_text()))
    assert len(re.findall(r"[.](?:\s|$)", words)) >= 2, "what lives there, and what does not"


def test_the_public_names_are_there():
    for module in MODULES:
        for name in getattr(import_module(module), "__all__", []):
            assert hasattr(import_module(module), name), f"{module}.__all__ has {name}"


def test_importing_it_warns_of_nothing():
    # Dependencies' words on each other's age, and what they leave to the interpreter's end to tidy
    # away, are not ours to mend.
    imports = """
import warnings
warnings.filterwarnings("ignore", "", DeprecationWarning, "matplotlib")
warnings.simplefilter("ignore", ResourceWarning)
"""
    imports += "".join(f"import {module}\n" for module in MODULES)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", imports], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def resolves(name):
    """Whether a dotted name such as equitutor.symmetrize.equitune leads somewhere."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:i]))
        except ImportError:
            continue
        for part in parts[i:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_names_of_the_library_in_texts_lead_somewhere():
    texts = [*(ROOT / "equitutor").rglob("*.py"), *(ROOT / "book").rglob("*.ipynb")]
    texts += [*(ROOT / "book").rglob("*.md"), ROOT / "README.md", *(ROOT / ".github").rglob("*.md")]
    lost = {}
    for path in texts:
        text = path.read_text(encoding="utf-8")
        for name in set(re.findall(r"\bequitutor(?:\.[a-z_]\w*)+", text)):
            old = path.name == "changelog.md" and name == "equitutor.fairness"  # before the wings
            if not (old or name in {"equitutor.pdf", "equitutor.github.io"} or resolves(name)):
                lost.setdefault(name, []).append(path.name)
    assert not lost


def test_a_name_that_leads_nowhere_is_noticed():
    assert resolves("equitutor.methods.equitune") and resolves("equitutor.store")
    assert not resolves("equitutor.fairness.perplexity_")
    assert not resolves("equitutor.lmviews") and not resolves("equitutor.groups.cyclical")
