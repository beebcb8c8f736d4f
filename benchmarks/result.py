# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a case hands back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.timing import Sample

_TO_MILLISECONDS = 1e3


@dataclass(frozen=True)
class Row:
    """One measured line: who, under what condition, how long, and figures that follow from it."""

    name: str
    threads: int
    seconds: Sample | None = None
    figures: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A figure held against its limit; `at_least` tells on which side the limit lies."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class CaseResult:
    """Rows and targets of one case; why (part of) it was not measured, or is not to be trusted."""

    name: str
    title: str
    conditions: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; times in milliseconds."""
        return {
            "name": self.name,
            "title": self.title,
            "conditions": self.conditions,
            "rows": [
                {
                    "name": row.name,
                    "threads": row.threads,
                    "milliseconds": row.seconds.as_json(_TO_MILLISECONDS) if row.seconds else None,
                    **row.figures,
                }
                for row in self.rows
            ],
            "targets": [{**asdict(target), "met": target.met} for target in self.targets],
            "not_measured": self.not_measured,
            "doubts": self.doubts,
        }
