"""The guard: a pass that would take away or heal too much at once is taken for a mistake (DESIGN section 3).

It counts over an integration's grants since the last full resync, of its confirmed ones, and never counts first-time
provisioning. It only judges; what it holds, the pass suspends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.model.grant import Key

__all__ = ["judge_changes"]

FEW = 5
"""So many changes are never too many."""


def judge_changes(
    planned: Mapping[str, Collection[Key]],
    done: Mapping[str, Collection[Key]],
    confirmed: Mapping[str, int],
    percent: float,
) -> dict[str, str]:
    """Which integrations are held, and the reason with its numbers.

    `planned` are the grants that this pass would revoke or heal, `done` those changed since the last full resync,
    `confirmed` counts each integration's confirmed grants.
    """
    held = {}
    for integration, grants in planned.items():
        changes = len(set(grants) | set(done.get(integration, ())))
        # What was revoked since the resync was confirmed then.
        total = max(confirmed.get(integration, 0), changes)
        if grants and changes > FEW and changes * 100 > percent * total:
            share = f"{changes * 100 / total:.2f} % is over {percent:g} % ({changes}/{total})"
            held[integration] = (
                f"held by the guard: {share} of the confirmed grants would be revoked or healed; "
                "look why, then let it through once with `reconcile --yes-really`"
            )
    return held
