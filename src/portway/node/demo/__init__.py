"""The programs of `portway up --demo`: small, honest servers that resemble what Kubernetes' documentation proxies to.

    catalogue.py      which pods and services there are
    server.py         the HTTP server under all of them, and websocket.py on top of it
    elasticsearch.py  answers searches over log lines (logs.py) with a real index (search.py, query.py, aggregate.py)
    dashboard.py      draws those lines (charts.py, page.py)
    hello.py          says which replica answered
    secure.py         the same over TLS with a certificate of its own making
    echo.py           a WebSocket

Each runs as `python -m portway.node.demo.NAME` with POD_IP and PORT in its environment. Kept empty of imports.
"""
