"""Whether a text holds private cases."""

from autograder.checks.judging import private_cases
from autograder.checks.registry import exercises
from autograder.checks.seeds import Seed
from autograder.hostile.short_lab import POISONED, right
from chatcontract.check.cases import exercise_named


def secret_texts(seed: Seed) -> list[str]:
    """Parts of private cases of the first exercise that no public case and no cell holds."""
    private = private_cases(exercises()[POISONED], seed)
    public = [case.arguments for case in exercise_named(POISONED).cases]
    released = "".join(cell["source"] for cell in right())
    texts = [str(case.arguments["roles"])[1:-1] for case in private.cases if case.arguments not in public]
    return [text for text in texts if len(text) > 40 and text not in str(public) + released]


def tells(text: str, seed: Seed) -> bool:
    """Whether a private case can be read in a text, in whichever quotes it was written."""
    flat = text.replace('\\"', "'").replace('"', "'")
    return any(secret in flat for secret in secret_texts(seed))
