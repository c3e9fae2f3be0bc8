"""What the door itself says: Status objects for programs, a page that explains for people, and plain texts for health
checks.
"""

import html
from typing import Final

import orjson

from portway.kube.errors import StatusError

_REASONS: Final = {
    200: b"OK", 301: b"Moved Permanently", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout", 413: b"Request Entity Too Large", 414: b"URI Too Long",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip

_TITLES: Final = {
    400: "The door could not understand this request",
    401: "Please log in",
    403: "You may not open this",
    404: "There is nothing here",
    503: "The service cannot be reached",
    504: "The service did not answer in time",
}
_NEXT: Final = {
    400: "Check the address: a service is reached as /api/v1/namespaces/NAMESPACE/services/[https:]NAME[:PORT]/proxy/.",
    401: "Reload the page and enter the user name and password that your administrator, or <code>portway up</code>, "
    "gave you.",
    403: "Ask an administrator for a role that allows it, or try another user. <code>kubectl auth can-i --list</code> "
    "shows what you may do.",
    404: "Look for the name with <code>kubectl get services --all-namespaces</code>, or list the links that work with "
    "<code>portway cluster-info</code>.",
    503: "Look at its endpoints with <code>kubectl get endpoints</code> and at its pods with "
    "<code>kubectl get pods</code>; when they are ready again, reload this page.",
    504: "Reload the page to try again.",
}

_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{code} · {title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #f4f6f8; margin: 0 }}
main {{ max-width: 42rem; margin: 12vh auto; padding: 2rem; background: #fff; border-radius: 12px; box-shadow: 0 1px
4px #0002 }} h1 {{ font-size: 1.4rem; margin: 0 0 1rem }} code {{ background: #eef2f6; padding: .1em .35em;
border-radius: 4px }} .why {{ border-left: 4px solid #d9822b; padding-left: 1rem; overflow-wrap: anywhere }}
footer {{ color: #68788a; font-size: .85rem; margin-top: 2rem }}
@media (prefers-color-scheme: dark) {{ body {{ background: #10161c; color: #dde5ec }} main {{ background: #1a232c }}
code {{ background: #26323d }} }}
</style></head>
<body><main><h1>{title}</h1><p class="why">{message}</p><p>{advice}</p>
<footer>{code} {reason} · Portway · request {audit}</footer></main></body></html>
"""


def head(code: int, content_type: bytes, length: int, extra: bytes = b"") -> bytes:
    """A response head of our own, without its empty line; `extra` is whole field lines."""
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-cache, private\r\n%b" % (
        code,
        _REASONS.get(code, b"Error"),
        content_type,
        length,
        extra,
    )


def status(error: StatusError, audit: str, as_page: bool, extra: bytes = b"") -> tuple[bytes, bytes]:
    """Head (without its empty line) and body for an error: a metav1.Status, or a page for browsers."""
    value = error.status()
    if error.code == 403 or as_page:
        extra += b"X-Content-Type-Options: nosniff\r\n"
    if error.retry_after is not None:
        extra += b"Retry-After: %d\r\n" % error.retry_after
    if as_page:
        extra += b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
        body = _page(error, audit)
        return head(error.code, b"text/html; charset=utf-8", len(body), extra), body
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return head(error.code, b"application/json", len(body), extra), body


def _page(error: StatusError, audit: str) -> bytes:
    return _PAGE.format(
        code=error.code,
        title=_TITLES.get(error.code, "That did not work"),
        message=html.escape(error.message),
        advice=_NEXT.get(error.code, "Reload the page to try again."),
        reason=html.escape(error.reason),
        audit=html.escape(audit),
    ).encode()


def text(code: int, body: bytes, extra: bytes = b"") -> tuple[bytes, bytes]:
    """A plain text answer, as health checks give."""
    return head(code, b"text/plain; charset=utf-8", len(body), b"X-Content-Type-Options: nosniff\r\n" + extra), body


def moved(location: bytes) -> tuple[bytes, bytes]:
    """301 to a path, empty body."""
    return (
        b"HTTP/1.1 301 Moved Permanently\r\nLocation: %b\r\nContent-Length: 0\r\nCache-Control: no-cache, private\r\n"
        % location,
        b"",
    )


def elsewhere(location: bytes) -> tuple[bytes, bytes]:
    """307 to a URL, empty body."""
    return (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
        % location,
        b"",
    )
