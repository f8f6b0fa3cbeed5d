"""What a development node counts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class NodeCounters:
    """Counts of one session, or of the whole node (`DevNode.counters`); they only grow.

    Attributes:
        sessions: sessions that authenticated.
        refusals: tokens that were refused.
        reauths: re-authentications that succeeded.
        streams_opened, streams_closed: streams of every transport, outbound ones too.
        streams_cut: streams that were open when their session ended.
        messages_in, messages_out: data messages from and to the client.
        bytes_in, bytes_out: their payloads.
        grants: ``resume_stream`` messages sent with credits.
        pings, pongs: ``ping_client`` received, ``pong_client`` sent.
        connects_dropped, data_dropped, disconnects_dropped: messages that found the lane full.
        users_killed: users whose connection the node killed (full lane, over-sending, idle).
        idle_kills: of these, for idleness or lack of credits.
        over_sends: streams killed because the client sent more than the user-side buffer holds.
        sends_without_credit: data messages that the client sent without a credit, killed or not.
        unknown_data: data messages for streams that the node does not know (late ones are normal).
        unknown_disconnects: ``disconnect`` messages with the reason ``unknown``.
        late_disconnects: ``disconnect`` messages for streams that the node does not know (the reference sends them).
        disconnect_reasons: how many ``disconnect`` messages came with which reason.
        malformed: messages that are not what the protocol allows.
        unexpected_text: text frames that nothing asked for.
        no_route: users whose hostname no session serves.
        datagrams_dropped: datagrams from users that had no credit or no route.
    """

    sessions: int = 0
    refusals: int = 0
    reauths: int = 0
    streams_opened: int = 0
    streams_closed: int = 0
    streams_cut: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    grants: int = 0
    pings: int = 0
    pongs: int = 0
    connects_dropped: int = 0
    data_dropped: int = 0
    disconnects_dropped: int = 0
    users_killed: int = 0
    idle_kills: int = 0
    over_sends: int = 0
    sends_without_credit: int = 0
    unknown_data: int = 0
    unknown_disconnects: int = 0
    late_disconnects: int = 0
    disconnect_reasons: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    unexpected_text: int = 0
    no_route: int = 0
    datagrams_dropped: int = 0

    @property
    def lane_drops(self) -> int:
        """Messages of any kind that found the lane full."""
        return self.connects_dropped + self.data_dropped + self.disconnects_dropped

    def add(self, other: NodeCounters) -> None:
        """Add another's counts to these."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, number in other.disconnect_reasons.items():
            self.disconnect_reasons[reason] = self.disconnect_reasons.get(reason, 0) + number


_NUMBERS = tuple(item.name for item in fields(NodeCounters) if item.name != "disconnect_reasons")
