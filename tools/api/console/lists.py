"""One page of a list that a route of the API gives in pages."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from tools.api.console.in_process_api import Refused
from tools.api.console.pages import console_of, session_of

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class ListPage:
    """The items of one page, from 1, and how many there are in all."""

    items: list[dict[str, Any]]
    total: int
    number: int

    @property
    def shown(self) -> dict[str, Any]:
        """What templates show of it, by the names that they use."""
        pages = max(1, -(-self.total // PAGE_SIZE))
        return {"items": self.items, "total": self.total, "number": self.number, "pages": pages}


async def read_list(request: Request, path: str, **query: Any) -> ListPage:
    """The page that the request asks for; without items if a filter breaks a rule. Raises Refused."""
    number = page_number(request)
    answer = await console_of(request).api.call(
        request,
        session_of(request).caller,
        "GET",
        path,
        query={**query, "page": number, "page_size": PAGE_SIZE},
    )
    if answer.problem == "validation-failed":
        return ListPage([], 0, number)
    if not answer.is_ok:
        raise Refused(answer)
    return ListPage(answer.document["items"], answer.document["total"], number)


def page_number(request: Request) -> int:
    """The page of a list that the query asks for; the first one for anything that is no number of a page."""
    sent = request.query_params.get("page", "1")
    return max(1, int(sent)) if sent.isdecimal() and len(sent) < 9 else 1
