"""The quick part of the suite, for every change."""

from __future__ import annotations

FAST: frozenset[str] = frozenset()
