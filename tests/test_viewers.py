"""The viewers as a reader meets them: picture, table and text say the same, and nothing is hidden."""

import dataclasses
import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis_profiles import TEXT

from chatcontract import viewers
from chatcontract.viewers import (
    RunLog,
    RunView,
    TokenView,
    answers_view,
    chat_view,
    compare,
    compare_answers,
    first_difference,
    formats,
    text_view,
    token_view,
)
from chatcontract.viewers.curve import Point, clock, curve_svg, ticks
from chatcontract.viewers.pieces import shared_characters, token_pieces, visible
from chatcontract.viewers.style import CONTRASTS, DARK, LIGHT

SENTENCE = (
    "<system> Use supplied policy evidence <eot> <user> Damaged electronics arrived <eot> "
    "<assistant> Report within 48 hours with photos <eot>"
)
TOY = SENTENCE.split()
CHAT = [
    {"role": "system", "content": "Use only the supplied policy evidence."},
    {"role": "user", "content": "My electronics arrived damaged. What should I do?"},
    {"role": "assistant", "content": "Report the damage within 48 hours and attach photos."},
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_TRAINING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A real byte-level BPE tokenizer, small enough that rare characters are cut into bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        [message["content"] for message in CHAT] * 20
        + ["system user assistant\n### Instruction Response"] * 20,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    fast.chat_template = CHATML
    return fast


def page_of(view: Any) -> BeautifulSoup:
    return BeautifulSoup(view._repr_html_(), "html.parser")


def boxes(view: Any) -> list[Any]:
    return page_of(view).select(".k > .s > [title]")


def without_style(view: Any) -> str:
    """The page as a host shows it that strips style sheets and scripts, such as GitHub."""
    soup = page_of(view)
    for tag in soup.select("style, script"):
        tag.decompose()
    return soup.get_text()


# --- tokens -------------------------------------------------------------------------------------------------


def test_a_toy_chat_shows_which_words_teach() -> None:
    view = token_view(TOY, labels=[-100] * 12 + TOY[12:], title="A toy chat")
    underlined = [box.get_text() for box in boxes(view) if box.name == "u"]
    assert underlined == ["Report", "within", "48", "hours", "with", "photos", "<eot>"]
    assert view.summary == "19 tokens, 7 supervised, 12 ignored, 6 special"
    outlined = [box.get_text() for box in boxes(view) if box.name == "b" or box.select_one("b")]
    assert outlined == ["<system>", "<eot>", "<user>", "<eot>", "<assistant>", "<eot>"]


def test_text_table_and_picture_hold_the_same_tokens() -> None:
    view = token_view(
        TOY, labels=[-100] * 12 + TOY[12:], roles=["a"] * 6 + ["b"] * 13, position_ids=range(19)
    )
    lines = view.text().splitlines()
    table = page_of(view).select("table tbody tr")
    assert len(lines) - 2 == len(table) == len(boxes(view)) == 19
    for index, (line, row, box) in enumerate(zip(lines[2:], table, boxes(view), strict=True)):
        cells = [cell.get_text() for cell in row.select("td")]
        assert cells[0] == str(index) and cells[1] == TOY[index] == box.get_text()
        assert line.split() == [cell or "-" for cell in cells]
        assert f"position {index}" in box["title"] and box["title"].startswith(f"token {index} ·")


def test_rows_are_plain_data(tokenizer: Any) -> None:
    view = chat_view(CHAT, tokenizer, chat_template=CHATML_TRAINING, supervised=True)
    rows = [dataclasses.asdict(row) for row in view.rows]
    assert json.loads(json.dumps(rows)) == rows


@given(text=TEXT)
@settings(max_examples=200)
def test_byte_level_pieces_are_the_text_byte_for_byte(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found, _ = token_pieces(ids, tokenizer)
    assert b"".join(found) == text.encode()
    shown = "".join(visible(piece) for piece in found)
    assert "\ufffd" not in shown
    assert not re.search(r"\s", shown)


@pytest.mark.parametrize("text", ["Preis: 3 €, 😀 and more", "two  spaces\n\ttab\n", "नमस्ते 你好", "48 hours"])
def test_vendor_tokenizers_are_read_byte_for_byte(text: str, tmp_path: Path) -> None:
    llama = pytest.importorskip("llama_models.llama3.tokenizer").Tokenizer.get_instance()
    found, special = token_pieces(llama.encode(text, bos=True, eos=False), llama)
    assert found[0] == b"<|begin_of_text|>" and special[0] and not any(special[1:])
    assert b"".join(found[1:]) == text.encode()

    mistral = pytest.importorskip("mistral_common.tokens.tokenizers.mistral").MistralTokenizer.v1()
    inner = mistral.instruct_tokenizer.tokenizer
    found, special = token_pieces(inner.encode(text, bos=True, eos=False), mistral)
    assert special[0] and not any(special[1:])
    assert b"".join(found[1:]) == b" " + text.encode(), "SentencePiece puts one space before the text"

    from chatcontract.vendor_tokenizers import load_vendor_tokenizer

    fast = load_vendor_tokenizer("mistral_v01", cache_dir=tmp_path)
    found, special = token_pieces(fast(text)["input_ids"], fast)
    assert special[0] and b"".join(found[1:]) == b" " + text.encode()


def test_a_function_from_id_to_text_is_tokenizer_enough() -> None:
    view = token_view([0, 1], {0: "Hi", 1: " there"}.__getitem__)
    assert [row.text for row in view.rows] == ["Hi", "·there"]
    with pytest.raises(ValueError, match=r"ids\[1\] is 7, which is not in the tokenizer's vocabulary"):
        token_view([0, 7], {0: "Hi"}.__getitem__)


def test_a_character_cut_by_tokens_is_shown_by_its_bytes(tokenizer: Any) -> None:
    view = text_view("3 €", tokenizer)
    euro = [row for row in view.rows if row.note]
    shown = " ".join(row.text.removeprefix("·") for row in euro)
    assert shown.replace("⟩ ⟨", " ") == "⟨E2 82 AC⟩"
    assert all("of 3 of '€' (U+20AC)" in row.note for row in euro)
    assert shared_characters([b"a\xf0", b"\x9f\x98", b"\x80b"]) == {
        0: "byte 1 of 4 of '😀' (U+1F600)",
        1: "bytes 2-3 of 4 of '😀' (U+1F600)",
        2: "byte 4 of 4 of '😀' (U+1F600)",
    }


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (b" the", "·the"),
        (b"\n\n", "↵↵"),
        (b"\t", "→"),
        ("·".encode(), "⟨U+00B7⟩"),
        ("\u00a0".encode(), "⟨U+00A0⟩"),
        ("\u200b".encode(), "⟨U+200B⟩"),
        ("\u202e".encode(), "⟨U+202E⟩"),
        ("\u0301".encode(), "\u25cc\u0301"),
        (b"\xe2\x82", "⟨E2 82⟩"),
        (b"", "⟨empty⟩"),
    ],
)
def test_nothing_invisible_stays_invisible(piece: bytes, shown: str) -> None:
    assert visible(piece) == shown


