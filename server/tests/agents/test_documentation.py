"""The documentation is packaged, complete, and says what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from resonantgenesis_server import agent_api
from resonantgenesis_server.agents.threads import AHEAD, AgentThread
from resonantgenesis_server.agents.tools import calculator, docs_search
from resonantgenesis_server.agents.tools.docs_search import PAGES, page_files, read_sections
from resonantgenesis_server.agents.tools.fetch import url as fetch_url
from resonantgenesis_server.agents.tools.settings import DEFAULT_MAX_RESULT, DEFAULT_TIMEOUT
from resonantgenesis_server.model import errors
from resonantgenesis_server.model.limits import GIB, KIB, MIB, Limits
from resonantgenesis_server.sessions.files import MAX_FILES

ROOT = Path(__file__).parents[3]
NAMES = [path.stem for path in page_files()]


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def test_every_page_has_a_title_and_sections_and_is_listed() -> None:
    assert len(NAMES) >= 8
    readme = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    titles = {section.page: section.title for section in read_sections()}
    for name in NAMES:
        assert page(name).startswith(f"# {titles[name]}\n")
        assert page(name).count("\n## ") >= 4
        assert page(name).count("```") % 2 == 0
        assert f"[{titles[name]}]({name}.md)" in readme


def test_every_link_leads_somewhere() -> None:
    for path in [ROOT / "docs" / "README.md", *page_files()]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_pages_named_in_pages_exist() -> None:
    titles = {section.title for section in read_sections()}
    for name in NAMES:
        for title in re.findall(r"(?:see|^-) \*([A-Z][\w ]+)\*", page(name), re.MULTILINE):
            assert title in titles, f"{name}: {title}"


def test_every_error_code_is_explained() -> None:
    def codes(kind: type[errors.ApiError]) -> set[str]:
        return {kind.code}.union(*(codes(sub) for sub in kind.__subclasses__()))

    text = page("errors-and-retries")
    documented = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\b(?:TIMEOUT|INTERNAL|CONFLICT)\b", text))
    for code in codes(errors.ApiError) | set(errors.STREAM_CODES):
        assert code in text, code
    for code in documented:
        known = codes(errors.ApiError) | set(errors.STREAM_CODES) | {"CONNECTION_LOST"}
        assert code in known, code


def test_the_limits_are_those_of_the_program() -> None:
    text = page("limits")
    limits = Limits()
    for row in (
        f"| body of a request | {limits.body // MIB} MiB |",
        f"| a file, and all files of a turn | {limits.file // GIB} GiB |",
        f"| files of a turn | {MAX_FILES} |",
        f"| free space that files leave to the logs | {limits.disk_reserve // MIB} MiB |",
        f"| depth of JSON | {limits.json_depth} |",
        f"| values and names in a JSON text | {limits.json_values:,} |",
        f"| goal | {limits.goal // KIB} KiB |",
        f"| context | {limits.context // KIB} KiB |",
        f"| one chunk | {limits.chunk // KIB} KiB |",
        f"| chunks in a session | {limits.chunks_per_session:,}",
        f"| turns that wait in one session (`enqueue`) | {limits.queued_turns} |",
        f"| silence before a heartbeat | {limits.heartbeat:g} s |",
        f"before it answers 202 | {limits.answer_wait:g} s |",
        f"| `wait` of a poll | {limits.poll_wait:g} s |",
        f"| chunks in one poll (`limit`) | {limits.poll_limit:,} |",
        f"{limits.unsent // KIB} KiB unsent",
        f"After {limits.stall:g} seconds",
        f"ahead of the log | {AHEAD} |",
        f"left behind included | {AgentThread.limit} |",
        f"{calculator.MAX_LENGTH} characters",
        f"{calculator.MAX_BITS:,} bits",
        f"{docs_search.MAX_QUERY:,} characters",
        f"{docs_search.MAX_RESULTS} passages",
        f"within {DEFAULT_TIMEOUT:g} seconds",
        f"at most {DEFAULT_MAX_RESULT // KIB} KiB",
        f"reads {fetch_url.DEFAULT_MAX_BYTES // MIB} MiB of an answer",
        f"gives {fetch_url.DEFAULT_LENGTH:,} characters",
    ):
        assert row in text, row


def test_the_python_examples_compile_and_import_what_there_is() -> None:
    for name in NAMES:
        for source in re.findall(r"```python\n(.*?)```", page(name), re.DOTALL):
            wrapped = "async def example():\n" + "".join(
                f"    {line}\n" for line in source.splitlines()
            )
            compile(wrapped, name, "exec")
            imported = re.findall(r"from resonantgenesis_server\.agent_api import (.+)", source)
            for names in imported:
                for imported_name in names.split(", "):
                    assert imported_name in agent_api.__all__


def hatch(project: Path, target: str, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=120,
    )
    [built] = out.iterdir()
    return built


def pages_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            Path(name).stem
            for name in archive.namelist()
            if name.startswith("resonantgenesis_server/docs/")
        }


def test_a_wheel_holds_the_pages(tmp_path: Path) -> None:
    assert pages_in(hatch(ROOT / "server", "wheel", tmp_path)) == set(NAMES)


def test_a_wheel_made_from_the_sdist_holds_the_pages(tmp_path: Path) -> None:
    sdist = hatch(ROOT / "server", "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [project] = (tmp_path / "unpacked").iterdir()
    assert pages_in(hatch(project, "wheel", tmp_path / "wheel")) == set(NAMES)
