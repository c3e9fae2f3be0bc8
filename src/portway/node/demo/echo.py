"""`echo-ws`: sends back what a WebSocket sends, and a page that tries it.

`/` is the page, `/ws` the WebSocket, `/say?text=` the same over plain HTTP, for a browser whose sandboxed page may not
open WebSockets with the caller's credentials.
"""

import asyncio
import os
from html import escape

from portway.node.demo import page, server, websocket
from portway.node.demo.server import Request, Response

_SCRIPT = """
const log = document.getElementById('log'), say = line => { log.textContent += line + '\\n' };
const url = new URL('ws', location.href); url.protocol = url.protocol.replace('http', 'ws'); url.search = '';
const socket = new WebSocket(url);
let opened = false;
socket.onopen = () => { opened = true; say('open: ' + url.pathname) };
socket.onmessage = event => say('\\u2190 ' + event.data);
socket.onclose = event => {
  say('closed (' + event.code + '); this form goes on over HTTP');
  document.getElementById('why').hidden = opened;
};
document.querySelector('form').addEventListener('submit', event => {
  if (socket.readyState !== 1) return;
  event.preventDefault(); const box = event.target.text;
  say('\\u2192 ' + box.value); socket.send(box.value); box.value = '';
});
"""
_WHY = (
    "Your browser adds your password to whatever this page asks for. So that no service can act with it, the door puts"
    " pages into a sandbox and lets none of them open WebSockets on your behalf. Programs that log in with a token can."
)


async def handle(request: Request) -> Response:
    """The page, and the echo over HTTP."""
    if request.path == "/ws":
        return Response(b"this is a WebSocket: ask for an upgrade\n", status=426, headers={"upgrade": "websocket"})
    if request.path not in ("/", "/say"):
        return Response(b"not found\n", status=404)
    said = request.argument("text") if request.path == "/say" else ""
    return Response(_page(said), server.HTML)


async def upgrade(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the handshake (RFC 6455 section 4.2) and echo until it ends."""
    key = request.headers.get("sec-websocket-key", "")
    if request.headers.get("upgrade", "").lower() != "websocket" or not key or request.path != "/ws":
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        return
    offered = [one.strip() for one in request.headers.get("sec-websocket-protocol", "").split(",")]
    chosen = f"sec-websocket-protocol: {offered[0]}\r\n" if offered[0] else ""
    accept = websocket.accept_key(key)
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        f"sec-websocket-accept: {accept}\r\n{chosen}\r\n".encode("latin-1")
    )
    await websocket.converse(reader, writer, _echo)


async def _echo(opcode: int, payload: bytes) -> tuple[int, bytes]:
    return opcode, payload


def _page(said: str) -> bytes:
    heard = f"\u2190 {escape(said)}\n" if said else ""
    content = (
        f"<header><h1>WebSocket echo</h1><span class='soft'>{escape(os.environ.get('POD_NAME', ''))}</span></header>"
        "<section class='card'><form action='say'><input type='text' name='text' placeholder='say something'"
        f" aria-label='text'><button>Send</button></form><pre id='log'>{heard}</pre></section>"
        f"<section class='card' id='why' hidden><h2>Why the WebSocket did not open</h2><p>{_WHY}</p></section>"
        f"<script>{_SCRIPT}</script>"
    )
    return page.document("WebSocket echo", content)


if __name__ == "__main__":
    server.run(handle, upgrade)
