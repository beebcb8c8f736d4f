# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The documentation says what the code does: names, tables, links, and the examples in it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.server.models import points_model
from tests.server.test_commands import serving

from voxgate_client import bench_command, commands
from voxgate_client.voxelize import grid_from_metadata
from voxgate_ops import commands as ops_commands
from voxgate_ops.metadata import read_metadata
from voxgate_ops.operator_times import OperatorTime
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server import admin_commands, settings_docs, token_commands
from voxgate_server import commands as server_commands
from voxgate_server.errors import RequestError, outcome_of, status_code, wire_code
from voxgate_server.gpu_metrics import GpuGauges
from voxgate_server.metrics import OUTCOMES, STAGES, Metrics
from voxgate_server.model_config import ModelConfig
from voxgate_server.settings_layers import fields, panel_of

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOCOL = REPOSITORY / "docs" / "protocol.md"
OPERATIONS = REPOSITORY / "docs" / "operations.md"
ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
PAGES = sorted(
    [*REPOSITORY.glob("docs/*.md"), REPOSITORY / "README.md", REPOSITORY / "clients/cpp/README.md"]
)
COMMANDS: dict[str, Callable[..., Any] | typer.Typer] = {
    "serve": server_commands.serve,
    "token": token_commands.token,
    "models": admin_commands.models,
    "export": ops_commands.export,
    "inspect": ops_commands.inspect,
    "stream": commands.stream,
    "simulate": commands.simulate,
    "bench": bench_command.bench,
}
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """What stands in the page's fenced blocks of this language."""
    found = re.findall(r"^( *)```([^\n]*)\n(.*?)^ *```$", text(page), re.MULTILINE | re.DOTALL)
    return [
        "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        for indent, info, body in found
        if info == language
    ]


def tables(page: Path, *head: str) -> list[dict[str, str]]:
    """The rows of the tables with this head, by its cells."""
    rows: list[dict[str, str]] = []
    within = False
    for line in text(page).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells == list(head):
            within = True
        elif not line.startswith("|"):
            within = False
        elif within and not set(cells[0]) <= {"-"}:
            rows.append(dict(zip(head, cells, strict=True)))
    return rows


def names(cell: str) -> list[str]:
    """What a cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


# Settings and metrics -----------------------------------------------------------------------------


def test_every_setting_is_listed() -> None:
    page = text(OPERATIONS)
    assert page == settings_docs.update(page), (
        "run: python -m voxgate_server.settings_docs docs/operations.md"
    )
    rows = tables(OPERATIONS, "setting", "default", "values", "what it is for")
    assert [names(row["setting"])[0] for row in rows] == list(fields())
    by_model = {name for name, field in fields().items() if "config.yaml" in panel_of(field)}
    assert by_model == set(ModelConfig.model_fields)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the line"):
        settings_docs.update("# Operations\n")


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Kind and labels of every metric that a server with models, frames and a GPU shows."""
    metrics = Metrics(operators=lambda: [OperatorTime("net", "SparseConv", "cpu", 1, 1)])
    model = metrics.model("net", "1")
    model.watch(queued=int, ready=bool, memory=int, instances=1, device="cpu")
    model.observe_batch(1, 1, 0.1, "cpu")
    metrics.model_load("net", "ok")
    metrics.stream_closed("OK")
    device = SimpleNamespace(gpu=1, used=1, total=1)
    nvml = SimpleNamespace(
        NVMLError=OSError,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda _: "GPU-0",
        nvmlDeviceGetUtilizationRates=lambda _: device,
        nvmlDeviceGetMemoryInfo=lambda _: device,
        nvmlDeviceGetTemperature=lambda *_: 50,
        nvmlDeviceGetPowerUsage=lambda _: 1000,
    )
    metrics.registry.register(GpuGauges(nvml))
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = family.type, labels
    return found


def test_every_metric_is_listed_with_its_kind_and_labels() -> None:
    rows = tables(OPERATIONS, "metric", "kind", "labels", "meaning")
    listed = {names(row["metric"])[0]: (row["kind"], set(names(row["labels"]))) for row in rows}
    assert listed == exposed()


