"""Where the bytes go: addresses that may be dialled, endpoints and their pools, connections to backends.

`addresses` says what may be dialled, `endpoint` keeps connections and health per endpoint, `connection` speaks
HTTP/1.1 to one backend, `trust` verifies backends that ask for it. Which endpoint serves a request is `endpoint.pick`.
"""
