"""The 80 object names of COCO and the words by which captions call them."""

from __future__ import annotations

import functools

from rewards.parse.strings import by_first_word, mentions, words

SYNONYMS: dict[str, tuple[str, ...]] = {
    "person": (
        "man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "lady", "gentleman", "guy", "adult",
        "teenager", "pedestrian", "passenger", "rider", "cyclist", "biker", "motorcyclist", "skateboarder",
        "snowboarder", "skier", "surfer", "swimmer", "player", "athlete", "batter", "pitcher", "catcher", "umpire",
        "referee", "driver", "worker", "chef", "waiter", "waitress", "policeman", "officer", "soldier", "bride",
        "groom", "spectator", "tourist", "student", "teacher", "farmer", "vendor", "shopper", "couple", "crowd",
        "mother", "father", "son", "daughter", "brother", "sister", "friend", "human",
    ),
    "bicycle": ("bike", "pushbike", "tricycle"),
    "car": (
        "automobile", "sedan", "taxi", "cab", "suv", "hatchback", "convertible", "limousine",
        "police car", "minivan",
    ),
    "motorcycle": ("motorbike", "moped", "motor scooter", "motor bike", "motor cycle", "dirt bike"),
    "airplane": ("plane", "aeroplane", "aircraft", "jet", "airliner", "jetliner", "biplane", "fighter jet"),
    "bus": ("minibus", "school bus", "double decker", "trolleybus"),
    "train": ("locomotive", "tram", "subway train", "steam engine", "railcar"),
    "truck": ("lorry", "pickup", "fire engine", "semi trailer", "tow truck", "dump truck", "fire truck"),
    "boat": ("ship", "sailboat", "canoe", "kayak", "yacht", "ferry", "rowboat", "gondola", "raft", "speedboat"),
    "traffic light": ("stoplight", "traffic signal", "stop light", "street signal"),
    "fire hydrant": ("hydrant",),
    "stop sign": (),
    "parking meter": (),
    "bench": ("park bench", "pew"),
    "bird": (
        "pigeon", "seagull", "gull", "duck", "goose", "swan", "parrot", "owl", "eagle", "hawk", "sparrow", "crow",
        "chicken", "rooster", "hen", "ostrich", "flamingo", "penguin", "pelican", "peacock", "heron", "robin",
    ),
    "cat": ("kitten", "kitty", "tabby", "feline"),
    "dog": (
        "puppy", "pup", "canine", "hound", "terrier", "poodle", "retriever", "bulldog",
        "dachshund", "corgi", "beagle",
    ),
    "horse": ("pony", "foal", "colt", "mare", "stallion"),
    "sheep": ("lamb", "ram", "ewe"),
    "cow": ("cattle", "bull", "calf", "ox", "steer", "heifer"),
    "elephant": (),
    "bear": ("polar bear", "grizzly", "bear cub", "panda"),
    "zebra": (),
    "giraffe": (),
    "backpack": ("rucksack", "knapsack", "back pack", "school bag"),
    "umbrella": ("parasol",),
    "handbag": ("purse", "hand bag", "tote bag", "shoulder bag"),
    "tie": ("necktie", "bow tie", "bowtie", "neck tie"),
    "suitcase": ("luggage", "suit case", "briefcase", "baggage"),
    "frisbee": ("flying disc", "flying disk"),
    "skis": ("ski",),
    "snowboard": ("snow board",),
    "sports ball": ("ball", "baseball", "basketball", "football", "soccer ball", "tennis ball", "volleyball"),
    "kite": (),
    "baseball bat": ("bat",),
    "baseball glove": ("baseball mitt", "catcher s mitt", "mitt"),
    "skateboard": ("skate board", "longboard"),
    "surfboard": ("surf board", "bodyboard", "paddleboard"),
    "tennis racket": ("racket", "racquet", "tennis racquet"),
    "bottle": ("flask",),
    "wine glass": ("wineglass", "champagne glass", "goblet"),
    "cup": ("mug", "teacup", "tumbler"),
    "fork": (),
    "knife": ("butter knife", "dagger"),
    "spoon": ("teaspoon", "tablespoon", "ladle"),
    "bowl": (),
    "banana": (),
    "apple": (),
    "sandwich": ("burger", "hamburger", "cheeseburger", "panini", "sub sandwich"),
    "orange": ("tangerine", "clementine", "mandarin"),
    "broccoli": (),
    "carrot": (),
    "hot dog": ("hotdog", "frankfurter"),
    "pizza": ("pizza pie", "pizza slice"),
    "donut": ("doughnut",),
    "cake": ("cupcake", "cheesecake", "birthday cake", "wedding cake"),
    "chair": ("armchair", "stool", "seat", "recliner", "rocking chair", "high chair"),
    "couch": ("sofa", "loveseat", "settee"),
    "potted plant": ("houseplant", "house plant", "pot plant", "flower pot", "bonsai"),
    "bed": ("bunk bed", "mattress"),
    "dining table": ("table", "dinner table", "kitchen table", "picnic table", "desk", "coffee table"),
    "toilet": ("urinal", "commode", "toilet seat"),
    "tv": ("television", "tv set", "flat screen", "television set"),
    "laptop": ("laptop computer", "notebook computer"),
    "mouse": ("computer mouse",),
    "remote": ("remote control", "game controller", "wii remote"),
    "keyboard": ("computer keyboard",),
    "cell phone": ("cellphone", "mobile phone", "smartphone", "phone", "smart phone", "iphone"),
    "microwave": ("microwave oven",),
    "oven": ("stove", "stovetop", "range oven"),
    "toaster": ("toaster oven",),
    "sink": ("washbasin", "basin"),
    "refrigerator": ("fridge", "freezer"),
    "book": ("novel", "textbook", "cookbook"),
    "clock": ("alarm clock", "clock tower"),
    "vase": (),
    "scissors": ("shears",),
    "teddy bear": ("teddy", "stuffed bear", "stuffed animal", "plush bear"),
    "hair drier": ("hair dryer", "hairdryer", "blow dryer"),
    "toothbrush": ("tooth brush", "electric toothbrush"),
}  # fmt: skip

IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "gentleman": "gentlemen", "calf": "calves",
    "policeman": "policemen", "goose": "geese", "mouse": "mice", "knife": "knives", "sheep": "sheep", "ox": "oxen",
    "scissors": "scissors", "skis": "skis", "cattle": "cattle", "aircraft": "aircraft", "luggage": "luggage",
    "baggage": "baggage", "broccoli": "broccoli", "shears": "shears",
}  # fmt: skip
MODIFIERS = ("baby", "adult", "passenger")  # before an animal or a vehicle they name no person
CARRIED = (
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    *("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
)
NO_OBJECTS = (  # phrases that hold the word of an object without naming one
    *(
        "orange juice",
        "apple juice",
        "banana bread",
        "carrot cake",
        "table cloth",
        "tennis table",
        "bed of",
        "bowl cut",
    ),
    *(
        "train track",
        "train tracks",
        "train station",
        "bus stop",
        "bus station",
        "boat house",
        "book shelf",
        "car park",
    ),
    *(
        "dog house",
        "seat belt",
        "bird house",
        "bird cage",
        "bear costume",
        "phone booth",
        "tie up",
        "park ranger",
        "bottle cap",
    ),
)
AFTER_FRUIT = {  # after these words "orange" has named the fruit, not the colour of the next word
    *("and", "or", "on", "in", "is", "are", "was", "at", "with", "next", "beside", "near", "that", "which", "to", "of"),
    *("a", "an", "the", "lies", "sits", "juice"),
}


def objects_named(text: str) -> list[str]:
    """The COCO names of the objects that a text mentions, in its order and with repetition.

    >>> objects_named("Two puppies and a hot dog near an orange train; a baby elephant at the bus stop.")
    ['dog', 'hot dog', 'train', 'elephant']
    """
    return [name for _, name in objects_said(text)]


def objects_said(text: str) -> list[tuple[str, str]]:
    """The words or phrases of a text that mention objects, and their COCO names; a toilet's seat is not one.

    >>> objects_said("Puppies on a seat."), objects_said("The toilet; its seat is up.")
    ([('puppies', 'dog'), ('seat', 'chair')], [('toilet', 'toilet')])
    """
    caption_words = _without_colours(words(text))
    if "toilet" in caption_words:
        caption_words = [word for word in caption_words if word != "seat"]
    phrases = _phrases()
    pairs = [(" ".join(phrase), phrases[phrase]) for phrase in mentions(caption_words, _by_first_word())]
    return [(phrase, name) for phrase, name in pairs if name]


@functools.cache
def _phrases() -> dict[tuple[str, ...], str]:
    """Every word or phrase, in singular and plural, with the name it stands for; "" where it stands for none."""
    found: dict[tuple[str, ...], str] = {}
    for name, synonyms in SYNONYMS.items():
        for phrase in (name, *synonyms):
            *before, last = phrase.split()
            for form in (last, plural(last)):
                found[(*before, form)] = name
    for phrase, name in list(found.items()):
        if name in CARRIED:
            found.update({(modifier, *phrase): name for modifier in MODIFIERS})
    found.update({tuple(phrase.split()): "" for phrase in NO_OBJECTS})
    return found


@functools.cache
def _by_first_word() -> dict[str, list[tuple[str, ...]]]:
    return by_first_word(_phrases())


def plural(word: str) -> str:
    """The plural of an English noun.

    >>> plural("bench"), plural("pony"), plural("knife"), plural("boy")
    ('benches', 'ponies', 'knives', 'boys')
    """
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}s"


def _without_colours(caption_words: list[str]) -> list[str]:
    """The words, where every "orange" that describes the next word is replaced."""
    if "orange" not in caption_words:
        return caption_words
    return [
        "(colour)"
        if word == "orange" and i + 1 < len(caption_words) and caption_words[i + 1] not in AFTER_FRUIT
        else word
        for i, word in enumerate(caption_words)
    ]
