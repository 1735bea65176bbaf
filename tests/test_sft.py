"""A run's pieces on a Llama small enough to train in a second, with the real tokenizer and the real TRL."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from chatcontract import families, manifest, models, sft, viewers
from chatcontract.course_files import asset
from chatcontract.evaluate import Evaluation, evaluate, load_cases

ROWS = [
    {"messages": json.loads(line)["messages"]}
    for line in asset("shopflow/sft_train.jsonl").read_text(encoding="utf-8").splitlines()[:4]
]


@pytest.fixture(scope="module")
def tokenizer():
    loaded = models.load_tokenizer("smollm2-135m")
    families.apply_serving_template(loaded, families.family("chatml"))
    return loaded


@pytest.fixture
def llama(tokenizer):
    return small_llama(tokenizer)


def small_llama(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


def with_random_adapter(model):
    wrapped = get_peft_model(copy.deepcopy(model), LoraConfig(**sft.default_lora_kwargs())).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return wrapped


def test_merged_copy_answers_like_the_adapter_and_changes_neither_model(llama):
    trained = with_random_adapter(llama)
    ids = torch.arange(1, 20).unsqueeze(0)
    with torch.no_grad():
        base_before, adapted = llama(ids).logits, trained(ids).logits
        merged = sft.merged_copy(llama, trained)(ids).logits
        assert (adapted - base_before).abs().max() > 0.01, (
            "the adapter must matter for this test to mean anything"
        )
        torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(llama(ids).logits, base_before, atol=0, rtol=0)
        torch.testing.assert_close(trained(ids).logits, adapted, atol=0, rtol=0)


def test_a_run_learns_the_answer_alone_feeds_the_picture_and_saves_whole(llama, tokenizer, tmp_path):
    device = sft.pick_device("cpu")
    settings = sft.default_sft_kwargs(device, rows=len(ROWS), batch_size=2)
    view = viewers.RunView(total_steps=2)
    with families.apply_training_template(tokenizer, families.family("chatml")):
        trainer = SFTTrainer(
            model=llama,
            args=SFTConfig(output_dir=str(tmp_path / "out"), **settings),
            train_dataset=Dataset.from_list(ROWS),
            processing_class=tokenizer,
            peft_config=LoraConfig(**sft.default_lora_kwargs()),
        )
    learned = [sft.supervised_text(trainer, row) for row in range(len(ROWS))]
    assert learned == [row["messages"][-1]["content"] + "<|im_end|>" for row in ROWS]

    measured: list[Evaluation] = []

    def measure(model):
        measured.append(
            sft.evaluate_adapter(
                LlamaForCausalLM(llama.config),
                model,
                tokenizer,
                load_cases(limit=2),
                max_new_tokens=4,
                progress=False,
            )
        )
        return measured[-1]

    trainer.add_callback(sft.run_callback(view, measure=measure, measure_at=[2]))
    trainer.train()
    assert len(measured) == 1
    assert view.log.last("loss") > 0
    assert view.log.last("grounded") == measured[0].grounded_rate
    assert view.log.step == 2

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "old.txt").write_text("an earlier run")
    sft.save_adapter(trainer.model, tokenizer, folder)
    assert not (folder / "old.txt").exists()
    assert (folder / "adapter_model.safetensors").is_file()
    saved = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert "generation %}" not in saved, "other template engines cannot parse the training markers"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# A run that is stopped


class Stop(TrainerCallback):
    """Ctrl-C in the middle of a step: the gradients are there, the weights have not moved yet."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **context):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def trainer_for(llama, tokenizer, folder, rows=None):
    settings = sft.default_sft_kwargs(
        sft.Device("cpu", "float32", ""), rows=8, epochs=2, batch_size=2, checkpoint_every=3
    )
    # dropout draws from the random state, so that a state which is not restored shows in the loss
    adapter = {**sft.default_lora_kwargs(), "lora_dropout": 0.2}
    sft.set_seeds(0)
    with families.apply_training_template(tokenizer, families.family("chatml")):
        return SFTTrainer(
            model=copy.deepcopy(llama),
            args=SFTConfig(output_dir=str(folder), **settings),
            train_dataset=Dataset.from_list(rows or [*ROWS, *ROWS]),
            processing_class=tokenizer,
            peft_config=LoraConfig(**adapter),
        )


def followed(trainer, stop_at=None):
    """The losses that the viewer ends up with, and the trained weights."""
    view = viewers.RunView(total_steps=8)
    stop = Stop(stop_at)
    trainer.add_callback(stop)
    try:
        with sft.resumable(trainer, view) as checkpoint:
            trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        trainer.remove_callback(stop)
    weights = {name: one.clone() for name, one in trainer.model.named_parameters() if one.requires_grad}
    return [(p.step, p.loss, p.tokens) for p in view.log.points], weights


