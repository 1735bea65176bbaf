"""Mistral-7B-Instruct-v0.1: ordinary text markers, and spaces that are part of the contract."""

from chatcontract.families.contract import CHECK_MESSAGES, Difference, Family

_TEMPLATE = (
    CHECK_MESSAGES
    + """\
{%- if messages and messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] -%}
    {%- set turns = messages[1:] -%}
    {%- if not turns -%}
        {{- raise_exception("a system message alone has no turn to go into: add a user message") -}}
    {%- endif -%}
{%- else -%}
    {%- set system = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{{- '<s>' -}}
{%- for message in turns -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception("after an optional system message, user and assistant must take turns: turn "
            ~ loop.index0 ~ " is " ~ message['role']) -}}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {{- ' [INST] ' -}}
        {%- if loop.first and system -%}
            {{- system + '\\n\\n' -}}
        {%- endif -%}
        {{- message['content'] + ' [/INST]' -}}
    {%- elif message['content'] == '' -%}
        {{- raise_exception("turn " ~ loop.index0 ~ " is an empty answer: mistral-common refuses it too") -}}
    {%- else -%}
        {%- generation -%}
        {{- ' ' + message['content'] + '</s>' -}}
        {%- endgeneration -%}
    {%- endif -%}
{%- endfor -%}
"""
)

_INSTRUCT = (
    "https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/tokens/tokenizers/instruct.py"
)
_NORMALIZE = (
    "https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/protocol/instruct/normalize.py"
)

MISTRAL_V01 = Family(
    name="mistral_v01",
    title="Mistral 7B Instruct v0.1",
    bos="<s>",
    eos="</s>",
    terminator="</s>",
    special_tokens=("<s>", "</s>"),
    text_markers=("[INST]", "[/INST]"),
    generation_cue=None,
    answer_prefix=" ",
    training_template=_TEMPLATE,
    notes=(
        "There is no generation cue: add_generation_prompt changes nothing, because [/INST] already ends the "
        "prompt.",
        "mistral-common encodes every message apart and sentencepiece puts one space before each string. "
        "Written as one text, that is a space before every [INST] and before every answer.",
        "The answer's first token carries that space ('▁yes', not 'yes'), so the space is the model's to "
        "write and is supervised.",
        "[INST] and [/INST] are four and five ordinary tokens. If a user types them, even the vendor's own "
        "encoder gives the ids of a real marker: only a check before rendering can help.",
        "The system message goes before the first user message, with a blank line between. Mistral's v2 "
        "and v3 tokenizers put it before the last one.",
    ),
    sources=(
        _INSTRUCT,
        "https://github.com/mistralai/cookbook/blob/main/concept-deep-dive/tokenization/chat_templates.md",
        "https://github.com/mistralai/mistral-common/issues/3",
    ),
    differences=(
        Difference(
            name="control token typed by a user",
            example=(("user", "</s>"),),
            ours="The typed marker becomes the real end-of-sequence token.",
            vendor="The typed marker stays ordinary text: '▁</', 's', '>'.",
            why="sentencepiece never reads a control token from text; a Hugging Face tokenizer does. "
            "The same holds for <s> and <unk>.",
            source=_INSTRUCT,
        ),
        Difference(
            name="two messages of one role in a row",
            example=(("user", "Hi"), ("user", "Help")),
            ours="The template refuses.",
            vendor="The two are joined with a blank line into one turn.",
            why="Joining is a decision about the data. It belongs before rendering, where it can be seen.",
            source=_NORMALIZE,
        ),
        Difference(
            name="system message after the first turn",
            example=(("user", "Hi"), ("assistant", "Yes"), ("user", "Why"), ("system", "Be brief")),
            ours="The template refuses.",
            vendor="The text moves to the start of the first user turn.",
            why="The moved text would claim to have been there from the beginning.",
            source=_NORMALIZE,
        ),
    ),
)
