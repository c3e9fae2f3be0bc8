"""The verbs on stored kinds, one module each; `HANDLERS` is the whole list.

A handler gets the server, the request and the route, and returns an answer or raises a StatusError. Requests are
authenticated and authorised when they come here.
"""

from collections.abc import Awaitable, Callable, Mapping

from portway.apiserver.handlers.create import create
from portway.apiserver.handlers.delete import delete
from portway.apiserver.handlers.deletecollection import delete_collection
from portway.apiserver.handlers.get import get
from portway.apiserver.handlers.list import list_objects
from portway.apiserver.handlers.patch import patch
from portway.apiserver.handlers.update import update
from portway.apiserver.handlers.virtual import virtual
from portway.apiserver.handlers.watch import watch
from portway.apiserver.http import Request, Response, Stream
from portway.apiserver.routing import Route
from portway.apiserver.server import Server

Handler = Callable[[Server, Request, Route], Awaitable[Response | Stream]]

HANDLERS: Mapping[str, Handler] = {
    "create": create,
    "delete": delete,
    "deletecollection": delete_collection,
    "get": get,
    "list": list_objects,
    "patch": patch,
    "update": update,
    "watch": watch,
}

__all__ = ["HANDLERS", "Handler", "virtual"]
