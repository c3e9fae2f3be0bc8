"""Contract suites: what every implementation of a seam must do, written once. They need pytest.

A suite is a class of tests; an implementation's test module subclasses it and says how to make one. A test module that
wants readable assertion failures calls `pytest.register_assert_rewrite` for the suite before it imports it.
"""
