"""The built site, opened page by page in a real browser.

One build serves all tests here, of the chapters as nbval executed them (see conftest). EQUITUTOR_SITE
names a site that was built before, to save the time.
"""

import base64
import functools
import html
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import ipywidgets
import pytest
import site_browser
import site_checks as checks
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHAPTERS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "book").glob("*.ipynb"))]
SAMPLES = [
    path.relative_to(ROOT).as_posix() for path in (ROOT / "book" / "samples").glob("*.ipynb")
]
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
#: Seconds that a page may take on a busy machine: one that never finishes still fails.
PATIENCE = 300
QUIET = [  # a browser that asks for nothing of its own accord
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

pytestmark = pytest.mark.xdist_group("site")


def build(book: Path, output: Path, *words: str) -> subprocess.CompletedProcess:
    """`jupyter-book build .`, with the output elsewhere."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    start = "from jupyter_book.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", start, "build", ".", "--path-output", str(output), *words],
        cwd=book,
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass
class Site:
    folder: Path
    output: str | None  # what the build said; None for a site built before
    returncode: int = 0

    @functools.cached_property
    def pages(self) -> dict[str, str]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(self.folder.rglob("*.html"))
            if "_static" not in path.parts
        }


def executed_book(executed, folder: Path) -> Path:
    """The book with the chapters as they were executed, and not to be executed again."""
    shutil.copytree(ROOT / "book", folder / "book")
    shutil.copy(ROOT / "_toc.yml", folder)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    for chapter in [*SAMPLES, *reversed(CHAPTERS)]:
        done, notebook = executed(ROOT / chapter)
        assert done.returncode == 0, f"{chapter} does not run: {done.stdout[-2000:]}"
        shutil.copy(notebook, folder / chapter)
    return folder


@pytest.fixture(scope="session")
def site(request, tmp_path_factory):
    if ready := os.environ.get("EQUITUTOR_SITE"):
        folder = Path(ready)
        assert (folder / "index.html").is_file(), f"EQUITUTOR_SITE={ready} holds no index.html"
        return Site(folder, None)
    book = executed_book(request.getfixturevalue("executed"), tmp_path_factory.mktemp("book"))
    output = tmp_path_factory.mktemp("site")
    done = build(book, output)
    return Site(output / "_build" / "html", done.stdout, done.returncode)


# -- the build --------------------------------------------------------------------------------


def test_every_chapter_builds_without_a_warning(site):
    if site.output is None:
        pytest.skip("EQUITUTOR_SITE is set: what its build said is not known")
    assert site.returncode == 0, site.output[-5000:]
    assert not checks.warnings(site.output)
    for chapter in CHAPTERS:  # each shows what its first cell prints
        assert (
            f"equitutor {PROJECT['version']}, Python"
            in site.pages[chapter.replace(".ipynb", ".html")]
        )


def test_every_page_is_there(site):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]
    assert {f"{name}.html" for name in files} <= set(site.pages)
    listed = [f"{name}.ipynb" for name in files if f"{name}.ipynb" in CHAPTERS]
    assert sorted(listed) == CHAPTERS
    numbered = [name for name in listed if re.match(r"book/\d", name)]
    assert numbered == sorted(numbered) and len(numbered) >= 15


def tiny_book(folder: Path, cell: str, pages: int = 1) -> Path:
    """A book of one notebook with one cell, or more alike, executed as this one is."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    keep = {key: config[key] for key in ("execute", "only_build_toc_files", "exclude_patterns")}
    extensions = [
        name for name in config["sphinx"]["config"]["extensions"] if name != "sphinxcontrib.bibtex"
    ]
    where = {name: str(ROOT / path) for name, path in config["sphinx"]["local_extensions"].items()}
    keep["sphinx"] = {"local_extensions": where, "config": {"extensions": extensions}}
    (folder / "_config.yml").write_text(yaml.safe_dump({"title": "tiny", **keep}))
    names = [f"page{k}" for k in range(1, pages)]
    chapters = [{"file": name} for name in names]
    toc = {"format": "jb-book", "root": "page", **({"chapters": chapters} if chapters else {})}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    title = {"cell_type": "markdown", "metadata": {}, "source": "# Tiny"}
    notebook = {
        "cells": [title, {**code, "source": cell}],
        "metadata": {"kernelspec": python},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    for name in ["page", *names]:
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    return folder


def test_a_failing_cell_fails_the_build(tmp_path):
    done = build(tiny_book(tmp_path, "1 / 0"), tmp_path)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout


def test_notebooks_are_executed_two_at_a_time(tmp_path):
    """Each by a kernel that is the child of the process that reads it."""
    cell = "import os\nprint('started by', os.getppid())"
    done = build(tiny_book(tmp_path, cell, pages=6), tmp_path)
    assert done.returncode == 0, done.stdout
    assert not checks.warnings(done.stdout)
    assert done.stdout.count("Executed notebook") == 6
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "_build/html").glob("page*")]
    readers = [re.search(r"started by (\d+)", page)[1] for page in pages]
    assert sorted(map(readers.count, set(readers))) == [3, 3]


def test_one_page_finds_what_it_shows(tmp_path):
    """The page of all chapters stands where its pictures and styles are, also if the first is in a folder."""
    book = tiny_book(tmp_path, "1 + 1", pages=2)
    (book / "book").mkdir()
    (book / "page.ipynb").rename(book / "book" / "page.ipynb")
    toc = (book / "_toc.yml").read_text().replace("root: page", "root: book/page")
    (book / "_toc.yml").write_text(toc)
    done = build(book, tmp_path, "--builder", "singlehtml")
    assert done.returncode == 0, done.stdout
    folder = tmp_path / "_build" / "singlehtml"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("Tiny") > 1 and "http-equiv" not in page  # no redirect to elsewhere
    styles = re.findall(r'<link [^>]*href="(_static[^"?]*)', page)
    assert styles and all((folder / style).is_file() for style in styles)
    assert "page.html#" not in page and not list((folder / "book").glob("*.html"))


def test_progress_bars_and_virtual_environments_stay_out(tmp_path):
    """stderr is for live readers; the pages of a package in .venv are no pages of the book."""
    cell = "import sys\nprint(6 * 7, 'printed')\nprint('a bar', 'moves', file=sys.stderr)"
    package = tmp_path / ".venv" / "lib" / "site-packages" / "other"
    package.mkdir(parents=True)
    (package / "README.md").write_text("no heading, [a dead link](nowhere.md)")
    (package / "broken.ipynb").write_text("{")
    done = build(tiny_book(tmp_path, cell), tmp_path)
    assert done.returncode == 0, done.stdout
    assert not checks.warnings(done.stdout)
    page = (tmp_path / "_build" / "html" / "page.html").read_text(encoding="utf-8")
    assert "42 printed" in page and "a bar moves" not in page
    assert not list((tmp_path / "_build" / "html").rglob("*broken*"))


# -- the files --------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere(site):
    outside = {path: checks.outside_resources(html) for path, html in site.pages.items()}
    assert not {path: found for path, found in outside.items() if found}


def objects_of_the_builder(page: str) -> list[str]:
    """Names of the API that a page shows with an object's address or file in place of a value."""
    found = []
    for name, shown in re.findall(r'<dt class="sig[^>]*id="([^"]+)">(.*?)</dt>', page, re.S):
        text = html.unescape(re.sub("<[^>]+>", "", shown))
        if re.search(r"<(module|function|class|bound method)\b(?! \w+\.<lambda>)| at 0x", text):
            found.append(name)
    return found


