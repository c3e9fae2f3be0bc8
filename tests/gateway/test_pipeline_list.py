"""The request path is one list in one place, and this is how it reads."""

from portway.gateway.relay import Exchange
from portway.testing.conversation import OK, Backend, RunningDoor, get


def test_the_steps_in_their_order(door: RunningDoor) -> None:
    assert [step.__name__ for step in door.door.steps] == ["identify", "authorise", "route", "connect"]
    assert door.door.steps[-1] is Exchange.connect


def test_what_ends_the_list_is_recorded(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    _, fields, _ = client.response()
    client.send(get("/api/v1/namespaces/demo/services/web/proxy/x", token="nobody-token"))
    assert client.response()[0] == 403
    allowed, refused = door.audit(2)
    assert f'"auditID":"{fields["audit-id"]}"' in allowed
    assert '"authorization.k8s.io/decision":"allow"' in allowed
    assert '"authorization.k8s.io/decision":"forbid"' in refused
