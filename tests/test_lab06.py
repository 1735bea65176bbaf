"""Lab 06's reference answers against PEFT, bitsandbytes, transformers' step counts and TRL's labels."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from autograder.checks.lab06_qlora import EXERCISES, GOOD, LATE, LLAMA
from autograder.checks.reference import definitions, reference
from autograder.checks.seeds import throwaway
from autograder.faults.registry import faults_of
from chatcontract import families, models
from chatcontract.check.outcome import call
from chatcontract.course_files import asset

LAB = "06_qlora"


def answer(name: str) -> Callable[..., Any]:
    return reference(LAB, name)


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in asset(path).read_text(encoding="utf-8").splitlines()]


# training_rows


def test_all_rows_of_the_course_and_of_lab_03_may_teach_and_their_copies_are_their_own():
    records = read("shopflow/sft_train.jsonl")
    tested = sorted({case["policy_id"] for case in read("shopflow/eval_public.jsonl")})
    rows = answer("training_rows")(records, tested)
    assert [row["messages"] for row in rows] == [record["messages"] for record in records]
    rows[0]["messages"][0]["content"] = "changed"
    assert records[0]["messages"][0]["content"] != "changed"
    accepted = read("shopflow/accepted.jsonl")
    variant = sorted({row["policy_id"].partition(".")[0] for row in accepted})[0]
    left = answer("training_rows")(accepted, [variant])
    assert 0 < len(left) < len(accepted)


def test_a_run_without_a_supervised_token_is_refused_before_it_starts():
    with pytest.raises(ValueError, match="no row"):
        answer("training_rows")([GOOD, LATE], ["damaged_electronics", "late_delivery"])


# lora_kwargs and quantization_kwargs


def small_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2))


def linear_names() -> list[str]:
    from torch.nn import Linear

    return [name for name, part in small_llama().named_modules() if isinstance(part, Linear)]


def adapters(**kwargs: Any) -> list[str]:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(small_llama(), LoraConfig(**kwargs))
    return [name for name, _ in wrapped.named_modules() if name.endswith("lora_A")]


def test_every_linear_layer_but_the_head_gets_an_adapter_from_peft():
    assert sorted(linear_names()) == sorted(LLAMA)
    found = adapters(**answer("lora_kwargs")(linear_names(), 4))
    assert len(found) == 14 and not any("lm_head" in name for name in found)


@pytest.mark.parametrize(
    "target", ["q_proj", "mlp.up_proj", "proj", "_proj", "self_attn", "up", "layers.1.mlp"]
)
def test_a_target_is_refused_exactly_where_peft_matches_nothing(target):
    try:
        expected = len(adapters(target_modules=[target]))
    except ValueError:
        expected = 0
    if expected:
        kwargs = answer("lora_kwargs")(linear_names(), 4, [target])
        assert len(adapters(**kwargs)) == expected
    else:
        with pytest.raises(ValueError, match=target):
            answer("lora_kwargs")(linear_names(), 4, [target])


def test_new_tokens_are_trained_and_only_when_they_are_listed():
    from peft import LoraConfig, get_peft_model

    for new, trained in (([62, 63], True), (None, False)):
        kwargs = answer("lora_kwargs")(linear_names(), 4, None, new)
        wrapped = get_peft_model(small_llama(), LoraConfig(**kwargs))
        moving = [name for name, part in wrapped.named_parameters() if part.requires_grad]
        assert any("embed_tokens" in name for name in moving) is trained


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ({"kind": "cuda", "bfloat16": True}, "bfloat16"),
        ({"kind": "cuda", "bfloat16": False}, "float16"),
        ({"kind": "cpu"}, "float32"),
    ],
)
def test_the_quantisation_is_what_transformers_understands(device, dtype):
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(**answer("quantization_kwargs")(device))
    assert config.bnb_4bit_compute_dtype is getattr(torch, dtype)
    assert config.bnb_4bit_quant_type == "nf4" and config.bnb_4bit_use_double_quant
    assert BitsAndBytesConfig(load_in_4bit=True).bnb_4bit_quant_type == "fp4", (
        "the default that the lab warns of"
    )


def test_fp4_moves_bell_shaped_weights_further_than_nf4():
    import bitsandbytes as bnb
    import torch

    torch.manual_seed(0)
    weights = torch.randn(256, 256)
    moved = {}
    for kind in ("nf4", "fp4"):
        packed, state = bnb.functional.quantize_4bit(weights, quant_type=kind)
        moved[kind] = (bnb.functional.dequantize_4bit(packed, state) - weights).abs().mean().item()
    assert moved["fp4"] > 1.1 * moved["nf4"]


# sft_kwargs


@cache
def nano() -> tuple[Any, Any]:
    return models.load_model("nano"), models.load_tokenizer("nano")


def trainer_of(rows: list[dict[str, Any]], formatting_func: Any = None, **args: Any) -> Any:
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    model, tokenizer = nano()
    with families.apply_training_template(tokenizer, families.family("chatml")):
        return SFTTrainer(
            model=model,
            args=SFTConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none", **args),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            formatting_func=formatting_func,
        )


def chats(count: int) -> list[dict[str, Any]]:
    return [{"messages": record["messages"]} for record in read("shopflow/sft_train.jsonl")[:count]]


@pytest.mark.parametrize(
    ("rows", "epochs", "whole", "part"), [(10, 3, 4, 2), (9, 1, 8, 8), (5, 2, 6, 2), (1, 3, 8, 4)]
)
def test_the_trainer_plans_the_same_number_of_steps(rows, epochs, whole, part):
    budget = {"rows": rows, "epochs": epochs, "effective_batch": whole, "device_batch": part}
    plan = answer("sft_kwargs")(budget | {"adapter": True, "longest_row": 256})
    trainer = trainer_of(chats(rows), **plan["arguments"])
    assert len(trainer.train_dataset) == rows
    planned = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    assert plan["steps"] == planned[-1]
    assert trainer.args.get_warmup_steps(plan["steps"]) == plan["arguments"]["warmup_steps"]


def test_every_argument_is_a_field_of_the_installed_config_and_the_old_name_is_not():
    import dataclasses

    from trl import SFTConfig

    fields = {field.name for field in dataclasses.fields(SFTConfig)}
    budget = {
        "rows": 9,
        "epochs": 1,
        "effective_batch": 4,
        "device_batch": 2,
        "adapter": True,
        "longest_row": 99,
    }
    assert set(answer("sft_kwargs")(budget)["arguments"]) <= fields
    assert "max_seq_length" not in fields


# The run as a whole


def run_once(folder: Path, seed: int = 0) -> dict[str, Any]:
    """The lab's run on nano, with its reference answers: rows, four bits, adapter, budget, manifest."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from chatcontract import evaluate, manifest, sft
    from chatcontract.viewers import RunView

    device, tokenizer, cases = (
        sft.pick_device("cpu"),
        models.load_tokenizer("nano"),
        evaluate.load_cases(limit=4),
    )
    rows = answer("training_rows")(read("shopflow/sft_train.jsonl")[:24], [case.policy_id for case in cases])
    quantization = answer("quantization_kwargs")({"kind": "cpu", "bfloat16": False})
    base = models.load_model("nano")
    quantized = models.load_model("nano", quantization=quantization)
    names = [name for name, part in base.named_modules() if type(part).__name__ == "Linear"]
    adapter = answer("lora_kwargs")(names, 8)
    budget = {"rows": len(rows), "epochs": 1, "effective_batch": 8, "device_batch": 8, "adapter": True}
    plan = answer("sft_kwargs")(budget | {"longest_row": 512, "learning_rate": 1e-3})
    settings = sft.default_sft_kwargs(device, rows=len(rows), checkpoint_every=2) | plan["arguments"]
    settings |= {"seed": seed, "data_seed": seed}
    sft.set_seeds(seed)
    with families.apply_training_template(tokenizer, families.family("chatml")):
        trainer = SFTTrainer(
            model=quantized,
            args=SFTConfig(output_dir=str(folder / "run"), **settings),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(**adapter),
        )
    view = RunView(plan["steps"])
    with sft.resumable(trainer, view) as checkpoint:
        trainer.train(resume_from_checkpoint=checkpoint)
    after = sft.evaluate_adapter(base, trainer.model, tokenizer, cases, max_new_tokens=16, progress=False)
    figures = {"grounded_rate": after.grounded_rate, "stop_rate": after.stop_rate}
    record = manifest.run_manifest(
        "nano",
        tokenizer,
        rows,
        configuration={"quantization": quantization, "lora": adapter, "sft": settings},
        seed=seed,
        figures=figures | {"final_loss": view.log.last("loss")},
    )
    sft.save_adapter(trainer.model, tokenizer, folder / "adapter", manifest=record)
    saved: dict[str, Any] = json.loads((folder / "adapter" / "manifest.json").read_text(encoding="utf-8"))
    return saved