def test_the_library_shows_no_addresses_for_values(site):
    assert not objects_of_the_builder(site.pages["book/api.html"])
    wrong = '<dt class="sig" id="a.B">B = {1: <span>&lt;function</span> f&gt;}</dt>'
    assert objects_of_the_builder(wrong) == ["a.B"]


def test_every_image_has_alt_text(site):
    wrong = {path: checks.images_without_alt(html) for path, html in site.pages.items()}
    assert not {path: found for path, found in wrong.items() if found}
    assert sum(len(checks.elements(html, "img")) for html in site.pages.values()) > 10


def test_no_internal_link_is_dead(site):
    files = [p.relative_to(site.folder).as_posix() for p in site.folder.rglob("*") if p.is_file()]
    assert not checks.dead_links(site.pages, files)


def test_every_chapter_opens_in_colab_at_the_release(site):
    repository, tag = PROJECT["urls"]["Repository"], f"v{PROJECT['version']}"
    assignments = (ROOT / "book" / "assignments").glob("*.ipynb")
    for chapter in [*CHAPTERS, *(path.relative_to(ROOT).as_posix() for path in assignments)]:
        page = site.pages[chapter.replace(".ipynb", ".html")]
        assert not checks.wrong_colab_links(page, repository, tag, [chapter])


def test_the_site_is_light(site):
    sources = (
        site.folder / "_sources"
    )  # of this build they are executed notebooks, with their figures
    assert checks.megabytes(site.folder) - checks.megabytes(sources) < 30
    assert not list(site.folder.rglob("*.map"))


def test_the_bibliography_is_whole(site):
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8").count("\n@") + 1
    assert site.pages["book/bibliography.html"].count('<div class="citation"') == entries


def test_every_work_can_be_found():
    """By a DOI or an address, of the right form."""
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8").split("\n@")
    for entry in entries:
        links = dict(re.findall(r"^  (doi|url) *= \{(.*)\}", entry, re.M))
        assert len(links) == 1, entry
        forms = {"doi": r"10\.\d{4,9}/[^\s{}]+", "url": r"https://[a-z0-9.-]+\.[a-z]+/[^\s{}]+"}
        for kind, link in links.items():
            assert re.fullmatch(forms[kind], link), link


def test_every_entry_of_the_bibliography_is_a_link(site):
    page = site.pages["book/bibliography.html"]
    entries = page.split('<div class="citation"')[1:]
    for entry in entries:
        assert re.search(r'<a [^>]*href="https://', entry), entry[:300]


def markdown(path):
    """The text of a page, or of a notebook's cells that are no code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_citations_lead_to_entries_and_every_entry_is_cited():
    files = [p for kind in ("*.ipynb", "*.md") for p in sorted((ROOT / "book").rglob(kind))]
    texts = {path.relative_to(ROOT).as_posix(): markdown(path) for path in files}
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert not checks.wrong_citations(texts, re.findall(r"^@\w+\{(\w+),", entries, re.M))


def test_every_page_names_its_icon(site):
    """Of a page that names none, index.html too, browsers ask the host for a favicon.ico."""
    for path, page in site.pages.items():
        (icon,) = re.findall(r'<link rel="(?:shortcut )?icon" href="([^"]+)"', page)
        assert (site.folder / path).parent.joinpath(icon.split("?")[0]).is_file(), path


def test_the_index_leads_to_the_first_page(site):
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    first = re.search(r"^root: (.*)$", toc, re.M)[1] + ".html"
    page = site.pages["index.html"]
    assert f'content="0; url={first}"' in page and f'<a href="{first}">' in page


# -- the opening page -------------------------------------------------------------------------


def test_the_ten_lines_run(capsys):
    intro = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", intro, re.S)
    exec(compile(code, "intro.md", "exec"), {})
    plain, tuned = re.findall(r": +(\S+e\S+)", capsys.readouterr().out)
    assert float(plain) > 1e-3 > 1e-5 > float(tuned)


def parts_amiss(parts, pages) -> list[str]:
    """Parts of numbered chapters that no page opens, or whose page does not say a sentence on each."""
    amiss = []
    for before, part in itertools.pairwise(parts):
        if not part.get("numbered"):
            continue
        opening = [c["file"] for c in before["chapters"] if "/part_" in c["file"]]
        text = pages[opening[-1]] if opening else ""
        chapters = [c["file"].removeprefix("book/") for c in part["chapters"]]
        said = re.findall(r"^- \[[^\]]+\]\((\w+)\) (?:[^.]|\n  )+\.$", text, re.M)
        if said != chapters:
            amiss.append(f"{opening}: {said} instead of {chapters}")
    return amiss


@pytest.fixture
def parts():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    files = [c["file"] for part in toc for c in part["chapters"] if "/part_" in c["file"]]
    return toc, {file: (ROOT / f"{file}.md").read_text(encoding="utf-8") for file in files}


def test_each_part_opens_with_a_sentence_for_each_chapter(parts):
    toc, pages = parts
    assert len(pages) == sum(bool(part.get("numbered")) for part in toc) >= 4
    assert not parts_amiss(toc, pages)


def test_a_chapter_without_its_sentence_is_noticed(parts):
    toc, pages = parts
    for page, text in pages.items():
        line = re.search(r"^- \[.*?\.$\n", text, re.M | re.S)[0]
        assert parts_amiss(toc, {**pages, page: text.replace(line, "")}), page
    assert parts_amiss([toc[0], *toc[2:]], pages)  # the first part has no page


def test_the_first_screen_leads_three_ways_on(site, address, browser):
    """The question, the picture, the answer; and to read, to run and to teach, without scrolling."""
    script = """
    const links = [...document.querySelectorAll(".bd-article p a")];
    return links.filter((a) => a.getBoundingClientRect().bottom <= 800).map((a) => a.getAttribute("href"));
    """
    site_browser.look(browser, site_browser.DESKTOP)
    visit(browser, f"{address}/book/intro.html")
    seen = browser.execute_script(script)
    site_browser.look_as_usual(browser)
    assert seen == ["01_groups_and_actions.html", "ten_minutes.html", "assignments/teaching.html"]


def test_the_opening_page_gives_the_chapters_times():
    intro = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[[^\]]+\]\((\w+)(?:\.ipynb)?\) .*\| (\d+) min \|$", intro, re.M))
    said = {}
    for chapter in CHAPTERS:
        text = markdown(ROOT / chapter)
        said[Path(chapter).stem] = re.search(r"\*\*Time:\*\*\D*(\d+) minutes", text)[1]
    assert rows == said


# -- the browser ------------------------------------------------------------------------------


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def address(site):
    handler = functools.partial(_Silent, directory=str(site.folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if not (BROWSER and DRIVER):
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for flag in [*QUIET, f"--user-data-dir={profile}", "--window-size=1280,900"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    if client := getattr(driver.command_executor, "client_config", None):  # selenium's own, 120
        client.timeout = PATIENCE + 60
    yield driver
    driver.quit()


#: Waits for the page (index.html leads on to another) and for MathJax, then counts the formulas that are not typeset, or are errors.
MATHS = """
const done = arguments[0];
const count = () => {
  const formulas = [...document.querySelectorAll(".math")];
  done({
    formulas: formulas.length,
    raw: formulas.filter((f) => !f.querySelector("mjx-container")).map((f) => f.textContent),
    errors: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) => e.title),
  });
};
const ready = () => window.MathJax ? MathJax.startup.promise.then(count) : count();
document.readyState === "complete" ? ready() : window.addEventListener("load", ready);
"""


def soon(what, seconds=30):
    """What a function gives as soon as it is true; what it gives last, if it never is."""
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@dataclass
class Visit:
    errors: list[str]
    requests: list[str]
    maths: dict


def visit(browser, url: str) -> Visit:
    """Open a page and let it finish; what the console said, and what was asked for."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # reading empties it
    browser.get(url)
    maths = browser.execute_async_script(MATHS)
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [e["request"]["url"] for e in sent]
    return Visit(checks.serious(browser.get_log("browser")), urls, maths)


