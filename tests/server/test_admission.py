# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Budgets of bytes, in which waiters are neither lost nor let go on all at once; accounts."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgate_server.admission import Admission, ByteBudget, ClientAccounts
from voxgate_server.errors import Overloaded
from voxgate_server.security import Client

# Far longer than a test: nobody is let go on by the clock.
NEVER = 1e6
CLIENT = Client("address:10.1.2.3", "10.1.2.3", None, 0, 2, 100)


async def turns(count: int = 10) -> None:
    """Let everything go as far as it can go without the clock."""
    for _ in range(count):
        await asyncio.sleep(0)


def waiting(budget: ByteBudget, count: int) -> tuple[list[asyncio.Task[None]], list[int]]:
    """`count` tasks that wait for room in this order, and the list of those that went on."""
    went_on: list[int] = []

    async def wait(index: int) -> None:
        await budget.wait_for_room()
        went_on.append(index)

    return [asyncio.create_task(wait(index)) for index in range(count)], went_on


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# ByteBudget -----------------------------------------------------------------------------------


def test_what_is_here_is_counted_though_it_passes_the_limit() -> None:
    budget = ByteBudget(100)
    assert not budget.full
    budget.acquire(99)
    assert not budget.full
    budget.acquire(50)
    assert budget.full and budget.used == 149
    budget.release(49)
    assert budget.full and budget.used == 100
    budget.release(1)
    assert not budget.full and budget.used == 99


@pytest.mark.parametrize("size", [-1, 11])
def test_more_than_was_taken_is_not_given_back(size: int) -> None:
    budget = ByteBudget(100)
    budget.acquire(10)
    with pytest.raises(ValueError, match=f"cannot release {size} bytes of 10"):
        budget.release(size)
    with pytest.raises(ValueError, match="cannot acquire -1"):
        budget.acquire(-1)
    assert budget.used == 10


async def test_nobody_waits_while_there_is_room() -> None:
    budget = ByteBudget(100, NEVER)
    budget.acquire(99)
    for _ in range(3):
        await budget.wait_for_room()


async def test_one_room_lets_one_of_a_thousand_go_on() -> None:
    budget = ByteBudget(100, NEVER)
    budget.acquire(60)
    budget.acquire(60)
    tasks, went_on = waiting(budget, 1000)
    await turns()
    assert went_on == [] and budget.waiting == 1000
    budget.release(60)
    await turns()
    assert went_on == [0] and budget.waiting == 999
    budget.acquire(60)
    budget.release(10)  # 110 are left: still full
    await turns()
    assert went_on == [0]
    budget.release(60)
    await turns()
    assert went_on == [0, 1]
    await stop(tasks)


async def test_who_was_let_go_on_and_reads_nothing_holds_up_nobody() -> None:
    budget = ByteBudget(100)
    budget.acquire(100)
    tasks, went_on = waiting(budget, 50)
    await turns()
    budget.release(1)
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)
    assert went_on == list(range(50))


async def test_the_clock_lets_nobody_go_on_into_a_full_budget() -> None:
    budget = ByteBudget(100, pace=0)
    budget.acquire(100)
    tasks, went_on = waiting(budget, 3)
    await turns()
    budget.release(1)
    budget.acquire(1)
    await turns(50)
    assert went_on == [0]
    await stop(tasks)


async def test_a_newcomer_queues_behind_those_who_wait() -> None:
    budget = ByteBudget(100, NEVER)
    budget.acquire(100)
    tasks, went_on = waiting(budget, 2)
    await turns()
    budget.release(50)
    newcomer = asyncio.create_task(budget.wait_for_room())
    await turns()
    assert went_on == [0] and not newcomer.done()
    budget.release(25)
    await turns()
    assert went_on == [0, 1] and not newcomer.done()
    budget.release(25)
    await asyncio.wait_for(newcomer, 20)
    await stop(tasks)


async def test_whoever_hangs_up_while_waiting_is_passed_over() -> None:
    budget = ByteBudget(100, NEVER)
    budget.acquire(100)
    tasks, went_on = waiting(budget, 3)
    await turns()
    tasks[0].cancel()
    budget.release(1)  # before the cancelled task has run
    await turns()
    assert went_on == [1]
    await stop(tasks)
    assert budget.waiting == 0


