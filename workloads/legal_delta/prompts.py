"""What the policy is asked of the published rows, in words of our own; the tags are those that the reward counts.

The instruction is the row's own and tells the form of the answer. In direct mode (the baseline of the information gain) neither message
asks for reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.values import Message

REASONING = """你是一名办案助手，用户会向你提出一个法律问题。先把问题想清楚，再作答：推理写在 <reasoning> 与 </reasoning> 之间，\
结论写在 <answer> 与 </answer> 之间，此外不写任何内容。

回答的样式如下：
<reasoning>
逐步说明你依据哪些事实、适用哪些规则、怎样得出结论。
</reasoning>
<answer>
只写最终结论。
</answer>
"""
DIRECT = """你是一名办案助手，用户会向你提出一个法律问题。直接作答：结论写在 <answer> 与 </answer> 之间，此外不写任何内容。

回答的样式如下：
<answer>
只写最终结论。
</answer>
"""
OPENING = "你精通中国法律，请严格按照以下要求完成任务。\n"


def messages(reference: Mapping[str, Any], direct: bool) -> tuple[Message, ...]:
    """System and user message of a row (`data.reference_of`): with reasoning, or direct, after its `instruction_base`."""
    instruction = reference["instruction_base" if direct else "instruction"]
    asked = f"[QUERY_ID:{reference['id']}]\n{OPENING}{instruction}{reference['question']}"
    return {"role": "system", "content": DIRECT if direct else REASONING}, {"role": "user", "content": asked}
