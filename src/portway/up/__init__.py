"""An embedded cluster in one command: what `portway up` does, without the typing.

    settings.py      flags, configuration file and defaults → one frozen `UpSettings`
    datadir.py       where everything lies, who may look, and the lock that keeps a second `up` out
    certificates.py  the cluster's authority and what it signs
    given.py         the files that an operator names in flags
    bootstrap.py     first run: keys, tokens, users, the admin's kubeconfig
    listeners.py     are the ports free, before anything starts
    ask.py, links.py, banner.py  what is told once it serves
    run.py           the supervising process: children for the control plane and the gateway workers
    control.py       the control process: API server, controllers and node agent as named tasks

Kept empty of imports: each process takes only the modules it needs, and starts sooner for it.
"""
