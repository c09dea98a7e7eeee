"""Items of our own for each shipped task, in the shapes that the public sets have."""

import random

WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet"]


def choice_doc(generator, number):
    """Return an item of ARC's shape, whose answer stands where the generator says."""
    choices = generator.sample(WORDS, 4)
    answer = generator.randrange(4)
    labels = list("ABCD")
    question = f"Which word has number {number}?"
    text = {"text": choices, "label": labels}
    return {"id": number, "question": question, "choices": text, "answerKey": labels[answer]}


def docs_for(name, count, seed=0):
    """Return items for a shipped task."""
    generator = random.Random(seed)
    return [doc_for(name, generator, number) for number in range(count)]


def doc_for(name, generator, number):
    """Return an item for a shipped task."""
    doc = choice_doc(generator, number)
    choices, answer = doc["choices"]["text"], "ABCD".index(doc["answerKey"])
    if name == "piqa":
        return {
            "goal": f"Find {number}",
            "sol1": choices[0],
            "sol2": choices[1],
            "label": number % 2,
        }
    if name == "openbookqa":
        return {**doc, "question_stem": f"Number {number} is"} | {"question": None}
    if name == "hellaswag":
        return {
            "activity_label": f"Hiking {number}",
            "ctx_a": "Somebody walks. [header]",
            "ctx_b": "somebody",
            "endings": [f" {choice}." for choice in choices],
            "label": str(answer),
        }
    if name == "winogrande":
        sentence = f"In game {number} Ann beat Eve because _ was quicker."
        return {
            "sentence": sentence,
            "option1": "Ann",
            "option2": "Eve",
            "answer": str(number % 2 + 1),
        }
    if name.startswith("mmlu"):
        subject = ("high_school_biology", "virology")[number % 2]
        question = f" Which word has number {number}? "
        return {"question": question, "subject": subject, "choices": choices, "answer": answer}
    if name.startswith("gsm8k"):
        chain = f"It is {number} + 1200 = <<{number}+1200={number + 1200}>>{number + 1200}."
        return {
            "question": f"What is {number} + 1200?",
            "answer": f"{chain}\n#### {number + 1200:,}",
        }
    if name == "bbh":
        steps, target = ("not True", "False") if number % 2 else ("not False", "True")
        return {"input": f"({number} > 0) and {steps} is", "target": target}
    if name.startswith("math"):
        solution = f"Half of it is $\\boxed{{\\frac{{{2 * number + 1}}}{{2}}}}$."
        return {"problem": f"Halve ${2 * number + 1}$.", "solution": solution, "level": "Level 1"}
    if name.startswith("humaneval"):
        return {
            "task_id": f"Ours/{number}",
            "prompt": f'import math\n\n\ndef add_{number}(x):\n    """Add {number} to x."""\n',
            "entry_point": f"add_{number}",
            "canonical_solution": f"    return math.floor(x) + {number}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
        }
    if name.startswith("mbpp"):
        return {
            "text": f"Add {number} to a number.",
            "code": f"def add(x):\n    return x + {number}",
            "test_list": [f"assert add(1) == {number + 1}"],
        }
    return doc


def right_text(name, doc, record):
    """Return what a model that knows the answer writes."""
    if name == "humaneval":
        return doc["canonical_solution"]
    if name == "humaneval_chat":
        return f"Sure:\n```python\n{doc['prompt']}{doc['canonical_solution']}```\n"
    if name == "mbpp_chat":
        return f"```python\n{doc['code']}\n```"
    if name == "mbpp":
        return f"{doc['code']}\n[DONE]"
    if name == "gsm8k_cot":
        return f" It is so. The answer is {record.answer}.\n\nQ: And"
    if name == "bbh":
        return f" Step by step it is so. So the answer is {record.answer}.\n\nQ: And"
    if name.startswith("gsm8k"):
        return f"<think>#### 7</think> It is so.\n#### {record.answer}"
    if name.startswith("math"):
        return f"So it is $\\boxed{{\\dfrac{{{2 * record.place + 1}}}{{2}}}}$."
    if name == "mmlu_pro_chat":
        return f"Not A. The answer is ({record.answer})."
    return f"{record.answer}."
