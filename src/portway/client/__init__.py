"""Any Kubernetes API from Python: kubeconfig → ApiClient → informers → ClusterView.

Nothing here knows whether the API is a real cluster or the embedded one. The gateway, the controllers, the node agent
and the command line know the cluster through this package alone.
"""
