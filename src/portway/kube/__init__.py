"""Kubernetes' vocabulary as plain values: errors, users, request attributes, RBAC, selectors, names, tokens.

Everything here is pure and synchronous: values in, values out, no sockets, no files, no clock that a caller
cannot replace. It imports nothing else of Portway, and everything else of Portway may import it. Each module is
imported by its own name (``from portway.kube import errors``); this package re-exports nothing.
"""
