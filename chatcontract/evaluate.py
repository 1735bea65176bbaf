"""Grounded rate, stop rate and latency of a model on held-out cases.

An answer is *grounded* when it states every fact that the case requires, makes no claim that the case
forbids, and contains no number that its prompt does not contain. It *stopped* when the model ended its
turn by itself before the token limit. Both are rules, not opinions: the same text always gets the same
verdict. What they cannot see: a wrong claim without a number that nobody listed as forbidden.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcontract.course_files import asset

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Chat = list[dict[str, str]]

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
EVIDENCE_MARK = "Evidence:"


@dataclass(frozen=True)
class Case:
    """One held-out question with what its answer must and must not say.

    Attributes:
        messages: the prompt, system and user turns, without an answer.
        required: for each required fact, the wordings that count as stating it.
        forbidden: wordings of claims that the evidence does not support.
    """

    id: str
    policy_id: str
    messages: Chat
    required: tuple[tuple[str, ...], ...]
    forbidden: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The customer's words."""
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "user")

    @property
    def evidence(self) -> str:
        """The policy text that the prompt shows, empty when it shows none."""
        text = "\n".join(m["content"] for m in self.messages if m["role"] == "system")
        return text.partition(EVIDENCE_MARK)[2].strip()


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: the answer without the end-of-turn token.
        stopped: the model ended its turn by itself.
        tokens: generated tokens, the end-of-turn token included.
    """

    text: str
    stopped: bool
    tokens: int


@dataclass(frozen=True)
class Verdict:
    """Why an answer is grounded or not; every list holds the wordings concerned."""

    found: tuple[str, ...]
    missing: tuple[str, ...]
    forbidden: tuple[str, ...]
    unsupported_numbers: tuple[str, ...]

    @property
    def grounded(self) -> bool:
        """Every required fact, no forbidden claim, no number from nowhere."""
        return not (self.missing or self.forbidden or self.unsupported_numbers)


@dataclass(frozen=True)
class Evaluation:
    """Answers to a list of cases with their verdicts.

    Attributes:
        seconds: wall time of generating all answers.
    """

    cases: tuple[Case, ...]
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def grounded_rate(self) -> float:
        """Share of grounded answers, 0 to 1."""
        return statistics.fmean(v.grounded for v in self.verdicts)

    @property
    def stop_rate(self) -> float:
        """Share of answers that ended by themselves, 0 to 1."""
        return statistics.fmean(a.stopped for a in self.answers)

    @property
    def mean_tokens(self) -> float:
        """Mean length of an answer in tokens."""
        return statistics.fmean(a.tokens for a in self.answers)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second over all batches."""
        return sum(a.tokens for a in self.answers) / self.seconds

    def summary(self) -> dict[str, float]:
        """The figures, rounded for a table."""
        return {
            "cases": len(self.cases),
            "grounded_rate": round(self.grounded_rate, 3),
            "stop_rate": round(self.stop_rate, 3),
            "mean_tokens": round(self.mean_tokens, 1),
            "seconds": round(self.seconds, 1),
        }

    def records(self) -> list[dict[str, Any]]:
        """One plain dict per case: question, evidence, answer and verdict."""
        return [
            {
                "id": case.id,
                "question": case.question,
                "evidence": case.evidence,
                "text": answer.text,
                "stopped": answer.stopped,
                "grounded": verdict.grounded,
                **asdict(verdict),
            }
            for case, answer, verdict in zip(self.cases, self.answers, self.verdicts, strict=True)
        ]


def load_cases(path: Path | None = None, limit: int | None = None) -> list[Case]:
    """Read evaluation cases, one JSON object per line.

    Args:
        path: default is the course's public held-out set.
        limit: keep the first so many cases.

    Raises:
        ValueError: a line is not JSON or lacks a field; says which line and what to do.
    """
    path = path or asset("shopflow/eval_public.jsonl")
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            cases.append(
                Case(
                    id=row["id"],
                    policy_id=row["policy_id"],
                    messages=row["messages"],
                    required=tuple(tuple(group) for group in row["required"]),
                    forbidden=tuple(row.get("forbidden", ())),
                )
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path.name}, line {number}: not an evaluation case ({type(error).__name__}: {error}). "
                "Correct or delete that line; the fields are id, policy_id, messages, required, forbidden."
            ) from error
    return cases[:limit]


