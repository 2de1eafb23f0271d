"""What a browser sees of the site: widths, light and dark, and what axe-core finds."""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any

PHONE, DESKTOP = 360, 1280

#: A page may say the same thing a thousand times: of code, coloured spans of one class are looked at
#: once; of the listings that a program wrote, the first few of each kind.
_THIN = """
const seen = new Map();
const repeats = (key, most) => {
  seen.set(key, (seen.get(key) ?? 0) + 1);
  return seen.get(key) > most;
};
for (const s of document.querySelectorAll(".highlight pre span"))
  if (repeats("code " + s.className, 1)) s.replaceWith(...s.childNodes);
for (const pre of document.querySelectorAll(".highlight pre")) pre.normalize();
for (const e of document.querySelectorAll("dl.py, .genindextable li"))
  if (repeats(e.tagName + e.className, 3)) e.remove();
"""
_RUN = """
const done = arguments[0];
axe.run({exclude: ["mjx-container"]}, {resultTypes: ["violations"]})
  .then((found) => done(found.violations), (error) => done(String(error)));
"""


def look(browser: Any, width: int, dark: bool = False) -> None:
    """Show pages as a device of this width would, in the reader's light or dark scheme."""
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def look_as_usual(browser: Any) -> None:
    """Undo :func:`look`."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def faults(browser: Any) -> list[str]:
    """What axe-core calls serious or critical on the page that is open, with where and why.

    Formulas are left out: MathJax gives them in a form for screen readers, and in the text's colour.
    """
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js")  # its script alone
    browser.execute_script(_THIN)
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script(_RUN)
    assert isinstance(found, list), f"axe-core did not run: {found}"
    return [
        f"{rule['id']} at {node['target']}: {' '.join(node['failureSummary'].split())}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def without_repeats(pages: Mapping[str, str], listing: Callable[[str], bool]) -> Iterator[str]:
    """The pages, but of program listings only those with a colour that none before had."""
    colours: set[str] = set()
    for path, html in pages.items():
        own = set(re.findall(r'<span class="(\w+)">', html))
        if not listing(path) or own - colours:
            yield path
        colours |= own if listing(path) else set()
