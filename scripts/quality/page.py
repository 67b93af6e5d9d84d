"""The table in a page, between its markers."""

import math

HEAD = ["tool", "setting", "bits per weight", "mean KL, nats", "perplexity ratio", "same top token", "KL beside afmq's", "CPU time"]


def table(rows, names):
    """Returns the table of rows, grouped by tool in the order of names, which has their titles."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    own = curve([r for r in rows if r["tool"] == "afmq"])
    for tool in names:
        for r in sorted((r for r in rows if r["tool"] == tool), key=lambda r: r["bpw"]):
            same = None if tool == "afmq" else at(own, r["bpw"])
            cells = [names[tool], label(tool, r["setting"]), f"{r['bpw']:.4f}", f"{r['kl']:.5f}", f"{r['perplexity_ratio']:.4f}",
                     f"{100 * r['same_top']:.1f} %", f"{r['kl'] / same:.2f}" if same else "", f"{r['seconds']:.0f} s"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def label(tool, setting):
    """Returns the words of a setting in the table."""
    if tool == "afmq":
        return "`--bits 2`" if setting == "2" else f"`--bpw {setting}`"
    if "/" in setting:
        return "{} bits, groups of {}".format(*setting.split("/"))
    if tool == "coreai_opt":
        return f"{setting[3:]} of 2, 3 and 4 bits" if setting.startswith("mix") else f"{setting} bits"
    return setting


def curve(rows):
    return sorted((r["bpw"], r["kl"]) for r in rows)


def at(points, x):
    """Returns the divergence at x bits per weight, by a straight line between the logarithms of two points.

    The first and the last count for sizes that are 0.01 bits beyond them; further out it is None.
    """
    if points and -0.01 <= x - points[0][0] < 0:
        return points[0][1]
    if points and 0 < x - points[-1][0] <= 0.01:
        return points[-1][1]
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 <= x <= x1:
            part = (x - x0) / (x1 - x0)
            return math.exp((1 - part) * math.log(y0) + part * math.log(y1))
    return None


def marked(name):
    return f"<!-- begin table of {name}: made by scripts/quality -->", "<!-- end table -->"


def update(page, name, text):
    """Writes text between the markers of a model."""
    begin, end = marked(name)
    head, rest = page.read_text().split(begin, 1)
    page.write_text(head + begin + "\n" + text + "\n" + end + rest.split(end, 1)[1])
