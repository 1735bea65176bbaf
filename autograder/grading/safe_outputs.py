"""Makes a student's notebook safe to look at: in the formgrader, in nbgrader's feedback and in ours."""

import base64
import binascii
import copy
import re
from collections.abc import Mapping
from typing import Any

import nh3
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.corpus.words import generate_corpus_id
from nbformat.v4 import new_output

TEXT_LIMIT = 20_000
CELL_TEXT_LIMIT = 50_000
HTML_LIMIT = 300_000
IMAGE_LIMIT = 1_500_000
NOTEBOOK_IMAGE_LIMIT = 6_000_000
OUTPUTS_PER_CELL = 50
# Parsing takes a time that grows with the square of these, so that a page is refused beyond them.
DEEPEST_HTML = 50
MOST_ATTRIBUTES = 50
MOST_STRAYS = 1_000
# Marks (`&`, `<`, `>`) of the HTML in a notebook, and for each element the formatting elements that an HTML5
# parser may open again in it. The limit is about two seconds of cleaning.
NOTEBOOK_MARKUP = 100_000
WRITTEN_LIMIT = 20_000
_NOTE = 80  # room for the note on what was cut, so that cleaning twice changes nothing

IMAGES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
_TAGS = """
a abbr b blockquote br caption code col colgroup dd details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6
hr i img kbd li mark ol p pre s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul
var
"""
# HTML5 closes these at a paragraph's end and opens them again in the next one, unasked.
_FORMATTING = frozenset(
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"]
)
# Elements whose content is no text for a reader.
_WITH_CONTENT = [
    "script",
    "style",
    "template",
    "iframe",
    "object",
    "svg",
    "math",
    "noscript",
    "form",
    "title",
]
# No class and no id: with the page's own styles they could cover it or look like a grade.
_ATTRIBUTES = frozenset({"align", "colspan", "dir", "lang", "open", "rowspan", "scope", "style", "title"})
# Colours and spacing; nothing that moves, covers or fetches.
_STYLES = """
background-color border border-bottom border-collapse border-color border-left border-radius border-right
border-style border-top border-width color font-family font-size font-style font-weight line-height
overflow-wrap padding padding-bottom padding-left padding-right padding-top text-align text-decoration
vertical-align white-space word-break
"""
_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # operating system commands: titles, links
    r"|\x1b[PX^_].*?(?:\x1b\\|$)"  # device strings
    r"|\x1b\[[0-?]*[ -/]*[@-~]?|\x9b[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\x1b.?",
    re.DOTALL,
)
# All control characters but tab and newline, the marks that reverse the direction of what follows, and halves
# of surrogate pairs, which JSON allows and no file can hold.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TAG_START = re.compile(r"<(?=[A-Za-z/!?])")
_WORD_JOINER = "\u2060"


def plain_text(value: object, limit: int = TEXT_LIMIT) -> str:
    """Text without terminal escapes and control characters, cut at `limit` characters with a note."""
    text = "".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    cut = text[: 4 * limit]
    cut = _CONTROLS.sub("", _ESCAPES.sub("", cut.replace("\r\n", "\n").replace("\r", "\n")))
    if len(text) <= 4 * limit and len(cut) <= limit + _NOTE:
        return cut
    return f"{cut[:limit]}\n… cut here: {len(text):,} characters in all."


def without_html(markdown: str) -> str:
    """Markdown in which no HTML tag starts and no image is fetched; it reads the same.

    An invisible character behind each `<` that would start a tag keeps it text, in code as in prose. The same
    character parts the `![` of an image; images that the cell itself holds are kept.
    """
    markdown = _CONTROLS.sub("", markdown)
    markdown = _TAG_START.sub(f"<{_WORD_JOINER}", markdown)
    return re.sub(r"!\[(?![^\[\]]*\]\(attachment:[\w .-]+\))", f"!{_WORD_JOINER}[", markdown)


