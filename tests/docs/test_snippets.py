"""Every code block of the documentation, pasted and run: it does what the page says it does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from resonantgenesis import ResonantGenesis, SyncResonantGenesis
from resonantgenesis_server.config.load import load_settings
from support.models import FakeProvider, Reply
from support.server import KEY, ServerProcess, bearer, free_port
from support.snippets import Block, blocks_of, python_page, run_shell

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "sdk/python/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*/README.md"))
#: Examples with libraries that stand in an environment of their own.
OWN_ENVIRONMENTS = {"other_frameworks": ROOT / ".venv-frameworks" / "bin"}
#: Run by the suites of TypeScript.
ELSEWHERE = {"javascript", "typescript", "tsx", "vue", ""}


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("docs")
    providers = dict.fromkeys(("openai", "ollama", "local"), provider.url)
    running = ServerProcess(
        folder / "data",
        llm__base_urls=json.dumps(providers),
        llm__api_keys=json.dumps({"openai": "sk-of-the-tests"}),
    )
    try:
        yield running.start()
    finally:
        running.stop()


class Reader:
    """Somebody with a server, who reads a page in a folder of their own."""

    def __init__(self, server: ServerProcess, folder: Path, provider: FakeProvider) -> None:
        self.server = server
        self.folder = folder
        self._http = httpx.Client(base_url=server.url, headers=bearer(), timeout=20)
        (folder / "data").mkdir()
        (folder / "data" / "api-key").write_text(f"{KEY}\n")
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nmax-time = 30\n")
        (folder / "report.pdf").write_bytes(b"%PDF-1.7 a report" * 1000)
        (folder / "downloads").mkdir()
        session = self._post("/v1/sessions/execute", agent_id="guide", goal="count to 100")
        file = self._http.post("/v1/files", params={"name": "f.txt"}, content=b"abc" * 999)
        self.values = {
            "sess_…": session["session_id"],
            "file_…": file.json()["id"],
            "key_…": self._post("/v1/keys", name="docs", scopes=["sessions:read"])["id"],
            "org_…": self._post("/v1/organizations", name="docs")["id"],
            "http://127.0.0.1:8080": server.url,
            "your_key": KEY,
        }
        bin_folder = Path(sys.executable).parent
        self.environment = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RESONANTGENESIS_BASE_URL": server.url,
            "RESONANTGENESIS_API_KEY": KEY,
            "OLLAMA_BASE_URL": provider.url,
            "SESSION": session["session_id"],
            "FILE": file.json()["id"],
        }

    def nudge(self) -> None:
        """Something happens that those who follow events see."""
        self._post("/v1/sessions/execute", agent_id="guide", goal="count to 1")

    def shell(self, block: Block) -> str:
        block = block.filled(self.values)
        if "resonantgenesis serve" not in block.code:
            return run_shell(block, self.folder, self.environment, self.nudge)
        # A server of their own, in a folder without one, on a port that nobody has.
        folder = self.folder / f"serve-{block.line}"
        folder.mkdir()
        for file in self.folder.glob("*.*"):
            if file.is_file():
                (folder / file.name).write_bytes(file.read_bytes())
        url = f"http://127.0.0.1:{(port := free_port())}"
        environment = {
            **self.environment,
            "RESONANTGENESIS_BASE_URL": url,
            "RESONANTGENESIS_PORT": str(port),
        }
        del environment["RESONANTGENESIS_API_KEY"]
        code = block.code.replace(self.server.url, url)
        own = Block(block.page, block.line, block.language, code, block.until)
        return run_shell(own, folder, environment, self.nudge)

    def close(self) -> None:
        self._http.close()

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest.fixture
def reader(
    server: ServerProcess,
    provider: FakeProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    for model in ("llama3.2", "gpt-5-mini", "qwen3"):
        provider.answer(model, *[Reply.saying("It is so.")] * 4)
    reader = Reader(server, tmp_path, provider)
    for name in [name for name in os.environ if name.startswith("RESONANTGENESIS_")]:
        monkeypatch.delenv(name)
    for name in ("RESONANTGENESIS_BASE_URL", "RESONANTGENESIS_API_KEY"):
        monkeypatch.setenv(name, reader.environment[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield reader
    reader.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_pasted(page: Path, reader: Reader) -> None:
    names: dict[str, Any] = {}
    if page.parent.name == "python":  # as that page says
        names = {"client": ResonantGenesis(), "asyncio": asyncio}
        names["SyncResonantGenesis"] = SyncResonantGenesis
    with python_page(names) as python:
        for block in blocks_of(page):
            if block.file_name is not None:
                (reader.folder / block.file_name).write_text(block.code)
            match block.language:
                case "bash":
                    reader.shell(block)
                case "python":
                    python.run(block.filled(reader.values), reader.nudge)
                case "toml":
                    (reader.folder / "pasted.toml").write_text(block.code)
                    load_settings(config=reader.folder / "pasted.toml")
                case "json":
                    for line in block.code.splitlines():
                        json.loads(line)
                case "yaml":
                    yaml.safe_load(block.code)
                case _:
                    assert block.language in ELSEWHERE


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.parent.name)
def test_an_example_runs_as_its_page_says(
    page: Path, reader: Reader, provider: FakeProvider
) -> None:
    for file in page.parent.iterdir():
        if file.is_file():
            (reader.folder / file.name).write_bytes(file.read_bytes())
    if own := OWN_ENVIRONMENTS.get(page.parent.name):
        reader.environment["PATH"] = f"{own}:{reader.environment['PATH']}"
        reader.environment["OPENAI_BASE_URL"] = provider.url
    if (page.parent / "ask.mjs").exists():  # with a package of other people's clients
        (reader.folder / "node_modules").symlink_to(ROOT / "tests" / "clients" / "node_modules")
    for block in blocks_of(page):
        assert block.language == "bash"
        reader.shell(block)
