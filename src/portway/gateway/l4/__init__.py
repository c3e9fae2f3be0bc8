"""Services served on the wire: what kube-proxy is on a node, for the embedded cluster. Nobody authenticates here.

A process of its own (`__main__.py`, told `settings.py`), beside the door's workers, follows Services and EndpointSlices
and relays TCP and UDP to endpoints. In the order in which a change becomes a connection:

    wants.py       a Service → the addresses and ports to listen on (pure)
    proxy.py       looks at what changed; what can't be opened is tried again, and told by report.py
    served.py      one service: wants compared with what is open
    listeners.py   opens and closes; addresses.py puts services' addresses on an interface, with netlink.py
    balance.py     which endpoint a client gets: policies, affinity, endpoints that failed lately
    dialled.py     which endpoints may be dialled at all: default/kubernetes leads to the door, nothing else does
    tcp.py         accepts; flow.py dials and moves bytes, on poller.py. udp.py: the same for datagrams
    health.py      answers load balancers; sockets.py has what they share

The door's own listeners, and everything that knows HTTP, are elsewhere (`gateway.server`). A real cluster has a
kube-proxy: `portway gateway` never does this.
"""
