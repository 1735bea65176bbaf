"""The hostile and broken submissions of docs/grading.md, and what two graders make of them."""
