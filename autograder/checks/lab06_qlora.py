"""Lab 06: cases for the rows that may teach, the arguments of a QLoRA run, and a script with silent errors."""

import random
from typing import Any

from autograder.checks.chats import text
from autograder.checks.exercise import Case, Exercise

LAB = "06_qlora"

# training_rows

PHOTOS = "Damaged electronics must be reported within 48 hours with photos."
SCAN = "Late deliveries must be reported in a support ticket with the carrier scan."


def _chat(clause: str, *pairs: tuple[str, str]) -> list[dict[str, str]]:
    messages = [
        {"role": "system", "content": f"Use only the supplied policy evidence.\n\nEvidence: {clause}"}
    ]
    for question, answer in pairs:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def _record(policy: str, clause: str, messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    return {"id": f"row-{policy}", "policy_id": policy, "clause": clause, "messages": messages, **more}


GOOD = _record(
    "damaged_electronics",
    PHOTOS,
    _chat(PHOTOS, ("My kettle arrived broken.", "Report it within 48 hours with photos.")),
)
LATE = _record(
    "late_delivery",
    SCAN,
    _chat(SCAN, ("It is late.", "Open a support ticket."), ("With what?", "Attach the carrier scan.")),
)
LOCKER = GOOD | {"policy_id": "pickup_locker"}
SHOP = GOOD | {"policy_id": "pickup_locker.shop2"}
UNANSWERED = LATE | {"messages": LATE["messages"][:-1]}
BLANK = GOOD | {"messages": [*GOOD["messages"][:2], {"role": "assistant", "content": " \n"}]}
BARE = GOOD | {"messages": GOOD["messages"][1:]}
BY_THE_CUSTOMER = GOOD | {
    "messages": [{"role": "user", "content": GOOD["messages"][0]["content"]}, *GOOD["messages"][1:]]
}
OTHER_EVIDENCE = GOOD | {"clause": SCAN}
LISTED = {k: v for k, v in GOOD.items() if k != "clause"}
LISTED_BARE = LISTED | {
    "messages": [{"role": "system", "content": "You are friendly."}, *GOOD["messages"][1:]]
}
COMMENTED = GOOD | {"messages": [m | {"tokens": 9} for m in GOOD["messages"]], "source": "reviewed"}


def _rows(records: list[dict[str, Any]], *held_out: str) -> dict[str, Any]:
    return {"records": records, "held_out": list(held_out)}


def _public_rows() -> tuple[Case, ...]:
    return (
        Case(
            "a good row and one of a policy that is tested",
            _rows([LOCKER, GOOD], "pickup_locker"),
            "held out",
            "The test then measures memory, and nobody notices.",
        ),
        Case(
            "a shop's variant of a policy that is tested",
            _rows([GOOD, SHOP], "pickup_locker"),
            "held out",
            "The same policy under a longer name is the same leak.",
        ),
        Case(
            "two turns, and two turns without the last answer",
            _rows([LATE, UNANSWERED]),
            "answers",
            "The last thing such a row shows is a customer speaking: nothing is learned at its end.",
        ),
        Case(
            "an answer of white space",
            _rows([BLANK, GOOD]),
            "answers",
            "The model learns to answer with silence.",
        ),
        Case(
            "no system message, and evidence in the customer's mouth",
            _rows([BARE, BY_THE_CUSTOMER, GOOD]),
            "evidence",
            "The model learns to answer without evidence: to invent, or to believe what a customer claims.",
        ),
        Case(
            "the evidence of another policy",
            _rows([OTHER_EVIDENCE, LATE]),
            "evidence",
            "The answer cannot come from what the prompt shows.",
        ),
        Case(
            "rows of lab 03, which name no clause",
            _rows([LISTED, LISTED_BARE]),
            "evidence",
            "A filter that stops at a missing field throws away the rows that lab 03 accepted.",
        ),
        Case(
            "fields that the trainer must not see",
            _rows([COMMENTED]),
            "plain rows",
            "TRL decides by the columns what kind of data it has.",
        ),
        Case("no row is left", _rows([LOCKER, BLANK], "pickup_locker"), "refusals", says=("no row",)),
    )


def _private_rows(rng: random.Random) -> list[Case]:
    cases = [
        Case("nothing", _rows([]), "refusals", says=("no row",)),
        Case("no messages at all", _rows([GOOD | {"messages": []}]), "refusals", says=("no row",)),
        Case("only held out", _rows([LOCKER, SHOP], "pickup_locker"), "refusals", says=("no row",)),
        Case("only blank", _rows([BLANK]), "refusals", says=("no row",)),
        Case("empty messages among good rows", _rows([GOOD | {"messages": []}, LATE]), "answers"),
        Case("a tab is no answer", _rows([BLANK, LATE, UNANSWERED]), "answers"),
        Case("nothing held out", _rows([LOCKER, SHOP, LATE]), "held out"),
        Case("a name that only begins alike", _rows([LOCKER, GOOD], "pickup"), "held out"),
        Case("a variant is not its policy's name", _rows([LOCKER, SHOP], "pickup_locker.shop2"), "held out"),
        Case("listed", _rows([LISTED_BARE, LISTED, BARE]), "evidence"),
        Case("commented", _rows([COMMENTED, LATE | {"labels": [1]}]), "plain rows"),
    ]
    for _ in range(4):
        deadline = rng.randint(2, 90)
        clause = f"{rng.choice(('Sofas', 'Lamps', 'Phones'))} go back within {deadline} days, with the label."
        question, answer = text(rng), f"Send it back within {deadline} days. {text(rng, edges=False)}"
        good = _record(rng.choice(("sofa_return", "lamp_return")), clause, _chat(clause, (question, answer)))
        twice = good | {"messages": good["messages"] + good["messages"][1:]}
        tested = good | {"policy_id": f"tent_return.shop{rng.randint(1, 9)}"}
        lost = good | {"clause": clause.replace(str(deadline), str(deadline + 1))}
        unanswered = twice | {"messages": twice["messages"][:-1]}
        blank = twice | {"messages": [*twice["messages"][:-1], {"role": "assistant", "content": "\t "}]}
        spoken = good | {"messages": [good["messages"][0] | {"role": "user"}, *good["messages"][1:]]}
        mixed = [good, tested, lost, unanswered, blank, twice, spoken, LISTED]
        rng.shuffle(mixed)
        cases += [
            Case("held out", _rows([tested, good, twice], "tent_return", "sofa_bed"), "held out"),
            Case("evidence", _rows([lost, good, spoken]), "evidence"),
            Case("answers", _rows([unanswered, twice, blank]), "answers"),
            Case("all together", _rows(mixed, "tent_return"), "plain rows"),
        ]
    return cases


# lora_kwargs

BLOCK = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
LLAMA = [f"model.layers.{i}.{part}" for i in range(2) for part in (*BLOCK, *MLP)] + ["lm_head"]
GPT = [f"transformer.h.{i}.{part}" for i in range(2) for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc")]


def _lora(
    names: list[str], rank: int, targets: list[str] | None = None, new: list[int] | None = None
) -> dict[str, Any]:
    given: dict[str, Any] = {"linear_names": names, "rank": rank}
    return (
        given
        | ({} if targets is None else {"targets": targets})
        | ({} if new is None else {"new_tokens": new})
    )


def _public_lora() -> tuple[Case, ...]:
    return (
        Case(
            "every linear layer of two Llama blocks",
            _lora(LLAMA, 8),
            "targets",
            "With query and value alone, or with the head, another model is trained than you think.",
        ),
        Case("other names, another rank", _lora([*GPT, "lm_head"], 4), "scale", "alpha / r is the volume."),
        Case(
            "targets that all match",
            _lora(LLAMA, 16, ["v_proj", "q_proj", "v_proj"]),
            "targets",
            "A list written twice gives two manifests for one run.",
        ),
        Case(
            "a target of two parts",
            _lora(LLAMA, 2, ["mlp.up_proj", "down_proj"]),
            "targets",
            "PEFT matches whole parts from the end of a name.",
        ),
        Case(
            "two new tokens",
            _lora(LLAMA, 8, None, [49153, 49152]),
            "new tokens",
            "Their embeddings stay random: the adapter trains none of them.",
        ),
        Case(
            "one of two names is misspelt",
            _lora(LLAMA, 8, ["q_proj", "value_proj"]),
            "refusals",
            "PEFT skips the name without a word, and half of the layers stay frozen.",
            says=("value_proj",),
        ),
        Case(
            "a part of a name is no name",
            _lora(LLAMA, 8, ["proj"]),
            "refusals",
            "PEFT matches nothing with it.",
            says=("proj",),
        ),
        Case(
            "the output head is asked for",
            _lora(LLAMA, 8, ["q_proj", "lm_head"]),
            "refusals",
            says=("lm_head",),
        ),
        Case("rank 0", _lora(LLAMA, 0), "refusals", says=("rank",)),
    )


def _private_lora(rng: random.Random) -> list[Case]:
    cases = [
        Case("rank 1", _lora(LLAMA, 1), "scale"),
        Case("rank 128", _lora(GPT, 128), "scale"),
        Case("negative", _lora(LLAMA, -3), "refusals", says=("rank",)),
        Case("rank 0", _lora(GPT, 0, ["c_attn"]), "refusals", says=("rank",)),
        Case("only the head", _lora(["lm_head"], 8), "refusals"),
        Case("no layers", _lora([], 8), "refusals"),
        Case("no targets", _lora(LLAMA, 8, []), "refusals"),
        Case("the head", _lora([*GPT, "lm_head"], 8, ["lm_head", "c_fc"]), "refusals", says=("lm_head",)),
        Case("names without dots", _lora(["up", "down", "down"], 8), "targets"),
        Case("a full name", _lora(LLAMA, 8, ["model.layers.1.mlp.up_proj"]), "targets"),
        Case("no new tokens", _lora(LLAMA, 8, None, []), "new tokens"),
        Case("token 0", _lora(LLAMA, 8, ["q_proj"], [7, 0, 7]), "new tokens"),
        Case("not a part", _lora(LLAMA, 8, ["q_proj", "_proj"]), "refusals", says=("_proj",)),
        Case("not from the start", _lora(LLAMA, 8, ["self_attn"]), "refusals", says=("self_attn",)),
        Case("half a part", _lora(LLAMA, 8, ["lp.up_proj"]), "refusals", says=("lp.up_proj",)),
    ]
    for _ in range(4):
        parts = rng.sample(["attn.qkv", "attn.out", "ffn.w1", "ffn.w2", "ffn.w3", "mixer.gate"], 4)
        names = [f"blocks.{i}.{part}" for i in range(rng.randint(1, 3)) for part in parts] + ["lm_head"]
        rng.shuffle(names)
        last = [part.partition(".")[2] for part in parts]
        chosen = [*rng.sample(last, 2), parts[0]]
        rank = rng.choice((2, 4, 6, 12, 16, 32, 64))
        tokens = rng.sample(range(100, 999), 3)
        wrong = rng.choice(("qkv_proj", "w4", "o", "te", "w"))
        cases += [
            Case("all", _lora(names, rank), "targets"),
            Case("some", _lora(names, rank, chosen), "targets"),
            Case("other ranks", _lora(LLAMA, rank), "scale"),
            Case("new tokens", _lora(names, rank, last[:1], tokens), "new tokens"),
            Case("misspelt", _lora(names, rank, [last[0], wrong]), "refusals", says=(wrong,)),
        ]
    return cases


# quantization_kwargs


def _device(**device: Any) -> dict[str, Any]:
    return {"device": device}


def _public_quantization() -> tuple[Case, ...]:
    return (
        Case(
            "a GPU with bfloat16",
            _device(kind="cuda", bfloat16=True),
            "4 bit",
            "float16 has no room for large values: the loss can become not a number.",
        ),
        Case(
            "a T4",
            _device(kind="cuda", bfloat16=False, name="Tesla T4"),
            "compute dtype",
            "An emulated bfloat16 works, slowly, and says nothing.",
        ),
        Case("a processor with bfloat16", _device(kind="cpu", bfloat16=True), "compute dtype"),
        Case(
            "a processor without bfloat16",
            _device(kind="cpu", bfloat16=False),
            "compute dtype",
            "float16 overflows where float32 does not, and a processor gains no time with it.",
        ),
        Case("nothing is said of bfloat16", _device(kind="cuda"), "compute dtype"),
        Case(
            "an Apple GPU",
            _device(kind="mps", bfloat16=True),
            "refusals",
            "What nobody measured on a device is not a setting for it.",
            says=("mps",),
        ),
    )


def _private_quantization(rng: random.Random) -> list[Case]:
    name = rng.choice(("Tesla T4", "Quadro RTX 6000", "GTX 1660"))
    new = rng.choice(("A100", "L4", "H200", "RTX 3060"))
    other = rng.choice(("tpu", "xpu", "npu", "hpu"))
    return [
        Case("new GPU", _device(kind="cuda", bfloat16=True, name=new), "4 bit"),
        Case("new processor", _device(kind="cpu", bfloat16=True, cores=rng.randint(2, 64)), "4 bit"),
        Case("plain processor", _device(kind="cpu", bfloat16=False, cores=2), "compute dtype"),
        Case("silent processor", _device(kind="cpu"), "compute dtype"),
        Case("old GPU", _device(kind="cuda", bfloat16=False, name=name), "compute dtype"),
        Case("silent GPU", _device(kind="cuda", name=name), "compute dtype"),
        Case("GPU", _device(bfloat16=True, kind="cuda"), "compute dtype"),
        Case("Apple", _device(kind="mps"), "refusals", says=("mps",)),
        Case("another device", _device(kind=other, bfloat16=True), "refusals", says=(other,)),
        Case("no device", _device(kind=""), "refusals"),
        Case("capitals", _device(kind="GPU", bfloat16=True), "refusals", says=("gpu",)),
    ]


# sft_kwargs


def _budget(
    rows: int,
    epochs: int,
    effective: int,
    device: int,
    *,
    adapter: bool = True,
    longest: int = 111,
    **more: Any,
) -> dict[str, Any]:
    return {
        "budget": {
            "rows": rows,
            "epochs": epochs,
            "effective_batch": effective,
            "device_batch": device,
            "adapter": adapter,
            "longest_row": longest,
            **more,
        }
    }


def _public_sft() -> tuple[Case, ...]:
    return (
        Case(
            "480 rows, batches of 32 in four parts",
            _budget(480, 3, 32, 8),
            "steps",
            "Steps counted in parts make the warmup four times too long and leave the rate high at the end.",
        ),
        Case(
            "the last batch is not full",
            _budget(100, 2, 16, 4),
            "steps",
            "The rest of the rows is a step as well.",
        ),
        Case(
            "every weight is trained",
            _budget(1000, 1, 128, 8, adapter=False, longest=1400),
            "rate and schedule",
            "The adapter's rate on every weight wipes out what the model knew.",
        ),
        Case(
            "a rate of your own",
            _budget(480, 1, 8, 8, learning_rate=1e-3),
            "rate and schedule",
            "A small model takes more; the budget decides, not the default.",
        ),
        Case("one row, one step", _budget(1, 1, 8, 2, longest=30), "steps"),
        Case(
            "30 epochs",
            _budget(60, 30, 8, 8),
            "refusals",
            "On nano, 30 epochs of 60 rows raised the perplexity of general text from 2.4 to 5.6.",
            says=("epochs",),
        ),
        Case("no epoch", _budget(60, 0, 8, 8), "refusals", says=("epochs",)),
        Case(
            "a batch of 10 from parts of 4",
            _budget(60, 1, 10, 4),
            "refusals",
            "Rounded down, every step has 8 rows and nobody is told.",
            says=("batch",),
        ),
        Case("no rows", _budget(0, 1, 8, 8), "refusals", says=("rows",)),
    )


def _private_sft(rng: random.Random) -> list[Case]:
    cases = [
        Case("exactly full", _budget(64, 1, 32, 16), "steps"),
        Case("one more", _budget(65, 2, 32, 16), "steps"),
        Case("fewer rows than a batch", _budget(5, 3, 128, 1), "steps"),
        Case("parts of one", _budget(97, 1, 12, 1), "steps"),
        Case("one row at a time", _budget(33, 3, 1, 1), "steps"),
        Case("3 % is not whole", _budget(1000, 1, 8, 4), "rate and schedule"),
        Case("full", _budget(50, 2, 10, 5, adapter=False), "rate and schedule"),
        Case("full, own rate", _budget(50, 2, 10, 5, adapter=False, learning_rate=1e-5), "rate and schedule"),
        Case("long rows", _budget(50, 2, 10, 5, longest=4096), "what is learned"),
        Case("short rows", _budget(50, 1, 10, 10, longest=17), "what is learned"),
        Case("4 epochs", _budget(50, 4, 10, 5), "refusals", says=("epochs",)),
        Case("minus one", _budget(50, -1, 10, 5), "refusals", says=("epochs",)),
        Case("larger parts", _budget(50, 1, 4, 8), "refusals", says=("batch",)),
        Case("parts of nothing", _budget(50, 1, 4, 0), "refusals", says=("batch",)),
        Case("a batch of nothing", _budget(50, 1, 0, 4), "refusals", says=("batch",)),
        Case("minus rows", _budget(-3, 1, 4, 4), "refusals", says=("rows",)),
    ]
    for _ in range(4):
        part, parts, rows = rng.choice((1, 2, 4, 6, 8)), rng.randint(2, 16), rng.randint(200, 4000)
        epochs, longest = rng.randint(1, 3), rng.randint(40, 2000)
        rate = rng.choice((1e-4, 3e-4, 5e-4))
        cases += [
            Case("steps", _budget(rows, epochs, part * parts, part, longest=longest), "steps"),
            Case("adapter", _budget(rows, epochs, 8, 8), "rate and schedule"),
            Case("every weight", _budget(rows, 1, 8 * parts, 8, adapter=False), "rate and schedule"),
            Case("own rate", _budget(rows, 2, part * 3, part, learning_rate=rate), "rate and schedule"),
            Case("length", _budget(rows, epochs, part, part, longest=longest), "what is learned"),
            Case("epochs", _budget(rows, rng.randint(5, 40), part, part), "refusals", says=("epochs",)),
            Case("uneven", _budget(rows, 1, 4 * parts + 1, 4), "refusals", says=("batch",)),
        ]
    return cases


# repair_script


def _script(
    columns: list[str] | None = None,
    formatting_func: str | None = None,
    longest: int = 400,
    eos: list[str] | None = None,
    pad: str = "<|pad|>",
    **args: Any,
) -> dict[str, Any]:
    return {
        "script": {
            "columns": columns or ["messages"],
            "formatting_func": formatting_func,
            "args": args,
            "longest_row": longest,
            "pad_token": pad,
            "turn_end": "<|im_end|>",
            "generation_eos": ["<|im_end|>"] if eos is None else eos,
        }
    }


def _public_repair() -> tuple[Case, ...]:
    return (
        Case(
            "the well-known script",
            _script(["instruction", "output"], "to_text", packing=True, num_train_epochs=3),
            "what is learned",
            "Every token is learned, the questions included, whatever the comment beside the option says.",
        ),
        Case(
            "a conversation and TRL's defaults",
            _script(learning_rate=2e-4),
            "what is learned",
            "TRL learns every token of a conversation unless it is told otherwise.",
        ),
        Case(
            "a formatting function beside messages",
            _script(["messages"], "to_text", assistant_only_loss=True),
            "what is learned",
            "TRL 1.16 reads the messages and leaves the function's text aside without a word.",
        ),
        Case(
            "windows cut anywhere",
            _script(assistant_only_loss=True, packing=True, packing_strategy="wrapped"),
            "packing and length",
            "Rows see the rows before them and are cut at the border of a window.",
        ),
        Case(
            "long rows and the default length",
            _script(assistant_only_loss=True, longest=1500),
            "packing and length",
            "The answer's end is cut off, and rows whose answer is gone disappear.",
        ),
        Case(
            "a length that is too small",
            _script(assistant_only_loss=True, max_length=256),
            "packing and length",
            "The answer's end is cut off, and rows whose answer is gone disappear.",
        ),
        Case(
            "generation stops on another token",
            _script(assistant_only_loss=True, eos=["<|endoftext|>"]),
            "the stop",
            "The model says that it is done, and nobody listens: every answer runs into the limit.",
        ),
        Case(
            "packing by best fit, padding with the end",
            _script(assistant_only_loss=True, packing=True, pad="<|im_end|>"),
            "no false alarm",
            "A warning about what works costs the trust in the next one.",
        ),
    )


def _private_repair(rng: random.Random) -> list[Case]:
    good: dict[str, Any] = {"assistant_only_loss": True}
    wrapped: dict[str, Any] = {"packing": True, "packing_strategy": "wrapped"}
    cases = [
        Case("nothing wrong", _script(**good), "no false alarm"),
        Case("exact fit", _script(longest=1024, **good), "no false alarm"),
        Case("exact fit, own length", _script(longest=512, max_length=512, **good), "no false alarm"),
        Case("no limit", _script(longest=9000, max_length=None, **good), "no false alarm"),
        Case("strategy without packing", _script(packing_strategy="wrapped", **good), "no false alarm"),
        Case(
            "strategy, packing off",
            _script(packing=False, packing_strategy="wrapped", **good),
            "no false alarm",
        ),
        Case("best fit by name", _script(packing=True, packing_strategy="bfd", **good), "no false alarm"),
        Case("split", _script(packing=True, packing_strategy="bfd_split", **good), "no false alarm"),
        Case("pad", _script(pad="<|im_end|>", max_length=800, **good), "no false alarm"),
        Case("two stops", _script(eos=["<|endoftext|>", "<|im_end|>"], **good), "no false alarm"),
        Case("further columns", _script(["id", "messages"], **good), "no false alarm"),
        Case("no stop", _script(eos=[], **good), "the stop"),
        Case("one too long", _script(longest=1025, **good), "packing and length"),
        Case("wrapped and long", _script(longest=2000, **good, **wrapped), "packing and length"),
        Case("plain text", _script(["text"]), "what is learned"),
        Case("said no", _script(assistant_only_loss=False), "what is learned"),
        Case("function, no mask", _script(["messages"], "chat_to_text"), "what is learned"),
        Case("text and wrapped", _script(["text"], None, 3000, ["</s>"], **wrapped), "what is learned"),
    ]
    for _ in range(4):
        longest = rng.randint(300, 3000)
        rate = rng.choice((1e-4, 2e-4, 5e-5))
        stop = rng.choice(("</s>", "<|endoftext|>", "<|end_of_text|>"))
        text_columns = rng.choice(
            (["prompt_text"], ["instruction", "input", "output"], ["question", "answer"])
        )
        cases += [
            Case(
                "script",
                _script(
                    text_columns, "to_text", longest, [stop], "<|im_end|>", packing=True, learning_rate=rate
                ),
                "what is learned",
            ),
            Case("defaults", _script(longest=rng.randint(100, 1000), learning_rate=rate), "what is learned"),
            Case(
                "length",
                _script(longest=longest, max_length=longest - rng.randint(1, 200), **good),
                "packing and length",
            ),
            Case("stop", _script(eos=[stop], learning_rate=rate, **good), "the stop"),
            Case(
                "wrapped",
                _script(max_length=longest, longest=longest, **good, **wrapped),
                "packing and length",
            ),
            Case(
                "fine",
                _script(longest=longest, max_length=longest + rng.randint(0, 9), packing=True, **good),
                "no false alarm",
            ),
        ]
    return cases


EXERCISES = (
    Exercise(
        name="training_rows",
        lab=LAB,
        hints=(
            "For each record there are three reasons not to use it. Which fields do you have to look at for each?",
            "The policy is what stands before the first dot of the id. The clause must be part of the system "
            "message's text (`in` is enough). strip() shows whether there is anything in an answer.",
            "for each record: skip if its policy is held out; skip if there is no system message first, or the "
            "clause (or 'Evidence:') is not in it; skip if the last role is not assistant or its content is "
            "blank; otherwise add {'messages': role and content of each}. At the end: raise if nothing was added.",
        ),
        properties={"held out": 1, "answers": 1, "evidence": 1, "plain rows": 1, "refusals": 1},
        public=_public_rows(),
        private=_private_rows,
    ),
    Exercise(
        name="lora_kwargs",
        lab=LAB,
        hints=(
            "In 'model.layers.0.self_attn.q_proj', which part is the same in every layer?",
            'rpartition(".") splits at the last dot. PEFT takes a target as matched when a name equals it or ends '
            'with "." and the target.',
            "names = all but lm_head; error if the rank is below 1; targets = the last parts if none are given; "
            "for each target: error with its name if no name matches; error if no target is left; return the "
            "dict, with trainable_token_indices only if there are new tokens.",
        ),
        properties={"targets": 2, "scale": 1, "new tokens": 1, "refusals": 2},
        public=_public_lora(),
        private=_private_lora,
    ),
    Exercise(
        name="quantization_kwargs",
        lab=LAB,
        hints=(
            "Three of the four values never change. What does the fourth depend on?",
            "Without bfloat16 in hardware a GPU takes float16 and a processor float32. device.get('bfloat16') is "
            "None, so false, where nothing is said.",
            "error if the kind is neither cuda nor cpu; dtype = bfloat16 if the device has it, else float16 on "
            "cuda, else float32; return the four arguments.",
        ),
        properties={"4 bit": 1, "compute dtype": 2, "refusals": 1},
        public=_public_quantization(),
        private=_private_quantization,
    ),
    Exercise(
        name="sft_kwargs",
        lab=LAB,
        hints=(
            "How many rows does the model see before its weights move once? How often does that happen?",
            "accumulation = effective_batch // device_batch; a division rounded up is -(-a // b).",
            "check epochs, rows and batches; steps = epochs times rows / effective_batch rounded up; warmup = 3 "
            "hundredths of the steps rounded up; rate = the budget's own, else 2e-4 for an adapter, else 2e-5; "
            "return the arguments and the steps.",
        ),
        properties={"steps": 2, "rate and schedule": 2, "what is learned": 1, "refusals": 1},
        public=_public_sft(),
        private=_private_sft,
        tolerance=1e-9,
    ),
    Exercise(
        name="repair_script",
        lab=LAB,
        hints=(
            "Read the script as the trainer does: which text does it get, which tokens get a label, which are cut?",
            'args.get("max_length", 1024) is what TRL uses where the script says nothing; None means no limit.',
            "copy the script; for each of the six questions in their order: if the answer is an error, append its "
            "name and change the copy; return both.",
        ),
        properties={"what is learned": 2, "packing and length": 2, "the stop": 1, "no false alarm": 1},
        public=_public_repair(),
        private=_private_repair,
    ),
)
