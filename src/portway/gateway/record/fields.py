"""The record of one request: a plain tuple, since making it is all that a request pays for being recorded.

Every consumer unpacks all the fields by name, in this order, so that a change of the order breaks loudly.
"""

from typing import TypeAlias

from portway.gateway.authentication.identity import Identity
from portway.kube.attributes import Attributes
from portway.kube.identity import User

Record: TypeAlias = tuple[
    float,  # started: unix time at which the request's headers were complete
    float,  # duration: seconds from there to the stage
    str,  # audit_id
    str,  # stage: "ResponseComplete", "ResponseStarted" or "Panic" (audit.k8s.io's)
    Identity,  # identity: who asked
    User | None,  # impersonated: as whom, if somebody else
    Attributes,  # attributes
    str,  # method
    bytes,  # uri: the request target as it came
    int,  # status: the response's code; 101 for an upgrade
    int,  # request_bytes: of the body
    int,  # response_bytes: of the body
    str,  # peer: the client's address, without port
    bytes | None,  # forwarded_for: X-Forwarded-For as the client sent it
    bytes | None,  # user_agent
    str,  # decision: "allow", "forbid", or "" when it did not come to one
    str,  # reason: the authoriser's
    str,  # upstream: "ip:port", or "" when none was chosen
    str,  # http_version: "1.1"
    bytes | None,  # referer
    str,  # status_message: of a Status that the door itself answered, else ""
]
