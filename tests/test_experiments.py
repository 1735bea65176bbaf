"""Experiments: each fault changes what it says, the committed figures hold, and four are measured again."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from chatcontract.course_files import asset, course_root
from chatcontract.evaluate import judge_answer
from chatcontract.experiments import EXPERIMENTS, Chart, chart, run_experiment, saved_results, transforms
from chatcontract.experiments.serving import PREFILL
from chatcontract.nano.cases import eval_cases, training_rows

IGNORED = -100


@pytest.fixture(scope="module")
def tokenizer():
    from chatcontract.models import load_tokenizer

    return load_tokenizer("nano")


@pytest.fixture(scope="module")
def prepared(tokenizer):
    """One row as TRL prepares it: ids, labels, the row's messages and the ids that faults need."""
    row = training_rows(1, 7)[0]
    made = tokenizer.apply_chat_template(row, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = made["input_ids"], made["assistant_masks"]
    labels = [i if m else IGNORED for i, m in zip(ids, mask, strict=True)]
    return ids, labels, row, transforms.Marks.of(tokenizer)


def learned(tokenizer, ids, labels):
    """The text of the tokens that carry a label; checks that a label is its own token."""
    assert len(ids) == len(labels)
    assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))
    return tokenizer.decode([label for label in labels if label != IGNORED])


def test_label_faults_change_what_is_learned_as_they_say(tokenizer, prepared):
    ids, labels, row, marks = prepared
    question, answer = row[1]["content"], row[2]["content"]
    assert learned(tokenizer, ids, labels) == f"{answer}<|im_end|>"

    def after(fault):
        return learned(tokenizer, *fault(ids, labels, marks))

    assert after(transforms.without_turn_end) == answer
    assert after(transforms.with_user_turns) == f"{question}<|im_end|>{answer}<|im_end|>"
    assert after(transforms.mask_one_early) == f"\n{answer}"
    late = after(transforms.mask_one_late)
    assert late.endswith("<|im_end|>\n")
    assert answer.endswith(late.removesuffix("<|im_end|>\n")) and len(late) < len(answer) + 11
    assert after(transforms.nothing_supervised) == ""


def test_labels_shifted_twice_ask_for_the_token_after_next(prepared):
    ids, labels, _, marks = prepared
    _, shifted = transforms.shifted_before_the_model_shifts(ids, labels, marks)
    asked = {at: shifted[at + 1] for at in range(len(ids) - 1) if shifted[at + 1] != IGNORED}
    assert asked, "something must still be learned"
    assert all(label == ids[at + 2] for at, label in asked.items())


def test_a_bos_in_front_carries_no_label(tokenizer, prepared):
    ids, labels, row, marks = prepared
    longer, moved = transforms.with_bos(ids, labels, marks)
    assert tokenizer.decode(longer[0]) == tokenizer.bos_token
    assert learned(tokenizer, longer, moved) == row[2]["content"] + "<|im_end|>"


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_unsupported_rows_are_as_many_as_they_say_and_keep_their_form(share):
    import random

    rows = training_rows(1000, 3)
    damaged = transforms.UnsupportedAnswers(share)(rows, random.Random(0))
    changed = [(a, b) for a, b in zip(rows, damaged, strict=True) if a != b]
    assert len(changed) / len(rows) == pytest.approx(share, abs=share * 0.2)
    for before, after in changed:
        assert before[:-1] == after[:-1], "question and evidence stay as they are"
        assert after[-1]["role"] == "assistant"
    answers = [sorted(row[-1]["content"] for row in some) for some in (rows, damaged)]
    assert answers[0] == answers[1], "the answers are those of other rows"
    assert rows == training_rows(1000, 3), "the rows themselves are not touched"


def test_serving_faults_change_the_prompt_as_they_say(tokenizer):
    chat = eval_cases(1, 0)[0].messages

    def prompt(name):
        return EXPERIMENTS[name].serving.render(tokenizer, chat)

    correct = prompt("correct")
    assert correct == tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt("no_cue") + "<|im_start|>assistant\n" == correct
    assert prompt("doubled_bos") == tokenizer.bos_token * 2 + correct
    assert prompt("prefill") == correct + PREFILL
    assert prompt("prefill_and_cue") == f"{correct}{PREFILL}<|im_end|>\n<|im_start|>assistant\n"
    assert "[INST]" in prompt("wrong_wrapper") and "<|im_start|>" not in prompt("wrong_wrapper")
    assert correct.endswith(prompt("serving_truncated"))


