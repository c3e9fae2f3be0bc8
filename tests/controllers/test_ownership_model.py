"""The graph of owners beside a plain list of nodes that is searched from end to end."""

from hypothesis import given
from hypothesis import strategies as st

from portway.controllers.discovered import Resource
from portway.controllers.ownership import Graph, Node, Owner

MAPS = Resource("v1", "ConfigMap", "configmaps", True)
UIDS = st.sampled_from("abcdef")
OWNERS = st.lists(
    st.builds(lambda uid, blocks: Owner("v1", "ConfigMap", uid, uid, blocks), UIDS, st.booleans()), max_size=3
)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    uid = draw(UIDS)
    deleting, orphan, foreground = (draw(st.booleans()) for _ in range(3))
    namespace = draw(st.sampled_from(("n", "m")))
    return Node(MAPS, namespace, uid, uid, tuple(draw(OWNERS)), deleting, orphan, foreground)


@given(st.lists(st.one_of(nodes(), UIDS), max_size=20))
def test_the_graph_answers_as_a_search_would(steps: list[Node | str]) -> None:
    graph: Graph = Graph()
    plain: dict[str, Node] = {}
    for step in steps:
        if isinstance(step, str):
            graph.drop(step)
            plain.pop(step, None)
        else:
            graph.put(step)
            plain[step.uid] = step
    assert {node.uid: node for node in graph.nodes()} == plain
    for uid in "abcdef":
        dependents = {node.uid for node in plain.values() if any(owner.uid == uid for owner in node.owners)}
        blocking = {n.uid for n in plain.values() if any(owner.uid == uid and owner.blocks for owner in n.owners)}
        assert {node.uid for node in graph.dependents(uid)} == dependents
        assert {node.uid for node in graph.blocking(uid)} == blocking
    for node in plain.values():
        waiting = {o.uid for o in node.owners if o.uid in plain and plain[o.uid].deleting and plain[o.uid].foreground}
        assert {owner.uid for owner in graph.waiting_owners(node)} == waiting
        solid = all(
            o.uid in plain and plain[o.uid].namespace == node.namespace and o.uid not in waiting for o in node.owners
        )
        assert graph.all_solid(node) == solid
