"""One HTTP/2 connection of a client: bytes in, requests out, responses and trailers back.

Owns the protocol state (libnghttp2, which enters the project through this file alone), flow control, the
limits on a peer. When and in which order a connection ends is told by `ending`.
What a request means is its `Receiver`'s matter (`front.router`). Created by `door` for each connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import ngh2

from service.front.connections import Connections
from service.front.ending import Ending
from service.front.frames import ended_streams
from service.front.receiver import Header, Receiver, Start
from service.front.tls import identity_of

STREAM_WINDOW_BYTES = 256 * 1024  # what a stream may send ahead of its reader
CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024  # so that some streams that aren't read do not hold up all others
UNSENT_BYTES = 64 * 1024  # of a stream; then whoever writes it waits
MAX_HEADER_BYTES = 16 * 1024  # of one header list, as told to the peer; four times that ends the connection
RESETS_BURST, RESETS_PER_S = 10_000, 1_000  # clients under deadlines cancel a lot; beyond it is an attack
PREFACE_S = 10.0  # a connection that has not said HTTP/2 by then is closed
_NOTICE = b"closing!"  # the PING that follows the notice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Http2Options:
    max_streams: int  # of one connection at a time
    max_age_s: float  # then the client is asked to connect anew, ±10%
    max_unsent_bytes: int  # of answers that the client doesn't take; beyond it the connection is cut


class Http2Connection(asyncio.Protocol):
    """Drives libnghttp2 between one transport and the receivers of its streams."""

    def __init__(self, options: Http2Options, start: Start, connections: Connections) -> None:
        self._options = options
        self._start = start
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._http2 = ngh2.Connection(
            ngh2.Role.SERVER,
            ngh2.Configuration(
                auto_window_update=False,
                max_inbound_header_list_size=4 * MAX_HEADER_BYTES,
                stream_reset_rate_limit=(RESETS_BURST, RESETS_PER_S),
            ),
        )
        self._transport: asyncio.Transport = cast(Any, None)  # set as soon as there is one
        self._receivers: dict[int, Receiver] = {}
        self._answered_early: set[int] = set()  # whose end has not left yet
        self._flush_due = False
        self._full = False  # the socket takes nothing at the moment
        self._ended = False  # HTTP/2 is over; the socket may live on for a moment
        self._cut_due = False
        self._ending = Ending(self._loop)
        self._preface_due: asyncio.TimerHandle | None = None
        self._waiting_for_room: list[asyncio.Future[None]] = []
        self.peer_identity: str | None = None

    # -- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        encryption: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        wrong_protocol = encryption is not None and encryption.selected_alpn_protocol() != "h2"
        if wrong_protocol or self._connections.closing:
            self._end()
            self._transport.close()
            return
        if encryption is not None:
            self.peer_identity = identity_of(encryption.getpeercert())
        self._http2.initiate_connection(
            {
                ngh2.Setting.MAX_CONCURRENT_STREAMS: self._options.max_streams,
                ngh2.Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
            }
        )
        self._http2.set_local_window_size(CONNECTION_WINDOW_BYTES)
        self._preface_due = self._ending.later(PREFACE_S, self._transport.close)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            self._http2.receive_data(data)
        except ngh2.NGH2Error as error:
            self._break_off(error)
        else:
            self._handle_events()
            self.flush_soon()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._end()
        self._connections.remove(self)

    # -- for receivers

    # What came in the same bytes may have closed a stream that is still to be told: then nothing is sent.

    def respond(self, stream_id: int, headers: Sequence[Header], data: bytes = b"") -> None:
        """Begins a response, or goes on with it where `headers` are none; `trailers` end it."""
        try:
            if headers:
                self._http2.send_response(stream_id, headers)
            self._http2.send_data(stream_id, data)
        except ngh2.NGH2Error as error:
            log.debug("not sent: %s", error)
        self.flush_soon()

    def answer(
        self, stream_id: int, headers: Sequence[Header], data: bytes, trailers: Sequence[Header]
    ) -> None:
        """A whole response, to a request that has ended."""
        http2 = self._http2
        try:
            http2.send_response(stream_id, headers)
            http2.send_data(stream_id, data)
            http2.send_trailers(stream_id, trailers)
        except ngh2.NGH2Error as error:
            log.debug("not sent: %s", error)
        self.flush_soon()

    def trailers(self, stream_id: int, headers: Sequence[Header], early: bool) -> None:
        """Ends a response. `early`: the request's end has not come and isn't waited for."""
        try:
            self._http2.send_trailers(stream_id, headers)
        except ngh2.NGH2Error as error:
            log.debug("not sent: %s", error)
        self._ends(stream_id, early)

    def respond_only(self, stream_id: int, headers: Sequence[Header], early: bool) -> None:
        """A response of nothing but headers."""
        try:
            self._http2.send_response(stream_id, headers, end_stream=True)
        except ngh2.NGH2Error as error:
            log.debug("not sent: %s", error)
        self._ends(stream_id, early)

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """So much of a body has found its reader: the client may send as much again."""
        if size_bytes and not self._ended:
            try:
                self._http2.acknowledge_received_data(size_bytes, stream_id)
            except ngh2.NGH2Error as error:
                log.debug("not given back: %s", error)

    async def room(self, stream_id: int) -> None:
        """Waits while the client doesn't take what was sent on this stream."""
        self._flush()
        while not self._ended and (self._full or self._http2.queued_body_size(stream_id) > UNSENT_BYTES):
            waiting = self._loop.create_future()
            self._waiting_for_room.append(waiting)
            await waiting

    def flush_soon(self) -> None:
        """In this turn of the loop, together with what others have to send."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    # -- the end

    def retire(self) -> None:
        """Asks the client to go elsewhere and ends its streams; it closes when all is answered."""
        if not self._ended:
            self._ending.give_notice(self)
            self.end_streams()

    def cut(self) -> None:
        """Ends it now: what is in flight gets a status and is cancelled."""
        if self._ended:
            return
        for receiver in list(self._receivers.values()):
            receiver.cut()
        self._ending.say_goodbye(self)
        self._flush()  # the statuses
        self._flush()  # the resets of those that were still sending
        self._hang_up_last()

    def tasks(self) -> list[asyncio.Task[None]]:
        """What computes at the moment."""
        found = (receiver.task() for receiver in self._receivers.values())
        return [task for task in found if task is not None]

    def send_notice(self) -> None:
        with suppress(ngh2.NGH2Error):  # it is about to be closed anyway
            self._http2.send_shutdown_notice()
            self._http2.ping(_NOTICE)
        self.flush_soon()

    def send_goaway(self, code: int, said: bytes) -> None:
        with suppress(ngh2.NGH2Error):
            self._http2.send_goaway(code, debug_data=said)
        self.flush_soon()

    def end_streams(self) -> None:
        for receiver in list(self._receivers.values()):
            receiver.closing()

    def _bound_unsent(self) -> None:
        """Of a client that asks and doesn't read: its answers would fill the memory."""
        unsent_bytes = self._http2.queued_body_size() + self._transport.get_write_buffer_size()
        if unsent_bytes > self._options.max_unsent_bytes and not self._cut_due:
            self._cut_due = True
            self._loop.call_soon(self._cut_unread)  # not amid what a receiver has to say

    def _cut_unread(self) -> None:
        if not self._ended:
            log.debug("a client doesn't read its answers: its connection is closed")
            self._ending.say_goodbye(self, ngh2.ErrorCode.ENHANCE_YOUR_CALM, b"answers are not read")
            self.cut()

    def _hang_up_last(self) -> None:
        if not self._ended:
            self._end()
            self._ending.hang_up_last(self._transport)

    def _end(self) -> None:
        """No more HTTP/2; whoever computes an answer may stop."""
        self._ended = True
        self._ending.is_over()
        receivers, self._receivers = self._receivers, {}
        for receiver in receivers.values():
            receiver.lost()
        self._wake_senders()

    def _wake_senders(self) -> None:
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _break_off(self, error: ngh2.NGH2Error | None = None) -> None:
        if error is not None:
            log.debug("a client broke HTTP/2: %s", error)
        self._end()
        self._ending.hang_up(self._transport)

    # -- protocol

    def _ends(self, stream_id: int, early: bool) -> None:
        if early:
            self._answered_early.add(stream_id)
        self.flush_soon()

    def _flush(self) -> None:
        self._flush_due = False
        if self._ended:
            return
        if self._full:
            self._bound_unsent()
            return
        try:
            out = self._http2.data_to_send()
        except ngh2.NGH2Error as error:
            self._break_off(error)
            return
        if out:
            self._transport.write(out)
        self._bound_unsent()
        self._handle_events()
        if self._answered_early and not self._ended:
            self._reset_answered(out)
        if self._waiting_for_room:
            self._wake_senders()
        if self._ending.said_goodbye and not self._receivers:
            self._hang_up_last()

    def _reset_answered(self, sent: bytes) -> None:
        """A client that was answered before it had sent everything is told to stop (RFC 9113, 8.1): once the
        end of its answer has left. A reset before it would be all that the client ever hears, and libnghttp2
        keeps the trailers back, with no body queued any more, while the client's window is used up."""
        self._answered_early &= self._receivers.keys()
        for stream_id in ended_streams(sent) & self._answered_early:
            self._answered_early.remove(stream_id)
            self._http2.reset_stream(stream_id, ngh2.ErrorCode.NO_ERROR)
            self.flush_soon()

    def _handle_events(self) -> None:
        for event in self._http2.events():
            if isinstance(event, ngh2.DataReceived):
                receiver = self._receivers.get(event.stream_id)
                if receiver is not None:
                    receiver.data(event.data, event.end_stream)
            elif isinstance(event, ngh2.RequestReceived):
                receiver = self._start(self, event.stream_id, event.headers, event.end_stream)
                self._receivers[event.stream_id] = receiver
            elif isinstance(event, ngh2.StreamClosed):  # by both sides, or reset by one
                lost = self._receivers.pop(event.stream_id, None)
                if lost is not None:
                    lost.lost()
            else:
                self._handle_rare(event)
            if self._ended:
                return

    def _handle_rare(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.TrailersReceived):
            receiver = self._receivers.get(event.stream_id)
            if receiver is not None:
                receiver.data(b"", True)
        elif isinstance(event, ngh2.WindowUpdated):
            self.flush_soon()
        elif isinstance(event, ngh2.SettingsReceived) and self._preface_due is not None:
            self._preface_due.cancel()
            self._preface_due = None
            self._ending.at_age(self._options.max_age_s, self)
        elif isinstance(event, ngh2.PingAcknowledged) and event.opaque_data == _NOTICE:
            self._ending.say_goodbye(self)
        elif isinstance(event, ngh2.ConnectionClosed) and (self._receivers or not self._ending.said_goodbye):
            self._break_off()  # the peer broke the protocol, or has said goodbye itself
