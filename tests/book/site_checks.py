"""What may be wrong with a page of the site: functions from HTML to a list of complaints."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADED = {  # where each element says what the browser is to load
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "image": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
LINKS_LOADED = {"stylesheet", "preload", "modulepreload", "icon", "prefetch", "manifest"}


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def elements(html: str, *names: str) -> list[tuple[str, dict[str, str]]]:
    """Elements of a page, as (name, attributes); of these names only, if any are given."""
    parser = _Elements()
    parser.feed(html)
    return [e for e in parser.found if not names or e[0] in names]


def is_outside(url: str, host: str = "") -> bool:
    """Whether a URL leads to another machine (or, with a host, to any but that one)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss", "ftp", ""):
        return False  # data and blob, or a page of the browser's own
    return bool(parts.netloc) and parts.hostname != host


def outside_requests(urls: Iterable[str], host: str = "127.0.0.1") -> list[str]:
    """Requests that went anywhere but to the host."""
    return [url for url in urls if is_outside(url, host)]


def outside_resources(html: str) -> list[str]:
    """Scripts, styles, fonts and images that a page loads from other machines."""
    found = []
    for name, attributes in elements(html):
        if name == "link" and LINKS_LOADED & set(attributes.get("rel", "").split()):
            found.append(attributes.get("href", ""))
        elif name in LOADED:
            found.append(attributes.get(LOADED[name], ""))
    # Also what a script or a style in the page would ask for.
    found += re.findall(
        r"""(?:@import|\bfrom|\bimport|url)\s*\(?\s*["']?(https?://[^"')\s]+)""", html
    )
    return [url for url in found if is_outside(url)]


def images_without_alt(html: str) -> list[str]:
    """Images with no alt text, or with nothing but a file's name in it, which is Sphinx's default."""
    wrong = []
    for _, attributes in elements(html, "img"):
        alt = attributes.get("alt", "").strip()
        if not alt or re.fullmatch(r"\S*[/.]\w+", alt):
            wrong.append(attributes.get("src", "")[:80])
    return wrong


def dead_links(pages: Mapping[str, str], files: Iterable[str] = ()) -> list[str]:
    """Internal links to no file or to no anchor.

    Parameters
    ----------
    pages : {path: html}, paths relative to the site's root
    files : paths of the other files there
    """
    anchors = {path: _anchors(html) for path, html in pages.items()}
    known = {*pages, *files}
    dead = []
    for path, html in pages.items():
        for _, attributes in elements(html, "a"):
            href = attributes.get("href", "")
            if not href or urlsplit(href).scheme or href.startswith("//"):
                continue
            target, anchor = urldefrag(unquote(href))
            folder = posixpath.dirname(path)
            target = posixpath.normpath(posixpath.join(folder, target)) if target else path
            missing = anchor and target in anchors and anchor not in anchors[target]
            if target not in known or missing:
                dead.append(f"{path}: {href}")
    return dead


def _anchors(html: str) -> set[str]:
    found = elements(html)
    names = {e["name"] for tag, e in found if tag == "a" and "name" in e}
    return names | {e["id"] for _, e in found if "id" in e} | {"", "top"}


def colab_links(html: str) -> list[str]:
    """The page's links to Colab."""
    links = (e.get("href", "") for _, e in elements(html, "a"))
    return [url for url in links if urlsplit(url).hostname == "colab.research.google.com"]


def wrong_colab_links(html: str, repository: str, tag: str, notebooks: Iterable[str]) -> list[str]:
    """Links to Colab that open something else than one of these notebooks at this tag.

    A page without any such link is wrong too.
    """
    start = repository.replace("https://github.com", "https://colab.research.google.com/github")
    right = {f"{start}/blob/{tag}/{path}" for path in notebooks}
    links = colab_links(html)
    return [url for url in links if url not in right] if links else ["no link to Colab"]


def wrong_citations(texts: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    """Citations that lead to no entry of the bibliography, or to none in particular, and entries without one.

    Parameters
    ----------
    texts : {name: markdown}
    keys : of the bibliography's entries
    """
    wrong, cited = [], set()
    for name, text in texts.items():
        for said, key in re.findall(
            r"\[([^\]]*)\]\([./]*bibliography(?:\.md)?(?:#([^)]*))?\)", text
        ):
            cited.add(key)
            if key not in set(keys) and said != "bibliography":
                wrong.append(f"{name}: [{said}] leads to {key or 'no entry'}")
    return wrong + [f"{key} is never cited" for key in keys if key not in cited]


def megabytes(folder: Path) -> float:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def warnings(output: str) -> list[str]:
    """The lines of a build's output that complain, in Sphinx's way or Python's.

    ("ERROR:tornado.general", without a space, is a kernel's socket closing late on a busy machine.)
    """
    return [
        line
        for line in output.splitlines()
        if re.search(r"\b(WARNING|ERROR|CRITICAL): |[Ww]arning\b", line)
    ]


def serious(log: Iterable[Mapping[str, str]]) -> list[str]:
    """What a browser's console calls an error: exceptions, failed requests."""
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]
