"""Which pairs can come, against a plain enumeration of those that may."""

import numpy as np
import pytest
from tiny_clips import make_records

from sheap_jax.data.pair_table import build_pair_table, draw_pairs, evaluation_pairs
from sheap_jax.data.records import Split, write_split

CLIPS = {"ann": {"a0": 3, "a1": 2, "a2": 1}, "ben": {"b0": 3}, "cay": {"c0": 1, "c1": 1}, "dan": {"d0": 1}}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Clips of one identity need not follow each other."""
    records = make_records(CLIPS)
    records = records[5:9] + records[:5] + records[9:]  # a2, b0, a0, a1, c0, c1, d0
    folder = tmp_path_factory.mktemp("mixed")
    write_split(folder, "train", records, settings={})
    return records, Split(folder, "train")


def allowed_pairs(records, *, across_clips, allow_self_pairs):
    """Every (source, target) that the definition admits."""

    def same_group(a, b):
        return a.identity == b.identity and (across_clips or a.clip == b.clip)

    pairs = {(i, j) for i, a in enumerate(records) for j, b in enumerate(records) if i != j and same_group(a, b)}
    if allow_self_pairs:
        pairs |= {(i, i) for i in range(len(records)) if i not in {source for source, _ in pairs}}
    return pairs


@pytest.mark.parametrize("across_clips", [False, True])
@pytest.mark.parametrize("allow_self_pairs", [False, True])
def test_drawn_pairs_are_exactly_the_allowed_ones(mixed, across_clips, allow_self_pairs):
    records, split = mixed
    options = {"across_clips": across_clips, "allow_self_pairs": allow_self_pairs}
    table = build_pair_table(split.index, **options)
    allowed = allowed_pairs(records, **options)
    generator = np.random.default_rng(0)
    # The rarest pair has probability 1/30 at its identity: 400 draws miss it once in 800,000 times.
    drawn = [[*map(tuple, draw_pairs(table, np.full(400, i), generator).tolist())] for i in range(table.num_identities)]
    assert {pair for pairs in drawn for pair in pairs} == allowed
    for pairs in drawn:
        assert len({records[i].identity for pair in pairs for i in pair}) == 1
    paired = {records[i].identity for i, _ in allowed}
    assert sorted(table.dropped) == sorted(set(CLIPS) - paired)
    assert table.num_identities == len(paired)


def test_sources_are_uniform_over_the_frames_of_an_identity(mixed):
    records, split = mixed
    table = build_pair_table(split.index, across_clips=True, allow_self_pairs=False)
    generator = np.random.default_rng(1)
    ann = [i for i, record in enumerate(records) if record.identity == "ann"]
    identity = next(k for k in range(3) if table.record[table.identity_start[k]] in ann)
    sources = draw_pairs(table, np.full(3000, identity), generator)[:, 0].tolist()
    counts = np.array([sources.count(i) for i in ann])
    assert counts.sum() == 3000
    assert ((counts - 500) ** 2 / 500).sum() < 25.7  # chi square, 5 degrees of freedom, p = 1e-4


def test_nothing_to_pair_says_what_to_change(tmp_path):
    write_split(tmp_path, "train", make_records({"cay": {"c0": 1, "c1": 1}, "dan": {"d0": 1}}), settings={})
    index = Split(tmp_path, "train").index
    with pytest.raises(ValueError, match=r"none of the 2 identities .* across_clips .* allow_self_pairs"):
        build_pair_table(index, across_clips=False, allow_self_pairs=False)
    assert build_pair_table(index, across_clips=True, allow_self_pairs=False).dropped == ("dan",)


def test_evaluation_pairs_are_fixed_allowed_and_spread(mixed):
    records, split = mixed
    pairs = evaluation_pairs(split, per_identity=3)
    np.testing.assert_array_equal(pairs, evaluation_pairs(split, per_identity=3))
    found = [tuple(pair) for pair in pairs]
    assert set(found) <= allowed_pairs(records, across_clips=False, allow_self_pairs=False)
    identities = [records[i].identity for i, _ in found]
    assert {name: identities.count(name) for name in set(identities)} == {"ann": 3, "ben": 3}
    assert len({source for source, _ in found}) == 6
    assert {records[i].clip for i, _ in found} == {"a0", "a1", "b0"}
    # Asking for more than there is gives every frame once.
    assert len(evaluation_pairs(split, per_identity=50)) == 5 + 3