def test_outcomes_and_stages_are_listed() -> None:
    outcomes = tables(OPERATIONS, "`outcome`", "what it means", "codes")
    assert [names(row["`outcome`"]) for row in outcomes] == [[outcome] for outcome in OUTCOMES]
    codes = {names(row["`outcome`"])[0]: row["codes"] for row in outcomes}
    for kind in RequestError.__subclasses__():
        assert status_code(kind("")).name in codes[outcome_of(kind(""))]
    stages = tables(OPERATIONS, "`stage`", "from … to")
    assert [names(row["`stage`"]) for row in stages] == [[stage] for stage in STAGES]


@pytest.mark.parametrize("path", [*PAGES, ALERTS], ids=lambda path: path.name)
def test_no_metric_is_named_that_does_not_exist(path: Path) -> None:
    known = exposed()
    used = set(re.findall(r"\bvoxgate_(?!\w+\.md)[a-z_]*[a-z]\b", text(path)))
    series = {
        name + end
        for name, (kind, _) in known.items()
        for end in (["_bucket", "_sum", "_count", ""] if kind == "histogram" else [""])
    }
    packages = {f"voxgate_{part}" for part in ("ops", "server", "client", "protos", "stream")}
    packages |= {"voxgate_onnxruntime"}
    assert used - series - packages == set()


# Alerts and queries -------------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(text(ALERTS))["groups"][0]["rules"]
    return rules


def test_every_alert_is_explained() -> None:
    rows = tables(OPERATIONS, "alert", "when", "why that much", "first thing to do")
    assert [names(row["alert"])[0] for row in rows] == [rule["alert"] for rule in alerts()]


def promtool(*arguments: str, folder: Path) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool here: apt-get install prometheus (.ci/install_test_tools does)")
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(ALERTS), folder=REPOSITORY)
    promtool("test", "rules", "alerts_test.yml", folder=Path(__file__).parent)


