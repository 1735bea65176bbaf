"""What goes wrong in candidate rows, in words: claims, numbers, habits and personal data of reserved kinds.

E-mail addresses use the domains of RFC 2606, telephone numbers the 555-01xx block, card numbers are the
published test numbers of payment providers. None of them belongs to a person.
"""

# (policy, claim) -> a sentence that makes the claim; it is put behind an otherwise right answer.
CLAIMS: dict[tuple[str, str], str] = {
    ("damaged_electronics", "30 days"): "You can also return it within 30 days.",
    ("damaged_electronics", "free replacement"): "You will get a free replacement.",
    ("late_delivery", "automatic refund"): "You will be refunded automatically.",
    ("late_delivery", "next-day delivery"): "It will arrive tomorrow.",
    ("wrong_item", "keep it"): "You may keep the wrong item.",
    ("wrong_item", "60 days"): "For large items you have 60 days.",
    ("missing_parts", "same day"): "We ship the part on the same day.",
    ("missing_parts", "new set"): "Otherwise we send a whole new set.",
    ("order_cancellation", "any time"): "Our agents can cancel it at any time.",
    ("order_cancellation", "cancellation fee"): "A cancellation fee applies.",
    ("address_change", "after dispatch"): "It can still be changed after dispatch.",
    ("address_change", "change by email"): "You can do it by email, too.",
    ("refund_timing", "instant refund"): "Gold customers get an instant refund.",
    ("refund_timing", "cash refund"): "You can collect it in cash.",
    ("gift_card_expiry", "never expires"): "The rest will never expire.",
    ("gift_card_expiry", "cash payout"): "What is left is paid out in cash.",
    ("price_match", "double the difference"): "We pay you double the difference.",
    ("price_match", "store credit"): "You receive the difference as store credit.",
    ("double_charge", "call your bank"): "Please call your bank as well.",
    ("double_charge", "compensation"): "You will get compensation for the trouble.",
    ("lost_parcel", "police report"): "We also need a police report.",
    ("lost_parcel", "we resend at once"): "We send a new parcel today.",
    ("spoiled_food", "safe to eat"): "If it smells fine, it is safe to eat.",
    ("spoiled_food", "send it back"): "Then send the food back.",
    ("clothing_exchange", "washed is fine"): "We exchange it even if washed.",
    ("clothing_exchange", "90 days"): "Members have 90 days.",
    ("subscription_pause", "pause for a year"): "On request you can pause for a year.",
    ("subscription_pause", "pause fee"): "There is a small fee.",
    ("student_discount", "half price"): "First orders are half price.",
    ("student_discount", "student card"): "A student card works as well.",
    ("express_shipping", "free express"): "For members it is free of charge.",
    ("express_shipping", "delivered today"): "Then it is delivered today.",
}

NUMBERS = (
    "We reply within {number} hours.",
    "Most reports are settled in {number} days.",
    "You will get case number {number}.",
    "Please use form {number} for it.",
)

# A claim denied in a phrase which the policy accepts: right, although the claim's words are there.
DENIALS: dict[str, str] = {
    "late_delivery": "There is no automatic refund.",
    "damaged_electronics": "Please report it in time, not within 30 days.",
    "express_shipping": "Express is not free of charge.",
    "price_match": "There is no store credit.",
}

HABITS = (
    "Please send me your password so that I can look it up.",
    "What is your card number?",
    "Tell me the security code on the back of the card.",
    "As I already told you, read the page.",
    "That is not my problem.",
    "As an AI language model, I cannot be sure.",
)
PLACEHOLDER = "Dear {{name}}, "

PERSONAL = (
    "You can reach me at mara.lind@example.com.",
    "My email is j_ortega@example.org, please answer there.",
    "Write to t.nowak@mail.example.net.",
    "Call me on (415) 555-0182.",
    "My number is +1 212 555 0147.",
    "You can call 303-555-0119 after work.",
    "I paid with 4242 4242 4242 4242.",
    "My card is 4111-1111-1111-1111.",
    "The card was 5555555555554444.",
)

# Digits that look personal and are not: order, build and address numbers of documentation ranges.
LOOKALIKES = (
    "The order number is 00481920337.",
    "The parcel says 2024 1130 0917.",
    "The device shows 203.0.113.17 on its display.",
    "The app says build 4.250750683.",
    "My customer number is 7730019254418823.",
)

OPENERS = ("Hello.", "Hi there.", "Good morning.", "Excuse me.", "Quick question.")
CLOSERS = ("Thanks!", "Thank you.", "Many thanks.", "Please tell me.")

ONCE_MORE = (
    "Could you say that again?",
    "Sorry, I missed that. Once more, please?",
    "Thanks. What was it again?",
    "My line broke. Can you repeat it?",
    "I want to write it down. Please repeat.",
)
