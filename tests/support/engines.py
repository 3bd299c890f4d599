"""Both engines that scan records."""

import os
from operator import attrgetter
from pathlib import Path

from tables.scan.engine import CACHE_VARIABLE, load_engine
from tables.scan.plain import PlainEngine
from tables.scan.scanner import Engine

ENGINES: list[Engine] = [load_engine("numba", Path(os.environ[CACHE_VARIABLE])), PlainEngine()]
NAME_OF = attrgetter("name")
