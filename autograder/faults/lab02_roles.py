"""Lab 02: real bugs of role checks, readers and repairs, and right answers in other styles."""

import json
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from typing import Any

from autograder.faults.registry import alternative, fault, reference

Message = dict[str, Any]
Errors = list[dict[str, int | str]]
Sorted = dict[str, list[dict[str, Any]]]

ROLES = ("system", "user", "assistant")
NEXT = {"user": "assistant", "assistant": "user"}
ENDS = "conversation ends before assistant answer"


# role_errors


@fault(
    "roles.ends_with_user",
    exercise="role_errors",
    title="A chat that ends with the customer is accepted",
    symptom="Rows without a single supervised token; with a loss on every token the model writes customers' "
    "messages.",
    first_check="Count the rows whose last role is not assistant.",
    consequence="There is no answer to learn: the row trains on nothing, or on the customer's words.",
    citation="https://github.com/OptimalScale/LMFlow/issues/942 ; of tau-bench's 200 airline dialogues "
    "with GPT-4o 149 end with a user and 51 with a tool message (https://github.com/sierra-research/tau-bench/"
    "blob/59a200c6d575d595120f1cb70fea53cef0632f6b/historical_trajectories/gpt-4o-airline.json)",
)
def _(roles: list[str]) -> list[str]:
    return [error for error in reference("role_errors")(roles=roles) if error != ENDS]


@fault(
    "roles.names_only",
    exercise="role_errors",
    title="Only the names of the roles are checked, not their order",
    symptom="Everything passes here, and a stricter template refuses at serving.",
    first_check="Give it assistant, user, assistant.",
    consequence="The model learns from situations that serving never produces, and answers to nobody.",
    citation="A template that alternates strictly raised only when serving: "
    "https://github.com/unslothai/unsloth/issues/334",
)
def _(roles: list[str]) -> list[str]:
    errors = [f"unknown role '{role}'" for role in roles if role not in ROLES]
    return errors + ([ENDS] if roles[-1:] != ["assistant"] else [])


@fault(
    "roles.neighbours_differ",
    exercise="role_errors",
    title="Only neighbours are compared: two different roles always pass",
    symptom="Chats that begin with the assistant, or have a system message in the middle, get through.",
    first_check="Give it assistant, user, assistant.",
    consequence="The model learns to speak first, and to answer after a system message that some templates "
    "drop.",
    citation="Seen here: of the 34 orders of three or four known roles that end with the assistant and are wrong, "
    "it lets 10 through, user, system, assistant among them.",
)
def _(roles: list[str]) -> list[str]:
    errors = []
    for before, role in pairwise(["", *roles]):
        if role not in ROLES:
            errors.append(f"unknown role '{role}'")
        elif role == before and role in NEXT:
            errors.append(f"expected {NEXT[role]}, got {role}")
        elif role == before:
            errors.append(f"expected user, got {role}")
    return errors + ([ENDS] if roles[-1:] != ["assistant"] else [])


@fault(
    "roles.system_anywhere",
    exercise="role_errors",
    title="A system message is accepted anywhere",
    symptom="Answers without evidence: one family's template drops the late system message silently.",
    first_check="Render user, system, assistant with GPT-OSS's template and look for the system text.",
    consequence="Where the template drops it, the answer stays without its evidence and teaches inventing.",
    citation="https://github.com/raullenchai/Rapid-MLX/issues/1765 . Seen here: nano trained on rows without "
    "their system message answers 0 of 100 held-out questions by the evidence, with it 100 of 100.",
)
def _(roles: list[str]) -> list[str]:
    kept = [role for position, role in enumerate(roles) if role != "system" or position == 0]
    errors: list[str] = reference("role_errors")(roles=kept)
    if roles[-1:] == ["system"] and ENDS not in errors:
        errors = [*errors, ENDS]
    return errors


@fault(
    "roles.several_systems",
    exercise="role_errors",
    title="Several system messages at the start are accepted",
    symptom="Training runs; the server answers 'System message must be at the beginning.'",
    first_check="Count the system messages of each row.",
    consequence="The model is trained on a form of chat that a strict template refuses to serve.",
    citation="A client that sends two system messages, refused by Qwen 3.6's template: "
    "https://github.com/BerriAI/litellm/issues/26879",
)
def _(roles: list[str]) -> list[str]:
    systems = next((at for at, role in enumerate(roles) if role != "system"), len(roles))
    errors: list[str] = reference("role_errors")(roles=roles[max(0, systems - 1) :])
    return errors


