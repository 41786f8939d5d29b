"""python -m tests.model.leases [RUNS [all | design | NAME ...]] [--first SEED]."""

import sys

from tests.model.command import run
from tests.model.leases.breakages import BREAKAGES
from tests.model.leases.known import HARMLESS
from tests.model.leases.world import play

if __name__ == "__main__":
    sys.exit(run("tests.model.leases", play, BREAKAGES, HARMLESS))
