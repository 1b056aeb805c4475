"""The daemon's metrics. No label names a person, and none holds an error's text."""

from __future__ import annotations

import math
from collections import Counter as Count
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from reconciler import __version__
from reconciler.ledger.reading import HEAD
from reconciler.model.report import Report
from reconciler.model.status import Status
from reconciler.model.value import Frozen


class Noted(Frozen):
    """What the ledger has of it: grants by integration and status, the members' services, the problems of files."""

    grants: Count[tuple[str, Status]]
    members: Mapping[str, int]
    problems: int


class Metrics:
    """The metrics of one daemon, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge, counter = partial(Gauge, registry=self.registry), partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._grants = gauge("reconciler_grants", "Grants by integration and status.", ["integration", "status"])
        self._attempts = counter("reconciler_attempts", "Attempts and revocations by outcome.", ["outcome"])
        self._counted = counter(
            "reconciler_passes",
            "Passes by outcome: failed where an attempt or a revocation did, else done.",
            ["outcome"],
        )
        self._passes = histogram(
            "reconciler_pass_seconds",
            "How long passes take, by what started them.",
            ["why"],
            buckets=(0.05, 0.25, 1, 5, 30, 120, 600),
        )
        self._expired = histogram(
            "reconciler_expiration_delay_seconds",
            "How long after its time was over access was revoked.",
            buckets=(1, 2, 5, 10, 30, 60, 300, 3600),
        )
        self._requests = counter(
            "reconciler_requests",
            "Requests by integration, or service for its token, and outcome: 2xx to 5xx, or no_answer.",
            ["integration", "outcome"],
        )
        self._latency = histogram(
            "reconciler_request_seconds",
            "How long services take to answer; waiting for a rate limit is not counted.",
            ["integration", "outcome"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self._build = Info(
            "reconciler_build", "The version of the program, and of its state's schema.", registry=self.registry
        )
        self._build.info({"version": __version__, "schema": HEAD})
        self._unmanaged = gauge(
            "reconciler_unmanaged_accounts",
            "Accounts that git does not know, of each listing that was read whole.",
            ["integration"],
        )
        self._problems = gauge("reconciler_file_problems", "Problems in the files in force.")
        self._last = gauge("reconciler_last_pass_timestamp_seconds", "When a pass last finished.")
        self._resync = gauge(
            "reconciler_resync_overrun_seconds",
            "By how much the slowest part of a resync since the start overran the interval.",
        )
        self._fetched = gauge(
            "reconciler_git_last_fetch_timestamp_seconds",
            "When a fetch from git last succeeded; NaN where none ever did.",
        )
        self._hooks = counter(
            "reconciler_hooks",
            "Hooks by outcome: accepted, unsigned, too_large, cut_off, secret_unreadable; unknown ones have no name.",
            ["hook", "outcome"],
        )
        self._checkpoints = counter(
            "reconciler_checkpoints_published", "Checkpoints of the history that were published."
        )
        self._members = gauge(
            "reconciler_member_services", "How many services each member of a fleet has at this moment.", ["member"]
        )

    def count_pass(self, report: Report, took: timedelta, why: str, now: float) -> None:
        """Count a pass."""
        self._attempts.labels("executed").inc(report.executed)
        self._attempts.labels("revoked").inc(report.revoked)
        self._attempts.labels("failed").inc(report.failures)
        self._counted.labels("failed" if report.failures else "done").inc()
        self._passes.labels(why).observe(took.total_seconds())
        for late in report.expired:
            self._expired.observe(max(0.0, late.total_seconds()))
        self._last.set(now)

    def count_request(self, integration: str, status: int | None, seconds: float) -> None:
        """Count a request that was sent; `status` is that of its answer, None if there was none."""
        outcome = "no_answer" if status is None else f"{status // 100}xx"
        self._requests.labels(integration, outcome).inc()
        self._latency.labels(integration, outcome).observe(seconds)

    def count_checkpoints(self, number: int) -> None:
        """Count checkpoints that were published."""
        self._checkpoints.inc(number)

    def count_hook(self, hook: str, outcome: str) -> None:
        """Count a call of a hook."""
        self._hooks.labels(hook, outcome).inc()

    def text(
        self, noted: Noted, overrun: timedelta, fetched_at: datetime | None, unmanaged: Mapping[str, int]
    ) -> bytes:
        """Write all metrics in Prometheus' text format; the arguments are those that are counted when it is called."""
        self._members.clear()
        for member, services in noted.members.items():
            self._members.labels(member).set(services)
        self._unmanaged.clear()
        for integration, count in unmanaged.items():
            self._unmanaged.labels(integration).set(count)
        self._resync.set(overrun.total_seconds())
        self._fetched.set(math.nan if fetched_at is None else fetched_at.timestamp())
        self._problems.set(noted.problems)
        self._grants.clear()
        for (integration, status), count in noted.grants.items():
            self._grants.labels(integration, status).set(count)
        return generate_latest(self.registry)