@fault(
    "roles.case_ignored",
    exercise="role_errors",
    title="Upper and lower case are taken for the same",
    symptom="Headers such as '<|im_start|>User' in rendered rows.",
    first_check="Render one row with the role 'User' and read the header.",
    consequence="'User' gives a header that no server sends, or the template drops the message.",
    citation="Seen here: Qwen2.5's template drops both messages of a User, Assistant chat; Llama 3's and "
    "SmolLM2's write them into the header as they are.",
)
def _(roles: list[str]) -> list[str]:
    errors: list[str] = reference("role_errors")(roles=[role.lower() for role in roles])
    return errors


@fault(
    "roles.by_position",
    exercise="role_errors",
    title="The role that is due is read off the position, so one mistake spoils all that follow",
    symptom="Many errors in a row whose first turn is doubled, none of them at the place to repair.",
    first_check="Give it system, user, user, assistant: one reason, not two.",
    consequence="Repairable rows look hopeless, and whole data sets are thrown away.",
    citation="A loader that wants user at odd and assistant at even positions: "
    "https://github.com/hiyouga/LLaMA-Factory/issues/2962",
)
def _(roles: list[str]) -> list[str]:
    errors = []
    start = 1 if roles[:1] == ["system"] else 0
    for position, role in enumerate(roles[start:]):
        due = ("user", "assistant")[position % 2]
        if role not in ROLES:
            errors.append(f"unknown role '{role}'")
        elif role != due:
            errors.append(f"expected {due}, got {role}")
    return errors + ([ENDS] if roles[-1:] != ["assistant"] else [])


@fault(
    "roles.no_system",
    exercise="role_errors",
    title="A system message at the start is refused",
    symptom="A whole data set is dropped, or the run stops at its first row.",
    first_check="Count the rows by the role of their first message.",
    consequence="Only rows without instructions are left to learn from.",
    citation="https://github.com/hiyouga/LLaMA-Factory/issues/2529 ; Gemma's first template refuses it too, "
    "Gemma 3's folds it into the user turn (seen here)",
)
def _(roles: list[str]) -> list[str]:
    errors: list[str] = reference("role_errors")(roles=roles)
    return [*(["expected user, got system"] if roles[:1] == ["system"] else []), *errors]


@fault(
    "roles.empty_accepted",
    exercise="role_errors",
    title="An empty chat is accepted, because all() of nothing is true",
    symptom="The template fails later, at a row that nobody can find.",
    first_check="Give it the empty list.",
    consequence="Rendering stops the run, or the row becomes a header and nothing else.",
    citation="Seen here: on an empty chat SmolLM2's and Gemma's templates raise, Llama 3's gives an empty "
    "text.",
)
def _(roles: list[str]) -> list[str]:
    errors: list[str] = reference("role_errors")(roles=roles) if roles else []
    return errors


@fault(
    "roles.first_reason_only",
    exercise="role_errors",
    title="Only the first reason is returned",
    symptom="A row is repaired, comes back, and is refused for the next reason.",
    first_check="Give it a chat with a wrong role and without an answer.",
    consequence="Counts of reasons are wrong, and the wrong bug is repaired first.",
    citation="A validator that gives one error per record: "
    "https://github.com/sourcemeta/jsonschema/issues/733",
)
def _(roles: list[str]) -> list[str]:
    errors: list[str] = reference("role_errors")(roles=roles)
    return errors[:1]


@alternative("role_errors", style="a table of what may follow")
def _(roles: list[str]) -> list[str]:
    errors, before = [], "assistant"
    for role in roles[1:] if roles[:1] == ["system"] else roles:
        if role not in ROLES:
            errors.append(f"unknown role '{role}'")
            continue
        if NEXT[before] != role:
            errors.append(f"expected {NEXT[before]}, got {role}")
        before = role if role in NEXT else before
    return errors if roles and roles[-1] == "assistant" else [*errors, ENDS]


@alternative("role_errors", style="a generator")
def _(roles: list[str]) -> list[str]:
    def reasons() -> Iterator[str]:
        expected = "user"
        for number, role in enumerate(roles):
            match role:
                case "user" | "assistant":
                    if role != expected:
                        yield f"expected {expected}, got {role}"
                    expected = NEXT[role]
                case "system":
                    if number:
                        yield f"expected {expected}, got system"
                case _:
                    yield f"unknown role '{role}'"
        if not roles or roles[-1] != "assistant":
            yield ENDS

    return list(reasons())


@alternative("role_errors", style="looking back for the last speaker")
def _(roles: list[str]) -> list[str]:
    def due(position: int) -> str:
        speakers = (role for role in reversed(roles[:position]) if role in NEXT)
        return NEXT[next(speakers, "assistant")]

    # quadratic only where no speaker stands close by
    errors = [
        f"expected {due(at)}, got {role}" if role in ROLES else f"unknown role '{role}'"
        for at, role in enumerate(roles)
        if not (at == 0 and role == "system") and (role not in ROLES or role != due(at))
    ]
    if roles[-1:] != ["assistant"]:
        errors.append(ENDS)
    return errors


