"""Who is it: certificate, bearer token, basic, token in the WebSocket subprotocol, anonymous.

`Authenticators.identify` is the step of the pipeline; it gives one `Identity` per credential. Next: authorization.
"""

from portway.gateway.authentication.authenticators import Authenticators
from portway.gateway.authentication.certificate import certificate_identity
from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.authentication.headers import websocket_token
from portway.gateway.authentication.identity import LOCAL, Identity, user_json

__all__ = [
    "LOCAL",
    "Authenticators",
    "ConfigurationError",
    "Identity",
    "certificate_identity",
    "user_json",
    "websocket_token",
]
