import asyncio
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from stepcredit.engines.embedded.post import Post


async def test_all_answers_of_a_turn_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken, post = asyncio.get_running_loop(), [], Post()
    wake = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *args: object) -> object:
        woken.append(callback)
        return wake(callback, *args)

    futures: list[Future[int]] = [Future() for _ in range(5)]
    waiters = [post.waiter(future) for future in futures]
    for number, future in enumerate(futures):
        future.set_result(number)
    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    post.deliver()
    post.deliver()
    monkeypatch.undo()
    assert await asyncio.gather(*waiters) == [0, 1, 2, 3, 4]
    assert len(woken) == 1


async def test_nothing_is_known_before_it_is_delivered() -> None:
    post, future = Post(), Future[int]()
    waiter = post.waiter(future)
    future.set_result(1)
    await asyncio.sleep(0)
    assert not waiter.done()
    post.deliver()
    assert await waiter == 1


async def test_an_error_is_raised_where_one_waits() -> None:
    post, future = Post(), Future[int]()
    waiter = post.waiter(future)
    future.set_exception(ValueError("no"))
    post.deliver()
    with pytest.raises(ValueError, match="no"):
        await waiter


@pytest.mark.parametrize("answered", [False, True])
async def test_who_is_cancelled_gets_no_answer(answered: bool) -> None:
    post, future, other = Post(), Future[int](), Future[int]()
    waiter, beside = post.waiter(future), post.waiter(other)
    if answered:
        future.set_result(1)
    other.set_result(2)
    waiter.cancel()
    await asyncio.sleep(0)
    post.deliver()
    assert await beside == 2
    assert waiter.cancelled()
    assert future.cancelled() is not answered


def test_a_loop_that_is_gone_does_not_keep_the_others_waiting() -> None:
    post, lost, wanted = Post(), Future[int](), Future[int]()

    async def leave() -> None:
        post.waiter(lost)

    async def stay() -> int:
        waiter = post.waiter(wanted)
        lost.set_result(1)
        wanted.set_result(2)
        post.deliver()
        return await asyncio.wait_for(waiter, 10)

    asyncio.run(leave())
    assert asyncio.run(stay()) == 2
