"""The race drops what cannot be the best, rarely the best itself, and says the same of the same rounds."""

from __future__ import annotations

import numpy as np
import pytest

from reports.numbers.racing import Dropped, Objective, Race
from reports.record.settings import DecodingPoint, EngineKey

Rounds = list[dict[str, float]]


def drawn(seed: int, rounds: int, slower: dict[str, float], noise: float = 0.04) -> Rounds:
    """Seconds per token by round: the prompt's own, the machine's drift, the case's, and noise."""
    generator = np.random.default_rng(seed)
    prompts = np.exp(generator.normal(0, 0.2, rounds) + np.cumsum(generator.normal(0, 0.05, rounds)))
    return [
        {case: 0.02 * prompt * (1 + by) * float(np.exp(generator.normal(0, noise))) for case, by in slower.items()}
        for prompt in prompts
    ]


def raced(race: Race, rounds: Rounds) -> list[Dropped]:
    for number, seconds in enumerate(rounds):
        race.add(number, {case: value for case, value in seconds.items() if case not in {d.case for d in race.dropped}})
    return race.dropped


def test_slow_cases_leave_early_with_the_round_and_the_reason() -> None:
    rounds = drawn(0, 40, {"plain": 0.5, "k=1": 0.1, "k=2": 0.0, "k=8": 0.9})
    race = Race(["plain", "k=1", "k=2", "k=8"], baselines=["plain"])
    dropped = {drop.case: drop for drop in raced(race, rounds)}
    assert dropped.keys() == {"k=1", "k=8"}
    assert 4 <= dropped["k=8"].round < dropped["k=1"].round
    assert "cannot be the best: k=2 is 1." in dropped["k=1"].reason
    assert f"over {dropped['k=1'].round + 1} rounds" in dropped["k=1"].reason
    assert race.running == ("plain", "k=2")  # a baseline stays, however slow it is
    assert race.leader == "k=2"
    first, second = race.standings()
    assert (first.case, first.behind, first.half_width) == ("k=2", 0.0, 0.0)
    assert second.case == "plain"
    assert second.behind == pytest.approx(0.405, abs=0.05)
    assert second.behind > second.half_width > 0
    assert race.decided()


def test_a_race_of_equals_is_decided_once_they_are_surely_equal_enough() -> None:
    race = Race("ab", baselines="a")
    raced(race, drawn(4, 60, {"a": 0.0, "b": 0.0}, noise=0.01))
    assert race.running == ("a", "b")
    assert not race.decided()
    assert race.decided(indifference=0.02)


def test_the_same_rounds_give_the_same_race_again_also_from_halfway() -> None:
    rounds = drawn(1, 30, {f"k={k}": k / 40 for k in range(12)})
    race, again = (Race(rounds[0], baselines=["k=0"]) for _ in range(2))
    dropped = raced(race, rounds)
    recorded = [
        {case: value for case, value in seconds.items() if all(d.case != case or number <= d.round for d in dropped)}
        for number, seconds in enumerate(rounds)
    ]
    for number, seconds in enumerate(recorded):
        again.add(number, seconds)
    assert again.dropped == dropped
    assert dropped
    assert again.standings() == race.standings()


def test_no_candidates_leave_after_the_least_rounds_and_failed_cases_at_once() -> None:
    reason = Objective().why_no_candidate(EngineKey("p", target_quant="4bit"), DecodingPoint())
    race = Race(["plain", "a", "4bit"], baselines=["plain"], excluded={"4bit": reason}, least_rounds=3)
    rounds = drawn(2, 6, {"plain": 0.02, "a": 0.0, "4bit": -0.5})
    for seconds in rounds[2:]:
        del seconds["a"]
    told = [race.add(number, seconds) for number, seconds in enumerate(rounds[:3])]
    assert told == [[], [], [Dropped("4bit", 2, reason)]]
    assert race.running == ("plain",)
    assert race.decided()


def test_whoever_joins_is_compared_over_the_rounds_that_it_has() -> None:
    rounds = drawn(3, 30, {"plain": 0.3, "k=2": 0.1, "k=4": 0.0})
    race = Race(["plain", "k=2"], baselines=["plain"], joining=1)
    for number, seconds in enumerate(rounds):
        if number == 10:
            race.join("k=4")
        race.add(number, {case: value for case, value in seconds.items() if case in race.running})
    assert [drop.case for drop in race.dropped] == ["k=2"]
    assert race.dropped[0].round >= 14
    assert f"over {race.dropped[0].round - 9} rounds" in race.dropped[0].reason
    with pytest.raises(ValueError, match="was not told of any"):
        race.join("k=5")


def test_candidates_are_the_same_model_in_the_same_dtype() -> None:
    objective = Objective(dtype="bf16", compiled=False)
    engine, point = EngineKey("p"), DecodingPoint()
    assert objective.why_no_candidate(engine, point) == ""
    assert objective.why_no_candidate(EngineKey("p", draft_quant="4bit"), DecodingPoint("assisted")) == ""
    assert "target is quantized (8bit)" in objective.why_no_candidate(EngineKey("p", target_quant="8bit"), point)
    assert "cache is quantized" in objective.why_no_candidate(engine, DecodingPoint(cache="quantized"))
    assert "in fp32, not in bf16" in objective.why_no_candidate(EngineKey("p", dtype="fp32"), point)
    assert "compiled" in objective.why_no_candidate(EngineKey("p", compile=True), point)
    assert Objective(quantized=True).why_no_candidate(EngineKey("p", target_quant="8bit", compile=True), point) == ""


def test_equal_cases_are_rarely_dropped_and_the_better_one_wins() -> None:
    mistakes = sum(bool(raced(Race("ab", baselines="a"), drawn(seed, 30, {"a": 0, "b": 0}))) for seed in range(200))
    assert mistakes <= 10
    wins = 0
    for seed in range(100):
        race = Race("abcd", baselines="d")
        raced(race, drawn(seed, 60, {"a": 0, "b": 0.05, "c": 0.05, "d": 0.05}))
        wins += race.leader == "a"
    assert wins >= 95


def test_wrong_seconds_are_refused() -> None:
    race = Race("ab", baselines="a")
    with pytest.raises(ValueError, match=r"b took 0\.0 seconds"):
        race.add(0, {"a": 1.0, "b": 0.0})
    with pytest.raises(ValueError, match="alpha"):
        Race("ab", baselines="a", alpha=1.5)


def test_a_race_is_over_when_nothing_more_would_be_decided_in_its_rounds() -> None:
    rounds = drawn(5, 20, {"plain": 0.5, "a": 0.0, "b": 0.005, "c": 0.4})
    race = Race(["plain", "a", "b", "c"], baselines=["plain"])
    raced(race, rounds[:10])
    assert not race.over(60), "too early to say"
    raced(race, rounds[10:])
    assert race.running == ("plain", "a", "b")
    assert not race.decided()
    assert race.over(60)
    assert not race.over(100_000), "so many rounds would tell half a percent"
    assert not race.over(), "without an end there is always more to learn"
