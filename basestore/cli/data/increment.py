"""Increment: the command increment, which adds to the number that a key holds.

`set` and `delete` in buckets of registers are those of all buckets (`requests.py`).
"""

from pathlib import Path

import click

from basestore.cli import exits
from basestore.cli.data.receipts import how_to_get, show_receipt
from basestore.cli.data.requests import REPEAT, RETRY, SESSION, opened, writing
from basestore.cli.options import Target, command, data, duration, share

BUCKET = "cas"


@command("increment")
@share(
    "endpoint", "timeout", "output",
    bucket="One of registers (basestore bucket list shows the rules). [default: cas]",
)  # fmt: skip
@click.argument("key", type=data)
@click.option("--by", metavar="NUMBER", type=int, default=1, help="What is added, as 5 or -3. [default: 1]")
@click.option("--ttl", type=duration, help="How long the number lives, as 90s or 7d. [default: forever]")
@REPEAT
@RETRY
@SESSION
def increment_command(
    target: Target,
    key: bytes,
    by: int,
    ttl: float | None,
    repeat: str | None,
    retry: bool,
    session: Path | None,
) -> int:
    """Add to the number under KEY, and print the new one.

    A key that holds nothing counts as 0; what holds anything but a whole number, in decimal digits, is left
    as it is. However many do so at once, each gets a number of its own. In JSON the receipt is printed, in
    which `value` is the number. One that is repeated tells its number only if nobody has written the key
    since.

    \b
    Example:
        basestore increment visits
        basestore increment stock/7 --by -3
    """
    bucket = target.bucket if target.in_bucket else BUCKET
    with writing(), opened(target, session, retry) as store:
        receipt = store.increment(key, by, bucket=bucket, ttl=ttl, repeat=repeat)
    if target.json or not receipt:
        return show_receipt(target, key, receipt, "stored")
    if receipt.value is None:
        from basestore.results.receipts import NUMBER_PASSED

        target.remark(f"{NUMBER_PASSED}: `{how_to_get(key, bucket)}` shows what it holds now")
    else:
        click.echo(receipt.number)
    return exits.DONE
