"""Connections to a pod's ports through the API server: `pods/NAME/portforward`, in each of its three forms.

    forwarder.py    PortForwarder: connects to (namespace, pod, port); keeps sessions, knows which form works
    upgrade.py      the request that asks for a form, and its answer: 101 or the API's Status
    carrier.py      what a session runs over: a plain connection, or the messages of a WebSocket
    session.py      many SPDY streams over one carrier, either side
    transport.py    one stream as an asyncio transport: pauses, half-closes, ends
    pair.py         a data stream and its error stream: one connection
    pump.py         bytes between two transports
    channel.py      one connection as the older form has it: two channels of a WebSocket

    WebSocket, SPDY/3.1+portforward.k8s.io   SPDY in a WebSocket's binary messages; API servers since 1.30 (KEP-4006)
    SPDY/3.1                                  all API servers, but not all proxies in front of them
    WebSocket, v4.channel.k8s.io              one connection per WebSocket and no half-close; all API servers

The node agent serves the same with the same `session` and `carrier`.
"""
