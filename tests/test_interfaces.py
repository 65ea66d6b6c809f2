"""The contracts others write code against: their members may grow with a changelog entry, never change unnoticed."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.interface import InterfaceClass, Method

from wshost import interfaces

#: What third parties implement or are given, member by member.
PUBLIC: dict[Any, set[str]] = {
    interfaces.IProtocolModule: {"init(options, context)"},
    interfaces.IPreparedModule: {"init(options, context)", "prepare(options)"},
    interfaces.ILinkedModule: {"init(options, context)", "check(options, chain, position)"},
    interfaces.INegotiatedModule: {"init(options, context)", "alpn_protocols"},
    interfaces.IProtocolDriver: {
        "handle_action(action, *args)",
        "handle_connection_close(reason)",
        "handle_connection_in(data)",
    },
    interfaces.IBufferedDriver: {
        "handle_action(action, *args)",
        "handle_buffer_in(size)",
        "handle_connection_close(reason)",
        "handle_connection_in(data)",
    },
    interfaces.ICountingDriver: {
        "handle_action(action, *args)",
        "handle_connection_close(reason)",
        "handle_connection_in(data)",
        "messages_in",
        "messages_out",
    },
    interfaces.IRenewableDriver: {
        "handle_action(action, *args)",
        "handle_connection_close(reason)",
        "handle_connection_in(data)",
    },
    interfaces.IContext: {
        "admitted",
        "blocked",
        "call_later(seconds, call)",
        "call_regardless(seconds, call)",
        "call_soon(call)",
        "clock",
        "count_crash(handler, kind)",
        "count_refusal(status, reason)",
        "host_address",
        "keep_actions()",
        "log_failure(what)",
        "next_module",
        "notes",
        "max_output",
        "output_full",
        "pause_reading()",
        "peer",
        "peer_address",
        "perform(results)",
        "proxy",
        "reading",
        "receive_into(buffer)",
        "ref",
        "release_actions()",
        "request",
        "reset_by_peer",
        "resume_reading()",
        "retry_after",
        "route",
        "start_over()",
        "take_waiting()",
        "tls",
        "trusted",
        "unsubscribe_all()",
        "use_client(client, secure, decided=None)",
        "use_encoding(encoding)",
        "use_policy(policy)",
        "write(data)",
    },
    interfaces.IEncoding: {"encode(data)"},
    interfaces.IRef: {
        "close(code, reason)",
        "demonitor(other)",
        "drained()",
        "id",
        "info(message)",
        "monitor(other)",
        "ping(data)",
        "send(data, key=None)",
        "signed(key)",
        "subscribe(topic, tell_lost=False)",
        "unsubscribe(topic)",
        "unwatch(topic)",
        "waiting",
        "watch(topic)",
    },
    interfaces.IBackplane: {
        "close()",
        "connect(reactor, receiver)",
        "largest",
        "publish(subject, payload)",
        "subscribe(subject)",
        "unsubscribe(subject)",
        "waiting",
    },
    interfaces.ILocalTopics: {"lose_locally(topic, messages)", "publish_locally(topic, data)"},
    interfaces.IHandler: {"handle(message, state)", "init(options)"},
    interfaces.ISessionFactory: {"session(channel, connection)"},
    interfaces.ISession: {
        "after_infos(call)",
        "busy",
        "connection_lost()",
        "handle_info(message)",
        "handle_message(message)",
        "has_infos",
        "open(ref)",
    },
    interfaces.IChannel: {
        "accept(accept)",
        "call_later(seconds, call)",
        "call_soon(call)",
        "close(code, reason)",
        "count_crash(handler, kind)",
        "log_failure(what)",
        "ping(data)",
        "pong(data)",
        "proceed()",
        "reject(status, body, headers)",
        "seconds()",
        "send(data)",
        "start_over()",
        "unsubscribe_all()",
        "use_policy(policy)",
    },
}
CONTRACTS = [
    value
    for value in vars(interfaces).values()
    if isinstance(value, InterfaceClass) and value.__module__ == interfaces.__name__
]


def members(contract: Any) -> set[str]:
    return {
        name + (member.getSignatureString() if isinstance(member, Method) else "")
        for name, member in contract.namesAndDescriptions(all=True)
    }


@pytest.mark.parametrize("contract", PUBLIC, ids=lambda contract: contract.__name__)
def test_a_public_contract_has_the_members_that_were_promised(contract: Any) -> None:
    assert members(contract) == PUBLIC[contract]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_a_contract_says_what_each_of_its_members_is_for(contract: Any) -> None:
    assert contract.getDoc()
    assert [name for name, member in contract.namesAndDescriptions() if not member.getDoc()] == []