def test_a_second_run_gives_the_same_manifest_and_another_seed_another_adapter(tmp_path):
    first, second = run_once(tmp_path / "first"), run_once(tmp_path / "second")
    assert first == second
    assert set(first) == {
        "checkpoint", "tokenizer", "data", "configuration", "seed", "versions", "figures", "adapter_sha256"
    }  # fmt: skip
    assert first["data"]["rows"] == 24 and first["figures"]["final_loss"] > 0
    other = run_once(tmp_path / "other", seed=1)
    assert {name for name in first if first[name] != other[name]} >= {"seed", "figures", "adapter_sha256"}
    assert first["checkpoint"] == other["checkpoint"] and first["data"] == other["data"]


# repair_script, and the lab's words about it


def to_text(row: dict[str, Any]) -> str:
    return f"### Instruction:\n{row['instruction']}\n\n### Response:\n{row['output']}"


def learned(trainer: Any) -> tuple[int, int, int]:
    """Learned tokens, all tokens, learned ends of turn."""
    labels = [label for row in trainer.train_dataset for label in row["labels"]]
    end = nano()[1].convert_tokens_to_ids("<|im_end|>")
    return sum(label != -100 for label in labels), len(labels), labels.count(end)


def test_the_copied_script_learns_nearly_every_token_and_its_repair_only_the_answers():
    copied = definitions(LAB, ("copied",))["copied"]
    fixed = answer("repair_script")(copied)
    assert fixed["errors"] == ["text_has_no_roles", "mask_not_set", "stops_elsewhere"]
    rows = chats(12)
    pairs = [
        {"instruction": r["messages"][1]["content"], "output": r["messages"][2]["content"]} for r in rows
    ]
    count, total, _ = learned(trainer_of(pairs, to_text, **copied["args"]))
    assert count > 0.95 * total, "packing ignores the first token of each row and nothing else"
    trainer = trainer_of(rows, **fixed["script"]["args"])
    count, total, ends = learned(trainer)
    tokenizer = nano()[1]
    answers = [
        tokenizer.encode(r["messages"][2]["content"] + "<|im_end|>", add_special_tokens=False) for r in rows
    ]
    assert count == sum(map(len, answers)) and ends == len(rows)


