"""What a chat family is: its markers, its two templates, and where it parts from its vendor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

Chat = list[dict[str, str]]

_GENERATION_TAG = re.compile(r"[ \t]*\{%-\s*(?:end)?generation\s*-%\}\n?")

CHECK_MESSAGES = """\
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception("message " ~ loop.index0 ~ " has the role '" ~ message['role']
            ~ "': use system, user or assistant") -}}
    {%- elif message['content'] is not string -%}
        {{- raise_exception("the content of message " ~ loop.index0 ~ " is not text: pass one string") -}}
    {%- endif -%}
{%- endfor -%}
"""


@dataclass(frozen=True)
class Difference:
    """A conversation on which a rendered and then tokenised text cannot equal the vendor's own encoding.

    Attributes:
        name: short handle, unique within a family.
        example: the smallest conversation that shows it.
        ours: what this course's template does with the example.
        vendor: what the vendor's encoder does with it.
        why: the reason, in one or two sentences.
        source: where the vendor's behaviour can be read.
    """

    name: str
    example: tuple[tuple[str, str], ...]
    ours: str
    vendor: str
    why: str
    source: str

    @property
    def messages(self) -> Chat:
        """The example as a chat."""
        return [{"role": role, "content": content} for role, content in self.example]


@dataclass(frozen=True)
class Family:
    """One chat contract: how messages become text, and which characters of it the model writes itself.

    Attributes:
        name: handle used in code, such as "llama3".
        title: name for people.
        bos: string the template puts before everything, "" if none.
        eos: token that ends a *document* for this family's tokenizers, "" for a frame without tokenizer. It
            may differ from `terminator`: stopping on it alone lets a chat model run on.
        terminator: string that ends an assistant turn and belongs to the answer, "" if the frame has none.
        special_tokens: strings of the template that must be single tokens of the tokenizer.
        text_markers: strings of the template that are ordinary text to the tokenizer. A user can type them,
            and no tokenizer can tell the difference.
        generation_cue: what the template appends under `add_generation_prompt`, None if there is no cue.
        answer_prefix: text between prompt and content that the *model* writes, so it is supervised too.
            Mistral's answers start with the space that sentencepiece puts before every string.
        training_template: Jinja template with `{% generation %}` around what the model writes.
        notes: facts worth showing next to the family.
        sources: where the contract can be read.
        differences: known departures from the vendor's encoder.
    """

    name: str
    title: str
    bos: str
    eos: str
    terminator: str
    special_tokens: tuple[str, ...]
    text_markers: tuple[str, ...]
    generation_cue: str | None
    answer_prefix: str
    training_template: str
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def serving_template(self) -> str:
        """The training template without its generation tags, which other Jinja engines cannot parse.

        An engine that does not know the tag fails on every request:
        https://github.com/nobodywho-ooo/nobodywho/pull/563
        """
        return _GENERATION_TAG.sub("", self.training_template)

    @property
    def serving_sha256(self) -> str:
        """SHA-256 of the serving template, for manifests that must notice a changed character."""
        return sha256(self.serving_template.encode()).hexdigest()


@dataclass(frozen=True)
class Drift:
    """A template that people really used with a family and that breaks its contract.

    Attributes:
        name: handle used in code.
        family: name of the family whose contract it breaks.
        template: Jinja template, written anew to render as the original did.
        example: a conversation on which it differs from the family's own template.
        what: the difference, in one sentence.
        sources: where the original was seen.
    """

    name: str
    family: str
    template: str
    example: tuple[tuple[str, str], ...]
    what: str
    sources: tuple[str, ...]

    @property
    def messages(self) -> Chat:
        """The example as a chat."""
        return [{"role": role, "content": content} for role, content in self.example]