def test_a_chat_shows_its_roles_and_what_is_learned(tokenizer: Any) -> None:
    view = chat_view(CHAT, tokenizer, chat_template=CHATML_TRAINING, supervised=True)
    learned = b"".join(piece for piece, row in zip(view.pieces, view.rows, strict=True) if row.supervised)
    assert learned.decode() == CHAT[2]["content"] + "<|im_end|>"
    for message in CHAT:
        mine = b"".join(
            piece for piece, row in zip(view.pieces, view.rows, strict=True) if row.role == message["role"]
        )
        assert mine.decode() == f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"


def test_text_nobody_wrote_is_called_template(tokenizer: Any) -> None:
    view = chat_view(CHAT[1:], tokenizer, chat_template=DEFAULT_SYSTEM + CHATML)
    added = b"".join(
        piece for piece, row in zip(view.pieces, view.rows, strict=True) if row.role == "template"
    )
    assert added.decode() == "<|im_start|>system\nBe kind<|im_end|>\n"
    assert {row.role for row in chat_view(CHAT, tokenizer).rows} == {"system", "user", "assistant"}


def test_a_refused_prefix_joins_the_next_message(tokenizer: Any) -> None:
    template = (
        "{% if messages | length < 2 %}{{ raise_exception('the user comes first') }}{% endif %}" + CHATML
    )
    view = chat_view(CHAT, tokenizer, chat_template=template)
    assert list(dict.fromkeys(row.role for row in view.rows)) == ["system+user", "assistant"]


