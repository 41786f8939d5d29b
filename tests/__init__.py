"""The tests: of each room under `basestore` and `repair`, and suites of whole clusters beside them."""
