"""Lab 04's reference answers: the worked examples, transformers' and TRL's masks, PyTorch's loss."""

import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis_profiles import PROFILE, TEXT, chats
from transformers import PreTrainedTokenizerBase

from autograder.checks.lab04_labels import EXERCISES
from autograder.checks.reference import reference
from autograder.faults.registry import faults_of
from chatcontract.families import Chat, family
from chatcontract.models import is_fetched, load_tokenizer

LAB = "04_labels"
PROMPT = "<system> Use supplied policy evidence <eot> <user> Damaged electronics arrived <eot> <assistant>"
ANSWER = "Report within 48 hours with photos <eot>"
SHORT = "<system> Use policy evidence <eot> <user> Damaged <eot> <assistant> Report within 48 hours <eot>"


def answer(name: str) -> Callable[..., Any]:
    return reference(LAB, name)


# The worked examples


def test_of_the_first_toy_twelve_tokens_are_masked_and_the_answer_with_its_end_is_learned():
    labels = answer("assistant_labels")(PROMPT.split() + ANSWER.split(), ["<assistant>"], "<eot>")
    assert labels == [-100] * 12 + ANSWER.split()


def test_the_second_toy_has_13_full_sequence_and_5_assistant_only_targets():
    words = SHORT.split()
    labels = answer("assistant_labels")(words, ["<assistant>"], "<eot>")
    assert [label for label in labels if label != -100] == ["Report", "within", "48", "hours", "<eot>"]
    budget = answer("supervised_budget")([{"labels": labels, "attention_mask": [1] * len(words)}])
    assert (budget["full_sequence"], budget["assistant_only"]) == (13, 5)
    assert budget["share"] == 5 / 13 and budget["empty_rows"] == []


def test_the_denominator_under_accumulation_is_the_tokens_of_all_rows():
    """Rows with 1, 30, 1 and 10 answer tokens: a token weighs the same in whichever micro-batch it is."""
    rng = random.Random(0)
    rows = [[[rng.uniform(-3, 3) for _ in range(5)] for _ in range(n + 1)] for n in (1, 30, 1, 10)]
    labels = [[-100, *(rng.randrange(5) for _ in row[1:])] for row in rows]
    loss = answer("masked_mean_loss")
    whole = loss(rows, labels)
    parts = sum(loss([row], [row_labels], 42) for row, row_labels in zip(rows, labels, strict=True))
    means = sum(loss([row], [row_labels]) for row, row_labels in zip(rows, labels, strict=True)) / 4
    assert math.isclose(whole, parts, rel_tol=1e-9)
    assert abs(means - whole) > 0.1


# The answers against transformers and PyTorch


@cache
def smollm2() -> PreTrainedTokenizerBase:
    if not is_fetched("smollm2-135m"):
        pytest.skip("smollm2-135m is not fetched")
    return load_tokenizer("smollm2-135m")