#: Night falls, and folds open, at once: a text that fades in is hard to read meanwhile.
AT_ONCE = """
const style = document.createElement("style");
style.textContent = "* { transition: none !important; animation: none !important; }";
document.head.append(style);
"""


def in_the_dark(browser) -> list[str]:
    """What is white on a desk by night, of the page that is open; then it is day again."""
    theme = "return document.documentElement.dataset.theme"
    site_browser.look(browser, site_browser.DESKTOP, dark=True)
    assert soon(lambda: browser.execute_script(theme) == "dark")
    found = browser.execute_script(WHITE)
    site_browser.look(browser, site_browser.DESKTOP)
    assert soon(lambda: browser.execute_script(theme) == "light")
    return found


@dataclass
class Seen:
    """A page as it was opened, and what it answered to the scripts below."""

    visit: Visit
    answers: dict
    faults: list[str] | None  # None of a listing like others


@pytest.fixture(scope="session")
def walk(site, address, browser):
    """A function: {page: what is to be seen of it} on a desk by day, or on a phone at night.

    To open a page takes longest, so each is asked at once all that the tests want to know.
    """
    apart = set(site_browser.without_repeats(site.pages, lambda p: p.startswith("_modules/")))

    def seen(path, phone):
        width = site_browser.PHONE if phone else site_browser.DESKTOP
        site_browser.look(browser, width, dark=phone)
        opened = visit(browser, f"{address}/{path}")
        browser.execute_script(AT_ONCE)
        answers = {}
        if not path.startswith("_modules/"):  # the folds before the tables: these leave them open
            asked = {"folds": FOLDS, "width": WIDTH, "stops": STOPS, "nameless": NAMELESS}
            asked |= {"drawn": DRAWN, "copies": COPIES}
            answers = {name: browser.execute_script(script) for name, script in asked.items()}
            if phone:  # a usual one
                site_browser.look(browser, 414, dark=True)
            answers["tables"] = browser.execute_script(TABLES)
            if phone:
                site_browser.look(browser, width, dark=True)
            else:
                answers["printed"] = browser.execute_script(PRINTED)
                answers["white"] = in_the_dark(browser)
        return Seen(opened, answers, site_browser.faults(browser) if path in apart else None)

    @functools.cache
    def once(phone):
        try:
            pages = apart if phone else site.pages
            return {path: seen(path, phone) for path in site.pages if path in pages}
        finally:
            site_browser.look_as_usual(browser)

    return once


def answers(pages, name):
    """{page: its answer}, but for listings."""
    found = {path: page.answers[name] for path, page in pages.items() if page.answers}
    assert len(found) > len(CHAPTERS)
    return found


def test_every_page_opens_without_error_and_without_network(site, walk):
    pages = walk(False)
    assert set(pages) == set(site.pages)
    for path, page in [*pages.items(), *walk(True).items()]:
        seen = page.visit
        assert not seen.errors, path
        assert seen.requests and not checks.outside_requests(seen.requests), path
        assert not seen.maths["raw"] and not seen.maths["errors"], (path, seen.maths)
    assert sum(page.visit.maths["formulas"] for page in pages.values()) > 100


def test_maths_has_all_that_its_menu_offers_and_no_other_bundle(site, address, browser):
    """A reader may ask MathJax for another renderer, or for speech: these parts load later."""
    bundles = (site.folder / "_static" / "mathjax").glob("*.js")
    assert [path.name for path in bundles] == ["tex-chtml.js"]
    load = "const done = arguments[1]; MathJax.loader.load(arguments[0]).then(() => done(''), (e) => done(`${e}`))"
    visit(browser, f"{address}/book/03_equituning.html")
    for part in ["output/svg", "a11y/semantic-enrich", "a11y/explorer"]:
        assert not browser.execute_async_script(load, part)
    assert browser.execute_async_script(load, "output/gone")


#: How wide a page is, with all that hangs over.
WIDTH = "return document.documentElement.scrollWidth"


def test_no_page_is_wider_than_a_phone(walk):
    """Wide tables and code scroll in their own boxes."""
    wide = answers(walk(True), "width")
    assert not {path: width for path, width in wide.items() if width > site_browser.PHONE}


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_every_page_is_accessible(walk, phone):
    """Contrast, alt texts, names of controls, ...: by axe-core, on a desk by day, a phone at night."""
    found = {path: page.faults for path, page in walk(phone).items() if page.faults is not None}
    assert len(found) > len(CHAPTERS)
    assert not {path: some for path, some in found.items() if some}


#: Words that a reader would look for, and a page that must be among those found.
SOUGHT = {
    "Reynolds": "book/glossary.html",
    "equizero": "book/08_lambda.html",
    "EquiLM": "book/07_fairness.html",
    "Cayley table": "book/01_groups_and_actions.html",
    "Burnside": "book/04_heads_and_sharing.html",
    "checkpointing": "book/12_cost.html",
    "Hymenoptera": "book/13_scoreboard.html",
}


def pages_found(browser, address: str, words: str, most: int | None = None) -> list[str]:
    """What the site's own search finds, the best first: all, or as soon as they are there, the first."""
    browser.get(f"{address}/search.html?q={quote(words)}")
    links = browser.execute_async_script(
        """
        const [most, done] = arguments;
        const look = () => {
          const said = document.querySelector("#search-results .search-summary")?.textContent ?? "";
          const found = [...document.querySelectorAll("#search-results li a")].map((a) => a.pathname);
          if (/found|did not match/.test(said) || (most && found.length >= most)) done(found);
          else setTimeout(look, 50);
        };
        look();
        """,
        most,
    )
    return [link.lstrip("/") for link in links][:most]


def test_search_finds_the_terms(site, address, browser):
    found = {words: pages_found(browser, address, words) for words in SOUGHT}
    assert not {words for words, page in SOUGHT.items() if page not in found[words]}
    assert not pages_found(browser, address, "xylophone")


