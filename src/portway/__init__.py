"""Portway: one authenticated, authorised door to the services that run in a Kubernetes cluster."""

__version__ = "0.1.0"
