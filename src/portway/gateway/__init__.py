"""The data plane: one pipeline from a client's bytes to an upstream's and back.

Files in the order a request meets them: server (sockets, TLS, workers), http1 (bytes to a request), authentication,
authorization, routing, upstream, relay, rewrite, record. `pipeline` is the list itself.
"""