def explained():
    """{term of the glossary: the chapter that it sends to}, as the site's own extension reads it."""
    file = ROOT / "book" / "_ext" / "signposts.py"
    spec = importlib.util.spec_from_file_location("signposts", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.explained((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))


def test_the_glossary_sends_to_chapters_that_have_the_term():
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(\w\S*(?: \S+)*)\n  ", glossary, re.M)
    found = explained()
    assert set(found) == {term.lower() for term in terms} and len(found) > 40
    for term, chapter in found.items():
        text = markdown(ROOT / "book" / f"{chapter}.ipynb").lower().replace("λ", "lambda")
        text = re.sub(r"[-\s*]+", " ", text)
        assert re.sub(r"[-\s]+", " ", term) in text, (term, chapter)


#: Words of no glossary entry, or of a part of one, and the chapter that a reader hopes for.
HOPED = {
    "lambda": "book/08_lambda.html",
    "CLIP": "book/09_clip.html",
    "SCAN": "book/06_scan.html",
    "fairness": "book/07_fairness.html",
    "checkpointing": "book/12_cost.html",
    "Burnside": "book/01_groups_and_actions.html",
}


def test_search_finds_the_chapter_that_explains_a_term_among_the_first_three(
    site, address, browser
):
    wanted = {term: f"book/{chapter}.html" for term, chapter in explained().items()} | HOPED
    found = {words: pages_found(browser, address, words, 3) for words in wanted}
    assert not {words: found[words] for words, page in wanted.items() if page not in found[words]}


#: The first slider of a page: which frames and controls are to be seen, and how the focus is shown.
SLIDER = """
const seen = (e) => e.getClientRects().length > 0;
const root = document.querySelector(".equitutor-slider");
const frames = [...root.querySelector(".equitutor-frames").children];
const style = getComputedStyle(document.activeElement);
return {
  frames: frames.map(seen),
  controls: seen(root.querySelector(".equitutor-controls")),
  said: root.querySelector("output").textContent,
  focus: document.activeElement.type ?? "",
  outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
  width: root.scrollWidth,
};
"""


def test_a_slider_moves_by_the_keyboard(site, address, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()
        return browser.execute_script(SLIDER)

    site_browser.look(browser, site_browser.PHONE)
    visit(browser, f"{address}/book/02_why_not_equivariant.html")
    start = browser.execute_script(SLIDER)
    assert start["controls"] and start["frames"].count(True) == 1
    assert start["width"] <= site_browser.PHONE
    browser.execute_script("document.querySelector('.equitutor-slider button').focus()")
    on_range = press(Keys.TAB)
    assert on_range["focus"] == "range" and on_range["outline"] >= 2
    moved = press(Keys.ARROW_RIGHT)
    assert moved["said"] != start["said"]
    assert moved["frames"].index(True) == start["frames"].index(True) + 1
    assert press(Keys.ARROW_LEFT)["frames"] == start["frames"]
    site_browser.look_as_usual(browser)


#: Formulas of which the point after, or the bracket before, stands on another line, in as narrow a column as can be.
LOOSE = """
for (const p of document.querySelectorAll(".bd-article :is(p, li)")) p.style.width = "1px";
const place = (node, at) => {
  const range = document.createRange();
  range.setStart(node, at < 0 ? node.length - 1 : 0);
  range.setEnd(node, at < 0 ? node.length : 1);
  return range.getBoundingClientRect();
};
const text = (node, marks) => node?.nodeType === Node.TEXT_NODE && marks.test(node.data);
const pairs = [...document.querySelectorAll(".bd-article :is(p, li) span.math")].flatMap((formula) => {
  const { previousSibling: before, nextSibling: after } = formula;
  const here = formula.querySelector("mjx-container").getBoundingClientRect();
  return [
    ...(text(after, /^[.,;:!?)]/) ? [[here, place(after, 0)]] : []),
    ...(text(before, /[(]$/) ? [[here, place(before, -1)]] : []),
  ];
});
const apart = ([formula, mark]) => {
  const middle = (mark.top + mark.bottom) / 2;
  return middle < formula.top - 6 || middle > formula.bottom + 6;
};
return [pairs.filter(apart).length, pairs.length];
"""
#: Figures: how wide each is drawn, what it has, the room, and whether it is reached by the keyboard.
FIGURES = """
return [...document.querySelectorAll(".bd-article .cell_output img")].map((image) => ({
  width: image.clientWidth,
  natural: image.naturalWidth,
  room: image.parentElement.clientWidth,
  reached: image.parentElement.tabIndex,
})).filter((figure) => figure.width);
"""


# -- controls: each does what it says -----------------------------------------------------------

#: What is seen of the two side bars, and where the focus is.
BARS = """
const shown = (bar) => getComputedStyle(bar).visibility === "visible" && bar.getBoundingClientRect().width > 0;
return {
  bars: ["primary", "secondary"].map((kind) => shown(document.getElementById(`pst-${kind}-sidebar`))),
  dialog: document.querySelector("dialog[open]")?.id ?? "",
  focus: document.activeElement.className,
  inside: document.activeElement.closest("dialog")?.id ?? "",
};
"""


def bars(browser):
    """The side bars, once they have come to rest."""
    before = browser.execute_script(BARS)
    for look in range(40):
        time.sleep(0.05)
        now = browser.execute_script(BARS)
        if now == before and look > 6:
            break
        before = now
    return now


def visible(browser, selector):
    (found,) = [e for e in browser.find_elements("css selector", selector) if e.is_displayed()]
    return found


@pytest.fixture(params=[(1280, False), (1280, True), (414, False), (414, True)], ids=str)
def screen(request, browser):
    site_browser.look(browser, *request.param)
    yield request.param[0]
    site_browser.look_as_usual(browser)


def test_the_menu_opens_and_closes_the_side_bar(site, address, browser, screen):
    from selenium.webdriver.common.keys import Keys

    visit(browser, f"{address}/book/05_images.html")
    button = visible(browser, "button.primary-toggle")
    assert button.accessible_name == "Site navigation"
    wide = screen > 1000
    assert bars(browser)["bars"][0] == wide
    button.click()
    seen = bars(browser)
    if wide:
        assert not seen["bars"][0] and button.get_attribute("aria-expanded") == "false"
        button.send_keys(Keys.ENTER)  # by the keyboard as well
        seen = bars(browser)
        assert seen["bars"][0] and button.get_attribute("aria-expanded") == "true"
    else:
        assert seen["dialog"] == seen["inside"] == "pst-primary-sidebar-modal"
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        seen = bars(browser)
        assert not seen["dialog"]
    assert "primary-toggle" in seen["focus"]


def test_the_contents_button_of_a_phone(site, address, browser):
    from selenium.webdriver.common.keys import Keys

    site_browser.look(browser, 414)
    try:
        visit(browser, f"{address}/book/05_images.html")
        visible(browser, "button.secondary-toggle").click()
        assert bars(browser)["inside"] == "pst-secondary-sidebar-modal"
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        seen = bars(browser)
        assert not seen["dialog"] and "secondary-toggle" in seen["focus"]
    finally:
        site_browser.look_as_usual(browser)


def test_the_theme_switch_and_the_search_button(site, address, browser, screen):
    from selenium.webdriver.common.keys import Keys

    visit(browser, f"{address}/book/05_images.html")
    seen = [browser.execute_script("return document.documentElement.dataset.mode")]
    for _ in range(3):
        visible(browser, ".theme-switch-button").click()
        seen.append(browser.execute_script("return document.documentElement.dataset.mode"))
    assert seen[0] == seen[3] and set(seen) == {"auto", "light", "dark"}
    found = [b for b in browser.find_elements("css selector", ".search-button") if b.is_displayed()]
    (found or [visible(browser, ".search-button-field")])[0].click()
    assert bars(browser)["inside"] == "pst-search-dialog"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not bars(browser)["dialog"]


#: Of each fold, whether it opens or closes when it is clicked, and is as before after a second click.
FOLDS = """
return [...document.querySelectorAll(".bd-article details")].map((fold) => {
  const before = fold.open;
  fold.querySelector("summary").click();
  const between = fold.open;
  fold.querySelector("summary").click();
  return before !== between && fold.open === before;
});
"""


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_every_fold_opens_and_closes(walk, phone):
    found = answers(walk(phone), "folds")
    assert not [path for path, done in found.items() if not all(done)]
    assert sum(map(len, found.values())) > 30


def dropdown(browser, name):
    """The items of a menu of the page's header, once it is open; by the mouse, then by the keyboard."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    button = visible(browser, f".dropdown-{name}-buttons > button")
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    items = browser.find_elements("css selector", f".dropdown-{name}-buttons .dropdown-item")
    assert items and all(item.is_displayed() for item in items)
    button.send_keys(Keys.ESCAPE)
    ActionChains(browser).move_to_element(visible(browser, ".bd-article h1")).perform()
    assert not any(item.is_displayed() for item in items)  # nor does the mouse keep it open
    button.send_keys(Keys.ENTER)
    assert all(item.is_displayed() for item in items)
    return items


def test_the_menus_of_a_chapter(site, address, browser, screen):
    """Colab, the repository, and downloads; that of the notebook leads to a file."""
    visit(browser, f"{address}/book/05_images.html")
    (colab,) = dropdown(browser, "launch")
    assert colab.get_attribute("href").endswith("/book/05_images.ipynb")
    (_, issue) = dropdown(browser, "source")
    assert "/issues/new" in issue.get_attribute("href")
    download, print_ = dropdown(browser, "download")
    file = download.get_attribute("href").removeprefix(address).lstrip("/")
    assert file.endswith("05_images.ipynb") and (site.folder / file).is_file()
    browser.execute_script("window.print = () => { window.printed = true; }")
    print_.click()
    assert browser.execute_script("return window.printed")


def test_full_screen(site, address, browser, screen):
    full = "return document.fullscreenElement !== null"
    visit(browser, f"{address}/book/05_images.html")
    for wanted in (True, False):
        visible(browser, ".btn-fullscreen-button").click()
        assert soon(lambda wanted=wanted: browser.execute_script(full) == wanted)


def test_a_copy_button_copies_its_code(site, address, browser, screen):
    from selenium.webdriver.common.action_chains import ActionChains

    origin = {"origin": address, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", origin)
    visit(browser, f"{address}/book/01_groups_and_actions.html")
    read = (
        "const done = arguments[0]; navigator.clipboard.readText().then(done, (e) => done(`${e}`))"
    )
    for cell in browser.find_elements("css selector", "div.cell_input div.highlight")[:2]:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
        ActionChains(browser).move_to_element(cell).perform()
        cell.find_element("css selector", "button.copybtn").click()
        code = cell.find_element("css selector", "pre").text
        assert soon(lambda code=code: browser.execute_async_script(read).split() == code.split())


def test_a_slider_moves_by_the_mouse(site, address, browser, screen):
    from selenium.webdriver.common.action_chains import ActionChains

    visit(browser, f"{address}/book/05_images.html")
    start = browser.execute_script(SLIDER)
    assert start["frames"].index(True) == 0
    control = browser.find_element("css selector", ".equitutor-slider input")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", control)
    end = control.size["width"] // 2 - 3  # from its middle
    ActionChains(browser).move_to_element_with_offset(control, end, 0).click().perform()
    moved = browser.execute_script(SLIDER)
    assert moved["frames"].index(True) == len(moved["frames"]) - 1
    assert moved["said"] != start["said"] and moved["frames"].count(True) == 1
    play = browser.find_element("css selector", ".equitutor-slider button")
    play.click()
    # It plays, and begins again after the last.
    assert soon(lambda: browser.execute_script(SLIDER)["said"] != moved["said"])
    play.click()
    stopped = browser.execute_script(SLIDER)["said"]
    time.sleep(0.7)
    assert browser.execute_script(SLIDER)["said"] == stopped


def test_search_by_the_button(site, address, browser, screen):
    """The field has the focus, and Enter leads to what was found."""
    from selenium.webdriver.common.keys import Keys

    visit(browser, f"{address}/book/05_images.html")
    found = [b for b in browser.find_elements("css selector", ".search-button") if b.is_displayed()]
    (found or [visible(browser, ".search-button-field")])[0].click()
    assert bars(browser)["inside"] == "pst-search-dialog"
    browser.switch_to.active_element.send_keys("Burnside", Keys.ENTER)
    assert soon(lambda: "/search.html?q=Burnside" in browser.current_url)
    links = soon(lambda: browser.find_elements("css selector", "#search-results li a"))
    page = links[0].get_attribute("href").partition("?")[0]
    assert page.startswith(f"{address}/book/0")  # a chapter, before the API's pages
    links[0].click()
    assert browser.current_url.startswith(page)


#: Tables: how much of each is to be seen, and where its first and its verdict column end.
TABLES = """
for (const fold of document.querySelectorAll(".bd-article details")) fold.open = true;
for (const cell of document.querySelectorAll(".tag_hide-input, .tag_hide-cell")) cell.querySelector("details")?.setAttribute("open", "");
return [...document.querySelectorAll(".bd-article table")].filter((t) => t.clientWidth).map((table) => {
  const heads = [...table.querySelectorAll("thead th")].map((th) => th.textContent.trim());
  const end = (column) => Math.max(0, ...[...table.querySelectorAll("tbody tr")].map(
    (row) => row.children[column]?.getBoundingClientRect().right ?? 0));
  const caption = table.querySelector("caption")?.getBoundingClientRect();
  return {
    heads,
    caption: caption?.right ?? 0,
    cut: table.scrollWidth - table.clientWidth,
    first: end(0),
    verdict: heads.includes("verdict") ? end(heads.indexOf("verdict")) : 0,
  };
});
"""


def test_every_column_is_on_a_desk(walk):
    found = answers(walk(False), "tables")
    cut = {path: [t["heads"] for t in some if t["cut"] > 1] for path, some in found.items()}
    assert not {path: heads for path, heads in cut.items() if heads}
    assert sum(map(len, found.values())) > 30


def test_the_first_and_the_verdict_column_are_on_a_phone(walk):
    found = answers(walk(True), "tables")
    for path, some in found.items():
        for table in some:
            assert 0 < table["first"] <= 414 and table["verdict"] <= 414, (path, table)
            assert table["caption"] <= 414, (path, table)  # nor does it scroll with its table
    assert any(table["verdict"] for table in found["book/13_scoreboard.html"])


#: Figures: how each is drawn and numbered.
DRAWN = """
return [...document.querySelectorAll(".bd-article .cell_output img")].filter(
  (image) => image.clientWidth && !image.closest(".equitutor-explorer")
).map((image) => ({
  alt: image.alt,
  shrunk: image.clientWidth < image.naturalWidth - 1,
  number: image.closest("figure")?.querySelector(".caption-number")?.textContent ?? "",
  slider: Boolean(image.closest(".equitutor-slider")),
}));
"""


def test_figures_are_numbered_and_as_wide_as_they_were_drawn(walk):
    """So that their letters are those they were drawn with; none scrolls on a desk."""
    count = 0
    for path, figures in answers(walk(False), "drawn").items():
        if number := re.match(r"book/(\d+)_", path):
            for figure in figures:
                assert not figure["shrunk"], (path, figure)
                start = f"Fig. {int(number[1])}."
                assert figure["slider"] or figure["number"].startswith(start), figure
                count += 1
    assert count > 30


def test_the_scoreboard_opens_with_its_summary(site, address, browser):
    """On a laptop's first screen; then the numbers, and what nobody has run is one closed fold."""
    script = """
    const tables = [...document.querySelectorAll(".bd-article table")];
    const fold = document.querySelector(".bd-article .cell_output .text_html > details");
    return {
      captions: tables.slice(0, 2).map((t) => t.querySelector("caption").textContent),
      end: tables[0].getBoundingClientRect().bottom,
      before: [...document.querySelectorAll(".bd-article .cell_output")].filter((o) => o.checkVisibility())[0].contains(tables[0]),
      rows: tables[1].querySelectorAll("tbody tr").length,
      links: [...tables[1].querySelectorAll("tbody tr")].map((r) => r.querySelectorAll("a").length),
      closed: !fold.open,
      inside: fold.querySelectorAll("li").length,
      spread: [...document.querySelectorAll(".bd-article td")].filter((td) => td.textContent === "not yet run").length,
    };
    """
    site_browser.look(browser, site_browser.DESKTOP)
    visit(browser, f"{address}/book/13_scoreboard.html")
    seen = browser.execute_script(script)
    site_browser.look_as_usual(browser)
    assert 0 < seen["end"] <= 800
    assert seen["captions"][0].startswith("Published numbers") and seen["before"]
    assert seen["rows"] and all(n >= 2 for n in seen["links"])
    assert seen["closed"] and seen["inside"] > 3 and not seen["spread"]


QUIZ = re.compile(
    r"\*\*Two questions\.\*\* \*First:\*.+?\?\n\n"
    r"<details><summary>The first answer</summary>\n\n.+?\n\n</details>\n\n"
    r"\*Second:\*.+?\?\n\n<details><summary>The second answer</summary>\n\n.+?\n\n</details>",
    re.S,
)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_asks_two_questions_where_an_idea_is_easily_missed(chapter):
    text = markdown(ROOT / chapter)
    assert len(QUIZ.findall(text)) == text.count("**Two questions.**") >= 1
    for quiz in QUIZ.finditer(text):  # at the end of a section, and before the exercises
        assert "## Exercises" not in text[: quiz.start()]


def sheets(browser, address) -> int:
    """How many sheets of A4 a page prints on."""
    browser.get(address)
    how = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
    printed = browser.execute_cdp_cmd("Page.printToPDF", how)["data"]
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", base64.b64decode(printed)))


def test_the_cheat_sheet_prints_on_one_sheet(site, address, browser):
    assert sheets(browser, f"{address}/book/cheat_sheet.html") == 1
    assert sheets(browser, f"{address}/book/glossary.html") > 1


#: What a slide shows: its heading, how many blocks beside it, its scale, and whether it is higher than the screen.
SLIDE = """
const page = document.querySelector(".bd-article"), seen = [...page.querySelectorAll(".slides-now")];
const shown = seen.filter((e) => e.checkVisibility());
return {heading: /^H[1-6]$/.test(shown[0]?.tagName), blocks: shown.length - 1, all: seen.length - 1,
        zoom: Number(page.style.zoom), high: page.getBoundingClientRect().height > window.innerHeight,
        count: document.querySelector(".slides-count").textContent,
        beside: [...document.querySelectorAll("footer, .bd-sidebar-primary")].some((e) => e.checkVisibility())};
"""
TEXT = "return document.querySelector('.bd-article').textContent"


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if re.match(r"book/(0\d|10)_", c)])
def test_a_chapter_is_shown_as_slides(site, address, browser, chapter):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key):
        ActionChains(browser).send_keys(key).perform()

    visit(browser, f"{address}/{chapter.removesuffix('.ipynb')}.html")
    text, page = browser.execute_script(TEXT), browser.current_url
    visible(browser, "a[href='#slides']").click()
    slides = [browser.execute_script(SLIDE)]
    count = int(slides[0]["count"].split("/")[1])
    while len(slides) < count:
        press(Keys.ARROW_RIGHT)
        slides.append(browser.execute_script(SLIDE))
    assert [s["count"] for s in slides] == [f"{k} / {count}" for k in range(1, count + 1)]
    assert count >= 15 and browser.current_url == f"{page}#slides"
    for slide in slides:
        assert slide["heading"] and slide["blocks"] == slide["all"] >= 1 and not slide["beside"]
        assert slide["zoom"] >= 0.5 and (slide["zoom"] == 0.5 or not slide["high"])
    press(Keys.HOME)
    press(Keys.ARROW_LEFT)  # there is nothing before the first
    assert browser.execute_script(SLIDE)["count"] == f"1 / {count}"
    press(Keys.ESCAPE)
    assert browser.current_url == page and browser.execute_script(TEXT) == text
    assert visible(browser, ".bd-sidebar-primary") and not browser.find_elements(
        "css selector", ".slides-count"
    )


