"""How long a relay waits, and for what: one value that is handed to everything that waits."""

from __future__ import annotations

from dataclasses import dataclass

from relay.protocol.times import ProtocolTimes


@dataclass(frozen=True, slots=True)
class Timings:
    """All times that no backend configures (seconds). The defaults suit every relay; tests hand in shorter ones.

    Attributes:
        protocol: those of the protocol's core.
        node_connect: for TCP, TLS and the WebSocket handshake with a node together.
        ping_interval: between two pings (docs/protocol.md, "Session").
        dead_after: without any frame, or without progress of a write; after that the node is given up.
        close_grace: that a node has to close the socket when the WebSocket is over.
        close_timeout: for the node's Close after ours.
        broken_close_timeout: the same where the session has failed.
        tick: between two looks at what is due in a session.
        confirmed_after: after the last token of the handshake; a node that has said nothing by then has accepted it.
        reauth_pace: between the beginnings of two answers to challenges for re-authentication, after a burst.
        reauth_retry: before another attempt at a token for a re-authentication.
        retry_first: the first bound of the back-off.
        retry_longest: its largest bound.
        retry_least: no retry comes sooner.
        stable_after: that a session must stay up for the next failure to be the first again.
        refused_retry: first and largest bound after the node refused the credentials; half of it is always waited.
        likely_after: that likely refusals must have gone on to be believed; a node that restarts, or whose verifier is
            out of reach, looks the same.
        likely_refused_retry: as `refused_retry`, where refusals are believed that the node did not put into words.
        rate_limited_retry: the least wait after a node has asked for patience.
        retire_steps: a replaced session closes once it has been without a stream for the second figure, while the first
            has not passed since it was replaced. A longer lull makes it likelier that no ``connect`` is on its way;
            under steady load there is none, so a shorter one must do. At the last deadline what is still open is cut.
        drain_steps: the same for a session that is to end: it closes once it has nothing to carry and no user has come
            for the second figure; behind the last step at any instant without a stream.
        drain_last_look: before the deadline of a drain (a tenth of it, where that is less); from then on only streams
            from before the drain are left is quiet enough.
        drain_poll: between two looks at that.
        retire_poll: between two looks at a session that is to be closed.
        linger: that a target has, after its user left, to read what was sent and close by itself.
        flush_stall: without any progress; after that the rest for a target whose user left is given up.
        socks_greeting: for a local program to say where it wants to go.
        socks_result: for the node's ``outbound_result``.
        socks_listen_retry: between two attempts to listen on an address that is taken.
        resolved_for: that the addresses of a name are reused; a burst of streams asks the resolver once.
        lookup_slow: for a look-up; after that it counts as slow, and what the name resolved to last is used.
        serve_stale: beyond `resolved_for`, that the last addresses of a name are used where the resolver fails.
        keepalive: of silence, after which TCP asks whether the other side of a connection to a target or node is still
            there, and between two such questions; whole seconds, 0 for never.
        stagger: after which the next address of a name is tried beside those that have not answered (RFC 8305,
            section 5).
        failed_for: for which a target that failed a dial comes after the others.
        backlog_retry: first and longest pause between attempts at a Unix socket whose backlog is full.
        admission_look: for which the count of what a process holds is believed.
        reapply_after: after which what broke while a configuration was followed is tried again, where no newer one
            comes.
        worker_restart: before a worker that died is started again: the first time, doubling to the second figure.
        worker_steady: that a worker must have run for its next restart to be like the first.
        network_retry_pause: between two retries of all sessions because a network interface came up: a machine that
            starts containers has interfaces that come up all the time.
        reap_every: between two looks for orphans that have ended, where the relay is a container's first process.
    """

    protocol: ProtocolTimes = ProtocolTimes()

    node_connect: float = 10.0
    ping_interval: float = 5.0
    dead_after: float = 10.0
    close_grace: float = 1.0
    close_timeout: float = 3.0
    broken_close_timeout: float = 1.0

    tick: float = 1.0
    confirmed_after: float = 3.0
    reauth_pace: float = 0.25
    reauth_retry: float = 1.0

    retry_first: float = 1.0
    retry_longest: float = 30.0
    retry_least: float = 0.1
    stable_after: float = 30.0
    refused_retry: tuple[float, float] = (30.0, 300.0)
    likely_after: float = 60.0
    likely_refused_retry: tuple[float, float] = (30.0, 60.0)
    rate_limited_retry: float = 60.0
    retire_steps: tuple[tuple[float, float], ...] = ((10.0, 1.0), (30.0, 0.2), (900.0, 0.02))
    drain_steps: tuple[tuple[float, float], ...] = ((1.0, 0.1), (5.0, 0.02))
    drain_last_look: float = 1.0
    drain_poll: float = 0.02
    retire_poll: float = 0.02

    linger: float = 2.0
    flush_stall: float = 30.0

    socks_greeting: float = 10.0
    socks_result: float = 15.0
    socks_listen_retry: float = 2.0

    resolved_for: float = 5.0
    lookup_slow: float = 1.0
    serve_stale: float = 300.0
    keepalive: int = 15
    stagger: float = 0.25
    failed_for: float = 5.0
    backlog_retry: tuple[float, float] = (0.005, 0.1)

    admission_look: float = 0.25
    reapply_after: float = 30.0
    worker_restart: tuple[float, float] = (1.0, 30.0)
    worker_steady: float = 60.0
    network_retry_pause: float = 5.0
    reap_every: float = 5.0
