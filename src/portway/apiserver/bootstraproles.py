"""The default ClusterRoles and their bindings, as tables.

`bootstrap` makes objects of them. Only roles for what this API server serves, or for what clients expect to bind to,
are here; upstream's roles for its own components are not. What our own need beyond upstream's is in roles named
system:portway:….
Source: the facts of plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go, v1.36.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

READ = "get list watch"
WRITE = "create update patch delete deletecollection"
READ_WRITE = f"{READ} {WRITE}"

_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
TO_ADMIN, TO_EDIT, TO_VIEW = _AGGREGATE + "admin", _AGGREGATE + "edit", _AGGREGATE + "view"

_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_COORDINATION, _DISCOVERY, _EVENTS = "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io"
_NETWORKING, _RBAC = "networking.k8s.io", "rbac.authorization.k8s.io"

_HEALTH = "/healthz /livez /readyz"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; verbs, resources, URLs and names are words separated by spaces. With `urls`, the others are unused."""

    verbs: str
    resources: str = ""
    group: str = ""
    urls: str = ""
    names: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns it as a PolicyRule."""
        if self.urls:
            return {"verbs": self.verbs.split(), "nonResourceURLs": self.urls.split()}
        names = {"resourceNames": self.names.split()} if self.names else {}
        return {"verbs": self.verbs.split(), "apiGroups": [self.group], "resources": self.resources.split(), **names}


_VIEW = (
    Rule(
        READ,
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers"
        " replicationcontrollers/scale serviceaccounts services services/status",
    ),
    Rule(
        READ,
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status"
        " resourcequotas resourcequotas/status",
    ),
    Rule(READ, "namespaces"),
    Rule(READ, "endpointslices", _DISCOVERY),
    Rule(
        READ,
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status"
        " replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
        "apps",
    ),
    Rule(READ, "horizontalpodautoscalers horizontalpodautoscalers/status", "autoscaling"),
    Rule(READ, "cronjobs cronjobs/status jobs jobs/status", "batch"),
    Rule(READ, "poddisruptionbudgets poddisruptionbudgets/status", "policy"),
    Rule(READ, "ingresses ingresses/status networkpolicies", _NETWORKING),
)

_EDIT = (
    Rule(READ, "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    Rule("impersonate", "serviceaccounts"),
    Rule(WRITE, "pods pods/attach pods/exec pods/portforward pods/proxy"),
    Rule("create", "pods/eviction"),
    Rule(
        WRITE,
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets"
        " serviceaccounts services services/proxy",
    ),
    Rule("create", "serviceaccounts/token"),
    Rule(
        WRITE,
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale"
        " statefulsets statefulsets/scale",
        "apps",
    ),
    Rule(WRITE, "horizontalpodautoscalers", "autoscaling"),
    Rule(WRITE, "cronjobs jobs", "batch"),
    Rule(WRITE, "poddisruptionbudgets", "policy"),
    Rule(WRITE, "ingresses networkpolicies", _NETWORKING),
    Rule(READ_WRITE, "leases", _COORDINATION),
)

ROLES: dict[str, tuple[tuple[str, ...], tuple[Rule, ...]]] = {
    "cluster-admin": ((), (Rule("*", "*", "*"), Rule("*", urls="*"))),
    "system:discovery": (
        (),
        (Rule("get", urls=f"/api /api/* /apis /apis/* {_HEALTH} /openapi /openapi/* /version /version/"),),
    ),
    "system:public-info-viewer": ((), (Rule("get", urls=f"{_HEALTH} /version /version/"),)),
    "system:basic-user": (
        (),
        (
            Rule("create", "selfsubjectaccessreviews selfsubjectrulesreviews", _AUTHORIZATION),
            Rule("create", "selfsubjectreviews", _AUTHENTICATION),
        ),
    ),
    "system:monitoring": (
        (),
        (
            Rule("get", urls="/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
            Rule("get", "nodes/metrics"),
        ),
    ),
    "system:kubelet-api-admin": (
        (),
        (
            Rule(READ, "nodes"),
            Rule("proxy", "nodes"),
            Rule("*", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats"),
        ),
    ),
    "system:auth-delegator": (
        (),
        (
            Rule("create", "tokenreviews", _AUTHENTICATION),
            Rule("create", "subjectaccessreviews", _AUTHORIZATION),
        ),
    ),
    "system:service-account-issuer-discovery": (
        (),
        (
            Rule(
                "get",
                urls="/.well-known/openid-configuration /.well-known/openid-configuration/"
                " /openid/v1/jwks /openid/v1/jwks/",
            ),
        ),
    ),
    **{
        f"{owner}:certificatesigningrequests:{kind}": (
            (),
            (Rule("create", f"certificatesigningrequests/{kind}", _CERTIFICATES),),
        )
        for owner, kind in (
            ("system:certificates.k8s.io", "nodeclient"),
            ("system:certificates.k8s.io", "selfnodeclient"),
            ("system:portway", "selfclient"),
        )
    },
    **{
        f"system:certificates.k8s.io:{signer}-approver": (
            (),
            (Rule("approve", "signers", _CERTIFICATES, names=f"kubernetes.io/{signer}"),),
        )
        for signer in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
    },
    "system:node-proxier": (
        (),
        (
            Rule("list watch", "services"),
            Rule(READ, "nodes"),
            Rule("create patch update", "events"),
            Rule("create patch update", "events", _EVENTS),
            Rule("list watch", "endpointslices", _DISCOVERY),
        ),
    ),
    "system:portway:service-proxy": ((), (Rule("patch", "services/status"),)),
    "system:aggregate-to-admin": (
        (TO_ADMIN,),
        (
            Rule(WRITE, "localsubjectaccessreviews", _AUTHORIZATION),
            Rule(READ_WRITE, "rolebindings roles", _RBAC),
        ),
    ),
    "system:aggregate-to-edit": ((TO_EDIT,), _EDIT),
    "system:aggregate-to-view": ((TO_VIEW,), _VIEW),
}
"""Name → (labels that are "true", rules)."""

AGGREGATED: dict[str, tuple[tuple[str, ...], str]] = {
    "view": ((TO_EDIT,), TO_VIEW),
    "edit": ((TO_ADMIN,), TO_EDIT),
    "admin": ((), TO_ADMIN),
}
"""Name → (labels that are "true", the label that selects the roles it is made of); each after those it takes from."""

_GROUP, _USER = "Group", "User"
BINDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "cluster-admin": ((_GROUP, "system:masters"),),
    "system:basic-user": ((_GROUP, "system:authenticated"),),
    "system:discovery": ((_GROUP, "system:authenticated"),),
    "system:monitoring": ((_GROUP, "system:monitoring"),),
    "system:node-proxier": ((_USER, "system:kube-proxy"),),
    "system:portway:service-proxy": ((_USER, "system:kube-proxy"),),
    "system:public-info-viewer": ((_GROUP, "system:authenticated"), (_GROUP, "system:unauthenticated")),
    "system:service-account-issuer-discovery": ((_GROUP, "system:serviceaccounts"),),
}
"""Name of the ClusterRole and of its binding → subjects (kind, name)."""
