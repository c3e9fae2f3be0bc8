"""The node agent: pods as ordinary processes of this machine, each with an address of its own.

    workload.py     what should run: names, command, port, probe → the Pod object
    addresses.py    one loopback address per pod, from a subnet that this cluster has to itself
    environment.py  how a pod finds services: Kubernetes' environment variables
    process.py      one process: started, watched, stopped; never an orphan (orphan.py)
    probe.py        is it ready: a TCP or HTTP probe
    status.py       what happened to the process → the Pod's status
    pod.py          one pod's life: object, process, probes and status, again and again
    heartbeat.py    the Node object and its Lease
    streaming/      port-forward, as a kubelet serves it
    agent.py        all of them as named tasks
    demo/           the programs and services of `portway up --demo`

It speaks to the API as a stranger, through `client`. No containers, no images, no volumes: a pod is a Python module
that runs as this user. Kept empty of imports, because each demo process loads this package.
"""
