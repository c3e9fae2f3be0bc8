"""Desired → actual, through the API as any client: endpoints, endpoint slices, aggregated roles, default accounts.

`manager` composes them. Each controller is level-triggered: an event names a key, the key is worked on from what the
caches say now, and only differences are written. The computing (`pods`, `slicing`, `subsets`, `mirror`, `aggregation`)
is pure; `cache`, `queue` and `manager` move the news and the writes.
"""
