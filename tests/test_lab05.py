"""Lab 05's reference answers against TRL's packer and collators and the masks that transformers builds.

The answers are taken from the solution notebook, so what is held here is what students are graded against.
"""

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.checks.reference import definitions, reference
from autograder.checks.registry import exercise_named

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="the extra 'train' is not installed")

LAB = "05_packing"
PROFILE = settings(max_examples=60, deadline=None, derandomize=True)
FEW = settings(max_examples=8, deadline=None, derandomize=True)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def answer(name: str) -> Callable[..., Any]:
    return reference(LAB, name)


def document_ids(lengths: list[int], window: int) -> list[int]:
    ids = [number for number, length in enumerate(lengths) for _ in range(length)]
    return ids + [-1] * (window - len(ids))


# The worked example


def test_the_toy_rows_fill_two_windows_to_84_percent():
    packed = answer("first_fit")([9, 6, 7, 5], 16)
    assert packed["used"] == [15, 12] and packed["windows"] == [[0, 1], [2, 3]]
    assert f"{packed['utilisation']:.1%}" == "84.4%"
    separate = [answer("first_fit")([length], 16)["utilisation"] for length in (9, 6, 7, 5)]
    assert f"{sum(separate) / 4:.1%}" == "42.2%"


def test_two_rows_of_three_give_two_triangles_and_no_edge_between_them():
    mask = answer("isolation_mask")([0, 0, 0, 1, 1, 1])
    assert mask == torch.block_diag(*[torch.ones(3, 3).tril()] * 2).int().tolist()
    assert mask[4][1] == 0
    assert answer("cross_edges")(mask, [0, 0, 0, 1, 1, 1]) == []


# Packing


@PROFILE
@given(st.lists(st.integers(1, 32), max_size=30), st.integers(32, 64))
def test_no_row_is_lost_and_none_could_have_gone_further_forward(lengths, window):
    packed = answer("first_fit")(lengths, window)
    assert sorted(row for rows in packed["windows"] for row in rows) == list(range(len(lengths)))
    assert packed["used"] == [sum(lengths[row] for row in rows) for rows in packed["windows"]]
    for at, rows in enumerate(packed["windows"]):
        for row in rows:
            for earlier in packed["windows"][:at]:
                before = sum(lengths[other] for other in earlier if other < row)
                assert before + lengths[row] > window


@FEW
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_the_notebooks_best_fit_decreasing_packs_as_trl_does(lengths):
    ours = definitions(LAB, ("best_fit_decreasing",))["best_fit_decreasing"](lengths, 40)
    theirs = _pack([[0] * length for length in lengths], 40, "bfd")["seq_lengths"]
    assert sorted(sum(window) for window in ours) == sorted(sum(window) for window in theirs)
    assert len(answer("first_fit")(lengths, 40)["windows"]) <= 1.7 * len(theirs) + 1


def _pack(rows: list[list[int]], size: int, strategy: str, **columns: Any) -> dict[str, list[Any]]:
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()
    packed = pack_dataset(Dataset.from_dict({"input_ids": rows, **columns}), size, strategy)
    return {name: packed[name][:] for name in packed.column_names}


@pytest.mark.parametrize(
    ("strategy", "lost", "end_kept"), [("bfd", 36, False), ("bfd_split", 0, True), ("wrapped", 0, True)]
)
def test_trl_loses_of_a_long_row_what_the_notebook_says(strategy, lost, end_kept):
    packed = _pack([list(range(40)), list(range(1000, 1100)), list(range(20))], 64, strategy)
    kept = [token for window in packed["input_ids"] for token in window]
    assert (160 - len(kept), 1099 in kept) == (lost, end_kept)


def test_a_packed_row_can_be_left_without_any_supervised_token():
    row, labels = list(range(200)), [-100] * 180 + list(range(180, 200))
    packed = _pack([row], 128, "bfd", labels=[labels])
    assert packed["labels"] == [[-100] * 128]


