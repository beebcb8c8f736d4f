# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The `voxgate` command and how it loads the packages' commands."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from voxgate_client import cli

POINTS = [
    EntryPoint("stream", "voxgate_client.commands:stream", cli.GROUP),
    EntryPoint("export", "voxgate_absent.commands:export [export]", cli.GROUP),
    EntryPoint("many", "voxgate_absent.commands:many [server,export]", cli.GROUP),
    EntryPoint("plain", "voxgate_absent.commands:plain", cli.GROUP),
]


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: POINTS)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    return int(caught.value.code or 0)


def test_help_teaches_and_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for line in ("voxgate export sparse_unet", "voxgate serve --models", "voxgate stream --sim"):
        assert line in text
    assert "Stream scans to a server" in text
    assert 'Not installed: pip install "voxgate[export]"' in text


def test_without_arguments_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert "voxgate serve --models" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("voxgate ")


@pytest.mark.parametrize(
    ("command", "package"),
    [("export", "voxgate[export]"), ("many", "voxgate[export,server]"), ("plain", "voxgate")],
)
@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "--threads", "3", "-x"]])
def test_command_whose_extra_is_missing(
    command: str, package: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, *arguments) == 1
    told = capsys.readouterr().err
    names = package.partition("[")[2].rstrip("]").split(",")
    assert "No module named 'voxgate_absent'" in told
    assert all(name in told.rpartition("pip install")[2] for name in names)
    assert f"voxgate {command} needs packages" in told


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("steam") == 2
    assert "Did you mean 'stream'?" in capsys.readouterr().err


def test_only_the_called_command_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = EntryPoint.load

    def note(point: EntryPoint) -> object:
        loaded.append(point.name)
        return load(point)

    monkeypatch.setattr(EntryPoint, "load", note)
    assert run("stream", "--help") == 0
    assert loaded == ["stream"]


def test_installed_command_runs() -> None:
    voxgate = Path(sys.executable).with_name("voxgate")
    if not voxgate.exists():
        pytest.skip("voxgate is not installed here")
    shown = subprocess.run([voxgate, "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("serve", "export", "inspect", "stream", "bench"):
        assert command in shown


def test_client_imports_no_torch_and_no_other_package_of_ours() -> None:
    code = (
        "import sys, voxgate_client.commands, voxgate_client.cli;"
        "print([m for m in ('torch', 'onnxruntime', 'voxgate_ops', 'voxgate_server')"
        " if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_ctrl_c_while_a_command_is_loaded_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(point: EntryPoint) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(EntryPoint, "load", interrupted)
    assert run("stream", "a.bin") == 130
    assert capsys.readouterr().err == ""
