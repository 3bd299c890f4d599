"""What a worker does before it needs a broker."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_BRIEFLY = """
import asyncio, gc, os, sys
from pathlib import Path
from processors.settings import Settings
from processors.shutdown import Shutdown
from processors.worker import run_worker

async def run():
    loop = asyncio.get_running_loop()
    shutdown = Shutdown(loop)
    settings = Settings(
        bootstrap_servers="127.0.0.1:1", data_dir=Path(sys.argv[1]), scan_engine="plain"
    )
    running = asyncio.create_task(run_worker(settings, shutdown))
    while not (gc.get_freeze_count() or running.done()):
        await asyncio.wait([running], timeout=0.05)
    print(gc.get_freeze_count(), flush=True)
    os._exit(0)

asyncio.run(run())
"""


def test_a_worker_leaves_what_is_loaded_out_of_garbage_collections(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN_BRIEFLY, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout.split()[-1]) > 50_000
