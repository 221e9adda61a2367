r"""Units of measure at the end of an expression: "12 cm^2", `5\ \mathrm{m/s}`, "30°", "12厘米".

A unit is told from a variable by its dress: upright type or a name of several letters, or a blank before it behind a
plain number. "3m" may be a product, so a gold answer keeps it; an answer to a plain number may end so.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

UPRIGHT, END = "\x01", "\x02"  # around text that LaTeX sets upright; no such characters come in from outside

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its size in basic units, and their powers. `words` is what is not a known unit, such as "apples"."""

    size: float = 1.0
    dimension: Dimension = ()
    words: str = ""


def agree(a: Unit | None, b: Unit | None) -> bool:
    """Whether two units measure the same; words and missing units agree with all, and 25 C may be 25 °C."""
    if not a or not b or a.words or b.words or a.dimension == b.dimension:
        return True
    return {a.dimension, b.dimension} in _ONE_LETTER


_PREFIXES = {
    **{"p": 1e-12, "n": 1e-9, "µ": 1e-6, "μ": 1e-6, "u": 1e-6, "m": 1e-3, "c": 1e-2, "d": 1e-1},
    **{"da": 10.0, "h": 1e2, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
}
_PREFIXED: dict[str, tuple[float, dict[str, int]]] = {  # units that take a prefix
    **{"m": (1, {"m": 1}), "g": (1e-3, {"kg": 1}), "s": (1, {"s": 1}), "A": (1, {"A": 1}), "K": (1, {"K": 1})},
    **{"mol": (1, {"mol": 1}), "L": (1e-3, {"m": 3}), "l": (1e-3, {"m": 3}), "Hz": (1, {"s": -1})},
    **{"N": (1, {"kg": 1, "m": 1, "s": -2}), "Pa": (1, {"kg": 1, "m": -1, "s": -2}), "C": (1, {"A": 1, "s": 1})},
    **{"J": (1, {"kg": 1, "m": 2, "s": -2}), "W": (1, {"kg": 1, "m": 2, "s": -3})},
    **{"V": (1, {"kg": 1, "m": 2, "s": -3, "A": -1}), "F": (1, {"kg": -1, "m": -2, "s": 4, "A": 2})},
    **{"Ω": (1, {"kg": 1, "m": 2, "s": -3, "A": -2}), "T": (1, {"kg": 1, "s": -2, "A": -1})},
    **{"H": (1, {"kg": 1, "m": 2, "s": -2, "A": -2}), "Wb": (1, {"kg": 1, "m": 2, "s": -2, "A": -1})},
    **{"eV": (1.602176634e-19, {"kg": 1, "m": 2, "s": -2}), "bar": (1e5, {"kg": 1, "m": -1, "s": -2})},
    **{"Wh": (3600, {"kg": 1, "m": 2, "s": -2}), "cal": (4.184, {"kg": 1, "m": 2, "s": -2})},
    **{"Ah": (3600, {"A": 1, "s": 1}), "rad": (1, {"angle": 1}), "B": (1, {"byte": 1}), "t": (1e3, {"kg": 1})},
}
_ALONE: dict[str, tuple[float, dict[str, int]]] = {
    **{"min": (60, {"s": 1}), "h": (3600, {"s": 1}), "hr": (3600, {"s": 1}), "d": (86400, {"s": 1})},
    **{"ft": (0.3048, {"m": 1}), "in": (0.0254, {"m": 1}), "yd": (0.9144, {"m": 1}), "mi": (1609.344, {"m": 1})},
    **{"mph": (0.44704, {"m": 1, "s": -1}), "lb": (0.45359237, {"kg": 1}), "oz": (0.028349523125, {"kg": 1})},
    **{"°": (math.pi / 180, {"angle": 1}), "℃": (1, {"degC": 1}), "°C": (1, {"degC": 1}), "°F": (1, {"degF": 1})},
    **{
        "$": (1, {"USD": 1}),
        "¢": (0.01, {"USD": 1}),
        "€": (1, {"EUR": 1}),
        "£": (1, {"GBP": 1}),
        "円": (1, {"JPY": 1}),
        "원": (1, {"KRW": 1}),
        "¥": (1, {"CNY": 1}),
    },
    **{"Nm": (1, {"kg": 1, "m": 2, "s": -2}), "rpm": (1 / 60, {"s": -1})},
    **{"atm": (101325, {"kg": 1, "m": -1, "s": -2}), "mmHg": (133.322387415, {"kg": 1, "m": -1, "s": -2})},
    **{"ha": (1e4, {"m": 2}), "kph": (1 / 3.6, {"m": 1, "s": -1}), "ms": (1e-3, {"s": 1})},
}
_ONE_LETTER = [  # C is the coulomb, and often stands for °C; so F
    {(("A", 1), ("s", 1)), (("degC", 1),)},
    {(("A", 2), ("kg", -1), ("m", -2), ("s", 4)), (("degF", 1),)},
]
_NAMES = {  # other names, in their singular
    **dict.fromkeys(("meter", "metre", "米", "mètre", "metro", "メートル"), "m"),
    **dict.fromkeys(("kilometer", "kilometre", "千米", "公里", "kilomètre", "kilómetro", "キロメートル"), "km"),
    **dict.fromkeys(("centimeter", "centimetre", "zentimeter", "厘米", "centimètre", "centímetro"), "cm"),
    **dict.fromkeys(("millimeter", "millimetre", "毫米"), "mm"),
    **dict.fromkeys(("second", "sec", "sekunde", "sekunden", "seconde", "segundo", "秒"), "s"),
    **dict.fromkeys(("minute", "minuten", "minuto", "分钟", "分"), "min"),
    **dict.fromkeys(("hour", "stunde", "stunden", "heure", "hora", "小时", "時間"), "h"),
    **dict.fromkeys(("day", "tag", "tage", "jour", "día", "天"), "d"),
    **dict.fromkeys(("gram", "gramm", "gramme", "gramo", "克", "グラム"), "g"),
    **dict.fromkeys(("kilogram", "kilogramm", "kilo", "千克", "公斤"), "kg"),
    **dict.fromkeys(("tonne", "吨"), "t"),
    **dict.fromkeys(("liter", "litre", "litro", "升", "リットル"), "L"),
    **dict.fromkeys(("milliliter", "millilitre", "毫升"), "mL"),
    **dict.fromkeys(("foot", "feet"), "ft"),
    **dict.fromkeys(("inch", "inche"), "in"),
    **{"yard": "yd", "mile": "mi", "pound": "lb", "ounce": "oz", "hectare": "ha", "牛": "N", "牛顿": "N"},
    **dict.fromkeys(("degree", "deg", "grad", "degré", "grado", "度"), "°"),
    **{
        "radian": "rad",
        "ohm": "Ω",
        "欧姆": "Ω",
        "volt": "V",
        "伏": "V",
        "watt": "W",
        "瓦": "W",
        "joule": "J",
        "焦耳": "J",
    },
    **{
        "newton": "N",
        "pascal": "Pa",
        "ampere": "A",
        "amp": "A",
        "安": "A",
        "kelvin": "K",
        "mole": "mol",
        "摄氏度": "℃",
    },
    **dict.fromkeys(("dollar", "usd", "dólar", "美元"), "$"),
    **{"cent": "¢", "euro": "€", "eur": "€", "欧元": "€", "yuan": "¥", "元": "¥", "rmb": "¥", "cny": "¥"},
    **{
        "平方米": "m^2",
        "平方厘米": "cm^2",
        "平方千米": "km^2",
        "立方米": "m^3",
        "立方厘米": "cm^3",
        "平方公里": "km^2",
    },
    **{"celsius": "℃", "fahrenheit": "°F", "hertz": "Hz", "kilowatt": "kW", "kilojoule": "kJ"},
}
_COUNTED = (
    "个",
    "只",
    "条",
    "人",
    "名",
    "张",
    "辆",
    "本",
    "块",
    "种",
    "次",
    "岁",
    "つ",
    "個",
    "枚",
    "匹",
    "頭",
    "개",
    "명",
)
_NOT_WORDS = {  # of letters, and yet mathematics
    *("pi", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "inf", "infty", "infinity", "oo"),
    *("mod", "gcd", "lcm", "max", "min", "and", "or", "alpha", "beta", "gamma", "theta", "lambda", "phi", "omega"),
    *("abs", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "over", "factorial", "choose", "is"),
}
_AMBIGUOUS = {
    "mg",
    "ms",
    "ns",
    "nm",
    "cd",
    "Pa",
    "mA",
    "mN",
    "mV",
    "mT",
    "mK",
    "mJ",
    "mW",
    "pA",
    "pF",
    "dm",
    "ha",
    "mi",
}

_TOKEN = r"[A-Za-zµμΩ°℃$€£¥¢\u00e0-\u00ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]+"
_POWER = r"(?:\s*\^\s*\{?\s*(?P<power>[-−]?\d)\s*\}?|(?P<raised>⁻?[¹²³⁴]))?"
_STEP = re.compile(rf"\s*+(?P<by>/|per\b|pro\b|par\b|por\b|每|[·⋅*.]|)\s*+(?P<name>{_TOKEN}){_POWER}")
_OVER = re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_OVER_SEVERAL = re.compile(r"([^/]+)/\s?\((.+)\)")
_SQUARES = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3, "quadrat": 2, "kubik": 3}
_RAISED = str.maketrans("⁻¹²³⁴", "-1234")
_FLAT = [
    (r"\cdot", "·"),
    (r"\times", "·"),
    (r"\Omega", "Ω"),
    (r"\mu", "µ"),
    (r"\degree", "°"),
    ("^{\\circ}", "°"),
    (r"^\circ", "°"),
]
_NUMBER_END = re.compile(r"[\d)\]}!π½⅓¼¾]\s*\Z|\\pi\s*\Z")
_PLAIN_NUMBER = re.compile(
    r"[-+±\d.,/(){}^\s×·*π√]*(?:\\(?:frac|dfrac|tfrac|sqrt|pi|times|cdot|pm)[-+±\d.,/(){}^\s×·*π√]*)*"
)
_LONGEST = 60  # characters of a unit


