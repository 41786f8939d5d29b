"""python -m tests.model.batches [RUNS [all | design | NAME ...]] [--first SEED]."""

import sys

from tests.model.batches.breakages import BREAKAGES
from tests.model.batches.stage import STAGED
from tests.model.batches.world import play
from tests.model.command import run

if __name__ == "__main__":
    staged = {name: f"but by {history.__name__}" for name, history in STAGED.items()}
    sys.exit(run("tests.model.batches", play, BREAKAGES, staged))