def test_what_is_no_chapter_has_no_slides(site, address, browser):
    visit(browser, f"{address}/book/glossary.html#slides")
    assert not browser.find_elements("css selector", "a[href='#slides'], .slides-count")


def test_the_arrows_turn_the_pages(site, address, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def arrow(key, seconds=30):
        before = browser.current_url
        ActionChains(browser).send_keys(key).perform()
        soon(lambda: browser.current_url != before, seconds)
        return browser.current_url.rpartition("/")[2].partition("#")[0]

    visit(browser, f"{address}/book/05_images.html")
    assert arrow(Keys.ARROW_RIGHT) == "06_scan.html"
    visit(browser, browser.current_url)
    assert arrow(Keys.ARROW_LEFT) == "05_images.html"
    visit(browser, browser.current_url)
    browser.execute_script(
        "document.querySelector('.bd-article table, .bd-article pre').tabIndex = 0;"
    )
    browser.execute_script("document.querySelector('.bd-article table, .bd-article pre').focus()")
    assert arrow(Keys.ARROW_RIGHT, 2) == "05_images.html"  # it scrolls what has the focus


def test_a_slider_is_dark_on_a_dark_page(site, address, browser):
    colours = """
    const slider = document.querySelector(".equitutor-slider"), seen = getComputedStyle(slider);
    const caption = getComputedStyle(slider.querySelector(":scope > figcaption"));
    return [seen.backgroundColor, seen.color, caption.color, getComputedStyle(document.body).color];
    """
    try:
        for dark in (False, True):
            site_browser.look(browser, site_browser.DESKTOP, dark)
            visit(browser, f"{address}/book/05_images.html")
            ground, text, caption, body = browser.execute_script(colours)
            assert text == caption
            assert (ground == "rgba(0, 0, 0, 0)" and text == body) == dark
    finally:
        site_browser.look_as_usual(browser)


def test_a_mistake_is_reported_from_its_page(site):
    for chapter in CHAPTERS:
        page = site.pages[chapter.replace(".ipynb", ".html")]
        (link,) = re.findall(r'href="(https://[^"]*/issues/new[^"]*)"', page)
        assert link.startswith(PROJECT["urls"]["Repository"]) and chapter.split(".")[0] in link


#: Stops of the keyboard in formulas; buttons without a name; whether all that copy have one.
STOPS = """
return [...document.querySelectorAll("mjx-container, mjx-container *")].filter((e) => e.tabIndex >= 0).length;
"""
NAMELESS = """
return [...document.querySelectorAll("button")].filter(
  (b) => !(b.textContent.trim() || b.getAttribute("aria-label") || b.title)
).map((b) => b.outerHTML);
"""
COPIES = """return [...document.querySelectorAll(".copybtn")].every((b) => b.ariaLabel)"""


def test_what_the_keyboard_meets(walk):
    """Links and buttons, each with a name; formulas are read in their place and are no stops."""
    pages = walk(False)
    for name, wrong in [("stops", bool), ("nameless", bool), ("copies", lambda named: not named)]:
        assert not [path for path, found in answers(pages, name).items() if wrong(found)], name


def test_solutions_are_folded_whole():
    """Code and output: what comes out is half of the answer."""
    count = 0
    for path in CHAPTERS:
        for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]:
            if "".join(cell["source"]).startswith("# @title Solution"):
                assert cell["metadata"].get("tags") == ["hide-cell"], (path, cell["source"][0])
                count += 1
    assert count > 30


