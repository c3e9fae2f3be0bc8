"""Both authorisers run the suite: RBAC on the view, and reviews of an API with the same roles."""

import pytest

pytest.register_assert_rewrite("portway.testing.authorizer")

from portway.gateway.authorization import AccessReviews, Authorizer, RBACAuthorizer  # noqa: E402
from portway.kube.rbac import RBAC  # noqa: E402
from portway.testing.authorizer import AuthorizerContract  # noqa: E402
from portway.testing.reviewapi import ReviewApi  # noqa: E402


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
        return AccessReviews(api, allow_ttl=1, deny_ttl=1)
