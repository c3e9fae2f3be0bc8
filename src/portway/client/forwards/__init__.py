"""Local ports that lead to pods, for as long as somebody wants them: what `portway forward` does, without its words.

    words.py      pure: the command line → what is wanted: targets, each with its ports
    ports.py      pure: objects → which pods serve a port, and under which number
    backends.py   follows a target: its pods now, by watching
    local.py      one connection to a local port: finds a pod, connects, and tries another while nothing is lost by it
    forwards.py   the local ports, and all of it together
    events.py     what happens, as values: for a terminal, or one JSON line each

Each connection chooses a pod anew: the ready one with the fewest connections. A pod's end is news by watching, and a
refused connection is news as well. Nothing here ends by itself; only what can never work is an error, at the start.
"""
