# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What `config.yaml` may say, and how it is told that it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgate_ops.errors import ModelError
from voxgate_server.model_config import MAX_CONFIG_BYTES, ModelConfig, parse_config
from voxgate_server.settings import Settings


def test_every_key_reaches_the_settings_of_the_model() -> None:
    text = b"""
    device: cpu
    threads: 3
    instances: 2
    use_tf32: yes
    warm_up: no
    max_batch_sites: 1000
    max_batch_frames: 4
    max_queue_delay: 0.25
    max_frame_sites: 500
    max_frame_bytes: 4096
    """
    config = parse_config(text, "m/1/config.yaml")
    assert set(config.model_dump(exclude_none=True)) == set(ModelConfig.model_fields)
    settings = config.settings(Settings(queued_frames=5))
    for name, value in config.model_dump().items():
        assert getattr(settings, name) == value
    assert settings.queued_frames == 5


def test_a_version_wins_over_its_model_and_both_over_the_server() -> None:
    general = parse_config(b"threads: 2\ninstances: 2\n", "m/config.yaml")
    own = parse_config(b"instances: 3\nmax_queue_delay: 1\n", "m/1/config.yaml")
    settings = own.over(general).settings(Settings(threads=8, instances=8, max_batch_frames=7))
    assert (settings.threads, settings.instances) == (2, 3)
    assert (settings.max_queue_delay, settings.max_batch_frames) == (1.0, 7)


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"---\n", b"threads:\n", b"threads: null\n"])
def test_silence_leaves_the_servers_settings(text: bytes) -> None:
    assert parse_config(text, "m/1/config.yaml") == ModelConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"threads: 1\nmax_batch: 3", ["line 2", "'max_batch'", "max_batch_sites, max_batch_fr"]),
        (b"1: 3", ["line 1", "key 1 is unknown"]),
        (b"threads: many", ["line 1", "threads", "integer", "'many'"]),
        (b"threads: true", ["line 1", "threads", "integer", "True"]),
        (b"threads: 1.0", ["threads", "integer", "1.0"]),
        (b"\nthreads: 0", ["line 2", "threads", "greater than or equal to 1", "0"]),
        (b"warm_up: 1", ["warm_up", "boolean", "1"]),
        (b"device: gpu", ["device", "'gpu'"]),
        (b"device: [cpu]", ["device", "string", "['cpu']"]),
        (b"max_queue_delay: .nan", ["max_queue_delay", "nan"]),
        (b"max_queue_delay: .inf", ["max_queue_delay", "inf"]),
        (b"max_queue_delay: -1", ["max_queue_delay", "-1"]),
        (b"threads: 0\nwarm_up: 7", ["line 1: threads", "line 2: warm_up"]),
        (b"threads: 1\nthreads: 2", ["line 2", "'threads' is given twice"]),
        (b"- threads", ["key: value", "['threads']"]),
        (b"threads", ["key: value", "'threads'"]),
        (b"threads: [", ["line 1"]),
        (b"a: &x 1\nthreads: *x", ["line 2", "references"]),
        (b"<<: {threads: 1}", ["line 1"]),
        (b"threads: !!python/object/apply:os.getpid []", ["line 1", "constructor"]),
        (b"? [a]\n: 1", ["line 1"]),
        (b"a: 1\n---\nb: 2", ["line 2", "another document"]),
        (b"\xff\xfe\xfd", ["not YAML"]),
        (b"[" * 8000, ["not YAML"]),
        (b"threads: " + b"9" * 5000, ["m/1/config.yaml"]),
    ],
)
def test_a_mistake_is_named_with_its_place(text: bytes, told: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        parse_config(text, "m/1/config.yaml")
    message = str(caught.value)
    assert "m/1/config.yaml" in message and len(message) < 1000
    for part in told:
        assert part in message


def test_a_config_is_small() -> None:
    parse_config(b"#" * MAX_CONFIG_BYTES, "m/config.yaml")
    with pytest.raises(ModelError, match=f"{MAX_CONFIG_BYTES + 1} bytes.*at most"):
        parse_config(b"#" * (MAX_CONFIG_BYTES + 1), "m/config.yaml")


def test_a_model_takes_no_frames_that_the_server_does_not_receive() -> None:
    config = parse_config(b"max_frame_bytes: 2000", "m/config.yaml")
    with pytest.raises(ModelError, match="is 2000, the server receives at most 1000"):
        config.settings(Settings(max_frame_bytes=1000))  # type: ignore[arg-type]


@given(st.binary(max_size=200) | st.text(alphabet="abt:-[]{}&*!<> \n'\"?#%@1.", max_size=60))
def test_whatever_it_holds_it_is_a_config_or_refused(raw: bytes | str) -> None:
    text = raw if isinstance(raw, bytes) else raw.encode()
    try:
        assert isinstance(parse_config(text, "m/config.yaml"), ModelConfig)
    except ModelError as error:
        assert "m/config.yaml" in str(error)