def test_queries_are_promql(tmp_path: Path) -> None:
    queries = blocks(OPERATIONS, "promql")
    assert len(queries) >= 12
    rules = [{"record": f"docs:{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "a", "rules": rules}]}))
    promtool("check", "rules", "queries.yml", folder=tmp_path)


# The protocol -------------------------------------------------------------------------------------


def test_every_error_is_in_the_table() -> None:
    rows = tables(
        PROTOCOL, "error in the server", "code", "number", "counted as", "when", "what to do"
    )
    listed = {
        names(row["error in the server"])[0]: (row["code"], row["number"], names(row["counted as"]))
        for row in rows
    }
    assert listed == {
        kind.__name__: (
            status_code(kind("")).name,
            str(wire_code(kind(""))),
            [outcome_of(kind(""))],
        )
        for kind in RequestError.__subclasses__()
    }


def test_every_name_of_the_wire_is_explained() -> None:
    described = pb.DESCRIPTOR
    page = text(PROTOCOL)
    wanted = set(described.message_types_by_name)
    for message in described.message_types_by_name.values():
        wanted |= {field.name for field in message.fields}
        wanted |= {value.name for kind in message.enum_types for value in kind.values}
    for kind in described.enum_types_by_name.values():
        wanted |= {value.name for value in kind.values}
    for service in described.services_by_name.values():
        wanted |= {method.name for method in service.methods}
    assert {name for name in wanted if not re.search(rf"\b{name}\b", page)} == set()


def hexadecimal(kind: str) -> pb.StreamRequest:
    (block,) = blocks(PROTOCOL, f"hex {kind}")
    return pb.StreamRequest.FromString(bytes.fromhex(re.sub(r"#.*", "", block)))


def test_the_bytes_that_are_shown_are_the_messages() -> None:
    cloud = pb.PointCloud(num_points=2, num_fields=4, dtype=pb.FLOAT32)
    cloud.points = struct.pack("<8f", 1, 2, 3, 0.5, 4, 5, 6, 0.25)
    assert hexadecimal("points").frame == pb.Frame(frame_id="7", points=cloud)
    voxels = pb.SparseVoxels(
        num_sites=2,
        coords_dtype=pb.INT16,
        coords=struct.pack("<6h", 3, 10, 11, 3, 10, 12),
        num_features=2,
        features_dtype=pb.FLOAT32,
        features=struct.pack("<4f", 0.5, 1, 0.25, -2),
    )
    assert hexadecimal("voxels").frame == pb.Frame(frame_id="7", voxels=voxels)


def test_the_python_client_runs(tmp_path: Path) -> None:
    (program,) = blocks(PROTOCOL, "python")
    (tmp_path / "client.py").write_text(program)
    points_model(tmp_path / "models" / "net" / "1" / "model.onnx")
    rng = np.random.default_rng(0)
    for number, count in enumerate((5, 0, 40_000)):
        rng.random((count, 4), np.float32).tofile(tmp_path / f"{number}.bin")
    (tmp_path / "bad.bin").write_bytes(struct.pack("<4f", 1, 2, 3, float("nan")))
    with serving("--models", str(tmp_path / "models"), "--threads", "1") as (_, target):
        done = subprocess.run(
            [sys.executable, "client.py", target, "net", "0.bin", "bad.bin", "1.bin", "2.bin"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "0 norm (5,) float32",
        "1 3 points: row 0 column 3 is nan, the model takes finite features only",
        "2 norm (0,) float32",
        "3 norm (40000,) float32",
    ]


def test_a_network_of_ones_own_is_exported_for_clients_with_points(tmp_path: Path) -> None:
    (program,) = blocks(REPOSITORY / "docs" / "exporting.md", "python")
    network, _, _ = program.partition("\nexport_onnx(")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "networks.py").write_text(f"{network}\n\nbuild = Labels\n")
    line = next(line for line in shell_lines(REPOSITORY / "README.md") if "my_package" in line)
    script = "import torch; from my_package.networks import build; "
    for words in (
        [sys.executable, "-c", script + "torch.save(build().state_dict(), 'mine.pth')"],
        [sys.executable, "-m", "voxgate_client.cli", *shlex.split(line.replace("\\\n", " "))[1:]],
    ):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    metadata = read_metadata(tmp_path / "models" / "mine" / "1" / "model.onnx")
    assert metadata.feature_names == ["x", "y", "z", "intensity"]
    assert grid_from_metadata(metadata.point_range, metadata.voxel_size) is not None


# Every page ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_name
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    for link in links:
        if re.match(r"https?://", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.is_relative_to(REPOSITORY), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def shell_lines(page: Path) -> Iterator[str]:
    """The commands that a page shows, without their prompts and what they print."""
    for block in [*blocks(page, "console"), *blocks(page, "bash"), *blocks(page, "sh")]:
        prompted = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
        yield from prompted or block.splitlines()
    # Also in a list, and over lines that end with a backslash.
    yield from re.findall(r"^ {4,}(voxgate (?:[^\n\\]|\\\n)*)$", text(page), re.MULTILINE)


@by_name
def test_commands_parse(page: Path) -> None:
    commands = "\n".join(shell_lines(page))
    done = subprocess.run(
        ["bash", "-n"], input=commands, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{commands}"


def options_of(command: Any, words: list[str]) -> set[str]:
    """The options of a command, or of the subcommand that `words` name."""
    subcommands = getattr(command, "commands", {})
    for word in words:
        if word in subcommands:
            command = subcommands[word]
            break
    return {name for item in command.params for name in (*item.opts, *item.secondary_opts)}


@by_name
def test_options_exist(page: Path) -> None:
    for line in shell_lines(page):
        words = shlex.split(line.replace("\\\n", " "), comments=True)
        if "voxgate" not in words:
            continue
        name, *rest = words[words.index("voxgate") + 1 :]
        command = COMMANDS[name]
        if not isinstance(command, typer.Typer):
            app = typer.Typer()
            app.command()(command)
            command = app
        known = options_of(typer.main.get_command(command), rest) | {"--help"}
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= known, line


@by_name
def test_other_blocks_parse(page: Path) -> None:
    for program in blocks(page, "python"):
        compile(program, page.name, "exec")
    for document in blocks(page, "yaml"):
        yaml.safe_load(document)
    for document in blocks(page, "json"):
        json.loads(document)


def test_what_is_shown_as_config_yaml_is_one() -> None:
    (document,) = [block for block in blocks(OPERATIONS, "yaml") if "config.yaml" in block]
    ModelConfig.model_validate(yaml.safe_load(document))
