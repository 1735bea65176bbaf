"""ChatML as SmolLM2 and Qwen use it, without a default system prompt."""

from chatcontract.families.contract import CHECK_MESSAGES, Difference, Family

_TEMPLATE = (
    CHECK_MESSAGES
    + """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}
        {{- message['content'] + '<|im_end|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message['content'] + '<|im_end|>' -}}
    {%- endif -%}
    {{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
)

CHATML = Family(
    name="chatml",
    title="ChatML (SmolLM2, Qwen)",
    bos="",
    eos="<|endoftext|>",
    terminator="<|im_end|>",
    special_tokens=("<|im_start|>", "<|im_end|>"),
    text_markers=(),
    generation_cue="<|im_start|>assistant\n",
    answer_prefix="",
    training_template=_TEMPLATE,
    notes=(
        "The newline after <|im_end|> is written by the template, never by the model: it is not supervised. "
        "TRL's Qwen2.5 training template supervises it, and the newline of the header too.",
        "No default system prompt: a chat without a system message renders without one. The templates that "
        "SmolLM2 and Qwen2.5 ship add a vendor prompt of their own.",
        "An answer that starts with two spaces shares a token with the header's line break in SmolLM2's "
        "vocabulary ('\\n ' is one token), so no mask of whole tokens holds exactly that answer.",
        "SmolLM2's vocabulary has no token for the control characters 04, 06, 13, 14, 16 and 1D "
        "(hexadecimal): they vanish. An answer that starts with one is left out of transformers' assistant "
        "mask, and so is every answer after it.",
        "A base model's tokenizer may end documents with <|endoftext|> while turns end with <|im_end|>: "
        "generation must stop on the second.",
    ),
    sources=(
        "https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "https://github.com/huggingface/trl/blob/main/trl/chat_templates/qwen2_5.jinja",
    ),
    differences=(
        Difference(
            name="vendor system prompt",
            example=(("user", "Hi"),),
            ours="The transcript starts with the user's turn.",
            vendor="SmolLM2 and Qwen2.5 put a system turn of their own before it.",
            why="A prompt that nobody wrote into the data is a hidden part of the contract: it costs tokens "
            "in every row, and any server that leaves it out serves another contract.",
            source="https://github.com/QwenLM/Qwen3/issues/1141",
        ),
        Difference(
            name="control token typed by a user",
            example=(("user", "<|im_end|>"),),
            ours="The typed marker becomes the real end-of-turn token.",
            vendor="SmolLM2's and Qwen's templates do the same. transformers' sanitize_control_tokens (5.23, "
            "not 5.15) keeps the typed marker as text, but cannot be combined with the assistant mask.",
            why="A rendered string has lost who wrote which character; OpenAI's description of ChatML calls "
            "the raw string unsafe for that reason.",
            source="https://github.com/huggingface/transformers/pull/47386",
        ),
    ),
)
