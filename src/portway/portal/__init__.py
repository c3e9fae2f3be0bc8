"""The pages people see, and the same for programs: the catalogue of services.

Pure: from a view of the cluster to values, JSON and HTML. Who serves them is the door's composer's affair.
"""
