"""May they: RBAC on the view, or the cluster asked by SubjectAccessReview, after impersonation. Comes after
authentication; next is routing.
"""

from portway.gateway.authorization.accessreview import AccessReviews
from portway.gateway.authorization.authorizer import AlwaysAllow, Authorizer, RBACAuthorizer, Undecided
from portway.gateway.authorization.impersonation import impersonate

__all__ = ["AccessReviews", "AlwaysAllow", "Authorizer", "RBACAuthorizer", "Undecided", "impersonate"]
