"""The words of the miniature law. A word is a token and no blank parts them: where two could begin at one place, the longer is meant.

Small models are to learn it: a slot has about four values, each option keeps its letter, and the accused his name.
"""

from __future__ import annotations

MARKS = "①②③④⑤⑥⑦⑧"
"""Number the sentences of a story: what follows a mark can be copied."""
ACCUSED, OTHERS = "甲", ("乙", "丙", "丁")
STATIONS = ("店员", "官员", "房客", "路人")
ACTS = ("窃取", "骗取", "抢走", "索要")
THINGS = ("手机", "首饰", "电脑", "药材")
CHARGES = ("盗窃", "诈骗", "抢劫", "抢夺", "贪污", "受贿", "职务侵占", "敲诈勒索")
ARTICLES = (61, 65, 67, 68, 263, 264, 266, 267, 271, 274, 276, 382, 384, 385, 389, 397)
"""Numbers that a code deals out."""
ARRESTS = ("投案", "被捕")
STATEMENTS = ("供述", "否认")
CIRCUMSTANCES = ("自首", "坦白", "酌情", "从重")
"""By arrest and statement: he confesses and gave himself up, or was caught; he denies and gave himself up, or was caught."""
TIERS = ("较小", "较大", "巨大", "特大")
"""Of the total amount, rising."""
LETTERS = "ABCD"
IDLE = ("当日有雨", "店铺打烊", "路上无人", "邻里不和")
"""Facts that decide nothing."""
YUAN = (1000, 2000, 3000, 4000)
"""What one thing is worth."""
INCIDENTS = (1, 2)
"""Of the accused in one story, fewest and most."""
