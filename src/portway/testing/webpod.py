"""A pod's program for tests, a process of its own: `python -m portway.testing.webpod ADDRESS PORT`.

Answers with its address after a moment. At SIGTERM it does what Go's http.Server.Shutdown does: it accepts no more,
closes idle connections, lets requests end, and says how many it answered.
"""

import asyncio
import sys

from aiohttp import web

MOMENT = 0.005
"""Seconds that a request takes, so that some are always under way."""


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    answered = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal answered
        await asyncio.sleep(MOMENT)
        answered += 1
        return web.Response(text=address)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    web.run_app(application, host=address, port=port, print=None, access_log=None, shutdown_timeout=10)
    print(answered, flush=True)


if __name__ == "__main__":
    main()
