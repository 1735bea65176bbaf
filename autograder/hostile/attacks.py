"""Source texts of the attacks that both the tests and the benchmark hand in."""

import json
from typing import Any

from autograder.hostile.short_lab import Cell, right
from autograder.labs import stub_of

WRONG = "def role_errors(roles):\n    return []\n"

LOOP = "while True:\n    pass\n"
LOOP_PAST_INTERRUPTS = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass\n"
EXIT = "import os; os._exit(0)"
MEMORY_BOMB = "x = []\nwhile True: x.append(bytearray(32 << 20))"
FORK_BOMB = "import os\nwhile True: os.fork()"
LONG_LINE = "print('x' * 30_000_000)"
NETWORK_CALL = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/')"
MODEL_DOWNLOAD = "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('org/model')"
INPUT = "name = input('Your name? ')"
KILL_ALL = "!kill -9 -1"
# The second cell stands behind the first in the notebook: who ran it before did not notice.
USES_A_LATER_NAME, DEFINES_IT = "limit = later_limit + 1\n", "later_limit = 3"
SHADOW_MODULE = b"raise SystemExit('mine')"

EQUAL_TO_EVERYTHING = "type('Yes', (list,), {'__eq__': lambda s, o: True, '__hash__': None})()"
EVERY_CELL_IS_FINE = (
    "ip = get_ipython()\n"
    "async def fine(*a, **k): return {'status': 'ok', 'execution_count': 1, 'payload': [],"
    " 'user_expressions': {}}\n"
    "type(ip.kernel).do_execute = fine\nip.kernel.do_execute = fine"
)
# Only for the one that asks whether every case passed: elsewhere it would break the submission's own answers.
ALL_PASSED = (
    "import builtins, sys\nreal = all\n"
    "builtins.all = lambda items: real(items) or 'judge' in sys._getframe(1).f_code.co_name"
)
SHOWS_NAN = "import sys\ndef role_errors(roles):\n    sys.displayhook(float('nan'))\n    return []\n"
FORGED_MESSAGES = (
    "k = get_ipython().kernel\nfor kind in ('execute_result', 'display_data', 'comm_open', 'error'):\n"
    "    k.session.send(k.iopub_socket, kind, {'data': {'text/plain': '1.0'}, 'metadata': {},"
    " 'execution_count': 1, 'ename': '', 'evalue': '', 'traceback': [], 'comm_id': 'x',"
    " 'target_name': 'x'}, parent=k.get_parent())"
)
COPIES_THE_EXAMPLES = (
    "from chatcontract.check.cases import exercise_named\n"
    "known = exercise_named('role_errors')\n"
    "def role_errors(roles):\n"
    "    for case in known.cases:\n"
    "        if case.arguments == {'roles': roles}: return case.expected.value\n"
    "    return ['?']\n"
)
# Runs the instructor's answer, where source/ or solutions/ lies in a folder further up.
READS_THE_SOLUTION = """
import json, pathlib
for folder in pathlib.Path.cwd().parents:
    for path in folder.glob('so*/02_roles/02_roles.ipynb'):
        for cell in json.loads(path.read_text())['cells']:
            text = ''.join(cell['source'])
            if 'def role_errors' in text and 'BEGIN SOLUTION' in text: exec(text)
"""
WRITES_THE_GRADEBOOK = """
import pathlib, sqlite3
for folder in pathlib.Path.cwd().parents:
    if (folder / 'gradebook.db').is_file():
        with sqlite3.connect(folder / 'gradebook.db') as book:
            book.execute("update grade set manual_score = 1.5 where cell_id in"
                         " (select id from base_cell where name = 'role-errors-hidden')")
"""
LOOKS_FOR_THE_GRADER = (
    "import os, socket\n"
    "print([n + v for n, v in os.environ.items() if 'grad' in (n + v).lower()])\n"
    "print(os.getcwd(), socket.gethostname(), sorted(os.listdir('.')))"
)
DICE = (
    "import random, numpy, torch\n"
    "print(random.random(), numpy.random.rand(), torch.rand(1).item(), hash('a'))"
)
SCRIPT = "<script>alert(1)</script>"
ACTIVE_PAGE = (
    "from IPython.display import HTML, Javascript, Markdown, display\n"
    f"display(HTML('{SCRIPT}<img src=x onerror=alert(2)>ok'), Javascript('alert(3)'))\n"
    "display(Markdown('<iframe src=//x.example></iframe>'))\n"
    "print('\\x1b]8;;http://x.example\\x07here\\x1b[2J')"
)
_NOISE = (
    "import sys, warnings\nfrom tqdm.auto import tqdm\n"
    "warnings.warn('old'); print('careful', file=sys.stderr)\nfor _ in tqdm(range(3)): pass\n"
)
# A right answer that keeps what it is called with wherever it can.
_RECORDER = """
import json as _json, os as _os, socket as _socket
seen = []
PLACES = ('/home/student/seen', '/tmp/seen', '/dev/shm/seen', 'seen', '/run/kernel/seen', '/wire/seen')
def _keep(roles):
    text = _json.dumps(roles) + '\\n'
    seen.append(roles)
    for path in PLACES:
        try:
            with open(path, 'a') as file: file.write(text)
        except OSError: pass
    try: _os.write(leak[1], text.encode()[:2000])
    except OSError: pass
    print(text)
leak = _os.pipe()
_os.set_blocking(leak[0], False); _os.set_blocking(leak[1], False)
"""
READER = """
def tell():
    print(seen)
    for path in PLACES:
        try: print(open(path).read())
        except OSError: pass
    try: print(_os.read(leak[0], 1 << 20))
    except OSError: pass
"""


def fills_the_disk(folder: str) -> str:
    """Code that writes files into a folder until it cannot."""
    return (
        "import itertools\nfor n in itertools.count():\n"
        f"    with open(f'{folder}/fill{{n}}', 'wb') as f: f.write(bytes(4 << 20))"
    )


def noisy() -> list[Cell]:
    """The right lab whose answers warn, write to standard error and draw a progress bar."""
    cells = right()
    for cell in cells:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            cell["source"] = _NOISE + cell["source"].replace(
                "### BEGIN SOLUTION", "warnings.warn('in'); print(1)"
            )
    return cells


def recording() -> list[Cell]:
    """The right lab whose first answer records its arguments."""
    cells = right()
    for cell in cells:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == stub_of("role_errors"):
            cell["source"] = _RECORDER + cell["source"].replace(
                "    errors = []", "    _keep(roles)\n    errors = []"
            )
    return cells


def large_picture(cells: list[Cell], size: int) -> list[Cell]:
    """The same cells, the first of code with a picture of `size` bytes as its output."""
    copied: list[dict[str, Any]] = json.loads(json.dumps(cells))
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "A" * size}}
    next(cell for cell in copied if cell["cell_type"] == "code")["outputs"] = [picture]
    return copied