def test_a_point_stays_with_its_formula(site, address, browser):
    visit(browser, f"{address}/book/03_equituning.html")
    loose, pairs = browser.execute_script(LOOSE)
    assert loose == 0 and pairs > 20
    undone = "for (const s of document.querySelectorAll('.equitutor-kept')) s.className = '';"
    browser.execute_script(undone)
    assert browser.execute_script(LOOSE)[0] > 10


def test_an_option_stays_whole(site, address, browser):
    """A line of a command does not end with the two dashes that begin the next."""
    broken = """
    const lines = (node) => { const range = document.createRange(); range.selectNodeContents(node); return range.getClientRects().length; };
    const codes = document.querySelectorAll(".bd-article code");
    for (const code of codes) code.parentElement.style.width = "1px";
    const options = [...codes].flatMap((code) => [...code.querySelectorAll(".equitutor-kept")]);
    return [options.filter((option) => lines(option) > 1).length, options.length];
    """
    visit(browser, f"{address}/book/09_clip.html")
    cut, count = browser.execute_script(broken)
    assert cut == 0 and count > 3
    loose = ".equitutor-kept { white-space: normal !important; overflow-wrap: anywhere; }"
    undone = "document.head.append(Object.assign(document.createElement('style'), {textContent: arguments[0]}))"
    browser.execute_script(undone, loose)
    assert browser.execute_script(broken)[0] > 0


