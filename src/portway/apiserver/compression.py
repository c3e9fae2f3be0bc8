"""gzip for answers that are worth it, to clients that accept it, as upstream compresses them.

Objects and lists beyond 128 KiB at level 1, which costs less time than the network would; the OpenAPI v2 document from
1,400 bytes on. Watches never. It is done in a thread, so that a long list doesn't hold up others.
Source: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters (threshold, level, how Accept-Encoding is read), and
github.com/NYTimes/gziphandler for OpenAPI v2.
"""

from __future__ import annotations

import asyncio
import gzip

from portway.apiserver.http import Response

_LEVEL = 1


def accepted(accept_encoding: str) -> bool:
    """Says whether a client named gzip. Like upstream, it must stand alone: with a quality it isn't taken."""
    return any(token.strip() == "gzip" for token in accept_encoding.split(","))


async def compressed(answer: Response, accept_encoding: str) -> Response:
    """Returns the answer, with its body compressed where that is wanted and worth it."""
    if len(answer.body) <= answer.compress_beyond or not accepted(accept_encoding):
        return answer
    body = await asyncio.to_thread(gzip.compress, answer.body, _LEVEL, mtime=0)
    headers = [*answer.headers, (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
    return Response(answer.status, body, answer.content_type, headers)
