"""Submissions that want points they have not earned, or put the grader's own words into question."""

import math
import random

import numpy
import pytest
from hostile_submissions import graded, others_stand, output, points, shown, verdicts
from sandboxed import needs_sandbox

from autograder.grading.inside.kernel import SEED
from autograder.grading.model import Result, Status
from autograder.hostile import attacks
from autograder.hostile.attacks import WRONG
from autograder.hostile.short_lab import ALL, POISONED, POSSIBLE, answered, own_cell, right, with_cell

pytestmark = [pytest.mark.slow, needs_sandbox]


def earns_nothing(result: Result) -> bool:
    """Whether the wrong answer has no points, every score is a number in range, and the status is plain."""
    scores = [cell.points for cell in result.cells]
    assert all(type(score) is float and math.isfinite(score) for score in scores)
    assert all(0 <= (cell.points or 0) <= cell.possible for cell in result.cells)
    return points(result)[POISONED] == 0 and result.status is Status.GRADED


VALUES = {
    "equal to everything": attacks.EQUAL_TO_EVERYTHING,
    "a text equal to everything": "type('Yes', (str,), {'__eq__': lambda s, o: True})('x')",
    "always true": "type('T', (), {'__bool__': lambda s: True, '__eq__': lambda s, o: True})()",
    "a dict that lies": "type('D', (dict,), {'__getitem__': lambda s, k: [], 'items': lambda s: []})()",
    "a list without end": "[type('L', (list,), {'__len__': lambda s: 10**9})()]",
    "not a number": "float('nan')",
    "infinite": "float('inf')",
    "a numpy score": "__import__('numpy').float64(1.0)",
    "a tensor": "__import__('torch').tensor(1.0)",
    "an array that agrees": (
        "type('A', (__import__('numpy').ndarray,), {'__array_function__': lambda *a: True})((1,))"
    ),
    "none": "None",
    "a very long text": "'x' * 50_000_000",
    "a very large number": "10 ** 5000",
    "very deep": "__import__('functools').reduce(lambda x, _: [x], range(5000), [])",
    "deeper than agreed": "__import__('functools').reduce(lambda x, _: [x], range(100), [])",
    "itself": "(lambda x: x.append(x) or x)([])",
    "half a character": "'\\ud800'",
    "keys that are no texts": "{1: 2, None: 3}",
    "a grade": "{'score': 1.0, 'points': 10, 'verdict': 'passed', 'max_score': 1}",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_that_is_not_the_answer_earns_nothing(value: str) -> None:
    result = graded(answered(f"def role_errors(roles):\n    return {value}\n"))
    assert earns_nothing(result)
    assert others_stand(result)


HOOKS = {
    "rewrites later cells": (
        "import ast\n"
        "class Rewrite(ast.NodeTransformer):\n"
        "    def visit_Return(self, node): return ast.parse('return []').body[0]\n"
        "get_ipython().ast_transformers.append(Rewrite())"
    ),
    "events": (
        "ip = get_ipython()\n"
        "for name in ('pre_run_cell', 'post_run_cell', 'pre_execute', 'post_execute'):\n"
        "    ip.events.register(name, lambda *a: print('{\"score\": 1.0}'))"
    ),
    "tells every cell ok": attacks.EVERY_CELL_IS_FINE,
    "display": "import sys\nsys.displayhook = get_ipython().displayhook = lambda *a: None",
    "traces": "import sys\nsys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "audits": (
        "import sys\ndef hook(name, args):\n"
        "    if name in ('os.fork', 'socket.connect'): raise RuntimeError('no')\nsys.addaudithook(hook)"
    ),
    "no forks": "import os\ndef no(): raise OSError('no')\nos.fork = no",
    "forks that hang": "import os\nos.register_at_fork(after_in_child=lambda: __import__('time').sleep(99))",
    "json": "import json\njson.dumps = lambda *a, **k: '{\"value\": []}'\njson.loads = lambda *a, **k: {}",
    "copies": "import copy\ncopy.deepcopy = lambda x, memo=None: []",
    "builtins": (
        "import builtins\nbuiltins.len = lambda x: 0\nbuiltins.isinstance = lambda *a: True\n"
        "builtins.print = lambda *a, **k: None"
    ),
    "numbers": (
        "import math, random, time, numpy, torch\nmath.isfinite = math.isnan = lambda x: True\n"
        "random.random = lambda: 0.5\ntime.monotonic = time.time = lambda: 0.0\n"
        "numpy.allclose = torch.equal = lambda *a, **k: True"
    ),
    "outcomes": (
        "from chatcontract.check import compare, diagnosis, outcome, run\n"
        "compare.agrees = diagnosis.agrees = lambda *a, **k: True\n"
        "outcome.call = lambda f, a, **k: outcome.Outcome(value=[])"
    ),
    "signals and threads": (
        "import signal, threading\nsignal.setitimer = signal.signal = lambda *a: None\n"
        "threading.Thread.start = lambda self: None"
    ),
    "the session": (
        "s = get_ipython().kernel.session\ns.sign = lambda *a: b'0' * 64\ns.pack = lambda *a: b'[1, 2, 3]'"
    ),
    "garbage on its channels": (
        "k = get_ipython().kernel\nfor n in range(50):\n"
        "    k.iopub_socket.send_multipart([b'x', b'<IDS|MSG>', b'0' * 64, b'{', b'[]', b'null', b'7'])"
    ),
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_patched_kernel_earns_nothing_and_spoils_only_itself(hook: str) -> None:
    cells = answered(WRONG)
    result = graded([own_cell(hook), *cells])
    assert earns_nothing(result)
    result = graded(with_cell(hook, before="repair"))
    kept = points(result)
    assert {name: kept[name] for name in list(POSSIBLE)[:3]} == {
        name: POSSIBLE[name] for name in list(POSSIBLE)[:3]
    }


FORGERIES = {
    "a grade block": 'print(\'{"grade": 1.0, "points": 10, "status": "graded"}\')',
    "a results file": (
        "import json, pathlib\nfor name in ('results.json', 'grades.csv', '/tmp/results.json'):\n"
        "    pathlib.Path(name).write_text(json.dumps({'score': 10}))"
    ),
    "kernel messages": attacks.FORGED_MESSAGES,
    "a pickle": (
        "import os, pickle, socket\n"
        "class P:\n    def __reduce__(self): return (os.system, ('touch /tmp/pickled',))\n"
        "for fd in range(3, 200):\n"
        "    try:\n"
        "        s = socket.socket(fileno=os.dup(fd))\n"
        "        s.setblocking(False); s.send(pickle.dumps(P()))\n"
        "    except OSError: pass"
    ),
}
ANSWERER = """
import json, os, socket, struct, threading

def channels():
    for name in os.listdir('/proc/self/fd'):
        try:
            if 'socket' in os.readlink('/proc/self/fd/' + name):
                yield int(name)
        except OSError:
            pass

def frame(data):
    body = json.dumps(data).encode()
    return struct.pack('>I', len(body)) + body

def answer(fd):
    s = socket.socket(fileno=os.dup(fd))
    s.settimeout(20)
    while True:
        try:
            size = struct.unpack('>I', s.recv(4))[0]
            body = b''
            while len(body) < size: body += s.recv(size - len(body))
            q = json.loads(body)
            for i in range(len(q['cases'])):
                s.sendall(frame({'nonce': q['nonce'], 'index': i, 'outcome': VALUE}))
        except Exception:
            return

def steal(fd):
    s = socket.socket(fileno=os.dup(fd), family=socket.AF_UNIX, type=socket.SOCK_STREAM)
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(s, 1, 4)
        except OSError:
            return
        if not data: return
        for f in fds: threading.Thread(target=answer, args=(f,), daemon=True).start()
        s.sendall(b'+')

for fd in channels():
    try:
        kind = socket.socket(fileno=os.dup(fd))
        if kind.family == socket.AF_UNIX and kind.type == socket.SOCK_STREAM:
            for _ in range(8): threading.Thread(target=steal, args=(fd,), daemon=True).start()
    except OSError:
        pass
import time; time.sleep(0.2)
"""
CLAIMS = {
    "passed": "{'value': [], 'trouble': '', 'verdict': 'passed', 'points': 10, 'passed': True}",
    "not finite": "{'value': float('nan')}",
    "raised everything": "{'raised': ['Exception', 'ValueError', 'BaseException'], 'message': 'x' * 9999}",
    "of another form": "{'value': [], 'trouble': 7}",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_result_earns_nothing(forgery: str) -> None:
    result = graded([own_cell(forgery), *answered(WRONG)])
    assert earns_nothing(result)
    assert graded(right()).points == ALL


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_answers_forged_on_the_graders_own_channel_earn_nothing(claim: str) -> None:
    result = graded([own_cell(ANSWERER.replace("VALUE", claim)), *answered(WRONG)])
    assert earns_nothing(result)


def test_answers_copied_from_the_examples_are_told_from_understanding() -> None:
    result = graded(answered(attacks.COPIES_THE_EXAMPLES))
    assert verdicts(result) == ["passed", "passes examples only"]
    assert others_stand(result)
    assert "none of the fresh cases" in shown(result)


def test_a_program_that_looks_for_the_grader_finds_no_sign_in_its_environment() -> None:
    result = graded(with_cell(attacks.LOOKS_FOR_THE_GRADER))
    assert "[]\n/home/student/02_roles course []" in output(result)


def test_warnings_and_progress_bars_cost_nothing() -> None:
    result = graded(attacks.noisy())
    assert result.points == ALL


def test_chance_repeats_itself() -> None:
    first, second = graded(with_cell(attacks.DICE)), graded(with_cell(attacks.DICE))
    assert output(first) == output(second) != ""
    # How often the kernel was asked who it is, which draws a tip at random, makes no difference.
    drawn = random.Random(SEED).random(), numpy.random.RandomState(SEED).rand()
    assert " ".join(map(str, drawn)) in output(first)


def test_what_a_page_would_run_is_only_text() -> None:
    result = graded(with_cell(attacks.ACTIVE_PAGE))
    assert result.points == ALL
    words = output(result)
    assert "<script" not in words and "onerror" not in words and "\x1b" not in words
    assert all(
        "application/javascript" not in item.get("data", {})
        for cell in (result.notebook or {})["cells"]
        for item in cell.get("outputs", [])
    )
