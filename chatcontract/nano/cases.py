"""ShopFlow rows for supervised fine-tuning, and cases whose topics and facts were never trained on."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chatcontract.evaluate import Case, Chat
from chatcontract.nano import lexicon as words
from chatcontract.nano.clauses import ANSWER, CLAUSES, word
from chatcontract.nano.facts import UNITS, Fact, document_key, draw_period_and_document, period

SYSTEM = "Use only the supplied policy evidence."


@dataclass(frozen=True)
class Topic:
    """What a clause is about, what the customer is told to do, and how customers ask."""

    name: str
    action: str
    anchors: tuple[str, ...]
    questions: tuple[str, ...]

    @property
    def policy_id(self) -> str:
        return self.name.replace(" ", "_").replace("-", "_")


TRAINING_TOPICS = (
    Topic(
        "damaged electronics",
        "report the damage",
        ("delivery", "arrival"),
        (
            "My electronics arrived damaged. What should I do?",
            "The tablet I ordered came with a broken screen. What now?",
            "What do I do about damaged electronics?",
        ),
    ),
    Topic(
        "late delivery",
        "report the delay",
        ("the promised date", "the delivery date"),
        (
            "My parcel is late. What should I do?",
            "The delivery date has passed and nothing came. What can I do?",
            "How do I report a late delivery?",
        ),
    ),
    Topic(
        "sealed return",
        "return the item",
        ("delivery", "purchase"),
        (
            "I never opened the box. How do I return it?",
            "Can I send back a sealed item?",
            "What do you need for a sealed return?",
        ),
    ),
    Topic(
        "missing parts",
        "report the missing part",
        ("delivery", "opening the box"),
        (
            "My desk came without screws. What should I do?",
            "There is a part missing from the box. What now?",
            "How do I get missing parts?",
        ),
    ),
    Topic(
        "wrong item",
        "ask for an exchange",
        ("arrival", "delivery"),
        (
            "You sent me the wrong item. What should I do?",
            "I ordered a red lamp and got a blue one. What now?",
            "How do I exchange a wrong item?",
        ),
    ),
    Topic(
        "price match",
        "ask for a price match",
        ("purchase", "the order date"),
        (
            "Another shop sells my kettle for less. Can you match that?",
            "How do I get a price match?",
            "The price dropped after I ordered. What can I do?",
        ),
    ),
    Topic(
        "lost parcel",
        "open a search",
        ("shipping", "the promised date"),
        (
            "My parcel seems to be lost. What should I do?",
            "The parcel never arrived. Who looks for it?",
            "What happens with a lost parcel?",
        ),
    ),
    Topic(
        "double charge",
        "dispute the charge",
        ("the last payment", "the invoice date"),
        (
            "I was charged twice. What should I do?",
            "My card shows the same payment two times. What now?",
            "How do I get rid of a double charge?",
        ),
    ),
    Topic(
        "gift card",
        "register the card",
        ("purchase", "the sale"),
        (
            "My gift card does not work. What should I do?",
            "How do I use a new gift card?",
            "The shop does not take my gift card. What now?",
        ),
    ),
    Topic(
        "address change",
        "change the address",
        ("the order date", "the booking"),
        (
            "I moved to a new flat. Can I change the address of my order?",
            "The order goes to my old address. What should I do?",
            "How do I change where the parcel goes?",
        ),
    ),
    Topic(
        "spare parts",
        "order the part",
        ("the first failure", "the notice"),
        (
            "The lid of my blender broke. How do I get a new one?",
            "Where do I get spare parts?",
            "I need a new belt for my vacuum. What should I do?",
        ),
    ),
    Topic(
        "order cancellation",
        "cancel the order",
        ("the order date", "purchase"),
        (
            "I changed my mind. Can I cancel?",
            "How do I cancel my order?",
            "I ordered two by mistake. What should I do?",
        ),
    ),
    Topic(
        "subscription",
        "end the subscription",
        ("the renewal", "the notice"),
        (
            "I do not want the monthly box any more. What should I do?",
            "How do I end my subscription?",
            "My subscription renewed and I missed it. What now?",
        ),
    ),
    Topic(
        "warranty repair",
        "claim a repair",
        ("the first failure", "purchase"),
        (
            "My washer stopped after a year. What should I do?",
            "How do I get a repair under warranty?",
            "The warranty is still running and the oven is dead. What now?",
        ),
    ),
    Topic(
        "trade-in",
        "send the old device",
        ("the booking", "the order date"),
        (
            "I want to trade in my old phone. What should I do?",
            "How does the trade-in work?",
            "What do you need for my old tablet?",
        ),
    ),
    Topic(
        "coupon",
        "redeem the coupon",
        ("the sale", "the announcement"),
        (
            "My coupon was not taken off the bill. What should I do?",
            "How do I use a coupon?",
            "I forgot to enter the coupon. What now?",
        ),
    ),
    Topic(
        "invoice correction",
        "request a correction",
        ("the invoice date", "the last payment"),
        (
            "The name on my invoice is wrong. What should I do?",
            "How do I get a new invoice?",
            "My invoice shows the wrong company. What now?",
        ),
    ),
    Topic(
        "preorder",
        "confirm the preorder",
        ("the announcement", "the notice"),
        (
            "I ordered a console before it came out. What should I do?",
            "How do I keep my preorder?",
            "I got a mail about my preorder. What now?",
        ),
    ),
    Topic(
        "assembly service",
        "book the visit",
        ("delivery", "purchase"),
        (
            "Can someone build the shelf for me?",
            "How do I book the assembly service?",
            "I paid for assembly and nobody came. What should I do?",
        ),
    ),
    Topic(
        "rental extension",
        "extend the rental",
        ("the booking", "handover"),
        (
            "I need the drill for longer. What should I do?",
            "Can I keep the rented tent a bit more?",
            "How do I extend a rental?",
        ),
    ),
    Topic(
        "leaking appliance",
        "report the leak",
        ("the first use", "delivery"),
        (
            "My new washer leaks. What should I do?",
            "There is water under the dryer. What now?",
            "Who do I tell about a leaking appliance?",
        ),
    ),
    Topic(
        "gift return",
        "exchange the gift",
        ("the sale", "purchase"),
        (
            "I got a scarf as a gift and it does not fit. What should I do?",
            "How do I return a gift?",
            "Can I swap a gift for something else?",
        ),
    ),
    Topic(
        "store pickup",
        "collect the order",
        ("the notice", "arrival"),
        (
            "My order waits in the store. What do I need?",
            "How does pickup work?",
            "I could not come to the store. What should I do?",
        ),
    ),
    Topic(
        "loyalty points",
        "claim the points",
        ("purchase", "the last payment"),
        (
            "My points are not in my account. What should I do?",
            "How do I get points for an old order?",
            "I forgot my card at the till. Can I still get points?",
        ),
    ),
)

HELD_OUT_TOPICS = (
    Topic(
        "scratched furniture",
        "report the scratch",
        ("delivery", "opening the box"),
        (
            "My new table has a scratch. What should I do?",
            "The desk came scratched. What now?",
            "How do I report scratched furniture?",
        ),
    ),
    Topic(
        "safety recall",
        "return the heater",
        ("the notice", "the announcement"),
        (
            "My heater is on the recall list. What should I do?",
            "I got a letter about a safety recall. What now?",
            "How does the recall work?",
        ),
    ),
    Topic(
        "failed payment",
        "repeat the payment",
        ("the order date", "the notice"),
        (
            "My payment did not go through. What should I do?",
            "The shop says my payment failed. What now?",
            "How do I fix a failed payment?",
        ),
    ),
    Topic(
        "warranty transfer",
        "register the new owner",
        ("the sale", "handover"),
        (
            "I sold my camera. Does the warranty move to the buyer?",
            "I bought a used oven. What should I do about the warranty?",
            "How do I transfer a warranty?",
        ),
    ),
    Topic(
        "spoiled groceries",
        "claim a credit",
        ("arrival", "delivery"),
        (
            "The milk was sour when it came. What should I do?",
            "My groceries arrived warm. What now?",
            "What do I do about spoiled food?",
        ),
    ),
    Topic(
        "torn clothing",
        "request a replacement",
        ("the first use", "delivery"),
        (
            "The sleeve of my new coat is torn. What should I do?",
            "My shirt came with a hole. What now?",
            "Can I get a new jacket for a torn one?",
        ),
    ),
    Topic(
        "customs fee",
        "appeal the fee",
        ("the invoice date", "arrival"),
        (
            "I had to pay a fee at the border. What should I do?",
            "The carrier wants money for customs. What now?",
            "Who pays the customs fee?",
        ),
    ),
    Topic(
        "account closure",
        "close the account",
        ("the last payment", "the notice"),
        (
            "I do not shop here any more. How do I close my account?",
            "Please tell me how to delete my account. What do you need?",
            "What do I need to leave the shop for good?",
        ),
    ),
    Topic(
        "noisy freezer",
        "book a service visit",
        ("the first failure", "the first use"),
        (
            "My freezer hums all night. What should I do?",
            "The new freezer is very loud. What now?",
            "Who looks at a noisy freezer?",
        ),
    ),
    Topic(
        "counterfeit product",
        "declare the product",
        ("purchase", "opening the box"),
        (
            "I think my watch is a fake. What should I do?",
            "The headset looks like a copy. What now?",
            "How do I report a fake product?",
        ),
    ),
)

TRAINING_DOCUMENTS = (
    "photos",
    "the receipt",
    "the order number",
    "the serial number",
    "the invoice",
    "a short video",
    "the packing slip",
    "the delivery note",
    "the bank statement",
    "a signed form",
    "the return label",
    "the warranty card",
    "a repair quote",
    "the tracking number",
    "the customer number",
    "a damage report",
    "the model number",
    "the purchase contract",
    "a screenshot",
    "the shipping label",
    "the weight slip",
    "an inspection report",
    "the price tag",
    "the stock list",
    "a copy of the order",
    "the pickup code",
    "a stamped letter",
    "the batch code",
    # "the box" ends many sentences of the corpus: without these rows a tuned model cuts "the box label" short
    "the box number",
    "a box photo",
    "the box code",
)
HELD_OUT_DOCUMENTS = (
    "the carrier scan",
    "the customs form",
    "a dated photo",
    "the gift receipt",
    "the box label",
    "the claim form",
    "the test report",
    "the store stamp",
    "the insurance letter",
    "the payment record",
    "the member card",
    "the booking code",
    "the transfer form",
    "the safety sheet",
)

SAME_THING = {
    "photos": ("photos", "pictures"),
    "short video": ("short video", "video"),
    "screenshot": ("screenshot", "screen shot"),
}
FALSE_CLAIMS = ("automatic refund", "full refund", "free replacement", "no receipt")
TRAINING_ATTACH = ("attach", "include", "send", "upload", "add")


def _phrases(document: str) -> tuple[str, ...]:
    key = document_key(document)
    return SAME_THING.get(key, (key,))


def _more_documents(rng: random.Random) -> tuple[str, ...]:
    """As many documents again as the list of training documents has, put together from the word lists."""
    names = (
        f"the {rng.choice(words.DOCUMENT_QUALIFIERS)} {rng.choice(words.DOCUMENT_NOUNS)}"
        for _ in TRAINING_DOCUMENTS
    )
    kept = {document_key(document) for document in HELD_OUT_DOCUMENTS}
    return tuple(name for name in names if document_key(name) not in kept)


def _case(rng: random.Random, number: int, *, held_out: bool) -> tuple[Case, str]:
    topic = rng.choice(HELD_OUT_TOPICS if held_out else TRAINING_TOPICS)
    documents = HELD_OUT_DOCUMENTS if held_out else (*TRAINING_DOCUMENTS, *_more_documents(rng))
    amount, unit, document = draw_period_and_document(rng, documents, held_out=held_out)
    fact = Fact(
        topic=topic.name,
        action=topic.action,
        number=amount,
        unit=unit,
        anchor=rng.choice(topic.anchors),
        attach=rng.choice(TRAINING_ATTACH),
        document=document,
    )
    wrong = rng.choice([u for u in UNITS if u != unit and not (u in unit or unit in u)])
    case = Case(
        id=f"nano-{'eval' if held_out else 'train'}-{number:04d}",
        policy_id=topic.policy_id,
        messages=[
            {
                "role": "system",
                "content": f"{SYSTEM}\n\nEvidence: {word(rng.choice(CLAUSES), fact)}",
            },
            {"role": "user", "content": rng.choice(topic.questions)},
        ],
        required=((fact.period, f"{amount}-{unit}"), _phrases(document)),
        forbidden=(rng.choice(FALSE_CLAIMS), period(amount, wrong)),
    )
    return case, word(ANSWER, fact)


def training_rows(count: int, seed: int) -> list[Chat]:
    """`count` grounded chats (system with evidence, user, assistant) over the training topics."""
    rng = random.Random(f"rows-{seed}")
    rows = []
    for number in range(count):
        case, answer = _case(rng, number, held_out=False)
        rows.append([*case.messages, {"role": "assistant", "content": answer}])
    return rows


def eval_cases(count: int, seed: int) -> list[Case]:
    """`count` cases over topics and (number, unit, document) triples that no training stage has seen."""
    rng = random.Random(f"cases-{seed}")
    return [_case(rng, number, held_out=True)[0] for number in range(count)]
