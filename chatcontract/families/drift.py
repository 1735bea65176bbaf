"""Templates that really were in use and that break a family's contract, for showing drift on purpose."""

from chatcontract.families.contract import Drift

MISTRAL_2023 = Drift(
    name="mistral_2023",
    family="mistral_v01",
    template="""\
{{- '<s>' -}}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {{- '[INST] ' + message['content'] + ' [/INST]' -}}
    {%- else -%}
        {{- message['content'] + '</s> ' -}}
    {%- endif -%}
{%- endfor -%}
""",
    example=(("user", "Hi"), ("assistant", "Yes")),
    what="The widely copied template of autumn 2023 has no space after <s> and none before the answer, and "
    "one too many after </s>: the answer's first token is 'Yes' where the vendor's is '▁Yes'.",
    sources=(
        "https://github.com/lm-sys/FastChat/pull/2547",
        "https://github.com/oobabooga/textgen/pull/5517",
        "https://github.com/huggingface/transformers/issues/26891",
        "https://github.com/mistralai/mistral-common/issues/3",
    ),
)

SMOLLM2_SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN2_5_SYSTEM_PROMPT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

SMOLLM2_VENDOR = Drift(
    name="smollm2_vendor",
    family="chatml",
    template="{%- if messages[0]['role'] != 'system' -%}\n"
    "    {{- '<|im_start|>system\\n" + SMOLLM2_SYSTEM_PROMPT + "<|im_end|>\\n' -}}\n"
    """\
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
""",
    example=(("user", "Hi"), ("assistant", "Yes")),
    what="The template inside SmolLM2-135M-Instruct writes a system turn whenever the chat has none.",
    sources=("https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",),
)

LLAMA3_TRIMMING = Drift(
    name="llama3_trimming",
    family="llama3",
    template="""\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
    {{- message['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
""",
    example=(("user", "Fix my loop."), ("assistant", "    return total")),
    what="The template on the hub trims every message, so an answer that starts with indented code loses the "
    "indentation that llama-models keeps.",
    sources=(
        "https://github.com/huggingface/trl/blob/main/trl/chat_templates/llama3.jinja",
        "https://github.com/huggingface/transformers/issues/35433",
    ),
)

DRIFTS: dict[str, Drift] = {drift.name: drift for drift in (MISTRAL_2023, SMOLLM2_VENDOR, LLAMA3_TRIMMING)}