async def test_whoever_hangs_up_when_its_turn_comes_passes_it_on() -> None:
    budget = ByteBudget(100, NEVER)
    budget.acquire(100)
    tasks, went_on = waiting(budget, 3)
    await turns()
    budget.release(1)
    tasks[0].cancel()  # let go on, but it has not run since
    await turns()
    assert tasks[0].cancelled() and went_on == [1]
    await stop(tasks)


async def test_a_higher_limit_lets_waiters_go_on() -> None:
    budget = ByteBudget(100, NEVER)
    budget.acquire(100)
    tasks, went_on = waiting(budget, 2)
    await turns()
    budget.limit = 100
    await turns()
    assert went_on == []
    budget.limit = 101
    await turns()
    assert went_on == [0] and budget.limit == 101
    await stop(tasks)


async def test_streams_that_all_have_messages_pass_the_limit_by_a_few() -> None:
    """200 streams, in each a message that takes a turn to read, over a budget of ten."""
    budget = ByteBudget(10, pace=0)
    budget.acquire(10)
    answers: asyncio.Queue[int] = asyncio.Queue()
    most = 0

    async def stream(index: int) -> None:
        nonlocal most
        for _ in range(3):
            await budget.wait_for_room()
            await asyncio.sleep(0)
            budget.acquire(1)
            most = max(most, budget.used)
            answers.put_nowait(index)

    streams = [asyncio.create_task(stream(index)) for index in range(200)]
    await turns()
    assert budget.waiting == 200
    budget.release(10)
    order = []
    async with asyncio.timeout(60):
        for _ in range(600):
            order.append(await answers.get())
            budget.release(1)
        await asyncio.gather(*streams)
    assert budget.used == 0
    assert most <= 13
    # In rounds: nobody is answered again before everyone has been answered.
    assert [sorted(order[start : start + 200]) for start in (0, 200, 400)] == [[*range(200)]] * 3


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, 40)),
        st.tuples(st.just("release"), st.integers(0, 100)),
        st.tuples(st.just("wait"), st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 100)),
        st.tuples(st.just("limit"), st.integers(1, 80)),
        st.tuples(st.just("turn"), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(ACTIONS, st.sampled_from([0.0, NEVER]))
def test_no_order_of_events_loses_a_waiter(actions: list[tuple[str, int]], pace: float) -> None:
    """used is the sum of what is held; waiters go on in order; the last one gets through."""

    async def play() -> None:
        budget = ByteBudget(50, pace)
        held: list[int] = []
        tasks: list[asyncio.Task[None]] = []
        went_on: list[int] = []

        async def wait(index: int) -> None:
            await budget.wait_for_room()
            went_on.append(index)

        for action, number in actions:
            if action == "acquire":
                budget.acquire(number)
                held.append(number)
            elif action == "release" and held:
                budget.release(held.pop(number % len(held)))
            elif action == "wait":
                for _ in range(number):
                    tasks.append(asyncio.create_task(wait(len(tasks))))
            elif action == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif action == "limit":
                budget.limit = number
            else:
                await turns(number)
            assert budget.used == sum(held) >= 0
            assert budget.full == (budget.used >= budget.limit)

        await turns()
        for size in held:
            budget.release(size)
        assert budget.used == 0
        for _ in range(len(tasks) + 1):
            # A release of nothing is a release that leaves room: it lets one more go on.
            budget.release(0)
            await turns(3)
        assert budget.waiting == 0
        assert all(task.done() for task in tasks)
        finished = [index for index, task in enumerate(tasks) if not task.cancelled()]
        assert went_on == finished

    asyncio.run(play())


# Accounts -------------------------------------------------------------------------------------


def test_streams_are_counted_and_refused_above_the_limit() -> None:
    account = ClientAccounts().account(CLIENT)
    account.open_stream()
    account.open_stream()
    with pytest.raises(
        Overloaded, match=r"max_streams: 10\.1\.2\.3 has 2 open streams of at most 2"
    ):
        account.open_stream()
    account.close_stream()
    account.open_stream()
    account.close_stream()
    account.close_stream()
    with pytest.raises(ValueError, match="no stream is open"):
        account.close_stream()


def test_one_client_has_one_account_and_another_its_own() -> None:
    accounts = ClientAccounts()
    account = accounts.account(CLIENT)
    assert accounts.account(replace(CLIENT)) is account
    assert accounts.account(replace(CLIENT, key="address:10.1.2.4")) is not account


async def test_a_clients_account_takes_over_its_newest_limits() -> None:
    accounts = ClientAccounts()
    account = accounts.account(CLIENT)
    account.bytes.acquire(100)
    waiter = asyncio.create_task(account.bytes.wait_for_room())
    await turns()
    assert not waiter.done()
    accounts.account(replace(CLIENT, max_in_flight_bytes=200, max_streams=1))
    await asyncio.wait_for(waiter, 20)
    account.open_stream()
    with pytest.raises(Overloaded, match="at most 1"):
        account.open_stream()


def test_addresses_that_come_and_go_are_forgotten() -> None:
    admission = Admission(1000)
    accounts = ClientAccounts()
    kept = accounts.account(CLIENT)
    for index in range(10_000):
        account = accounts.account(replace(CLIENT, key=f"address:{index}"))
        account.open_stream()
        account.close_stream()
        hold = admission.admit(account, 10)
        hold.release()
    del account, hold
    gc.collect()
    assert len(accounts) == 1
    assert accounts.account(CLIENT) is kept


def test_a_client_is_not_forgotten_while_its_bytes_are_here() -> None:
    accounts, admission = ClientAccounts(), Admission(1000)
    hold = admission.admit(accounts.account(CLIENT), 70)
    gc.collect()
    assert accounts.account(CLIENT).bytes.used == 70
    hold.release()
    assert accounts.account(CLIENT).bytes.used == 0


# Admission ------------------------------------------------------------------------------------


def test_a_hold_counts_for_its_client_and_the_server_until_released_once() -> None:
    admission = Admission(1000)
    account = admission.account(CLIENT)
    hold, other = admission.hold(account), admission.hold(account)
    hold.add(30)
    hold.add(12)
    other.add(5)
    assert (hold.size, account.bytes.used, admission.bytes.used) == (42, 47, 47)
    for _ in range(2):
        hold.release()
        assert (hold.size, account.bytes.used, admission.bytes.used) == (0, 5, 5)
    other.release()
    assert (account.bytes.used, admission.bytes.used) == (0, 0)


def test_a_call_that_was_read_whole_is_refused_at_a_limit() -> None:
    admission = Admission(150)
    account = admission.account(CLIENT)
    first = admission.admit(account, 120)
    with pytest.raises(
        Overloaded,
        match=r"max_in_flight_bytes: 10\.1\.2\.3 has 120 bytes in flight of at most 100",
    ):
        admission.admit(account, 1)
    other = admission.account(replace(CLIENT, key="other", name="other"))
    second = admission.admit(other, 40)
    with pytest.raises(Overloaded, match="the server has 160 bytes in flight of at most 150"):
        admission.admit(other, 1)
    assert admission.bytes.used == 160
    first.release()
    admission.admit(account, 1).release()
    second.release()
    assert admission.bytes.used == 0


async def test_a_stream_waits_for_its_client_and_for_the_server() -> None:
    admission = Admission(150)
    account, other = (admission.account(replace(CLIENT, key=key)) for key in ("a", "b"))
    one = admission.admit(account, 100)
    two = admission.admit(other, 50)
    waiter = asyncio.create_task(admission.wait_for_room(account))
    await turns()
    two.release()  # the server has room, the client has none
    await turns()
    assert not waiter.done()
    await asyncio.wait_for(admission.wait_for_room(other), 20)
    two.add(60)
    one.release()
    one.add(90)  # the client has room, the server has none
    await turns()
    assert not waiter.done()
    two.release()
    await asyncio.wait_for(waiter, 20)


async def test_a_clients_own_limit_holds_up_no_other() -> None:
    admission = Admission(1000)
    greedy = admission.account(replace(CLIENT, key="greedy"))
    hold = admission.hold(greedy)
    hold.add(400)
    tasks = [asyncio.create_task(admission.wait_for_room(greedy)) for _ in range(3)]
    await turns()
    modest = admission.account(replace(CLIENT, key="modest"))
    await asyncio.wait_for(admission.wait_for_room(modest), 20)
    assert not any(task.done() for task in tasks)
    hold.release()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)


def test_a_hold_gives_back_a_part_but_no_more_than_it_has() -> None:
    admission = Admission(1000)
    account = admission.account(CLIENT)
    hold = admission.admit(account, 50)
    hold.remove(20)
    assert (hold.size, account.bytes.used, admission.bytes.used) == (30, 30, 30)
    for size in (-1, 31):
        with pytest.raises(ValueError, match=f"cannot give back {size} bytes of 30 held"):
            hold.remove(size)
    hold.release()
    assert (hold.size, account.bytes.used, admission.bytes.used) == (0, 0, 0)