def test_the_silent_errors_of_the_table_are_silent_and_real():
    rows = chats(12)
    count, total, _ = learned(trainer_of(rows))
    assert count == total, "TRL's default learns every token of a conversation"
    text = {"formatting_func": lambda row: "something else"}
    assert learned(trainer_of(rows, **text)) == (count, total, 36), "the function's text is left aside"
    cut = trainer_of(rows, assistant_only_loss=True, max_length=60)
    assert len(cut.train_dataset) < len(rows) and learned(cut)[2] == 0
    packed = trainer_of(rows, assistant_only_loss=True, max_length=30, packing=True)
    assert learned(packed)[0] == 0


def test_a_pad_token_that_equals_the_end_loses_no_label_in_trl():
    trainer = trainer_of(chats(8), assistant_only_loss=True, per_device_train_batch_size=8)
    tokenizer = trainer.processing_class
    end, pad = tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.pad_token
    tokenizer.pad_token = "<|im_end|>"
    try:
        same = trainer_of(chats(8), assistant_only_loss=True, per_device_train_batch_size=8)
        batch = next(iter(same.get_train_dataloader()))
    finally:
        tokenizer.pad_token = pad
    assert (batch["labels"] == end).sum().item() == 8


def test_a_repaired_script_has_nothing_left_to_repair():
    exercise = next(e for e in EXERCISES if e.name == "repair_script")
    repair = answer("repair_script")
    for number in range(20):
        for case in exercise.private(throwaway(number).generator(LAB, exercise.name)):
            once = repair(**case.arguments)
            assert repair(once["script"]) == {"errors": [], "script": once["script"]}
            assert (once["script"] == case.arguments["script"]) == (not once["errors"])


# The whole


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_every_fault_shows_in_the_cases_that_students_see(exercise):
    asked = answer(exercise.name)
    for fault in faults_of(exercise.name):
        assert any(call(asked, c.arguments) != call(fault.run, c.arguments) for c in exercise.public), (
            fault.id
        )


def test_the_figures_of_forgetting_say_what_the_lab_says_of_them():
    from chatcontract.experiments import saved_results

    results = saved_results()
    perplexity = {name: results[name].perplexity for name in ("base", "epochs_2", "epochs_10", "epochs_30")}
    assert sorted(perplexity.values()) == list(perplexity.values()), "more epochs forget more"
    ten = results["epochs_10"].perplexity
    assert results["full_finetune"].perplexity > 2 * ten > ten > results["replay"].perplexity
    assert results["low_rate"].perplexity < 1.01 * perplexity["base"]
    assert results["low_rate"].grounded_rate < 0.1 and results["epochs_2"].grounded_rate > 0.9
