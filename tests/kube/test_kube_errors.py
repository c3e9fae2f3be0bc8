"""Status errors: the tree, the bodies, and the way back from a body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.kube import errors
from portway.kube.attributes import Attributes, parse
from portway.kube.errors import Cause, StatusError
from portway.kube.identity import User

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def leaves() -> list[type[StatusError]]:
    return [leaf for leaf in StatusError.__subclasses__() if leaf.__module__ == errors.__name__]


def test_the_tree_is_drawn_in_the_docstring() -> None:
    drawn = errors.__doc__ or ""
    assert [leaf.__name__ for leaf in leaves() if leaf.__name__ not in drawn] == []
    assert [leaf.__name__ for leaf in leaves() if str(leaf.code) not in drawn] == []


@pytest.mark.parametrize(
    ("cls", "code", "reason"),
    [
        (errors.BadRequest, 400, "BadRequest"),
        (errors.Unauthorized, 401, "Unauthorized"),
        (errors.Forbidden, 403, "Forbidden"),
        (errors.NotFound, 404, "NotFound"),
        (errors.MethodNotAllowed, 405, "MethodNotAllowed"),
        (errors.NotAcceptable, 406, "NotAcceptable"),
        (errors.AlreadyExists, 409, "AlreadyExists"),
        (errors.Conflict, 409, "Conflict"),
        (errors.Gone, 410, "Gone"),
        (errors.Expired, 410, "Expired"),
        (errors.RequestEntityTooLarge, 413, "RequestEntityTooLarge"),
        (errors.UnsupportedMediaType, 415, "UnsupportedMediaType"),
        (errors.Invalid, 422, "Invalid"),
        (errors.TooManyRequests, 429, "TooManyRequests"),
        (errors.RequestHeaderFieldsTooLarge, 431, "RequestHeaderFieldsTooLarge"),
        (errors.InternalError, 500, "InternalError"),
        (errors.ServerTimeout, 500, "ServerTimeout"),
        (errors.ServiceUnavailable, 503, "ServiceUnavailable"),
        (errors.Timeout, 504, "Timeout"),
    ],
)
def test_codes_and_reasons_are_upstreams(cls: type[StatusError], code: int, reason: str) -> None:
    error = cls("why")
    assert (error.code, error.reason, error.message, str(error)) == (code, reason, "why", "why")


# Recorded from a kube-apiserver: keys and their order count.
@pytest.mark.parametrize(
    ("error", "body"),
    [
        (
            errors.Unauthorized(),
            {"message": "Unauthorized", "reason": "Unauthorized", "code": 401},
        ),
        (
            errors.not_found("services", "nope"),
            {
                "message": 'services "nope" not found',
                "reason": "NotFound",
                "details": {"name": "nope", "kind": "services"},
                "code": 404,
            },
        ),
        (
            errors.no_route(),
            {
                "message": "the server could not find the requested resource",
                "reason": "NotFound",
                "details": {},
                "code": 404,
            },
        ),
        (
            errors.method_not_allowed(),
            {
                "message": "the server does not allow this method on the requested resource",
                "reason": "MethodNotAllowed",
                "details": {},
                "code": 405,
            },
        ),
        (
            errors.already_exists("services", "web"),
            {
                "message": 'services "web" already exists',
                "reason": "AlreadyExists",
                "details": {"name": "web", "kind": "services"},
                "code": 409,
            },
        ),
        (
            errors.InternalError("unexpected EOF", reason=""),
            {"message": "unexpected EOF", "code": 500},
        ),
        (
            errors.invalid("Service", "Bad_Name", [errors.invalid_value("metadata.name", "Bad_Name", LABEL)]),
            {
                "message": f'Service "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": {LABEL}',
                "reason": "Invalid",
                "details": {
                    "name": "Bad_Name",
                    "kind": "Service",
                    "causes": [
                        {
                            "reason": "FieldValueInvalid",
                            "message": f'Invalid value: "Bad_Name": {LABEL}',
                            "field": "metadata.name",
                        }
                    ],
                },
                "code": 422,
            },
        ),
        (
            errors.invalid("Service", "bad", [errors.required(f"spec.ports[{i}].name") for i in (0, 1)]),
            {
                "message": 'Service "bad" is invalid: [spec.ports[0].name: Required value, '
                "spec.ports[1].name: Required value]",
                "reason": "Invalid",
                "details": {
                    "name": "bad",
                    "kind": "Service",
                    "causes": [
                        {"reason": "FieldValueRequired", "message": "Required value", "field": f"spec.ports[{i}].name"}
                        for i in (0, 1)
                    ],
                },
                "code": 422,
            },
        ),
        (
            errors.invalid(
                "Service",
                "bad",
                [
                    errors.not_supported(
                        "spec.type", "Nope", frozenset({"NodePort", "LoadBalancer", "ClusterIP", "ExternalName"})
                    )
                ],
            ),
            {
                "message": 'Service "bad" is invalid: spec.type: Unsupported value: "Nope": supported values: '
                '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
                "reason": "Invalid",
                "details": {
                    "name": "bad",
                    "kind": "Service",
                    "causes": [
                        {
                            "reason": "FieldValueNotSupported",
                            "message": 'Unsupported value: "Nope": supported values: "ClusterIP", "ExternalName", '
                            '"LoadBalancer", "NodePort"',
                            "field": "spec.type",
                        }
                    ],
                },
                "code": 422,
            },
        ),
    ],
)
def test_bodies_are_upstreams(error: StatusError, body: dict[str, object]) -> None:
    whole = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", **body}
    assert error.status() == whole
    assert list(error.status()) == list(whole)


def test_a_group_qualifies_the_resource() -> None:
    error = errors.not_found("deployments", "x", "apps")
    assert error.message == 'deployments.apps "x" not found'
    assert error.details == {"name": "x", "group": "apps", "kind": "deployments"}
    assert errors.conflict("leases", "x", group="coordination.k8s.io").message == (
        'Operation cannot be fulfilled on leases.coordination.k8s.io "x": the object has been modified; please apply '
        "your changes to the latest version and try again"
    )
    assert errors.invalid("Role", "r", [errors.required("rules[0].verbs")], "rbac.authorization.k8s.io").message == (
        'Role.rbac.authorization.k8s.io "r" is invalid: rules[0].verbs: Required value'
    )


def test_retry_after_and_metadata_are_part_of_the_body() -> None:
    status = errors.TooManyRequests("later", retry_after=3).status()
    assert status["details"] == {"retryAfterSeconds": 3}
    status = errors.too_large_resource_version(9, 4).status()
    assert status["message"] == "Too large resource version: 9, current: 4"
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert status["details"]["retryAfterSeconds"] == 1
    assert errors.Expired("too old", metadata={"continue": "abc"}).status()["metadata"] == {"continue": "abc"}


def test_a_body_can_be_changed_without_changing_the_error() -> None:
    error = errors.not_found("services", "x")
    error.status()["details"]["name"] = "other"
    assert error.status()["details"]["name"] == "x"


@pytest.mark.parametrize(
    ("cause", "reason", "message"),
    [
        (errors.required("f", "say which"), "FieldValueRequired", "Required value: say which"),
        (errors.invalid_value("f", 0, "must be > 0"), "FieldValueInvalid", "Invalid value: 0: must be > 0"),
        (errors.invalid_value("f", True), "FieldValueInvalid", "Invalid value: true"),
        (errors.invalid_value("f", None, "no"), "FieldValueInvalid", 'Invalid value: "null": no'),
        (errors.invalid_value("f", {"a": [1]}, "no"), "FieldValueInvalid", 'Invalid value: {"a":[1]}: no'),
        (
            errors.invalid_type("f", "x", "must be a number"),
            "FieldValueTypeInvalid",
            'Invalid value: "x": must be a number',
        ),
        (
            errors.not_supported("f", "x", ["b", "a"]),
            "FieldValueNotSupported",
            'Unsupported value: "x": supported values: "b", "a"',
        ),
        (errors.not_supported("f", "x", []), "FieldValueNotSupported", 'Unsupported value: "x"'),
        (errors.not_found_value("f", "x"), "FieldValueNotFound", 'Not found: "x"'),
        (errors.duplicate("f", "x"), "FieldValueDuplicate", 'Duplicate value: "x"'),
        (errors.forbidden_field("f", "may not"), "FieldValueForbidden", "Forbidden: may not"),
        (errors.too_long("f", 63), "FieldValueTooLong", "Too long: may not be more than 63 bytes"),
        (errors.too_many("f", 3, 1), "FieldValueTooMany", "Too many: 3: must have at most 1 item"),
    ],
)
def test_causes_speak_as_upstream(cause: Cause, reason: str, message: str) -> None:
    assert (cause.reason, cause.message, str(cause)) == (reason, message, f"f: {message}")
    assert cause.to_dict() == {"reason": reason, "message": message, "field": "f"}


def test_the_same_cause_twice_is_said_once() -> None:
    error = errors.invalid("Pod", "p", [errors.required("spec")] * 2)
    assert error.message == 'Pod "p" is invalid: spec: Required value'
    assert error.details is not None
    assert len(error.details["causes"]) == 2


NAMESPACED = "/api/v1/namespaces/demo/services/web:http/proxy/a"


# Recorded from a kube-apiserver.
@pytest.mark.parametrize(
    ("user", "method", "path", "message", "details"),
    [
        (
            "system:anonymous",
            "GET",
            NAMESPACED,
            (
                'services "web:http" is forbidden: User "system:anonymous" cannot get resource "services/proxy" in API '
                'group "" in the namespace "demo"'
            ),
            {"name": "web:http", "kind": "services"},
        ),
        (
            "reader",
            "OPTIONS",
            NAMESPACED,
            (
                'services "web:http" is forbidden: User "reader" cannot  resource "services/proxy" in API group "" in '
                'the namespace "demo"'
            ),
            {"name": "web:http", "kind": "services"},
        ),
        (
            "nobody",
            "GET",
            "/api/v1/nodes/n1/proxy/a",
            (
                'nodes "n1" is forbidden: User "nobody" cannot get resource "nodes/proxy" in API group "" at the '
                "cluster scope"
            ),
            {"name": "n1", "kind": "nodes"},
        ),
        (
            "nobody",
            "GET",
            "/api/v1/namespaces/demo/secrets",
            (
                'secrets is forbidden: User "nobody" cannot list resource "secrets" in API group "" '
                'in the namespace "demo"'
            ),
            {"kind": "secrets"},
        ),
        (
            "nobody",
            "GET",
            "/nothing/here",
            'forbidden: User "nobody" cannot get path "/nothing/here"',
            {},
        ),
        (
            "u",
            "POST",
            "/apis/apps/v1/namespaces/n/deployments",
            (
                'deployments.apps is forbidden: User "u" cannot create resource "deployments" in API group "apps" in '
                'the namespace "n"'
            ),
            {"group": "apps", "kind": "deployments"},
        ),
    ],
)
def test_refusals_are_upstreams(user: str, method: str, path: str, message: str, details: dict[str, str]) -> None:
    error = errors.forbidden(parse(method, path), User(user))
    assert error.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Forbidden",
        "details": details,
        "code": 403,
    }
    assert list(error.status()["details"]) == list(details)


def test_a_refused_impersonation_reads_as_any_other() -> None:
    attributes = Attributes("impersonate", resource="users", name="admin")
    assert errors.forbidden(attributes, User("support")).message == (
        'users "admin" is forbidden: User "support" cannot impersonate resource "users" in API group "" at the '
        "cluster scope"
    )


def test_a_reason_follows_and_markup_is_escaped_where_upstream_does() -> None:
    error = errors.forbidden(parse("GET", "/<a>&b"), User("<u>"), "because <x>")
    assert error.message == ('forbidden: User "&lt;u&gt;" cannot get path "/&lt;a&gt;&amp;b": because <x>')


@pytest.mark.parametrize("leaf", leaves())
def test_a_body_comes_back_as_the_same_error(leaf: type[StatusError]) -> None:
    sent = leaf("why", details={"name": "x", "causes": []}, retry_after=2, metadata={"continue": "c"})
    received = errors.from_status(sent.status())
    assert type(received) is leaf
    assert received.status() == sent.status()


def test_an_unknown_code_is_kept() -> None:
    received = errors.from_status({"code": 418, "reason": "Teapot", "message": "short and stout"})
    assert type(received) is StatusError
    assert (received.code, received.reason) == (418, "Teapot")
    assert type(errors.from_status({"code": 503, "reason": "Odd"})) is errors.ServiceUnavailable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
STATUS_KEYS = st.sampled_from(["code", "reason", "message", "details", "metadata", "retryAfterSeconds"])


@given(st.dictionaries(STATUS_KEYS, JSON | st.dictionaries(STATUS_KEYS, JSON)))
def test_no_body_breaks_the_decoding(body: dict[str, object]) -> None:
    assert errors.from_status(body).status()["kind"] == "Status"
