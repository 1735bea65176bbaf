"""Nano: its world, its recipe's resumption, and the figures of its card at reduced size."""

import json
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from chatcontract.course_files import assets_dir, course_root
from chatcontract.nano.cases import HELD_OUT_TOPICS, eval_cases, training_rows
from chatcontract.nano.corpus import held_out_documents, shard
from chatcontract.nano.facts import document_key, is_held_out

NANO = assets_dir() / "nano"
PERIOD = re.compile(r"(\d+) (business day|hour|day|week|month)s?\b")


def test_no_corpus_document_is_a_chat_or_about_a_held_out_topic():
    texts = [*shard(0, 0), *held_out_documents(300)]
    for text in texts:
        assert "<|im_start|>assistant" not in text and "<|im_start|>user" not in text
        assert not any(topic.name in text.lower() for topic in HELD_OUT_TOPICS)


def test_training_and_evaluation_share_no_topic_and_no_fact():
    rows, cases = training_rows(600, 0), eval_cases(600, 0)
    taught = {row[0]["content"].partition("Evidence: ")[2] for row in rows}
    assert not any(topic.name in text.lower() for topic in HELD_OUT_TOPICS for text in taught)
    for case in cases:
        facts = [w[0] for w in case.required]
        if found := PERIOD.fullmatch(facts[0]):
            assert is_held_out(int(found[1]), found[2], document_key(facts[1])), case.evidence
    assert len({case.evidence for case in cases}) > 550, "cases repeat each other"


def test_every_case_can_be_answered_from_its_evidence_and_no_prompt_gives_the_answer_away():
    for case in eval_cases(200, 0):
        evidence = case.evidence.lower()
        for wordings in case.required:
            assert any(w.lower() in evidence for w in wordings), (wordings, case.evidence)
            assert not any(w.lower() in case.question.lower() for w in wordings)


TINY = """
    from pathlib import Path
    from chatcontract.nano.pretrain import Recipe, pretrain

    recipe = Recipe(
        tokens=64 * 4 * 120, window=64, batch=4, vocabulary=320, width=32, layers=2, heads=2, inner=64,
        warmup=10, tokenizer_shards=1,
    )
    record = pretrain(Path({out!r}), recipe=recipe, device="cpu", progress=False, checkpoint_seconds=0.0)
    print(record["losses"])
"""


def tiny_run(out):
    code = textwrap.dedent(TINY).format(out=str(out))
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=course_root(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def test_an_interrupted_pretraining_goes_on_and_ends_where_an_uninterrupted_one_does(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    first = tiny_run(broken)
    checkpoint = tmp_path / "broken.partial" / "checkpoint.pt"
    while not checkpoint.exists():
        assert first.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not broken.exists(), "an interrupted run must not leave half a model"
    done = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < done < 120
    assert tiny_run(broken).wait(timeout=120) == 0
    assert tiny_run(whole).wait(timeout=120) == 0
    assert not (tmp_path / "broken.partial").exists()
    ours, theirs = (AutoModelForCausalLM.from_pretrained(str(folder)) for folder in (broken, whole))
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), f"{name} differs after the resumption"
    losses = json.loads((whole / "pretrain.json").read_text())["losses"]
    assert losses[-1][1] < losses[0][1], "the tiny run learned nothing"


def test_other_files_in_the_output_folder_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    command = [sys.executable, "course.py", "nano", "pretrain", "--out", str(tmp_path)]
    told = subprocess.run(command, cwd=course_root(), capture_output=True, text=True)
    assert told.returncode == 2
    assert "holds other files than a model" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def nano():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(str(NANO)), AutoTokenizer.from_pretrained(str(NANO))


@pytest.fixture(scope="module")
def record():
    return json.loads((NANO / "pretrain.json").read_text(encoding="utf-8"))


def test_any_hugging_face_tool_can_load_the_folder(nano):
    import torch

    model, tokenizer = nano
    assert model.dtype == torch.float32
    assert model.config.model_type == "llama"
    assert model.num_parameters() <= 4_000_000
    assert (NANO / "model.safetensors").stat().st_size <= 12_000_000
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|pad|>"
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear):
            assert part.in_features % 64 == 0, f"NF4's blocks of 64 do not fit {name}"


def test_the_template_marks_the_answer_and_the_end_of_its_turn(nano):
    _, tokenizer = nano
    chat = [*training_rows(1, 0)[0], {"role": "user", "content": "Thanks."}]
    made = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    taught = [i for i, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(taught) == chat[2]["content"] + "<|im_end|>"


@pytest.mark.parametrize("text", ["within 48 hours", " naïve 漢字 🙂\t", "<|im_start|>user\nHi<|im_end|>\n"])
def test_text_survives_the_tokenizer(nano, text):
    _, tokenizer = nano
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not any(re.search(r"\d\d", tokenizer.decode(i)) for i in ids), "digits are tokens one by one"


def test_the_recorded_corpus_and_recipe_are_those_of_the_code(record):
    from dataclasses import asdict

    from chatcontract.nano.corpus import fingerprint
    from chatcontract.nano.pretrain import Recipe

    assert record["recipe"] == asdict(Recipe())
    assert record["corpus_sha256"] == fingerprint(Recipe().seed)


def test_the_held_out_perplexity_of_the_record_is_that_of_the_weights(nano, record):
    from chatcontract.nano.perplexity import perplexity
    from chatcontract.nano.pretrain import PERPLEXITY_DOCUMENTS

    model, tokenizer = nano
    measured = perplexity(model, tokenizer, held_out_documents(PERPLEXITY_DOCUMENTS))
    assert measured == pytest.approx(record["held_out_perplexity"], rel=0.005)


def test_the_base_model_goes_on_with_the_forum(nano):
    from chatcontract.evaluate import evaluate
    from chatcontract.nano.verify import MAX_NEW_TOKENS, continuation_rate

    model, tokenizer = nano
    cases = eval_cases(100, 1)
    result = evaluate(model, tokenizer, cases, max_new_tokens=MAX_NEW_TOKENS, batch_size=50, progress=False)
    assert continuation_rate(result) >= 0.9
    assert result.grounded_rate < 0.05
    assert result.stop_rate < 0.05


def test_the_card_states_the_recorded_figures(record):
    card = (NANO / "README.md").read_text(encoding="utf-8")
    assert f"{record['held_out_perplexity']:.3f}" in card
    assert f"{record['parameters']:,}" in card
    assert f"{record['tokens_seen']:,}" in card
    assert record["corpus_sha256"] in card
