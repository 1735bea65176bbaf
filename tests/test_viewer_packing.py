"""The packing viewer: bars, masks, pokes, and what a reader without a picture gets."""

import re
import time
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from chatcontract.viewers.packing import packing_view, window_view

WORDS = ["A1", "A2", "A3", "B1", "B2", "B3"]
OWNERS = [0, 0, 0, 1, 1, 1]
TRIANGLE = np.tril(np.ones((6, 6), dtype=bool))
BLOCKS = np.kron(np.eye(2), np.tril(np.ones((3, 3)))).astype(bool)


def drawn(view: Any, kind: str) -> int:
    """How many boxes of a kind the picture holds: own, no (open between documents), idle, p (padding)."""
    html = view.html()
    paths = re.findall(rf'<path class="{kind}" d="([^"]*)"', html)
    return len(re.findall(rf'<rect class="{kind}"', html)) + sum(path.count("z") for path in paths)


def test_bars_show_rows_padding_and_utilisation() -> None:
    view = packing_view([[9, 6], [7, 5]], window=16, title="Packed")
    assert view.summary == "2 windows of 16 slots, 4 rows, utilisation 84.4%"
    assert (drawn(view, "d0"), drawn(view, "d1"), drawn(view, "p")) == (2, 2, 2)
    assert view.text().splitlines()[3].split() == ["0", "9", "+", "6", "15", "1"]
    assert "42.2%" in packing_view([[9], [6], [7], [5]], 16).summary


def test_a_window_that_is_too_long_is_crossed_and_said() -> None:
    view = packing_view([[9, 9]], window=16)
    assert "✗ 1 window longer than 16" in view.summary
    assert '<path class="x"' in view.html() and "✗ 18 of 16" in view.html()
    assert '<path class="x"' not in packing_view([[9, 7]], window=16).html()


def test_many_windows_stay_light_and_the_text_has_all() -> None:
    view = packing_view([[100, 100]] * 1000, window=256)
    assert len(view.html()) < 120_000 and "960 more windows not drawn" in view.html()
    assert len(view.text().splitlines()) == 1002 and len(repr(view).splitlines()) < 50


def test_open_cells_between_documents_are_crossed_and_counted() -> None:
    leaky = window_view(WORDS, document_ids=OWNERS, mask=TRIANGLE)
    assert (drawn(leaky, "own"), drawn(leaky, "no")) == (12, 9)
    assert "✗ 9 open between documents" in leaky.summary
    assert "document 1: all of document 0 ✗; itself, causally" in leaky.text()
    tight = window_view(WORDS, document_ids=OWNERS, mask=BLOCKS)
    assert (drawn(tight, "own"), drawn(tight, "no")) == (12, 0)
    assert "✓ none open between documents" in tight.summary


def test_what_padding_sees_is_no_leak_but_who_sees_padding_is() -> None:
    owners = [0, 0, -1]
    triangle = np.tril(np.ones((3, 3)))
    assert "✓" in window_view(["a", "b", "<pad>"], document_ids=owners, mask=triangle).summary
    assert "✗ 2 open" in window_view(["a", "b", "<pad>"], document_ids=owners, mask=np.ones((3, 3))).summary


def test_a_supervised_first_token_is_marked() -> None:
    view = window_view(WORDS, document_ids=OWNERS, labels=[-100, "A2", "A3", "B1", "B2", "B3"])
    assert '<td class="x">B1 ✗</td>' in view.html()
    right = window_view(WORDS, document_ids=OWNERS, labels=[-100, "A2", "A3", -100, "B2", "B3"])
    assert 'class="x"' not in right.html().partition("</style>")[2]


def test_positions_and_labels_are_in_picture_and_text() -> None:
    view = window_view(WORDS, document_ids=OWNERS, position_ids=[0, 1, 2, 0, 1, 2], labels=[-100] * 6)
    assert view.text().splitlines()[5].split() == ["3", "1", "B1", "0", "-100"]
    assert '<tr><th scope="row">position</th><td>0</td><td>1</td>' in view.html()


@pytest.fixture(scope="module")
def model() -> Any:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
        )
    ).eval()
    for weight in made.parameters():
        weight.data *= 5 if weight.dim() > 1 else 1
    return made


def poke_on(model: Any, ids: list[int], **options: Any) -> Any:
    import torch

    def poke(at: int) -> list[float]:
        changed = [*ids[:at], (ids[at] + 7) % 50, *ids[at + 1 :]]
        with torch.no_grad():
            one, two = (model(input_ids=torch.tensor([row]), **options).logits for row in (ids, changed))
        return (one - two)[0].abs().amax(-1).tolist()

    return poke


def test_a_poke_asks_the_model_and_names_the_leak(model: Any) -> None:
    import torch

    ids = list(range(10, 16))
    leaking = window_view(WORDS, document_ids=OWNERS, poke=poke_on(model, ids)).poked(1)
    assert leaking.moved is not None and leaking.moved[0] == 0 and min(leaking.moved[1:]) > 0.01
    assert "3 slots of other documents moved" in leaking.verdict and "leaks" in leaking.verdict
    positions = {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]]), "use_cache": False}
    closed = window_view(WORDS, document_ids=OWNERS, poke=poke_on(model, ids, **positions)).poked(1)
    assert "✓ no other document moved" in closed.verdict and drawn(closed, "no") == 0
    assert drawn(leaking, "no") == 3 and leaking.verdict in leaking.text()


