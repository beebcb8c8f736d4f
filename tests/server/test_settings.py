# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Settings from file, environment and flags: order, bounds, unknown names, and what is printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize, ValidationError

from voxgate_server.settings import GIB, KIB, MIB, Settings, size_text
from voxgate_server.settings_layers import (
    SettingsError,
    as_yaml,
    fields,
    flag_of,
    load_settings,
    variable_of,
)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("VOXGATE_"):
            monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "voxgate.yaml"
    path.write_text(text)
    return path


def problem(flags: dict[str, str | bool] | None = None, config: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags or {}, config)
    return str(caught.value)


def test_the_defaults_are_valid() -> None:
    effective = load_settings({})
    assert effective.settings == Settings()
    assert set(effective.origins.values()) == {"default"}
    # Defaults are not validated by pydantic; as given values they must be.
    assert Settings(**effective.settings.model_dump()) == Settings()


def test_flags_override_variables_and_those_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "# ours\nport: 1\nmetrics_port: 2\nthreads: 3\nhost: file\n")
    monkeypatch.setenv("VOXGATE_METRICS_PORT", "20")
    monkeypatch.setenv("VOXGATE_THREADS", "30")
    monkeypatch.setenv("VOXGATE_WARM_UP", "false")
    effective = load_settings({"threads": "300", "insecure_tokens": True}, path)
    settings, origins = effective.settings, effective.origins
    assert (settings.host, origins["host"]) == ("file", f"{path}:5")
    assert (settings.port, origins["port"]) == (1, f"{path}:2")
    assert (settings.metrics_port, origins["metrics_port"]) == (20, "VOXGATE_METRICS_PORT")
    assert (settings.threads, origins["threads"]) == (300, "--threads")
    assert (settings.warm_up, origins["warm_up"]) == (False, "VOXGATE_WARM_UP")
    assert (settings.insecure_tokens, origins["insecure_tokens"]) == (True, "--insecure-tokens")
    assert (settings.device, origins["device"]) == ("auto", "default")


def test_the_file_may_be_named_by_a_variable_or_by_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXGATE_CONFIG", str(write(tmp_path, "threads: 5")))
    assert load_settings({}).settings.threads == 5
    other = tmp_path / "other.yaml"
    other.write_text("threads: 6")
    assert load_settings({}, other).settings.threads == 6


def test_null_unsets_what_may_be_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "threads: 4\nadmin_port: 8003")
    assert load_settings({"threads": "null"}, path).settings.threads is None
    monkeypatch.setenv("VOXGATE_ADMIN_PORT", "null")
    effective = load_settings({}, path)
    assert effective.settings.admin_port is None
    assert effective.origins["admin_port"] == "VOXGATE_ADMIN_PORT"
    assert problem({"port": "null"}).startswith("port: ")


def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXGATE_TLS_KEY", "")
    monkeypatch.setenv("VOXGATE_THREADS", "")
    assert load_settings({}).settings == Settings()


def test_unknown_names_in_the_file_are_errors_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path, "port: 1\nmax_framebytes: 1MiB\nqueued-frames: 3\nqqqq: 3\n")
    lines = problem(config=path).splitlines()
    assert lines == [
        f"{path}:2: no such setting: max_framebytes; did you mean max_frame_bytes?",
        f"{path}:3: no such setting: queued-frames; did you mean queued_frames?",
        f"{path}:4: no such setting: qqqq; `voxgate serve --help` lists them",
    ]


def test_a_name_given_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "port: 1\nthreads: 2\nport: 3\n")
    assert problem(config=path) == f"{path}:3: port is already set by {path}:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- port", "expected lines of `name: value`"),
        ("[]", "expected lines of `name: value`"),
        ("port", "expected lines of `name: value`"),
        ("port: [1", "line 1"),
        ("? [port]\n: 1", "unhashable"),
    ],
)
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    told = problem(config=path)
    assert str(path) in told and message in told


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in problem(config=tmp_path / "gone.yaml")
    assert "directory" in problem(config=tmp_path)
    binary = tmp_path / "voxgate.yaml"
    binary.write_bytes(b"\xff\xfe\xff")
    assert str(binary) in problem(config=binary)