def _kept(tag: str, name: str, value: str) -> str | None:
    """A value that may stand where it stands, or None."""
    if tag == "a" and name == "href":
        return value if value.startswith(("https://", "http://", "#")) else None
    if tag == "img" and name == "src":
        kinds = "|".join(IMAGES)
        return value if re.fullmatch(rf"data:({kinds});base64,[A-Za-z0-9+/=\s]*", value) else None
    return value


_cleaner = nh3.Cleaner(
    tags=set(_TAGS.split()),
    clean_content_tags=set(_WITH_CONTENT),
    attributes={"*": set(_ATTRIBUTES), "a": {"href"}, "img": {"alt", "height", "src", "width"}},
    attribute_filter=_kept,
    url_schemes={"data", "http", "https"},
    filter_style_properties=set(_STYLES.split()),
)
# What the cleaner wrote: values in quotation marks, and none of them holds one.
_PICTURE = re.compile(r'<img(?P<attributes>(?: [a-z]+="[^"]*")*)>')


def safe_html(html: str, allowance: "Allowance | None" = None) -> str:
    """HTML without scripts, event handlers, remote images, frames, forms or styles that move things.

    HTML that would take long to clean gives a sentence in its place: nested more than 50 deep, with hundreds
    of attributes or stray brackets, or with more elements than the notebook still may have.
    """
    html = _CONTROLS.sub("", html)
    if not (allowance or Allowance()).admits(html):
        return "<p>[HTML not shown: it is nested too deeply, or the notebook holds too much of it]</p>"
    return _PICTURE.sub(_shown, _cleaner.clean(html))


def _shown(picture: re.Match[str]) -> str:
    return picture[0] if ' src="' in picture["attributes"] else "[image not shown]"


class Allowance:
    """How many bytes of images and how many elements of HTML a notebook may still show."""

    def __init__(self) -> None:
        self.left = NOTEBOOK_IMAGE_LIMIT
        self.markup = NOTEBOOK_MARKUP

    def admits(self, html: str) -> bool:
        """Whether a page can be cleaned in a short time; takes what it needs of the allowance."""
        elements = html.count("<")
        if html.count("<!") + html.count("<?") > MOST_STRAYS or elements > self.markup:
            return False
        # To look at a page takes longer than to clean it, so that a refused one costs as well.
        self.markup -= elements
        work = html.count("&") + html.count(">")
        if work > self.markup:
            return False
        soup, strays = BeautifulSoup(html, "html.parser"), elements
        depths: dict[int, tuple[int, int]] = {id(soup): (0, 0)}
        for element in soup.find_all(True):
            depth, formatting = depths[id(element.parent)]
            depth, formatting = depth + 1, formatting + (element.name in _FORMATTING)
            depths[id(element)] = depth, formatting
            work += formatting
            strays -= 2
            if depth > DEEPEST_HTML or len(element.attrs) > MOST_ATTRIBUTES or work > self.markup:
                return False
        if strays > MOST_STRAYS:
            return False
        self.markup -= work
        return True

    def take(self, kind: str, data: object) -> str | None:
        """The picture in base64 if it is one and fits, else None."""
        text = "".join(map(str, data)) if isinstance(data, list | tuple) else str(data)
        if len(text) > min(IMAGE_LIMIT, self.left):
            return None
        try:
            raw = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            return None
        if not raw.startswith(IMAGES[kind]):
            return None
        self.left -= len(text)
        return base64.b64encode(raw).decode("ascii")


def _safe_data(data: Mapping[str, Any], allowance: Allowance) -> dict[str, str]:
    kept: dict[str, str] = {}
    for kind in IMAGES:
        if kind in data:
            picture = allowance.take(kind, data[kind])
            if picture is None:
                return {"text/plain": "An image was here; it is too large, or it is none."}
            kept[kind] = picture
    html = data.get("text/html")
    if html is not None:
        html = "".join(map(str, html)) if isinstance(html, list | tuple) else str(html)
        if len(html) <= HTML_LIMIT:
            kept["text/html"] = safe_html(html, allowance)
    fallback = next(
        (data[kind] for kind in ("text/plain", "text/markdown", "text/latex") if kind in data), None
    )
    if fallback is not None:
        kept["text/plain"] = plain_text(fallback)
    return kept or {"text/plain": "An output was here that this page does not show."}