def judge_answer(text: str, case: Case) -> Verdict:
    """Hold one answer against its case."""
    said = _normalised(text)
    found, missing = [], []
    for wordings in case.required:
        hit = next((w for w in wordings if _states(said, w)), None)
        found.append(hit) if hit else missing.append(wordings[0])
    allowed = {n for m in case.messages for n in _NUMBER.findall(m["content"])}
    allowed |= {n for group in case.required for wording in group for n in _NUMBER.findall(wording)}
    return Verdict(
        found=tuple(found),
        missing=tuple(missing),
        forbidden=tuple(w for w in case.forbidden if _states(said, w)),
        unsupported_numbers=tuple(dict.fromkeys(n for n in _NUMBER.findall(text) if n not in allowed)),
    )


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Chat],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> list[Answer]:
    """Answer every chat, greedily unless `temperature` is above 0, in batches padded on the left.

    The prompt is the tokenizer's chat template with the generation prompt; generation ends at the
    tokenizer's end-of-turn token. Answers come back in the order of `chats`.
    """
    prompts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
    return generate_from_text(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        progress=progress,
    )


def generate_from_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> list[Answer]:
    """Like `generate_answers`, from prompts that are rendered already; no special tokens are added."""
    import torch
    from tqdm import tqdm
    from transformers import GenerationConfig

    sampling = {"temperature": temperature, "top_p": top_p} if temperature > 0 else {}
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sampling,
    )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, Answer] = {}
    was_training = model.training
    model.eval()
    torch.manual_seed(seed)
    try:
        with tqdm(
            total=len(prompts), desc="answers", file=sys.stdout, disable=not progress, leave=False
        ) as bar:
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                batch = tokenizer(
                    [prompts[i] for i in chosen],
                    return_tensors="pt",
                    padding=True,
                    padding_side="left",
                    add_special_tokens=False,
                ).to(model.device)
                with torch.inference_mode():
                    output = model.generate(**batch, generation_config=settings)
                new = output[:, batch["input_ids"].shape[1] :]
                for index, ids in zip(chosen, new.tolist(), strict=True):
                    answers[index] = _answer(ids, tokenizer)
                bar.update(len(chosen))
    finally:
        model.train(was_training)
    return [answers[i] for i in range(len(prompts))]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cases: Iterable[Case],
    **generation: Any,
) -> Evaluation:
    """Answer the cases and judge every answer; `generation` goes to `generate_answers`."""
    cases = tuple(cases)
    began = time.perf_counter()
    answers = generate_answers(model, tokenizer, [c.messages for c in cases], **generation)
    seconds = time.perf_counter() - began
    verdicts = tuple(judge_answer(a.text, c) for a, c in zip(answers, cases, strict=True))
    return Evaluation(cases, tuple(answers), verdicts, seconds)


def request_latency_ms(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: Iterable[Case], **generation: Any
) -> list[float]:
    """Milliseconds from prompt to last token for each case alone, as for a single customer."""
    generation = {"progress": False, **generation}
    milliseconds = []
    for case in cases:
        began = time.perf_counter()
        generate_answers(model, tokenizer, [case.messages], **generation)
        milliseconds.append(1000 * (time.perf_counter() - began))
    return milliseconds


def _answer(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Answer:
    stopped = tokenizer.eos_token_id in ids
    if stopped:
        ids = ids[: ids.index(tokenizer.eos_token_id) + 1]
    text = tokenizer.decode(ids[:-1] if stopped else ids).strip()
    return Answer(text=text, stopped=stopped, tokens=len(ids))


def _normalised(text: str) -> str:
    straight = text.replace("\u2019", "'").replace("\u2011", "-").replace("\u00a0", " ")
    return " ".join(straight.casefold().split())


def _states(normalised_text: str, wording: str) -> bool:
    """Whole-word search, so that "5 days" is not found in "15 days"."""
    return re.search(rf"(?<!\w){re.escape(_normalised(wording))}(?!\w)", normalised_text) is not None
