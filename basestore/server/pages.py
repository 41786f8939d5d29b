"""Pages: what a node's optional HTTP port shows to machines that watch it.

    /metrics   what it has done and how it stands, for Prometheus
    /livez     200 while the node's loop turns: who gets no answer may restart it
    /readyz    200 while the node counts for levels, else 503 with the reason

Readiness is about this node alone: while its peers are gone it still serves what needs no others,
and a balancer that took it out for their sake would make an outage of what is none.
"""

import trio

from basestore.config import parse_address
from basestore.errors import ConfigurationError
from basestore.node import Node
from basestore.observe.prometheus import MEDIA, Exposition
from basestore.release import VERSION
from basestore.server.http import Page, line, serve_pages
from basestore.server.listening import why_not


async def serve_node(
    node: Node, address: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve the pages of `node` at host:port, until cancelled. Started once the port is open;
    ConfigurationError when it cannot be had."""
    host, port = parse_address(address)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigurationError(
            f"{node.name} cannot show its metrics on {address}: {why_not(error)}; or change `metrics` under "
            f"[node] in its file"
        ) from error

    def metrics() -> Page:
        labels = {"node": node.name, "version": VERSION, "durability": node.config.durability}
        return Page(200, MEDIA, Exposition(node.metrics, node.report.gauges(), labels).render())

    def readyz() -> Page:
        if not node.identity.counts:
            return line(503, f"{node.state}: {node.reason}")
        if node.group_commit.stuck_s:
            return line(503, f"{node.state}, but its disk hangs: {node.group_commit.trouble}")
        return line(200, "ok")

    pages = {"/metrics": metrics, "/livez": lambda: line(200, "ok"), "/readyz": readyz}
    task_status.started()
    await serve_pages(listeners, pages)
