"""bench compare: the HTML report and the terminal's table."""

from __future__ import annotations

import html.parser
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.compare.data import Machine, spikes
from bench.compare.html import page
from bench.machine.parts import Job, Step
from bench.machine.result import sealed
from tests.support.compare_results import compared, content, flipped, steps, store

EVIL = """<script>alert(1)</script>"><img src=x onerror=alert(2)> $\\frac{1}{0$ </svg></style>"""


class Reader(html.parser.HTMLParser):
    """Collects tags and attributes, and checks that tags are closed in order."""

    EMPTY = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open and close."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.words.append(data)


def report(machines: list[Machine]) -> str:
    return page(machines, spikes(machines), ["x.json is empty."])


def test_report_needs_nothing_and_runs_nothing(two: list[Path]) -> None:
    text = report(compared(two))
    reader = Reader(text)
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "foreignobject", "a", "base", "form"}
    for _, attributes in reader.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key.endswith("href") or key == "src":
                assert (value or "").startswith("#")
    for address in re.findall(r"https?://[^\s\"'<]+", text):
        assert address.startswith(("http://www.w3.org/", "https://www.w3.org/")), address  # names of formats
    assert not re.search(r"@import|url\((?!#)", text)
    metas = [attributes for name, attributes in reader.tags if name == "meta"]
    assert any(meta.get("name") == "viewport" for meta in metas)
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in metas)
    identifiers = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))
    assert used
    assert used <= set(identifiers)


def test_report_says_what_it_should(two: list[Path], tmp_path: Path) -> None:
    text = report(compared([*two, store(tmp_path / "c.json", flipped("collapse16"))]))
    words = " ".join(" ".join(Reader(text).words).split())
    for expected in (
        "The first case that differs is collapse16",
        "13.8 x (M3 Max), 11 x (V100)",
        "Not compared: x.json is empty.",
        "Speed: S4",
        "Fraction of each machine's own ceiling",
        "44 passed",
        "No strategy beats dense.",
        "MLX_ENABLE_TF32=0",
        "90.0 %",
    ):
        assert expected in words, expected
    assert text.count("&#10007;") == 1
    assert "prefers-color-scheme: dark" in text
    assert "#000000" not in text  # plots take the page's ink


def test_text_of_a_file_stays_text(tmp_path: Path) -> None:
    evil = EVIL[:110]
    of = steps()
    of[Job("speed", "")] = {"status": "failed", "seconds": 1.0, "reason": EVIL}
    of[Job("sparsity", "")]["result"]["conclusion"] = [EVIL]
    of[Job("conformance", "mlx")]["result"]["failures"] = {evil: EVIL}
    first = store(tmp_path / "a.json", content(evil, of))
    second = store(tmp_path / "b.json", content(evil, steps()))
    text = report(compared([first, second]))
    reader = Reader(text)
    assert not any(name in ("script", "img") or "onerror" in attributes for name, attributes in reader.tags)
    assert "".join(reader.words).count("<script>alert(1)</script>") > 5
    for svg in re.findall(r"<svg .*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)  # well-formed by itself


def test_command_writes_the_report_whole_or_not_at_all(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", *map(str, two)]) == 0
    default = tmp_path / "comparison.html"
    assert str(default) in capsys.readouterr().out
    Reader(default.read_text())
    before = default.read_bytes()
    monkeypatch.setattr("bench.compare.html.dots", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["compare", *map(str, two)])
    assert default.read_bytes() == before
    assert main(["compare", *map(str, two), "-o", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_one_machine_without_any_part_done(tmp_path: Path) -> None:
    of: dict[Job, Step] = {Job("speed", ""): {"status": "not run", "seconds": 0.0, "reason": "no time"}}
    path = store(tmp_path / "a.json", content("bare", of))
    assert main(["compare", str(path)]) == 0
    assert "speed: not run: no time" in (tmp_path / "comparison.html").read_text()


def test_a_busy_machine_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = content()
    about = {**what["machine"], "cores": 4, "load_before": 3.0}
    path = store(tmp_path / "a.json", sealed({**what, "machine": about}))
    assert main(["compare", str(path)]) == 0
    warning = "Other processes kept 3.0 cores busy at the start"
    assert warning in " ".join(capsys.readouterr().out.split())
    assert warning in (tmp_path / "comparison.html").read_text()


def test_terminal_table(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, two), "--no-html"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"1: one +numpy +cpu +full float32 +4\.0 x +2\.0 x +50 % +90\.0 % +88\.0 % +0 of 44", out)
    assert "13.8 x on M3 Max, 11 x on V100" in out