def test_the_widget_pokes_where_the_slider_stands(model: Any) -> None:
    widgets = pytest.importorskip("ipywidgets")
    asked: list[int] = []

    def poke(at: int) -> list[float]:
        asked.append(at)
        if at == 5:
            raise RuntimeError("no model")
        return [0.0] * at + [1.0] * (6 - at)

    view = window_view(WORDS, document_ids=OWNERS, poke=poke)
    controls, pane = view.widget().children
    slider, said = controls.children
    assert asked == [0] and "leaks" in pane.value
    slider.value = 4
    assert asked[-1] == 4 and "slot 4 (B2) was replaced: ✓ no other document" in pane.value
    slider.value = 5
    assert said.value == "RuntimeError: no model"
    assert isinstance(window_view(WORDS, document_ids=OWNERS).widget(), widgets.HTML)


def big(size: int = 4096) -> Any:
    owners = [at // 200 for at in range(size - 96)] + [-1] * 96
    numbers = np.array(owners)
    mask = (numbers[:, None] == numbers[None, :]) & np.tril(np.ones((size, size), dtype=bool))
    mask[3000, 5] = True
    return window_view(
        [f"t{at}" for at in range(size)],
        document_ids=owners,
        position_ids=[at % 200 for at in range(size - 96)] + list(range(96)),
        labels=[-100 if at % 200 < 150 else at for at in range(size)],
        mask=mask,
        poke=lambda at: [0.0] * at + [1.0] * (size - at),
    )


def test_four_thousand_slots_are_drawn_as_blocks_in_a_fifth_of_a_second() -> None:
    best = 9.0
    for _ in range(3):
        view = big()
        start = time.process_time()
        html = view.html()
        best = min(best, time.process_time() - start)
    assert best < 0.2
    assert len(html) < 60_000
    assert (drawn(view, "own"), drawn(view, "no"), drawn(view, "idle")) == (20, 1, 1)
    assert "✗ 1 open between documents" in view.summary
    assert len(view.text().splitlines()) < 60, "one line per document, not per slot"
    poked = view.poked(150)
    assert len(poked.html()) < 200_000 and "3,800 slots of other documents" in poked.verdict


def test_block_and_cell_pictures_tell_the_same() -> None:
    """The picture changes at 48 slots, its counts do not."""
    for size in (48, 49):
        owners = [0] * 20 + [1] * (size - 20)
        view = window_view(["x"] * size, document_ids=owners, mask=np.tril(np.ones((size, size))))
        assert view.open_edges == 20 * (size - 20)
        picture = view.html().partition("<pre>")[0]
        assert ("document 1" in picture) == (size == 49)


class Balanced(HTMLParser):
    """Fails on a tag that closes another one than the last opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass


@pytest.mark.parametrize("kind", ["bars", "cells", "blocks"])
def test_pages_load_nothing_and_reach_everyone(kind: str) -> None:
    view = {
        "bars": packing_view([[9, 6], [7, 5], [20]], 16),
        "cells": window_view(WORDS, document_ids=OWNERS, mask=TRIANGLE, poke=lambda at: [1.0] * 6).poked(2),
        "blocks": big().poked(9),
    }[kind]
    html = view._repr_html_()
    Balanced().feed(html)
    assert not re.search(
        r"https?:|url\(|@import|\bsrc=|\bhref=", html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    )
    assert all('role="img" aria-label="' in svg for svg in re.findall(r"<svg[^>]*>", html))
    assert "<summary" in html and "The same as" in html


def test_words_cannot_write_into_the_page() -> None:
    bad = ["<script>x</script>", '"><b>']
    view = window_view(bad, document_ids=[0, 1], mask=[[1, 0], [1, 1]], labels=bad, poke=lambda at: [1, 1])
    html = view.poked(0).html().partition("</style>")[2]
    assert "<script" not in html and '"><b>"' not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: packing_view([[3]], 0), "at least 1"),
        (lambda: packing_view([[3], [0]], 8), "Window 1 has a row of 0 tokens"),
        (lambda: window_view(WORDS, document_ids=[0]), "document_ids has 1 entry but there are 6 slots"),
        (lambda: window_view(WORDS, document_ids=OWNERS, mask=[[1]]), "The mask is 1 by 1"),
        (lambda: window_view(WORDS, document_ids=OWNERS, mask=[[1], [1, 1]]), "of uneven rows"),
        (lambda: window_view(WORDS, document_ids=OWNERS, labels=[1, 2]), "labels has 2 entries"),
        (lambda: window_view(WORDS, document_ids=OWNERS).poked(0), "pass poke="),
        (lambda: window_view(WORDS, document_ids=OWNERS, poke=lambda at: [0.0]).poked(0), "1 value for 6"),
        (lambda: window_view(WORDS, document_ids=OWNERS, poke=lambda at: []).poked(6), "no slot 6"),
    ],
)
def test_bad_input_gives_one_clear_sentence(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        call()


def test_ids_need_their_tokenizer() -> None:
    with pytest.raises(TypeError, match="tokenizer"):
        window_view([1, 2], document_ids=[0, 1])
    assert window_view([1, 2], tokenizer=lambda one: f"<{one}>", document_ids=[0, 1]).names == ("<1>", "<2>")
