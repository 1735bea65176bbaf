"""Frames from before chat templates: plain text headers, no special tokens, no end marker."""

from chatcontract.families.contract import CHECK_MESSAGES, Family

_ALPACA_TEMPLATE = (
    CHECK_MESSAGES
    + """\
{%- set turns = messages[1:] if messages and messages[0]['role'] == 'system' else messages -%}
{%- if not turns or turns[0]['role'] != 'user' or turns | length > 2
        or (turns | length == 2 and turns[1]['role'] != 'assistant') -%}
    {{- raise_exception("the Alpaca frame holds one instruction and one response: pass one user message and "
        ~ "at most one assistant message after it") -}}
{%- endif -%}
{%- if turns | length < messages | length -%}
    {{- messages[0]['content'] + '\\n\\n' -}}
{%- endif -%}
{{- '### Instruction:\\n' + turns[0]['content'] -}}
{%- if turns | length == 2 -%}
    {{- '\\n\\n### Response:\\n' -}}
    {%- generation -%}
    {{- turns[1]['content'] -}}
    {%- endgeneration -%}
{%- elif add_generation_prompt -%}
    {{- '\\n\\n### Response:\\n' -}}
{%- endif -%}
"""
)

_PLAIN_TEMPLATE = (
    CHECK_MESSAGES
    + """\
{%- for message in messages -%}
    {%- if not loop.first -%}
        {{- '\\n' -}}
    {%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        {{- 'Assistant:' -}}
        {%- generation -%}
        {{- ' ' + message['content'] -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message['role'] | capitalize + ': ' + message['content'] -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '\\nAssistant:' -}}
{%- endif -%}
"""
)

ALPACA = Family(
    name="alpaca",
    title="Alpaca headers",
    bos="",
    eos="",
    terminator="",
    special_tokens=(),
    text_markers=("### Instruction:", "### Response:"),
    generation_cue="\n\n### Response:\n",
    answer_prefix="",
    training_template=_ALPACA_TEMPLATE,
    notes=(
        "The frame has no end marker. Stanford's training script adds the tokenizer's own end-of-sequence "
        "token to every answer; without it nothing teaches a model to stop.",
        "One instruction, one response: a second turn has no place in it.",
        "The original preamble ('Below is an instruction ...') is a fixed system text. Here the row's own "
        "system message takes its place. The original has no line break after '### Response:'; most copies "
        "have one.",
    ),
    sources=("https://github.com/tatsu-lab/stanford_alpaca/blob/main/train.py",),
)

PLAIN = Family(
    name="plain",
    title="System / User / Assistant lines",
    bos="",
    eos="",
    terminator="",
    special_tokens=(),
    text_markers=("System:", "User:", "Assistant:"),
    generation_cue="\nAssistant:",
    answer_prefix=" ",
    training_template=_PLAIN_TEMPLATE,
    notes=(
        "The cue ends with the colon. The space belongs to the answer, because byte-pair tokenizers glue a "
        "space to the word after it: a prompt that ends in a space leaves a token behind that training never "
        "put there.",
        "Nothing ends a turn but the next 'User:', so nothing teaches a model to stop before it.",
        "Anthropic's hh-rlhf data is written in a frame of this kind, with 'Human:' for the user.",
    ),
    sources=("https://github.com/anthropics/hh-rlhf",),
)
