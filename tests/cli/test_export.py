"""The export command's options and output; the files are tested in test_artifact.py."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from command_line import run
from onnx import numpy_helper
from processor import fake_flags

from edgecls.boards import doctor
from edgecls.boards.profiles import load_profile
from edgecls.cli.export import check_board, find_usual
from edgecls.config import ExportConfig
from edgecls.export import artifact, prepared
from edgecls.export.artifact import ExportResult
from edgecls.export.prepared import PreparedResult
from edgecls.model_file.read import read_model_file
from edgecls.serve import litert_js


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ExportConfig]:
    """Collects the requested exports; nothing is exported."""
    asked: list[ExportConfig] = []

    def export_run(_: Path, config: ExportConfig, **__: Any) -> ExportResult:
        asked.append(config)
        return ExportResult(tmp_path, 0.5, 4, (), tmp_path, tmp_path)

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
    ("flags", "max_kl"), [([], ExportConfig.prune), (["--prune", "0"], 0), (["--prune", "0.1"], 0.1)]
)
def test_prune_sets_the_maximum_divergence(flags: list[str], max_kl: float, configs: list[ExportConfig]) -> None:
    assert run("export", "run", "--int8", *flags).exit_code == 0
    assert configs[0].prune == max_kl


def test_a_divergence_below_zero_is_refused(configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--int8", "--prune", "-1")
    assert (done.exit_code, configs) == (2, [])
    assert "prune must be 0 (keep all channels) or more; received -1" in done.stderr


@pytest.mark.parametrize("option", ["--board", "--device"])
@pytest.mark.parametrize("board", ["coral", "coral-usb"])
def test_a_coral_gets_tflite_alone_and_is_not_said_to_be_tested(
    option: str, board: str, configs: list[ExportConfig]
) -> None:
    done = run("export", "run", "--int8", option, board)
    assert done.exit_code == 0
    assert "not on an Edge TPU" in done.stdout
    (config,) = configs
    assert (config.formats, config.device) == (("tflite",), "coral")


@pytest.mark.parametrize("board", ["ethos-u", "nxp-imx93", "ethos-u85-256"])
def test_an_ethos_u_gets_tflite_alone_and_is_not_said_to_be_tested(board: str, configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--int8", "--board", board)
    assert (done.exit_code, "not on an Ethos-U" in done.stdout) == (0, True)
    (config,) = configs
    assert (config.formats, config.device) == (("tflite",), "ethos-u")


def test_other_boards_are_known_by_their_processor(configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--int8", "--board", "raspberry-pi-5", "--format", "onnx")
    assert "Edge TPU" not in done.stdout
    (config,) = configs
    assert (config.formats, config.device) == (("onnx",), "arm64")


@pytest.mark.parametrize("name", ["pi9", ""])
def test_an_unknown_board_is_refused(name: str, configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--board", name)
    assert (done.exit_code, configs) == (2, [])
    assert f"{name!r}" in done.stderr


def test_the_former_option_is_hidden(configs: list[ExportConfig]) -> None:
    assert "--board" in (text := run("export", "--help").stdout) and "--device" not in text


def test_next_are_commands_with_paths_that_exist(
    run_copy: Path, tiny_export: ExportResult, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replace(tiny_export, folder=Path(shutil.copytree(tiny_export.folder, run_copy / "my export")))
    monkeypatch.setattr(artifact, "export_run", lambda *_, **__: result)
    done = run("export", run_copy, "--int8")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()[-2:]
    assert shlex.split(first)[:3] == ["Next:", "edgecls", "predict"]
    assert shlex.split(second) == ["edgecls", "choose", str(run_copy), str(tiny_data)]
    assert all(Path(path).exists() for path in (*shlex.split(first)[3:], *shlex.split(second)[2:]))


def test_the_next_file_is_the_one_that_doctor_names(tiny_export: ExportResult, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_usual(tiny_export, "raspberry-pi-4b").path == "model-int8.tflite"
    onnx = replace(tiny_export, files=tuple(file for file in tiny_export.files if file.format == "onnx"))
    assert find_usual(onnx, "raspberry-pi-4b") == onnx.files[0]
    # Without a board, of this machine.
    monkeypatch.setattr(doctor, "find_profile", lambda _: load_profile("desktop-nvidia"))
    best = load_profile("desktop-nvidia").recommended
    assert find_usual(tiny_export, None).path == f"model-{best.precision}.{best.format}"
    monkeypatch.setattr(doctor, "find_profile", lambda _: None)
    assert find_usual(tiny_export, None) == tiny_export.files[0]


def test_a_board_that_runs_every_file_is_named(tiny_export: ExportResult, capsys: pytest.CaptureFixture[str]) -> None:
    check_board(tiny_export, "raspberry-pi-4b", Path("run"))
    assert capsys.readouterr().out.startswith("All files that passed run on raspberry-pi-4b.")


def test_files_that_the_board_cannot_run_are_an_error(tiny_export: ExportResult) -> None:
    with pytest.raises(
        click.ClickException, match=r"(?s)model-fp32\.onnx does not run on coral-usb:\n  .*onnx"
    ) as caught:
        check_board(tiny_export, "coral-usb", Path("my run"))
    command = "edgecls export 'my run' --int8 --board coral-usb"
    assert caught.value.message.endswith(f"\nNot built for the Edge TPU. Run: {command}")


@pytest.fixture
def prepared_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[ExportConfig, tuple[str, ...]]]:
    """Collects what --prepared asks for; nothing is exported."""
    asked: list[tuple[ExportConfig, tuple[str, ...]]] = []

    def export_prepared(_: Path, config: ExportConfig, kinds: tuple[str, ...], **__: Any) -> PreparedResult:
        asked.append((config, kinds))
        return PreparedResult(tmp_path, 0.5, 4, 3, ())

    monkeypatch.setattr(prepared, "export_prepared", export_prepared)
    return asked


def test_prepared_takes_its_own_formats(prepared_calls: list[tuple[ExportConfig, tuple[str, ...]]]) -> None:
    done = run("export", "run", "--prepared", "--per-tensor", "--prune", "0")
    assert done.exit_code == 0, done.stderr
    assert "These files are not quantized." in done.stdout
    assert run("export", "run", "--prepared", "--format", "onnx", "--format", "npz").exit_code == 0
    (config, kinds), (_, chosen) = prepared_calls
    assert (config.per_tensor, config.prune, kinds) == (True, 0, ("keras", "npz", "onnx"))
    assert chosen == ("onnx", "npz")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--int8",), "int8"),
        (("--format", "tflite"), "tflite"),
        (("--board", "coral-usb"), "board"),
        (("--heatmap",), "heatmap"),
        (("--input", "rgb"), "input"),
        (("--no-golden",), "golden"),
        (("--max-missed", "0.01"), "max_missed"),
    ],
)
def test_prepared_refuses_what_does_not_apply(
    options: tuple[str, ...], named: str, prepared_calls: list[tuple[ExportConfig, tuple[str, ...]]]
) -> None:
    done = run("export", "run", "--prepared", *options)
    assert (done.exit_code, prepared_calls) == (2, [])
    assert f"received {named}" in done.stderr


def test_rgb_means_tflite(configs: list[ExportConfig]) -> None:
    assert run("export", "run", "--int8", "--input", "rgb").exit_code == 0
    assert (configs[0].input, configs[0].formats) == ("rgb", ("tflite",))
    for options, said in ((("--format", "onnx"), "tflite for --input rgb"), (("--heatmap",), "left out with --input")):
        done = run("export", "run", "--input", "rgb", *options)
        assert (done.exit_code, len(configs)) == (2, 1)
        assert said in done.stderr


def test_formats_of_prepared_need_it(configs: list[ExportConfig]) -> None:
    done = run("export", "run", "--format", "keras")
    assert (done.exit_code, configs) == (2, [])
    assert "--format keras needs --prepared" in done.stderr


def test_per_tensor_is_asked_for(configs: list[ExportConfig]) -> None:
    assert run("export", "run", "--int8", "--per-tensor").exit_code == 0
    assert configs[0].per_tensor is True


@pytest.mark.slow
def test_without_vnni_onnx_files_have_7_bit_weights_by_themselves(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_flags(monkeypatch, tmp_path, "fpu avx2 avx512f")
    done = run("export", run_copy, "--int8", "--format", "onnx", "--max-drop", "1", "--no-golden")
    assert (done.exit_code, "has 7-bit weights" in done.stdout) == (0, True), done.stderr
    model = read_model_file(run_copy / "export" / "model-int8.onnx")
    assert model.spec.target == "x86"
    tensors = onnx.load_from_string(model.graph).graph.initializer
    weights = [values for each in tensors if (values := numpy_helper.to_array(each)).dtype == np.int8 and values.ndim]
    assert max(np.abs(values.astype(int)).max() for values in weights) == 64


def test_7_bit_weights_are_said_only_where_they_are_chosen(
    tiny_export: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "export_run", lambda *_, **__: tiny_export)
    for flags, options, said in (
        ("fpu avx2", (), True),
        ("fpu avx2 avx_vnni", (), False),
        ("fpu avx2", ("--board", "x86"), False),
    ):
        fake_flags(monkeypatch, tmp_path, flags)
        assert ("has 7-bit weights" in run("export", "run", "--int8", *options).stdout) == said


def test_web_writes_the_page_of_the_int8_file(
    tiny_export: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "export_run", lambda *_, **__: tiny_export)
    monkeypatch.setattr(litert_js, "find_litert_js", lambda *_, **__: {"core.js": b"code"})
    done = run("export", "run", "--int8", "--fp32", "--web", tmp_path / "page")
    assert done.exit_code == 0, done.stderr
    assert f"--directory {tmp_path / 'page'}" in done.stdout
    model = (tmp_path / "page" / "model.tflite").read_bytes()
    assert model == (tiny_export.folder / "model-int8.tflite").read_bytes()


def test_web_is_refused_before_the_export(
    configs: list[ExportConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert_js, "cache_folder", lambda: tmp_path)
    for options, said in (((), "edgecls web FILE --out DIR --download"), (("--format", "onnx"), "runs a TFLite file")):
        done = run("export", "run", "--int8", "--web", tmp_path / "page", *options)
        assert (done.exit_code != 0, configs, said in done.stderr) == (True, [], True)
