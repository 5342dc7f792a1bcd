import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hansa.rng import Keystream, Source, seeded_generator, system_generator


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


def test_system_generators_are_fresh_every_time():
    firsts = {system_generator().integers(2**63) for _ in range(200)}
    assert len(firsts) == 200  # a collision of 63 bits has probability 2e-15


def test_seeded_generators_repeat_and_differ_by_seed_and_stream():
    names = [(0,), (1,), (0, "noise"), (0, "coins"), (0, "noise", 1), (0, "noise", 2), (0, "noise", "1")]
    draws = {name: seeded_generator(*name).random(4).tobytes() for name in names}
    assert len(set(draws.values())) == len(names)
    assert all(seeded_generator(*name).random(4).tobytes() == draws[name] for name in names)


def words(keystream, block, count=1000):
    out = np.full(8 * count, 7, dtype=np.uint8)
    keystream.fill(block, out)
    return out.view(np.uint64)


class Key:
    """A generator whose bytes are given."""

    def bytes(self, length):
        return bytes(range(length))


def test_a_keystream_is_aes_256_in_counter_mode():
    cipher = Cipher(algorithms.AES(bytes(range(32))), modes.ECB()).encryptor()
    expected = cipher.update(b"".join(((5 << 64) + i).to_bytes(16, "big") for i in range(500)))
    assert words(Keystream(Key()), 5).tobytes() == expected


def test_blocks_of_a_keystream_repeat_and_differ():
    keystream = Keystream(seeded_generator(0))
    blocks = [words(keystream, block) for block in range(20)]
    assert len({word for block in blocks for word in block.tolist()}) == 20_000
    assert (words(keystream, 3) == blocks[3]).all()
    assert (words(keystream, 3, 10) == blocks[3][:10]).all()
    assert (words(Keystream(seeded_generator(0)), 3) == blocks[3]).all()
    assert (words(Keystream(seeded_generator(1)), 3) != blocks[3]).any()


def test_each_keystream_of_a_generator_has_its_own_key():
    generator = seeded_generator(0)
    assert (words(Keystream(generator), 0) != words(Keystream(generator), 0)).all()
