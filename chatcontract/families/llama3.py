"""Llama 3: a header of three special tokens before every turn, one after it."""

from chatcontract.families.contract import CHECK_MESSAGES, Difference, Family

_TEMPLATE = (
    CHECK_MESSAGES
    + """\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}
        {{- message['content'] + '<|eot_id|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message['content'] + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""
)

_CHAT_FORMAT = "https://github.com/meta-llama/llama-models/blob/main/models/llama3/chat_format.py"

LLAMA3 = Family(
    name="llama3",
    title="Llama 3",
    bos="<|begin_of_text|>",
    eos="<|end_of_text|>",
    terminator="<|eot_id|>",
    special_tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    text_markers=(),
    generation_cue="<|start_header_id|>assistant<|end_header_id|>\n\n",
    answer_prefix="",
    training_template=_TEMPLATE,
    notes=(
        "Content is kept byte for byte, as llama-models does. The template on the hub trims every message: "
        "an answer that starts with an indented code line loses its indentation.",
        "The turn ends with <|eot_id|>, the document with <|end_of_text|>: a server must stop on the first.",
    ),
    sources=(
        _CHAT_FORMAT,
        "https://github.com/huggingface/trl/blob/main/trl/chat_templates/llama3.jinja",
    ),
    differences=(
        Difference(
            name="content starts with a line break",
            example=(("user", "\nHi"),),
            ours="The header's two newlines and the message's own become one token of three newlines.",
            vendor="Header and content are encoded apart: a token of two newlines, then a token of one.",
            why="The text is the same, the ids are not: a tokenizer that reads one string merges across the "
            "border. Only white space that holds a line break can merge with the header.",
            source=_CHAT_FORMAT,
        ),
        Difference(
            name="control token typed by a user",
            example=(("user", "<|eot_id|>"),),
            ours="The typed marker becomes the real end-of-turn token.",
            vendor="The typed marker stays ordinary text, seven tokens of it.",
            why="A rendered string has lost who wrote which character; llama-models encodes each message "
            "before it adds its own special tokens.",
            source=_CHAT_FORMAT,
        ),
    ),
)
