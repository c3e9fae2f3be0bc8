"""`hello`: says which replica answered, and what it was asked; a page for browsers, a line for programs."""

import os
from html import escape

from portway.node.demo import page, server
from portway.node.demo.server import Request, Response

_ABOUT = "Replicas take turns: ask again, and another one may answer."


async def handle(request: Request) -> Response:
    """Any path: who I am. `/headers` shows the request as this pod received it."""
    pod = os.environ.get("POD_NAME", "")
    if request.path == "/headers":
        lines = [f"{request.method} {request.path}", *(f"{name}: {value}" for name, value in request.headers.items())]
        return Response(("\n".join(lines) + "\n").encode())
    if "text/html" in request.headers.get("accept", ""):
        return Response(_page(pod, request), server.HTML)
    return Response(f"hello from {pod}\n".encode())


def _page(pod: str, request: Request) -> bytes:
    seen = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    content = (
        f"<header><h1>Hello from {escape(pod)}</h1><a href='./'>ask again</a></header>"
        + page.card("Who answers", f"<p>{escape(_ABOUT)} Your credentials are not among what it was sent.</p>")
        + page.card(
            "What this pod was sent", f"<pre>{escape(request.method)} {escape(request.path)}\n{escape(seen)}</pre>"
        )
    )
    return page.document(f"Hello from {pod}", content)


if __name__ == "__main__":
    server.run(handle)
