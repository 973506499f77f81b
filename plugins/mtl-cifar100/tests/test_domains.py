"""The table of domains against the published one."""

from __future__ import annotations

from collections import Counter

from mtl_cifar100.domains import CLASS_OF, CLASSES, DOMAIN_OF, DOMAINS, FINE

PUBLISHED = """
4 1 14 8 0 6 7 7 18 3  3 14 9 18 7 11 3 9 7 11  6 11 5 10 7 6 13 15 3 15  0 11 1 10 12 14 16 9 11 5
5 19 8 8 15 13 14 17 18 10  16 4 17 4 2 0 17 4 18 17  10 3 2 12 12 16 12 1 9 19  2 10 0 1 16 12 9 13 15 13
16 19 2 4 6 19 5 5 8 19  18 1 2 15 6 0 17 8 14 13
"""
"""Coarse label of each fine one, as Auto-λ's code has it."""


def test_coarse_labels_are_the_published_ones():
    assert list(map(int, PUBLISHED.split())) == list(DOMAIN_OF)


def test_every_domain_has_five_classes():
    assert len(DOMAINS) == 20
    assert len(set(FINE)) == 100
    assert set(Counter(DOMAIN_OF).values()) == {5}


def test_a_class_is_the_rank_of_its_fine_label_in_the_domain():
    for domain, names in enumerate(CLASSES.values()):
        fine = [label for label in range(100) if DOMAIN_OF[label] == domain]
        assert [CLASS_OF[label] for label in fine] == [0, 1, 2, 3, 4]
        assert tuple(FINE[label] for label in fine) == names


def test_the_order_of_the_domains_is_the_published_one():
    assert (DOMAINS[0], DOMAINS[5], DOMAINS[14], DOMAINS[19]) == (
        "aquatic_mammals",
        "household_electrical_devices",
        "people",
        "vehicles_2",
    )