# conversation_errors


def _walk(
    messages: list[Any],
    *,
    content: Callable[[Any], str] = lambda value: (
        "content is not a string"
        if not isinstance(value, str)
        else ""
        if value.strip()
        else "content is empty"
    ),
    counts: Callable[[Message], bool] = lambda message: True,
    unknown: bool = True,
) -> Errors:
    """The errors of a chat, with another test of contents, or with turns that do not count for the order."""
    errors: Errors = []
    due, role = "user", None
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(message, dict):
            errors.append({"message": at, "reason": "message is not an object"})
            continue
        if not isinstance(role, str):
            errors.append({"message": at, "reason": "role is not a string"})
        elif role not in ROLES:
            if unknown:
                errors.append({"message": at, "reason": f"unknown role '{role}'"})
        elif role != due and not (at == 0 and role == "system") and counts(message):
            errors.append({"message": at, "reason": f"expected {due}, got {role}"})
        if isinstance(role, str) and role in NEXT and counts(message):
            due = NEXT[role]
        if reason := content(message.get("content")):
            errors.append({"message": at, "reason": reason})
    return errors if role == "assistant" else [*errors, {"message": len(messages), "reason": ENDS}]


@fault(
    "conversation.positions_from_one",
    exercise="conversation_errors",
    title="Positions start at 1",
    symptom="Whoever follows a report looks at the message after the bad one.",
    first_check="Give it a chat whose very first message is bad: position 0.",
    consequence="Repairs go to the wrong message, and good turns are changed.",
    citation="Off by one in reported places: https://github.com/google/"
    "exposure-notifications-verification-server/pull/1460",
)
def _(messages: list[Any]) -> Errors:
    errors: Errors = reference("conversation_errors")(messages=messages)
    return [error | {"message": int(error["message"]) + 1} for error in errors]


@fault(
    "conversation.first_error_only",
    exercise="conversation_errors",
    title="Only the first error of a chat is returned",
    symptom="Rows come back after each repair, refused for the next reason.",
    first_check="Give it a message that is out of order and empty.",
    consequence="Nobody sees how broken a row is, and repairable ones cannot be told from hopeless ones.",
    citation="A validator that gives one error per record: "
    "https://github.com/sourcemeta/jsonschema/issues/733",
)
def _(messages: list[Any]) -> Errors:
    errors: Errors = reference("conversation_errors")(messages=messages)
    return errors[:1]


@fault(
    "conversation.blank_is_content",
    exercise="conversation_errors",
    title="White space counts as content",
    symptom="Answers of length zero at serving, more often the longer the run.",
    first_check="Give it an answer of one space.",
    consequence="The model learns to end its turn at once.",
    citation="A truth test that white space passes: https://github.com/home-assistant/core/issues/175637",
)
def _(messages: list[Any]) -> Errors:
    def content(value: Any) -> str:
        return (
            "content is not a string" if not isinstance(value, str) else "" if value else "content is empty"
        )

    return _walk(messages, content=content)


@fault(
    "conversation.str_of_content",
    exercise="conversation_errors",
    title="str() is called on the content, so None becomes the word 'None'",
    symptom="The words None or [{'type': 'text', ...}] in rendered rows.",
    first_check="Search the rendered rows for 'None' and for \"[{'type'\".",
    consequence="The model learns to read and to write 'None' where nothing was said.",
    citation="https://github.com/ProfSynapse/Synaptic-Tuner/pull/42 ; Llama 3's template writes a list of "
    "parts as Python into the turn (seen here)",
)
def _(messages: list[Any]) -> Errors:
    return _walk(messages, content=lambda value: "" if str(value).strip() else "content is empty")


@fault(
    "conversation.parts_accepted",
    exercise="conversation_errors",
    title="A list of parts is taken for content",
    symptom="One template fails, another writes the list into the prompt.",
    first_check="Render one such row with the template that you will serve.",
    consequence="The customer's words reach the model as Python code, or not at all.",
    citation="Text content and list content mixed up in templates: "
    "https://github.com/huggingface/trl/pull/5496",
)
def _(messages: list[Any]) -> Errors:
    def content(value: Any) -> str:
        if isinstance(value, list) and value:
            return ""
        if not isinstance(value, str):
            return "content is not a string"
        return "" if value.strip() else "content is empty"

    return _walk(messages, content=content)


@fault(
    "conversation.empty_turns_skipped",
    exercise="conversation_errors",
    title="Empty turns do not count, so every role after one is judged wrong",
    symptom="Errors one turn after the empty one; labels shifted to the wrong speaker.",
    first_check="Give it an empty answer in the middle of two good exchanges: one error.",
    consequence="A program that skips empty turns in one place only takes the customer's turn for the "
    "assistant's.",
    citation="https://github.com/lm-sys/FastChat/issues/470",
)
def _(messages: list[Any]) -> Errors:
    return _walk(
        messages, counts=lambda m: not isinstance(m.get("content"), str) or bool(m["content"].strip())
    )


