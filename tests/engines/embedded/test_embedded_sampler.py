from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from embedded_cases import V, logprobs_of, small_model
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import Sampling
from stepcredit.engines.embedded.sampler import Request, SlotSampler, Written, draw

STOP = (0,)


def request(seed: int, *, prompt: Sequence[int] = (1, 2, 3), **sampling: object) -> Request:
    settings = {"max_tokens": 20, "stop_ids": STOP} | sampling
    return Request(np.array(prompt, np.int32), Sampling(**settings), seed)


def varied(count: int) -> list[Request]:
    """Requests with shared and own prompts, several lengths, temperatures and nuclei."""
    numbers = np.random.default_rng(5)
    found: list[Request] = []
    for seed in range(count):
        if seed % 3 == 0:
            prompt = numbers.integers(1, V, int(numbers.integers(1, 12))).tolist()
        found.append(
            request(
                seed,
                prompt=prompt,
                max_tokens=int(numbers.integers(1, 30)),
                temperature=float(numbers.choice([0.0, 0.7, 1.0, 1.5])),
                top_p=float(numbers.choice([0.8, 1.0])),
            )
        )
    return found


def write_all(sampler: SlotSampler, requests: Sequence[Request], *, at_once: int = 10**6) -> dict[int, Written]:
    """Serve requests, letting in at most `at_once` between two steps."""
    waiting, found = list(requests), dict[int, Written]()
    while waiting or sampler.active:
        count = min(sampler.free, len(waiting), at_once)
        sampler.admit([waiting.pop(0) for _ in range(count)])
        found |= {written.request.seed: written for written in sampler.step()}
    return found


@cache
def written_alone() -> dict[int, Written]:
    """The requests of `varied`, each by itself."""
    sampler = SlotSampler(small_model(), slots=1, deterministic=True)
    return {one.seed: write_all(sampler, [one])[one.seed] for one in varied(18)}


@pytest.mark.parametrize("sizes", [{}, {"kv_heads": 2, "layers": 3}])
@pytest.mark.parametrize("deterministic", [False, True])
def test_logprobs_are_those_of_a_training_pass(sizes: dict[str, int], deterministic: bool) -> None:
    model = small_model(**sizes)
    requests = varied(40)
    found = write_all(SlotSampler(model, slots=7, deterministic=deterministic), requests, at_once=3)
    assert len(found) == 40
    for one in requests:
        written = found[one.seed]
        expected = logprobs_of(model, one.prompt, written.ids)
        np.testing.assert_allclose(written.logprobs, expected, atol=1e-4)


def test_greedy_takes_the_most_probable_token() -> None:
    model = small_model()
    written = write_all(SlotSampler(model, slots=2), [request(0, temperature=0.0)])[0]
    sequence = [1, 2, 3]
    for token in written.ids.tolist():
        ids = torch.tensor(sequence)
        with torch.no_grad():
            logits = model(ids, torch.arange(len(ids)), torch.tensor([0, len(ids)]))
        assert token == int(logits[-1].argmax())
        sequence.append(token)


def test_stop_token_ends_and_belongs_to_the_completion() -> None:
    found = write_all(SlotSampler(small_model(), slots=64), [request(seed, max_tokens=40) for seed in range(64)])
    stopped = [written for written in found.values() if written.finish == "stop"]
    cut = [written for written in found.values() if written.finish == "length"]
    assert stopped
    assert cut
    assert all(written.ids[-1] == 0 and 0 not in written.ids[:-1] for written in stopped)
    assert all(len(written.ids) == 40 and 0 not in written.ids for written in cut)


def test_stop_at_the_limit_is_a_stop() -> None:
    found = write_all(SlotSampler(small_model(), slots=64), [request(seed, max_tokens=1) for seed in range(64)])
    assert {(int(w.ids[0]) == 0, w.finish) for w in found.values()} == {(True, "stop"), (False, "length")}


@given(order=st.permutations(range(18)), at_once=st.integers(1, 18), slots=st.sampled_from([1, 33, 64]))
@settings(max_examples=6, deadline=None)
def test_deterministic_bits_do_not_depend_on_grouping(order: list[int], at_once: int, slots: int) -> None:
    alone, requests = written_alone(), varied(18)
    sampler = SlotSampler(small_model(), slots=slots, deterministic=True)
    together = write_all(sampler, [requests[i] for i in order], at_once=at_once)
    for seed, written in alone.items():
        assert written.ids.tobytes() == together[seed].ids.tobytes()
        assert written.logprobs.tobytes() == together[seed].logprobs.tobytes()


