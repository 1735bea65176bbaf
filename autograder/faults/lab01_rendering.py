"""Lab 01: mistakes of rendering, and right answers in other styles."""

import re
from typing import Any

from autograder.faults.registry import alternative, fault, reference

Chat = list[dict[str, str]]


def _stripped(messages: Chat) -> Chat:
    return [{**m, "content": m["content"].strip()} for m in messages]


def _closed_chatml(messages: Chat) -> str:
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


# render_chatml


@fault(
    "chatml.cue_missing",
    exercise="render_chatml",
    title="The generation prompt is not written",
    symptom="The model's answer begins with a header, or with the customer's next question.",
    first_check="Print the last 30 characters of the prompt: they must be the open assistant header.",
    consequence="Nobody opens the assistant's turn, so the model opens one itself, the customer's as likely as "
    "its own.",
    citation="Seen here: served without a cue, SmolLM2-135M-Instruct writes a header into its answer (lab 01)",
    experiment="no_cue",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    return reference("render_chatml")(messages, False, continue_final_message)


@fault(
    "chatml.cue_in_training",
    exercise="render_chatml",
    title="The generation prompt stands in training text as well",
    symptom="Every training row ends with an open assistant header.",
    first_check="Decode the last five tokens of one training row: the last marker must be an end of turn.",
    consequence="The model learns that an answer is followed by another assistant header, and goes on talking "
    "after it should stop.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/2859",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    return reference("render_chatml")(messages, not continue_final_message, continue_final_message)


@fault(
    "chatml.prefill_closed",
    exercise="render_chatml",
    title="The prefill is closed with an end marker",
    symptom="The model does not continue your words; it starts another turn.",
    first_check="Print the end of the prompt: no <|im_end|> may follow the words to continue.",
    consequence="The model takes your words for a finished answer and writes the next turn, often the customer's.",
    citation="Seen here: closed, SmolLM2-135M-Instruct changes sides; open, it ends the sentence (lab 01)",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    reference("render_chatml")(messages, add_generation_prompt, continue_final_message)
    return reference("render_chatml")(messages, add_generation_prompt)


@fault(
    "chatml.prefill_stripped",
    exercise="render_chatml",
    title="White space at the end of a prefill is cut off",
    symptom="'Sure, ' becomes 'Sure,': the continuation starts with another token than you meant.",
    first_check="Compare the last character of the prompt with the last character of the message.",
    consequence="The model continues words that you did not write, in tokens that your prefill never meant.",
    citation="Gemma 3's and Cohere's templates lose it, measured with transformers 5.23; the trimming behind it: "
    "https://github.com/huggingface/transformers/issues/35433",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    text = reference("render_chatml")(messages, add_generation_prompt, continue_final_message)
    return text.rstrip() if continue_final_message else text


@fault(
    "chatml.content_trimmed",
    exercise="render_chatml",
    title="The contents are trimmed",
    symptom="Code answers lose the indentation of their first line.",
    first_check="Render an answer that starts with four spaces and look for them.",
    consequence="The model learns answers that nobody wrote, and indented code comes out broken.",
    citation="https://github.com/huggingface/transformers/issues/35433",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    return reference("render_chatml")(_stripped(messages), add_generation_prompt, continue_final_message)


@fault(
    "chatml.default_system",
    exercise="render_chatml",
    title="A system message is invented where the chat has none",
    symptom="Every chat without a system message is about 20 tokens longer than its words.",
    first_check="Render a chat without a system message and search for the word 'helpful'.",
    consequence="The model is trained with an instruction that serving does not send, or the other way round.",
    citation="https://github.com/paiml/aprender/issues/3990 : 1 of 18 against 10 of 18 tasks, same weights",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": "You are a helpful assistant."}, *messages]
    return reference("render_chatml")(messages, add_generation_prompt, continue_final_message)


@fault(
    "chatml.line_break_missing",
    exercise="render_chatml",
    title="The line break after the end marker is missing",
    symptom="Token counts are off by one per turn against apply_chat_template.",
    first_check="Compare with apply_chat_template: the first difference is behind the first <|im_end|>.",
    consequence="Every header after the first stands where the model has never seen one.",
    citation="The end of the template is where trainers disagree: "
    "https://github.com/axolotl-ai-cloud/axolotl/pull/1054",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    text = reference("render_chatml")(messages, add_generation_prompt, continue_final_message)
    return text.replace("<|im_end|>\n", "<|im_end|>")


@fault(
    "chatml.end_doubled",
    exercise="render_chatml",
    title="The end marker stands twice at the end",
    symptom="The model emits an end of turn, a line break and a second end of turn.",
    first_check="Count the end markers: one per message.",
    consequence="A check for the marker at the very end misses it behind the line break and adds another: the "
    "model learns to write both.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/1054 ; TRL 1.16 does it to rendered text",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    text = reference("render_chatml")(messages, add_generation_prompt, continue_final_message)
    return text + "<|im_end|>" if messages and text.endswith("<|im_end|>\n") else text


@fault(
    "chatml.cue_beside_prefill",
    exercise="render_chatml",
    title="A cue and a prefill are rendered together",
    symptom="Two assistant headers in a row, or the prefill followed by an empty turn.",
    first_check="Ask for both at once: the answer must be an error that says to choose one.",
    consequence="The model sees a second assistant turn behind the words that you wanted continued.",
    citation="transformers refuses the pair since https://github.com/huggingface/transformers/pull/33198",
    experiment="prefill_and_cue",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    cue = "<|im_start|>assistant\n" if add_generation_prompt and continue_final_message else ""
    asked = add_generation_prompt and not continue_final_message
    return reference("render_chatml")(messages, asked, continue_final_message) + cue


@fault(
    "chatml.customer_continued",
    exercise="render_chatml",
    title="The customer's last message is left open",
    symptom="The model finishes the customer's sentence instead of answering it.",
    first_check="Ask to continue a chat that ends with the customer: it must be refused.",
    consequence="The model writes for the customer.",
    citation="Seen here: an open customer turn, and SmolLM2-135M-Instruct goes on in the customer's voice",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    if add_generation_prompt and continue_final_message:
        raise ValueError("choose one")
    text = _closed_chatml(messages)
    if continue_final_message:
        text = text.removesuffix("<|im_end|>\n")
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


@alternative("render_chatml", style="loop over pieces")
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    if continue_final_message:
        if add_generation_prompt:
            raise ValueError("Please choose one of the two options.")
        if len(messages) == 0 or messages[-1]["role"] != "assistant":
            raise ValueError("only the assistant can be continued")
    pieces: list[str] = []
    for number, message in enumerate(messages):
        pieces += ["<|im_start|>", message["role"], "\n", message["content"]]
        if not (continue_final_message and number == len(messages) - 1):
            pieces += ["<|im_end|>", "\n"]
    if add_generation_prompt:
        pieces.append("<|im_start|>assistant\n")
    return "".join(pieces)


@alternative("render_chatml", style="Jinja template")
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    from jinja2 import Environment

    if add_generation_prompt and continue_final_message:
        raise ValueError("choose one")
    if continue_final_message and [m["role"] for m in messages][-1:] != ["assistant"]:
        raise ValueError("not an assistant message")
    source = (
        "{%- for m in messages %}<|im_start|>{{ m.role }}{{ nl }}{{ m.content }}"
        "{% if not (loop.last and open) %}<|im_end|>{{ nl }}{% endif %}{% endfor %}"
        "{% if cue %}<|im_start|>assistant{{ nl }}{% endif %}"
    )
    template = Environment().from_string(source)
    return template.render(messages=messages, nl="\n", open=continue_final_message, cue=add_generation_prompt)


@alternative("render_chatml", style="last message apart, format strings")
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    if add_generation_prompt and continue_final_message:
        raise ValueError("choose one of the two")
    if not continue_final_message:
        cue = "<|im_start|>assistant\n" if add_generation_prompt else ""
        return f"{_closed_chatml(messages)}{cue}"
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("the last message is not the assistant's")
    return "{}<|im_start|>assistant\n{}".format(_closed_chatml(messages[:-1]), messages[-1]["content"])


# render_llama3


@fault(
    "llama3.bos_doubled",
    exercise="render_llama3",
    title="The beginning of text is written twice",
    symptom="Two ids of <|begin_of_text|> at the start of every row.",
    first_check="Count the special ids of the encoded prompt: one beginning of text.",
    consequence="Every position is shifted by one against serving, behind a token that the model never saw twice.",
    citation="https://github.com/huggingface/alignment-handbook/issues/127",
    experiment="doubled_bos",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    return "<|begin_of_text|>" + reference("render_llama3")(
        messages, add_generation_prompt, continue_final_message
    )


@fault(
    "llama3.bos_missing",
    exercise="render_llama3",
    title="The beginning of text is missing",
    symptom="The prompt starts with a header; answers get worse without an error.",
    first_check="Look at the first id of the encoded prompt.",
    consequence="The model was pretrained with that token at position 0 and never without it.",
    citation="https://github.com/huggingface/open-r1/pull/462",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    text = reference("render_llama3")(messages, add_generation_prompt, continue_final_message)
    return text.removeprefix("<|begin_of_text|>")


@fault(
    "llama3.one_line_break",
    exercise="render_llama3",
    title="The header ends with one line break, not two",
    symptom="The token after <|end_header_id|> is another one than in the vendor's encoding.",
    first_check="Encode a header: two line breaks are a single token, id 271.",
    consequence="The header ends in a token that the model never saw there.",
    citation="The vendor's format: https://github.com/meta-llama/llama-models/blob/main/models/llama3/chat_format.py",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    text = reference("render_llama3")(messages, add_generation_prompt, continue_final_message)
    return text.replace("<|end_header_id|>\n\n", "<|end_header_id|>\n")


@fault(
    "llama3.line_break_after_turn",
    exercise="render_llama3",
    title="A line break follows the end of a turn, as in ChatML",
    symptom="One token more per turn than the vendor's encoding.",
    first_check="Look behind the first <|eot_id|>: the next header must follow at once.",
    consequence="Every turn but the first starts one token late, behind a line break the model never saw there.",
    citation="A habit carried over from another family; the vendor's format: "
    "https://github.com/meta-llama/llama-models/blob/main/models/llama3/chat_format.py",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    text = reference("render_llama3")(messages, add_generation_prompt, continue_final_message)
    return text.replace("<|eot_id|>", "<|eot_id|>\n")


@fault(
    "llama3.content_trimmed",
    exercise="render_llama3",
    title="The contents are trimmed, as the hub's template does",
    symptom="An answer that starts with indented code loses the indentation.",
    first_check="Render an answer that starts with four spaces; compare with the vendor's encoder.",
    consequence="The model learns code without its first indentation; the vendor's own encoder keeps it.",
    citation="https://github.com/huggingface/transformers/issues/35433",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    return reference("render_llama3")(_stripped(messages), add_generation_prompt, continue_final_message)


@fault(
    "llama3.prefill_closed",
    exercise="render_llama3",
    title="The prefill is closed with <|eot_id|>",
    symptom="The model starts another turn instead of continuing your words.",
    first_check="Print the end of the prompt.",
    consequence="The answer counts as finished, and the model changes sides.",
    citation="Seen here with ChatML on SmolLM2-135M-Instruct (lab 01)",
)
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    reference("render_llama3")(messages, add_generation_prompt, continue_final_message)
    return reference("render_llama3")(messages, add_generation_prompt)


@alternative("render_llama3", style="loop")
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    if add_generation_prompt and continue_final_message:
        raise ValueError("Cue or prefill: choose one.")
    if continue_final_message and (not messages or messages[-1]["role"] != "assistant"):
        raise ValueError("The assistant did not write the last message.")
    text = "<|begin_of_text|>"
    for index, message in enumerate(messages):
        text += "<|start_header_id|>" + message["role"] + "<|end_header_id|>\n\n" + message["content"]
        if not continue_final_message or index < len(messages) - 1:
            text += "<|eot_id|>"
    if add_generation_prompt:
        text += "<|start_header_id|>assistant<|end_header_id|>\n\n"
    return text


@alternative("render_llama3", style="join of a comprehension")
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    if add_generation_prompt and continue_final_message:
        raise ValueError("choose one")
    if continue_final_message and [m["role"] for m in messages][-1:] != ["assistant"]:
        raise ValueError("continue an assistant message")
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    turns = [head.format(m["role"]) + m["content"] for m in messages]
    ends = "" if continue_final_message or not turns else "<|eot_id|>"
    body = "<|eot_id|>".join(turns) + ends
    return "<|begin_of_text|>" + body + (head.format("assistant") if add_generation_prompt else "")


@alternative("render_llama3", style="Jinja template of transformers")
def _(messages: Chat, add_generation_prompt: bool = False, continue_final_message: bool = False) -> str:
    from jinja2 import Environment

    if add_generation_prompt and continue_final_message:
        raise ValueError("choose one")
    if continue_final_message and (not messages or messages[-1]["role"] != "assistant"):
        raise ValueError("assistant?")
    source = (
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ gap }}"
        "{{ m.content }}{% if not (loop.last and open) %}<|eot_id|>{% endif %}{% endfor %}"
        "{% if cue %}<|start_header_id|>assistant<|end_header_id|>{{ gap }}{% endif %}"
    )
    return (
        Environment()
        .from_string(source)
        .render(messages=messages, gap="\n\n", open=continue_final_message, cue=add_generation_prompt)
    )


# render_mistral


@fault(
    "mistral.spaces_of_2023",
    exercise="render_mistral",
    title="The spaces stand where the copied template of 2023 put them",
    symptom="The first token of the answer differs from the vendor's: 'Yes' instead of '·Yes'.",
    first_check="Compare the ids of a short chat with mistral-common's.",
    consequence="The model is asked in a format that it did not learn, one token per turn at a time.",
    citation="https://github.com/mistralai/mistral-common/issues/3",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    text = reference("render_mistral")(messages, continue_final_message)
    return (
        text.replace("<s> [INST]", "<s>[INST]")
        .replace("[/INST] ", "[/INST]")
        .replace("</s> [INST]", "</s>[INST]")
    )


@fault(
    "mistral.end_missing",
    exercise="render_mistral",
    title="The end of an answer is not written",
    symptom="The model goes on after its answer, often with the next [INST].",
    first_check="Count </s>: one per finished answer.",
    consequence="The model never sees where an answer stops, so it does not learn to stop.",
    citation="https://github.com/lm-sys/FastChat/pull/2529",
    experiment="eot_masked",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    return reference("render_mistral")(messages, continue_final_message).replace("</s>", "")


@fault(
    "mistral.system_dropped",
    exercise="render_mistral",
    title="The system message is dropped, because the family has no system role",
    symptom="The evidence never reaches the model; answers are fluent and unfounded.",
    first_check="Search the rendered text for a word of the system message.",
    consequence="The model is asked to use evidence that it cannot see.",
    citation="https://github.com/huggingface/transformers/issues/26891",
    experiment="evidence_truncated",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    reference("render_mistral")(messages, continue_final_message)
    return reference("render_mistral")([m for m in messages if m["role"] != "system"], continue_final_message)


@fault(
    "mistral.system_as_turn",
    exercise="render_mistral",
    title="The system message gets an [INST] of its own",
    symptom="Two [INST] in a row at the start.",
    first_check="Count [INST]: one per customer message.",
    consequence="The model sees a question that was never answered, and then another one.",
    citation="Templates made by hand disagree on it: https://github.com/hiyouga/LlamaFactory/issues/6393",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    text = reference("render_mistral")(messages, continue_final_message)
    if messages[0]["role"] != "system" or not messages[0]["content"]:
        return text
    system = messages[0]["content"]
    return text.replace(f" [INST] {system}\n\n", f" [INST] {system} [/INST] [INST] ", 1)


@fault(
    "mistral.system_repeated",
    exercise="render_mistral",
    title="The system text is put before every question",
    symptom="Long chats grow by the system text at each turn.",
    first_check="Count how often the system text occurs in a chat of two questions.",
    consequence="Training shows the instruction at every turn, serving only at the first: the format drifts "
    "with the length of the chat.",
    citation="Vendors differ on where it goes; v1 puts it first, later versions last: "
    "https://github.com/mistralai/cookbook/blob/main/concept-deep-dive/tokenization/chat_templates.md",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    text = reference("render_mistral")(messages, continue_final_message)
    if messages[0]["role"] != "system" or not messages[0]["content"]:
        return text
    first = f" [INST] {messages[0]['content']}\n\n"
    head, _, rest = text.partition(first)
    return head + first + rest.replace(" [INST] ", first)


@fault(
    "mistral.order_unchecked",
    exercise="render_mistral",
    title="The order of the turns is not checked",
    symptom="Two questions in a row are rendered without a word.",
    first_check="Render user, user: it must raise and name the message.",
    consequence="The model is trained on an order that no serving template produces; serving raises where "
    "training did not.",
    citation="https://github.com/unslothai/unsloth/issues/334",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    system = messages[0]["content"] + "\n\n" if messages and messages[0]["role"] == "system" else ""
    turns = [m for m in messages if m["role"] != "system"]
    if not turns:
        raise ValueError("There is no user message.")
    if continue_final_message and turns[-1]["role"] != "assistant":
        raise ValueError("Only an assistant message can be continued.")
    before, text = (system if system.strip("\n") else ""), "<s>"
    for m in turns:
        if m["role"] == "user":
            text, before = text + f" [INST] {before}{m['content']} [/INST]", ""
        else:
            text += f" {m['content']}</s>"
    return text.removesuffix("</s>") if continue_final_message else text


@fault(
    "mistral.index_without_system",
    exercise="render_mistral",
    title="The refusal counts without the system message",
    symptom="The error names message 1 where message 2 is out of turn.",
    first_check="Refuse a chat with a system message and look at the number.",
    consequence="Whoever repairs the data set looks at the wrong message of every row.",
    citation="An index into a shortened list; found by the same off-by-one in TRL's and others' reports: "
    "https://github.com/hiyouga/LlamaFactory/issues/9600",
)
def _(messages: Chat, continue_final_message: bool = False) -> str:
    try:
        return reference("render_mistral")(messages, continue_final_message)
    except ValueError as error:
        has_system = bool(messages) and messages[0]["role"] == "system"
        shifted = re.sub(r"\d+", lambda m: str(int(m.group()) - 1), str(error)) if has_system else str(error)
        raise ValueError(shifted) from None


@alternative("render_mistral", style="pairs")
def _(messages: Chat, continue_final_message: bool = False) -> str:
    skipped = 1 if messages and messages[0]["role"] == "system" else 0
    turns = messages[skipped:]
    if len(turns) == 0:
        raise ValueError("A user message is needed.")
    for position, (message, role) in enumerate(zip(turns, ["user", "assistant"] * len(turns), strict=False)):
        if message["role"] != role:
            raise ValueError(f"expected {role} at {position + skipped}")
    if continue_final_message and len(turns) % 2:
        raise ValueError("the last message is not the assistant's")
    contents = [m["content"] for m in turns]
    if skipped and messages[0]["content"]:
        contents[0] = messages[0]["content"] + "\n\n" + contents[0]
    pieces = [
        f" [INST] {content} [/INST]" if index % 2 == 0 else f" {content}</s>"
        for index, content in enumerate(contents)
    ]
    if continue_final_message:
        pieces[-1] = " " + contents[-1]
    return "<s>" + "".join(pieces)


@alternative("render_mistral", style="state machine")
def _(messages: Chat, continue_final_message: bool = False) -> str:
    expected, text, system, asked = "user", "<s>", "", False
    for index, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if index == 0 and role == "system":
            system = content
            continue
        if role != expected:
            raise ValueError(f"message {index} has role {role}, expected {expected}")
        if role == "user":
            lead = system + "\n\n" if system and not asked else ""
            text, expected, asked = text + " [INST] " + lead + content + " [/INST]", "assistant", True
        else:
            text, expected = text + " " + content + "</s>", "user"
    if not asked:
        raise ValueError("no user message")
    if continue_final_message:
        if expected == "assistant":
            raise ValueError("only the assistant is continued")
        text = text[: -len("</s>")]
    return text


@alternative("render_mistral", style="the course's Jinja template")
def _(messages: Chat, continue_final_message: bool = False) -> str:
    reference("render_mistral")(messages, continue_final_message)
    from jinja2 import Environment

    source = (
        "<s>{% for m in turns %}{% if m.role == 'user' %} [INST] {{ lead if loop.first else '' }}{{ m.content }}"
        " [/INST]{% else %} {{ m.content }}{% if not (loop.last and open) %}</s>{% endif %}{% endif %}{% endfor %}"
    )
    has_system = messages[0]["role"] == "system"
    lead = messages[0]["content"] + "\n\n" if has_system and messages[0]["content"] else ""
    turns = messages[1:] if has_system else messages
    return Environment().from_string(source).render(turns=turns, lead=lead, open=continue_final_message)


# split_frame


def _lengths(prompt: str, completion: str) -> dict[str, Any]:
    lengths = {"prompt_chars": len(prompt), "completion_chars": len(completion)}
    return {"prompt": prompt, "completion": completion, **lengths}


@fault(
    "frame.space_in_prompt",
    exercise="split_frame",
    title="The space before the answer is in the prompt",
    symptom="The prompt ends in a space token that training text never has there.",
    first_check="Encode prompt and completion apart and joined: the ids must be the same.",
    consequence="The model has to begin with 'Report' where it learned '·Report'.",
    citation="https://github.com/huggingface/trl/pull/4201",
)
def _(messages: Chat, frame: str) -> dict[str, Any]:
    split = reference("split_frame")(messages, frame)
    if frame != "plain":
        return split
    return _lengths(split["prompt"] + " ", split["completion"].removeprefix(" "))


@fault(
    "frame.bytes_counted",
    exercise="split_frame",
    title="The lengths are counted in bytes",
    symptom="The boundary is right in English and wrong in every other language.",
    first_check="Split an answer with an accented letter and compare with len().",
    consequence="The first letters of answers after an accented prompt count as prompt and are not learned.",
    citation="Seen here: one accented letter moves the boundary by one character",
)
def _(messages: Chat, frame: str) -> dict[str, Any]:
    split = reference("split_frame")(messages, frame)
    for part in ("prompt", "completion"):
        split[f"{part}_chars"] = len(split[part].encode())
    return split


@fault(
    "frame.header_in_completion",
    exercise="split_frame",
    title="The response header is part of the completion",
    symptom="Every answer of the trained model starts with '### Response:'.",
    first_check="Print the completion: it must start with the answer's own words.",
    consequence="The header is learned as if it were the answer, and reaches the customer.",
    citation="https://github.com/huggingface/trl/issues/1230",
)
def _(messages: Chat, frame: str) -> dict[str, Any]:
    split = reference("split_frame")(messages, frame)
    header = "### Response:\n" if frame == "alpaca" else "Assistant:"
    return _lengths(split["prompt"].removesuffix(header), header + split["completion"])


@fault(
    "frame.answer_trimmed",
    exercise="split_frame",
    title="The answer is trimmed",
    symptom="Indented answers lose their first spaces.",
    first_check="Split an answer that starts with two spaces.",
    consequence="The model learns answers that nobody wrote.",
    citation="https://github.com/huggingface/transformers/issues/35433",
)
def _(messages: Chat, frame: str) -> dict[str, Any]:
    split = reference("split_frame")(messages, frame)
    lead = " " if frame == "plain" else ""
    return _lengths(split["prompt"], lead + split["completion"].strip())


@fault(
    "frame.thread_cut",
    exercise="split_frame",
    title="A thread is cut to its first question and answer",
    symptom="Rows with several turns lose all but one, without a count.",
    first_check="Split a chat of two questions in the Alpaca frame: it must be refused.",
    consequence="Most of a multi-turn data set disappears silently.",
    citation="https://github.com/hiyouga/LlamaFactory/issues/2962",
)
def _(messages: Chat, frame: str) -> dict[str, Any]:
    if frame == "alpaca" and messages and messages[-1]["role"] == "assistant":
        keep = 3 if messages[0]["role"] == "system" else 2
        messages = messages[:keep]
    return reference("split_frame")(messages, frame)


@fault(
    "frame.question_accepted",
    exercise="split_frame",
    title="A chat without an answer is accepted",
    symptom="Rows whose completion is empty, or a customer's question.",
    first_check="Split a chat that ends with the customer: it must be refused.",
    consequence="The model is trained to answer with nothing, or with the customer's words.",
    citation="https://github.com/OptimalScale/LMFlow/issues/942",
)
def _(messages: Chat, frame: str) -> dict[str, Any]:
    if frame in ("alpaca", "plain") and messages and messages[-1]["role"] == "user":
        messages = [*messages, {"role": "assistant", "content": ""}]
    return reference("split_frame")(messages, frame)


@alternative("split_frame", style="two functions")
def _(messages: Chat, frame: str) -> dict[str, Any]:
    def alpaca() -> tuple[str, str]:
        rest = list(messages)
        parts = [rest.pop(0)["content"] + "\n\n"] if rest and rest[0]["role"] == "system" else []
        if [m["role"] for m in rest] != ["user", "assistant"]:
            raise ValueError("one instruction, one response")
        parts += ["### Instruction:\n", rest[0]["content"], "\n\n### Response:\n"]
        return "".join(parts), rest[1]["content"]

    def plain() -> tuple[str, str]:
        if not messages or messages[-1]["role"] != "assistant":
            raise ValueError("no answer at the end")
        names = {"system": "System", "user": "User", "assistant": "Assistant"}
        before = "".join(f"{names[m['role']]}: {m['content']}\n" for m in messages[:-1])
        return before + "Assistant:", " " + messages[-1]["content"]

    makers = {"alpaca": alpaca, "plain": plain}
    if frame not in makers:
        raise ValueError("unknown frame")
    return _lengths(*makers[frame]())


@alternative("split_frame", style="whole text, cut at the answer")
def _(messages: Chat, frame: str) -> dict[str, Any]:
    if frame not in {"alpaca", "plain"} or not messages or messages[-1]["role"] != "assistant":
        raise ValueError("wrong frame or no answer")
    answer = messages[-1]["content"]
    if frame == "plain":
        whole = "\n".join(f"{m['role'].title()}: {m['content']}" for m in messages)
        cut = len(whole) - len(answer) - 1
    else:
        roles = "".join(m["role"][0] for m in messages)
        if roles not in ("ua", "sua"):
            raise ValueError("not an instruction")
        system = messages[0]["content"] + "\n\n" if roles == "sua" else ""
        whole = f"{system}### Instruction:\n{messages[-2]['content']}\n\n### Response:\n{answer}"
        cut = len(whole) - len(answer)
    return _lengths(whole[:cut], whole[cut:])


@alternative("split_frame", style="match statement")
def _(messages: Chat, frame: str) -> dict[str, Any]:
    match (frame, [m["role"] for m in messages]):
        case ("alpaca", ["system", "user", "assistant"]):
            system, user, answer = (m["content"] for m in messages)
            return _lengths(f"{system}\n\n### Instruction:\n{user}\n\n### Response:\n", answer)
        case ("alpaca", ["user", "assistant"]):
            user, answer = (m["content"] for m in messages)
            return _lengths(f"### Instruction:\n{user}\n\n### Response:\n", answer)
        case ("plain", [*_, "assistant"]):
            lines = [f"{m['role'].capitalize()}: {m['content']}\n" for m in messages[:-1]]
            return _lengths("".join(lines) + "Assistant:", " " + messages[-1]["content"])
        case _:
            raise ValueError("cannot be framed")


# find_control_tokens


def _places(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = reference("find_control_tokens")(messages, markers)
    return places


@fault(
    "markers.first_only",
    exercise="find_control_tokens",
    title="Only the first place of each marker is found",
    symptom="One of two typed end markers stays in the text.",
    first_check="Search a message that holds the same marker twice.",
    consequence="The second marker opens or closes a turn that nobody took.",
    citation="https://github.com/huggingface/transformers/issues/29279",
)
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    seen: set[tuple[int, str]] = set()
    kept = []
    for place in _places(messages, markers):
        key = (place["message"], place["marker"])
        if key not in seen:
            kept.append(place)
        seen.add(key)
    return kept


@fault(
    "markers.customer_only",
    exercise="find_control_tokens",
    title="Only the customer's messages are searched",
    symptom="A marker in the evidence or in a generated answer passes.",
    first_check="Put a marker into a system message.",
    consequence="A training answer copied from a blog post ends its own turn in the middle.",
    citation="https://github.com/vllm-project/vllm/pull/31735",
)
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    return [place for place in _places(messages, markers) if place["role"] == "user"]


@fault(
    "markers.as_regex",
    exercise="find_control_tokens",
    title="The markers are read as regular expressions",
    symptom="[INST] is found at every I, N, S or T.",
    first_check="Search 'I N S T' for [INST]: nothing may be found.",
    consequence="Clean chats are refused by the hundred, and the check is turned off.",
    citation="Seen here: without re.escape, [INST] is a set of four letters",
)
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    _places(messages, markers)
    found = []
    for number, message in enumerate(messages):
        hits = [(m.start(), k) for k in markers for m in re.finditer(k, message["content"])]
        found += [
            {"message": number, "role": message["role"], "marker": k, "start": s} for s, k in sorted(hits)
        ]
    return found


@fault(
    "markers.any_case",
    exercise="find_control_tokens",
    title="Upper and lower case are not told apart",
    symptom="[inst] is reported, which no tokenizer takes for a marker.",
    first_check="Search for [INST] in a text with [inst].",
    consequence="Harmless messages are refused: <|IM_END|> is ordinary text to the tokenizer.",
    citation="Seen here: <|IM_END|> is 8 ordinary tokens to SmolLM2 (lab 01)",
)
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    _places(messages, markers)
    found = []
    for number, message in enumerate(messages):
        body = message["content"].lower()
        hits = [(m.start(), k) for k in markers for m in re.finditer(re.escape(k.lower()), body)]
        found += [
            {"message": number, "role": message["role"], "marker": k, "start": s} for s, k in sorted(hits)
        ]
    return found


@fault(
    "markers.empty_ignored",
    exercise="find_control_tokens",
    title="An empty marker is skipped without a word",
    symptom="A configuration with a missing marker looks as if it protected something.",
    first_check="Search with an empty marker: it must be refused.",
    consequence="A marker that was lost in the configuration is not looked for, and nobody is told.",
    citation="Seen here: a tokenizer without a BOS token gives the marker ''",
)
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    return _places(messages, [marker for marker in markers if marker])


@fault(
    "markers.unordered",
    exercise="find_control_tokens",
    title="The places are grouped by marker, not in reading order",
    symptom="The list jumps back and forth in the message.",
    first_check="Search a message with two different markers in turn.",
    consequence="Whoever cuts the text at these places cuts behind what was moved already.",
    citation="Seen here: a loop over markers outside the loop over places",
)
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    return sorted(_places(messages, markers), key=lambda p: (p["message"], markers.index(p["marker"])))


@alternative("find_control_tokens", style="one regular expression")
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    if any(not marker for marker in markers):
        raise ValueError("empty marker")
    if not markers:
        return []
    pattern = re.compile("|".join(re.escape(marker) for marker in markers))
    return [
        {"message": number, "role": message["role"], "marker": hit.group(), "start": hit.start()}
        for number, message in enumerate(messages)
        for hit in pattern.finditer(message["content"])
    ]


@alternative("find_control_tokens", style="startswith at every place")
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    if "" in set(markers):
        raise ValueError("nothing to look for")
    found = []
    for number, message in enumerate(messages):
        for start in range(len(message["content"])):
            for marker in markers:
                if message["content"].startswith(marker, start):
                    found.append(
                        {"message": number, "role": message["role"], "marker": marker, "start": start}
                    )
    return found


@alternative("find_control_tokens", style="str.split")
def _(messages: Chat, markers: list[str]) -> list[dict[str, Any]]:
    if not all(markers):
        raise ValueError("a marker is empty")
    found = []
    for number, message in enumerate(messages):
        for marker in markers:
            start = 0
            for piece in message["content"].split(marker)[:-1]:
                start += len(piece)
                found.append({"message": number, "role": message["role"], "marker": marker, "start": start})
                start += len(marker)
    return sorted(found, key=lambda place: (place["message"], place["start"]))
