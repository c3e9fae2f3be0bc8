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
        return lambda batch: [_json(record, seconds) for record in batch if record[3] != "ResponseStarted"]
    if kind == "combined":
        return lambda batch: [_combined(record) for record in batch if record[3] != "ResponseStarted"]
    raise ConfigurationError(f"access log format {kind!r}: must be off, json or combined")


def _json(record: Record, seconds: Seconds) -> str:
    (
        started, duration, audit_id, _stage, identity, impersonated, attributes, method, uri, status, received, sent,
        peer, _forwarded_for, agent, _decision, _reason, upstream, version, referer, message,
    ) = record  # fmt: skip
    line = (
        f'{{"time":"{timestamp(seconds, started)}","client":{quoted(peer)},"user":{quoted(identity.user.name)}'
        f',"method":{quoted(method)},"uri":{quoted(redacted(uri))},"protocol":{quoted("HTTP/" + version)}'
        f',"status":{status},"requestBytes":{received},"responseBytes":{sent},"duration":{duration:.6f}'
        f',"auditID":{quoted(audit_id)}'
    )
    optional = (
        ("impersonated", impersonated.name if impersonated else ""),
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
    (
        started, duration, _audit_id, _stage, identity, _impersonated, _attributes, method, uri, status, _received,
        sent, peer, _forwarded_for, agent, _decision, _reason, _upstream, version, referer, _message,
    ) = record  # fmt: skip
    moment = strftime("%d/%b/%Y:%H:%M:%S +0000", gmtime(started))
    name = "" if identity.method == "anonymous" else identity.user.name
    user = _plain(name).replace(" ", "\\x20") or "-"
    return (
        f'{peer or "-"} - {user} [{moment}] "{_plain(method)} {_plain(redacted(uri))} HTTP/{version}" {status} {sent}'
        f' "{_plain(redacted(referer)) if referer else "-"}"'
        f' "{_plain(agent.decode("utf-8", "backslashreplace")) if agent else "-"}" {duration:.6f}\n'
    )


def _plain(text: str) -> str:
    """For between quotation marks: quote, backslash and control characters escaped, ASCII only."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return quoted(text)[1:-1]
