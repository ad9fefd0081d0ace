from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import readme_output
import tables

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


def test_the_documents_are_what_the_results_say() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stderr
    assert "README.md is what" in done.stdout and "from-the-lecture.md is what" in done.stdout


def test_a_stale_readme_is_found_and_fixed(tmp_path: Path) -> None:
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


def test_the_line_below_says_what_the_results_depend_on() -> None:
    assert tables.caption(RECORD, "cold_start") == (
        "Some CPU (avx2), 2 CPUs; python 3.11.7, edgecls 0.1.0; 2026-01-02; valid; "
        "`python benchmarks/cold_start.py model-int8.tflite a.png`."
    )
    ill = RECORD | {"valid": False, "causes": ["throttled", "noisy neighbour"]}
    assert "; **not valid: throttled, noisy neighbour**; " in tables.caption(ill, "cold_start")


@pytest.mark.parametrize(
    ("key", "said"), [("machine", "machine"), ("versions", "versions"), ("date", "date"), ("valid", "quiet")]
)
def test_what_is_not_recorded_is_said_and_not_invented(key: str, said: str) -> None:
    record = {name: value for name, value in RECORD.items() if name != key}
    bold = [part for part in tables.caption(record, "cold_start").split("; ") if part.startswith("**")]
    assert len(bold) == 1 and said in bold[0] and "not recorded**" in bold[0]


def test_results_that_are_not_there_are_not_invented(tmp_path: Path) -> None:
    assert tables.render("sizes", tmp_path).startswith("Not measured yet: `python benchmarks/sizes.py`")


def test_what_commands_printed_is_shown_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("crack", "fine"):
        (data / "test" / name).mkdir(parents=True)
        for number in range(3):
            (data / "test" / name / f"{number}.png").touch()
    commands = (readme_output.Shown("ls photos/test/{first}/*", 2), readme_output.Shown("echo a; echo b", prompt=False))
    record = RECORD | {"commands": readme_output.record(commands, data)}
    (tmp_path / "readme-output-x.json").write_text(json.dumps(record), encoding="utf-8")
    shown, _, below = tables.render("readme-output-x", tmp_path).rpartition("\n\n")
    listed = "photos/test/crack/0.png\nphotos/test/crack/1.png\n..."
    assert shown == f"```\n$ ls photos/test/crack/*\n{listed}\n\na\nb\n```"
    assert below == tables.caption(RECORD, "readme_output")
    with pytest.raises(SystemExit, match="false ended with 1"):
        readme_output.record((readme_output.Shown("false"),), None)


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
    with pytest.raises(SystemExit, match="mend the document"):
        tables.rewrite(text, tmp_path)
