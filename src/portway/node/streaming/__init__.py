"""What a kubelet's streaming server does for this node: `pods/NAME/portforward`, behind the door, on its own socket.

    server.py        one request per connection: which pod, which protocol → 101 or the answer that a kubelet gives
    handshake.py     pure: a request's head → the protocol that it asks for, and the head that grants it
    portforward.py   SPDY streams, in pairs → connections to the pod
    channels.py      the older WebSocket form: a pair of channels per port
    relay.py         one connection to a port of a pod, and what is said when it fails

The door has authenticated and authorised whoever comes; whoever can open the socket is believed. Protocols and
transports are those of `client.portforward`, at the other end.
"""