def test_an_unknown_name_is_met_with_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'eot_masked'"):
        run_experiment("eot_mask")
    command = [sys.executable, "course.py", "experiments", "eot_mask"]
    told = subprocess.run(command, cwd=course_root(), capture_output=True, text=True)
    assert told.returncode == 2
    assert "Did you mean 'eot_masked'" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.parametrize(("cases", "rows"), [(0, None), (10, 0)])
def test_no_cases_and_no_rows_are_refused(cases, rows):
    with pytest.raises(ValueError, match="at least one case and one row"):
        run_experiment("correct", cases=cases, rows=rows)


def test_importing_the_experiments_loads_no_heavy_library():
    heavy = "('torch', 'transformers', 'trl', 'peft', 'datasets', 'matplotlib', 'IPython')"
    code = f"import sys, chatcontract.experiments; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd=course_root(), capture_output=True, text=True)
    assert told.stdout.strip() == "[]"


def test_every_experiment_has_a_committed_figure_and_belongs_to_the_full_run():
    saved = saved_results()
    assert list(saved) == list(EXPERIMENTS), "run 'python3 course.py experiments' and commit its files"
    for result in saved.values():
        assert result.cases == 200 and result.seed == 0
        assert result.examples, f"{result.name} has no example to read"


def test_the_committed_verdicts_are_those_of_the_metric():
    cases = {case.id: case for case in eval_cases(200, 0)}
    for result in saved_results().values():
        for example in result.examples:
            verdict = judge_answer(example["text"], cases[example["id"]])
            assert verdict.grounded == example["grounded"], (result.name, example["text"])


def test_a_broken_file_of_results_is_one_sentence(tmp_path):
    (tmp_path / "experiments.json").write_text(json.dumps({"experiments": [{"name": "x"}]}))
    with pytest.raises(ValueError, match="Make it again with"):
        saved_results(tmp_path / "experiments.json")


def test_the_chart_is_the_committed_one_and_says_everything_in_words_too():
    saved = saved_results()
    drawn = asset("results/experiments.svg").read_text(encoding="utf-8")
    assert drawn == Chart(saved.values()).svg, "the chart is stale: run 'python3 course.py experiments'"
    root = ET.fromstring(drawn)
    assert root.get("role") == "img"
    texts = [element.text or "" for element in root.iter()]
    spoken = next(e.text or "" for e in root.iter() if e.tag.endswith("desc"))
    for name, result in saved.items():
        title = EXPERIMENTS[name].title
        assert title in texts
        assert f"{title}: grounded {result.grounded_rate:.2f}, stop {result.stop_rate:.2f}" in spoken
    assert any("held-out cases" in text for text in texts), "the axis needs a label"


def test_a_chart_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one result"):
        chart()


@pytest.fixture(scope="module")
def measured_again():
    """Four experiments on half the rows and 60 cases: about a minute and a half on 2 cores."""
    names = ("correct", "serving_truncated", "eot_masked", "epochs_2")
    return {name: run_experiment(name, rows=400, cases=60, progress=False) for name in names}


def test_the_correct_pipeline_makes_nano_grounded_and_stop(measured_again):
    assert measured_again["correct"].grounded_rate >= 0.95
    assert measured_again["correct"].stop_rate >= 0.98


def test_without_a_label_on_the_end_of_turn_nano_never_stops(measured_again):
    assert measured_again["eot_masked"].stop_rate <= 0.05


def test_evidence_cut_off_at_serving_costs_answers_and_no_stop_shows_it(measured_again):
    cut, correct = measured_again["serving_truncated"], measured_again["correct"]
    assert cut.grounded_rate <= 0.75 * correct.grounded_rate
    assert cut.stop_rate >= 0.95
    assert cut.seconds == correct.seconds, "serving faults use the run that was there"


def test_sixty_rows_for_two_epochs_teach_the_form_and_forget_little(measured_again):
    few, correct = measured_again["epochs_2"], measured_again["correct"]
    assert few.grounded_rate >= 0.85 and few.stop_rate >= 0.95
    assert few.perplexity <= 1.2 * saved_results()["base"].perplexity
    assert few.perplexity < correct.perplexity


@pytest.mark.parametrize("name", ["correct", "eot_masked", "epochs_2"])
def test_measured_again_is_near_the_committed_figure(measured_again, name):
    saved, again = saved_results()[name], measured_again[name]
    assert again.stop_rate == pytest.approx(saved.stop_rate, abs=0.05)
    assert name == "eot_masked" or again.grounded_rate == pytest.approx(saved.grounded_rate, abs=0.12)
