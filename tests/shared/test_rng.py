from hansa.rng import Source


def draws(source, round_):
    return source.generator(round_).random(4).tolist()


def test_a_seeded_source_repeats_its_rounds_in_any_order_and_keeps_them_apart():
    source = Source(3, ("noise", 1))
    first, second = draws(source, 1), draws(source, 2)
    assert first != second
    assert draws(Source(3, ("noise", 1)), 2) == second
    assert draws(source, 1) == first
    others = [Source(4, ("noise", 1)), Source(3, ("noise", 2)), Source(3, ("coins", 1))]
    assert all(draws(other, 1) != first for other in others)


def test_without_a_seed_a_round_never_repeats():
    assert draws(Source(), 1) != draws(Source(), 1)