def split_unit(text: str, *, glued: bool = False) -> tuple[str, Unit | None]:
    r"""An expression without the unit that ends it, and that unit.

    `glued`: a single letter right behind a number counts as a unit too.

    >>> split_unit("12 cm^2")[0], split_unit("3 apples")[1].words, split_unit("3t")
    ('12', 'apples', ('3t', None))
    """
    for start in range(max(len(text) - _LONGEST, 1), len(text)):
        if text[start - 1].isspace() or not _NUMBER_END.search(text, max(start - 6, 0), start):
            continue
        value, tail = text[:start].rstrip(), text[start:]
        unit = _unit(_flat(tail))
        if unit and _told_apart(value, tail, unit, glued):
            return value, unit
    return text, None


def _told_apart(value: str, tail: str, unit: Unit, glued: bool) -> bool:
    """Whether the tail is a unit by its dress, not a product of variables."""
    name, value = tail.strip(), value.rpartition("=")[2].strip()
    if name.startswith("\\frac") and UPRIGHT not in tail:
        return bool(_PLAIN_NUMBER.fullmatch(value)) and tail[:1].isspace()
    if UPRIGHT in tail or not name[:1].isascii() or not name[:1].isalpha():
        return not unit.words or UPRIGHT not in tail or bool(_PLAIN_NUMBER.fullmatch(value))
    plain, spaced = _PLAIN_NUMBER.fullmatch(value), tail[:1].isspace() or tail[:1] == "~"
    first = re.split(r"[^A-Za-z]", name)[0]
    if len(first) == 1 or first in _AMBIGUOUS:
        return bool(plain) and (spaced or glued)
    return bool(plain) if unit.words else bool(plain) or len(first) > 1