def test_deterministic_bits_survive_used_slots_and_cancelled_neighbours() -> None:
    model, wanted = small_model(), request(7, max_tokens=25)
    fresh = write_all(SlotSampler(model, slots=8, deterministic=True), [wanted])[7]
    sampler = SlotSampler(model, slots=8, deterministic=True)
    write_all(sampler, varied(30))
    neighbours = [request(100 + i, max_tokens=40) for i in range(5)]
    sampler.admit([*neighbours, wanted])
    found = sampler.step()
    sampler.cancel(neighbours[2])
    while sampler.active:
        found += sampler.step()
    again = next(written for written in found if written.request is wanted)
    assert fresh.logprobs.tobytes() == again.logprobs.tobytes()


def test_draws_depend_on_the_seed_alone() -> None:
    sampler = SlotSampler(small_model(), slots=16)
    one = write_all(sampler, [request(seed) for seed in range(16)])
    two = write_all(sampler, [request(seed) for seed in reversed(range(16))], at_once=2)
    assert all((one[seed].ids == two[seed].ids).all() for seed in range(16))
    assert len({written.ids.tobytes() for written in one.values()}) > 12


def test_frequencies_follow_the_model() -> None:
    model = small_model()
    with torch.no_grad():
        logits = model(torch.tensor([1, 2, 3]), torch.arange(3), torch.tensor([0, 3]))[-1]
    found = write_all(SlotSampler(model, slots=512), [request(seed, max_tokens=1, stop_ids=()) for seed in range(4096)])
    counts = np.bincount([int(written.ids[0]) for written in found.values()], minlength=V)
    expected = logits.softmax(-1).numpy()
    deviation = np.sqrt(expected * (1 - expected) / 4096)
    assert (np.abs(counts / 4096 - expected) < 4.5 * deviation + 1e-9).all()


def test_cancel_frees_the_slot_and_spares_the_others() -> None:
    sampler = SlotSampler(small_model(), slots=4)
    requests = [request(seed, stop_ids=()) for seed in range(4)]
    expected = write_all(SlotSampler(small_model(), slots=4), requests)
    sampler.admit(requests)
    sampler.step()
    sampler.cancel(requests[1])
    assert sampler.free == 1
    found: list[Written] = []
    while sampler.active:
        found += sampler.step()
    assert sorted(written.request.seed for written in found) == [0, 2, 3]
    for written in found:
        assert (written.ids == expected[written.request.seed].ids).all()


def test_draw_inverts_the_distribution() -> None:
    rows = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 1 - 2**-53], dtype=torch.float64)
    one = torch.ones(6)
    assert draw(rows, uniform, temperature=one, top_p=one).tolist() == [0, 0, 1, 1, 2, 2]
    assert draw(rows, uniform, temperature=0 * one, top_p=one).tolist() == [0] * 6
    # nucleus 0.7 keeps 0.5 and 0.3, which become 0.625 and 0.375
    kept = draw(rows, torch.tensor([0.62, 0.63, 0.99], dtype=torch.float64).repeat(2), temperature=one, top_p=0.7 * one)
    assert kept.tolist() == [0, 1, 1, 0, 1, 1]


def test_high_temperature_flattens_and_keeps_logprobs_of_temperature_one() -> None:
    model = small_model()
    found = write_all(SlotSampler(model, slots=64), [request(s, temperature=50.0, stop_ids=()) for s in range(64)])
    tokens = np.concatenate([written.ids for written in found.values()])
    assert np.bincount(tokens, minlength=V).min() > len(tokens) / V / 2
    np.testing.assert_allclose(found[0].logprobs, logprobs_of(model, np.array([1, 2, 3]), found[0].ids), atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request(0, prompt=()), "the prompt has no tokens"),
        (request(0, prompt=(1, V)), f"outside the vocabulary of {V}"),
        (request(0, max_tokens=0), "do not fit"),
        (request(0, max_tokens=46), "3 prompt \\+ 46 completion tokens do not fit into the capacity 48"),
        (request(0, temperature=-1.0), "temperature must be >= 0"),
        (request(0, temperature=float("nan")), "temperature must be >= 0"),
        (request(0, top_p=0.0), "top_p in"),
        (request(0, stop_ids=(V,)), "stop_ids"),
    ],
)
def test_requests_that_cannot_be_served_are_refused(bad: Request, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        SlotSampler(small_model(), slots=1).check(bad)


def test_sizes_are_checked() -> None:
    with pytest.raises(EngineError, match=r"capacity 2\.\.48"):
        SlotSampler(small_model(), slots=1, capacity=49)
    sampler = SlotSampler(small_model(), slots=1)
    with pytest.raises(EngineError, match="2 requests for 1 free slots"):
        sampler.admit([request(0), request(1)])


def test_damaged_weights_are_an_error_not_a_token() -> None:
    model = small_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    sampler = SlotSampler(model, slots=1)
    sampler.admit([request(0)])
    with pytest.raises(EngineError, match="logits are NaN"):
        sampler.step()


def test_weights_stay_while_something_is_written() -> None:
    sampler = SlotSampler(small_model(), slots=1)
    sampler.admit([request(0, stop_ids=())])
    with pytest.raises(EngineError, match="while 1 completions"):
        sampler.refresh()
