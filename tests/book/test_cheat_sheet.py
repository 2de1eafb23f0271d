"""The cheat sheet: its code runs, and what it names is there."""

import inspect
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "book" / "cheat_sheet.md"
CHEAT_SHEET = PAGE.read_text(encoding="utf-8")


def test_the_cheat_sheet_runs():
    import torch

    (code,) = re.findall(r"```python\n(.*?)```", CHEAT_SHEET, re.S)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    names = {"net": net, "images": torch.rand(4, 3, 8, 8)}
    exec(compile(code, "cheat_sheet.md", "exec"), names)
    with pytest.raises(AssertionError, match="not equivariant"):  # the last line can fail
        exec(code.replace("eq.equitune(net, rot)", "net").replace("images)", "images, rot)"), names)


def unknown_calls(text: str) -> list[str]:
    """Calls of the library in a text's code that name a thing or an argument that there is not."""
    import equitutor as eq

    wrong = []
    for name, arguments in re.findall(r"`eq\.(\w+)(?:\(([^`]*)\))?`", text):
        made = getattr(eq, name, None)
        try:
            known = set(inspect.signature(made).parameters)
        except (TypeError, ValueError):
            wrong.append(name)
            continue
        keywords = set(re.findall(r"(\w+)=", arguments))
        wrong += [f"{name}: {keyword}" for keyword in sorted(keywords - known)]
    return wrong


def test_the_cheat_sheet_names_what_there_is():
    assert not unknown_calls(CHEAT_SHEET) and CHEAT_SHEET.count("`eq.") >= 20
    assert unknown_calls("`eq.equitone(net)` `eq.equizero(net, rot, los=1)` `eq.Flip()`") == [
        "equitone",
        "equizero: los",
    ]
