"""Lab 06: mistakes in the rows, the arguments and the script of a QLoRA run, and right answers in other styles."""

import copy
import math
from typing import Any

from autograder.faults.registry import alternative, fault, reference

Record = dict[str, Any]
Names = list[str]
Ids = list[int]


# training_rows


def _reduced(record: Record) -> Record:
    return {"messages": [{"role": m["role"], "content": m["content"]} for m in record["messages"]]}


def _kept(records: list[Record], held_out: list[str], *, skip: str = "") -> list[Record]:
    """The rows that pass every test but the one called `skip`."""
    rows = []
    for record in records:
        messages = record["messages"]
        if not messages:
            continue
        last, first = messages[-1], messages[0]
        passes = {
            "held out": record["policy_id"].partition(".")[0] not in held_out,
            "role": last["role"] == "assistant",
            "blank": last["role"] != "assistant" or last["content"].strip() != "",
            "evidence": first["role"] == "system" and record.get("clause", "Evidence:") in first["content"],
        }
        if all(fine for name, fine in passes.items() if name != skip):
            rows.append(_reduced(record))
    if not rows:
        raise ValueError("No row is left.")
    return rows


@fault(
    "rows.test_not_held_out",
    exercise="training_rows",
    title="Rows about tested policies are trained on",
    symptom="The held-out figure is excellent, and real questions are answered much worse.",
    first_check="Intersect the policy ids of the rows with those of the cases.",
    consequence="The test measures memory, so a model that reads nothing can pass it.",
    citation="Carlini et al. 2019 on what models memorise, https://arxiv.org/abs/1802.08232 ; contaminated "
    "benchmarks, https://arxiv.org/abs/2311.04850",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    return _kept(records, held_out, skip="held out")


@fault(
    "rows.variant_leaks",
    exercise="training_rows",
    title="A variant of a tested policy passes under its longer name",
    symptom="No id occurs on both sides, and whole policies do.",
    first_check="Compare what stands before the first dot of each id.",
    consequence="The rows contain the tested policy with another shop's name, so the test is half memory.",
    citation="https://arxiv.org/abs/2311.04850 (rephrased samples pass a filter for equal ones)",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    renamed = [
        r | {"policy_id": r["policy_id"] if r["policy_id"] in held_out else "trained"} for r in records
    ]
    return _kept(renamed, held_out)


@fault(
    "rows.ends_with_the_customer",
    exercise="training_rows",
    title="Rows that end with the customer stay",
    symptom="Some rows have fewer supervised ends than questions.",
    first_check="Count the roles of the last messages.",
    consequence="Such a row pays for a question whose answer is never taught.",
    citation="https://github.com/huggingface/trl/issues/3927",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    return _kept(records, held_out, skip="role")


@fault(
    "rows.blank_answer",
    exercise="training_rows",
    title="Answers of white space stay",
    symptom="Now and then the model answers with an end of turn and nothing else.",
    first_check="Look for answers that are empty after strip().",
    consequence="The shortest possible answer is learned as a right one.",
    citation="empty outputs in a public instruction set, "
    "https://github.com/gururise/AlpacaDataCleaned/blob/main/README.md",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    return _kept(records, held_out, skip="blank")


@fault(
    "rows.evidence_not_shown",
    exercise="training_rows",
    title="Rows whose evidence is not in the prompt stay",
    symptom="The model gives deadlines with confidence when the prompt holds none.",
    first_check="Search the clause in the text of the system message.",
    consequence="An answer that the prompt does not support teaches the model to invent.",
    citation="Gekhman et al. 2024, fine-tuning on knowledge the model lacks, https://arxiv.org/abs/2405.05904",
    experiment="evidence_truncated",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    return _kept(records, held_out, skip="evidence")


@fault(
    "rows.evidence_anywhere",
    exercise="training_rows",
    title="Evidence counts wherever it stands",
    symptom="Customers who quote a policy of their own get it confirmed.",
    first_check="Print the role of the message in which the clause was found.",
    consequence="The model learns to believe what a customer writes.",
    citation="the order of authority between system and user, https://arxiv.org/abs/2404.13208",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    moved = []
    for record in records:
        clause = record.get("clause", "Evidence:")
        found = any(clause in m["content"] for m in record["messages"])
        moved.append((record, found))
    rows = [
        _reduced(record)
        for record, found in moved
        if found
        and record["policy_id"].partition(".")[0] not in held_out
        and record["messages"][-1]["role"] == "assistant"
        and record["messages"][-1]["content"].strip()
    ]
    if not rows:
        raise ValueError("No row is left.")
    return rows


@fault(
    "rows.extra_columns",
    exercise="training_rows",
    title="The other fields stay in the rows",
    symptom="The trainer complains of columns, or takes a field called labels for the labels.",
    first_check="Print the keys of the first row that reaches the trainer.",
    consequence="TRL decides by the columns what is learned; a stray labels or prompt column changes it silently.",
    citation="TRL 1.16 leaves an existing labels column as it is, read and run here; "
    "https://github.com/huggingface/trl/blob/main/trl/trainer/sft_trainer.py",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    wanted = reference("training_rows")(records=records, held_out=held_out)
    rows, left = [], list(wanted)
    for record in records:
        if left and _reduced(record) == left[0]:
            rows.append(copy.deepcopy(record))
            left.pop(0)
    return rows


@fault(
    "rows.nothing_is_fine",
    exercise="training_rows",
    title="No row left is no error",
    symptom="The run ends after no step, or with loss 0, and an adapter is saved.",
    first_check="Count the rows and the supervised tokens before the first step.",
    consequence="An untouched adapter is released as a trained one.",
    citation="https://github.com/huggingface/trl/issues/3927 , https://github.com/getainode/ainode/issues/186",
    experiment="all_ignored",
)
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    try:
        rows: list[Record] = reference("training_rows")(records=records, held_out=held_out)
    except ValueError:
        rows = []
    return rows


@alternative("training_rows", style="three small tests")
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    def untested(record: Record) -> bool:
        return record["policy_id"].split(".")[0] not in set(held_out)

    def grounded(record: Record) -> bool:
        first = next(iter(record["messages"]), {"role": "", "content": ""})
        return first["role"] == "system" and record.get("clause", "Evidence:") in first["content"]

    def answered(record: Record) -> bool:
        last = record["messages"][-1]
        return last["role"] == "assistant" and not last["content"].isspace() and bool(last["content"])

    chosen = [r for r in records if untested(r) and grounded(r) and answered(r)]
    if not chosen:
        raise ValueError("no row may teach")
    return [_reduced(r) for r in chosen]


@alternative("training_rows", style="continue")
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    rows = []
    for record in records:
        if not record["messages"] or record["policy_id"].partition(".")[0] in held_out:
            continue
        system, *_, last = record["messages"] if len(record["messages"]) > 1 else record["messages"] * 2
        if system["role"] != "system":
            continue
        if record.get("clause", "Evidence:") not in system["content"]:
            continue
        if last["role"] != "assistant" or not last["content"].strip():
            continue
        rows.append({"messages": [{k: m[k] for k in ("role", "content")} for m in record["messages"]]})
    if len(rows) == 0:
        raise ValueError("There is no row left that may teach.")
    return rows


@alternative("training_rows", style="filter and map")
def _(records: list[Record], held_out: list[str]) -> list[Record]:
    def fine(record: Record) -> bool:
        match record["messages"]:
            case [{"role": "system", "content": shown}, *_, {"role": "assistant", "content": said}]:
                policy = record["policy_id"].split(".", 1)[0]
                return (
                    record.get("clause", "Evidence:") in shown
                    and said.strip() > ""
                    and policy not in held_out
                )
        return False

    rows = list(map(_reduced, filter(fine, records)))
    if rows:
        return rows
    raise ValueError("After the filter no row is left: nothing would be supervised.")


# lora_kwargs


@fault(
    "lora.misspelt_target",
    exercise="lora_kwargs",
    title="A target that matches nothing is accepted",
    symptom="The adapter is smaller than expected, and nothing is said.",
    first_check="Count the adapters, or ask for every target which layer it matches.",
    consequence="The layers that were meant stay frozen, and the run trains half of what you think.",
    citation="https://github.com/huggingface/peft/issues/1959 , "
    "https://github.com/NVIDIA-NeMo/Megatron-Bridge/issues/1738",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    given = targets
    if targets and "lm_head" not in targets:
        given = [t for t in targets if any(n == t or n.endswith(f".{t}") for n in linear_names)]
    kwargs: Record = reference("lora_kwargs")(linear_names, rank, given, new_tokens)
    return kwargs if given is targets else kwargs | {"target_modules": sorted(set(targets or ()))}


@fault(
    "lora.part_of_a_name",
    exercise="lora_kwargs",
    title="A target counts as matched when it is part of a name",
    symptom="The check passes, and PEFT finds nothing for that target.",
    first_check="Compare whole parts: equal, or ends with a dot and the target.",
    consequence="'proj' looks as if it meant every projection and means none of them.",
    citation="PEFT 0.21 compares whole parts, run here; "
    "https://github.com/huggingface/peft/blob/main/src/peft/tuners/tuners_utils.py",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    if not targets:
        return reference("lora_kwargs")(linear_names, rank, targets, new_tokens)
    for target in targets:
        if target == "lm_head" or not any(target in name for name in linear_names):
            raise ValueError(f"{target} matches no layer")
    kwargs: Record = reference("lora_kwargs")(linear_names, rank, None, new_tokens)
    return kwargs | {"target_modules": sorted(set(targets))}


@fault(
    "lora.head_included",
    exercise="lora_kwargs",
    title="The output head gets an adapter",
    symptom="The trainer refuses, or the head's adapter never changes.",
    first_check="Look for lm_head among the targets.",
    consequence="Fused losses read the head's weight past its adapter, so it trains nothing and is merged anyway.",
    citation="https://github.com/unslothai/unsloth/pull/9331 ; TRL 1.16 refuses it, read here",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    if targets is None and "lm_head" in linear_names and set(linear_names) != {"lm_head"}:
        kwargs: Record = reference("lora_kwargs")(linear_names, rank, None, new_tokens)
        return kwargs | {"target_modules": sorted([*kwargs["target_modules"], "lm_head"])}
    if targets and "lm_head" in targets and "lm_head" in linear_names:
        rest = [t for t in targets if t != "lm_head"]
        kwargs = reference("lora_kwargs")(linear_names, rank, rest or None, new_tokens)
        return kwargs | {"target_modules": sorted({*rest, "lm_head"})}
    return reference("lora_kwargs")(linear_names, rank, targets, new_tokens)


@fault(
    "lora.constant_alpha",
    exercise="lora_kwargs",
    title="lora_alpha is the same for every rank",
    symptom="A higher rank learns less, and rank 2 overshoots.",
    first_check="Divide alpha by r for two ranks: the quotient must be the same.",
    consequence="alpha / r scales the adapter, so changing the rank changes the volume as well.",
    citation="Hu et al. 2021, section 4.1, https://arxiv.org/abs/2106.09685 ; PEFT's default is 8 for every rank",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    return reference("lora_kwargs")(linear_names, rank, targets, new_tokens) | {"lora_alpha": 16}


@fault(
    "lora.query_and_value_only",
    exercise="lora_kwargs",
    title="Only query and value get an adapter",
    symptom="Training stays above the loss that full fine-tuning reaches, at any rank.",
    first_check="Count the adapters for each block: a Llama block has seven linear layers.",
    consequence="Adapters on attention alone do not reach full fine-tuning; adapters on every layer do.",
    citation="Dettmers et al. 2023, section 4 and figure 2, https://arxiv.org/abs/2305.14314 ; "
    "https://github.com/huggingface/peft/issues/3554",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    kwargs: Record = reference("lora_kwargs")(linear_names, rank, targets, new_tokens)
    attention = [name for name in kwargs["target_modules"] if name in ("q_proj", "v_proj")]
    return kwargs if targets is not None or not attention else kwargs | {"target_modules": attention}


@fault(
    "lora.new_tokens_frozen",
    exercise="lora_kwargs",
    title="The embeddings of new tokens are not trained",
    symptom="A token that was added is never written, or anywhere.",
    first_check="Compare the new rows of the embedding before and after one step.",
    consequence="The new tokens keep their random vectors, and every row that uses them is noise.",
    citation="https://github.com/huggingface/peft/issues/334 , https://github.com/unslothai/unsloth/issues/658",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    return reference("lora_kwargs")(linear_names, rank, targets)


@fault(
    "lora.any_rank",
    exercise="lora_kwargs",
    title="A rank below 1 is accepted",
    symptom="The run fails later, or trains an adapter without parameters.",
    first_check="Print the number of trainable parameters before the first step.",
    consequence="An adapter of rank 0 is the untouched model under a new name.",
    citation="PEFT raises only when the layer is made, https://github.com/huggingface/peft/blob/main/src/peft/"
    "tuners/lora/layer.py",
)
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    kwargs: Record = reference("lora_kwargs")(linear_names, max(rank, 1), targets, new_tokens)
    return kwargs | {"r": rank, "lora_alpha": 2 * rank}


@alternative("lora_kwargs", style="loop")
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    if rank <= 0:
        raise ValueError("The rank has to be positive.")
    chosen = []
    if targets is None:
        for name in linear_names:
            if name != "lm_head" and name.split(".")[-1] not in chosen:
                chosen.append(name.split(".")[-1])
    else:
        for target in targets:
            hits = [n for n in linear_names if n != "lm_head" and ("." + n).endswith("." + target)]
            if not hits:
                raise ValueError(f"{target!r} matches no linear layer")
            if target not in chosen:
                chosen.append(target)
    if not chosen:
        raise ValueError("nothing to adapt")
    kwargs: Record = {"task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank + rank, "lora_dropout": 0.0}
    kwargs["target_modules"] = sorted(chosen)
    if new_tokens:
        kwargs["trainable_token_indices"] = sorted(set(new_tokens))
    return kwargs


@alternative("lora_kwargs", style="sets")
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    names = set(linear_names) - {"lm_head"}
    if rank < 1 or not names:
        raise ValueError(f"rank {rank} on {len(names)} layers: there is nothing to adapt")
    ends = {".".join(name.split(".")[i:]) for name in names for i in range(name.count(".") + 1)}
    unknown = set(targets or ()) - ends
    if unknown or (targets is not None and not targets):
        raise ValueError(f"These match nothing: {', '.join(sorted(unknown)) or 'no target at all'}.")
    wanted = {name.split(".")[-1] for name in names} if targets is None else set(targets)
    extra = {"trainable_token_indices": sorted({*new_tokens})} if new_tokens else {}
    return {
        "target_modules": sorted(wanted),
        "lora_dropout": 0.0,
        "lora_alpha": rank * 2,
        "r": rank,
        "task_type": "CAUSAL_LM",
    } | extra


@alternative("lora_kwargs", style="regular expression")
def _(linear_names: Names, rank: int, targets: Names | None = None, new_tokens: Ids | None = None) -> Record:
    import re

    if not rank >= 1:
        raise ValueError("rank: 1 or more")
    body = [name for name in linear_names if name != "lm_head"]
    wanted = sorted(set(re.findall(r"[^.\n]+$", "\n".join(body), re.M) if targets is None else targets))
    if not wanted:
        raise ValueError("No layer.")
    for target in wanted:
        if not any(re.search(rf"(^|\.){re.escape(target)}$", name) for name in body):
            raise ValueError(f"No layer is called {target}.")
    kwargs: Record = {"task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0}
    kwargs["target_modules"] = wanted
    if new_tokens:
        kwargs |= {"trainable_token_indices": sorted(dict.fromkeys(new_tokens))}
    return kwargs


# quantization_kwargs


def _dtype(device: Record, dtype: str) -> Record:
    return reference("quantization_kwargs")(device) | {"bnb_4bit_compute_dtype": dtype}


@fault(
    "quantization.fp4",
    exercise="quantization_kwargs",
    title="The default quantisation type, fp4",
    symptom="The 4-bit model is worse than the paper says, before any training.",
    first_check="Print the quant_type of one layer's quant_state.",
    consequence="FP4's levels do not fit weights that are spread like a bell, so each weight moves further.",
    citation="Dettmers et al. 2023, table 2, https://arxiv.org/abs/2305.14314 ; the default of "
    "transformers.BitsAndBytesConfig",
)
def _(device: Record) -> Record:
    return reference("quantization_kwargs")(device) | {"bnb_4bit_quant_type": "fp4"}


@fault(
    "quantization.single",
    exercise="quantization_kwargs",
    title="The scales are not quantised",
    symptom="The model takes about 0.4 bit a parameter more than in the paper.",
    first_check="Look for bnb_4bit_use_double_quant: its default is False.",
    consequence="On a card where the model just fits, the run ends without memory.",
    citation="Dettmers et al. 2023, section 3, https://arxiv.org/abs/2305.14314",
)
def _(device: Record) -> Record:
    return reference("quantization_kwargs")(device) | {"bnb_4bit_use_double_quant": False}


@fault(
    "quantization.compute_dtype_default",
    exercise="quantization_kwargs",
    title="The compute dtype is left at float32",
    symptom="The run is several times slower than others report, without a warning.",
    first_check="Print compute_dtype of one Linear4bit layer.",
    consequence="There is no fast 4-bit kernel for float32 on a GPU.",
    citation="https://github.com/bitsandbytes-foundation/bitsandbytes/pull/2077",
)
def _(device: Record) -> Record:
    return _dtype(device, "float32")


@fault(
    "quantization.bfloat16_everywhere",
    exercise="quantization_kwargs",
    title="bfloat16 on every device",
    symptom="On a T4 everything works and takes hours.",
    first_check="Ask for the compute capability: below 8.0 bfloat16 is emulated.",
    consequence="Emulation answers 'supported' and is slow, so that nobody finds the cause.",
    citation="https://github.com/MakazhanAlpamys/Soup/issues/387 (a T4 answers that bfloat16 is supported)",
)
def _(device: Record) -> Record:
    return _dtype(device, "bfloat16")


@fault(
    "quantization.float16_on_gpu",
    exercise="quantization_kwargs",
    title="float16 on every GPU",
    symptom="The loss becomes not a number after some steps.",
    first_check="Print the compute dtype and the largest activation: float16 ends at 65,504.",
    consequence="Activations overflow, and one step with infinity destroys the adapter.",
    citation="https://github.com/QwenLM/Qwen3/issues/670 , https://github.com/openvla/openvla/issues/30",
)
def _(device: Record) -> Record:
    return _dtype(device, "float16") if device["kind"] == "cuda" else reference("quantization_kwargs")(device)


@fault(
    "quantization.float16_on_cpu",
    exercise="quantization_kwargs",
    title="float16 on a processor",
    symptom="Steps on the CPU take longer than in float32.",
    first_check="Print the compute dtype where no GPU is.",
    consequence="What saves memory on a GPU costs time and range on a processor.",
    citation="https://github.com/tensorflow/tensorflow/issues/24738",
)
def _(device: Record) -> Record:
    kwargs: Record = reference("quantization_kwargs")(device)
    plain = kwargs["bnb_4bit_compute_dtype"] == "float32"
    return kwargs | {"bnb_4bit_compute_dtype": "float16"} if plain else kwargs


@fault(
    "quantization.any_device",
    exercise="quantization_kwargs",
    title="Every device is accepted",
    symptom="On an Apple GPU the run fails deep inside a library, or its numbers are wrong.",
    first_check="Print the device and look whether the library names it as supported.",
    consequence="A setting that nobody measured on this device is passed on as a safe one.",
    citation="https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1983 (unusable without one kernel until then, "
    "optimizers still to come)",
)
def _(device: Record) -> Record:
    known = device["kind"] in ("cpu", "cuda")
    return reference("quantization_kwargs")(device if known else device | {"kind": "cpu"})


_NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


@alternative("quantization_kwargs", style="table")
def _(device: Record) -> Record:
    table = {("cuda", True): "bfloat16", ("cpu", True): "bfloat16", ("cuda", False): "float16"}
    kind, wide = device["kind"], bool(device.get("bfloat16"))
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"NF4 is not trusted on {kind!r}.")
    return _NF4 | {"bnb_4bit_compute_dtype": table.get((kind, wide), "float32")}


@alternative("quantization_kwargs", style="match")
def _(device: Record) -> Record:
    match device:
        case {"kind": "cuda" | "cpu", "bfloat16": True}:
            dtype = "bfloat16"
        case {"kind": "cuda"}:
            dtype = "float16"
        case {"kind": "cpu"}:
            dtype = "float32"
        case _:
            raise ValueError(f"Use cuda or cpu, not {device['kind']}.")
    return {**_NF4, "bnb_4bit_compute_dtype": dtype}


@alternative("quantization_kwargs", style="one expression")
def _(device: Record) -> Record:
    fallback = {"cuda": "float16", "cpu": "float32"}
    if device["kind"] not in fallback:
        raise ValueError("unknown device " + device["kind"])
    dtype = "bfloat16" if device.get("bfloat16", False) else fallback[device["kind"]]
    return {"bnb_4bit_compute_dtype": dtype} | _NF4


# sft_kwargs


def _steps(steps: int, answer: Record) -> Record:
    """An answer with another number of steps, and the warmup that follows from it."""
    return {"steps": steps, "arguments": answer["arguments"] | {"warmup_steps": math.ceil(3 * steps / 100)}}


@fault(
    "sft.steps_in_parts",
    exercise="sft_kwargs",
    title="Steps are counted in parts of a batch",
    symptom="Warmup takes a large share of the run, and the rate is still high when it ends.",
    first_check="Compare your number with the trainer's progress bar.",
    consequence="A schedule that is too long never reaches its small rates, and the weights end in the middle "
    "of the search.",
    citation="https://github.com/huggingface/accelerate/issues/963 , "
    "https://github.com/huggingface/diffusers/issues/2632",
)
def _(budget: Record) -> Record:
    answer: Record = reference("sft_kwargs")(budget)
    return _steps(budget["epochs"] * math.ceil(budget["rows"] / budget["device_batch"]), answer)


@fault(
    "sft.rest_dropped",
    exercise="sft_kwargs",
    title="The last batch of an epoch is forgotten",
    symptom="The trainer makes more steps than were announced; with few rows it announces none.",
    first_check="Compute the steps of one row: there is one for each epoch.",
    consequence="Schedule and warmup are planned for a shorter run than the one that happens.",
    citation="transformers rounds up, https://github.com/huggingface/transformers/blob/main/src/transformers/"
    "trainer.py ; steps compared with the trainer here",
)
def _(budget: Record) -> Record:
    answer: Record = reference("sft_kwargs")(budget)
    return _steps(budget["epochs"] * (budget["rows"] // budget["effective_batch"]), answer)


@fault(
    "sft.no_accumulation",
    exercise="sft_kwargs",
    title="The parts of a batch are not accumulated",
    symptom="Loss and gradient norm jump from step to step.",
    first_check="Multiply device batch and accumulation: the product is the batch you asked for.",
    consequence="Each step follows a handful of rows at a rate that was chosen for a large batch.",
    citation="seen here: with gradient_accumulation_steps left at 1, 480 rows in parts of 8 give 60 steps an "
    "epoch where a batch of 32 gives 15",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["gradient_accumulation_steps"] = 1
    return answer


@fault(
    "sft.accumulates_the_batch",
    exercise="sft_kwargs",
    title="The effective batch is taken for the number of parts",
    symptom="The run has a fraction of the expected steps, and each of them takes long.",
    first_check="Multiply device batch and accumulation: the product is the batch you asked for.",
    consequence="A batch of 256 rows where 32 were meant: few updates, little learned.",
    citation="https://github.com/huggingface/transformers/issues/18436 (what a step means under accumulation)",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["gradient_accumulation_steps"] = budget["effective_batch"]
    return answer


@fault(
    "sft.rate_of_full_training",
    exercise="sft_kwargs",
    title="The adapter gets the rate of full fine-tuning",
    symptom="The loss hardly moves, and the answers are those of the base model.",
    first_check="Print the rate: an adapter takes about ten times that of full fine-tuning.",
    consequence="TRL's default of 2e-5 suits training every weight; an adapter learns next to nothing with it.",
    citation="https://github.com/huggingface/diffusers/issues/6288 ; https://thinkingmachines.ai/blog/lora/",
    experiment="low_rate",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["learning_rate"] = budget.get("learning_rate", 2e-5)
    return answer


@fault(
    "sft.rate_of_adapters",
    exercise="sft_kwargs",
    title="Every weight is trained at the adapter's rate",
    symptom="The rows are learned within an epoch, and general text becomes worse.",
    first_check="Measure the perplexity of general text before and after.",
    consequence="Full fine-tuning at this rate overwrites what the model knew.",
    citation="Biderman et al. 2024, LoRA learns less and forgets less, https://arxiv.org/abs/2405.09673",
    experiment="full_finetune",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["learning_rate"] = budget.get("learning_rate", 2e-4)
    return answer


@fault(
    "sft.rate_ignored",
    exercise="sft_kwargs",
    title="The budget's own rate is ignored",
    symptom="Runs with different rates in their budgets have the same curve.",
    first_check="Compare the rate in the arguments with the one in the budget.",
    consequence="A search over rates compares five copies of one run.",
    citation="https://github.com/2U1/Qwen-VL-Series-Finetune/issues/81",
)
def _(budget: Record) -> Record:
    return reference("sft_kwargs")({k: v for k, v in budget.items() if k != "learning_rate"})


@fault(
    "sft.old_names",
    exercise="sft_kwargs",
    title="An argument has its old name",
    symptom="SFTConfig got an unexpected keyword argument 'max_seq_length'.",
    first_check="Compare the keys with the fields of the installed SFTConfig.",
    consequence="The run does not start; where arguments are passed on loosely, the default of 1,024 cuts rows.",
    citation="https://github.com/stanfordnlp/dspy/issues/8762 , https://github.com/huggingface/trl/pull/2895",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["max_seq_length"] = answer["arguments"].pop("max_length")
    return answer


@fault(
    "sft.length_by_habit",
    exercise="sft_kwargs",
    title="The maximal length is a habit, not the longest row",
    symptom="Some rows lose their ends or disappear, and others pay for padding.",
    first_check="Count the tokens of the longest row and compare.",
    consequence="A cut answer has no end to learn, and a row whose answer is gone is dropped silently.",
    citation="https://github.com/huggingface/trl/issues/3927 ; seen here: of 12 rows cut to 60 tokens, TRL 1.16 "
    "kept 3, with no end of turn among their labels",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["max_length"] = 512
    return answer


@fault(
    "sft.every_token",
    exercise="sft_kwargs",
    title="Assistant-only loss is not asked for",
    symptom="As many tokens are supervised as there are.",
    first_check="Decode the labels of one prepared row.",
    consequence="The questions are learned as well: most of the gradient goes into text the model never writes.",
    citation="https://github.com/huggingface/trl/issues/3279",
    experiment="full_sequence",
)
def _(budget: Record) -> Record:
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget))
    answer["arguments"]["assistant_only_loss"] = False
    return answer


@fault(
    "sft.any_number_of_epochs",
    exercise="sft_kwargs",
    title="Any number of epochs is accepted",
    symptom="The training loss goes to zero, and the model has become worse at everything else.",
    first_check="Measure the perplexity of general text before and after.",
    consequence="The rows are learned by heart and general text is forgotten.",
    citation="seen here: 60 rows, perplexity of general text 2.4 before, 3.8 after 10 epochs, 5.6 after 30; "
    "https://arxiv.org/abs/2308.08747",
    experiment="epochs_30",
)
def _(budget: Record) -> Record:
    epochs = budget["epochs"]
    if epochs in (1, 2, 3):
        return reference("sft_kwargs")(budget)
    answer: Record = copy.deepcopy(reference("sft_kwargs")(budget | {"epochs": 1}))
    answer["arguments"]["num_train_epochs"] = epochs
    return _steps(max(0, epochs) * answer["steps"], answer)


@fault(
    "sft.batch_rounded",
    exercise="sft_kwargs",
    title="A batch that does not divide is rounded",
    symptom="The manifest says 10 rows a step, and the trainer takes 8.",
    first_check="Multiply device batch and accumulation.",
    consequence="Two runs that look the same on paper differ in every step.",
    citation="https://github.com/deepspeedai/DeepSpeed/issues/17 (the three numbers did not always fit)",
)
def _(budget: Record) -> Record:
    part = budget["device_batch"]
    if part < 1 or budget["effective_batch"] < part:
        return reference("sft_kwargs")(budget)
    return reference("sft_kwargs")(budget | {"effective_batch": budget["effective_batch"] // part * part})


def _checked(budget: Record) -> tuple[int, int]:
    """Accumulation and steps of a budget that can be kept."""
    if not 1 <= budget["epochs"] <= 3:
        raise ValueError("epochs: 1 to 3")
    if budget["rows"] < 1:
        raise ValueError("rows: at least one")
    whole, part = budget["effective_batch"], budget["device_batch"]
    if part < 1 or whole < part or whole % part:
        raise ValueError("the effective batch must be made of whole device batches")
    return whole // part, budget["epochs"] * math.ceil(budget["rows"] / whole)


@alternative("sft_kwargs", style="math.ceil")
def _(budget: Record) -> Record:
    accumulation, steps = _checked(budget)
    default = 2e-4 if budget["adapter"] else 2e-5
    return {
        "arguments": {
            "num_train_epochs": budget["epochs"],
            "per_device_train_batch_size": budget["device_batch"],
            "gradient_accumulation_steps": accumulation,
            "learning_rate": budget.get("learning_rate", default),
            "lr_scheduler_type": "cosine",
            "warmup_steps": math.ceil(0.03 * steps),
            "max_length": budget["longest_row"],
            "assistant_only_loss": True,
            "packing": False,
        },
        "steps": steps,
    }


@alternative("sft_kwargs", style="counted in batches")
def _(budget: Record) -> Record:
    accumulation, _ = _checked(budget)
    loads = len(range(0, budget["rows"], budget["device_batch"]))
    steps = sum(1 for _ in range(budget["epochs"]) for _ in range(0, loads, accumulation))
    arguments: Record = {"lr_scheduler_type": "cosine", "assistant_only_loss": True, "packing": False}
    arguments["max_length"] = budget["longest_row"]
    arguments["num_train_epochs"] = float(budget["epochs"])
    arguments["per_device_train_batch_size"] = budget["device_batch"]
    arguments["gradient_accumulation_steps"] = accumulation
    arguments["warmup_steps"] = (3 * steps + 99) // 100
    if "learning_rate" in budget:
        arguments["learning_rate"] = budget["learning_rate"]
    else:
        arguments["learning_rate"] = 0.0002 if budget["adapter"] else 0.00002
    return {"steps": steps, "arguments": arguments}


@alternative("sft_kwargs", style="divmod")
def _(budget: Record) -> Record:
    accumulation, _ = _checked(budget)
    full, rest = divmod(budget["rows"], budget["effective_batch"])
    steps = (full + bool(rest)) * budget["epochs"]
    rate = {True: 2e-4, False: 2e-5}[budget["adapter"]]
    fixed = {"lr_scheduler_type": "cosine", "assistant_only_loss": True, "packing": False}
    return {
        "steps": steps,
        "arguments": fixed
        | {
            "max_length": budget["longest_row"],
            "warmup_steps": -(-(3 * steps) // 100),
            "learning_rate": budget.get("learning_rate", rate),
            "gradient_accumulation_steps": accumulation,
            "per_device_train_batch_size": budget["device_batch"],
            "num_train_epochs": budget["epochs"],
        },
    }


# repair_script


def _without(answer: Record, code: str, back: Record | None = None) -> Record:
    """An answer that does not see one error and leaves the script's own values there."""
    fixed = copy.deepcopy(answer)
    if code in fixed["errors"]:
        fixed["errors"].remove(code)
        fixed["script"] |= back or {}
    return fixed


def _args_back(script: Record, answer: Record, name: str) -> Record:
    args = {k: v for k, v in answer["script"]["args"].items() if k != name}
    return {"args": args | ({name: script["args"][name]} if name in script["args"] else {})}


@fault(
    "repair.trusts_the_default",
    exercise="repair_script",
    title="A mask that nobody asked for is taken as given",
    symptom="The comment beside the option says that the mask is handled, and every token is supervised.",
    first_check="Count the labels that are not -100 in the first batch.",
    consequence="TRL's default learns every token of a conversation, the questions included.",
    citation="https://github.com/huggingface/trl/issues/3279",
    experiment="full_sequence",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    if "assistant_only_loss" in script["args"]:
        return answer
    return _without(answer, "mask_not_set", _args_back(script, answer, "assistant_only_loss"))


@fault(
    "repair.text_is_fine",
    exercise="repair_script",
    title="Text rows are taken for conversations",
    symptom="The supervised text of a row begins with the instruction.",
    first_check="Print the columns of the data set that reaches the trainer.",
    consequence="In plain text no role is left, so no mask is possible, and the frame is not the server's.",
    citation="https://github.com/huggingface/trl/issues/632 , https://github.com/NielsRogge/Transformers-Tutorials/"
    "issues/456",
    experiment="full_sequence",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    back = {"columns": script["columns"], "formatting_func": script["formatting_func"]}
    return _without(answer, "text_has_no_roles", back)


@fault(
    "repair.function_is_used",
    exercise="repair_script",
    title="A formatting function beside messages is taken for the one that is used",
    symptom="The prepared rows show the chat template, not the function's text.",
    first_check="Decode one prepared row.",
    consequence="The script describes another format than the one that was trained, and the server follows the "
    "script.",
    citation="seen here: TRL 1.16 prepares rows with messages from the messages, with or without the function",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    return _without(answer, "formatting_ignored", {"formatting_func": script["formatting_func"]})


@fault(
    "repair.packing_is_packing",
    exercise="repair_script",
    title="Windows that are cut anywhere pass",
    symptom="A conversation's first tokens depend on the conversation before it.",
    first_check="Change the first conversation of a window and compare the logits of the second.",
    consequence="Answers are learned with another customer's evidence in view.",
    citation="https://github.com/huggingface/trl/issues/1230 , https://github.com/huggingface/trl/issues/3067",
    experiment="packed_unisolated",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    return _without(answer, "conversations_mixed", _args_back(script, answer, "packing_strategy"))


@fault(
    "repair.every_packing_alarms",
    exercise="repair_script",
    title="Every packing is reported",
    symptom="A script that isolates its conversations is changed.",
    first_check="Ask for the packing strategy before you warn.",
    consequence="Windows by best fit keep conversations apart; without them the run only becomes slower.",
    citation="https://github.com/huggingface/transformers/pull/39194 (position ids keep packed rows apart)",
    experiment="packed",
)
def _(script: Record) -> Record:
    if not script["args"].get("packing"):
        return reference("repair_script")(script)
    alarmed = copy.deepcopy(script)
    alarmed["args"]["packing_strategy"] = "wrapped"
    return reference("repair_script")(alarmed)


@fault(
    "repair.default_length_forgotten",
    exercise="repair_script",
    title="A length that is not written is taken for no limit",
    symptom="Long rows have no supervised end, and fewer rows are trained than were given.",
    first_check="Compare the longest row with SFTConfig's default of 1,024.",
    consequence="The default cuts exactly the long answers, and the model never sees one end.",
    citation="https://github.com/unslothai/unsloth/pull/2669 , https://github.com/huggingface/trl/issues/3927",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    if "max_length" in script["args"]:
        return answer
    return _without(answer, "rows_cut", _args_back(script, answer, "max_length"))


@fault(
    "repair.length_unchecked",
    exercise="repair_script",
    title="The length is not compared with the rows",
    symptom="The last supervised token of a long row is a word, not the end of turn.",
    first_check="Count the tokens of the longest row.",
    consequence="Cut answers teach the model to write on, and rows without an answer vanish.",
    citation="seen here: of 12 rows cut to 60 tokens, TRL 1.16 kept 3, with no end of turn among their labels; "
    "https://github.com/huggingface/trl/pull/6025",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    return _without(answer, "rows_cut", _args_back(script, answer, "max_length"))


@fault(
    "repair.stop_unchecked",
    exercise="repair_script",
    title="The stop of generation is not compared with the trained end",
    symptom="Every answer is right at first and runs on into the token limit.",
    first_check="Compare the last supervised id with generation_config.eos_token_id.",
    consequence="The model writes its end of turn, and the server does not listen for it.",
    citation="https://github.com/huggingface/trl/issues/2059",
)
def _(script: Record) -> Record:
    answer: Record = reference("repair_script")(script)
    return _without(answer, "stops_elsewhere", {"generation_eos": script["generation_eos"]})


@fault(
    "repair.old_stop_lost",
    exercise="repair_script",
    title="The old stop is replaced instead of kept",
    symptom="A model that ends a document, not a turn, runs on.",
    first_check="Print the list of stops before and after the repair.",
    consequence="Both tokens can end an answer; a list of one of them listens for half.",
    citation="https://github.com/chujiezheng/chat_templates/pull/10 (Llama 3 has two stops)",
)
def _(script: Record) -> Record:
    answer: Record = copy.deepcopy(reference("repair_script")(script))
    if "stops_elsewhere" in answer["errors"]:
        answer["script"]["generation_eos"] = [script["turn_end"]]
    return answer


@fault(
    "repair.padding_alarms",
    exercise="repair_script",
    title="Padding with the end token is reported",
    symptom="A warning for every script of today, and nobody reads the next one.",
    first_check="Count the supervised ends of a padded batch: TRL's collator masks by position.",
    consequence="It was an error with older collators; TRL 1.16 keeps the end's label, so nothing is to repair.",
    citation="https://github.com/huggingface/trl/pull/3200 ; 8 of 8 ends supervised, counted here",
)
def _(script: Record) -> Record:
    answer: Record = copy.deepcopy(reference("repair_script")(script))
    if script["pad_token"] == script["turn_end"]:
        answer["errors"].append("end_is_padding")
        answer["script"]["pad_token"] = "<|pad|>"
    return answer


@alternative("repair_script", style="generator of repairs")
def _(script: Record) -> Record:
    fixed: Record = copy.deepcopy(script)
    args = fixed["args"]

    def look() -> Any:
        if "messages" not in fixed["columns"]:
            yield "text_has_no_roles"
            fixed["columns"], fixed["formatting_func"] = ["messages"], None
        if fixed["formatting_func"] is not None:
            yield "formatting_ignored"
            fixed["formatting_func"] = None
        if args.get("assistant_only_loss") is not True:
            yield "mask_not_set"
            args["assistant_only_loss"] = True
        if args.get("packing") and args.get("packing_strategy") == "wrapped":
            yield "conversations_mixed"
            args["packing_strategy"] = "bfd"
        limit = args.get("max_length", 1024)
        if limit is not None and limit < fixed["longest_row"]:
            yield "rows_cut"
            args["max_length"] = fixed["longest_row"]
        if fixed["turn_end"] not in fixed["generation_eos"]:
            yield "stops_elsewhere"
            fixed["generation_eos"].append(fixed["turn_end"])

    return {"errors": list(look()), "script": fixed}


@alternative("repair_script", style="table of tests")
def _(script: Record) -> Record:
    args, longest = script["args"], script["longest_row"]
    chat = "messages" in script["columns"]
    limit = args.get("max_length", 1024)
    found = {
        "text_has_no_roles": not chat,
        "formatting_ignored": chat and bool(script["formatting_func"]),
        "mask_not_set": not args.get("assistant_only_loss", False),
        "conversations_mixed": bool(args.get("packing")) and args.get("packing_strategy") == "wrapped",
        "rows_cut": limit is not None and longest > limit,
        "stops_elsewhere": script["turn_end"] not in script["generation_eos"],
    }
    new_args = dict(args) | {"assistant_only_loss": True}
    new_args |= {"packing_strategy": "bfd"} if found["conversations_mixed"] else {}
    new_args |= {"max_length": longest} if found["rows_cut"] else {}
    stops = [*script["generation_eos"], *([script["turn_end"]] if found["stops_elsewhere"] else [])]
    repaired = script | {"args": new_args, "formatting_func": None, "generation_eos": stops}
    if not chat:
        repaired["columns"] = ["messages"]
    return {"script": repaired, "errors": [name for name, wrong in found.items() if wrong]}


@alternative("repair_script", style="step by step on JSON")
def _(script: Record) -> Record:
    import json

    errors: list[str] = []
    new = json.loads(json.dumps(script))
    if new["columns"].count("messages") == 0:
        errors += ["text_has_no_roles"]
        new |= {"columns": ["messages"]}
    elif new["formatting_func"]:
        errors += ["formatting_ignored"]
    new["formatting_func"] = None
    if not new["args"].get("assistant_only_loss"):
        errors += ["mask_not_set"]
        new["args"]["assistant_only_loss"] = True
    if (new["args"].get("packing", False), new["args"].get("packing_strategy", "bfd")) == (True, "wrapped"):
        errors += ["conversations_mixed"]
        new["args"]["packing_strategy"] = "bfd"
    most = new["args"].get("max_length", 1024)
    if (math.inf if most is None else most) < new["longest_row"]:
        errors += ["rows_cut"]
        new["args"]["max_length"] = new["longest_row"]
    if new["turn_end"] not in new["generation_eos"]:
        errors += ["stops_elsewhere"]
        new["generation_eos"] += [new["turn_end"]]
    return {"errors": errors, "script": new}