def test_the_cue_is_named_and_never_meets_a_prefill(tokenizer: Any) -> None:
    view = chat_view(CHAT[:2], tokenizer, add_generation_prompt=True)
    cue = b"".join(
        piece for piece, row in zip(view.pieces, view.rows, strict=True) if row.role == "generation prompt"
    )
    assert cue == b"<|im_start|>assistant\n"
    with pytest.raises(ValueError, match="choose one"):
        chat_view(CHAT, tokenizer, add_generation_prompt=True, continue_final_message=True)


def test_a_token_across_two_parts_is_named_by_both(tokenizer: Any) -> None:
    parts = [("prompt", "### Instruction\nattach pho"), ("response", "tos")]
    roles = [row.role for row in text_view(parts, tokenizer).rows]
    assert roles[0] == "prompt"
    assert "prompt+response" in roles, "photos is one word of this tokenizer, so one token holds both parts"


def test_a_label_that_is_another_token_is_marked() -> None:
    view = token_view(TOY, labels=[-100] * 11 + [*TOY[12:], "<eot>"], title="shifted twice")
    marked = [box for box in boxes(view) if "m" in box.get("class", [])]
    assert [box.get_text() for box in marked] == [f"≠\u2009{word}" for word in TOY[11:18]]
    assert "label is not this token" in marked[0]["title"]
    assert "its label is another token" in without_style(view)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tok: token_view([1, 2], tok, labels=[1]), "labels has 1 entry but there are 2 tokens"),
        (lambda tok: token_view([[1, 2]], tok), r"for instance ids\[0\]"),
        (lambda tok: token_view([1, -100], tok), r"ids\[1\] is -100"),
        (lambda tok: token_view([1, 10**6], tok), r"ids\[1\] is 1000000"),
        (lambda tok: token_view("Hi there", tok), "text_view"),
        (lambda tok: token_view(tok("Hi"), tok), "input_ids"),
        (lambda tok: token_view(["Hi", 3]), "pass the tokenizer|mixes"),
        (lambda tok: chat_view(CHAT, tok, supervised=True), "generation %} markers"),
        (lambda tok: compare(token_view(TOY)), "two or three"),
        (lambda tok: formats({"raw": token_view(TOY)}), "at least two"),
    ],
)
def test_bad_input_gives_one_clear_sentence(tokenizer: Any, call: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as caught:
        call(tokenizer)
    assert "\n" not in str(caught.value)


def test_tensors_and_arrays_are_welcome(tokenizer: Any) -> None:
    import numpy as np
    import torch

    ids = tokenizer("Report the damage")["input_ids"]
    expected = token_view(ids, tokenizer, labels=ids)
    assert token_view(torch.tensor(ids), tokenizer, labels=np.array(ids)) == expected
    assert token_view(list(torch.tensor(ids)), tokenizer, labels=ids) == expected


def test_customers_cannot_write_into_the_page() -> None:
    words = ["<script>alert(1)</script>", '"><img/src=x>', "$x^2$", "&amp;"]
    soup = page_of(token_view(words, labels=words, roles=["<b>"] * 4, title="<i>t</i>"))
    assert len(soup.select("script")) == 1 and not soup.select("img, i")
    assert [box.get_text() for box in soup.select(".k > .s > [title]")] == words
    assert soup.select(".mathjax_ignore.tex2jax_ignore"), "dollars must not become formulas"


def test_pages_load_nothing(tokenizer: Any) -> None:
    view = chat_view(CHAT, tokenizer, title="a")
    log = RunLog(10)
    log.add(1, loss=1.0, grounded=0.5)
    answer = {"text": "x", "grounded": True}
    answers = answers_view([{"question": "q", "before": answer, "after": answer}])
    for shown in (view, compare(view, view), formats({"a": view, "b": view}), RunView(log=log), answers):
        html = shown._repr_html_().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|url\(|@import|\bsrc=|\bhref=", html)


def test_without_style_sheets_the_story_is_still_there(tokenizer: Any) -> None:
    done = chat_view(CHAT, tokenizer, chat_template=CHATML_TRAINING, supervised=True, title="completed")
    cue = chat_view(CHAT[:2], tokenizer, add_generation_prompt=True, title="generation")
    text = without_style(compare(done, cue))
    assert "The first difference is at token" in text and "≠ ends here" in text
    assert "↵" in text and "generation prompt" in text
    every = without_style(formats({"raw": done, "chat": cue}))
    assert every.count("tokens,") >= 2, "all panes show where there is nothing to choose with"
    assert all("hidden" in button.attrs for button in page_of(formats({"a": done, "b": cue})).select("input"))


def test_four_thousand_tokens_stay_usable(tokenizer: Any) -> None:
    one = chat_view(CHAT, tokenizer, chat_template=CHATML_TRAINING, supervised=True)
    times = 4000 // len(one) + 1
    rows = (one.rows * times)[:4000]
    ids, labels, roles = ([getattr(row, name) for row in rows] for name in ("id", "label", "role"))
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        view = token_view(ids, tokenizer, labels=labels, roles=roles, position_ids=range(4000))
        html = view._repr_html_()
        best = min(best, time.perf_counter() - start)
    assert best < 0.2
    assert len(html) < 700_000
    assert len(view.text().splitlines()) == 4002
    assert len(repr(view).splitlines()) < 70
    assert len(page_of(view).select("table tr")) < 4000 / 3, "long sequences are listed by spans"


# --- comparison ---------------------------------------------------------------------------------------------


def test_three_renders_part_where_the_answer_begins(tokenizer: Any) -> None:
    done = chat_view(CHAT, tokenizer, title="completed")
    cue = chat_view(CHAT[:2], tokenizer, add_generation_prompt=True, title="generation")
    open_turn = [*CHAT[:2], {"role": "assistant", "content": '{"deadline_hours": '}]
    prefill = chat_view(open_turn, tokenizer, continue_final_message=True, title="prefill")
    view = compare(done, cue, prefill)
    at = view.difference
    assert at == len(cue)
    assert view.findings[0] == f"The first difference is at token {at}; tokens 0 to {at - 1} are the same."
    assert "completed has “R" in view.text() and "U+0052" in view.text()
    assert "generation has ended there." in view.findings
    assert any(line.startswith("prefill has “{”") and "U+007B" in line for line in view.findings)
    marked = page_of(view).select(".s > .x")
    assert [mark.get_text()[0] for mark in marked] == ["≠", "≠", "≠"]


def test_equal_views_are_called_equal() -> None:
    view = compare(token_view(TOY), token_view(TOY))
    assert view.difference is None
    assert view.findings == ["A and B are the same, token for token (19 tokens)."]
    assert not page_of(view).select(".s > .x")


def test_a_look_alike_with_another_id_differs() -> None:
    names = {0: "a", 1: "<eot>", 2: "<eot>"}.__getitem__
    left, right = token_view([0, 1], names), token_view([0, 2], names)
    assert first_difference(left, right) == 1
    assert "id 1" in compare(left, right).text() and "id 2" in compare(left, right).text()


# --- training runs ------------------------------------------------------------------------------------------


def a_log(steps: int = 50) -> RunLog:
    log = RunLog(100, "QLoRA on the toy")
    for step in range(1, steps + 1):
        rates = {"grounded": step / 100, "stop": 1.0} if step % 10 == 0 else {}
        log.add(step, loss=f"{3 / step:.4f}", seconds=2.0 * step, tokens=100 * step, **rates)
    return log


def test_a_log_survives_json_and_reads_losses_logged_as_text() -> None:
    log = a_log()
    assert RunLog.from_json(log.to_json()) == log
    assert log.points[0].loss == 3.0
    with pytest.raises(ValueError, match="no run log"):
        RunLog.from_json("[]")


def test_time_left_and_speed_come_from_the_log() -> None:
    log = a_log(50)
    assert log.seconds_left == pytest.approx(100)
    assert log.tokens_per_second == pytest.approx(50)
    text = RunView(log=log).text()
    assert "step 50 of 100" in text and "1:40 elapsed" in text and "50 tokens/s" in text


def test_a_measurement_at_the_same_step_is_merged() -> None:
    log = RunLog(10)
    log.add(3, loss=1.5, seconds=4)
    log.add(3, grounded=0.25, stop=0.5)
    assert log.points == [Point(3, seconds=4.0, loss=1.5, grounded=0.25, stop=0.5)]


@pytest.mark.parametrize(
    ("values", "said"),
    [({"loss": "much"}, "loss at step 5 is 'much'"), ({"grounded": 98}, "between 0 and 1"), ({}, "in order")],
)
def test_a_log_refuses_what_it_cannot_draw(values: dict[str, Any], said: str) -> None:
    log = RunLog(10)
    log.add(5 if values else 6, loss=1.0)
    with pytest.raises(ValueError, match=said):
        log.add(5, **values)


def test_a_loss_that_is_no_number_is_said_loudly() -> None:
    log = a_log(10)
    log.add(11, loss=float("nan"))
    view = RunView(log=log)
    assert "not a finite number at step 11" in view.text()
    assert "not a finite number at step 11" in without_style(view)


def test_the_curves_name_themselves_and_differ_without_colour() -> None:
    log = a_log()
    picture = ElementTree.fromstring(curve_svg(log.points, total_steps=100, target=0.98))
    words = [element.text for element in picture.iter() if element.tag.endswith(("text", "title"))]
    assert "Training loss (nats per supervised token)" in words
    assert "Training step, and elapsed time (min:s)" in words
    assert "Held-out answers (share of all)" in words
    assert "● grounded 0.50" in words and "□ stops 1.00" in words and "target 0.98" in words
    assert str(words[0]).startswith("Training curves up to step 50 of 100. Loss from 3 at step 1 to 0.06.")
    tags = [element.tag.rpartition("}")[2] for element in picture.iter()]
    assert tags.count("rect") == tags.count("circle") == 5
    assert [line.get("stroke-dasharray") for line in picture.iter() if line.tag.endswith("polyline")].count(
        "6 4"
    ) == 1


def test_axes_have_round_numbers() -> None:
    assert ticks(0, 300, 6) == [0, 50, 100, 150, 200, 250, 300]
    assert ticks(0, 3.3, 4) == [0, 1, 2, 3]
    assert [clock(seconds) for seconds in (0, 59.6, 125, 3725)] == ["0:00", "1:00", "2:05", "1:02:05"]


def test_a_long_run_stays_small_and_quick() -> None:
    log = RunLog(10_000)
    for step in range(1, 10_001):
        log.add(step, loss=1 / step, seconds=step, tokens=step)
    view = RunView(log=log)
    start = time.perf_counter()
    html = view._repr_html_()
    assert time.perf_counter() - start < 0.5
    assert len(html) < 40_000


def test_an_update_costs_less_than_twenty_milliseconds() -> None:
    log = a_log(99)
    best = 9.0
    for _ in range(5):
        view = RunView(log=log)
        start = time.perf_counter()
        view._repr_html_()
        best = min(best, time.perf_counter() - start)
    assert best < 0.02


def test_outside_a_notebook_a_run_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with RunView(40, "toy") as view:
        for step in range(1, 41):
            view.update(step, loss=1 / step)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 12
    assert lines[-1].startswith("toy, step 40 of 40") and lines[-1].endswith("finished")


def test_nothing_raises_into_the_training_loop(capsys: pytest.CaptureFixture[str]) -> None:
    view = RunView(10)
    view.show()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        view.update(1, grounded=70)
        view.update("two", loss=1.0)  # type: ignore[arg-type]
        view.update(2, unknown=1)
    assert [str(item.message) for item in caught] == [
        "The run viewer could not be updated: grounded at step 1 is 70: give a share between 0 and 1."
    ]
    view.update(3, loss=1.0)
    assert view.log.step == 3


def test_a_stopped_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), RunView(10) as view:
        raise KeyboardInterrupt
    assert "stopped by KeyboardInterrupt" in view.text()


def test_a_notebook_keeps_one_output_with_the_last_picture(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    code = (
        "from chatcontract.viewers import RunView\n"
        "with RunView(20, 'live', refresh_seconds=0) as view:\n"
        "    for step in range(1, 21):\n"
        "        view.update(step, loss=1 / step, tokens=step, **({'grounded': 1.0} if step == 20 else {}))\n"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    root = Path(viewers.__file__).parents[2]
    nbclient.NotebookClient(book, timeout=60, resources={"metadata": {"path": str(root)}}).execute()
    (output,) = book.cells[0].outputs
    assert set(output.data) == {"text/plain", "text/html"}
    assert "step 20 of 20" in output.data["text/plain"] and "finished" in output.data["text/plain"]
    assert "● grounded 1.00" in output.data["text/html"]
    assert "widgets" not in book.metadata, "GitHub refuses notebooks whose widget metadata lacks its state"


# --- answers ------------------------------------------------------------------------------------------------

ROW = {
    "question": "My electronics arrived damaged. What should I do?",
    "evidence": "Damaged electronics: report within 48 hours, with photos.",
    "before": {
        "text": "Return any damaged electronics within 30\u00a0days. It is 148 hours.",
        "grounded": False,
        "stopped": False,
        "missing": ["48 hours", "photos"],
        "unsupported": ["30 days"],
    },
    "after": {
        "text": "Report the damage within 48\u202fhours and attach Photos.",
        "grounded": True,
        "stopped": True,
        "found": ["48 hours", "photos"],
    },
}


def test_answers_show_facts_claims_and_verdicts_in_words() -> None:
    view = answers_view([ROW])
    soup = page_of(view).select_one(".a")
    assert soup is not None
    assert [mark.get_text() for mark in soup.select("mark:not(.u)")] == ["48\u202fhours", "Photos"]
    assert [mark.get_text() for mark in soup.select("mark.u")] == ["30\u00a0days✗"]
    words = soup.get_text(" ")
    assert (
        "✗ not grounded" in words and "✗ ran on" in words and "✓ grounded" in words and "✓ stopped" in words
    )
    assert "missing: 48 hours; photos" in " ".join(words.split())
    text = view.text()
    assert "[30\u00a0days ✗]" in text and "[48\u202fhours ✓]" in text and "148 hours" in text
    assert view.summary == "1 case. before: 0 grounded, 0 stopped. after: 1 grounded, 1 stopped."


def test_records_of_two_evaluations_stand_side_by_side() -> None:
    before = [
        {"question": "q", "evidence": "e", "text": "30 days", "forbidden": ["30 days"], "grounded": False}
    ]
    after = [{"question": "q", "evidence": "e", "text": "48 hours", "found": ["48 hours"], "grounded": True}]
    view = compare_answers(before=before, after=after)
    assert view.summary == "1 case. before: 0 grounded. after: 1 grounded."
    assert "[30 days ✗]" in view.text()
    with pytest.raises(ValueError, match="different questions"):
        compare_answers(before=before, after=[after[0] | {"question": "other"}])
    with pytest.raises(ValueError, match="evaluate the same cases"):
        compare_answers(before=before, after=[])
    with pytest.raises(ValueError, match=r"rows\[0\] has no 'after'"):
        answers_view([{"question": "q", "before": {"text": ""}}])


def test_many_cases_are_folded_but_all_there() -> None:
    soup = page_of(answers_view([ROW] * 20))
    assert len(soup.select(".a")) == 20
    assert len(soup.select("details .a")) == 15


# --- widgets, colours, imports ------------------------------------------------------------------------------


def test_widgets_search_page_and_step_through_cases() -> None:
    widgets = pytest.importorskip("ipywidgets")
    view = token_view(TOY * 30, title="long")
    controls, said, pane = view.widget(page_size=100).children
    search, _, onward, which = controls.children
    search.value = "photos"
    assert said.value == "Hit 1 of 30: token 17." and 'class="x"' in pane.value
    for _ in range(6):
        onward.click()
    assert said.value == "Hit 7 of 30: token 131." and which.value == 2

    buttons, pane = compare(*(token_view(TOY[:size]) for size in (19, 12, 5))).widget().children
    buttons.value = 3
    assert "B and C" in pane.value

    _, controls, pane = answers_view([ROW, ROW]).widget().children
    kinds, back, onward, said = controls.children
    assert said.value == "Case 1 of 2" and back.disabled
    onward.click()
    assert said.value == "Case 2 of 2" and onward.disabled and "2. My electronics" in pane.value
    kinds.value = "last ran on"
    assert said.value == "No case is left under this filter."
    assert isinstance(RunView(log=a_log()).widget(), widgets.HTML)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), CONTRASTS)
def test_colours_are_readable(palette: dict[str, str], front: str, back: str, least: float) -> None:
    high, low = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= least


def test_names_resolve_and_the_import_is_light() -> None:
    assert all(hasattr(viewers, name) for name in viewers.__all__)
    assert set(viewers._HOME) == set(viewers.__all__)
    code = (
        "import sys, chatcontract.viewers as v\n"
        "v.token_view(['a']).html(), v.RunView(2).html()\n"
        "heavy = {'torch', 'transformers', 'IPython', 'ipywidgets', 'matplotlib', 'pandas', 'nbgrader'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    root = Path(viewers.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0


def test_views_can_be_renamed_and_compared() -> None:
    view = token_view(TOY)
    assert isinstance(view.titled("x"), TokenView) and view.titled("x") != view
    assert view.titled("x").titled("") == view


def test_answers_that_nobody_judged_are_not_called_ungrounded():
    row = {
        "question": "Q?",
        "before": {"text": "a", "stopped": True},
        "after": {"text": "b", "stopped": False},
    }
    view = answers_view([row])
    assert view.summary == "1 case. before: 1 stopped. after: 0 stopped."
    assert "required fact" not in view.html()
