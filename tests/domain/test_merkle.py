"""Laws of the Merkle trees, with the vectors that Certificate Transparency publishes for RFC 6962 and 9162."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# From the reference implementation of Certificate Transparency (merkletree/merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def plain_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162 section 2.1.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return node_hash(plain_root(leaves[:middle]), plain_root(leaves[middle:]))


def lines(count: int) -> list[bytes]:
    return [b"line %d" % n for n in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert root_of(map(leaf_hash, LEAVES[:size])).hex() == ROOTS[size]


def test_the_published_proofs_are_found_again() -> None:
    def hash_of(begin: int, end: int) -> bytes:
        return plain_root(LEAVES[begin:end])

    assert [step.hex() for step in inclusion_proof(0, 8, hash_of)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [step.hex() for step in consistency_proof(6, 8, hash_of)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_a_growing_tree_has_the_root_of_its_definition_at_every_size() -> None:
    tree = Frontier()
    assert tree.root() == EMPTY_ROOT
    for size, line in enumerate(lines(70), start=1):
        tree.add(leaf_hash(line))
        assert (tree.size, tree.root()) == (size, plain_root(lines(size)))
        assert Frontier(tree.size, tree.roots).root() == tree.root(), "a frontier that was stored goes on"


def test_whole_subtrees_may_stand_for_their_leaves() -> None:
    tree = Frontier()
    tree.add_subtree(3, plain_root(lines(19)[:8]))
    tree.add_subtree(3, plain_root(lines(19)[8:16]))
    for line in lines(19)[16:]:
        tree.add(leaf_hash(line))
    assert tree.root() == plain_root(lines(19))
    with pytest.raises(ValueError, match="begins at 19"):
        tree.add_subtree(3, EMPTY_ROOT)


@given(size=st.integers(1, 40), data=st.data())
def test_every_proof_holds_and_none_holds_for_anything_else(size: int, data: st.DataObject) -> None:
    def hash_of(begin: int, end: int) -> bytes:
        return plain_root(lines(size)[begin:end])

    index = data.draw(st.integers(0, size - 1))
    root, leaf = plain_root(lines(size)), leaf_hash(lines(size)[index])
    proof = inclusion_proof(index, size, hash_of)
    assert verify_inclusion(index, size, leaf, proof, root)
    assert not verify_inclusion(index, size, leaf_hash(b"other"), proof, root)
    assert not verify_inclusion(index, size, leaf, [*proof, root], root)
    assert not any(verify_inclusion(other, size, leaf, proof, root) for other in range(size) if other != index)
    first = data.draw(st.integers(1, size))
    grown, old = consistency_proof(first, size, hash_of), plain_root(lines(first))
    assert verify_consistency(first, size, old, root, grown)
    assert not verify_consistency(first, size, leaf_hash(b"other"), root, grown)
    assert not verify_consistency(first, size, old, leaf_hash(b"other"), grown)
    assert not verify_consistency(first, size, old, root, [*grown, root])


def test_there_is_no_proof_of_what_is_not_there() -> None:
    def hash_of(begin: int, end: int) -> bytes:
        return plain_root(lines(4)[begin:end])

    for index, size in ((4, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(index, size, hash_of)
        assert not verify_inclusion(index, size, EMPTY_ROOT, [], EMPTY_ROOT)
    for first, second in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match="begins with"):
            consistency_proof(first, second, hash_of)
