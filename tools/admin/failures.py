"""The failures of commands as lines for people and as documents for machines."""

from collections.abc import Mapping
from typing import Any

from schemas.errors import CJStreamError, Unreachable

Problem = Mapping[str, Any]
HINTS = {
    401: "sign in: `cjstream admin login`",
    403: "the token lacks a required role: `cjstream admin whoami` shows its roles",
    428: "this installation requires --if-version or --create-only",
}
KINDS = {2: "usage", 3: "discrepancy", 4: "unreachable"}


class Usage(CJStreamError):
    """Invalid arguments; the API was not called."""

    exit_code = 2


class NoAnswer(Unreachable):
    """The server cannot be reached or did not answer in time."""

    def __init__(self, url: str, cause: str, correlation_id: str) -> None:
        super().__init__(f"cannot reach {url}: {cause}")
        self.correlation_id = correlation_id


class Refused(CJStreamError):
    """A response that is not a success; `problem` is its problem document, or one made from the response."""

    def __init__(self, operation: str, status: int, problem: Problem, correlation_id: str) -> None:
        title, detail = problem.get("title", ""), problem.get("detail", "")
        super().__init__(f"{operation}: {status} {title}" + (f": {detail}" if detail else ""))
        self.status = status
        self.problem = problem
        self.correlation_id = correlation_id
        self.exit_code = 4 if 502 <= status <= 504 else 1

    @property
    def field_errors(self) -> list[str]:
        """One line per invalid field."""
        errors = self.problem.get("errors")
        listed = [error for error in errors if isinstance(error, dict)] if errors else []
        return [
            f"{error.get('location')}: {error.get('message')} ({error.get('code')})"
            for error in listed
        ]

    @property
    def hint(self) -> str | None:
        """What the user can do about it, if that is known."""
        if self.status == 412:
            version, tag = self.problem.get("current_version"), self.problem.get("current_tag")
            return f"the current version is {version}: read it, then retry with --if-version {tag}"
        return HINTS.get(self.status)


def lines_of(fault: CJStreamError) -> list[str]:
    """The failure as lines for people."""
    texts = getattr(fault, "lines", None) or (str(fault),)
    lines = [f"cjstream: {text}".replace("\n", " ") for text in texts]
    if isinstance(fault, Refused):
        lines += [f"  {line}" for line in fault.field_errors]
        lines += [f"  {fault.hint}"] if fault.hint else []
    if isinstance(fault, Refused | NoAnswer):
        lines.append(f"  X-Correlation-ID: {fault.correlation_id}")
    return lines


def document_of(fault: CJStreamError) -> Problem:
    """The failure as a document for machines: the API's problem, or one made by the command."""
    if isinstance(fault, Refused):
        return fault.problem
    return local_problem(str(fault), fault.exit_code)


def local_problem(detail: str, exit_code: int) -> Problem:
    """The problem document of a failure that the API did not report."""
    kind = KINDS.get(exit_code, "failed")
    return {
        "type": f"urn:cjstream:failure:{kind}",
        "title": kind.capitalize(),
        "detail": detail.encode(errors="replace").decode(),  # an argument may be invalid UTF-8
        "exit_code": exit_code,
    }