@pytest.mark.parametrize("text", ["", "# nothing\n", "null"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load_settings({}, write(tmp_path, text)).settings == Settings()


def test_unknown_variables_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXGATE_MAX_FRAMEBYTES", "1")
    monkeypatch.setenv("VOXGATE_ZZZZZZZ", "1")
    assert problem().splitlines() == [
        "no such variable: VOXGATE_MAX_FRAMEBYTES; did you mean VOXGATE_MAX_FRAME_BYTES?",
        "no such variable: VOXGATE_ZZZZZZZ; `voxgate serve --help` lists them",
    ]


def test_variables_of_other_parts_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOXGATE_DATA", "VOXGATE_CPU_ISA", "VOXGATE_OPERATORS_LIBRARY"):
        monkeypatch.setenv(name, "something")
    assert load_settings({}).settings == Settings()


def test_a_clients_token_is_not_taken_for_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXGATE_TOKEN", "something")
    told = problem()
    assert told == "no such variable: VOXGATE_TOKEN; did you mean VOXGATE_TOKENS?"
    assert load_settings({"tokens": "file"}).settings.tokens == Path("file")


def test_what_kubernetes_says_of_a_service_called_voxgate_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "VOXGATE_PORT": "tcp://10.0.0.7:8001",
        "VOXGATE_METRICS_PORT": "tcp://10.0.0.8:8002",
        "VOXGATE_SERVICE_HOST": "10.0.0.7",
        "VOXGATE_SERVICE_PORT": "8001",
        "VOXGATE_SERVICE_PORT_GRPC": "8001",
        "VOXGATE_PORT_8001_TCP": "tcp://10.0.0.7:8001",
        "VOXGATE_PORT_8001_TCP_ADDR": "10.0.0.7",
        "VOXGATE_METRICS_SERVICE_HOST": "10.0.0.8",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings({}).settings == Settings()
    assert Settings().port == 8001


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("port", "65536", "65535"),
        ("metrics_port", "-1", "0"),
        ("threads", "0", "1"),
        ("max_execute", "0", "greater than 0"),
        ("max_execute", "nan", "86400"),
        ("max_frame_bytes", "2GiB", "1073217535"),
        ("max_in_flight_bytes", "3 parsecs", "byte unit: parsecs"),
        ("log_format", "xml", "'text' or 'json'"),
        ("device", "gpu", "cuda"),
        ("warm_up", "perhaps", "boolean"),
    ],
)
def test_an_error_names_setting_value_limit_and_source(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, limit: str
) -> None:
    told = problem({name: value})
    assert told.startswith(f"{name}: ")
    assert limit in told and f"got {value!r}" in told and f"(from {flag_of(name)})" in told
    monkeypatch.setenv(variable_of(name), value)
    assert f"(from {variable_of(name)})" in problem()


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "port: many\nthreads: 0\n")
    lines = problem(config=path).splitlines()
    assert [line.split(":")[0] for line in lines] == ["port", "threads"]
    assert f"(from {path}:1)" in lines[0] and f"(from {path}:2)" in lines[1]


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 * MIB), ("1.5 KiB", 1536), ("2kb", 2000), (" .5 MiB ", MIB // 2), ("7", 7)],
)
def test_sizes_may_have_units(text: str, size: int) -> None:
    assert load_settings({"max_frame_bytes": text}).settings.max_frame_bytes == size


@pytest.mark.parametrize("text", ["1,5GiB", "1_000", "64MiB and more", "-1", "", "MiB", "0x10"])
def test_a_size_is_read_to_its_end(text: str) -> None:
    assert "64MiB" in problem({"max_frame_bytes": text})


@given(st.integers(0, 1 << 50) | st.integers(0, 1 << 20).map(lambda n: n * KIB))
def test_a_size_as_text_is_the_same_size(size: int) -> None:
    assert ByteSize._validate(size_text(size), None) == size  # type: ignore[arg-type]


