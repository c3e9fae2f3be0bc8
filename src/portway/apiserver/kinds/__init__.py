"""The kinds that this API server stores, one module a family.

`base` says what a kind is; `KINDS` is all of them. To add a kind: write its module, list it here, and see that
data/protobuf-fields.json has its message.
"""

from portway.apiserver.kinds.base import Kind
from portway.apiserver.kinds.certificates import CERTIFICATE_SIGNING_REQUEST
from portway.apiserver.kinds.data import CONFIG_MAP, SECRET
from portway.apiserver.kinds.endpoints import ENDPOINTS
from portway.apiserver.kinds.endpointslices import ENDPOINT_SLICE
from portway.apiserver.kinds.events import EVENT, NEW_EVENT
from portway.apiserver.kinds.ingresses import INGRESS, INGRESS_CLASS
from portway.apiserver.kinds.leases import LEASE
from portway.apiserver.kinds.namespaces import NAMESPACE
from portway.apiserver.kinds.nodes import NODE
from portway.apiserver.kinds.pods import POD
from portway.apiserver.kinds.rbac import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from portway.apiserver.kinds.serviceaccounts import SERVICE_ACCOUNT
from portway.apiserver.kinds.serviceranges import IP_ADDRESS, SERVICE_CIDR
from portway.apiserver.kinds.services import SERVICE

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    NEW_EVENT,
    ENDPOINT_SLICE,
    INGRESS,
    INGRESS_CLASS,
    SERVICE_CIDR,
    IP_ADDRESS,
    LEASE,
    CERTIFICATE_SIGNING_REQUEST,
    ROLE,
    CLUSTER_ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE_BINDING,
)
"""Every stored kind."""

__all__ = ["KINDS"]