#: Which of the elements whose text matches are broken into lines, and how many match.
PIECES = """
const [cells, pattern] = arguments;
const lines = (node) => { const range = document.createRange(); range.selectNodeContents(node); return range.getClientRects().length; };
const all = [...document.querySelectorAll(cells)].filter((e) => e.clientWidth && RegExp(pattern).test(e.textContent));
return [all.filter((e) => lines(e) > 1).map((e) => e.textContent), all.length];
"""


def test_a_number_stays_with_its_spread(site, address, browser):
    cells, spread = ".bd-article .cell_output td", r"^\d+\.\d+ \(\d+\.\d+\)$"
    site_browser.look(browser, site_browser.DESKTOP)
    try:
        visit(browser, f"{address}/book/06_scan.html")  # whose tables all have the room
        broken, count = browser.execute_script(PIECES, cells, spread)
        assert count > 10 and not broken
        undone = "document.querySelectorAll('table').forEach((t) => t.classList.remove('equitutor-roomy'))"
        browser.execute_script(undone)
        assert browser.execute_script(PIECES, cells, spread)[0]
    finally:
        site_browser.look_as_usual(browser)


def test_a_name_stays_in_one_piece(site, address, browser):
    visit(browser, f"{address}/book/09_clip.html")
    browser.execute_script(
        "for (const t of document.querySelectorAll('.bd-article table')) t.style.width = '1px'"
    )
    heads, name = ".bd-article tbody th", "^λ-.?equitune$"
    broken, count = browser.execute_script(PIECES, heads, name)
    assert count > 5 and not broken
    browser.execute_script(
        "for (const e of document.querySelectorAll('tbody th')) e.textContent = e.textContent.replace('\u2060', '')"
    )
    assert browser.execute_script(PIECES, heads, name)[0]


def test_the_heads_of_a_data_frame_stand_over_their_columns(site, address, browser):
    script = """
    return [...document.querySelectorAll("table.dataframe")].map((table) => {
      const side = (e) => e && getComputedStyle(e).textAlign;
      return [...table.querySelectorAll("thead th, tbody td")].map(side);
    });
    """
    visit(browser, f"{address}/book/02_why_not_equivariant.html")
    frames = browser.execute_script(script)
    assert frames and all(len(set(sides)) == 1 for sides in frames)


#: Boxes with a light ground: pictures aside, and the frames of sliders.
WHITE = """
const light = (e) => {
  const [r, g, b, a = 1] = getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number);
  return Math.min(r, g, b) > 180 && a > 0.5 && e.clientWidth * e.clientHeight > 100;
};
return [...document.querySelectorAll(".bd-article *")]
  .filter((e) => !e.closest(".equitutor-slider, svg, img") && light(e))
  .map((e) => `${e.tagName}.${e.className}`);
"""


def test_nothing_is_white_in_the_dark(walk, site, address, browser):
    found = answers(walk(False), "white")
    assert not {path: some[:5] for path, some in found.items() if some}
    visit(browser, f"{address}/book/intro.html")
    browser.execute_script(AT_ONCE)
    whiten = "document.querySelector('.bd-article p').style.background = 'white'"
    browser.execute_script(whiten)
    assert in_the_dark(browser) == ["P."]
    site_browser.look_as_usual(browser)


def test_folds_say_what_they_hold(site):
    """The theme's own words, "Show code cell content", say nothing."""
    vague = "code cell (content|source|output)"
    assert not [p for p, page in site.pages.items() if re.search(vague, page)]
    assert re.search(vague, "Show code cell content")


def test_source_pages_are_of_this_package(site):
    names = [path for path in site.pages if path.startswith("_modules/")]
    assert len(names) > 20
    assert all(path.startswith(("_modules/equitutor", "_modules/index.html")) for path in names)


#: Of what cells print, and of formulas, those that are cut off, and how many there are.
PRINTED = """
for (const fold of document.querySelectorAll(".bd-article details")) fold.open = true;
const all = [...document.querySelectorAll(".bd-article :is(pre, div.math, mjx-container[display])")].filter((e) => e.clientWidth);
return [all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent), all.length];
"""


def test_what_a_cell_prints_is_on_a_desk_to_the_end_of_its_lines(walk):
    for path, (cut, count) in answers(walk(False), "printed").items():
        if path != "book/api.html":
            assert not cut, (path, cut)
            assert count or path.replace(".html", ".ipynb") not in CHAPTERS, path


def test_figures_are_not_too_small_on_a_phone(site, address, browser):
    site_browser.look(browser, site_browser.PHONE)
    visit(browser, f"{address}/book/06_scan.html")
    figures = browser.execute_script(FIGURES)
    site_browser.look_as_usual(browser)
    assert figures
    for figure in figures:
        assert figure["width"] >= 0.54 * figure["natural"], figure
        assert (figure["reached"] == 0) == (figure["width"] > figure["room"]), figure
    assert any(figure["width"] > figure["room"] for figure in figures)


def test_figures_of_a_column_fit_a_usual_phone(site, address, browser):
    site_browser.look(browser, 414)
    visit(browser, f"{address}/book/12_cost.html")
    figures = browser.execute_script(FIGURES)
    site_browser.look_as_usual(browser)
    assert figures and all(figure["width"] <= figure["room"] for figure in figures)


