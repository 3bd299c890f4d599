"""A judge provider on loopback that counts its calls and is faulty, and a judge process that asks it.

The protocol is one line each way: the id of the call, then what the provider does with it. A provider has counted a
call before it does anything else, as a real one has charged it. The judge process kills or freezes itself as planned:
at a point of a transaction, or when its nth call was counted (sent) or answered.
"""

import asyncio
import hashlib
import os
import signal
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import processors.judge_app
from processors.judge_app import JudgeProcess, build_judge
from processors.judging.judges.judge import Answered, Failed, Judge, JudgeRequest
from processors.judging.judges.known_judges import judges_of
from processors.judging.judges.simulated import PROVIDER
from processors.judging.run_items import FindAnchors
from processors.settings import Settings, settings_from_environment
from schemas.codec import Codec
from schemas.models import Catalogue
from tests.faults.planned_faults import Plan, log_line, with_plan
from tools.judge import run

COMMAND = ("-m", "tests.faults.counting_provider")
ADDRESS = "COUNTING_PROVIDER"
ANSWER, STORM, BROKEN, GARBAGE, CLOSE, HANG = "answer", "429", "500", "garbage", "close", "hang"
STORM_EVERY, STORM_CALLS = 150, 12  # of so many calls, the last ones are refused


@dataclass
class CountingProvider:
    """The calls that a provider has counted, in order; is_faulty: it does not only answer."""

    is_faulty: bool
    answers_after_s: float = 0
    address: str = ""
    calls: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, call: str) -> str:
        """Count a call; returns what happens to it."""
        with self._lock:
            self.calls.append(call)
            number = len(self.calls) % STORM_EVERY
        if not self.is_faulty:
            return ANSWER
        if number >= STORM_EVERY - STORM_CALLS:
            return STORM
        share = hashlib.sha256(call.encode()).digest()[0]
        faults = ((4, BROKEN), (10, GARBAGE), (13, CLOSE), (15, HANG))  # of 256
        return next((fault for limit, fault in faults if share < limit), ANSWER)


@contextmanager
def counting_provider(*, is_faulty: bool, answers_after_s: float = 0) -> Iterator[CountingProvider]:
    """A provider that runs until the end of the block."""
    provider = CountingProvider(is_faulty, answers_after_s)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):  # the judge was killed
                if call := self.rfile.readline().decode().strip():
                    does = provider.count(call)
                    if does == HANG:
                        provider.stopping.wait(60)
                    elif does != CLOSE:
                        provider.stopping.wait(provider.answers_after_s)
                        self.wfile.write(f"{does}\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        host, port = server.server_address[:2]
        provider.address = f"{host!s}:{port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            provider.stopping.set()
            server.shutdown()
            thread.join()


@dataclass
class CountedJudge:
    """Asks the provider; the winner is the simulated judge's."""

    simulated: Judge
    address: str
    plan: Plan
    calls: int = 0

    async def ask(self, request: JudgeRequest, timeout_s: float) -> Answered | Failed:
        """Ask once."""
        try:
            does = await asyncio.wait_for(self._counted(str(request.call)), timeout_s)
        except (TimeoutError, ConnectionError):
            return Failed(reason="timeout")
        answer = await self.simulated.ask(request, timeout_s)
        self._reached("answered")
        match does:
            case "429":
                return Failed(reason="rate_limited", http_status=429, retry_after_ms=50)
            case "500":
                return Failed(reason="provider_error", http_status=500)
            case "garbage":
                garbage = b"I like both."
                return Failed(reason="invalid_answer", usage=answer.usage, response=garbage)
        return answer

    async def close(self) -> None:
        """Each call has a connection of its own."""

    async def _counted(self, call: str) -> str:
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"{call}\n".encode())
            await writer.drain()
            if self.plan.point == "sent":
                self.calls += 1
                self._reached("sent")
            line = await reader.readline()
            if not line:
                raise ConnectionResetError
            return line.decode().strip()
        finally:
            writer.close()

    def _reached(self, point: str) -> None:
        if self.plan.point != point:
            return
        self.calls += point == "answered"
        if self.calls == self.plan.nth:
            log_line(f"planned fault when a call is {point}")
            os.kill(os.getpid(), signal.SIGKILL)


def build_counted_judge(
    settings: Settings, codec: Codec, catalogue: Catalogue, find_anchors: FindAnchors
) -> JudgeProcess:
    """A judge process whose producer follows the plan."""
    process = build_judge(settings, codec, catalogue, find_anchors)
    producer = process.producer
    plan = Plan.from_environment(os.environ)
    producer.new_producer = with_plan(producer.new_producer, plan)
    return process


def main() -> None:
    """Run a judge that asks the provider, with the plan in the environment."""
    plan = Plan.from_environment(os.environ)

    def counted_judges(settings: Settings, catalogue: Catalogue) -> dict[str, Judge]:
        judge = judges_of(settings, catalogue)[PROVIDER]
        return {PROVIDER: CountedJudge(judge, os.environ[ADDRESS], plan)}

    app = vars(processors.judge_app)
    app["judges_of"] = counted_judges
    app["build_judge"] = build_counted_judge
    run(settings_from_environment())


if __name__ == "__main__":
    main()
