"""``python -m bench compare``: numbers of several made-up machines, files that are no results, and the report."""

from __future__ import annotations

import copy
import html.parser
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import digest
from bench.__main__ import main
from bench.compare_data import Machine, ceilings, common_layers, load, speeds, speedups, spikes
from bench.compare_html import page
from bench.run_machine import describe_machine
from bench.run_parts import Job, Step
from bench.run_result import LARGEST, Content, ResultError, as_json, assemble, read, sealed
from bench.speed_cases import CASES

BACKENDS = {
    "numpy": {"version": "2.4", "device": "cpu", "precision": "full float32"},
    "mlx": {"version": "0.32", "device": "gpu", "precision": "full float32 (MLX_ENABLE_TF32=0)"},
}
EVIL = """<script>alert(1)</script>"><img src=x onerror=alert(2)> $\\frac{1}{0$ </svg></style>"""


def steps(milliseconds: float = 8.0, layers: tuple[str, ...] = ("S1", "S4")) -> dict[Job, Step]:
    """Exact takes this long, collapse an eighth of it in S1 and half in S4; MLX takes twice as long for all."""
    factors = {"exact": (1.0, 1.0), "collapse16": (1 / 8, 1 / 2), "preserve4": (1 / 2, 1 / 2)}
    rows, derived = [], []
    for n, case in enumerate(layers):
        for backend, slower in (("numpy", 1), ("mlx", 2)):
            for mode, factor in factors.items():
                seconds = milliseconds * slower * factor[n] / 1e3
                names = {"case": case, "subject": f"tacops {backend}", "mode": mode}
                rows.append({**names, "kind": "tacops", "variant": "only", "rounds": [[seconds]]})
                numbers = {"median_seconds": seconds, "quartiles_seconds": [seconds, seconds], "effective_gflops": 1.0}
                derived.append({**names, **numbers, "fraction_of_ceiling": (0.25, 1.0)[n]})
    speed = {
        "benchmark": "tacops speed",
        "schema": 1,
        "cases": {case: {"text": CASES[case].text} for case in layers},
        "rows": rows,
        "ceilings": [],
        "derived": derived,
        "missing": {},
        "failed": {},
    }
    sparsity = {
        "benchmark": "tacops sparsity",
        "schema": 1,
        "rows": [],
        "derived": [],
        "missing": {},
        "failed": {},
        "conclusion": ["No strategy beats dense."],
    }
    about = {"images_per_second": 1.0, "spikes": 9, "decisions": 90, "differing": 0, "timed_images": 100}
    modes = {
        mode: {**about, "accuracy": right, "speedup": faster, "seconds": [0.5], "median_seconds": 0.5}
        for mode, right, faster in (("exact", 0.9, 1.0), ("collapse16", 0.88, 6.5))
    }
    counts = {"passed": 44, "failed": 0, "expected failure": 0, "not applicable": 2}
    found: dict[Job, Any] = {}
    for backend in BACKENDS:
        found[Job("digests", backend)] = {"cases": copy.deepcopy(digest.load_reference())}
        found[Job("conformance", backend)] = {"tiers": [1], "of": 100, "counts": counts, "failures": {}}
        found[Job("accuracy", backend)] = {"images": 100, "modes": modes}
    found |= {Job("speed", ""): speed, Job("sparsity", ""): sparsity}
    return {job: {"status": "done", "seconds": 1.0, "result": result} for job, result in found.items()}


def content(name: str = "one", of: dict[Job, Step] | None = None) -> Content:
    """A result that the schema accepts."""
    settings = {"quick": True, "backends": BACKENDS, "libraries": {"tacops": "0.1.0"}, "source": "0" * 64}
    return assemble(of or steps(), name=name, machine=describe_machine(BACKENDS), missing={}, settings=settings)


