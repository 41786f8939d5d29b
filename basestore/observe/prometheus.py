"""Prometheus: a node's counters and gauges in Prometheus's text exposition format, 0.0.4.

Names follow Prometheus's rules: base units, `_total` for what only grows, labels for what is summed over.
All families come from one copy of the numbers, made when the rendering begins, so that a page fits together
although the node goes on while it is made. Nothing is served here (`server/pages.py` does).
"""

from collections.abc import Iterable, Iterator, Sequence

import prometheus_client
from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from basestore.metrics import BOUNDS_S, COUNTERS, DEGRADED, EXCHANGES, REPAIRS, Histogram, Metrics
from basestore.observe.gauges import Gauges, PeerGauges
from basestore.observe.group_watch import ROLES
from basestore.protocol.envelopes import CLASSES

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("up", "starting", "forgetful", "left")
_BOUNDS = [*map(str, BOUNDS_S), "+Inf"]


class _Family(Collector):
    """One family as a registry of its own, so that families can be rendered one at a time."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class Exposition(Collector):
    """What one scrape shows of a node. `labels` say which node it is."""

    def __init__(self, metrics: Metrics, gauges: Gauges, labels: dict[str, str]) -> None:
        self._metrics = Metrics.of(metrics.facts())  # a copy
        self._gauges = gauges
        self._labels = labels

    def render(self) -> Iterator[bytes]:
        """The page, family by family."""
        for family in self.collect():
            yield prometheus_client.generate_latest(_Family(family))

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield InfoMetricFamily("basestore_node", "Which node this is.", self._labels)
        yield from self._requests()
        yield from self._counters()
        yield from self._state()
        yield from self._door()
        yield from self._registers()
        yield from self._feeds()
        yield from self._peers()
        yield from self._group()
        yield from ProcessCollector(registry=None).collect()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "basestore_requests",
            "Requests of clients that were answered, by what became of them.",
            labels=("operation", "level", "outcome"),
        )
        durations = HistogramMetricFamily(
            "basestore_request_duration_seconds",
            "From a request's coming in to its answer's going out, without those refused at once.",
            labels=("operation", "level"),
        )
        ideal = HistogramMetricFamily(
            "basestore_ideal_level_seconds",
            "When requests would have met a level, whatever level they had asked for.",
            labels=("operation", "level"),
        )
        for operation, level, series in self._metrics.series():
            for outcome, count in series.outcomes.items():
                requests.add_metric((operation, level, outcome), count)
            for family, histogram in ((durations, series.durations), (ideal, series.ideal)):
                if histogram.total:
                    family.add_metric((operation, level), _cumulated(histogram), histogram.seconds)
        yield from (requests, durations, ideal)

    def _counters(self) -> Iterator[Metric]:
        repairs = CounterMetricFamily(
            "basestore_repairs", "Replicas that were brought up to date, by what found them.", labels=["kind"]
        )
        exchanges = CounterMetricFamily(
            "basestore_exchanges",
            "Anti-entropy exchanges that have ended: both replicas were found the same at once, were "
            "compared by what had changed (delta) or by all that is held (full), or it was aborted.",
            labels=["kind"],
        )
        degraded = CounterMetricFamily(
            "basestore_reads_degraded",
            "Reads that one replica answered, for the level that was asked for was not reached.",
            labels=["level"],
        )
        for name, text in COUNTERS.items():
            count = self._metrics.counts[name]
            if name.startswith(REPAIRS):
                repairs.add_metric([name.removeprefix(REPAIRS)], count)
            elif name.startswith(EXCHANGES):
                exchanges.add_metric([name.removeprefix(EXCHANGES)], count)
            elif name.startswith(DEGRADED):
                degraded.add_metric([name.removeprefix(DEGRADED)], count)
            else:
                yield CounterMetricFamily(f"basestore_{name}", text, count)
        yield repairs
        yield exchanges
        yield degraded

    def _state(self) -> Iterator[Metric]:
        now = self._gauges
        state = GaugeMetricFamily("basestore_state", "1 for the state the node is in.", labels=["state"])
        for each in STATES:
            state.add_metric([each], each == now.state)
        yield state
        for name, text, value in (
            ("ready", "Whether this node counts for levels.", now.whole),
            ("records", "Rows that hold a value.", now.records),
            ("damaged_records", "Records that failed their digest and are being healed.", now.damaged),
            ("lossy_partitions", "Partitions whose loss nobody has accepted.", now.lossy),
            ("deferred_hints", "Hints of deferred writes, to be delivered.", now.deferred_hints),
            ("deferred_bytes", "What hints of deferred writes take.", now.deferred_bytes),
            ("deferred_bytes_max", "How much they may take.", now.deferred_bytes_max),
            ("operations", "Requests and other work under way.", now.operations),
            ("operations_bytes", "What the work under way holds.", now.operation_bytes),
            ("unsynced_commits", "Commits that are not durable yet.", now.durable_lag),
            ("open_exchanges", "Anti-entropy exchanges under way.", now.exchanges),
            ("unproven_partitions", "Partitions that have no stable stamp yet.", now.lag.unproven),
            ("unsynced_bytes", "What is in the commits that are not durable yet.", now.unsynced_bytes),
            (
                "disk_behind",
                "Whether writes are refused, for the disk does not keep up.",
                now.disk_behind,
            ),
            ("disk_stuck_seconds", "For how long no sync has ended, if that is too long.", now.stuck_s),
        ):
            yield GaugeMetricFamily(f"basestore_{name}", text, value)
        if now.disk.size:
            yield GaugeMetricFamily("basestore_disk_free_bytes", "Room on the store's disk.", now.disk.free)
            text = "How much of it is left free: with less, no values are taken."
            yield GaugeMetricFamily("basestore_disk_reserve_bytes", text, now.disk.reserve)
        if now.lag.stable_lag_ms is not None:
            text = "How far the stable stamp that is furthest behind is behind the clock."
            yield GaugeMetricFamily("basestore_stable_lag_seconds", text, now.lag.stable_lag_ms / 1e3)

    def _door(self) -> Iterator[Metric]:
        """What comes to the intake, and what it does with it."""
        now = self._gauges.intake
        kinds: tuple[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, Sequence[int]], ...] = (
            (CounterMetricFamily, "offered", "Requests that clients have sent, by class.", now.offered),
            (
                CounterMetricFamily, "admitted", "Requests that were begun, or kept for later, by class.",
                now.admitted,
            ),
            (CounterMetricFamily, "shed", "Requests that were refused unopened, by class.", now.shed),
            (GaugeMetricFamily, "under_way", "Requests begun and not answered, by class.", now.under_way),
            (GaugeMetricFamily, "waiting", "Requests that wait to be begun, by class.", now.waiting),
        )  # fmt: skip
        for family_of, name, text, counts in kinds:
            family = family_of(f"basestore_requests_{name}", text, labels=["class"])
            for kind, count in zip(CLASSES, counts, strict=True):
                family.add_metric([kind], count)
            yield family
        for name, text, value in (
            ("requests_under_way_max", "How many but those of class admin may be.", now.requests_max),
            ("requests_unopened_bytes", "What requests take that wait to be begun.", now.unopened_bytes),
            ("brownout_level", "How much the node leaves out, to keep up: 0 to 2.", now.brownout),
            ("shed_retry_seconds", "When what is shed now may be done.", now.retry_ms / 1e3),
        ):
            yield GaugeMetricFamily(f"basestore_{name}", text, value)
        if now.window is not None:
            text = "How many requests a client should have under way that has the fewest."
            yield GaugeMetricFamily("basestore_window_requests", text, now.window)

    def _registers(self) -> Iterator[Metric]:
        now = self._gauges.registers
        for name, text, value in (
            ("rows_unlearned", "Rows of registers that are accepted here and not learned.", now.unlearned),
            ("rows_unlearned_age_seconds", "How long the oldest of them waits.", (now.oldest_ms or 0) / 1e3),
            ("partitions_barred", "Partitions of which this node is no acceptor yet.", now.barred),
        ):
            yield GaugeMetricFamily(f"basestore_register_{name}", text, value)
        for name, text, value in (
            ("transactions_open", "Transactions of this node's clients that are under way.", now.under_way),
            (
                "transactions_open_age_seconds",
                "How long the oldest of them is.",
                (now.under_way_ms or 0) / 1e3,
            ),
            ("transaction_intents", "Rows that hold an intent of a transaction.", now.intents),
            ("transaction_rows_blocked", "Rows whose requests wait for an intent.", now.blocked),
            ("locks_held", "Locks that are held, of those whose register this node writes.", now.locks),
        ):
            yield GaugeMetricFamily(f"basestore_{name}", text, value)

    def _feeds(self) -> Iterator[Metric]:
        now = self._gauges.feeds
        for name, text, value in (
            ("watchers", "Watches of this node's clients.", now.watchers),
            ("feeds_served", "Feeds that read the log of this node's store.", now.followers),
            ("feed_changes_behind", "Changes that the one furthest behind was not told.", now.behind),
        ):
            yield GaugeMetricFamily(f"basestore_{name}", text, value)
        if now.lag_ms is not None:
            text = "How long ago all was written that the watcher furthest behind has been told."
            yield GaugeMetricFamily("basestore_watch_lag_seconds", text, now.lag_ms / 1e3)

    def _peers(self) -> Iterator[Metric]:
        def of_each(name: str, text: str, values: Iterable[tuple[PeerGauges, float | None]]) -> Metric:
            family = GaugeMetricFamily(f"basestore_{name}", text, labels=["peer"])
            for peer, value in values:
                if value is not None:
                    family.add_metric([peer.name], value)
            return family

        peers = self._gauges.peers
        yield of_each("peer_alive", "Whether a member counts for levels here.", ((p, p.alive) for p in peers))
        yield of_each("peer_linked", "Whether a connection to it stands.", ((p, p.linked) for p in peers))
        yield of_each(
            "peer_outbox_bytes", "What waits to be sent to it.", ((p, p.outbox_bytes) for p in peers)
        )
        yield of_each(
            "peer_clock_offset_seconds", "How far its clock is ahead of this node's.",
            ((p, _seconds(p.clock_offset_ms)) for p in peers),
        )  # fmt: skip
        yield of_each("hints", "Hints kept for a member.", ((p, p.hints) for p in peers))
        yield of_each("hints_bytes", "What they take.", ((p, p.hint_bytes) for p in peers))
        yield of_each(
            "hints_oldest_timestamp_seconds", "When the oldest hint for it was written.",
            ((p, _seconds(p.oldest_hint_ms)) for p in peers),
        )  # fmt: skip
        yield of_each(
            "stalls", "Whether the stable stamp of a partition waits for a member that should be further.",
            ((p, p.name in self._gauges.lag.stalled_by) for p in peers),
        )  # fmt: skip
        yield of_each(
            "debt_partitions", "Partitions of which it may lack writes that no hint here is kept of.",
            ((p, p.debt) for p in peers),
        )  # fmt: skip

    def _group(self) -> Iterator[Metric]:
        """The metadata group. What is not known has no sample."""
        now = self._gauges.group
        role = GaugeMetricFamily(
            "basestore_metadata_role", "1 for the part the node has in the metadata group.", labels=["role"]
        )
        for each in ROLES:
            role.add_metric([each], each == now.role)
        yield role
        text = "1 for the member that leads the metadata group, as this node hears it."
        leader = GaugeMetricFamily("basestore_metadata_leader", text, labels=["member"])
        for name in now.epochs:
            leader.add_metric([name], name == now.leader)
        yield leader
        epoch = GaugeMetricFamily("basestore_metadata_epoch", "Epoch in use, by member.", labels=["member"])
        behind, since, silent = (
            GaugeMetricFamily(f"basestore_metadata_{name}", text, labels=["member"])
            for name, text in (
                ("behind_entries", "Decided entries that a member does not use yet."),
                ("behind_since_timestamp_seconds", "Since when it is behind."),
                ("silent_since_timestamp_seconds", "When this leader heard a voter last that is silent."),
            )
        )
        for name, used in now.epochs.items():
            if used is not None:
                epoch.add_metric([name], used)
                if name not in now.behind:
                    behind.add_metric([name], 0)
        for name, late in now.behind.items():
            behind.add_metric([name], late.entries)
            since.add_metric([name], late.since_ms / 1e3)
        for name, heard_ms in now.silent.items():
            silent.add_metric([name], heard_ms / 1e3)
        yield from (epoch, behind, since, silent)
        for name, text, value in (
            ("term", "The latest term of the metadata group that this node has heard of.", now.term),
            ("decided_epoch", "The latest epoch that is known to be decided.", now.decided),
            ("has_leader", "Whether a leader is known: without one changes are refused.", bool(now.leader)),
        ):
            if now.role != "none":
                yield GaugeMetricFamily(f"basestore_metadata_{name}", text, value)
        if now.role != "none" and now.no_leader_since_ms is not None:
            text = "When a leader was heard of last, or the node was started; none is known."
            since_s = now.no_leader_since_ms / 1e3
            yield GaugeMetricFamily("basestore_metadata_no_leader_since_timestamp_seconds", text, since_s)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1e3


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus wants it: how many times lie at or below each bound."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(_BOUNDS, histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
