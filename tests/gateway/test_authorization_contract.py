"""Both authorisers run the suite: RBAC on the view, and reviews of an API with the same roles."""

from portway.gateway.authorization import AccessReviews, Authorizer, RBACAuthorizer
from portway.kube.rbac import RBAC
from portway.testing.authorizer import AuthorizerContract
from portway.testing.reviewapi import ReviewApi


class TestRBACOnTheView(AuthorizerContract):
    def make(self, rbac: RBAC) -> Authorizer:
        return RBACAuthorizer(rbac)


class TestAccessReviews(AuthorizerContract):
    def make(self, rbac: RBAC) -> Authorizer:
        return AccessReviews(ReviewApi(rbac))


class TestAccessReviewsOfASlowApi(AuthorizerContract):
    def make(self, rbac: RBAC) -> Authorizer:
        api = ReviewApi(rbac)
        api.slow = 4.0
        return AccessReviews(api, allow_ttl=1, deny_ttl=1, grace=0)