@fault(
    "conversation.unknown_roles_skipped",
    exercise="conversation_errors",
    title="Unknown roles are passed over",
    symptom="The loss looks excellent from the first step; the rendered rows hold a default system message.",
    first_check="Render one row and search it for the answer.",
    consequence="The template drops the messages, and the run trains on a sentence that nobody wrote.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/issues/752 , "
    "https://github.com/NVIDIA-NeMo/Automodel/pull/2375",
)
def _(messages: list[Any]) -> Errors:
    return _walk(messages, unknown=False)


@fault(
    "conversation.end_at_last_message",
    exercise="conversation_errors",
    title="The missing answer is reported at the last message instead of behind it",
    symptom="The last user message is repaired or deleted, although nothing is wrong with it.",
    first_check="Give it a single user message: the answer is missing at position 1.",
    consequence="A good question is thrown away for the answer that it lacks.",
    citation="Seen here: in 3 of the inbox's 6 chats without an answer it names a sound question of the customer.",
)
def _(messages: list[Any]) -> Errors:
    errors: Errors = reference("conversation_errors")(messages=messages)
    last = max(0, len(messages) - 1)
    return [error | {"message": last} if error["reason"] == ENDS else error for error in errors]


@fault(
    "conversation.stops_at_no_message",
    exercise="conversation_errors",
    title="An entry that is no message ends the run",
    symptom="AttributeError: 'str' object has no attribute 'get', after hours.",
    first_check="Give it a list with a string in it.",
    consequence="One odd entry costs the whole run, or whoever catches the error loses the whole file.",
    citation="'list' object has no attribute 'items' from a data loader: "
    "https://github.com/wandb/rai-toolkit/issues/82",
)
def _(messages: list[Any]) -> Errors:
    for message in messages:
        message.get("role")
    errors: Errors = reference("conversation_errors")(messages=messages)
    return errors


@alternative("conversation_errors", style="one walk with a parameter per rule")
def _(messages: list[Any]) -> Errors:
    return _walk(messages)


@alternative("conversation_errors", style="two passes, sorted at the end")
def _(messages: list[Any]) -> Errors:
    found: list[tuple[int, int, str]] = []
    due = "user"
    for at, message in enumerate(messages):
        if isinstance(message, dict):
            text = message.get("content")
            if not isinstance(text, str):
                found.append((at, 1, "content is not a string"))
            elif text.isspace() or not text:
                found.append((at, 1, "content is empty"))
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            found.append((at, 0, "message is not an object"))
            continue
        role = message.get("role")
        if not isinstance(role, str):
            found.append((at, 0, "role is not a string"))
            continue
        if role not in ROLES:
            found.append((at, 0, f"unknown role '{role}'"))
        elif (role != "system" or at > 0) and role != due:
            found.append((at, 0, f"expected {due}, got {role}"))
        due = NEXT.get(role, due)
    last = messages[-1] if messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        found.append((len(messages), 0, ENDS))
    return [{"message": at, "reason": reason} for at, _, reason in sorted(found)]


@alternative("conversation_errors", style="a class with one method per rule")
def _(messages: list[Any]) -> Errors:
    class Walk:
        due = "user"

        def role(self, at: int, message: Message) -> str | None:
            role, due = message.get("role"), self.due
            if not isinstance(role, str):
                return "role is not a string"
            self.due = NEXT.get(role, due)
            if role not in ROLES:
                return f"unknown role '{role}'"
            fine = role == due or (role, at) == ("system", 0)
            return None if fine else f"expected {due}, got {role}"

        def content(self, message: Message) -> str | None:
            try:
                return None if str.strip(message["content"]) else "content is empty"
            except (KeyError, TypeError):
                return "content is not a string"

        def reasons(self, at: int, message: Any) -> list[str | None]:
            if not isinstance(message, dict):
                return ["message is not an object"]
            return [self.role(at, message), self.content(message)]

    walk = Walk()
    errors: Errors = [
        {"message": at, "reason": reason}
        for at, message in enumerate(messages)
        for reason in walk.reasons(at, message)
        if reason
    ]
    match messages:
        case [*_, {"role": "assistant"}]:
            return errors
    return [*errors, {"message": len(messages), "reason": ENDS}]


# validate_jsonl