@pytest.mark.parametrize("number", range(30))
def test_a_refusal_that_names_only_lengths_does_not_pass_for_one_that_names_the_row(number):
    exercise = exercise_named("first_fit")
    cases = [*exercise.public, *exercise.private(random.Random(number))]
    for case in (case for case in cases if case.says):
        lengths, window = case.arguments["lengths"], case.arguments["window"]
        wrong = next(length for length in lengths if not 1 <= length <= window)
        assert not all(word in f"A row of {wrong} tokens, a window of {window}." for word in case.says)


# Position ids, mask and labels


@PROFILE
@given(st.lists(LENGTHS, min_size=1, max_size=3))
def test_position_ids_are_those_of_trls_collator(windows):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    theirs = DataCollatorForLanguageModeling.get_position_ids_from_packed_seq_lengths(windows)
    assert [one.tolist() for one in theirs] == [answer("packed_position_ids")(w, sum(w)) for w in windows]


@cache
def config() -> Any:
    from transformers import LlamaConfig

    made = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    made._attn_implementation = "eager"
    return made


def library_mask(positions: list[int], attention_mask: Any = None) -> list[list[int]]:
    from transformers.masking_utils import create_causal_mask

    made = create_causal_mask(
        config=config(),
        inputs_embeds=torch.zeros(1, len(positions), 32),
        attention_mask=attention_mask,
        past_key_values=None,
        position_ids=torch.tensor([positions]),
    )
    return (made[0, 0] == 0).int().tolist()


@FEW
@given(LENGTHS, st.integers(0, 3))
def test_the_mask_is_what_transformers_builds_from_the_position_ids(lengths, padding):
    window = sum(lengths) + padding
    owners = document_ids(lengths, window)
    theirs = library_mask(answer("packed_position_ids")(lengths, window))
    assert theirs == answer("isolation_mask")(owners)
    assert answer("cross_edges")(theirs, owners) == []


def test_a_mask_of_ones_opens_what_the_position_ids_closed():
    owners = document_ids([5, 3, 6], 16)
    ones = torch.ones(1, 16, dtype=torch.long)
    opened = library_mask(answer("packed_position_ids")([5, 3, 6], 16), ones)
    assert len(answer("cross_edges")(opened, owners)) == 3 * 5 + 6 * 8


