"""Writes the folder to copy to a board: the model file, requirements.txt, a script of ten lines and a report."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgecls import __version__
from edgecls.boards.compatibility import install_lines
from edgecls.boards.install import requirement
from edgecls.boards.profiles import load_profile
from edgecls.choose.candidates import Candidate
from edgecls.choose.choice import Choice
from edgecls.choose.report import markdown_report
from edgecls.errors import ConfigError
from edgecls.files import check_survives, file_sha256, read_json, sync_files
from edgecls.model_file.read import read_bytes, read_graph, read_model_file

RECORD_FILE = "choose.json"
SCRIPT = '''"""Print the label and the score of each image: python predict.py IMAGE..."""

import sys
from pathlib import Path

import edgecls

MODEL = Path(__file__).with_name({file})

with edgecls.load(MODEL, engine={engine}, threads={threads}, device={device}) as classifier:
    for image, found in classifier.predict_iter(sys.argv[1:] or sys.exit(__doc__)):
        print(found if isinstance(found, Exception) else f"{{image}}: {{found.label}} {{found.score:.4f}}")
'''


def check_out(out: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Check, before any work is done, that a deploy folder of the folders `inputs` may be written to `out`.

    Raises:
        ConfigError: it holds files that this module did not write, or that were changed since, or one of `inputs`.
    """
    check_survives(out, inputs)
    out = out.resolve()
    if Path.cwd().is_relative_to(out):
        raise ConfigError(
            f"the current folder {Path.cwd()} would be replaced; change to another folder, or give another --out"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is not a folder; give another --out")
    if out.is_dir() and not overwrite and not _is_ours(out):
        raise ConfigError(
            f"{out} holds files that 'edgecls choose' did not write, or that were changed since; give another --out, "
            "or --overwrite to replace the whole folder"
        )


def write_deploy(choice: Choice, out: Path) -> Path:
    """Write the folder of the recommended configuration, whole or not at all, and return `out`.

    Raises:
        ConfigError: nothing is recommended.
    """
    if choice.winner is None:
        raise ConfigError("no candidate may be shipped, so there is nothing to deploy")
    candidate = choice.winner.candidate
    texts = {
        "requirements.txt": f"{requirement(candidate.engine, __version__, candidate.device)}\n",
        "predict.py": _script(candidate),
        "report.md": f"{markdown_report(choice)}\n{_how_to_run(choice, candidate)}",
    }
    contents = {candidate.file.name: read_bytes(candidate.file)} | {name: text.encode() for name, text in texts.items()}
    record = choice.to_json() | {
        "deploy": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    }
    contents[RECORD_FILE] = (json.dumps(record, indent=1, ensure_ascii=True) + "\n").encode()
    _replace(out.resolve(), contents)
    return out


def _script(candidate: Candidate) -> str:
    settings = {
        "file": candidate.file.name,
        "engine": candidate.engine,
        "threads": candidate.threads,
        "device": candidate.device,
    }
    # As JSON, texts are Python's with double quotes.
    return SCRIPT.format(**{name: json.dumps(value) for name, value in settings.items()})


def _how_to_run(choice: Choice, candidate: Candidate) -> str:
    lines = ["## Run it", "", "```", "pip install -r requirements.txt", "python predict.py IMAGE...", "```", ""]
    if choice.device:
        model = read_model_file(candidate.file)
        installs = install_lines(read_graph(model.graph, model.format), load_profile(choice.device))
        lines += [f"- {system}: `{line}`" for system, line in installs.items()]
    version = choice.winner.result.engine_version if choice.winner else ""
    return "\n".join([*lines, f"Timed with {candidate.engine} {version}; another version may differ.", ""])


def _is_ours(folder: Path) -> bool:
    """Return True if the folder is empty, or holds only what `write_deploy` wrote, unchanged."""
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    if RECORD_FILE not in names:
        return False
    try:
        written = read_json(folder / RECORD_FILE)["deploy"]
    except (ValueError, KeyError, TypeError):
        return False
    if not isinstance(written, dict) or names != {RECORD_FILE, *written}:
        return False
    return all((folder / name).is_file() and file_sha256(folder / name) == written[name] for name in written)


def _replace(out: Path, contents: Mapping[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        new.mkdir()
        for name, content in contents.items():
            (new / name).write_bytes(content)
        sync_files(new)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        finally:
            if not out.exists() and old.exists():
                old.rename(out)
        shutil.rmtree(old, ignore_errors=True)