def test_without_scripts_a_slider_is_a_picture(site, address, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{address}/book/02_why_not_equivariant.html")
        slider = browser.execute_script(SLIDER)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert all(slider["frames"]) and len(slider["frames"]) > 3
    assert not slider["controls"]


@pytest.mark.skipif(
    not hasattr(ipywidgets.Widget, "_repr_mimebundle_"),
    reason="before 8, ipywidgets asks for no page",
)
def test_a_widget_that_needs_a_kernel_is_a_picture(site):
    page = site.pages["book/07_fairness.html"]
    assert page.count('class="equitutor-explorer"') == 1
    assert not [path for path, html in site.pages.items() if "jupyter.widget-view" in html]


# -- the checkers, each against something wrong -----------------------------------------------


AMISS = """
<div class="bd-article">
  <details><summary onclick="return false">it does not open</summary></details>
  <button></button> <button class="copybtn">copy</button> <mjx-container tabindex="0">x</mjx-container>
  <pre style="width: 9px; overflow: auto">a long line</pre>
  <div style="width: 3000px">wide</div>
  <table style="display: block; width: 9px; overflow: auto"><tr><td>verylongword</td></tr></table>
  <div class="cell_output"><img alt="a disk" style="width: 9px" src="disk.svg"></div>
</div>
"""
DISK = """
<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle r="20"/></svg>
"""


@pytest.fixture
def wrong_site(tmp_path):
    """A small site with every fault that a browser can see."""
    pages = {
        "throws.html": "<script>throw new Error('broken on purpose')</script>",
        "fails.html": "<script src='missing.js'></script>",
        "asks.html": "<script src='http://cdn.invalid/x.js'></script>",
        "raw.html": "<span class='math'>\\(x\\)</span>",
        "hangs.html": "<script>MathJax = {startup: {promise: new Promise(() => {})}}</script>",
        "good.html": "<p>all is well</p>",
        "amiss.html": AMISS,
        "unreadable.html": "<main><img src='data:,'><button></button>"
        "<style>@media (prefers-color-scheme: dark) { p { color: #444; background: #222 } }"
        "</style><p>dark on dark, in the dark</p><b style='color: #bbb'>pale</b></main>",
    }
    for name, body in pages.items():
        text = f"<!doctype html><html lang=en><title>t</title><link rel=icon href='data:,'><body>{body}</body></html>"
        (tmp_path / name).write_text(text)
    (tmp_path / "disk.svg").write_text(DISK.strip())
    handler = functools.partial(_Silent, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_browser_sees_what_is_wrong(wrong_site, browser):
    assert "broken on purpose" in visit(browser, f"{wrong_site}/throws.html").errors[0]
    assert "404" in visit(browser, f"{wrong_site}/fails.html").errors[0]
    asked = visit(browser, f"{wrong_site}/asks.html").requests
    assert checks.outside_requests(asked) == ["http://cdn.invalid/x.js"]
    assert visit(browser, f"{wrong_site}/raw.html").maths["raw"] == ["\\(x\\)"]
    good = visit(browser, f"{wrong_site}/good.html")
    assert not good.errors and not checks.outside_requests(good.requests)


def test_what_a_page_is_asked_finds_what_is_amiss(wrong_site, browser):
    visit(browser, f"{wrong_site}/amiss.html")
    ask = browser.execute_script
    assert ask(FOLDS) == [False] and ask(WIDTH) >= 3000
    assert ask(STOPS) == 1 and ask(NAMELESS) == ["<button></button>"] and not ask(COPIES)
    assert [(figure["shrunk"], figure["number"]) for figure in ask(DRAWN)] == [(True, "")]
    assert [table["cut"] > 1 for table in ask(TABLES)] == [True]
    assert ask(PRINTED) == [["a long line"], 1]


def test_a_page_that_never_finishes_is_noticed(wrong_site, browser):
    """However patient we are with those that take long."""
    from selenium.common.exceptions import TimeoutException

    browser.set_script_timeout(1)
    try:
        with pytest.raises(TimeoutException):
            visit(browser, f"{wrong_site}/hangs.html")
    finally:
        browser.set_script_timeout(PATIENCE)


def test_what_comes_late_is_waited_for_and_what_never_comes_is_not():
    late = iter([0, "", "here", "gone"])
    assert soon(lambda: next(late)) == "here"
    assert soon(lambda: [], seconds=0.1) == []


def test_what_is_hard_to_read_is_found(wrong_site, browser):
    def found(page, dark):
        site_browser.look(browser, site_browser.DESKTOP, dark)
        visit(browser, f"{wrong_site}/{page}.html")
        return sorted(line.split(": ")[0] for line in site_browser.faults(browser))

    by_day = ["button-name at ['button']", "color-contrast at ['b']", "image-alt at ['img']"]
    assert found("unreadable", dark=False) == by_day
    assert "color-contrast at ['p']" in found("unreadable", dark=True)
    assert not found("good", dark=True)
    site_browser.look_as_usual(browser)


def test_listings_of_known_colours_are_left_out():
    pages = {
        "a": '<span class="k">',
        "_modules/b": '<span class="k"><span class="n">',
        "_modules/c": '<span class="n">',
        "_modules/d": '<span class="s1">',
        "e": "",
    }
    kept = site_browser.without_repeats(pages, lambda path: path.startswith("_modules"))
    assert list(kept) == ["a", "_modules/b", "_modules/d", "e"]


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://unpkg.com/x.js"></script>',
        '<script src="//cdn.com/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.com/x.css">',
        '<link rel="preload" as="font" href="https://fonts.com/x.woff2">',
        '<img src="http://pictures.com/x.png">',
        "<style>@import 'https://fonts.com/x.css';</style>",
        "<style>@font-face { src: url(https://fonts.com/x.woff2) }</style>",
        '<script type="module">import x from "https://unpkg.com/x.mjs"</script>',
    ],
)
def test_outside_resources_are_found(html):
    assert len(checks.outside_resources(html)) == 1


def test_links_to_read_and_local_files_are_no_resources():
    html = '<a href="https://a.org">a</a><img src="x.png"><img src="data:image/png;base64,AA">'
    assert not checks.outside_resources(html + '<link rel="canonical" href="https://a.org/x">')


def test_images_without_alt_are_found():
    html = '<img src="a"><img src="b" alt=" "><img src="c" alt="../_images/c3f.png">'
    assert checks.images_without_alt(html) == ["a", "b", "c"]
    assert not checks.images_without_alt('<img src="d" alt="Four bars. The last is longest.">')


def test_dead_links_are_found():
    pages = {
        "index.html": '<a href="book/a.html#there">1</a><a href="book/b.html">2</a>',
        "book/a.html": '<p id="there"></p><a href="#gone">3</a><a href="../index.html#no">4</a>'
        '<a href="../file.txt">5</a><a href="../other.txt">6</a><a href="https://x.org/y">7</a>',
    }
    assert checks.dead_links(pages, ["file.txt"]) == [
        "index.html: book/b.html",
        "book/a.html: #gone",
        "book/a.html: ../index.html#no",
        "book/a.html: ../other.txt",
    ]


@pytest.mark.parametrize(
    "path", ["blob/main/book/1.ipynb", "blob/v1/book/2.ipynb", "blob/v1/book/1.md"]
)
def test_wrong_colab_links_are_found(path):
    start = "https://colab.research.google.com/github/o/r/"
    arguments = ("https://github.com/o/r", "v1", ["book/1.ipynb"])
    wrong, right = (f'<a href="{start}{p}">Colab</a>' for p in (path, "blob/v1/book/1.ipynb"))
    assert checks.wrong_colab_links(wrong, *arguments) == [start + path]
    assert checks.wrong_colab_links(right + wrong, *arguments) == [start + path]
    assert checks.wrong_colab_links("<p>none</p>", *arguments) == ["no link to Colab"]
    assert not checks.wrong_colab_links(right, *arguments)


def test_wrong_citations_are_found():
    texts = {
        "a": "[A](bibliography.md#a) [B et al.](bibliography.md) [C](../bibliography.md#c)",
        "b": "see the [bibliography](bibliography)",
    }
    assert checks.wrong_citations(texts, ["a", "d"]) == [
        "a: [B et al.] leads to no entry",
        "a: [C] leads to c",
        "d is never cited",
    ]
    assert not checks.wrong_citations(texts | {"a": "[A](bibliography.md#a)"}, ["a"])


def test_megabytes(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_bytes(bytes(1_500_000))
    assert checks.megabytes(tmp_path) == 3.0


def test_warnings_are_found():
    said = "reading\na.md:3: WARNING: no such file\nb.py:1: ERROR: Undefined\nbuild succeeded."
    assert len(checks.warnings(said)) == 2
    assert not checks.warnings("reading\nbuild succeeded.")
