"""Doors in front of clusters that are there already, put together: `proxy` for one person on a laptop.

As `up` composes an embedded cluster with its door, this composes the gateway, the portal and what a command line said.
"""