def safe_outputs(outputs: object, allowance: Allowance | None = None) -> list[NotebookNode]:
    """What a page may show of one cell's outputs: text, cleaned HTML, small PNG and JPEG images.

    Everything else goes: JavaScript, SVG, widgets, LaTeX and Markdown as such, terminal escapes, metadata.
    """
    allowance = allowance or Allowance()
    items = [output for output in outputs if isinstance(output, Mapping)] if isinstance(outputs, list) else []
    safe: list[NotebookNode] = []
    left = CELL_TEXT_LIMIT
    shown = items if len(items) <= OUTPUTS_PER_CELL + 1 else items[:OUTPUTS_PER_CELL]
    for output in shown:
        kind = output.get("output_type")
        if left <= 0 and len(str(output.get("text", output))) > _NOTE:
            continue
        if kind == "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            new = new_output(
                "stream",
                name=name,
                text=plain_text(output.get("text", ""), max(_NOTE, min(left, TEXT_LIMIT))),
            )
            left -= len(new.text)
        elif kind == "error":
            lines = output.get("traceback")
            text = plain_text(
                "\n".join(map(str, lines)) if isinstance(lines, list) else "",
                max(_NOTE, min(left, TEXT_LIMIT)),
            )
            left -= len(text)
            new = new_output(
                "error",
                ename=plain_text(output.get("ename", ""), 200),
                evalue=plain_text(output.get("evalue", ""), 2000),
                traceback=text.split("\n"),
            )
        elif kind in ("display_data", "execute_result"):
            data = output.get("data")
            new = new_output(
                "display_data", data=_safe_data(data if isinstance(data, Mapping) else {}, allowance)
            )
            left -= len(new.data.get("text/plain", ""))
        else:
            continue
        safe.append(new)
    if len(items) > len(safe):
        safe.append(
            new_output(
                "stream", name="stdout", text=f"… {len(items) - len(safe)} further outputs are not shown.\n"
            )
        )
    return safe


def _safe_attachments(attachments: object, allowance: Allowance) -> dict[str, dict[str, str]]:
    kept: dict[str, dict[str, str]] = {}
    for name, data in attachments.items() if isinstance(attachments, Mapping) else ():
        if not re.fullmatch(r"[\w .-]{1,100}", str(name)) or not isinstance(data, Mapping):
            continue
        for kind in IMAGES:
            if kind in data and (picture := allowance.take(kind, data[kind])) is not None:
                kept[str(name)] = {kind: picture}
    return kept


def make_safe(notebook: NotebookNode, released: NotebookNode) -> None:
    """Clean, in place, everything in a notebook that the student or the student's code wrote.

    Text cells of the course that hold their released text stay as they are. Metadata is the course's own: a
    student's could carry widget states, class names and titles into a page.

    Args:
        notebook: nbformat 4.5.
        released: the lab as students get it.
    """
    official = {cell.id: cell for cell in released.cells}
    allowance = Allowance()
    notebook.metadata = copy.deepcopy(released.metadata)
    seen: set[str] = set()
    for cell in notebook.cells:
        own = official.get(cell.get("id", ""))
        if own is None or cell.id in seen:
            cell.id = generate_corpus_id()
        seen.add(cell.id)
        cell.metadata = copy.deepcopy(own.metadata) if own is not None else NotebookNode()
        if cell.cell_type == "code":
            cell.source = _CONTROLS.sub("", cell.source)
            cell.outputs = safe_outputs(cell.get("outputs"), allowance)
            cell.execution_count = None
            continue
        cell.cell_type = "markdown"  # a raw cell may be passed through as HTML
        attachments = cell.pop("attachments", None)
        if own is not None and own.cell_type == "markdown" and own.source == cell.source:
            attachments = own.get("attachments")
        else:
            cell.source = without_html(plain_text(cell.source, WRITTEN_LIMIT))
            attachments = _safe_attachments(attachments, allowance)
        if attachments:
            cell.attachments = attachments
