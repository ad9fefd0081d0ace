"""The export command's options; what files come to is tested in test_artifact.py and test_cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from command_line import run

from edgecls.cli.export import check_board
from edgecls.config import ExportConfig
from edgecls.export import artifact
from edgecls.export.artifact import ExportResult


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ExportConfig]:
    """Collects what the command asks for; nothing is exported."""
    asked: list[ExportConfig] = []

    def export_run(_: Path, config: ExportConfig, **__: Any) -> ExportResult:
        asked.append(config)
        return ExportResult(tmp_path, 0.5, 4, ())

    monkeypatch.setattr(artifact, "export_run", export_run)
    return asked


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [
        ([], ("fp32",)),
        (["--fp16"], ("fp16",)),
        (["--int8", "--fp32"], ("fp32", "int8")),
        (["--int8", "--fp16", "--fp32"], ("fp32", "fp16", "int8")),
    ],
)
def test_flags_name_the_precisions(flags: list[str], precisions: tuple[str, ...], configs: list[ExportConfig]) -> None:
    assert run("export", "run", *flags).exit_code == 0
    (config,) = configs
    assert (config.precisions, config.formats, config.device) == (precisions, ("tflite", "onnx"), None)


@pytest.mark.parametrize(
    ("flags", "price"), [([], ExportConfig.prune), (["--prune", "0"], 0), (["--prune", "0.1"], 0.1)]
)
def test_prune_says_what_time_is_worth(flags: list[str], price: float, configs: list[ExportConfig]) -> None:
    assert run("export", "run", "--int8", *flags).exit_code == 0
    assert configs[0].prune == price


def test_a_price_below_zero_is_refused(configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--int8", "--prune", "-1")
    assert (done.exit_code, configs) == (2, [])
    assert "prune must be 0 (keep all channels) or more; received -1" in done.stderr


@pytest.mark.parametrize("device", ["coral", "coral-usb"])
def test_a_coral_gets_tflite_alone_and_is_not_said_to_be_tested(device: str, configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--int8", "--device", device)
    assert done.exit_code == 0
    assert "not on an Edge TPU" in done.stdout
    (config,) = configs
    assert (config.formats, config.device) == (("tflite",), "coral")


def test_other_boards_are_known_by_their_processor(configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--int8", "--device", "raspberry-pi-5", "--format", "onnx")
    assert "Edge TPU" not in done.stdout
    (config,) = configs
    assert (config.formats, config.device) == (("onnx",), "arm64")


def test_an_unknown_device_is_told_in_a_sentence(configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--device", "pi9")
    assert (done.exit_code, configs) == (2, [])
    assert "Error: --device must be one of" in done.stderr and "received 'pi9'" in done.stderr


def test_a_board_that_runs_every_file_is_said_to(tiny_export: ExportResult, capsys: pytest.CaptureFixture[str]) -> None:
    check_board(tiny_export, "raspberry-pi-4b")
    assert capsys.readouterr().out.startswith("raspberry-pi-4b runs what passed")


def test_files_that_the_board_cannot_run_are_no_success(tiny_export: ExportResult) -> None:
    with pytest.raises(click.ClickException, match=r"(?s)model-fp32\.onnx does not run on coral-usb:\n  .*onnx"):
        check_board(tiny_export, "coral-usb")
