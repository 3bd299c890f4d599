"""How an admin command fails: lines for people on stderr, and with --json a document on stdout."""

from collections.abc import Mapping
from typing import Any

from schemas.errors import CJStreamError, Unreachable

Problem = Mapping[str, Any]
HINTS = {
    401: "sign in: `cjstream admin login`",
    403: "the token lacks a role: `cjstream admin whoami` shows those it has",
    428: "this installation asks for --if-version or --create-only",
}
KINDS = {2: "usage", 3: "discrepancy", 4: "unreachable"}
TITLES = {"usage": "Usage", "discrepancy": "Discrepancy", "unreachable": "Unreachable"}


class Usage(CJStreamError):
    """A command that cannot be meant so; nothing was called."""

    exit_code = 2


class NoAnswer(Unreachable):
    """Nobody answered, or not in time."""

    def __init__(self, url: str, cause: str, correlation_id: str) -> None:
        super().__init__(f"cannot reach {url}: {cause}")
        self.correlation_id = correlation_id


class Refused(CJStreamError):
    """An answer that is no success; problem is its document, or one made of what there was."""

    def __init__(self, what: str, status: int, problem: Problem, correlation_id: str) -> None:
        title, detail = problem.get("title", ""), problem.get("detail", "")
        super().__init__(f"{what}: {status} {title}" + (f": {detail}" if detail else ""))
        self.status = status
        self.problem = problem
        self.correlation_id = correlation_id
        self.exit_code = 4 if 502 <= status <= 504 else 1

    @property
    def field_errors(self) -> list[str]:
        """One line a fault of a field."""
        errors = self.problem.get("errors")
        listed = [error for error in errors if isinstance(error, dict)] if errors else []
        return [
            f"{error.get('location')}: {error.get('message')} ({error.get('code')})"
            for error in listed
        ]

    @property
    def hint(self) -> str | None:
        """What to do about it, where that is known."""
        if self.status == 412:
            version, tag = self.problem.get("current_version"), self.problem.get("current_tag")
            return f"the current version is {version}: read it, then --if-version {tag}"
        return HINTS.get(self.status)


def lines_of(fault: CJStreamError) -> list[str]:
    """What people are told."""
    lines = [f"cjstream: {fault}".replace("\n", " ")]
    if isinstance(fault, Refused):
        lines += [f"  {line}" for line in fault.field_errors]
        lines += [f"  {fault.hint}"] if fault.hint else []
    if isinstance(fault, Refused | NoAnswer):
        lines.append(f"  X-Correlation-ID: {fault.correlation_id}")
    return lines


def document_of(fault: CJStreamError) -> Problem:
    """What machines are told: the API's problem, or one of the command's own."""
    if isinstance(fault, Refused):
        return fault.problem
    return own_problem(str(fault), fault.exit_code)


def own_problem(detail: str, exit_code: int) -> Problem:
    """A failure that the API did not see."""
    kind = KINDS.get(exit_code, "failed")
    return {
        "type": f"urn:cjstream:failure:{kind}",
        "title": TITLES.get(kind, "Failed"),
        "detail": detail.encode(errors="replace").decode(),  # an argument need not be UTF-8
        "exit_code": exit_code,
    }