def same(left, right):
    assert left[0] == right[0]
    assert left[1].keys() == right[1].keys()
    for name, weight in left[1].items():
        torch.testing.assert_close(right[1][name], weight, atol=0, rtol=0)


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    return followed(trainer_for(small_llama(tokenizer), tokenizer, tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("step", [2, 7], ids=["before the first checkpoint", "after the second"])
@pytest.mark.parametrize("kernel", ["same", "new"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_figures(
    llama, tokenizer, tmp_path, whole, step, kernel, capsys
):
    trainer = trainer_for(llama, tokenizer, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        followed(trainer, stop_at=step)
    if kernel == "new":
        trainer = trainer_for(llama, tokenizer, tmp_path / "stopped")
    capsys.readouterr()
    same(followed(trainer), whole)
    said = capsys.readouterr().out
    assert ("Going on after step 6" in said) is (step == 7)
    assert "{'loss'" not in said, "the picture shows the losses"
    same(followed(trainer_for(llama, tokenizer, tmp_path / "stopped")), whole)
    assert "Going on after step 8" in capsys.readouterr().out, "a finished run is not trained again"
    assert [point[0] for point in whole[0]] == list(range(1, 9))


def test_a_half_written_checkpoint_and_one_of_another_run_are_left_out(
    llama, tokenizer, tmp_path, whole, capsys
):
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        followed(trainer_for(llama, tokenizer, folder), stop_at=7)
    (folder / "checkpoint-6" / "whole.json").unlink()  # the last file that is written
    same(followed(trainer_for(llama, tokenizer, folder)), whole)
    assert "Going on after step 3" in capsys.readouterr().out

    other = trainer_for(llama, tokenizer, folder, rows=[*ROWS, *ROWS[::-1]])
    different = followed(other)
    assert "Going on" not in capsys.readouterr().out
    assert different[0] != whole[0]
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]


def test_a_broken_save_leaves_the_adapter_that_was_there(tmp_path, monkeypatch):
    base, tokenizer = models.load_model("nano"), models.load_tokenizer("nano")
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    folder = sft.save_adapter(adapted, tokenizer, tmp_path / "adapter", manifest={"run": 1})
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(tokenizer, "save_pretrained", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sft.save_adapter(adapted, tokenizer, folder, manifest={"run": 2})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    weights = hashlib.sha256(before["adapter_model.safetensors"]).hexdigest()
    assert json.loads(before["manifest.json"]) == {"run": 1, "adapter_sha256": weights}
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_saved_adapter_names_its_base_and_no_folder_of_this_machine(tmp_path):
    base = models.load_model("nano")
    assert Path(base.name_or_path).is_dir()
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    folder = sft.save_adapter(adapted, models.load_tokenizer("nano"), tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "nano"
    for file in (*folder.glob("*.json"), folder / "README.md"):
        assert base.name_or_path not in file.read_text(encoding="utf-8"), file.name


def test_generation_stops_at_the_end_of_turn_and_reports_it(llama, tokenizer):
    cases = load_cases(limit=3)
    with torch.no_grad():
        llama.lm_head.weight.zero_()
        llama.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
        llama.lm_head.bias[tokenizer.eos_token_id] = 1.0
    result = evaluate(llama, tokenizer, cases, max_new_tokens=5, progress=False)
    assert result.stop_rate == 1.0
    assert [answer.text for answer in result.answers] == ["", "", ""]
    assert result.mean_tokens == 1.0
    with torch.no_grad():
        llama.lm_head.bias[tokenizer.eos_token_id] = -1.0
    ran_on = evaluate(llama, tokenizer, cases, max_new_tokens=5, progress=False)
    assert ran_on.stop_rate == 0.0
    assert ran_on.mean_tokens == 5.0


def test_same_run_same_manifest_and_another_row_another_manifest(tokenizer):
    def made(rows):
        return manifest.run_manifest("smollm2-135m", tokenizer, rows, configuration={"r": 8}, seed=0)

    assert made(ROWS) == made(ROWS)
    assert made(ROWS)["data"] != made(ROWS[:3])["data"]
    assert made(ROWS)["checkpoint"]["weights_sha256"]
    json.dumps(made(ROWS))


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for the sentence on a machine without CUDA")
def test_asking_for_a_gpu_that_is_not_there_is_one_sentence():
    with pytest.raises(ValueError, match="No CUDA device is here"):
        sft.pick_device("cuda")
    with pytest.raises(ValueError, match="use 'cpu' or 'cuda'"):
        sft.pick_device("tpu")
