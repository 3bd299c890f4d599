"""Chooses the engine: compiled functions where numba can be loaded, plain Python elsewhere.

The compiler takes seconds, so its results are kept in a folder; loading them takes less than a second.
"""

import hashlib
import importlib
import logging
import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from schemas.errors import Misconfigured
from tables.scan.plain import PlainEngine
from tables.scan.scanner import Engine

log = logging.getLogger("cjstream.scan")
Choice = Literal["auto", "numba", "plain"]
CACHE_VARIABLE = "NUMBA_CACHE_DIR"  # numba's own; it replaces the folder below the data folder
COMPILED = (
    "tables.scan.layout",
    "tables.scan.memory",
    "tables.scan.hashing",
    "tables.scan.compiled",
    "tables.scan.scope_keys",
)


def load_engine(choice: Choice, cache_dir: Path, modules: Sequence[str] = ()) -> Engine:
    """The engine of this process; returns when nothing remains to be compiled.

    modules: further modules with compiled functions that the caller will import. Raises Misconfigured if the choice is
    numba and it cannot be loaded; `auto` then gives the plain engine.
    """
    if choice == "plain":
        return _logged(PlainEngine(), time.monotonic())
    started_at = time.monotonic()
    try:
        return _logged(_compiled_engine(cache_dir, modules), started_at)
    except Exception as fault:  # whatever keeps a compiler from working
        reason = f"{type(fault).__name__}: {str(fault)[:200]}"
        if choice == "numba":
            raise Misconfigured(f"numba cannot be loaded ({reason})") from fault
        log.warning("numba cannot be loaded, records are scanned slowly", extra={"reason": reason})
        return PlainEngine()


def _logged(engine: Engine, started_at: float) -> Engine:
    took_ms = round((time.monotonic() - started_at) * 1000)
    log.info("records are scanned", extra={"engine": engine.name, "took_ms": took_ms})
    return engine


def _compiled_engine(cache_dir: Path, modules: Sequence[str]) -> Engine:
    folder = Path(os.environ.get(CACHE_VARIABLE, cache_dir))
    _import_compiled(COMPILED, folder / _digest_of(COMPILED))
    if modules:
        _import_compiled(modules, folder / _digest_of((*COMPILED, *modules)))
    from tables.scan.compiled import CompiledEngine

    return CompiledEngine()


def _import_compiled(modules: Sequence[str], folder: Path) -> None:
    """Compile modules, or load them from the folder: one for each state of their files and of all that they call.

    numba compares a cached function with its own file only, not with the files of those that it calls.
    """
    import numba  # slow to import: only the worker and the audit need it

    folder.mkdir(parents=True, exist_ok=True)
    numba.config.CACHE_DIR = str(folder)
    for module in modules:
        importlib.import_module(module)


def _digest_of(modules: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for module in modules:
        spec = find_spec(module)
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]