def store(path: Path, what: Content) -> Path:
    path.write_text(as_json(what))
    return path


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two machines, the second twice as fast."""
    return [
        store(tmp_path / "a.json", content("one")),
        store(tmp_path / "b.json", content("two", steps(4.0))),
    ]


def flipped(case: str, backend: str = "mlx", **changes: Any) -> Content:
    """A machine of which one backend has another digest."""
    of = steps()
    of[Job("digests", backend)]["result"]["cases"][case] |= changes or {"spikes": "f" * 64, "fired": 5}
    return content("other", of)


def compared(paths: list[Path]) -> list[Machine]:
    machines, problems = load(paths)
    assert problems == []
    return machines


# numbers


def test_numbers(two: list[Path]) -> None:
    machines = compared(two)
    assert [machine.label for machine in machines] == ["1: one", "2: two"]
    assert common_layers(machines) == ["S1", "S4"]
    assert speeds(machines, "S1")["exact"] == {
        "numpy": {"1: one": 8.0, "2: two": 4.0},
        "mlx": {"1: one": 16.0, "2: two": 8.0},
    }
    faster = speedups(machines)
    assert faster["collapse K=16"]["numpy"]["1: one"] == pytest.approx(4.0)  # of 8 and 2
    assert faster["preserve K=4"]["mlx"]["2: two"] == pytest.approx(2.0)
    assert faster["shipped network, collapse K=16"]["mlx"]["1: one"] == 6.5
    assert "exact" not in faster
    assert ceilings(machines)["exact"]["numpy"]["1: one"] == pytest.approx(50.0)  # of 25 and 100


def test_means_are_over_layers_that_all_have(tmp_path: Path) -> None:
    machines = compared(
        [store(tmp_path / "a.json", content("one")), store(tmp_path / "b.json", content("two", steps(layers=("S1",))))]
    )
    assert common_layers(machines) == ["S1"]
    assert speedups(machines)["collapse K=16"]["numpy"] == {"1: one": pytest.approx(8), "2: two": pytest.approx(8)}


def test_names_that_are_equal_are_told_apart(tmp_path: Path) -> None:
    paths = [store(tmp_path / "a.json", content()), store(tmp_path / "b.json", content(of=steps(4.0)))]
    assert [machine.label for machine in compared(paths)] == ["1: one (a.json)", "2: one (b.json)"]


# spikes


def test_identical_spikes(two: list[Path]) -> None:
    fired = spikes(compared(two))
    assert fired.identical
    cases = len(digest.CASES)
    assert fired.sentence == (
        f"Identical: 2 machines, 4 backends in all, fired the same spikes and left the same membranes in all {cases} cases."
    )


@pytest.mark.parametrize("case", ["exact", "network-preserve4"])
def test_the_first_case_that_differs_is_named(case: str, two: list[Path], tmp_path: Path) -> None:
    fired = spikes(compared([*two, store(tmp_path / "c.json", flipped(case))]))
    assert not fired.identical
    usual = f"{digest.load_reference()[case]['fired']:,}"
    assert fired.sentence == (
        f"NOT identical. The first case that differs is {case}: mlx on 3: other: other spikes (5 fired, {usual} expected)."
    )
    assert fired.said["1: one", "numpy"] == {}


def test_membranes_inputs_and_gaps_are_told_apart(two: list[Path], tmp_path: Path) -> None:
    membrane = flipped("exact", membrane="f" * 64)
    inputs = flipped("collapse4", "numpy", inputs="f" * 64)
    gap = steps()
    del gap[Job("digests", "mlx")]["result"]["cases"]["linear-exact"]
    none = {job: step for job, step in steps().items() if job.part != "digests"}
    machines = compared(
        [
            *two,
            store(tmp_path / "c.json", membrane),
            store(tmp_path / "d.json", inputs),
            store(tmp_path / "e.json", content("gap", gap)),
            store(tmp_path / "f.json", content("none", none)),
        ]
    )
    fired = spikes(machines)
    assert fired.said["3: other (c.json)", "mlx"] == {"exact": "the same spikes, but another membrane"}
    assert fired.said["4: other (d.json)", "numpy"] == {"collapse4": "other inputs: the case itself is another one"}
    assert fired.said["5: gap", "mlx"] == {"linear-exact": "not run"}
    assert fired.sentence.endswith("Without digests, so not compared: 6: none.")
    assert spikes([machines[-1]]).sentence.startswith("No file holds digests of spikes.")


# files that are no results


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Content and what is said of it."""
    whole = content()
    text = as_json(whole)
    newer = {**whole, "schema": 2, "parts": []}
    lacking = {key: value for key, value in whole.items() if key != "parts"}
    slower = copy.deepcopy(whole)
    slower["parts"]["speed"]["all"]["result"]["derived"][0]["median_seconds"] = 1.0
    negative = copy.deepcopy(slower)
    negative["parts"]["speed"]["all"]["result"]["derived"][0]["median_seconds"] = -1.0
    escape = sealed({**whole, "name": "a\x1b[31mb"})
    lone = sealed({**whole, "name": "a\ud800b"})
    return {
        "empty": (b"", "is empty"),
        "truncated": (text[: len(text) // 2].encode(), "is no JSON, or was cut off or damaged"),
        "binary": (b"\x00\xff\xfe" * 50, "is no JSON"),
        "not-a-number": (text.replace(": 8.0", ": NaN").replace(": 0.25", ": NaN", 1).encode(), "NaN is no JSON"),
        "infinite": (text.replace(": 0.25", ": 1e999", 1).encode(), "is damaged or incomplete: at parts/speed"),
        "deep": (b"[" * 200_000, "is no JSON"),
        "foreign": (
            b'{"benchmark": "tacops speed", "schema": 1}',
            "no result of python -m bench run; it says 'tacops speed'",
        ),
        "list": (b"[1, 2]", "is JSON, but no result of python -m bench run"),
        "newer": (json.dumps(newer).encode(), "has schema 2, this version of tacops reads 1"),
        "older": (json.dumps({**whole, "schema": 0}).encode(), "at schema: 1 was expected"),
        "lacking": (json.dumps(lacking).encode(), "'parts' is a required property"),
        "changed": (json.dumps(slower).encode(), "its checksum is wrong"),
        "negative": (json.dumps(sealed(negative)).encode(), "-1.0 is less than"),
        "escape": (json.dumps(escape).encode(), "at name: "),
        "surrogate": (json.dumps(lone).encode(), "at name: "),
        "large": (b" " * (LARGEST + 1), "is larger than 64 MiB"),
    }


BROKEN = broken_files()


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_with_a_file_is_one_sentence(
    kind: str, two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, message = BROKEN[kind]
    path = tmp_path / f"{kind}.json"
    path.write_bytes(raw)
    with pytest.raises(ResultError, match=re.escape(message)):
        read(path)
    assert main(["compare", str(two[0]), str(path), str(two[1]), "--no-html"]) == 1
    out, err = capsys.readouterr()
    assert "Identical: 2 machines" in out
    assert len(err.splitlines()) == 1
    assert len(err) < 500
    assert str(path) in err
    assert err.isprintable() or err.rstrip("\n").isprintable()


def test_missing_file_folder_and_same_file_twice(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "twin.json"
    twin.write_bytes(two[0].read_bytes())
    arguments = [str(two[0]), str(tmp_path / "absent.json"), str(tmp_path), str(twin), "--no-html"]
    assert main(["compare", *arguments]) == 1
    err = capsys.readouterr().err
    assert "absent.json cannot be read: No such file" in err
    assert "Is a directory" in err
    assert f"{twin} holds the same result as a.json" in err
    assert main(["compare", str(tmp_path / "absent.json")]) == 2
    assert not (tmp_path / "comparison.html").exists()


def test_exit_code_says_that_spikes_differ(two: list[Path], tmp_path: Path) -> None:
    assert main(["compare", *map(str, two), "--no-html"]) == 0
    other = store(tmp_path / "c.json", flipped("collapse16"))
    assert main(["compare", str(two[0]), str(other), "--no-html"]) == 1


# the report


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
    monkeypatch.setattr("bench.compare_html.dots", lambda *_, **__: 1 / 0)
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
    assert re.search(r"1: one +numpy +cpu +full float32 +4\.0 x +2\.0 x +50 % +90\.0 % +88\.0 % +0 of 44 failed", out)
    assert "13.8 x on M3 Max, 11 x on V100" in out
