from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import readme_output
import tables
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "tables.py"
RECORD: dict[str, Any] = {
    "command": "python benchmarks/cold_start.py model-int8.tflite a.png",
    "date": "2026-01-02",
    "machine": {"cpu": "Some CPU", "board": "", "isa": ["avx2"], "arch": "x86_64", "cpus": 2},
    "versions": {"python": "3.11.7", "edgecls": "0.1.0"},
    "valid": True,
    "causes": [],
    "rows": [
        {
            "file": "model-int8.tflite",
            "engine": "litert",
            "p50_ms": {"bare": 112.7, "edgecls": 173.2},
            "ratio": 1.555,
            "ratio_low": 1.53,
            "ratio_high": 1.65,
        }
    ],
}
README = "# a\n\n<!-- table: cold-start -->\nold\n<!-- end -->\n\nb\n"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def write(folder: Path, **changes: Any) -> None:
    (folder / "cold-start.json").write_text(json.dumps(RECORD | changes), encoding="utf-8")


def test_the_documents_agree_with_the_results() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stderr
    assert "README.md agrees" in done.stdout and "from-the-lecture.md agrees" in done.stdout


def test_a_stale_readme_is_found_and_rewritten(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    write(tmp_path)
    options = (readme, "--results", tmp_path)
    stale = run("--check", *options)
    assert stale.returncode == 1 and "make bench-tables" in stale.stderr
    assert readme.read_text(encoding="utf-8") == README, "--check writes nothing"
    assert run(*options).returncode == 0
    text = readme.read_text(encoding="utf-8")
    assert "\n| model-int8.tflite | litert | 113 ms | 173 ms | 1.55 [1.53, 1.65] |\n" in text
    assert text.startswith("# a\n\n<!-- table: cold-start -->\n\n|") and text.endswith("\n\n<!-- end -->\n\nb\n")
    assert run("--check", *options).returncode == 0
    write(tmp_path, date="2026-01-03")
    assert run("--check", *options).returncode == 1


def test_the_line_below_says_how_the_numbers_were_measured() -> None:
    assert tables.caption(RECORD, "cold_start") == (
        "Some CPU (avx2), 2 CPUs; python 3.11.7, edgecls 0.1.0; 2026-01-02; valid; "
        "`python benchmarks/cold_start.py model-int8.tflite a.png`."
    )
    invalid = RECORD | {"valid": False, "causes": ["throttled", "contention"]}
    assert "; **not valid: throttled, contention**; " in tables.caption(invalid, "cold_start")


@pytest.mark.parametrize(
    ("key", "named"), [("machine", "machine"), ("versions", "versions"), ("date", "date"), ("valid", "validity")]
)
def test_the_line_below_names_what_is_not_recorded(key: str, named: str) -> None:
    record = {name: value for name, value in RECORD.items() if name != key}
    bold = [part for part in tables.caption(record, "cold_start").split("; ") if part.startswith("**")]
    assert len(bold) == 1 and named in bold[0] and "not recorded**" in bold[0]


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    assert tables.render("sizes", tmp_path).startswith("Not measured yet: `python benchmarks/sizes.py`")


def test_recorded_output_is_shown_unchanged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("crack", "fine"):
        (data / "test" / name).mkdir(parents=True)
        for number in range(3):
            (data / "test" / name / f"{number}.png").touch()
    commands = (readme_output.Shown("ls photos/test/{first}/*", 2), readme_output.Shown("echo a; echo b", prompt=False))
    record = RECORD | {"commands": readme_output.record(commands, tmp_path, data)}
    (tmp_path / "readme-output-x.json").write_text(json.dumps(record), encoding="utf-8")
    shown, _, below = tables.render("readme-output-x", tmp_path).rpartition("\n\n")
    listed = "photos/test/crack/0.png\nphotos/test/crack/1.png\n..."
    assert shown == f"```\n$ ls photos/test/crack/*\n{listed}\n\na\nb\n```"
    assert below == tables.caption(RECORD, "readme_output")
    with pytest.raises(SystemExit, match="false ended with 1"):
        readme_output.record((readme_output.Shown("false"),), tmp_path)
    (last,) = readme_output.record((readme_output.Shown("seq 9", last=1),), tmp_path)
    assert last["lines"] == ["9"]


def test_a_short_table_has_the_rows_named_and_a_short_line_below(tmp_path: Path) -> None:
    rows = [RECORD["rows"][0] | {"file": name} for name in ("a.tflite", "b.onnx", "c.onnx")]
    write(tmp_path, rows=rows)
    marked = "<!-- table: cold-start, short: c.onnx; a. -->\n<!-- end -->\n"
    text = tables.rewrite(marked, tmp_path)
    assert [line.split()[1] for line in text.splitlines() if line.startswith("| ")] == [
        "file",
        "---",
        "a.tflite",
        "c.onnx",
    ]
    assert "2026-01-02; valid; [all data](benchmarks/results/cold-start.json)." in text and "python" not in text
    assert tables.rewrite(text, tmp_path) == text, "a marker survives"
    with pytest.raises(SystemExit, match="no row that begins with 'd'"):
        tables.rewrite(marked.replace("a.", "d"), tmp_path)


def test_a_short_record_has_the_commands_named(tmp_path: Path) -> None:
    names = ("edgecls train a", "edgecls export b")
    commands = [{"command": name, "prompt": True, "lines": ["x", "y", "z"]} for name in names]
    (tmp_path / "readme-output-x.json").write_text(json.dumps(RECORD | {"commands": commands}), encoding="utf-8")
    shown = tables.render("readme-output-x", tmp_path, short=True, beginnings=("edgecls export",))
    assert shown.startswith("```\n$ edgecls export b\nx\ny\nz\n```\n\nSome CPU")
    cut = tables.render(
        "readme-output-x", tmp_path, short=True, beginnings=("edgecls e (2 lines)", "edgecls t (3 lines)")
    )
    assert cut.startswith("```\n$ edgecls train a\nx\ny\nz\n\n$ edgecls export b\nx\ny\n...\n```\n\nSome CPU")


def test_the_picture_of_the_readme_is_small_and_keeps_its_red(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 255, (300, 896, 1), np.uint8)
    sheet = np.repeat(gray, 3, axis=2)
    sheet[200:210] //= np.array([3, 1, 2], np.uint8)  # many shades of green, as letters have
    sheet[100, 100:110] = (190, 30, 30)
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    readme_output.save_picture(tmp_path / "sheet.png", tmp_path / "small.png")
    red, green, _ = np.asarray(Image.open(tmp_path / "small.png").convert("RGB"), dtype=int)[100, 105]
    assert red > 150 and green < 60
    assert (tmp_path / "small.png").stat().st_size < (tmp_path / "sheet.png").stat().st_size
    assert readme_output.PICTURE.stat().st_size < 200_000


def test_a_table_belongs_to_the_script_with_the_longest_name() -> None:
    assert tables.find_script("versus-stock-magnetic-tile") == "versus_stock"
    assert tables.find_script("train-large-fashion-mnist-60000") == "train_large"
    assert tables.find_script("gpu") == "gpu"
    with pytest.raises(SystemExit, match="no script"):
        tables.find_script("sizeship")


@pytest.mark.parametrize(
    "text", ["<!-- table: sizes -->\nno end\n", "<!-- end -->\n", "<!-- table: -->\n<!-- end -->\n"]
)
def test_broken_marks_are_an_error_and_not_skipped(text: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="fix the document"):
        tables.rewrite(text, tmp_path)
