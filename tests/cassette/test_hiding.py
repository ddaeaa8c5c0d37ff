"""Masks: as long as what they hide, so that nothing else moves."""

from __future__ import annotations

import json

import pytest

from pytest_modellens.cassette.hiding import byte_forms, mask, masked


@pytest.mark.parametrize("length", [0, 1, 6, 7, 8, 40])
def test_mask_is_as_long_as_asked_and_needs_no_escape(length: int) -> None:
    assert len(mask(length)) == length
    assert json.dumps(mask(length)) == f'"{mask(length)}"'


@pytest.mark.parametrize("secret", ["sk-hunter22", "päss/wort", 'quo"ted\\back', "ключ-hunter22"])
def test_secret_is_masked_in_every_way_in_which_it_is_sent(secret: str) -> None:
    forms = byte_forms([secret])
    for data in (secret.encode(), json.dumps({"a": secret}).encode(), f"X: {secret}".encode("latin-1", "replace")):
        hidden = masked(data, forms)
        assert len(hidden) == len(data)
        assert hidden != data
        assert secret.encode() not in hidden


def test_longer_secret_is_masked_before_one_that_it_begins_with() -> None:
    assert masked(b"abcdefgh", byte_forms(["abcdef", "abcdefgh"])) == mask(8).encode()


def test_without_a_secret_nothing_changes() -> None:
    data = b"nothing of it"
    assert masked(data, byte_forms(["secret-one"])) is data
