"""What the step judge is taught with true labels."""

from random import Random

from stepcredit.judges.taught import Claim
from stepcredit.recipes.teaching import claim_lesson, drawn_claims

PRODUCTS = [Claim(4, "*15", 9), Claim(2, "*3", 6), Claim(5, "*4", 3)]
"""All right, as nearly every product of the starting policy is."""


def test_policy_that_writes_no_wrong_products_still_teaches_them() -> None:
    drawn = drawn_claims(PRODUCTS, 2000, Random(0))
    lessons = [(claim, claim_lesson(claim).reply.split()) for claim in drawn]
    wrong = [(claim, reply) for claim, reply in lessons if reply[1] == "wrong"]
    assert 400 < len(wrong) < 600
    assert {claim.value for claim, _ in wrong} == {9, 6, 3}
    assert all(int(reply[0]) != claim.value for claim, reply in wrong)
    assert all(claim in PRODUCTS for claim, reply in lessons if reply[1] == "right")


def test_wrong_claims_are_taught_as_they_stand() -> None:
    wrong = Claim(14, "/15", 4)
    drawn = drawn_claims([wrong, *PRODUCTS], 400, Random(1))
    assert {claim for claim in drawn if claim.operator == "/15"} == {wrong}


def test_one_value_alone_is_never_replaced() -> None:
    assert set(drawn_claims(PRODUCTS[:1], 50, Random(2))) == set(PRODUCTS[:1])