@PROFILE
@given(
    st.lists(
        st.lists(st.tuples(st.integers(4, 40), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=4
    )
)
def test_labels_are_those_of_both_collators(rows):
    from transformers import DataCollatorWithFlattening
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    documents = [
        {"input_ids": [one for one, _ in row], "labels": [one if on else -100 for one, on in row]}
        for row in rows
    ]
    mine = answer("boundary_labels")(documents, sum(map(len, rows)))
    trl = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    assert mine == trl(documents)["labels"][0].tolist()
    assert mine == DataCollatorWithFlattening()(documents)["labels"][0].tolist()


def test_a_document_without_tokens_is_refused_by_name_and_gets_no_slot():
    one = {"input_ids": [11, 12], "labels": [-100, 12]}
    nothing: dict[str, list[int]] = {"input_ids": [], "labels": []}
    with pytest.raises(ValueError, match="2"):
        answer("boundary_labels")([one, one, nothing, one], 8)


# The leak table


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Small random Llamas with large weights, so that a leak cannot hide in rounding."""
    from transformers import LlamaForCausalLM

    made = {}
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        model = LlamaForCausalLM._from_config(copy.deepcopy(config()), attn_implementation=attention).eval()
        for weight in model.parameters():
            weight.data *= 5 if weight.dim() > 1 else 1
        made[attention] = model
    return made


SIZES = (9, 7)


def leak(model: Any, **options: Any) -> float:
    """How far the logits of 7 tokens move when the 9 before them are replaced."""
    torch.manual_seed(1)
    first, other, behind = (torch.randint(4, 50, (1, size)) for size in (9, 9, 7))
    with torch.no_grad():
        one, two = (
            model(input_ids=torch.cat([start, behind], 1), **options).logits[:, 9:]
            for start in (first, other)
        )
    return (one - two).abs().max().item()


def options_of(name: str) -> dict[str, Any]:
    size = sum(SIZES)
    owners = document_ids(list(SIZES), size)
    isolated = torch.tensor(answer("isolation_mask")(owners), dtype=torch.bool)[None, None]
    positions = {"position_ids": torch.tensor([answer("packed_position_ids")(list(SIZES), size)])}
    off = {"use_cache": False}
    added = torch.zeros(isolated.shape).masked_fill(~isolated, torch.finfo(torch.float32).min)
    return {
        "nothing": {},
        "cache": positions,
        "no cache": {**positions, **off},
        "ones": {**positions, **off, "attention_mask": torch.ones(1, size, dtype=torch.long)},
        "numbers": {**positions, **off, "attention_mask": torch.tensor([owners]) + 1},
        "4-D truth": {**positions, **off, "attention_mask": isolated},
        "4-D floats": {**positions, **off, "attention_mask": added},
    }[name]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "name", ["nothing", "cache", "no cache", "ones", "numbers", "4-D truth", "4-D floats"]
)
def test_the_leak_table_is_what_the_notebook_says(models, attention, name):
    isolates = name in ("no cache", "4-D floats") or (name == "4-D truth" and attention == "sdpa")
    measured = leak(models[attention], **options_of(name))
    assert measured < 1e-4 if isolates else measured > 0.1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_isolated_document_has_the_logits_it_has_alone(models, attention):
    torch.manual_seed(2)
    first, behind = (torch.randint(4, 50, (1, size)) for size in SIZES)
    with torch.no_grad():
        packed = models[attention](input_ids=torch.cat([first, behind], 1), **options_of("no cache")).logits
        alone = models[attention](input_ids=behind, use_cache=False).logits
    assert torch.allclose(packed[:, SIZES[0] :], alone, atol=1e-4)


# What the notebook says of nano


@pytest.fixture(scope="module")
def nano() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from chatcontract.course_files import asset

    folder = str(asset("nano"))
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("deadline", ["48 hours", "19 days", "7 weeks"])
def test_customer_b_gets_customer_as_deadline_and_not_alone(nano, deadline):
    model, tokenizer = nano
    names = ("tokenizer", "customer_a", "customer_b")
    parts = definitions(LAB, names, replace={"tokenizer": tokenizer, "display": print})
    said = []
    for window in (parts["customer_b"], parts["customer_a"](deadline) + parts["customer_b"]):
        ids = tokenizer(window, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=5, do_sample=False)
        said.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :]).strip())
    alone, behind = said
    assert behind.startswith(deadline) and not alone.startswith(deadline)


@pytest.fixture(scope="module")
def chats() -> list[dict[str, Any]]:
    import json

    from chatcontract.course_files import asset

    lines = asset("shopflow/sft_train.jsonl").read_text(encoding="utf-8").splitlines()[:8]
    return [{"messages": json.loads(line)["messages"]} for line in lines]


@pytest.mark.parametrize(
    ("options", "isolates"),
    [
        ({"packing": True, "max_length": 256}, True),
        ({"packing": True, "packing_strategy": "bfd_split", "max_length": 256}, True),
        ({"packing": True, "packing_strategy": "wrapped", "max_length": 256}, False),
        ({"padding_free": True, "max_length": None}, True),
    ],
    ids=["bfd", "bfd_split", "wrapped", "padding_free"],
)
def test_trl_isolates_in_its_trainer_and_not_on_an_untouched_model(nano, chats, tmp_path, options, isolates):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    untouched, tokenizer = nano
    args = SFTConfig(
        output_dir=str(tmp_path),
        assistant_only_loss=True,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        dataloader_pin_memory=False,
        **options,
    )
    trainer = SFTTrainer(
        copy.deepcopy(untouched), args, train_dataset=Dataset.from_list(chats), processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    batch.pop("labels")
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, :40] = 7
    moved = {}
    for name, model in {"trainer": trainer.model.eval(), "untouched": untouched}.items():
        with torch.no_grad():
            moved[name] = (model(**batch).logits - model(**changed).logits)[0, -40:].abs().max().item()
    assert (moved["trainer"] < 1e-4) == isolates
    assert moved["untouched"] > 0.1, "a cache hides the document boundaries"
    assert ("attention_mask" in batch) != isolates and ("position_ids" in batch) == isolates
