"""Texts in many languages and in none: what tokenizers are compared on."""

import random
import sys
import unicodedata

SENTENCES = [
    "",
    " ",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog; it's the dog's day, isn't it? I'LL say WE'RE done, they'Ve gone.",
    "Der Fluss heißt Maas — auf Französisch „la Meuse“. Größe, Straße, Übermut: 1.234,56 €.",
    "L'été dernier, où étiez-vous ? J'ai mangé des œufs à l'auberge d'à côté… naïveté, ça va ?",
    "¿Qué tal? ¡Muy bien! El niño comió jalapeños. Año 1999–2000.",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. Árvíztűrő tükörfúrógép.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ёлка, 42-й год; «кавычки».",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ἄνδρα μοι ἔννεπε, Μοῦσα, πολύτροπον.",
    "敏捷的棕色狐狸跳过了懒狗。今天是2024年10月5日，气温23.5℃！「引用」、（括号）——破折号……",
    "いろはにほへと ちりぬるを。カタカナとひらがな、漢字の混ざった文章です。ＡＢＣ１２３",
    "다람쥐 헌 쳇바퀴에 타고파. 한국어 문장 하나 더: 안녕하세요? ㅋㅋㅋ",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر. ١٢٣٤٥٦٧٨٩٠ ، ؟ مُحَمَّد",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। १२३४",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "আমি বাংলায় গান গাই। আমি বাংলার গান গাই।",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "Tiếng Việt có dấu: Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da IŞIK, ığdır.",
    "ღმერთსი შემვედრე, ნუთუ კვლა დამხსნას. ᲐᲑᲒ Հայերեն լեզու ԱԲԳ",
    "አማርኛ ፊደል ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ བོད་སྐད་ မြန်မာ ភាសាខ្មែរ ລາວ සිංහල తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ ଓଡ଼ିଆ",
    "Emoji: 😀👍🏽👨‍👩‍👧‍👦🇫🇷❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿 and ☃︎ ✈️ ™ © ® ℃ № ½ ² Ⅷ ①",
    "Mathematics: ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β, 𝒜𝔅ℭ 𝟙𝟚𝟛, √2≈1.41421356, 6.022e23, 0xDEADBEEF",
    "e\u0301 é a\u0300\u0301\u0302\u0303 z\u0335\u0336a\u0337lgo \u0301alone \u200bzero\u200dwidth\ufeffbom \u00ad soft",
    "def f(x: int) -> int:\n    \"\"\"Doc.\"\"\"\n    if x > 0:\n\t\treturn x**2  # comment\n\n\n    return -x\n",
    "fn main() {\r\n    println!(\"{:?}\", vec![1u8; 0x10]);\r\n}\r\n\r\n// https://example.com/a_b-c?d=e&f=%20#g",
    "SELECT * FROM t WHERE a<=1 AND b!='x''y' -- z\n;{\"k\":[1,2.5e-3,null,true],\"s\":\"\\u00e9\\n\"}",
    "<html><body class=\"a b\">&nbsp;<br/></body></html> $PATH ~/.config ../x\\y C:\\Windows\\system32",
    "   leading and trailing   ",
    "tabs\t\tand\tnewlines\n\n\n and \r\n mixed \n \n  \n   end\n",
    " \n \t \r ",
    "a  b   c    d     e      f\u00a0g\u2003h\u3000i\u2028j\u2029k\u0085l\x0bm\x0cn\x1co\x1fp",
    "1 12 123 1234 12345 123456 1234567 12345678901234567890 ٣٤٥٦ ½⅓ Ⅻ ²³",
    "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'Ve 'M 'LL 'D 'sa 'ta 'rex 'ſ 'ſt ''s 'r 'v 'l '",
    "ABCdef abcDEF AbCdEf ABCDEFg aBCDEFG HTTPServer iPhone McDonald's O'Neill's ÉCOLEécole ǅungla",
    "A中B中c中D ʰa ªº aʰB ΑΒΓαβγ АБВабв \u0301A \u0301a A\u0301 a\u0301B \u0903k ١a a١",
    "!!!???...,,,;;;:::---___===+++***///\\\\\\|||~~~```^^^@@@###$$$%%%&&&((([[[{{{<<<>>>}}}]]])))",
    "end!\n\nnext?\r\n\r\nlast.//\n path/to/\n -/\n",
    "".join(map(chr, range(0x20))) + "".join(map(chr, range(0x7F, 0xA1))),
    "a\x00\x01\x02b\x04\x05c \x06 \x7f\x80\x9f\ud7ff\ue000\uf8ff\ufffd\uffff\U0001fbf9\U0010ffff",
    "\u2581\u2581a\u2581 \u2581b",
    "word " * 200,
    "x" * 3000,
    " " * 1000 + "x" + "\n" * 500 + "é" * 500,
    "<s> </s> <unk> <|im_start|>user\nhi<|im_end|> <|endoftext|> <0x41> [INST] [/INST] <think></think> [CLS]",
]

# Characters with which the rules have something to do, drawn more often than the rest.
TELLING = (
    " \n\r\t'\u00a0\u3000/aAsStTrReEvVmMlLdDzZéÉ1239½٣中國がカ한\u0301\u0903ʰªǅ.,!?-_<>|$+^~`「、。！～😀ſK\u0130\u0131ß\u200b\x00"
)


def texts(count: int = 3000, seed: int = 7) -> list[str]:
    """The sentences, pieces of them put together, and random characters."""
    generator = random.Random(seed)
    assigned = [chr(code) for code in range(sys.maxunicode + 1) if settled(chr(code))]
    made = list(SENTENCES)
    for _ in range(count):
        kind = generator.randrange(4)
        if kind == 0:
            made.append("".join(generator.choice(TELLING) for _ in range(generator.randrange(1, 40))))
        elif kind == 1:
            made.append("".join(generator.choice(assigned) for _ in range(generator.randrange(1, 20))))
        elif kind == 2:
            words = [generator.choice(TELLING) * generator.randrange(1, 4) for _ in range(generator.randrange(1, 15))]
            made.append("".join(words))
        else:
            pieces = []
            for _ in range(generator.randrange(1, 4)):
                sentence = generator.choice(SENTENCES)[:400]
                start = generator.randrange(len(sentence) + 1)
                pieces.append(sentence[start : start + generator.randrange(60)])
                pieces.append(generator.choice(TELLING))
            made.append("".join(pieces))
    return made


def settled(character: str) -> bool:
    """Whether all the libraries' editions of Unicode agree on the character: assigned, and not too recently."""
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs") and unicodedata.ucd_3_2_0.category(
        character
    ) == unicodedata.category(character)
