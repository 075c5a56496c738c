"""What the form `tagged` asks of items that have no instruction in LegalΔ's form: its published instructions, in words of our own.

They keep what the published ones fix: the parts, the tags, the marker of the task, and the words by which the task is told.
"""

from __future__ import annotations

from workloads.legal_delta.answers import END, MARKERS, PHRASES, Kind

_FORM = """
**任务描述：**

{task}

**输入：**

{given}

**输出格式：**

请严格按下面的样式输出：

```
<reasoning>
{{分析过程}}
</reasoning>
<answer>
{marker}{{{value}}}{end}
</answer>
```

- `{{分析过程}}`：{reasoning}。
- `{{{value}}}`：{how}。
- `{marker}`：答案由此开始。
- `{end}`：答案到此结束。
输入：
"""
_PARTS = {
    Kind.ARTICLE: (
        "请根据案件事实和已知罪名，指出应当适用的刑法条文。",
        "案件事实、罪名",
        "刑法法条",
        f"写出你对{PHRASES[Kind.ARTICLE]}，说明为何适用这些刑法法条",
        "用阿拉伯数字写条文编号，例如“刑法第XXX条”，多个条文之间用顿号（、）分隔",
    ),
    Kind.CHARGE: (
        "请像法官一样，根据案件事实判断被告人触犯的罪名。",
        "案件事实",
        "罪名",
        f"写出你对案件事实的分析过程，说明你{PHRASES[Kind.CHARGE]}",
        "罪名的名称，多个罪名之间用英文分号（;）分隔，末尾不写“罪”字（写“盗窃”，不写“盗窃罪”）",
    ),
    Kind.SENTENCE: (
        "请根据案件事实、罪名和刑法条文，预测判处的刑期。",
        "案件事实、罪名、刑法条文",
        "刑期",
        f"写出你对{PHRASES[Kind.SENTENCE]}，说明你如何得出最终刑期",
        "只以“月”为单位，例如“18月”，不写“18个月”或“1年6月”",
    ),
    Kind.AMOUNT: (
        "请仔细计算文书所涉犯罪的总金额。",
        "案件文书",
        "总金额",
        f"写出文书中{PHRASES[Kind.AMOUNT]}",
        "用阿拉伯数字写出最终的总金额，例如“1234.56元”",
    ),
    Kind.CHOICE: (
        "请运用法律知识分析下面的题目，选出唯一正确的选项。",
        "题目及其选项",
        "选项字母",
        f"写出你对题目的分析过程，说明为什么{PHRASES[Kind.CHOICE]}",
        "正确选项的字母，即A、B、C、D之一",
    ),
}
"""By task: what is asked, what is given, what the answer is called, what is to be reasoned, how the answer is written."""


def instruction_of(kind: Kind) -> str:
    """The instruction of a task, in LegalΔ's form; `answers.kind_of` tells the task from it."""
    task, given, value, reasoning, how = _PARTS[kind]
    return _FORM.format(
        task=task, given=given, value=value, reasoning=reasoning, how=how, marker=MARKERS[kind], end=END
    )
