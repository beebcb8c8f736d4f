# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Tokens: how they are made, listed, found, and what a broken list does."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from voxgate_server.errors import StartupError, Unauthenticated
from voxgate_server.token_commands import token as token_command
from voxgate_server.tokens import (
    TokenEntry,
    TokenFile,
    bearer_token,
    hash_token,
    new_token,
    parse_tokens,
)

SECRETS = [new_token() for _ in range(4)]
HASHES = [hash_token(secret) for secret in SECRETS]


def write(path: Path, *entries: dict[str, object]) -> Path:
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(list(entries)))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(
        tmp_path / "tokens.yaml",
        {"name": "robot-0", "sha256": HASHES[0]},
        {"name": "robot-1", "sha256": HASHES[1], "models": ["kitti-*"], "max_priority": 3},
    )


def names(path: Path) -> TokenFile[str]:
    return TokenFile(path, lambda entry: entry.name)


# Making ---------------------------------------------------------------------------------------


def test_tokens_have_256_bits_and_are_hashed_with_sha256() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"vxg_[\w-]{43}", token) for token in made)
    assert hash_token("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Reading the metadata -------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("raw", [False, True])
def test_the_token_is_found_in_the_metadata(scheme: str, raw: bool) -> None:
    value = f"{scheme} {SECRETS[0]}"
    metadata = (("user-agent", "x"), ("authorization", value.encode() if raw else value))
    assert bearer_token(metadata) == SECRETS[0]


@pytest.mark.parametrize(
    "values", [[], ["Basic dXNlcjpwYXNz"], ["Bearer"], ["Bearer  "], [""], ["Bearer a", "Bearer b"]]
)
def test_a_bad_credential_is_told_what_is_expected_and_not_repeated(values: list[str]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        bearer_token([("authorization", value) for value in values])
    assert "expected the metadata `authorization: Bearer TOKEN`" in str(refused.value)
    assert "dXNlcjpwYXNz" not in str(refused.value)


@given(st.binary(max_size=64))
def test_no_bytes_in_the_metadata_break_the_search(value: bytes) -> None:
    entry = TokenEntry(name="a", sha256=HASHES[0])
    try:
        token = bearer_token([("authorization", b"Bearer " + value)])
    except Unauthenticated:
        return
    assert hash_token(token) != entry.sha256


# The file -------------------------------------------------------------------------------------


def test_a_listed_token_is_found_and_others_are_not(path: Path) -> None:
    tokens = names(path)
    assert [tokens.find(secret) for secret in SECRETS] == ["robot-0", "robot-1", None, None]
    assert tokens.find(HASHES[0]) is None
    assert tokens.find("") is None
    assert tokens.find(SECRETS[0][:-1]) is None
    assert tokens.find_hash(HASHES[1]) == "robot-1"
    assert tokens.find_hash(HASHES[2]) is None


def test_every_listed_hash_is_compared_whichever_matches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, *({"name": f"{i}", "sha256": listed} for i, listed in enumerate(HASHES)))
    tokens = names(path)
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    for secret in (SECRETS[0], SECRETS[3], "unknown"):
        compared.clear()
        tokens.find(secret)
        assert compared == [bytes.fromhex(listed) for listed in HASHES]


def test_an_entry_has_all_it_may_say(tmp_path: Path) -> None:
    entry: dict[str, object] = {
        "name": "robot 7 (Öl)",
        "sha256": HASHES[0],
        "models": ["a", "kitti-*"],
        "max_priority": -2,
        "max_streams": 4,
        "max_in_flight_bytes": "64MiB",
    }
    for text in (yaml.safe_dump([entry]), json.dumps([entry])):
        (parsed,) = parse_tokens(text.encode(), "tokens.yaml")
        assert parsed.model_dump() == entry | {"max_in_flight_bytes": 64 << 20}
        assert HASHES[0] not in repr(parsed)


BROKEN = {
    "": "expected a list with at least one token",
    "[]": "expected a list with at least one token",
    f"name: a\nsha256: {HASHES[0]}": "expected a list",
    "- name: [": "line 1: not YAML",
    "- name: a\n  sha256: x: y": "line 2: not YAML",
    "\0": "not YAML",
    "- just text": "token 1: expected keys with values",
    "- name: a": "token 1 (a): sha256: Field required",
    f"- sha256: {HASHES[0]}": "token 1: name: Field required",
    f"- {{name: 7, sha256: {HASHES[0]}}}": "token 1: name: Input should be a valid string",
    f"- {{name: '', sha256: {HASHES[0]}}}": "token 1 (): name",
    f'- {{name: "a\\nb", sha256: {HASHES[0]}}}': "token 1: name: Value error, must be printable",
    f"- {{name: {SECRETS[0]}, sha256: {HASHES[0]}}}": "token 1: name: Value error, is a token",
    f"- {{name: a, sha256: {SECRETS[0]}}}": "token 1 (a): sha256: String should match",
    f"- {{name: a, sha256: {HASHES[0].upper()}}}": "token 1 (a): sha256: String should match",
    f"- {{name: a, {SECRETS[0]}: b, sha256: {HASHES[0]}}}": "(a token): unknown key, known are",
    f"- {{name: a, sha256: {HASHES[0]}, model: b}}": "token 1 (a): model: unknown key, known are "
    "name, sha256, models, max_priority, max_streams, max_in_flight_bytes",
    f"- {{name: a, sha256: {HASHES[0]}, models: []}}": "models: List should have at least 1",
    f"- {{name: a, sha256: {HASHES[0]}, models: b}}": "models: Input should be a valid list",
    f"- {{name: a, sha256: {HASHES[0]}, models: ['']}}": "models: 0: String should have at least",
    f"- {{name: a, sha256: {HASHES[0]}, max_priority: high}}": "max_priority: Input should be",
    f"- {{name: a, sha256: {HASHES[0]}, max_priority: true}}": "max_priority: Input should be",
    f"- {{name: a, sha256: {HASHES[0]}, max_streams: 0}}": "max_streams: Input should be greater",
    f"- {{name: a, sha256: {HASHES[0]}, max_in_flight_bytes: -1}}": "in_flight_bytes: could not",
    f"- name: a\n  sha256: {HASHES[0]}\n  name: b": "line 3: not YAML: name is given twice",
    f"- {{name: a, sha256: {HASHES[0]}}}\n- {{name: a, sha256: {HASHES[1]}}}": "tokens 1 and 2 "
    "have the same name",
    f"- {{name: a, sha256: {HASHES[0]}}}\n- {{name: b, sha256: {HASHES[0]}}}": "tokens 1 and 2 "
    "have the same sha256",
    "- " * 10_000: "not YAML",
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_list_stops_the_start_and_says_where(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(StartupError) as stopped:
        names(path)
    message = str(stopped.value)
    assert message.startswith(f"list of tokens: {path}") and BROKEN[text] in message
    assert not any(secret in message for secret in SECRETS + HASHES)
    assert "\n" not in message


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"gone\.yaml: No such file"):
        names(tmp_path / "gone.yaml")


def test_a_file_that_everyone_may_change_stops_the_start(path: Path) -> None:
    path.chmod(0o602)
    with pytest.raises(StartupError, match="let themselves in: chmod o-w"):
        names(path)


def test_a_file_that_everyone_may_read_is_warned_of(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names(path)
    assert not caplog.records
    path.chmod(0o644)
    names(path)
    assert f"chmod o-r {path}" in caplog.text


def test_tokens_come_and_go_while_the_server_runs(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tokens = names(path)
    assert not tokens.poll()
    write(path, {"name": "robot-2", "sha256": HASHES[2]})
    assert not tokens.poll()
    assert tokens.find(SECRETS[0]) == "robot-0"
    assert tokens.poll()
    assert [tokens.find(secret) for secret in SECRETS] == [None, None, "robot-2", None]
    assert not tokens.poll()
    assert [record.getMessage() for record in caplog.records] == [
        f"list of tokens reloaded from {path}"
    ]


@pytest.mark.parametrize("change", ["broken", "empty", "gone", "a token in place of its hash"])
def test_a_broken_change_keeps_the_tokens_and_is_logged_once(
    path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = names(path)
    if change == "broken":
        path.write_text(path.read_text() + "-")
    elif change == "empty":
        path.write_text("")
    elif change == "gone":
        path.unlink()
    else:
        write(path, {"name": "robot-0", "sha256": SECRETS[0]})
    assert [tokens.poll() for _ in range(5)] == [False] * 5
    assert tokens.find(SECRETS[0]) == "robot-0"
    (record,) = caplog.records
    assert "list of tokens changed but stays as it was" in record.getMessage()
    assert str(path) in record.getMessage()
    assert not any(secret in caplog.text for secret in SECRETS + HASHES)

    write(path, {"name": "robot-3", "sha256": HASHES[3]})
    assert [tokens.poll(), tokens.poll()] == [False, True]
    assert tokens.find(SECRETS[3]) == "robot-3"


def test_a_link_turned_to_another_file_is_a_change(path: Path, tmp_path: Path) -> None:
    """As a cluster updates a mounted secret."""
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    tokens = names(link)
    other = write(tmp_path / "other.yaml", {"name": "robot-2", "sha256": HASHES[2]})
    (tmp_path / "new").symlink_to(other)
    (tmp_path / "new").rename(link)
    assert [tokens.poll(), tokens.poll()] == [False, True]
    assert tokens.find(SECRETS[2]) == "robot-2"


# `voxgate token` ------------------------------------------------------------------------------


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(rich_markup_mode="markdown")
    app.command()(token_command)
    return app


def test_the_command_prints_the_token_and_its_entry_apart(app: typer.Typer, path: Path) -> None:
    arguments = ["--name", "robot-9", "--models", "kitti-*, nuscenes", "--max-priority", "2"]
    arguments += ["--max-streams", "3", "--max-in-flight-bytes", "1GiB"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    token = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"vxg_[\w-]{43}", token)
    assert token not in result.stderr

    with path.open("a") as file:
        file.write(result.stderr)
    tokens = TokenFile(path, lambda entry: entry)
    entry = tokens.find(token)
    assert entry is not None
    assert entry.model_dump(exclude={"sha256"}) == {
        "name": "robot-9",
        "models": ["kitti-*", "nuscenes"],
        "max_priority": 2,
        "max_streams": 3,
        "max_in_flight_bytes": 1 << 30,
    }
    assert tokens.find(SECRETS[0]) is not None


def test_the_command_names_a_token_that_was_given_no_name(app: typer.Typer) -> None:
    results = [CliRunner().invoke(app, []) for _ in range(2)]
    entries = [parse_tokens(result.stderr.encode(), "stderr")[0] for result in results]
    assert len({entry.name for entry in entries} | {entry.sha256 for entry in entries}) == 4
    assert all(entry.models is None and entry.max_priority is None for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", " a"], "--name: Value error, must be printable"),
        (["--models", ","], "--models: String should have at least 1 character"),
        (["--max-priority", str(1 << 31)], "--max-priority: Input should be less than 2147483648"),
        (["--max-streams", "0"], "--max-streams: Input should be greater than or equal to 1"),
        (["--max-in-flight-bytes", "much"], "--max-in-flight-bytes: could not parse"),
    ],
)
def test_the_command_explains_what_it_cannot_use(
    app: typer.Typer, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr and "got " in result.stderr


def test_the_help_teaches(app: typer.Typer) -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for text in ("authorization: Bearer TOKEN", "2>> tokens.yaml", "--tokens", "revoke"):
        assert text in shown
