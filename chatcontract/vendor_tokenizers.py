"""The real tokenizers of Llama 3 and Mistral 7B v0.1, built on this machine from the vendors' own packages.

Their vocabularies may be installed but not redistributed (Llama 3's licence), so nothing of them is part of
the course: the first use builds a Hugging Face fast tokenizer in the user's cache folder. Needs the extra
"oracles".
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from chatcontract import __version__
from chatcontract.families import family
from chatcontract.models import cache_root

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_LLAMA3_FILE = "llama3/tokenizer.model"
_MISTRAL_FILE = "data/tokenizer.model.v1"


def load_vendor_tokenizer(name: str, *, cache_dir: Path | None = None) -> PreTrainedTokenizerFast:
    """The real tokenizer of a family, carrying that family's serving template.

    Called as a tokenizer it writes the family's BOS first, as the tokenizers on the hub do. The first call
    builds it (about 3 s for Llama 3) and keeps it in the cache; later calls take under a second.

    Args:
        name: "llama3" (128,256 tokens) or "mistral_v01" (32,000 tokens).
        cache_dir: where to keep it; default `chatcontract.models.cache_root()`.

    Raises:
        ValueError: no vendor tokenizer for that family.
        ImportError: the vendor's package is not installed; the sentence says how to get it.
    """
    from transformers import PreTrainedTokenizerFast

    if name not in _BUILDERS:
        raise ValueError(
            f"There is no vendor tokenizer for '{name}': choose {' or '.join(_BUILDERS)}. For ChatML, use "
            "chatcontract.models.load_tokenizer('smollm2-135m')."
        )
    package, build = _BUILDERS[name]
    chosen = family(name)
    try:
        vendor = f"{package}-{version(package)}"
    except PackageNotFoundError as error:
        raise ImportError(
            f"The tokenizer of {chosen.title} comes from the package {package}, which is not installed: "
            "run pip install 'mistral-common[sentencepiece]' llama-models tiktoken."
        ) from error
    # a new release of either side may build another tokenizer
    home = (cache_dir or cache_root()) / "tokenizers" / f"{name}-{vendor}-course-{__version__}"
    if not home.is_dir():
        _keep(build(), home)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(home))
    tokenizer.chat_template = chosen.serving_template
    return tokenizer


def vendor_file(package: str, path: str) -> Path:
    """A data file of an installed package, found without importing it.

    Raises:
        ImportError: the package or the file is not there.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(folder) / path).is_file():
            return found
    raise ImportError(f"The installed package {package} holds no file {path}: reinstall it with pip.")


def _llama3() -> PreTrainedTokenizerFast:
    from llama_models.llama3.tokenizer import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    file = vendor_file("llama_models", _LLAMA3_FILE)
    ids = Tokenizer(file).special_tokens
    backend = TikTokenConverter(str(file), extra_special_tokens=sorted(ids, key=ids.__getitem__)).converted()
    return PreTrainedTokenizerFast(
        tokenizer_object=_with_bos(backend, "<|begin_of_text|>"),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
    )


def _mistral_v01() -> PreTrainedTokenizerFast:
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast
    from transformers.tokenization_utils_base import generate_merges

    pieces = SentencePieceProcessor(model_file=str(vendor_file("mistral_common", _MISTRAL_FILE)))
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    # LlamaTokenizer.from_pretrained orders merges by id. Here runs of spaces have low ids but the lowest
    # scores, so " ." would become '▁▁', '.' where sentencepiece gives '▁', '▁.'.
    scores = {piece: pieces.get_score(i) for piece, i in vocab.items()}
    spm = LlamaTokenizer(vocab=vocab, merges=generate_merges(vocab, scores), legacy=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=_with_bos(spm.backend_tokenizer, "<s>"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
    )


def _with_bos(backend: Tokenizer, bos: str) -> Tokenizer:
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, backend.token_to_id(bos))]
    )
    return backend


def _keep(tokenizer: PreTrainedTokenizerFast, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        tokenizer.save_pretrained(str(staged))
        staged.replace(home)
    except OSError:
        # another process may have built it in the meantime, which serves us as well
        if not home.is_dir():
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


_BUILDERS: dict[str, tuple[str, Callable[[], PreTrainedTokenizerFast]]] = {
    "llama3": ("llama-models", _llama3),
    "mistral_v01": ("mistral-common", _mistral_v01),
}