def test_size_text() -> None:
    sizes = (0, 1000, KIB, 64 * MIB, 3 * GIB, MIB + 1)
    assert [size_text(size) for size in sizes] == ["0", "1000", "1KiB", "64MiB", "3GiB", "1048577"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tls_certificate": "c"}, "tls_certificate needs tls_key too"),
        ({"tls_key": "k"}, "tls_key needs tls_certificate too"),
        ({"tls_client_ca": "a"}, "tls_client_ca needs tls_certificate too"),
        ({"admin_token": "t", "admin_token_file": "f"}, "both set: keep one"),
        ({"port": "8002"}, "port and metrics_port are both 8002"),
        ({"admin_port": "8001"}, "port and admin_port are both 8001"),
        (
            {"max_frame_bytes": "257MiB"},
            "max_frame_bytes 257MiB is more than max_client_in_flight_bytes 256MiB",
        ),
        (
            {"max_in_flight_bytes": "128MiB"},
            "max_client_in_flight_bytes 256MiB is more than max_in_flight_bytes 128MiB",
        ),
    ],
)
def test_settings_that_disagree_are_named_with_their_sources(
    flags: dict[str, str | bool], message: str
) -> None:
    told = problem(flags)
    assert message in told
    for name in flags:
        assert f"{name}: from {flag_of(name)}" in told
    with pytest.raises(ValidationError):
        Settings(**flags)  # type: ignore[arg-type]


def test_settings_that_agree() -> None:
    settings = Settings(
        port=0,
        metrics_port=0,
        admin_port=0,
        tls_certificate=Path("c"),
        tls_key=Path("k"),
        tls_client_ca=Path("a"),
        max_frame_bytes=ByteSize(MIB),
        max_client_in_flight_bytes=ByteSize(MIB),
        max_in_flight_bytes=ByteSize(MIB),
    )
    assert settings.grpc_receive_limit == 3 * MIB


def test_a_secret_is_in_no_message_and_no_print(tmp_path: Path) -> None:
    secret = "correct horse"
    effective = load_settings({"admin_token": secret})
    assert effective.settings.admin_token is not None
    assert effective.settings.admin_token.get_secret_value() == secret
    assert secret not in repr(effective) and secret not in as_yaml(effective)
    assert "not shown" in problem(config=write(tmp_path, "admin_token: 7234523"))
    assert "7234523" not in problem(config=write(tmp_path, "admin_token: 7234523"))
    told = problem({"admin_token": secret, "admin_token_file": "f"})
    assert secret not in told


@pytest.mark.parametrize("place", ["http://robot:{}@collector:4318", "http://{}@collector"])
def test_a_password_in_a_url_is_not_printed(place: str) -> None:
    secret = "c0rrect-horse"
    effective = load_settings({"otlp_endpoint": place.format(secret)})
    text = as_yaml(effective)
    assert secret not in text and "# otlp_endpoint: **********" in text
    wrong = problem({"otlp_endpoint": place.format(secret).replace("http", "grpc")})
    assert secret not in wrong and "otlp_endpoint" in wrong


def test_what_is_printed_can_be_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXGATE_HOST", "::1")
    monkeypatch.setenv("VOXGATE_OVERLOAD_PAUSE", "0.125")
    given: dict[str, str | bool] = {
        "models": "my models/#1: all",
        "max_frame_bytes": "3000KB",
        "max_in_flight_bytes": "3GiB",
        "admin_port": "0",
        "warm_up": False,
        "otlp_endpoint": "http://collector:4318",
        "log_level": "warning",
    }
    first = load_settings(given)
    text = as_yaml(first)
    assert "warm_up: false  # from --no-warm-up\n" in text
    assert "max_in_flight_bytes: 3GiB  # from --max-in-flight-bytes\n" in text
    assert "overload_pause: 0.125  # from VOXGATE_OVERLOAD_PAUSE\n" in text
    assert "threads: null  # default\n" in text
    assert max(map(len, text.splitlines())) <= 100
    monkeypatch.delenv("VOXGATE_HOST")
    monkeypatch.delenv("VOXGATE_OVERLOAD_PAUSE")
    path = write(tmp_path, text)
    assert list(yaml.safe_load(text)) == list(fields())
    second = load_settings({}, path)
    assert second.settings == first.settings
    with_secret = as_yaml(load_settings({**given, "admin_token": "secret"}))
    assert load_settings({}, write(tmp_path, with_secret)).settings.admin_token is None


def test_every_setting_has_a_description_and_a_panel() -> None:
    for name, field in fields().items():
        assert field.description and not field.description.endswith("."), name
        extra = field.json_schema_extra
        assert isinstance(extra, dict) and extra["panel"], name
