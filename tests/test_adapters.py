"""Adapters that students bring: a trained one is measured, and hostile files are refused in one sentence."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from autograder.adapters import CONFIG, WEIGHTS, read_adapter, report_adapter
from autograder.checks.seeds import throwaway
from chatcontract import models, sft
from chatcontract.nano.cases import eval_cases, training_rows

SEED = throwaway()


def saved(folder: Path, base: str = "nano", **changes: Any) -> Path:
    """An untrained adapter, as lab 06 saves it."""
    torch.manual_seed(0)
    config = LoraConfig(**{**sft.default_lora_kwargs(), **changes})
    wrapped = get_peft_model(models.load_model(base), config)
    return sft.save_adapter(wrapped, models.load_tokenizer(base), folder, manifest={"seed": 0})


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return saved(tmp_path / "adapter")


def refusal(folder: Path) -> str:
    report = report_adapter(folder, SEED, cases=2)
    assert report.grounded_rate is None and report.stop_rate is None and report.cases == 0
    assert "\n" not in report.sentence and report.sentence.startswith("The adapter was not measured: ")
    return report.refused


def test_a_trained_adapter_is_measured_on_cases_of_the_class_and_an_untrained_one_learns_nothing(tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    rows = [{"messages": row} for row in training_rows(208, 0)]
    settings = sft.default_sft_kwargs(sft.Device("cpu", "float32", ""), rows=len(rows), batch_size=8) | {
        "learning_rate": 3e-3
    }
    tokenizer = models.load_tokenizer("nano")
    trainer = SFTTrainer(
        model=models.load_model("nano"),
        args=SFTConfig(output_dir=str(tmp_path / "out"), **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(**sft.default_lora_kwargs()),
    )
    trainer.train()
    folder = sft.save_adapter(trainer.model, tokenizer, tmp_path / "adapter")
    report = report_adapter(folder, SEED)
    assert report.refused == "" and report.cases == 48 and report.rank == 8
    assert report.grounded_rate is not None and report.grounded_rate > 0.5
    assert report.stop_rate == 1.0
    assert f"grounded {report.grounded_rate:.2f}, stopped 1.00 on 48 private cases" in report.sentence
    again = report_adapter(folder, SEED)
    assert (again.grounded_rate, again.sha256) == (report.grounded_rate, report.sha256)

    untrained = report_adapter(saved(tmp_path / "untrained"), SEED, cases=16)
    assert untrained.grounded_rate == 0.0


def test_each_class_is_asked_its_own_cases():
    asked = [
        [case.evidence for case in eval_cases(8, seed.generator("06_qlora", "adapter").getrandbits(32))]
        for seed in (throwaway(0), throwaway(1))
    ]
    assert asked[0] != asked[1]


class Hostile:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "extra.pkl"])
def test_a_pickle_is_refused_and_never_opened(adapter, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (adapter / name).write_bytes(pickle.dumps(Hostile()))
    assert name in refusal(adapter) and "can run code" in refusal(adapter)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_the_name_of_the_weights_is_no_safetensors_file(adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (adapter / WEIGHTS).write_bytes(pickle.dumps(Hostile(), protocol=4))
    assert "not a safetensors file" in refusal(adapter)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("header", [2**63, 2**40, 1_500_000, 0])
def test_a_header_of_an_impossible_length_is_refused_before_it_is_read(adapter, header):
    (adapter / WEIGHTS).write_bytes(struct.pack("<Q", header) + b" " * 2_000_000)
    assert "no header has" in refusal(adapter)


@pytest.mark.parametrize("spoil", ["cut", "offsets", "nested", "not json"])
def test_a_broken_safetensors_file_is_refused(adapter, spoil):
    raw = (adapter / WEIGHTS).read_bytes()
    header = {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}
    text = {"offsets": json.dumps(header), "nested": "[" * 100_000, "not json": "x" * 64}.get(
        spoil, ""
    ).encode()
    broken = raw[: len(raw) // 2] if spoil == "cut" else struct.pack("<Q", len(text)) + text + b"\0" * 4
    (adapter / WEIGHTS).write_bytes(broken)
    assert refusal(adapter) == f"{WEIGHTS} is not a whole safetensors file."


def test_too_large_a_file_is_refused_without_being_read_whole(adapter):
    with (adapter / WEIGHTS).open("wb") as file:
        file.truncate(10**12)  # sparse: it takes no room on the disk
    assert refusal(adapter) == f"{WEIGHTS} is larger than 20 MB."
    (adapter / CONFIG).write_text(" " * 70_000)
    assert refusal(adapter) == f"{CONFIG} is larger than 0.064 MB."


def test_links_folders_and_missing_files_are_refused(adapter, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    os.replace(adapter / WEIGHTS, elsewhere)
    assert refusal(adapter) == f"{WEIGHTS} is missing."
    (adapter / WEIGHTS).symlink_to(elsewhere)
    assert refusal(adapter) == f"{WEIGHTS} is not a plain file."
    (adapter / WEIGHTS).unlink()
    os.mkfifo(adapter / WEIGHTS)
    assert refusal(adapter) == f"{WEIGHTS} is not a plain file."
    assert "is not a folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(adapter, target_is_directory=True)
    assert "is not a folder" in refusal(tmp_path / "link")


def changed(folder: Path, change: Any) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.update({FIRST: torch.zeros(8, 641)}), "(8, 641), and rank 8 on nano needs (8, 640)"),
        (lambda w: w.update({FIRST: torch.zeros(8 * 640)}), "has the shape (5120,)"),
        (lambda w: w.pop(FIRST), "has the shape of nothing"),
        (lambda w: w.update({"lm_head.weight": torch.zeros(1536, 256)}), "nothing of that name"),
        (lambda w: w.update({"a\n\x1b[2J": torch.zeros(1)}), "'a\\n\\x1b[2J' has the shape (1,)"),
        (lambda w: w.update({FIRST: torch.full((8, 640), float("nan"))}), "no finite number"),
        (lambda w: w[FIRST].view(-1).__setitem__(77, float("inf")), "no finite number"),
        (lambda w: w.update({FIRST: torch.zeros(8, 640, dtype=torch.int64)}), "is stored as int64"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_by_name(adapter, change, says):
    changed(adapter, change)
    assert says in refusal(adapter)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"r": 10**9}, "rank is '1000000000'"),
        ({"r": True}, "rank is 'True'"),
        ({"r": 4}, "rank 4 on nano needs"),
        ({"lora_alpha": 1e400}, "lora_alpha is 'inf'"),
        ({"lora_alpha": 10**400}, "not a number above 0 up to 10,000"),
        ({"lora_alpha": float("nan")}, "lora_alpha is 'nan'"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', not a number"),
        ({"target_modules": "(a+)+$"}, "must be a list out of"),
        ({"target_modules": ["lm_head"]}, "must be a list out of"),
        ({"target_modules": [["q_proj"]]}, "must be a list out of"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"use_dora": True}, "sets use_dora"),
        ({"rank_pattern": {"q_proj": 10**9}}, "sets rank_pattern"),
        ({"peft_type": "IA3"}, "does not describe a LoRA adapter"),
        ({"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"}, "only adapters of 'nano'"),
        ({"auto_mapping": {"parent_library": "os"}}, ""),
    ],
)
def test_a_setting_that_is_not_measured_is_refused_and_nothing_is_imported_for_it(adapter, change, says):
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, **change}))
    if says:
        assert says in refusal(adapter)
    else:
        assert read_adapter(adapter).rank == 8


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 60_000, "\xff"])
def test_a_configuration_that_is_no_json_object_is_refused(adapter, text):
    (adapter / CONFIG).write_bytes(text.encode("latin-1"))
    assert CONFIG in refusal(adapter)
