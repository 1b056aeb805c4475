"""kill -9 in the middle of attempts: nobody is made twice, nobody is left half done, nothing succeeded runs again.

`python -m tests.faults.random_kills` does the same for hours, with more mischief.
"""

from __future__ import annotations

import os
import random
import time

from tests.faults.random_kills import Slow, Trial
from tests.repo import Repo

KILLS = 20


def test_twenty_kills_over_twenty_hires(repo: Repo) -> None:
    seed = int(os.environ.get("RANDOM_KILLS_SEED") or time.time_ns() % 2**32)
    print(f"RANDOM_KILLS_SEED={seed}")  # shown where the test fails
    with Slow() as accounts:
        trial = Trial(repo, accounts, random.Random(seed))
        trial.prepare()
        trial.run(KILLS)
    assert trial.kills == KILLS
    assert trial.inside > KILLS / 4, "too few of the kills met an attempt to say anything"
