# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Where settings come from: a YAML file, the environment, flags, each overriding those before."""

from __future__ import annotations

import difflib
import os
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ByteSize, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from voxgate_server.errors import StartupError
from voxgate_server.settings import Settings, environment, is_foreign, size_text

CONFIG_VARIABLE = "VOXGATE_CONFIG"
DEFAULT = "default"
_PREFIX = "VOXGATE_"
# Read by other parts of the project, in the server's process or beside it.
_OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, "VOXGATE_CPU_ISA", "VOXGATE_DATA", "VOXGATE_OPERATORS_LIBRARY"}
)
_COMMENT_WIDTH = 96


class SettingsError(StartupError):
    """A setting that is unknown, out of bounds or at odds with another; one line for each."""


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """The settings that hold, and for each where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def fields() -> dict[str, FieldInfo]:
    """Every setting by name, in the order in which they are shown."""
    return Settings.model_fields


def panel_of(field: FieldInfo) -> str:
    """The heading under which a setting is shown."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["panel"])


def flag_of(name: str, value: str | bool = True) -> str:
    """The command-line flag that gives a setting this value."""
    return ("--no-" if value is False else "--") + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return _PREFIX + name.upper()


def load_settings(flags: Mapping[str, str | bool], config: Path | None = None) -> EffectiveSettings:
    """Settings from `config` (else the file that VOXGATE_CONFIG names), the environment, `flags`.

    `flags` holds the ones given, by setting; "null" unsets one that may be unset.

    Raises:
        SettingsError: a file that cannot be read, unknown names, values out of bounds.
    """
    origins = dict.fromkeys(fields(), DEFAULT)
    values: dict[str, Any] = {}
    named = os.environ.get(CONFIG_VARIABLE)
    if config is None and named:
        config = Path(named)
    if config is not None:
        values, origins = _read_file(config, origins)
    from_environment = environment()()
    values |= from_environment
    origins |= {name: variable_of(name) for name in from_environment}
    values |= {name: None if value == "null" else value for name, value in flags.items()}
    origins |= {name: flag_of(name, value) for name, value in flags.items()}
    _check_variables(os.environ, with_tokens=values.get("tokens") is not None)
    try:
        return EffectiveSettings(Settings(**values), origins)
    except ValidationError as error:
        lines = [_explain(item, origins) for item in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def _read_file(path: Path, origins: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        values: Any = None if node is None else loader.construct_document(node)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {path}: {error}") from error
    if values is None:
        return {}, dict(origins)
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"settings file {path}: expected lines of `name: value`")
    found: dict[str, str] = {}
    problems = []
    for key, _ in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if key.value not in origins:
            problems.append(f"{where}: no such setting: {_unknown(key.value, origins)}")
        elif key.value in found:
            problems.append(f"{where}: {key.value} is already set by {found[key.value]}")
        else:
            found[key.value] = where
    if problems:
        raise SettingsError("\n".join(problems))
    return values, {**origins, **found}


def _check_variables(variables: Mapping[str, str], with_tokens: bool) -> None:
    known = {variable_of(name) for name in fields()} | _OTHER_VARIABLES
    if with_tokens:
        # The clients' token. A server without tokens does not take it for a misspelt one of its
        # own: it would serve everyone.
        known.add("VOXGATE_TOKEN")
    unknown = [
        name
        for name, value in variables.items()
        if name.upper().startswith(_PREFIX)
        and name.upper() not in known
        and not is_foreign(name, value)
    ]
    if unknown:
        lines = (f"no such variable: {_unknown(name, known)}" for name in sorted(unknown))
        raise SettingsError("\n".join(lines))


def _unknown(name: str, known: Iterable[str]) -> str:
    if not name.isprintable():
        name = repr(name)
    folded = name.upper() if name.upper().startswith(_PREFIX) else name.lower().replace("-", "_")
    close = difflib.get_close_matches(folded, list(known), n=1)
    advice = f"did you mean {close[0]}?" if close else "`voxgate serve --help` lists them"
    return f"{name}; {advice}"


def _explain(item: ErrorDetails, origins: Mapping[str, str]) -> str:
    """One line: the setting, what is wrong with its value, where it came from, what it is for."""
    if item["type"] == "disagree":
        context = item["ctx"]
        sources = ", ".join(f"{name}: {_source(origins[name])}" for name in context["names"])
        return f"{context['message']} ({sources})"
    name = str(item["loc"][0])
    field = fields()[name]
    given = item["input"]
    hidden = _is_secret(field) or (isinstance(given, str) and _has_credentials(given))
    value = "a value that is not shown" if hidden else repr(given)
    return f"{name}: {item['msg']}, got {value} ({_source(origins[name])}). {field.description}"


def _source(origin: str) -> str:
    return origin if origin == DEFAULT else f"from {origin}"


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))


def _has_credentials(text: str) -> bool:
    """Whether `text` is a URL with a user, and so perhaps a password, in it."""
    return "@" in text.partition("://")[2]


def as_yaml(effective: EffectiveSettings) -> str:
    """The settings as a file for `--config`, with what each is for and where it came from.

    Secrets are left out; what gave them must give them again.
    """
    lines = ["# Every setting of `voxgate serve`. Save it and start with --config FILE.", ""]
    panel = ""
    for name, field in fields().items():
        if panel_of(field) != panel:
            panel = panel_of(field)
            lines += [f"## {panel}", ""]
        lines += textwrap.wrap(
            f"{field.description}.",
            _COMMENT_WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        line = _yaml_line(name, getattr(effective.settings, name))
        lines += [f"{line}  # {_source(effective.origins[name])}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _yaml_line(name: str, value: object) -> str:
    if isinstance(value, SecretStr) or (isinstance(value, str) and _has_credentials(value)):
        return f"# {name}: **********  # secrets are not printed, give it again"
    return yaml.safe_dump({name: plain(value)}, width=10_000, allow_unicode=True).rstrip("\n")


def plain(value: object) -> object:
    """A setting's value as the file would have it."""
    if isinstance(value, ByteSize):
        return size_text(value)
    return str(value) if isinstance(value, Path) else value
