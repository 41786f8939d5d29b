"""`python -m basestore`: the same as the command `basestore`. Owns nothing; the command is `cli`'s."""

from basestore.cli import main

main()