def _flat(tail: str) -> str:
    tail = _OVER.sub(r"\1/\2", tail)
    for tex, plain in _FLAT:
        tail = tail.replace(tex, plain)
    tail = tail.replace("µ" + UPRIGHT, "µ").replace("^°", "°").replace("{°}", "°")
    return re.sub(r"[\x01\x02~]|\\[,;:! ]|\\(?:text|mathrm)", " ", tail).strip()


@functools.lru_cache(maxsize=4096)
def _unit(text: str) -> Unit | None:
    """The unit that a text is, as a whole."""
    text = text.strip(" .").removeprefix("{").removesuffix("}").strip()
    if not text or len(text) > _LONGEST:
        return None
    size, powers, position, sign, raise_next = 1.0, dict[str, int](), 0, 1, 1
    bracketed = _OVER_SEVERAL.fullmatch(text)
    if bracketed:
        over, under = _unit(bracketed[1]), _unit(bracketed[2])
        return _product(over, under) if over and under and not (over.words or under.words) else None
    while position < len(text):
        step = _STEP.match(text, position)
        if not step:
            return None
        name = step["name"]
        sign = -1 if step["by"] in ("/", "per", "pro", "par", "por", "每") else sign if step["by"] else 1
        if name.lower() in _SQUARES:
            if name.lower().endswith("ed"):  # "cm squared"
                return None
            raise_next, position = _SQUARES[name.lower()], step.end()
            continue
        known = _known(name)
        if known is None:
            return _counted(text) if not powers and size == 1.0 else None
        power = int((step["power"] or (step["raised"] or "1").translate(_RAISED)).replace("−", "-"))
        power *= sign * raise_next
        size *= known[0] ** power
        for base, own in known[1].items():
            powers[base] = powers.get(base, 0) + own * power
        position, raise_next = step.end(), 1
    return Unit(size, tuple(sorted((base, power) for base, power in powers.items() if power)))


def _product(over: Unit, under: Unit) -> Unit:
    powers = dict(over.dimension)
    for base, power in under.dimension:
        powers[base] = powers.get(base, 0) - power
    return Unit(over.size / under.size, tuple(sorted((base, power) for base, power in powers.items() if power)))


def _known(name: str) -> tuple[float, dict[str, int]] | None:
    """Size and powers of one named unit."""
    plain = name.lower().removesuffix("s")
    for found in (name, _NAMES.get(name.lower()), _NAMES.get(plain), name.removesuffix("s") if len(name) > 2 else None):
        if found is None:
            continue
        if found.endswith(("^2", "^3")):
            size, powers = _known(found[:-2]) or (1.0, {})
            return size ** int(found[-1]), {base: power * int(found[-1]) for base, power in powers.items()}
        if found in _ALONE:
            return _ALONE[found]
        for prefix in ("", found[:1], found[:2]):
            base = _PREFIXED.get(found[len(prefix) :])
            if base and (not prefix or prefix in _PREFIXES):
                return base[0] * _PREFIXES.get(prefix, 1.0), base[1]
    return None


def _counted(text: str) -> Unit | None:
    """What is counted, in words: "apples", "red cars", "个"."""
    words = text.casefold().split()
    if text in _COUNTED:
        return Unit(words=text)
    if len(words) > 4 or not all(len(word) > 1 and word.isalpha() and word not in _NOT_WORDS for word in words):
        return None
    return Unit(words=" ".join(words)) if len("".join(words)) > 2 else None
