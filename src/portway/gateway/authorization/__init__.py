"""May they: RBAC on the view, after impersonation. Comes after authentication; next is routing."""

from portway.gateway.authorization.authorizer import AlwaysAllow, Authorizer, RBACAuthorizer
from portway.gateway.authorization.impersonation import impersonate

__all__ = ["AlwaysAllow", "Authorizer", "RBACAuthorizer", "impersonate"]