def _unique(pairs: list[tuple[str, Any]]) -> Message:
    for key, _ in pairs:
        if sum(key == other for other, _ in pairs) > 1:
            raise KeyError(f"duplicate key '{key}'")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _reason(line: str, *, strict_keys: bool = True, strict_numbers: bool = True, first: bool = False) -> str:
    """Why a line is refused, or "" for a good one; two rules can be left out."""
    hook = _unique if strict_keys else dict
    constant = _no_constant if strict_numbers else float
    if not line.strip():
        return "blank line"
    try:
        row = json.loads(line, object_pairs_hook=hook, parse_constant=constant)
    except KeyError as error:
        return str(error.args[0])
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(row, dict):
        return "row is not an object"
    if not isinstance(row.get("messages"), list):
        return "messages is not a list"
    errors = reference("conversation_errors")(messages=row["messages"])
    reasons = [f"message {error['message']}: {error['reason']}" for error in errors]
    return "; ".join(reasons[:1] if first else reasons)


def _lines(text: str) -> list[str]:
    lines = text.removeprefix("\ufeff").split("\n")
    return lines[:-1] if not lines[-1] else lines


def _sorted(numbered: Iterator[tuple[int, str]], reason: Callable[[str], str] = _reason) -> Sorted:
    result: Sorted = {"accepted": [], "quarantine": []}
    for number, line in numbered:
        if why := reason(line):
            result["quarantine"].append({"line": number, "reason": why})
        else:
            result["accepted"].append({"line": number, "row": _loosely(line)})
    return result


def _loosely(line: str) -> Any:
    """The row of an accepted line; a constant that is no number becomes None, so that it can be compared."""
    return json.loads(line, parse_constant=lambda name: None)


@fault(
    "jsonl.stops_at_first",
    exercise="validate_jsonl",
    title="The first broken line ends the run",
    symptom="JSONDecodeError at line 1, column something: the parser sees one line and calls it line 1.",
    first_check="Give it a good line, a broken one and a good one.",
    consequence="One bad line in a million, and there is no data set at all.",
    citation="https://github.com/microsoft/dpu-utils/pull/12 , https://github.com/microsoft/graphrag/issues/2424",
)
def _(text: str) -> Sorted:
    for line in _lines(text):
        json.loads(line, parse_constant=_no_constant)
    return _sorted(enumerate(_lines(text), start=1))


@fault(
    "jsonl.skipped_silently",
    exercise="validate_jsonl",
    title="Broken lines are skipped without a trace",
    symptom="Fewer rows than lines, and nobody knows which or why.",
    first_check="Add accepted and quarantined lines up: the sum is the number of lines.",
    consequence="The set shrinks by whole kinds of rows; the evaluation notices, months later.",
    citation="https://github.com/MakazhanAlpamys/Soup/issues/548 , "
    "https://github.com/NVIDIA-NeMo/Automodel/pull/1694",
)
def _(text: str) -> Sorted:
    result = _sorted(enumerate(_lines(text), start=1))
    lost = ("not JSON", "blank line")
    result["quarantine"] = [entry for entry in result["quarantine"] if entry["reason"] not in lost]
    return result


@fault(
    "jsonl.blank_lines_not_counted",
    exercise="validate_jsonl",
    title="Blank lines are filtered before the lines are counted",
    symptom="Every line number behind a blank line is too small.",
    first_check="Look at the line that a report names, in a file with a blank line before it.",
    consequence="People repair or delete the wrong rows.",
    citation="https://github.com/openclaw/openclaw/pull/103645",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate((line for line in _lines(text) if line.strip()), start=1))


@fault(
    "jsonl.splitlines",
    exercise="validate_jsonl",
    title="str.splitlines cuts the text, at U+2028 and others as well",
    symptom="Two broken lines where an editor shows one good one.",
    first_check="Search the file for U+2028, U+2029 and U+0085.",
    consequence="Rows with pasted text are lost, in some languages more than in others.",
    citation="https://github.com/wbolster/jsonlines/issues/53 , "
    "https://github.com/volcengine/OpenViking/issues/3984",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(text.removeprefix("\ufeff").splitlines(), start=1))


@fault(
    "jsonl.byte_order_mark",
    exercise="validate_jsonl",
    title="The byte order mark is left on the first line",
    symptom="The first row of files from Windows is missing.",
    first_check="Look at the first three bytes of the file: EF BB BF.",
    consequence="One row per file is lost, always the first.",
    citation="https://github.com/infiniflow/ragflow/issues/19179 , "
    "https://github.com/huggingface/datasets/pull/8243",
)
def _(text: str) -> Sorted:
    lines = text.split("\n")
    return _sorted(enumerate(lines[:-1] if not lines[-1] else lines, start=1))


