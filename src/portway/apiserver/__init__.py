"""The embedded cluster's Kubernetes API: kinds, verbs, watch, patches, Tables, discovery, OpenAPI.

`create_app(store, config)` makes the ASGI application. The way of a request:

    app → routing → handlers → registry (writes) or cache (reads) → render
                                  └ kinds: strategies, defaults, validation      store → cache → watchers

The design and its reasons are in docs/design/apiserver.md.
"""

from portway.apiserver.app import Application, create_app
from portway.apiserver.config import ApiServerConfig

__all__ = ["ApiServerConfig", "Application", "create_app"]
