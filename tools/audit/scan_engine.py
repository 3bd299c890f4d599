"""The engine with which the audit checks the bytes of records."""

from processors.settings import Settings
from tables.scan.engine import load_engine
from tables.scan.plain import PlainEngine
from tables.scan.scanner import Engine

LOADED_US = 800_000.0  # what loading compiled functions takes


def engine_for(settings: Settings, saved_us: float) -> Engine:
    """The engine of the setting, but plain Python if compiled functions would save less time than they take."""
    if saved_us < LOADED_US:
        return PlainEngine()
    return load_engine(settings.scan_engine, settings.data_dir / "numba")