def by_transformers(messages: Chat, template: str) -> tuple[list[int], list[int], list[list[int]]]:
    """Ids, labels as transformers' assistant mask says, and character offsets."""
    row = smollm2().apply_chat_template(
        messages,
        chat_template=template,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    pairs = zip(row["input_ids"], row["assistant_masks"], strict=True)
    labels = [one if kept else -100 for one, kept in pairs]
    return row["input_ids"], labels, [list(pair) for pair in row["offset_mapping"]]


# An answer that starts with a letter shares no token with the line break of the header.
ANSWERS = TEXT.map("R".__add__)


@PROFILE
@given(chats(answers=ANSWERS))
def test_labels_by_header_and_by_offsets_are_those_of_transformers(messages):
    special = (*smollm2().all_special_tokens, *smollm2().get_added_vocab())
    assume(not any(token in m["content"] for token in special for m in messages))
    template = family("chatml").training_template
    ids, labels, offsets = by_transformers(messages, template)
    header = smollm2().encode("<|im_start|>assistant\n", add_special_tokens=False)
    end = smollm2().convert_tokens_to_ids("<|im_end|>")
    assert answer("assistant_labels")(ids, header, end) == labels
    text, spans = "", []
    for m in messages:
        text += f"<|im_start|>{m['role']}\n"
        written = m["content"] + "<|im_end|>"
        if m["role"] == "assistant":
            spans.append([len(text), len(text) + len(written)])
        text += written + "\n"
    assert answer("labels_from_offsets")(ids, offsets, spans) == labels


def test_an_answer_that_ends_in_an_emoji_is_whole_where_transformers_loses_its_last_pieces():
    """In a frame without an end marker; seen with transformers 5.23."""
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here 📦"}]
    ids, theirs, offsets = by_transformers(messages, family("plain").training_template)
    text = "User: Where?\nAssistant: Here 📦"
    mine = answer("labels_from_offsets")(ids, offsets, [[text.index(" Here"), len(text)]])
    assert smollm2().decode([one for one in mine if one != -100]) == " Here 📦"
    assert sum(one != -100 for one in mine) >= sum(one != -100 for one in theirs)
    assert [a for a, b in zip(mine, theirs, strict=True) if b != -100] == [b for b in theirs if b != -100]


_SCORES = st.lists(st.floats(-50, 50), min_size=3, max_size=3)
_ROWS = st.lists(st.tuples(_SCORES, st.sampled_from([-100, 0, 1, 2])), min_size=1, max_size=7)


@PROFILE
@given(st.lists(_ROWS, min_size=1, max_size=4))
@example([[([1000.0, 0.0, 0.0], -100), ([0.0, 0.0, 0.0], 1)]])
def test_the_masked_mean_is_pytorchs_cross_entropy(rows):
    import torch

    logits = [[scores for scores, _ in row] for row in rows]
    labels = [[label for _, label in row] for row in rows]
    flat = [scores for row in logits for scores in row[:-1]]
    targets = [label for row in labels for label in row[1:]]
    mine = answer("masked_mean_loss")(logits, labels)
    if all(target == -100 for target in targets):
        assert mine == 0.0
        return
    theirs = torch.nn.functional.cross_entropy(torch.tensor(flat).double(), torch.tensor(targets)).item()
    assert math.isclose(mine, theirs, rel_tol=1e-5, abs_tol=1e-6)


def test_the_masked_mean_is_the_loss_of_a_llama_and_its_num_items_is_transformers():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=11, **shape))
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    labels = torch.tensor([[1, -100, 3, 4, 5, 6], [-100, -100, -100, 3, -100, 1]])
    out = model(input_ids=ids, labels=labels)
    loss = answer("masked_mean_loss")
    assert math.isclose(loss(out.logits.tolist(), labels.tolist()), out.loss.item(), rel_tol=1e-5)
    part = model(input_ids=ids, labels=labels, num_items_in_batch=42).loss.item()
    assert math.isclose(loss(out.logits.tolist(), labels.tolist(), 42), part, rel_tol=1e-5)


@PROFILE
@given(st.lists(st.lists(st.sampled_from([-100, 0, 7]), min_size=1, max_size=8), max_size=5), st.booleans())
def test_padding_changes_no_figure_of_the_budget(rows, left):
    width = max(map(len, rows), default=0)
    bare = [{"labels": row, "attention_mask": [1] * len(row)} for row in rows]
    padded = []
    for row in rows:
        fill, mask = [-100] * (width - len(row)), [0] * (width - len(row))
        padded.append(
            {
                "labels": fill + row if left else row + fill,
                "attention_mask": mask + [1] * len(row) if left else [1] * len(row) + mask,
            }
        )
    budget = answer("supervised_budget")
    assert budget(bare) == budget(padded)
    assert budget(bare)["full_sequence"] == sum(len(row) - 1 for row in rows)


def test_a_trainers_step_reports_the_masked_mean(tmp_path):
    """One TRL step over rows with 1, 30, 1 and 10 answer tokens, at once and accumulated."""
    pytest.importorskip("trl")
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    rows = [
        {"input_ids": list(range(1, n + 6)), "labels": [-100] * 5 + list(range(6, n + 6))}
        for n in (1, 30, 1, 10)
    ]
    mine = None
    for batch, accumulate in ((4, 1), (1, 4)):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(smollm2()), **shape))
        if mine is None:
            with torch.no_grad():
                logits = [model(torch.tensor([row["input_ids"]])).logits[0].tolist() for row in rows]
            mine = answer("masked_mean_loss")(logits, [row["labels"] for row in rows])
        trainer = SFTTrainer(
            model,
            SFTConfig(
                output_dir=str(tmp_path),
                max_steps=1,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulate,
                logging_steps=1,
                use_cpu=True,
                bf16=False,
                report_to="none",
                disable_tqdm=True,
                save_strategy="no",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=smollm2(),
        )
        trainer.train()
        reported = next(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
        assert math.isclose(mine, reported, rel_tol=1e-3)


# The faults of the lab


def test_every_exercise_of_the_lab_has_cited_faults_and_experiments_that_exist():
    from chatcontract.experiments import EXPERIMENTS

    faults = [fault for exercise in EXERCISES for fault in faults_of(exercise.name)]
    assert len(faults) >= 10
    for fault in faults:
        assert "http" in fault.citation or "here" in fault.citation, fault.id
        assert fault.experiment is None or fault.experiment in EXPERIMENTS, fault.id
