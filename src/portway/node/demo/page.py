"""HTML for the demo's pages: one look, no scripts needed, links relative so that they work under any prefix.

A page that is reached through the door's path form runs in a sandboxed origin: no cookies, no storage, no fetch with
the caller's credentials. So everything is drawn on the server, and forms and links do the rest.
"""

from html import escape

_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1d2733;--soft:#657184;--line:#e3e7ed;--accent:#2f6fde;
--info:#4d8ef0;--warn:#e8a33d;--error:#d9534f}@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;
--ink:#e6eaf0;--soft:#93a0b3;--line:#2b3440;--accent:#7aa7f5}}*{box-sizing:border-box}body{margin:0;
background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}main{max-width:1060px;margin:0 auto;
padding:28px 20px 48px}h1{font-size:22px;margin:0}h2{font-size:14px;margin:0 0 12px;color:var(--soft);
font-weight:600}header{display:flex;gap:16px;align-items:baseline;justify-content:space-between;flex-wrap:wrap;
margin-bottom:20px}.soft{color:var(--soft)}.card{background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:18px 20px;margin-bottom:16px}.row{display:grid;grid-template-columns:repeat(auto-fit,
minmax(220px,1fr));gap:16px;margin-bottom:16px}.row .card{margin:0}.big{font-size:28px;font-weight:650;
line-height:1.2}form{display:flex;gap:8px;flex-wrap:wrap}input,select,button{font:inherit;color:inherit;
background:var(--bg);border:1px solid var(--line);border-radius:7px;padding:7px 11px}input[type=text]{flex:1;
min-width:160px}button{background:var(--accent);border-color:var(--accent);color:#fff;cursor:pointer}a{
color:var(--accent)}table{width:100%;border-collapse:collapse;font-size:13.5px}td,th{text-align:left;
padding:6px 10px 6px 0;border-top:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600;
border:0}td.time{white-space:nowrap;color:var(--soft);font-variant-numeric:tabular-nums}.tag{display:inline-block;
border-radius:5px;padding:0 7px;font-size:12px;color:#fff}.tag.info{background:var(--info)}.tag.warn{
background:var(--warn)}.tag.error{background:var(--error)}code,pre{font:13px/1.5 ui-monospace,monospace}pre{
background:var(--bg);border:1px solid var(--line);border-radius:7px;padding:10px 12px;overflow:auto;margin:10px 0 0}
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}.scroll{
overflow-x:auto}
"""


def document(title: str, content: str, refresh: int = 0) -> bytes:
    """A whole page; `refresh` seconds between reloads, 0 = none. `content` is HTML."""
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{again}'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{content}</main></body></html>\n"
    ).encode()


def card(heading: str, content: str) -> str:
    """A box with a heading; both HTML-safe already, the heading is escaped here."""
    return f'<section class="card"><h2>{escape(heading)}</h2>{content}</section>'


def figure(heading: str, value: str, note: str = "") -> str:
    """A box with one number in it."""
    below = f'<div class="soft">{escape(note)}</div>' if note else ""
    return f'<section class="card"><h2>{escape(heading)}</h2><div class="big">{escape(value)}</div>{below}</section>'
