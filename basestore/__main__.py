"""`python -m basestore`: the same as the command `basestore`."""

from basestore.cli import main

main()