@fault(
    "jsonl.several_marks",
    exercise="validate_jsonl",
    title="Every byte order mark at the start is taken off, not one",
    symptom="A file that two programs marked passes here, and a stricter reader refuses its first row.",
    first_check="Give it a text that starts with two marks: line 1 is not JSON.",
    consequence="The damage stays unseen, and the next program loses the first row.",
    citation="Readers that take off every mark: https://github.com/elizaOS/eliza/pull/28249",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(_lines(text.lstrip("\ufeff")), start=1))


@fault(
    "jsonl.mark_on_every_line",
    exercise="validate_jsonl",
    title="A byte order mark is taken off every line, not off the first alone",
    symptom="Files that were glued together pass as one clean file.",
    first_check="Put a mark before the second line: it is not JSON.",
    consequence="Nobody looks at the seam, and a reader that takes off one mark loses a row at each.",
    citation="A reader that does so on purpose: https://github.com/wbolster/jsonlines/pull/69",
)
def _(text: str) -> Sorted:
    first, others = _lines(text)[:1], _lines(text)[1:]
    return _sorted(enumerate([*first, *(line.removeprefix("\ufeff") for line in others)], start=1))


@fault(
    "jsonl.last_key_wins",
    exercise="validate_jsonl",
    title="Of two equal keys the last one is kept",
    symptom="Answers that differ from what a text search finds in the file.",
    first_check="Read the file with object_pairs_hook and count the keys.",
    consequence="The row teaches one of two answers, and nobody decided which.",
    citation="https://github.com/im-anishraj/arnio/issues/1708",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(_lines(text), start=1), lambda line: _reason(line, strict_keys=False))


@fault(
    "jsonl.not_a_number",
    exercise="validate_jsonl",
    title="NaN and Infinity are taken for JSON",
    symptom="Python reads the file, every other program stops at it.",
    first_check="Search the file for NaN and Infinity outside of strings.",
    consequence="The accepted file cannot be read by the next program, or its weights become NaN.",
    citation="RFC 8259, section 6 (https://www.rfc-editor.org/rfc/rfc8259#section-6); Python's json reads "
    "and writes NaN unless told otherwise (https://docs.python.org/3/library/json.html)",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(_lines(text), start=1), lambda line: _reason(line, strict_numbers=False))


@fault(
    "jsonl.numbers_from_zero",
    exercise="validate_jsonl",
    title="Line numbers start at 0",
    symptom="Every report is one line too early in an editor.",
    first_check="Give it one broken line: it is line 1.",
    consequence="People repair or delete the row before the bad one.",
    citation="Off by one in reported places: https://github.com/google/"
    "exposure-notifications-verification-server/pull/1460",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(_lines(text)))


@fault(
    "jsonl.first_reason_only",
    exercise="validate_jsonl",
    title="Only the first error of a chat is given as the reason",
    symptom="A row is repaired, comes back, and is refused for the next reason.",
    first_check="Give it a chat with two errors.",
    consequence="Counts of reasons are wrong, and the wrong bug is repaired first.",
    citation="A validator that gives one error per record: "
    "https://github.com/sourcemeta/jsonschema/issues/733",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(_lines(text), start=1), lambda line: _reason(line, first=True))


@fault(
    "jsonl.last_line_feed",
    exercise="validate_jsonl",
    title="The line feed at the end of the file counts as a blank line",
    symptom="Every file has exactly one quarantined line too many.",
    first_check="Count the lines of a file with wc -l.",
    consequence="A clean file never looks clean, so the quarantine is no longer read.",
    citation="Seen here: text.split('\\n') gives 118 pieces for the 117 lines of the inbox.",
)
def _(text: str) -> Sorted:
    return _sorted(enumerate(text.removeprefix("\ufeff").split("\n"), start=1))


@alternative("validate_jsonl", style="a reason per line, then two comprehensions")
def _(text: str) -> Sorted:
    lines = list(enumerate(_lines(text), start=1))
    reasons = {number: _reason(line) for number, line in lines}
    return {
        "accepted": [{"line": n, "row": json.loads(line)} for n, line in lines if not reasons[n]],
        "quarantine": [{"line": n, "reason": why} for n, why in reasons.items() if why],
    }


@alternative("validate_jsonl", style="a file object that ends lines at line feeds")
def _(text: str) -> Sorted:
    import io

    with io.StringIO(text.removeprefix("\ufeff"), newline="\n") as file:
        return _sorted(enumerate(file, start=1))


@alternative("validate_jsonl", style="cutting by hand, in bytes")
def _(text: str) -> Sorted:
    data = text.encode("utf-8", "surrogatepass")
    data = data.removeprefix(b"\xef\xbb\xbf")
    result: Sorted = {"accepted": [], "quarantine": []}
    number = 0
    while data:
        raw, _, data = data.partition(b"\n")
        number += 1
        line = raw.decode("utf-8", "surrogatepass")
        why = _reason(line)
        entry = {"reason": why} if why else {"row": json.loads(line)}
        result["quarantine" if why else "accepted"].append({"line": number, **entry})
    return result


