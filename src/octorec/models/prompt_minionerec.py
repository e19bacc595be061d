"""MiniOneRec reads this prompt: two halves, each split into tokens alone and then joined. A space more changes ids.

The wording is that of its evaluation (`EvalSidDataset`). No begin-of-text token comes first: Qwen has none.
"""

HEAD = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request. \n\n### Instruction:\nCan you predict the next possible item "
    "that the user may expect?\n\n"
)
BODY = (
    "### User Input: \nCan you predict the next possible item the user may expect, given the following chronological "
    "interaction history: {history}\n\n### Response:\n"
)
SEPARATOR = ", "
