"""python -m tests.model.transactions [RUNS [all | design | NAME ...]] [--first SEED]."""

import sys

from tests.model.command import run
from tests.model.transactions.breakages import BREAKAGES
from tests.model.transactions.known import HARMLESS
from tests.model.transactions.world import play

if __name__ == "__main__":
    sys.exit(run("tests.model.transactions", play, BREAKAGES, HARMLESS))