# repair


def _mergeable(before: Message, message: Message, roles: list[str]) -> bool:
    contents = (before["content"], message["content"])
    return (
        before["role"] == message["role"]
        and message["role"] in roles
        and all(isinstance(content, str) and content.strip() for content in contents)
    )


def _with_policy(messages: list[Message], policy: Message, **changed: Any) -> Sorted:
    repaired: Sorted = reference("repair")(messages=messages, policy={**policy, **changed})
    return repaired


@fault(
    "repair.policy_ignored",
    exercise="repair",
    title="User turns are merged whatever the policy says",
    symptom="Training has one user turn where serving sends two.",
    first_check="Run it with a policy that allows nothing.",
    consequence="Training and serving drift apart, and nobody decided it.",
    citation="A merge that is always on: https://github.com/unslothai/unsloth/pull/9491",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    return _with_policy(messages, policy, merge=["user", *policy["merge"]])


@fault(
    "repair.every_role",
    exercise="repair",
    title="Every role is merged, answers included",
    symptom="Targets that nobody wrote: two answers glued together, the first of them an abandoned draft.",
    first_check="Give it two assistant turns and a policy that names the user alone.",
    consequence="The model learns to answer twice in one turn.",
    citation="All consecutive turns of one role merged: https://github.com/vybestack/llxprt-code/pull/1314",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    roles = sorted({message["role"] for message in messages}) if policy["merge"] else []
    return _with_policy(messages, policy, merge=roles)


@fault(
    "repair.no_record",
    exercise="repair",
    title="Nothing is recorded",
    symptom="Nobody can tell what customers wrote from what was made of it.",
    first_check="Count the messages before and after, and compare with the changes.",
    consequence="A wrong policy cannot be taken back, and the share of repaired rows is unknown.",
    citation="Serving code that merges without a trace: https://github.com/elastic/kibana/pull/264025",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    return _with_policy(messages, policy) | {"changes": []}


@fault(
    "repair.keeps_the_last",
    exercise="repair",
    title="Only the last of the merged turns is kept",
    symptom="Answers that mention what the customer never said.",
    first_check="Search the repaired chat for the first half of the question.",
    consequence="The answer refers to words that are gone, which teaches inventing.",
    citation="Found in review: https://github.com/coasys/ad4m/pull/854",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    changes = _with_policy(messages, policy)["changes"]
    merged = {change["message"] for change in changes}
    kept = [dict(m) for at, m in enumerate(messages) if at + 1 not in merged]
    return {"messages": kept, "changes": changes}


@fault(
    "repair.fixed_separator",
    exercise="repair",
    title="The separator is fixed in the code",
    symptom="Merged turns differ by a blank line between training and serving.",
    first_check="Compare the merged text with what the server renders for the same two turns.",
    consequence="Training and serving join turns in two ways: a drift of a few characters in many rows.",
    citation="A fixed blank line: https://github.com/AidenAI-IO/aiden-firmware/pull/362 ; a fixed line "
    "break: https://github.com/elastic/kibana/pull/264025",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    return _with_policy(messages, policy, separator="\n\n")


@fault(
    "repair.pairs_only",
    exercise="repair",
    title="Only pairs are merged: a third turn in a row stays",
    symptom="Repaired chats that are still refused.",
    first_check="Give it three user turns in a row.",
    consequence="The rows with the most impatient customers are lost.",
    citation="A merge that covered some cases and left others: "
    "https://github.com/vybestack/llxprt-code/pull/1314",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    repaired: list[Message] = []
    changes: list[Message] = []
    at = 0
    while at < len(messages):
        pair = messages[at : at + 2]
        if len(pair) == 2 and _mergeable(pair[0], pair[1], policy["merge"]):
            text = policy["separator"].join(message["content"] for message in pair)
            repaired.append({**pair[0], "content": text})
            changes.append({"message": at + 1, "into": at})
            at += 2
        else:
            repaired.append(dict(messages[at]))
            at += 1
    return {"messages": repaired, "changes": changes}


@fault(
    "repair.turn_invented",
    exercise="repair",
    title="A turn of the other speaker is invented between the two",
    symptom="Assistant turns that hold a full stop and nothing else.",
    first_check="Count the assistant turns before and after the repair.",
    consequence="The invented turn is an answer to learn: the model replies with a full stop.",
    citation="https://github.com/janhq/jan/pull/6544",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    repaired: list[Message] = []
    changes = []
    for at, message in enumerate(messages):
        if repaired and _mergeable(repaired[-1], message, policy["merge"]):
            repaired.append({"role": NEXT.get(message["role"], "user"), "content": "."})
            changes.append({"message": at, "into": at - 1})
        repaired.append(dict(message))
    return {"messages": repaired, "changes": changes}


@fault(
    "repair.places_after",
    exercise="repair",
    title="Places are counted in the repaired chat",
    symptom="From the second merge on, the record names messages that were never touched.",
    first_check="Give it two places to repair and look both up in the original.",
    consequence="The record cannot be followed back, so a wrong merge stays.",
    citation="Places counted after filtering: https://github.com/openclaw/openclaw/pull/103645",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    result = _with_policy(messages, policy)
    into = [change["into"] for change in result["changes"]]
    changes = [
        {
            "message": change["message"] - number,
            "into": change["into"] - sum(c["message"] < change["into"] for c in result["changes"]),
        }
        for number, change in enumerate(result["changes"])
        if into
    ]
    return result | {"changes": changes}


@fault(
    "repair.str_of_content",
    exercise="repair",
    title="str() is called on contents, so None is merged as the word 'None'",
    symptom="The word None at the end of questions.",
    first_check="Search the merged turns for 'None'.",
    consequence="The model reads text that no customer typed, and an error of content is hidden.",
    citation="https://github.com/ProfSynapse/Synaptic-Tuner/pull/42",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    changed = [
        m
        if isinstance(m["content"], str) or m["role"] not in policy["merge"]
        else m | {"content": str(m["content"])}
        for m in messages
    ]
    result = _with_policy(changed, policy)
    return result if result["changes"] else _with_policy(messages, policy)


@fault(
    "repair.blank_turns_vanish",
    exercise="repair",
    title="Blank turns are swallowed by the merge",
    symptom="The quarantine holds no empty turns any more, although the export still writes them.",
    first_check="Give it a user turn of one space behind a good one.",
    consequence="A broken export stays unseen: what was lost in the blank turn is never asked for.",
    citation="Serving code that drops blank turns: https://github.com/anomalyco/opencode/pull/45046",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    kept = [
        m
        for m in messages
        if m["role"] not in policy["merge"] or not isinstance(m["content"], str) or m["content"].strip()
    ]
    return _with_policy(kept, policy)


@fault(
    "repair.in_place",
    exercise="repair",
    title="The chat that was given is changed as well",
    symptom="The original is gone; a second run with another policy repairs the repaired.",
    first_check="Compare the argument before and after the call.",
    consequence="Two policies cannot be compared, and the file of originals is no longer one.",
    citation="Seen here: after one call in place, a call with the policy that allows nothing still gives the "
    "merged chat.",
)
def _(messages: list[Message], policy: Message) -> Sorted:
    result = _with_policy(messages, policy)
    messages[:] = result["messages"]
    return result


@alternative("repair", style="groups of turns")
def _(messages: list[Message], policy: Message) -> Sorted:
    starts: list[int] = []
    for at, message in enumerate(messages):
        joins = at > 0 and _mergeable(messages[at - 1], message, policy["merge"])
        starts.append(starts[-1] if joins else at)
    repaired, changes = [], []
    for start, group in groupby(range(len(messages)), key=starts.__getitem__):
        places = list(group)
        text = policy["separator"].join(messages[at]["content"] for at in places) if places[1:] else ""
        repaired.append({**messages[start], **({"content": text} if places[1:] else {})})
        changes += [{"message": at, "into": start} for at in places[1:]]
    return {"messages": repaired, "changes": changes}


@alternative("repair", style="from the end to the beginning")
def _(messages: list[Message], policy: Message) -> Sorted:
    repaired: list[Message] = [dict(message) for message in messages]
    merged = []
    for at in range(len(messages) - 1, 0, -1):
        if _mergeable(messages[at - 1], messages[at], policy["merge"]):
            text = repaired[at - 1]["content"] + policy["separator"] + repaired[at]["content"]
            repaired[at - 1 : at + 1] = [{**repaired[at - 1], "content": text}]
            merged.append(at)
    changes = []
    for at in sorted(merged):
        into = at - 1
        while into in merged:
            into -= 1
        changes.append({"message": at, "into": into})
    return {"messages": repaired, "changes": changes}


@alternative("repair", style="recursion over the rest")
def _(messages: list[Message], policy: Message) -> Sorted:
    def rest(at: int) -> Sorted:
        if at >= len(messages):
            return {"messages": [], "changes": []}
        end = at + 1
        while end < len(messages) and _mergeable(messages[end - 1], messages[end], policy["merge"]):
            end += 1
        turn = dict(messages[at])
        if end - at > 1:
            turn["content"] = policy["separator"].join(m["content"] for m in messages[at:end])
        later = rest(end)
        return {
            "messages": [turn, *later["messages"]],
            "changes": [{"message": n, "into": at} for n in range(at + 1, end)] + later["changes"],
        }

    return rest(0)
