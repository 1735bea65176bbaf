"""Pictures of tokens, training runs and answers, each with a plain-text twin.

Every viewer is a plain Python object. A notebook shows it as static HTML without scripts or network access,
a terminal shows it as text, and ``view.widget()`` gives an ipywidget with paging where a kernel is running.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatcontract.viewers.answers import AnswersView, answers_view, compare_answers
    from chatcontract.viewers.blind import BlindView
    from chatcontract.viewers.chat import chat_roles, chat_view, text_view
    from chatcontract.viewers.comparison import CompareView, FormatsView, compare, first_difference, formats
    from chatcontract.viewers.drift import DriftView, drift_view
    from chatcontract.viewers.funnel import FunnelView, funnel_view
    from chatcontract.viewers.mask import MaskView, mask_view
    from chatcontract.viewers.mask_data import MaskDataView, mask_data_view
    from chatcontract.viewers.packing import PackingView, WindowView, packing_view, window_view
    from chatcontract.viewers.renders import three_renders
    from chatcontract.viewers.row import RowView, row_view
    from chatcontract.viewers.run import RunLog, RunView
    from chatcontract.viewers.tokens import TokenRow, TokenView, token_view

_HOME = {
    "AnswersView": "answers",
    "answers_view": "answers",
    "compare_answers": "answers",
    "BlindView": "blind",
    "chat_roles": "chat",
    "chat_view": "chat",
    "text_view": "chat",
    "CompareView": "comparison",
    "FormatsView": "comparison",
    "compare": "comparison",
    "first_difference": "comparison",
    "formats": "comparison",
    "DriftView": "drift",
    "drift_view": "drift",
    "FunnelView": "funnel",
    "funnel_view": "funnel",
    "RowView": "row",
    "row_view": "row",
    "MaskView": "mask",
    "mask_view": "mask",
    "MaskDataView": "mask_data",
    "mask_data_view": "mask_data",
    "PackingView": "packing",
    "WindowView": "packing",
    "packing_view": "packing",
    "window_view": "packing",
    "three_renders": "renders",
    "RunLog": "run",
    "RunView": "run",
    "TokenRow": "tokens",
    "TokenView": "tokens",
    "token_view": "tokens",
}

__all__ = [
    "AnswersView",
    "BlindView",
    "CompareView",
    "DriftView",
    "FormatsView",
    "FunnelView",
    "MaskDataView",
    "MaskView",
    "PackingView",
    "RowView",
    "RunLog",
    "RunView",
    "TokenRow",
    "TokenView",
    "WindowView",
    "answers_view",
    "chat_roles",
    "chat_view",
    "compare",
    "compare_answers",
    "drift_view",
    "first_difference",
    "formats",
    "funnel_view",
    "mask_data_view",
    "mask_view",
    "packing_view",
    "row_view",
    "text_view",
    "three_renders",
    "token_view",
    "window_view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
