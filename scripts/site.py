"""Build the documentation site into the server's package, where the server reads `/docs/` from.

    .venv/bin/python scripts/site.py

The pages are docs/*.md and the documents of the repository's root; the navigation is that of
docs/README.md. Beside them: the references of the API (Swagger UI, from node_modules) and of the
sockets, `llms.txt`, and the content security policy that fits the pages. A link that leads nowhere
fails the build.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import sockets
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "docs"
ASSETS = ROOT / "site"
SWAGGER = ROOT / "node_modules" / "swagger-ui-dist"
SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "LICENSE")
#: Documents of the root that are pages as well.
DOCUMENTS = {
    "PROTOCOL.md": "protocol.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}

#: Links to what is in the repository alone.
_ELSEWHERE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)?(?:[a-z]+/[\w./-]*|[A-Z]+(?:\.md)?)(?:#[\w-]*)?\)"
)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="site: %(message)s")
    if not SWAGGER.is_dir():
        sys.exit("site: run `make setup` first: the API reference is in node_modules")
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    titles = _titles()
    for source, name in _sources():
        text = _links(source.read_text(encoding="utf-8"), titles)
        if name == "index.md":
            sections = text[text.index("\n## ") :]
            text = (ASSETS / "home.md").read_text(encoding="utf-8") + sections
        (PAGES / name).write_text(text, encoding="utf-8")
    protocol = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    (PAGES / "sockets.md").write_text(sockets.page(protocol), encoding="utf-8")
    for picture in [*(ROOT / "docs").glob("*.svg"), *(ROOT / "docs").glob("*.png")]:
        shutil.copy(picture, PAGES)
    shutil.copytree(ASSETS, PAGES / "assets", ignore=shutil.ignore_patterns("api.*", "home.md"))
    _copy_reference(PAGES / "api")
    config = load_config(str(ROOT / "mkdocs.yml"))
    config.nav = [*_navigation(), _reference()]
    config.copyright = f"Version {version('resonantgenesis-server')}"
    build(config)
    site = Path(config.site_dir)
    for page in PAGES.glob("*.md"):  # for llms.txt
        shutil.copy(page, site)
    (site / "404.html").unlink()  # its links are those of a site at the root
    (site / "llms.txt").write_text(_llms(str(config.site_description)), encoding="utf-8")
    (site / "policy.txt").write_text(_policy(site), encoding="utf-8")
    print(f"site: {len(list(site.rglob('*.html')))} pages in {site.relative_to(ROOT)}")


def _sources() -> list[tuple[Path, str]]:
    pages = [(page, page.name) for page in sorted((ROOT / "docs").glob("*.md"))]
    return [
        *((page, "index.md" if name == "README.md" else name) for page, name in pages),
        *((ROOT / source, name) for source, name in DOCUMENTS.items()),
    ]


def _titles() -> dict[str, str]:
    """The page of each title: docs name one another as *Title*."""
    return {
        page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "): page.name
        for page in (ROOT / "docs").glob("*.md")
        if page.name != "README.md"
    }


def _links(text: str, titles: dict[str, str]) -> str:
    """Make links of the repository links of the site, and titles links as well."""
    for source, name in DOCUMENTS.items():
        text = re.sub(rf"\]\((?:\.\./)?{re.escape(source)}", f"]({name}", text)
    text = re.sub(r"\]\(docs/README\.md", "](index.md", text)
    text = re.sub(r"\]\(docs/([\w-]+\.md)", r"](\1", text)
    text = _ELSEWHERE.sub(r"\1", text)
    # What stands behind a block's language is for the tests that run it.
    text = re.sub(r"^```(\w+) .*$", r"```\1", text, flags=re.MULTILINE)
    for title, name in titles.items():
        text = re.sub(rf"(?<![*\w])\*{re.escape(title)}\*(?!\*)", f"[{title}]({name})", text)
    return text


def _navigation() -> list[dict[str, list[dict[str, str]] | str]]:
    """The sections of docs/README.md with their pages; each page where it stands first."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    found: list[dict[str, list[dict[str, str]] | str]] = [{"Home": "index.md"}]
    seen: set[str] = set()
    for section in index.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        pages = [
            {title: name}
            for title, name in re.findall(r"^\| \[([^\]]+)\]\(([\w-]+\.md)\)", body, re.MULTILINE)
            if name not in seen
        ]
        seen.update(name for page in pages for name in page.values())
        if pages:
            found.append({heading: list(pages)})
    return found


def _reference() -> dict[str, list[dict[str, str]]]:
    return {
        "Reference": [
            {"HTTP API": "api/index.html"},
            {"Socket API": "sockets.md"},
            {"Wire protocol": "protocol.md"},
            {"Architecture": "architecture.md"},
            {"Contributing": "contributing.md"},
            {"Changelog": "changelog.md"},
        ]
    }


def _copy_reference(folder: Path) -> None:
    folder.mkdir()
    for name in SWAGGER_FILES:
        shutil.copy(SWAGGER / name, folder)
    shutil.copy(ASSETS / "api.html", folder / "index.html")
    shutil.copy(ASSETS / "api.js", folder)
    shutil.copy(ASSETS / "api.css", folder)


def _llms(description: str) -> str:
    """The list of pages for language models, after https://llmstxt.org: Markdown, as written."""
    lines = [f"# ResonantGenesis Streaming\n\n> {description}\n"]
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for section in index.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        rows = re.findall(r"^\| \[([^\]]+)\]\(([\w-]+\.md)\) \| (.+?) \|$", body, re.MULTILINE)
        if rows:
            lines.append(f"## {heading}\n")
            lines += [f"- [{title}](docs/{name}): {what}" for title, name, what in rows]
            lines.append("")
    lines.append("## Reference\n")
    lines.append("- [Wire protocol](docs/protocol.md): the contract between server and clients")
    lines.append("- [Socket API](docs/sockets.md): every message of the sockets, with its fields")
    lines.append("- [OpenAPI](openapi.json), [AsyncAPI](asyncapi.json)")
    return "\n".join(lines) + "\n"


def _policy(site: Path) -> str:
    """The Content-Security-Policy of the pages: of scripts in a page only those that are there."""
    hashes = set()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for attributes, script in re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL):
            if "src=" not in attributes and "application/json" not in attributes:
                digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
                hashes.add(f"'sha256-{digest}'")
    return (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self';"
        " style-src 'self' 'unsafe-inline'; worker-src 'self'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none';"
        f" script-src 'self' {' '.join(sorted(hashes))}"
    )


if __name__ == "__main__":
    main()
