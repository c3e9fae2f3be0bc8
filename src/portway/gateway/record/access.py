"""Access log lines from records: combined (Apache's, with the duration appended) or JSON.

Secrets in URI and Referer are redacted, and nothing that a client sent can end a line or a quotation.
"""

from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii as quoted
from time import gmtime, strftime

from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.record.fields import Record
from portway.gateway.record.redact import redacted
from portway.gateway.record.timestamps import Seconds, timestamp

Formatter = Callable[[Iterable[Record]], list[str]]


def formatter(kind: str) -> Formatter | None:
    """The formatter of an access log format (json, combined); None for off. ConfigurationError for another word."""
    if kind == "off":
        return None
    if kind == "json":
        seconds = Seconds()
        return lambda batch: [_json(record, seconds) for record in batch if record[4] != "ResponseStarted"]
    if kind == "combined":
        return lambda batch: [_combined(record) for record in batch if record[4] != "ResponseStarted"]
    raise ConfigurationError(f"access log format {kind!r}: must be off, json or combined")


def _json(record: Record, seconds: Seconds) -> str:
    who, started, duration, audit_id, _stage, uri, status, received, sent, upstream, message = record
    agent, referer, attributes = who.agent, who.referer, who.attributes
    line = (
        f'{{"time":"{timestamp(seconds, started)}","client":{quoted(who.peer)},"user":{quoted(who.identity.user.name)}'
        f',"method":{quoted(who.method)},"uri":{quoted(redacted(uri))},"protocol":{quoted("HTTP/" + who.version)}'
        f',"status":{status},"requestBytes":{received},"responseBytes":{sent},"duration":{duration:.6f}'
        f',"auditID":{quoted(audit_id)}'
    )
    optional = (
        ("impersonated", who.impersonated.name if who.impersonated else ""),
        ("namespace", attributes.namespace),
        ("resource", attributes.resource),
        ("name", attributes.name),
        ("upstream", upstream),
        ("userAgent", (agent or b"").decode("utf-8", "backslashreplace")),
        ("referer", redacted(referer) if referer else ""),
        ("message", message),
    )
    return line + "".join(f',"{key}":{quoted(value)}' for key, value in optional if value) + "}\n"


def _combined(record: Record) -> str:
    who, started, duration, _audit_id, _stage, uri, status, _received, sent, _upstream, _message = record
    agent, referer = who.agent, who.referer
    moment = strftime("%d/%b/%Y:%H:%M:%S +0000", gmtime(started))
    name = "" if who.identity.method == "anonymous" else who.identity.user.name
    user = _plain(name).replace(" ", "\\x20") or "-"
    request = f"{_plain(who.method)} {_plain(redacted(uri))} HTTP/{who.version}"
    return (
        f'{who.peer or "-"} - {user} [{moment}] "{request}" {status} {sent}'
        f' "{_plain(redacted(referer)) if referer else "-"}"'
        f' "{_plain(agent.decode("utf-8", "backslashreplace")) if agent else "-"}" {duration:.6f}\n'
    )


def _plain(text: str) -> str:
    """For between quotation marks: quote, backslash and control characters escaped, ASCII only."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return quoted(text)[1:-1]
