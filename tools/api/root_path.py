"""The API below a path prefix of a proxy, which may pass the prefix on or remove it."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class RootPath:
    """Gives every request the path that its client sees: with the prefix, which is also its `root_path`."""

    app: ASGIApp
    prefix: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            path = scope["path"]
            is_complete = path == self.prefix or path.startswith(f"{self.prefix}/")
            path = path if is_complete else self.prefix + path
            scope = {**scope, "root_path": self.prefix, "path": path}
        await self.app(scope, receive, send)
