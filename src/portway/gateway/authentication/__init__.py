"""Who is it: certificate, bearer token, basic, token in the WebSocket subprotocol, anonymous.

Bearer tokens: from a file, service accounts', OIDC (`oidc`), or confirmed by the cluster's API (`tokenreview`).
`Authenticators.identify` is the step of the pipeline; it gives one `Identity` per credential. Next: authorization.
"""

from portway.gateway.authentication.authenticators import Authenticators, TokenAuthenticator
from portway.gateway.authentication.certificate import certificate_identity
from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.authentication.headers import websocket_token
from portway.gateway.authentication.identity import LOCAL, Identity, user_json
from portway.gateway.authentication.oidc import JWTAuthenticators
from portway.gateway.authentication.tokenreview import TokenReviews

__all__ = [
    "LOCAL",
    "Authenticators",
    "ConfigurationError",
    "Identity",
    "JWTAuthenticators",
    "TokenAuthenticator",
    "TokenReviews",
    "certificate_identity",
    "user_json",
    "websocket_token",
]
