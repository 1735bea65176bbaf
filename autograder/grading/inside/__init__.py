"""What runs inside the sandbox: no case, no expected outcome and no secret passes through here."""
