"""Word lists of the ShopFlow world, combined freely: no fact can be guessed from its topic."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in text.split())


ITEMS = _words(
    "kettle lamp blender toaster camera tablet printer speaker keyboard monitor router charger "
    "headset drone scale heater fan vacuum mixer grill oven freezer fridge washer dryer iron clock "
    "radio watch bracelet ring necklace jacket coat sweater shirt scarf hat glove boot shoe sandal "
    "backpack suitcase wallet umbrella tent sleeping_bag bike helmet scooter skateboard ball racket "
    "guitar piano violin drum puzzle doll kite chair table desk shelf cabinet mirror carpet curtain "
    "pillow blanket mattress sofa stool bench vase candle frame basket bucket ladder hammer drill saw "
    "wrench hose shovel mower planter notebook pen stapler projector microphone console game book"
)

CONDITIONS = _words(
    "damaged late faulty lost missing unused broken wrong unopened returned exchanged cancelled "
    "reserved rented repaired refurbished recalled leaking cracked bent stained noisy dead incomplete "
    "delayed duplicate oversized discounted personalised imported borrowed loose torn dented fragile "
    "frozen spoiled counterfeit mislabelled misprinted untested unpaid prepaid"
)

GROUPS = (
    "electronics",
    "furniture",
    "clothing",
    "kitchen goods",
    "garden tools",
    "toys",
    "sports gear",
    "jewellery",
    "books",
    "office supplies",
    "music gear",
    "camping gear",
    "household goods",
    "phone parts",
    "pet supplies",
    "art supplies",
    "cosmetics",
    "groceries",
)

SUBJECTS = (
    "price match",
    "gift card",
    "lost parcel",
    "double charge",
    "address change",
    "spare part",
    "trade-in",
    "pickup order",
    "coupon",
    "invoice correction",
    "preorder",
    "assembly service",
    "rental extension",
    "subscription",
    "repair visit",
    "express delivery",
    "loyalty points",
    "bulk order",
    "store credit",
    "gift return",
    "battery swap",
    "display model",
    "custom order",
    "import tax",
    "group order",
    "seat cover",
    "wall mount",
    "delivery window",
    "name change",
    "club membership",
    "training course",
    "service plan",
    "tyre change",
    "key copy",
    "paint mix",
)

ACTION_VERBS = _words(
    "report claim request register book open file dispute confirm renew cancel return exchange check "
    "collect order change transfer extend redeem start stop lock close repair replace test measure "
    "pack label send mark note declare describe explain save print appeal approve correct swap "
    "activate"
)

ACTION_OBJECTS = (
    "the damage",
    "the delay",
    "the fault",
    "the loss",
    "the missing part",
    "the defect",
    "the charge",
    "the error",
    "the leak",
    "the crack",
    "the problem",
    "the order",
    "the parcel",
    "the item",
    "the product",
    "the address",
    "the warranty",
    "the rental",
    "the coupon",
    "the visit",
    "the card",
    "the account",
    "the subscription",
    "the payment",
    "the set",
    "the device",
    "a repair",
    "a refund",
    "an exchange",
    "a claim",
    "a search",
    "a price match",
    "a replacement",
    "a new label",
    "a pickup",
    "a return",
    "a correction",
    "a credit",
    "an appeal",
    "a transfer",
    "the stain",
    "the noise",
    "the recall",
    "the gap",
    "the smell",
    "the mix-up",
    "the shortage",
    "the bill",
)

ANCHORS = (
    "delivery",
    "purchase",
    "pickup",
    "the order date",
    "the invoice date",
    "the first use",
    "the last payment",
    "arrival",
    "the delivery date",
    "opening the box",
    "the first failure",
    "the notice",
    "the booking",
    "shipping",
    "the promised date",
    "the sale",
    "the repair",
    "handover",
    "the renewal",
    "the announcement",
)

ATTACH_VERBS = ("attach", "include", "send", "show", "add", "upload", "provide", "enclose", "submit", "share")

DOCUMENT_NOUNS = _words(
    "form slip note report card list letter label sheet statement record code certificate tag copy "
    "sketch quote log summary permit ticket scan number stamp receipt contract photo map file token "
    "badge key coupon voucher video"
)

PLAIN_DOCUMENTS = (
    "photos",
    "pictures",
    "the receipt",
    "the invoice",
    "a screenshot",
    "a short video",
    "the box",
    "a quote",
    "the contract",
    "a letter",
    "the packaging",
    "an email",
    "a support ticket",
    "an inspection sheet",
    "an account statement",
    "a dated photo",
    "the insurance letter",
    "the tracking number",
    "the order number",
    "the serial number",
)

DOCUMENT_QUALIFIERS = _words(
    "delivery order serial purchase carrier return claim damage packing customs repair bank payment "
    "gift warranty store pickup signed dated stamped printed blue green red white yellow short full "
    "original second final first weight size colour model batch address name customer transfer "
    "service safety test inspection energy tax stock rental booking member"
)

NAMES = _words(
    "Maya Tom Lena Omar Priya Jonas Ines Karl Sofia Dan Aisha Felix Nora Hugo Mei Ravi Clara Ben Zoe "
    "Ivan Lucy Sam Elif Marta Paul Rosa Finn Anna Leo Tara Ali Grace Noah Emma Yusuf Iris Max Olga "
    "Pedro Ruth Simon Vera Will Yara Adam Bella Carlos Dora Eric Fatima George Hana Igor Julia Kevin "
    "Linda Marco Nina Oscar Paula"
)

PLACES = _words(
    "Bergen Lisbon Graz Leeds Porto Turin Ghent Lyon Malmo Cork Bath Riga Split Varna Basel Essen "
    "Dover Delft Siena Tampa Austin Salem Boise Quito Lima Accra Cairo Pune Osaka Perth"
)

ROOMS = _words("kitchen hall garden garage office attic cellar bedroom workshop balcony shed library")

COLOURS = _words("red blue green white black grey yellow brown orange silver purple pink")

MATERIALS = _words("steel oak glass wool cotton leather plastic bamboo copper stone paper linen")

QUALITIES = _words(
    "quiet light strong small large simple warm soft bright compact solid cheap handy sturdy smooth "
    "slim wide heavy"
)

TEAMS = (
    "support team",
    "returns desk",
    "warehouse",
    "carrier",
    "repair shop",
    "billing office",
    "store manager",
    "night shift",
    "shop assistant",
    "service desk",
    "parcel hub",
    "claims office",
)
